// The fourth telling: the model of numpy/vae_numpy.py in plain JavaScript, and a page around it.
//
// The sections of the model, their order and their names are those of level 1, underscores and all, so the two files
// can be read side by side. Here B is 1: an image is (1, 28, 28), a latent point (Z,). Arrays are Float32Arrays in
// C order that carry their `shape`; sums run in float64, as JavaScript's numbers do, and are stored as float32.
"use strict";

// --- arrays: what the page is given ---------------------------------------------------------------------------------

const size_of = (shape) => shape.reduce((count, side) => count * side, 1);

function array(shape, values = new Float32Array(size_of(shape))) {
  const result = values instanceof Float32Array ? values : Float32Array.from(values);
  result.shape = shape;
  return result;
}

function bytes_of(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  return bytes;
}

/** The 65,536 values of float16: sign, 5 bits of exponent, 10 bits of fraction. */
const HALF = Float32Array.from({ length: 65536 }, (_, bits) => {
  const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
});

/** Little-endian float16 in base64 -> float32. */
function floats_of(base64) {
  const bytes = bytes_of(base64);
  const floats = new Float32Array(bytes.length >> 1);
  for (let k = 0; k < floats.length; k++) floats[k] = HALF[bytes[2 * k] | (bytes[2 * k + 1] << 8)];
  return floats;
}

/** The embedded weights as {name: array}, with names, shapes and order of the spec. */
function read_params(tensors, base64) {
  const floats = floats_of(base64), params = {};
  let start = 0;
  for (const [name, shape] of tensors) {
    params[name] = array(shape, floats.subarray(start, (start += size_of(shape))));
  }
  return params;
}

/** The embedded images, `count` of uint8 (784,): a 0 is followed by the length of its run, 1 to 255. */
function read_images(base64, count) {
  const packed = bytes_of(base64), pixels = new Uint8Array(784 * count);
  for (let from = 0, to = 0; from < packed.length; from++) {
    if (packed[from] === 0) to += packed[++from];
    else pixels[to++] = packed[from];
  }
  return Array.from({ length: count }, (_, n) => pixels.subarray(784 * n, 784 * (n + 1)));
}

/** uint8 pixels -> x (1, 28, 28) in [0, 1]; where the model was trained on 0 and 1, cut at one half. */
function image_of(pixels, binary) {
  const x = array([1, 28, 28]);
  for (let k = 0; k < 784; k++) x[k] = binary ? (pixels[k] >= 128 ? 1 : 0) : pixels[k] / 255;
  return x;
}

// --- primitives -----------------------------------------------------------------------------------------------------

/** x (C, H, W), weight (O, C, k, k), bias (O,) -> (O, H', W') with H' = floor((H + 2 padding - k) / stride) + 1. */
function conv2d(x, weight, bias, stride = 2, padding = 1) {
  const [C, H, W] = x.shape, [O, , k] = weight.shape;
  const [H_out, W_out] = [H, W].map((side) => Math.floor((side + 2 * padding - k) / stride) + 1);
  const y = array([O, H_out, W_out]), patch = new Float64Array(C * k * k);
  for (let row = 0; row < H_out; row++) {
    for (let column = 0; column < W_out; column++) {
      patch.fill(0);
      for (let c = 0, p = 0; c < C; c++) {
        for (let i = 0; i < k; i++) {
          const from_row = row * stride + i - padding;
          for (let j = 0; j < k; j++, p++) {
            const from_column = column * stride + j - padding;
            const inside = from_row >= 0 && from_row < H && from_column >= 0 && from_column < W;
            if (inside) patch[p] = x[(c * H + from_row) * W + from_column];
          }
        }
      }
      for (let o = 0; o < O; o++) y[(o * H_out + row) * W_out + column] = dot(weight, o * patch.length, patch) + bias[o];
    }
  }
  return y;
}

/** x (C, H, W), weight (C, O, k, k), bias (O,) -> (O, H', W') with H' = (H - 1) stride - 2 padding + k + output_padding.
 *
 * The transpose of conv2d: each pixel is scattered into a patch, and patches add where they overlap. */
function conv_transpose2d(x, weight, bias, stride = 2, padding = 1, output_padding = 1) {
  const [C, H, W] = x.shape, [, O, k] = weight.shape;
  const [H_out, W_out] = [H, W].map((side) => (side - 1) * stride - 2 * padding + k + output_padding);
  const y = array([O, H_out, W_out]), map = new Float64Array(H_out * W_out);
  for (let o = 0; o < O; o++) {
    map.fill(bias[o]);
    for (let i = 0; i < k; i++) {
      const [first_row, last_row] = reach(i, H, H_out, stride, padding);
      for (let j = 0; j < k; j++) {
        const [first, last] = reach(j, W, W_out, stride, padding);
        for (let c = 0; c < C; c++) {
          const w = weight[((c * O + o) * k + i) * k + j];
          for (let row = first_row; row <= last_row; row++) {
            const from = (c * H + row) * W, to = (row * stride + i - padding) * W_out + j - padding;
            for (let column = first; column <= last; column++) map[to + column * stride] += w * x[from + column];
          }
        }
      }
    }
    y.set(map, o * map.length);
  }
  return y;
}

/** The first and the last position whose target, position * stride + offset - padding, lies within `side_out`. */
function reach(offset, side, side_out, stride, padding) {
  const last = Math.floor((side_out - 1 - offset + padding) / stride);
  return [Math.max(0, Math.ceil((padding - offset) / stride)), Math.min(side - 1, last)];
}

/** x (C,), weight (O, C), bias (O,) -> (O,). */
function linear(x, weight, bias) {
  const y = array([weight.shape[0]]), input = Float64Array.from(x);
  for (let o = 0; o < y.length; o++) y[o] = dot(weight, o * input.length, input) + bias[o];
  return y;
}

/** sum_k weight[start + k] x[k], in four running sums that the processor can advance at once. */
function dot(weight, start, x) {
  let a = 0, b = 0, c = 0, d = 0, k = 0;
  for (const end = x.length - 3; k < end; k += 4) {
    a += weight[start + k] * x[k];
    b += weight[start + k + 1] * x[k + 1];
    c += weight[start + k + 2] * x[k + 2];
    d += weight[start + k + 3] * x[k + 3];
  }
  for (; k < x.length; k++) a += weight[start + k] * x[k];
  return a + b + (c + d);
}

const relu = (x) => array(x.shape, x.map((value) => (value < 0 ? 0 : value)));

