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
