// --- 2: an image, its posterior, one sample of it --------------------------------------------------------------------

function use_image(n) {
  state.image = n;
  state.pixels = images[n].slice();
  if (run.classes) show_class("image-class", (state.y_image = run.labels[n]));
  for (const button of element("thumbs").children) button.setAttribute("aria-pressed", String(Number(button.value) === n));
  fresh_noise(0);
}

function fresh_noise(scale) {
  state.eps = array([run.latent_dim], range(run.latent_dim).map(() => (scale ? scale * normal() : 0)));
  state.samples = [];
  schedule(draw_image);
}

function resample() {
  state.eps = array([run.latent_dim], range(run.latent_dim).map(normal));
  schedule(draw_image);
}

/** Encode the image, sample z, decode it, and show every number of that. */
function draw_image() {
  const x = image_of(state.pixels, run.binary);
  const [mu, logvar] = encode(params, x, state.y_image);
  const z = is_ae() ? mu : reparameterize(mu, logvar, state.eps);
  const x_logits = decode(params, z, state.y_image);
  const [recon, kl] = elbo_terms(x, x_logits, mu, logvar, run.likelihood);
  if (state.eps.some((value) => value !== 0)) state.samples = [...state.samples.slice(-59), z];
  state.posterior = { x, mu, logvar, z, x_logits, recon, kl };
  draw_pad();
  const pixels = sigmoid(x_logits);
  draw_pixels(element("reconstruction"), pixels, "The reconstruction: pixel means decoded from z");
  show_terms(x, pixels, recon, kl);
  show_posterior(mu, logvar);
  draw_posterior_plane();
  schedule(draw_network);
  announce(element("terms").textContent);
}

function draw_pad() {
  const what = state.image === null ? "your drawing" : run.labels ? `test image, a ${class_name(run.labels[state.image])}` : "test image";
  const canvas = element("pad");
  draw_pixels(canvas, state.posterior.x, `x: ${what}. Draw with the pointer, or move with the arrow keys and paint with the space bar.`);
  if (document.activeElement !== canvas || !state.keyboard) return;
  const context = canvas.getContext("2d");
  context.fillStyle = theme.handle;
  context.fillRect(state.cursor[0], state.cursor[1], 1, 1);
}

function show_terms(x, pixels, recon, kl) {
  const error = pixels.reduce((sum, mean, k) => sum + (mean - x[k]) ** 2, 0) / 784;
  const terms = is_ae()
    ? { "recon, nats": number(recon), "squared error per pixel": number(error, 4) }
    : { "recon, nats": number(recon), "kl, nats": number(kl), "\u2212elbo, nats": number(recon + kl) };
  element("terms").replaceChildren(
    ...Object.entries(terms).map(([name, value]) => make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value }))),
  );
}

function show_posterior(mu, logvar) {
  const kl = kl_terms(mu, logvar);
  const order = range(mu.length).sort((p, q) => (is_ae() ? run.order.indexOf(p) - run.order.indexOf(q) : kl[q] - kl[p]));
  const heads = is_ae() ? ["dimension", "z = mu"] : ["dimension", "mu", "sigma", "kl", "q(z|x) and prior"];
  element("posterior-head").replaceChildren(...heads.map((textContent, k) => make("th", { scope: "col", textContent, className: k === 4 ? "curve" : "" })));
  const rows = order.slice(0, NAMED).map((k) => {
    const std = Math.exp(0.5 * logvar[k]);
    const cells = [`z[${k}]`, number(mu[k]), ...(is_ae() ? [] : [number(std, 3), number(kl[k])])];
    const row = make("tr", {}, make("th", { scope: "row", className: "mono", textContent: cells[0] }));
    row.append(...cells.slice(1).map((textContent) => make("td", { textContent })));
    if (is_ae()) return [row, () => {}];
    const canvas = make("canvas");
    canvas.setAttribute("aria-hidden", "true");
    row.append(make("td", { className: "curve" }, canvas));
    return [row, () => draw_curves(canvas, mu[k], std)];
  });
  element("posterior").replaceChildren(...rows.map(([row]) => row));
  for (const [, draw] of rows) draw();
  const rest = order.length - NAMED;
  element("posterior-more").textContent = rest > 0 ? `The ${NAMED} dimensions with the largest ${is_ae() ? "variance" : "kl for this image"}, of ${order.length}.` : "";
}