const sigmoid = (x) => array(x.shape, x.map((value) => 0.5 * (1 + Math.tanh(0.5 * value))));

const reshape = (x, ...shape) => array(shape, x.slice());

/** A conditional model is also given its class y: as maps beside x, or as numbers beside z. Level 3: conditional_vae.py. */
function beside(x, classes, y) {
  if (!classes) return x;
  const [C, ...sides] = x.shape, side = size_of(sides);
  const result = array([C + classes, ...sides]);
  result.set(x);
  return y === null ? result : array(result.shape, result.fill(1, (C + y) * side, (C + y + 1) * side));
}

// --- encoder: q(z|x) = N(mu, diag(exp(logvar))) ---------------------------------------------------------------------

/** x (1, 28, 28) in [0, 1] -> [mu, logvar], each (Z,). */
function encode(params, x, y = null) {
  let h = beside(x, classes_of(params), y);
  h = relu(conv2d(h, params["encoder.conv1.weight"], params["encoder.conv1.bias"], 2, 1));
  h = relu(conv2d(h, params["encoder.conv2.weight"], params["encoder.conv2.bias"], 2, 1));
  h = reshape(h, 64 * 7 * 7); // (3136,)
  h = relu(linear(h, params["encoder.fc.weight"], params["encoder.fc.bias"])); // (256,)
  const mu = linear(h, params["encoder.mu.weight"], params["encoder.mu.bias"]); // (Z,)
  const logvar = linear(h, params["encoder.logvar.weight"], params["encoder.logvar.bias"]); // (Z,)
  return [mu, logvar];
}

// --- reparameterization ---------------------------------------------------------------------------------------------

/** z = mu + std * eps with eps ~ N(0, I), all (Z,); the noise is an argument. */
function reparameterize(mu, logvar, eps) {
  const std = logvar.map((value) => Math.exp(0.5 * value));
  return array(mu.shape, mu.map((value, k) => value + std[k] * eps[k]));
}

// --- decoder: p(x|z) ------------------------------------------------------------------------------------------------

/** z (Z,) -> x_logits (1, 28, 28); the sigmoid of a logit is the pixel's mean. */
function decode(params, z, y = null) {
  let h = beside(z, classes_of(params), y);
  h = relu(linear(h, params["decoder.fc1.weight"], params["decoder.fc1.bias"])); // (256,)
  h = relu(linear(h, params["decoder.fc2.weight"], params["decoder.fc2.bias"])); // (3136,)
  h = reshape(h, 64, 7, 7);
  h = relu(
    conv_transpose2d(h, params["decoder.deconv1.weight"], params["decoder.deconv1.bias"], 2, 1, 1),
  ); // (32, 14, 14)
  return conv_transpose2d(
    h, params["decoder.deconv2.weight"], params["decoder.deconv2.bias"], 2, 1, 1,
  ); // (1, 28, 28)
}

/** How many classes the weights expect: 0, or the input channels of conv1 beyond the image. */
const classes_of = (params) => params["encoder.conv1.weight"].shape[1] - 1;

/** x (1, 28, 28), eps (Z,) -> [x_logits, mu, logvar]. */
function forward(params, x, eps, y = null) {
  const [mu, logvar] = encode(params, x, y);
  const z = reparameterize(mu, logvar, eps);
  return [decode(params, z, y), mu, logvar];
}

// --- loss: elbo = -(recon + kl), in nats per image ------------------------------------------------------------------

/** -log p(x|z) = sum of max(l, 0) - l x + log(1 + exp(-|l|)) over the pixels. */
function bernoulli_recon(x, x_logits) {
  let bce = 0;
  for (let k = 0; k < x.length; k++) {
    const l = x_logits[k];
    bce += Math.max(l, 0) - l * x[k] + Math.log1p(Math.exp(-Math.abs(l)));
  }
  return bce;
}

/** ||x - sigmoid(l)||^2: -log p(x|z) of a Gaussian of variance 1/2, less its constant 392 ln(pi). */
function gaussian_recon(x, x_logits) {
  return sigmoid(x_logits).reduce((sum, mean, k) => sum + (x[k] - mean) ** 2, 0);
}

/** KL(N(mu, std^2) || N(0, 1)) = 1/2 (mu^2 + std^2 - 1 - log std^2) of each dimension (Z,). */
function kl_terms(mu, logvar) {
  return Float64Array.from(mu, (value, k) => 0.5 * (value ** 2 + Math.expm1(logvar[k]) - logvar[k]));
}

const gaussian_kl = (mu, logvar) => kl_terms(mu, logvar).reduce((sum, kl) => sum + kl, 0);

/** [recon, kl], nats: summed over pixels and latents; elbo = -(recon + kl). */
function elbo_terms(x, x_logits, mu, logvar, likelihood = "bernoulli") {
  const recon = likelihood === "bernoulli" ? bernoulli_recon(x, x_logits) : gaussian_recon(x, x_logits);
  return [recon, gaussian_kl(mu, logvar)];
}

// --- no training: this telling is forward only, as level 1 is -------------------------------------------------------

/** The nine layers, told by the names of the weights: [{name, kind, h}], and what encoder and decoder read and give. */
function layer_by_layer(params, x, eps, y = null) {
  const outputs = [], classes = classes_of(params);
  const layer = (name, kind, h, act = relu, ...shape) => {
    const apply = { conv: conv2d, deconv: conv_transpose2d, linear }[kind];
    h = act(apply(kind === "linear" ? reshape(h, h.length) : h, params[`${name}.weight`], params[`${name}.bias`]));
    h = shape.length ? reshape(h, ...shape) : h;
    outputs.push({ name, kind, h, relu: act === relu });
    return h;
  };
  const same = (h) => h;
  let h = layer("encoder.conv1", "conv", beside(x, classes, y));
  h = layer("encoder.conv2", "conv", h);
  h = layer("encoder.fc", "linear", h);
  const mu = layer("encoder.mu", "linear", h, same);
  const logvar = layer("encoder.logvar", "linear", h, same);
  const z = reparameterize(mu, logvar, eps);
  h = layer("decoder.fc1", "linear", beside(z, classes, y));
  h = layer("decoder.fc2", "linear", h, relu, 64, 7, 7);
  h = layer("decoder.deconv1", "deconv", h);
  h = layer("decoder.deconv2", "deconv", h, same);
  return { outputs, z, x_logits: h };
}

