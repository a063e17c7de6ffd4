// --- start ----------------------------------------------------------------------------------------------------------

const explorer = {
  conv2d, conv_transpose2d, linear, relu, sigmoid, encode, reparameterize, decode, forward, elbo_terms, layer_by_layer,
  lerp, slerp, array, floats_of, read_params, read_images, image_of,
};

function redraw() {
  read_theme();
  colour_legend();
  space.dots.clear();
  draw_point();
  if (state.posterior) draw_image();
  show_thumbs(state.first_thumb);
  if (state.ends.length === 2) draw_path();
  for (const which of [0, 1]) if (state.ends[which]) draw_pixels(element(`end-${which}`), state.ends[which].x);
  repaint_manifold(0);
}

function start() {
  run = JSON.parse(element("data").textContent);
  params = read_params(run.tensors, run.weights);
  images = read_images(run.images, run.image_count);
  run.mu = floats_of(run.mu);
  run.order = range(run.latent_dim).sort((p, q) => run.kl_per_dim[q] - run.kl_per_dim[p]);
  space.dims = run.latent_dim === 1 ? [0, null] : run.order.slice(0, 2).sort((p, q) => p - q);
  const y = run.classes ? run.labels[0] : null; // the class that a conditional model is given
  state = {
    z: zeros(), y, alone: null, manifold: true, dots: true, prior: true, sliders: [],
    y_image: y, eps: zeros(), samples: [], posterior: null, cursor: [14, 14], keyboard: false, first_thumb: 0,
    ends: [], end_images: [0, 0], path: "lerp", t: 0.5, y_path: y, network_seen: false,
  };
  Object.assign(explorer, { run, params, images, state, space });
  globalThis.explorer = explorer; // for the browser's console: explorer.decode(explorer.params, explorer.state.z)
  document.title = `${run.title}, Z = ${run.latent_dim}: latent explorer`;
  read_theme();
  write_texts();
  write_notices();
  write_collapse();
  frame_plane();
  start_point();
  colour_legend();
  draw_point();
  draw_planes();
  requestAnimationFrame(() => setTimeout(start_below)); // what is further down comes after the first paint
}

function start_below() {
  start_image();
  show_thumbs(0);
  use_image(0);
  start_path();
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) (state.network_seen = true), schedule(draw_network);
  }, { rootMargin: "400px" }).observe(element("network").parentElement);
  paint_manifold();
  new ResizeObserver(() => schedule(draw_planes)).observe(element("latent-plane"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  explorer.ready = true;
}

if (typeof document === "undefined") module.exports = explorer; // for tests outside a browser
else start();
