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
      const to = row * W_out + column;
      for (let o = 0; o < O; o++) y[o * H_out * W_out + to] = dot(weight, o * patch.length, patch) + bias[o];
    }
  }
  return y;
}

/** x (C, H, W), weight (C, O, k, k), bias (O,) -> (O, H', W'), H' = (H - 1) stride - 2 padding + k + output_padding.
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

/** A conditional model is also given its class y, as maps beside x or numbers beside z: level 3, conditional_vae.py. */
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