// --- paths between two latent points: figures.lerp and figures.slerp of level 1 -------------------------------------

const norm = (z) => Math.sqrt(z.reduce((sum, value) => sum + value * value, 0));

function lerp(z0, z1, t) {
  return array(z0.shape, z0.map((value, k) => (1 - t) * value + t * z1[k]));
}

/** Along the great circle, the length going linearly; null where no one circle joins the two (Shoemake 1985). */
function slerp(z0, z1, t) {
  const norm0 = norm(z0), norm1 = norm(z1);
  const u0 = Array.from(z0, (value) => value / norm0), u1 = Array.from(z1, (value) => value / norm1);
  const apart = norm(u0.map((value, k) => value - u1[k])), together = norm(u0.map((value, k) => value + u1[k]));
  if (!(together >= 1e-6)) return null; // opposite, or a zero vector, whose direction is NaN
  const w = 2 * Math.atan2(apart, together), length = (1 - t) * norm0 + t * norm1;
  const towards = (s) => (w < 1e-6 ? s : Math.sin(s * w) / Math.sin(w));
  return array(z0.shape, u0.map((value, k) => length * (towards(1 - t) * value + towards(t) * u1[k])));
}

// === the page =======================================================================================================

let run, params, images; // what Python embedded: the settings and measurements, the weights, test images (784,) of uint8
let state; // what the learner has chosen: a point, an image and its noise, two ends of a path
const element = (id) => document.getElementById(id);
const is_ae = () => run.model === "ae"; // no posterior, no noise: z = mu

const NAMED = 8; // dimensions that are shown at once
const TILES = 15; // decoded images along one side of the plane
const FRAMES = 11; // along the path between two images
const THUMBS = 18; // test images to pick from at once
const DARK = () => matchMedia("(prefers-color-scheme: dark)").matches;
const CLASS_COLOURS = { // Tol's muted scheme, as in the figures of Python, and the same hues for a dark page
  light: ["#332288", "#3d8fb8", "#cc6677", "#117733", "#b39b2c", "#882255", "#2f8f80", "#aa4499", "#7a7a1f", "#555555"],
  dark: ["#9a8cf0", "#88ccee", "#e58a98", "#5cc07c", "#ddcc77", "#d46aa0", "#55c2b1", "#cf7fc4", "#b9b94a", "#b8b8b8"],
};

// --- small tools ----------------------------------------------------------------------------------------------------

const number = (value, digits = 2) =>
  Number.isFinite(value) ? value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1").replace("-", "\u2212") : "not finite";
function point_text(z) {
  const shown = Array.from(z.slice(0, 4), (value) => number(value)).join(", ");
  return z.length === 1 ? shown : `(${shown}${z.length > 4 ? ", \u2026" : ""})`;
}
const class_name = (label) => run.class_names[label] ?? String(label);
const range = (count) => Array.from({ length: count }, (_, k) => k);

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** Call `work` once before the next frame, however often it is asked for. */
const waiting = new Set();
function schedule(work) {
  if (waiting.has(work)) return;
  waiting.add(work);
  requestAnimationFrame(() => (waiting.delete(work), work()));
}

let last_words;
function announce(text) {
  clearTimeout(last_words);
  last_words = setTimeout(() => (element("live").textContent = text), 400);
}

function normal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

// --- colours and pixels ---------------------------------------------------------------------------------------------

let theme;

function read_theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const names = ["paper", "surface", "ink", "muted", "line", "accent", "handle", "image-0", "image-1", "negative", "positive"];
  theme = Object.fromEntries(names.map((name) => [name, colour(name)]));
  theme.sans = colour("sans");
  theme.classes = CLASS_COLOURS[DARK() ? "dark" : "light"];
  theme.grey = ramp(theme["image-0"], theme["image-1"]);
  theme.minus = ramp(theme["image-0"], theme.negative);
  theme.plus = ramp(theme["image-0"], theme.positive);
}

/** 256 colours from one to another, as the RGBA bytes of ImageData. */
function ramp(from, to) {
  const rgb = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
  const [a, b] = [rgb(from), rgb(to)], bytes = new Uint8ClampedArray(1024).fill(255);
  for (let k = 0; k < 256; k++) for (let c = 0; c < 3; c++) bytes[4 * k + c] = a[c] + ((b[c] - a[c]) * k) / 255;
  return bytes;
}

/** Copy values (height, width), 0 to 1, to the image at (left, top); signed ones from -1 to 1 in two colours. */
function put(image, values, width, left = 0, top = 0, scale = 1, signed = false) {
  for (let k = 0; k < values.length; k++) {
    const value = values[k] * scale, colours = signed ? (value < 0 ? theme.minus : theme.plus) : theme.grey;
    const from = 4 * Math.round(255 * Math.min(1, Math.abs(value) || 0));
    const to = 4 * ((top + Math.floor(k / width)) * image.width + left + (k % width));
    for (let c = 0; c < 4; c++) image.data[to + c] = colours[from + c];
  }
}

/** Draw pixel means or grey values x (1, 28, 28), 0 to 1. */
function draw_pixels(canvas, x, label) {
  canvas.width = canvas.height = 28;
  const context = canvas.getContext("2d"), image = context.createImageData(28, 28);
  put(image, x, 28);
  context.putImageData(image, 0, 0);
  if (label) canvas.setAttribute("aria-label", label);
}