/** The density of q(z|x) over that of the prior, each as high as it is wide. */
function draw_curves(canvas, mu, std) {
  const { context, width, height } = fitted(canvas), reach = Math.max(3.5, Math.abs(mu) + 1);
  const curve = (centre, spread, top) => {
    context.beginPath();
    for (let pixel = 0; pixel <= width; pixel += 0.5) {
      const at = reach * ((2 * pixel) / width - 1);
      context.lineTo(pixel, height - 1 - top * (height - 3) * Math.exp(-0.5 * ((at - centre) / spread) ** 2));
    }
  };
  curve(mu, Math.max(std, reach / width), 1);
  Object.assign(context, { fillStyle: theme.accent, globalAlpha: 0.75 });
  context.fill();
  curve(0, 1, 0.55);
  Object.assign(context, { globalAlpha: 1, strokeStyle: theme.muted, lineWidth: 1 });
  context.stroke();
}

/** The posterior on the plane, and through a lens, for it is small. */
function draw_posterior_plane() {
  if (!state.posterior) return;
  const { mu, logvar, z } = state.posterior;
  const sigma = space.dims.map((dim) => (dim === null ? 0 : Math.exp(0.5 * logvar[dim])));
  draw_plane(element("posterior-plane"), (context, at, size) => {
    if (!is_ae()) {
      draw_ellipses(context, at, mu, sigma.map((value) => (value * size) / (2 * space.half)));
      draw_lens(context, at(mu), size, mu, sigma);
    } else draw_handle(context, at(z), size, 5);
  }, 0.45);
  const shown = space.dims.filter((dim) => dim !== null);
  const place = shown.map((dim, axis) => `z[${dim}] = ${number(mu[dim])}` + (is_ae() ? "" : `, sigma ${number(sigma[axis], 3)}`));
  element("posterior-plane").setAttribute("aria-label", `The ${is_ae() ? "code" : "posterior"} on the plane: its mean at ${place.join("; ")}`);
}

/** Ellipses of one and two sigma, given in pixels, the samples drawn so far and the present z. */
function draw_ellipses(context, at, mu, sigma, radius = 3) {
  const [x, y] = at(mu);
  for (const times of [2, 1]) {
    context.beginPath();
    context.ellipse(x, y, Math.max(1, times * sigma[0]), Math.max(1, times * sigma[1]), 0, 0, 2 * Math.PI);
    for (const [colour, width] of [[theme.surface, 4], [theme.ink, 1.6]]) {
      Object.assign(context, { strokeStyle: colour, lineWidth: width });
      context.stroke();
    }
  }
  context.fillStyle = theme.handle;
  context.globalAlpha = 0.55;
  for (const z of state.samples) {
    context.beginPath();
    context.arc(...at(z), 0.6 * radius, 0, 2 * Math.PI);
    context.fill();
  }
  context.globalAlpha = 1;
  draw_handle(context, at(state.posterior.z), 0, radius);
}

