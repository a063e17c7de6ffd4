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