/** The context of a canvas that is drawn in CSS pixels, sharp on every screen. */
function fitted(canvas) {
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

// --- the plane: two of the latent dimensions, shared by the three figures that show it ------------------------------

const space = { dims: [0, 1], centre: [0, 0], half: 3, manifold: null, dots: new Map() };
const mu_of = (n) => run.mu.subarray(n * run.latent_dim, (n + 1) * run.latent_dim);
const coordinate = (z, n, axis) => (space.dims[axis] === null ? stacked(n) : z[space.dims[axis]]);

/** With one dimension there is no plane: mu runs to the right, and classes stand above one another. */
function stacked(n) {
  const count = Math.max(1, run.class_names.length), spread = ((n * 0.61803) % 1) - 0.5;
  const level = run.labels ? (run.labels[n] + 0.5) / count - 0.5 : 0;
  return 1.8 * space.half * (level + (0.7 * spread) / count);
}

/** Choose the part of the plane that holds the test images and, where there is a prior, most of it. */
function frame_plane() {
  const [a, b] = space.dims.map((dim) => (dim === null ? [0] : range(images.length).map((n) => mu_of(n)[dim]).sort((p, q) => p - q)));
  const at = (values, share) => values[Math.round(share * (values.length - 1))];
  const ends = [a, b].map((values) => [at(values, 0.002), at(values, 0.998)]);
  if (is_ae()) {
    space.centre = ends.map(([low, high]) => (low + high) / 2);
    space.half = Math.max(1e-3, 0.55 * Math.max(...ends.map(([low, high]) => high - low)));
  } else {
    space.centre = [0, 0];
    space.half = Math.min(12, Math.max(3, 1.06 * Math.max(...ends.flat().map(Math.abs))));
  }
}

const to_pixel = (value, axis, size) => {
  const place = (value - space.centre[axis] + space.half) / (2 * space.half);
  return size * (axis ? 1 - place : place);
};

const from_pixel = (pixel, axis, size) => {
  const place = Math.min(1, Math.max(0, pixel / size));
  return space.centre[axis] + space.half * (2 * (axis ? 1 - place : place) - 1);
};

/** z with the coordinates of the plane replaced. */
function moved(z, across, up) {
  const result = array(z.shape, z.slice());
  [across, up].forEach((value, axis) => space.dims[axis] !== null && (result[space.dims[axis]] = value));
  return result;
}

/** Decode the plane tile by tile, from its centre outwards, a few milliseconds in each frame. */
function paint_manifold() {
  const manifold = document.createElement("canvas"), job = (space.job = {});
  manifold.width = manifold.height = 28 * TILES;
  const context = manifold.getContext("2d"), centre = (TILES - 1) / 2;
  const order = range(TILES * TILES)
    .map((k) => [k % TILES, Math.floor(k / TILES)])
    .sort((p, q) => Math.hypot(p[0] - centre, p[1] - centre) - Math.hypot(q[0] - centre, q[1] - centre));
  const decoded = new Map(), z = state.z, y = state.y;
  const tile = (column, row) => {
    const key = space.dims[1] === null ? column : `${column},${row}`;
    if (!decoded.has(key)) {
      const [across, up] = [column, row].map((k, axis) => from_pixel(k + 0.5, axis, TILES));
      const image = context.createImageData(28, 28);
      put(image, sigmoid(decode(params, moved(z, across, up), y)), 28);
      decoded.set(key, image);
    }
    context.putImageData(decoded.get(key), 28 * column, 28 * row);
  };
  const step = () => {
    if (space.job !== job) return;
    const start = performance.now();
    while (order.length && performance.now() - start < 9) tile(...order.shift());
    space.manifold = manifold;
    draw_planes();
    if (order.length) requestAnimationFrame(step);
    else space.job = null;
  };
  step();
}

let settling;
function repaint_manifold(soon = 150) {
  clearTimeout(settling);
  settling = setTimeout(paint_manifold, soon);
}

/** The test images as dots, drawn once for each size and setting. */
function dots_of(size, ratio) {
  const key = [size, ratio, space.dims, state.alone, theme.ink].join();
  if (space.dots.has(key)) return space.dots.get(key);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = Math.round(size * ratio);
  const context = canvas.getContext("2d"), radius = size > 420 ? 2.7 : 2.1;
  context.scale(ratio, ratio);
  const place = (n) => [0, 1].map((axis) => to_pixel(coordinate(mu_of(n), n, axis), axis, size));
  for (const n of range(images.length)) {
    const label = run.labels ? run.labels[n] : 0;
    const faint = state.alone !== null && label !== state.alone;
    context.globalAlpha = faint ? 0.1 : 0.82;
    context.fillStyle = run.labels ? theme.classes[label % theme.classes.length] : theme.accent;
    context.beginPath();
    context.arc(...place(n), radius, 0, 2 * Math.PI);
    context.fill();
  }
  context.globalAlpha = 1;
  if (run.labels) name_classes(context, place, size);
  if (space.dots.size > 12) space.dots.clear();
  space.dots.set(key, canvas);
  return canvas;
}

function name_classes(context, place, size) {
  const middle = (values) => values.sort((p, q) => p - q)[values.length >> 1];
  Object.assign(context, { textAlign: "center", textBaseline: "middle", lineWidth: 4, lineJoin: "round" });
  context.font = `700 ${size > 420 ? 15 : 12}px ${theme.sans}`;
  for (const label of new Set(run.labels)) {
    if (state.alone !== null && label !== state.alone) continue;
    const places = range(images.length).filter((n) => run.labels[n] === label).map(place);
    const at = [0, 1].map((axis) => middle(places.map((xy) => xy[axis]))), name = class_name(label).slice(0, 12);
    context.strokeStyle = theme.surface;
    context.strokeText(name, ...at);
    context.fillStyle = theme.classes[label % theme.classes.length];
    context.fillText(name, ...at);
  }
}

/** The plane with everything that is the same in all figures; `overlay(context, at, size)` adds what is not. */
function draw_plane(canvas, overlay, dots = 1) {
  const { context, width: size } = fitted(canvas);
  if (!size) return;
  if (state.manifold && space.manifold) {
    context.globalAlpha = state.dots ? 0.38 : 1;
    context.drawImage(space.manifold, 0, 0, size, size);
    context.globalAlpha = 1;
  }
  const at = (z) => [0, 1].map((axis) => to_pixel(space.dims[axis] === null ? 0 : z[space.dims[axis]], axis, size));
  if (state.prior && !is_ae() && space.dims[1] !== null) draw_prior(context, size);
  if (state.dots) {
    context.globalAlpha = dots;
    context.drawImage(dots_of(size, devicePixelRatio || 1), 0, 0, size, size);
    context.globalAlpha = 1;
  }
  draw_ticks(context, size);
  overlay(context, at, size);
}

/** Circles of one and two standard deviations of N(0, I). */
function draw_prior(context, size) {
  Object.assign(context, { strokeStyle: theme.muted, lineWidth: 1 });
  context.setLineDash([4, 4]);
  for (const radius of [1, 2]) {
    context.beginPath();
    context.arc(to_pixel(0, 0, size), to_pixel(0, 1, size), (radius * size) / (2 * space.half), 0, 2 * Math.PI);
    context.stroke();
  }
  context.setLineDash([]);
}

function draw_ticks(context, size) {
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100].find((width) => space.half / width < 4) ?? space.half / 2;
  Object.assign(context, { font: `11px ${theme.sans}`, textBaseline: "middle", lineWidth: 3, lineJoin: "round" });
  const write = (text, x, y, align) => {
    Object.assign(context, { textAlign: align, strokeStyle: theme.surface, fillStyle: theme.muted });
    context.strokeText(text, x, y);
    context.fillText(text, x, y);
  };
  space.dims.forEach((dim, axis) => {
    if (dim === null) return;
    const low = space.centre[axis] - space.half;
    for (let tick = Math.ceil(low / step) * step; tick < low + 1.93 * space.half; tick += step) {
      const at = to_pixel(tick, axis, size);
      if (at < 26 || at > size - 26) continue;
      if (axis) write(number(tick, step < 1 ? 1 : 0), 7, at, "left");
      else write(number(tick, step < 1 ? 1 : 0), at, size - 10, "center");
    }
    if (axis) write(`z[${dim}]`, 7, 12, "left");
    else write(`z[${dim}]`, size - 7, size - 10, "right");
  });
}

