// --- 2: an image, its posterior, one sample of it --------------------------------------------------------------------

/** Encode embedded image n, or, where n is null, pixels of one's own. */
function use_image(n, pixels = images[n].slice()) {
  Object.assign(state, { image: n, pixels });
  if (run.classes && n !== null) show_class("image-class", (state.y_image = run.labels[n]));
  press(element("thumbs").children, (button) => Number(button.value) === n);
  without_noise();
}

function without_noise() {
  Object.assign(state, { eps: zeros(), samples: [] });
  schedule(draw_image);
}

function resample() {
  state.eps = standard_normal();
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
  const canvas = element("pad"), label = label_of(state.image);
  const what = state.image === null ? "your drawing" : label === null ? run.shown : `${run.shown}, ${a_class(label)}`;
  const keys = "Draw with the pointer, or move with the arrow keys and paint with the space bar.";
  draw_pixels(canvas, state.posterior.x, `x: ${what}. ${keys}`);
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
  element("terms").replaceChildren(...Object.entries(terms).map(([name, value]) => {
    return make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value }));
  }));
}

function show_posterior(mu, logvar) {
  const kl = kl_terms(mu, logvar);
  const order = is_ae() ? run.order : range(mu.length).sort((p, q) => kl[q] - kl[p]);
  const heads = is_ae() ? ["dimension", "z = mu"] : ["dimension", "mu", "sigma", "kl", "q(z|x) and prior"];
  element("posterior-head").replaceChildren(...heads.map((textContent, k) => {
    return make("th", { scope: "col", textContent, className: k === 4 ? "curve" : "" });
  }));
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
  const most = is_ae() ? "variance" : "kl for this image";
  element("posterior-more").textContent =
    order.length > NAMED ? `The ${NAMED} dimensions with the largest ${most}, of ${order.length}.` : "";
}

/** The density of q(z|x) over that of the prior, each as high as it is wide. */
function draw_curves(canvas, mu, std) {
  const { context, width, height } = fitted(canvas), side = Math.max(3.5, Math.abs(mu) + 1);
  const curve = (centre, spread, top) => {
    context.beginPath();
    for (let pixel = 0; pixel <= width; pixel += 0.5) {
      const at = side * ((2 * pixel) / width - 1);
      context.lineTo(pixel, height - 1 - top * (height - 3) * Math.exp(-0.5 * ((at - centre) / spread) ** 2));
    }
  };
  curve(mu, Math.max(std, side / width), 1);
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
    } else draw_handle(context, at(z), 5);
  }, 0.45);
  const shown = space.dims.filter((dim) => dim !== null);
  const spread = (axis) => (is_ae() ? "" : `, sigma ${number(sigma[axis], 3)}`);
  const place = shown.map((dim, axis) => `z[${dim}] = ${number(mu[dim])}${spread(axis)}`).join("; ");
  describe(element("posterior-plane"), `The ${is_ae() ? "code" : "posterior"} on the plane: its mean at ${place}`);
}

/** Ellipses of one and two sigma, given in pixels, the samples drawn so far and the present z. */
function draw_ellipses(context, at, mu, sigma, radius = 3) {
  const [x, y] = at(mu);
  for (const times of [2, 1]) {
    context.beginPath();
    context.ellipse(x, y, Math.max(1, times * sigma[0]), Math.max(1, times * sigma[1]), 0, 0, 2 * Math.PI);
    outline(context, theme.ink, 1.6, 4);
  }
  context.fillStyle = theme.handle;
  context.globalAlpha = 0.55;
  for (const z of state.samples) {
    circle(context, ...at(z), 0.6 * radius);
    context.fill();
  }
  context.globalAlpha = 1;
  draw_handle(context, at(state.posterior.z), radius);
}

/** The surroundings of mu enlarged, three sigma to each side, in a corner that mu is not in. */
function draw_lens(context, [x, y], size, mu, sigma) {
  const radius = 0.19 * size, scale = radius / (3.2 * Math.max(...sigma)), zoom = scale / (size / (2 * space.half));
  if (zoom < 1.5) return;
  const centre = [x, y].map((place) => (place > size / 2 ? radius + 10 : size - radius - 10));
  const from_mu = (z, dim, axis) => (dim === null ? 0 : (axis ? -1 : 1) * scale * (z[dim] - mu[dim]));
  const at = (z) => space.dims.map((dim, axis) => centre[axis] + from_mu(z, dim, axis));
  Object.assign(context, { strokeStyle: theme.ink, lineWidth: 1, fillStyle: theme.surface });
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(...centre);
  context.stroke();
  circle(context, ...centre, radius);
  context.fill();
  context.save();
  context.clip();
  draw_ellipses(context, at, mu, sigma.map((value) => value * scale), 5);
  context.restore();
  circle(context, ...centre, radius);
  context.stroke();
  Object.assign(context, { font: `11px ${theme.sans}`, textAlign: "center", textBaseline: "middle" });
  context.fillStyle = theme.muted;
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
    const [column, row] = state.cursor;
    if (!step && event.key !== " ") return;
    event.preventDefault();
    state.keyboard = true;
    if (step) {
      state.cursor = [column + step[0], row - step[1]].map((at) => clamp(at, 0, 27));
      draw_pad();
    } else stroke([column + 0.5, row + 0.5], [column + 0.5, row + 0.5]);
  });
  for (const change of ["focus", "blur"]) pad.addEventListener(change, () => state.posterior && draw_pad());
  on_click("clear", () => use_image(null, new Uint8Array(784)));
  on_click("next-image", () => use_image(((state.image ?? -1) + 1) % images.length));
  on_click("resample", resample);
  on_click("no-noise", without_noise);
  element("noise").hidden = is_ae();
  on_click("more-images", () => show_thumbs(state.first_thumb + THUMBS));
  class_switch("image-class", state.y_image, (y) => ((state.y_image = y), (state.samples = []), schedule(draw_image)));
}

/** Add ink along a line from a to b, in pixels: full within half a pixel of it, none beyond one and a half. */
function stroke(a, b) {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]], length = dx * dx + dy * dy;
  for (let k = 0; k < 784; k++) {
    const [x, y] = [(k % 28) + 0.5 - a[0], Math.floor(k / 28) + 0.5 - a[1]];
    const along = length ? clamp((x * dx + y * dy) / length, 0, 1) : 0;
    const ink = clamp(1.6 - Math.hypot(x - along * dx, y - along * dy), 0, 1);
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
    describe(button, `${capital(run.shown)} ${n}${run.labels ? `, ${a_class(run.labels[n])}` : ""}`);
    press([button], () => n === state.image);
    button.addEventListener("click", () => use_image(n));
    return button;
  }));
}
