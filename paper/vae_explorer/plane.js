// --- the plane: two of the latent dimensions, shared by the three figures that show it ------------------------------

// The decoded plane is `manifold`; `job` is painting it, and `due` the timer of the next.
const space = { dims: [0, 1], centre: [0, 0], half: 3, manifold: null, job: null, due: null, dots: new Map() };
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
  const at = (values, share) => values[Math.round(share * (values.length - 1))];
  const ends = space.dims.map((dim) => {
    const values = dim === null ? [0] : range(images.length).map((n) => mu_of(n)[dim]).sort((p, q) => p - q);
    return [at(values, 0.002), at(values, 0.998)];
  });
  if (is_ae()) {
    space.centre = ends.map(([low, high]) => (low + high) / 2);
    space.half = Math.max(1e-3, 0.55 * Math.max(...ends.map(([low, high]) => high - low)));
  } else {
    space.centre = [0, 0];
    space.half = clamp(1.06 * Math.max(...ends.flat().map(Math.abs)), 3, 12);
  }
}

const to_pixel = (value, axis, size) => {
  const place = (value - space.centre[axis] + space.half) / (2 * space.half);
  return size * (axis ? 1 - place : place);
};

const from_pixel = (pixel, axis, size) => {
  const place = clamp(pixel / size, 0, 1);
  return space.centre[axis] + space.half * (2 * (axis ? 1 - place : place) - 1);
};

/** z with the values of some dimensions replaced; null is no dimension. */
function replaced(z, dims, values) {
  const result = reshape(z, ...z.shape);
  dims.forEach((dim, k) => dim !== null && (result[dim] = values[k]));
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
      const place = [column, row].map((k, axis) => from_pixel(k + 0.5, axis, TILES));
      const image = context.createImageData(28, 28);
      put(image, sigmoid(decode(params, replaced(z, space.dims, place), y)), 28);
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

/** Paint it anew once nothing has asked for that for so many milliseconds. */
function repaint_manifold(milliseconds = 150) {
  clearTimeout(space.due);
  space.due = setTimeout(() => ((space.due = null), paint_manifold()), milliseconds);
}

/** The test images as dots, drawn once for each size and setting. */
function dots_of(size, ratio) {
  const key = [size, ratio, space.dims, state.alone, theme.ink].join();
  if (space.dots.has(key)) return space.dots.get(key);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = Math.round(size * ratio);
  const context = canvas.getContext("2d"), radius = size > 420 ? 2.7 : 2.1;
  context.scale(ratio, ratio);
  Object.assign(context, { strokeStyle: theme.surface, lineWidth: 1.4 });
  const place = (n) => [0, 1].map((axis) => to_pixel(coordinate(mu_of(n), n, axis), axis, size));
  for (const n of range(images.length)) {
    const label = label_of(n);
    context.globalAlpha = state.alone !== null && label !== state.alone ? 0.1 : 0.82;
    context.fillStyle = label === null ? theme.accent : class_colour(label);
    circle(context, ...place(n), radius);
    context.stroke(); // an edge in the colour of the ground, so that dots show on a bright image too
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
    const [x, y] = [0, 1].map((axis) => middle(places.map((xy) => xy[axis])));
    write(context, class_name(label).slice(0, 12), x, y, class_colour(label));
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
    circle(context, to_pixel(0, 0, size), to_pixel(0, 1, size), (radius * size) / (2 * space.half));
    context.stroke();
  }
  context.setLineDash([]);
}

function draw_ticks(context, size) {
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100].find((width) => space.half / width < 4) ?? space.half / 2;
  Object.assign(context, { font: `11px ${theme.sans}`, textBaseline: "middle", lineWidth: 3, lineJoin: "round" });
  const label = (text, x, y, textAlign) => write(Object.assign(context, { textAlign }), text, x, y, theme.muted);
  space.dims.forEach((dim, axis) => {
    if (dim === null) return;
    const low = space.centre[axis] - space.half;
    for (let tick = Math.ceil(low / step) * step; tick < low + 1.93 * space.half; tick += step) {
      const at = to_pixel(tick, axis, size);
      if (at < 26 || at > size - 26) continue;
      const text = number(tick, step < 1 ? 1 : 0);
      if (axis) label(text, 7, at, "left");
      else label(text, at, size - 10, "center");
    }
    if (axis) label(`z[${dim}]`, 7, 12, "left");
    else label(`z[${dim}]`, size - 7, size - 10, "right");
  });
}

/** A ring where the point is, in a colour that no class has. */
function draw_handle(context, [x, y], radius) {
  circle(context, x, y, radius);
  outline(context, theme.handle, 3, 6);
}

function draw_crosshair(context, [x, y], size) {
  Object.assign(context, { strokeStyle: theme.ink, lineWidth: 1, globalAlpha: 0.35 });
  context.beginPath();
  context.moveTo(0, y);
  context.lineTo(size, y);
  context.moveTo(x, 0);
  context.lineTo(x, size);
  context.stroke();
  context.globalAlpha = 1;
}

function draw_planes() {
  draw_plane(element("latent-plane"), (context, at, size) => {
    draw_crosshair(context, at(state.z), size);
    draw_handle(context, at(state.z), 8);
  });
  draw_posterior_plane();
  draw_path_plane();
}