/** A ring where the point is, in a colour that no class has. */
function draw_handle(context, [x, y], size, radius = 8) {
  Object.assign(context, { strokeStyle: theme.ink, lineWidth: 1, globalAlpha: 0.35 });
  context.beginPath();
  if (radius === 8) {
    context.moveTo(0, y);
    context.lineTo(size, y);
    context.moveTo(x, 0);
    context.lineTo(x, size);
  }
  context.stroke();
  context.globalAlpha = 1;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  for (const [colour, width] of [[theme.surface, 6], [theme.handle, 3]]) {
    Object.assign(context, { strokeStyle: colour, lineWidth: width });
    context.stroke();
  }
}

function draw_planes() {
  draw_plane(element("latent-plane"), (context, at, size) => draw_handle(context, at(state.z), size));
  draw_posterior_plane();
  draw_path_plane();
}

// --- 1: a point of the plane, decoded -------------------------------------------------------------------------------

function set_z(z) {
  state.z = z;
  schedule(draw_point);
  schedule(draw_planes);
  announce(`z = ${point_text(z)}`);
}

function draw_point() {
  const x_logits = decode(params, state.z, state.y);
  const broken = !x_logits.every(Number.isFinite);
  draw_pixels(element("decoded"), sigmoid(x_logits), `The image decoded at z = ${point_text(state.z)}`);
  element("z-text").textContent = `z = ${point_text(state.z)}` + (broken ? ": the logits are not finite" : "");
  const [n, distance] = nearest_image(state.z);
  const name = run.labels ? `a ${class_name(run.labels[n])}` : `no. ${n}`;
  draw_pixels(element("nearest"), image_of(images[n], false), `Nearest test image, ${name}`);
  element("nearest-text").textContent = `Nearest test image: ${name}, its mu ${number(distance)} away`;
  element("latent-plane").setAttribute(
    "aria-label", `Latent plane, the point is at z = ${point_text(state.z)}. Arrow keys move it, with Shift further, Home returns to the origin.`,
  );
  for (const { dim, input, output } of state.sliders) {
    input.value = state.z[dim];
    output.textContent = number(state.z[dim]);
  }
}

/** The test image whose mu is nearest to z, and how far it is. */
function nearest_image(z) {
  let best = 0, least = Infinity;
  for (let n = 0; n < images.length; n++) {
    const mu = mu_of(n);
    let distance = 0;
    for (let k = 0; k < z.length; k++) distance += (z[k] - mu[k]) ** 2;
    if (distance < least) [best, least] = [n, distance];
  }
  return [best, Math.sqrt(least)];
}

/** Let a pointer drag over the canvas: `visit(x, y, event)` in pixels of its content, first at the press. */
function on_drag(canvas, visit, press = () => {}) {
  let dragging = null;
  const follow = (event) => {
    const box = canvas.getBoundingClientRect();
    visit(event.clientX - box.left - canvas.clientLeft, event.clientY - box.top - canvas.clientTop, event);
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    dragging = event.pointerId;
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    event.preventDefault();
    press();
    follow(event);
  });
  canvas.addEventListener("pointermove", (event) => event.pointerId === dragging && follow(event));
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (dragging = null));
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

function start_plane() {
  const canvas = element("latent-plane");
  on_drag(canvas, (x, y) => set_z(moved(state.z, from_pixel(x, 0, canvas.clientWidth), from_pixel(y, 1, canvas.clientHeight))));
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Home") set_z(array([run.latent_dim]));
    else if (ARROWS[event.key]) {
      const step = space.half * (event.shiftKey ? 0.1 : 0.02);
      const now = space.dims.map((dim) => (dim === null ? 0 : state.z[dim]));
      const edge = (value, axis) => Math.min(space.centre[axis] + space.half, Math.max(space.centre[axis] - space.half, value));
      set_z(moved(state.z, ...now.map((value, axis) => edge(value + step * ARROWS[event.key][axis], axis))));
    } else return;
    event.preventDefault();
  });
  element("random-z").addEventListener("click", () => {
    set_z(array([run.latent_dim], range(run.latent_dim).map(normal)));
    if (run.latent_dim > 2) repaint_manifold();
  });
  element("origin-z").addEventListener("click", () => {
    set_z(array([run.latent_dim]));
    if (run.latent_dim > 2) repaint_manifold();
  });
  element("random-z").hidden = is_ae(); // no prior to draw from
  for (const name of ["manifold", "dots", "prior"]) {
    element(`show-${name}`).addEventListener("change", (event) => ((state[name] = event.target.checked), schedule(draw_planes)));
  }
  element("prior-chip").hidden = is_ae() || run.latent_dim === 1;
  start_legend();
  start_axes();
  start_sliders();
  class_switch("class-switch", state.y, (y) => ((state.y = y), schedule(draw_point), repaint_manifold(0)));
}

function start_legend() {
  element("legend").hidden = !run.labels;
  if (!run.labels) return;
  for (const label of [...new Set(run.labels)].sort((p, q) => p - q)) {
    const mark = make("span", { className: "dot" });
    mark.dataset.label = label;
    const chip = make("button", { type: "button", className: "chip" }, mark, make("span", { textContent: class_name(label) }));
    chip.setAttribute("aria-pressed", "false");
    chip.addEventListener("click", () => {
      state.alone = state.alone === label ? null : label;
      for (const other of element("legend").querySelectorAll("button")) {
        other.setAttribute("aria-pressed", String(other === chip && state.alone !== null));
      }
      schedule(draw_planes);
    });
    element("legend").append(chip);
  }
}