/** The surroundings of mu enlarged, three sigma to each side, in a corner that mu is not in. */
function draw_lens(context, [x, y], size, mu, sigma) {
  const half = 3.2 * Math.max(...sigma), zoom = (0.19 * size) / half / (size / (2 * space.half)), radius = 0.19 * size;
  if (zoom < 1.5) return;
  const centre = [x > size / 2 ? radius + 10 : size - radius - 10, y > size / 2 ? radius + 10 : size - radius - 10];
  const scale = radius / half;
  const at = (z) => space.dims.map((dim, axis) => centre[axis] + (dim === null ? 0 : (axis ? -1 : 1) * scale * (z[dim] - mu[dim])));
  Object.assign(context, { strokeStyle: theme.ink, lineWidth: 1, fillStyle: theme.surface });
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(...centre);
  context.stroke();
  context.beginPath();
  context.arc(...centre, radius, 0, 2 * Math.PI);
  context.fill();
  context.save();
  context.clip();
  draw_ellipses(context, at, mu, sigma.map((value) => value * scale), 5);
  context.restore();
  context.beginPath();
  context.arc(...centre, radius, 0, 2 * Math.PI);
  context.stroke();
  Object.assign(context, { font: `11px ${theme.sans}`, fillStyle: theme.muted, textAlign: "center", textBaseline: "middle" });
  context.fillText(`\u00d7 ${zoom < 9.5 ? number(zoom, 1) : number(zoom, 0)}`, centre[0], centre[1] + 0.82 * radius);
}

function start_image() {
  const pad = element("pad");
  let last = null;
  on_drag(pad, (x, y) => {
    const here = [(28 * x) / pad.clientWidth, (28 * y) / pad.clientHeight];
    stroke(last ?? here, here);
    last = here;
  }, () => ((last = null), (state.keyboard = false)));
  pad.addEventListener("keydown", (event) => {
    const step = ARROWS[event.key];
    if (step) state.cursor = [state.cursor[0] + step[0], state.cursor[1] - step[1]].map((at) => Math.min(27, Math.max(0, at)));
    else if (event.key !== " ") return;
    event.preventDefault();
    state.keyboard = true;
    if (event.key === " ") stroke(state.cursor.map((at) => at + 0.5), state.cursor.map((at) => at + 0.5));
    else draw_pad();
  });
  for (const change of ["focus", "blur"]) pad.addEventListener(change, () => state.posterior && draw_pad());
  element("clear").addEventListener("click", () => {
    state.image = null;
    state.pixels = new Uint8Array(784);
    for (const button of element("thumbs").children) button.setAttribute("aria-pressed", "false");
    fresh_noise(0);
  });
  element("next-image").addEventListener("click", () => use_image(((state.image ?? -1) + 1) % images.length));
  element("resample").addEventListener("click", resample);
  element("no-noise").addEventListener("click", () => fresh_noise(0));
  element("noise").hidden = is_ae();
  element("more-images").addEventListener("click", () => show_thumbs(state.first_thumb + THUMBS));
  class_switch("image-class", state.y_image, (y) => ((state.y_image = y), (state.samples = []), schedule(draw_image)));
}

/** Add ink along a line from a to b, in pixels: full within half a pixel of it, none beyond one and a half. */
function stroke(a, b) {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]], length = dx * dx + dy * dy;
  for (let k = 0; k < 784; k++) {
    const [x, y] = [(k % 28) + 0.5 - a[0], Math.floor(k / 28) + 0.5 - a[1]];
    const along = length ? Math.min(1, Math.max(0, (x * dx + y * dy) / length)) : 0;
    const ink = Math.min(1, Math.max(0, 1.6 - Math.hypot(x - along * dx, y - along * dy)));
    state.pixels[k] = Math.max(state.pixels[k], Math.round(255 * ink));
  }
  state.image = null;
  state.samples = [];
  schedule(draw_image);
}

function show_thumbs(first) {
  state.first_thumb = first % images.length;
  const shown = range(Math.min(THUMBS, images.length)).map((k) => (state.first_thumb + k) % images.length);
  element("thumbs").replaceChildren(...shown.map((n) => {
    const canvas = make("canvas", { className: "pixels" });
    draw_pixels(canvas, image_of(images[n], false));
    const button = make("button", { type: "button", value: String(n) }, canvas);
    button.setAttribute("aria-label", run.labels ? `Test image ${n}, a ${class_name(run.labels[n])}` : `Test image ${n}`);
    button.setAttribute("aria-pressed", String(n === state.image));
    button.addEventListener("click", () => use_image(n));
    return button;
  }));
}
