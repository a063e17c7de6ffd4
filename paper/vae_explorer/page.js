// === the page: what its sections share ==============================================================================

let run, params, images; // what Python embedded: settings and measurements, the weights, test images (784,) of uint8
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
const label_of = (n) => (run.labels && n !== null ? run.labels[n] : null);
const a_class = (label, unlabelled) => (label === null ? unlabelled : `a ${class_name(label)}`);
const capital = (text) => text[0].toUpperCase() + text.slice(1);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const range = (count) => Array.from({ length: count }, (_, k) => k);

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

const describe = (node, text) => node.setAttribute("aria-label", text);
const on_click = (id, action) => element(id).addEventListener("click", action);

/** Show those of the buttons as pressed that `pressed(button)` says. */
function press(buttons, pressed) {
  for (const button of buttons) button.setAttribute("aria-pressed", String(pressed(button)));
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

const zeros = () => array([run.latent_dim]);

/** Noise ~ N(0, I), (Z,): Box & Muller 1958. */
function standard_normal() {
  const draw = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  return array([run.latent_dim], range(run.latent_dim).map(draw));
}

/** Let a pointer drag over the canvas: `visit(x, y)` in pixels of its content, first at the press. */
function on_drag(canvas, visit, press = () => {}) {
  let dragging = null;
  const follow = (event) => {
    const box = canvas.getBoundingClientRect();
    visit(event.clientX - box.left - canvas.clientLeft, event.clientY - box.top - canvas.clientTop);
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

// --- colours and pixels ---------------------------------------------------------------------------------------------

let theme;

function read_theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const names = ["surface", "ink", "muted", "accent", "handle", "image-0", "image-1", "negative", "positive"];
  theme = Object.fromEntries(names.map((name) => [name, colour(name)]));
  theme.sans = colour("sans");
  theme.classes = CLASS_COLOURS[DARK() ? "dark" : "light"];
  theme.grey = ramp(theme["image-0"], theme["image-1"]);
  theme.minus = ramp(theme["image-0"], theme.negative);
  theme.plus = ramp(theme["image-0"], theme.positive);
}

const class_colour = (label) => theme.classes[label % theme.classes.length];

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
function draw_pixels(canvas, x, text) {
  canvas.width = canvas.height = 28;
  const context = canvas.getContext("2d"), image = context.createImageData(28, 28);
  put(image, x, 28);
  context.putImageData(image, 0, 0);
  if (text) describe(canvas, text);
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

function circle(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
}

/** Stroke the path with an edge in the colour of the ground, so that it shows on everything. */
function outline(context, colour, width, edge) {
  for (const [strokeStyle, lineWidth] of [[theme.surface, edge], [colour, width]]) {
    Object.assign(context, { strokeStyle, lineWidth });
    context.stroke();
  }
}

/** Write text with such an edge, `lineWidth` of the context wide. */
function write(context, text, x, y, colour) {
  Object.assign(context, { strokeStyle: theme.surface, fillStyle: colour });
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
}