function colour_legend() {
  for (const mark of document.querySelectorAll(".dot")) {
    mark.style.backgroundColor = theme.classes[mark.dataset.label % theme.classes.length];
  }
}

/** Radio buttons for the class that a conditional model is given; nothing for other models. */
function class_switch(id, chosen, change) {
  const box = element(id);
  box.hidden = !run.classes;
  for (const y of range(run.classes)) {
    const input = make("input", { type: "radio", name: id, value: String(y), checked: y === chosen });
    input.addEventListener("change", () => change(y));
    box.append(make("label", { className: "chip" }, input, make("span", { textContent: class_name(y) })));
  }
}

function show_class(id, y) {
  const input = element(id).querySelector(`input[value="${y}"]`);
  if (input) input.checked = true;
}

const price_text = (dim) => (is_ae() ? `variance ${number(run.price[dim])}` : `${number(run.price[dim])} nats`);

function start_axes() {
  element("axes").hidden = run.latent_dim <= 2;
  for (const axis of [0, 1]) {
    const select = element(`axis-${axis}`);
    for (const dim of run.order) select.append(make("option", { value: String(dim), textContent: `z[${dim}], ${price_text(dim)}` }));
    select.value = String(space.dims[axis]);
    select.addEventListener("change", () => {
      const dim = Number(select.value), other = space.dims[1 - axis];
      if (dim === other) element(`axis-${1 - axis}`).value = String((space.dims[1 - axis] = space.dims[axis]));
      space.dims[axis] = dim;
      change_plane();
    });
  }
}

function change_plane() {
  frame_plane();
  space.manifold = null;
  schedule(draw_planes);
  repaint_manifold(0);
}

function start_sliders() {
  const by = is_ae() ? "variance of mu" : "KL";
  element("sliders-title").textContent = run.latent_dim === 1 ? "The one dimension" : `One dimension at a time, largest ${by} first`;
  state.sliders = run.order.map((dim, rank) => {
    const means = range(images.length).map((n) => mu_of(n)[dim]), margin = is_ae() ? 0 : 3;
    const [low, high] = [Math.min(-margin, ...means), Math.max(margin, ...means)];
    const input = make("input", { type: "range", min: low.toFixed(2), max: high.toFixed(2), step: "0.01", id: `z-${dim}` });
    const output = make("output", { className: "mono" });
    const name = make("label", { htmlFor: input.id }, make("span", { className: "mono", textContent: `z[${dim}] ` }));
    name.append(make("span", { className: "price", textContent: run.active[dim] ? price_text(dim) : "inactive" }));
    const row = make("div", { className: run.active[dim] ? "slider" : "slider inactive" }, name, input, output);
    input.addEventListener("input", () => {
      const z = array(state.z.shape, state.z.slice());
      z[dim] = Number(input.value);
      set_z(z);
      if (!space.dims.includes(dim)) repaint_manifold();
    });
    element(rank < NAMED ? "sliders" : "more-sliders").append(row);
    return { dim, input, output };
  });
  element("more").hidden = run.latent_dim <= NAMED;
  element("more-text").textContent = `${run.latent_dim - NAMED} more`;
}

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

// --- 3: the way from one image to another ---------------------------------------------------------------------------

function path_at(t) {
  const ends = state.ends.map((end) => end.mu);
  return (state.path === "slerp" && slerp(...ends, t)) || lerp(...ends, t);
}

function set_end(which, pixels, label) {
  const x = image_of(pixels, run.binary), y = run.classes ? label : null;
  state.ends[which] = { x, mu: encode(params, x, y)[0] };
  if (run.classes && which === 0) show_class("path-class", (state.y_path = label));
  draw_pixels(element(`end-${which}`), x, `${which ? "To" : "From"}: ${run.labels && label !== null ? `a ${class_name(label)}` : "an image"}`);
  if (state.ends.length === 2) schedule(draw_path);
}

function another_end(which) {
  const other = state.end_images[1 - which], count = images.length;
  const differs = (n) => !run.labels || run.labels[n] !== run.labels[other];
  let n = (state.end_images[which] + 1) % count;
  for (let tries = 0; tries < count && !(differs(n) && n !== other); tries++) n = (n + 1) % count;
  state.end_images[which] = n;
  set_end(which, images[n], run.labels ? run.labels[n] : null);
}

function draw_path() {
  const decoded_at = (t) => sigmoid(decode(params, path_at(t), state.y_path));
  range(FRAMES).forEach((k) => draw_pixels(element("strip").children[k], decoded_at(k / (FRAMES - 1))));
  const broken = state.path === "slerp" && slerp(...state.ends.map((end) => end.mu), 0.5) === null;
  element("path-caption").textContent =
    (broken ? "The two means are opposite or at the origin, so no one circle joins them: the straight line is shown. " : "") +
    (state.path === "slerp" ? "slerp turns the direction of z at an even rate." : "lerp goes straight from mu to mu.") +
    (run.latent_dim > 2 ? " The plane shows a shadow of the path." : "");
  draw_between();
}

function draw_between() {
  const z = path_at(state.t), frame = Math.round(state.t * (FRAMES - 1));
  [...element("strip").children].forEach((canvas, k) => canvas.classList.toggle("here", k === frame));
  draw_pixels(element("between"), sigmoid(decode(params, z, state.y_path)), `The image decoded at t = ${number(state.t)}`);
  element("t-text").textContent = number(state.t);
  element("between-text").textContent = `z = ${point_text(z)}, ${number(norm(z))} from the origin`;
  draw_path_plane();
}

function draw_path_plane() {
  if (!state.ends || state.ends.length < 2) return;
  draw_plane(element("path-plane"), (context, at, size) => {
    context.beginPath();
    for (const k of range(61)) context.lineTo(...at(path_at(k / 60)));
    for (const [colour, width] of [[theme.surface, 6], [theme.ink, 2.2]]) {
      Object.assign(context, { strokeStyle: colour, lineWidth: width, lineJoin: "round" });
      context.stroke();
    }
    for (const end of state.ends) {
      context.beginPath();
      context.arc(...at(end.mu), 5, 0, 2 * Math.PI);
      Object.assign(context, { fillStyle: theme.ink, strokeStyle: theme.surface, lineWidth: 2 });
      context.fill();
      context.stroke();
    }
    draw_handle(context, at(path_at(state.t)), size, 7);
  }, 0.45);
  element("path-plane").setAttribute("aria-label", "The path on the latent plane");
}

function start_path() {
  element("strip").append(...range(FRAMES).map(() => make("canvas", { className: "pixels" })));
  element("strip").setAttribute("aria-label", `${FRAMES} images decoded along the path`);
  for (const which of [0, 1]) {
    element(`another-${which}`).addEventListener("click", () => another_end(which));
    element(`use-${which}`).addEventListener("click", () => {
      set_end(which, state.pixels, run.classes ? state.y_image : state.image === null || !run.labels ? null : run.labels[state.image]);
    });
  }
  element("path-kind").hidden = run.latent_dim === 1; // on a line there is no sphere to go along
  for (const input of element("path-kind").querySelectorAll("input")) {
    input.addEventListener("change", () => ((state.path = input.value), schedule(draw_path)));
  }
  element("t").addEventListener("input", (event) => ((state.t = Number(event.target.value)), schedule(draw_between)));
  class_switch("path-class", state.y_path, (y) => ((state.y_path = y), schedule(draw_path)));
  state.end_images = [0, 0];
  set_end(0, images[0], run.labels ? run.labels[0] : null);
  another_end(1);
}

// --- 4: the network, opened -----------------------------------------------------------------------------------------

const shape_text = (shape) => `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`;
const WHAT = {
  conv: "convolution, k3 s2 p1", linear: "linear", deconv: "transposed convolution, k3 s2 p1 op1",
  given: "the image", sampled: "z = mu + std * eps", sigmoid: "sigmoid(x_logits)",
};

/** What is shown, in the order of the data flow: encoder, z, decoder, and the picture at both ends. */
function network_rows() {
  const { x, x_logits } = state.posterior;
  const { outputs, z } = layer_by_layer(params, x, state.eps, state.y_image);
  const rows = outputs.map(({ name, kind, h, relu }) => ({ name, h, relu, what: WHAT[kind] + (relu ? ", ReLU" : "") }));
  const unused = rows.find(({ name }) => name === "encoder.logvar");
  if (is_ae()) unused.what += "; an autoencoder does not use it";
  return [
    ["Encoder", [{ name: "x", h: x, relu: true, what: WHAT.given }, ...rows.slice(0, 5)]],
    [is_ae() ? "The code" : "Reparameterization", [{ name: "z", h: z, relu: false, what: is_ae() ? "z = mu" : WHAT.sampled }]],
    ["Decoder", [...rows.slice(5), { name: "x_hat", h: sigmoid(x_logits), relu: true, what: WHAT.sigmoid }]],
  ];
}

function draw_network() {
  if (!state.network_seen || !state.posterior) return;
  const halves = network_rows();
  if (!element("network").children.length) element("network").append(...halves.map(network_half));
  for (const { name, h, relu } of halves.flatMap(([, rows]) => rows)) {
    const low = Math.min(...h), high = Math.max(...h), mean = h.reduce((sum, value) => sum + value, 0) / h.length;
    const zeros = h.reduce((count, value) => count + (value === 0), 0) / h.length;
    draw_maps(element(`maps-${name}`), h, Math.max(Math.abs(low), Math.abs(high)), !relu);
    element(`stats-${name}`).textContent = `min ${number(low)}, mean ${number(mean)}, max ${number(high)}, zeros ${Math.round(100 * zeros)}%`;
  }
}

function network_half([title, rows]) {
  const layers = rows.map(({ name, h, what }) => {
    const weight = params[`${name}.weight`], canvas = make("canvas", { className: "maps", id: `maps-${name}` });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `The output of ${name}, shape ${shape_text(h.shape)}`);
    const text = make("div", {}, make("h4", { textContent: name }), make("p", { className: "small", textContent: what }));
    text.append(make("p", { className: "small mono", textContent: `output ${shape_text(h.shape)}` }));
    if (weight) text.append(make("p", { className: "small mono", textContent: `weight ${shape_text(weight.shape)}` }));
    const stats = make("p", { className: "small mono scale", id: `stats-${name}` });
    return make("div", { className: "layer" }, text, make("div", {}, canvas, stats));
  });
  return make("div", { className: "half" }, make("h3", { textContent: title }), ...layers);
}

/** Maps (C, H, W) side by side, or a vector as rows of cells; white is 0 and the strongest value of the layer full. */
function draw_maps(canvas, h, most, signed) {
  const [C, H, W] = h.shape.length === 3 ? h.shape : [h.length, 1, 1];
  const columns = Math.min(C, C === 32 && H > 1 ? 8 : C === 64 && H > 1 ? 16 : 32), gap = H > 1 ? 1 : 0;
  const rows = Math.ceil(C / columns);
  canvas.width = columns * (W + gap) - gap;
  canvas.height = rows * (H + gap) - gap;
  canvas.style.maxWidth = `${Math.min(40, C === 1 ? 11 : H > 1 ? 34 : 1.4 * columns)}rem`;
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  for (const c of range(C)) {
    const values = h.subarray(c * H * W, (c + 1) * H * W);
    put(image, values, W, (c % columns) * (W + gap), Math.floor(c / columns) * (H + gap), most ? 1 / most : 1, signed);
  }
  context.putImageData(image, 0, 0);
}

// --- 5: what to notice ----------------------------------------------------------------------------------------------

const EXERCISES = {
  space: "exercises/01_latent_space.md", path: "exercises/02_interpolation.md", convolution: "exercises/03_convolution.md",
  elbo: "exercises/04_kl_and_elbo.md", noise: "exercises/05_reparameterization.md", collapse: "exercises/06_beta_and_collapse.md",
  rate: "exercises/07_rate_distortion.md", weights: "exercises/08_importance_weighting.md", label: "exercises/09_conditional.md",
};

function notice(id, text, ...exercises) {
  const files = exercises.flatMap((name, k) => [k ? " and " : "", make("code", { textContent: EXERCISES[name] })]);
  element(id).append(make("p", {}, make("strong", { textContent: "Notice. " }), text, " Work on it in ", ...files, "."));
}

function write_notices() {
  const idle = run.active.some((used) => !used);
  if (is_ae()) {
    notice("notice-plane", "The codes fill no particular shape: nothing draws them to the origin or to a scale of 1. Go to a gap between two clusters and see what the decoder makes of a place that no training image had.", "space");
    notice("notice-encode", "Each image gets one point and no spread. Draw something that is no digit: it gets a point too, and comes back as something that is.", "elbo");
  } else if (run.classes) {
    notice("notice-plane", "The classes lie over one another: the label is given, so z need not say it, and holds the style. Keep the point and change the class: slant and thickness stay.", "label");
    notice("notice-encode", "Give the encoder a wrong class for the picked image: recon rises, for the model is asked to explain the image as a digit it is not. Resample eps: the picture hardly changes inside the ellipse.", "label", "noise");
  } else {
    notice("notice-plane", "The encoder never saw a label, yet classes gather, and between two of them the image changes without a break. Outside the prior\u2019s circles the decoder was hardly ever asked." + (idle ? " Move a slider marked inactive: hardly anything changes." : ""), "space", ...(idle ? ["collapse"] : []));
    notice("notice-encode", "The ellipses are one and two sigma of q(z|x). Resample eps: the point jumps inside them, and the picture hardly changes; that is how precisely z is known. kl is what the code costs, recon what it leaves unsaid. Then draw something that is no digit.", ...(run.samples > 1 ? ["weights"] : []), "elbo", "noise");
  }
  notice("notice-between", "Halfway between two classes look for an image that is neither. In many dimensions the straight line dips towards the origin, where few samples of the prior lie; slerp keeps its distance. Does it show?", "path");
  notice("notice-network", "Each convolution halves the side, 28, 14, 7, and has more maps to say what is there: the first still shows strokes and edges, the second no picture any more. A ReLU answers many places with 0. The decoder goes back the same way.", "convolution");
}

/** "What is wrong here": shown when no dimension, or hardly any, carries something. */
function write_collapse() {
  const used = run.active.filter(Boolean).length, few = run.latent_dim >= 5 && used <= run.latent_dim / 5;
  if (is_ae() || (used > 0 && !few)) return;
  element("collapse").hidden = false;
  const [cause, remedy] = used
    ? [`Only ${used} of ${run.latent_dim} latent dimensions ${used === 1 ? "is" : "are"} active: the others have the prior as their posterior, and their sliders change nothing.`,
       "Ask whether the data needs more, or whether the KL is priced too high."]
    : ["The posterior has collapsed: q(z|x) is the prior for every image, kl is near 0, and the decoder ignores z. Move the point: the picture stays the average image.",
       "A smaller beta, annealing or free bits bring z back."];
  element("collapse-text").append(`${cause} ${remedy} Work on it in `, make("code", { textContent: EXERCISES.collapse }), ".");
}

function write_texts() {
  const Z = run.latent_dim, terms = run.test;
  const reached = is_ae() ? `recon ${number(terms.recon)} nats` : `\u2212elbo ${number(terms.recon + terms.kl)} nats`;
  element("kicker").textContent = [run.title, `Z = ${Z}`, run.dataset, `${reached} per test image`].join("  \u00b7  ");
  element("lead").textContent = `This ${is_ae() ? "autoencoder" : "variational autoencoder"} holds an image of 784 pixels in ${Z === 1 ? "1 number" : `${Z} numbers`}. Drag the point: the decoder draws what it makes of that place.`;
  element("plane-caption").textContent =
    (Z === 1 ? "The latent line: mu runs to the right, classes stand above one another." : Z === 2 ? "The latent plane." : `Two of ${Z} dimensions; beneath, the others stay where their sliders are.`) +
    ` Dots are the ${is_ae() ? "codes" : "posterior means"} of ${images.length.toLocaleString("en")} test images; beneath them, what the decoder draws at each place.`;
  element("encode-title").textContent = is_ae() ? "From an image to its code" : "From an image to its posterior";
  element("encode-intro").textContent = is_ae()
    ? "The encoder turns an image into one point z; the decoder turns it back."
    : "The encoder turns an image into a mean mu and a spread sigma for each latent dimension. One z is drawn from there and decoded.";
  if (run.binary) element("encode-intro").textContent += " The model was trained on pixels of 0 and 1, so x is cut at one half.";
  element("posterior-caption").textContent = is_ae() ? "z = mu on the plane." : "q(z|x) on the plane: ellipses of one and two sigma; the ring is z = mu + sigma eps.";
  element("reconstruction-caption").textContent = run.likelihood === "gaussian" ? "sigmoid(x_logits): the mean of a Gaussian for each pixel." : "sigmoid(x_logits): for each pixel the probability of ink.";
  element("about").textContent =
    `${run.title}, ${Object.values(params).reduce((sum, value) => sum + value.length, 0).toLocaleString("en")} parameters, ${run.trained}. ` +
    `Measured on ${terms.images.toLocaleString("en")} test images: recon ${number(terms.recon)}${is_ae() ? "" : `, kl ${number(terms.kl)}, elbo ${number(-terms.recon - terms.kl)}`} nats per image. ` +
    "The page holds the weights as float16 and computes everything itself; it sends nothing and fetches nothing. Its model is numpy/vae_numpy.py told again in JavaScript.";
}

/** Milliseconds of one decode here, the median of 15, once the page has settled. */
function time_decode() {
  const times = range(15).map(() => {
    const start = performance.now();
    decode(params, state.z, state.y);
    return performance.now() - start;
  });
  explorer.decode_ms = times.sort((p, q) => p - q)[7];
  element("speed").textContent = `One image is decoded in ${number(explorer.decode_ms, 1)} ms on this device.`;
}

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
  run.order = range(run.latent_dim).sort((p, q) => run.price[q] - run.price[p]);
  space.dims = run.latent_dim === 1 ? [0, null] : run.order.slice(0, 2).sort((p, q) => p - q);
  const y = run.classes ? run.labels[0] : null;
  state = {
    z: array([run.latent_dim]), y, alone: null, manifold: true, dots: true, prior: true, sliders: [],
    y_image: y, eps: array([run.latent_dim]), samples: [], posterior: null, cursor: [14, 14], keyboard: false, first_thumb: 0,
    ends: [], path: "lerp", t: 0.5, y_path: y, network_seen: false,
  };
  Object.assign(explorer, { run, params, images, state, space });
  globalThis.explorer = explorer; // for the browser's console: explorer.decode(explorer.params, explorer.state.z)
  document.title = `${run.title}, Z = ${run.latent_dim}: latent explorer`;
  read_theme();
  write_texts();
  write_notices();
  write_collapse();
  frame_plane();
  start_plane();
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
  setTimeout(time_decode, 1500);
  explorer.ready = true;
}

if (typeof document === "undefined") module.exports = explorer; // for tests outside a browser
else start();
