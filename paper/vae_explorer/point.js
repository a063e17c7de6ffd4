// --- 1: a point of the plane, decoded -------------------------------------------------------------------------------

function set_z(z) {
  state.z = z;
  schedule(draw_point);
  schedule(draw_planes);
  announce(`z = ${point_text(z)}`);
}

/** Go to a z that is on another plane, where there are more dimensions than two. */
function jump(z) {
  set_z(z);
  if (run.latent_dim > 2) repaint_manifold();
}

function draw_point() {
  const x_logits = decode(params, state.z, state.y);
  const broken = !x_logits.every(Number.isFinite);
  draw_pixels(element("decoded"), sigmoid(x_logits), `The image decoded at z = ${point_text(state.z)}`);
  element("z-text").textContent = `z = ${point_text(state.z)}` + (broken ? ": the logits are not finite" : "");
  const [n, distance] = nearest_image(state.z);
  const name = a_class(label_of(n), `no. ${n}`);
  draw_pixels(element("nearest"), image_of(images[n], false), `Nearest ${run.shown}, ${name}`);
  element("nearest-text").textContent = `Nearest ${run.shown}: ${name}, its mu ${number(distance)} away`;
  const keys = "Arrow keys move it, with Shift further, Home returns to the origin.";
  describe(element("latent-plane"), `Latent plane, the point is at z = ${point_text(state.z)}. ${keys}`);
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

function start_point() {
  const canvas = element("latent-plane");
  const move = (place) => set_z(replaced(state.z, space.dims, place));
  on_drag(canvas, (x, y) => move([from_pixel(x, 0, canvas.clientWidth), from_pixel(y, 1, canvas.clientHeight)]));
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Home") jump(zeros());
    else if (ARROWS[event.key]) {
      const step = space.half * (event.shiftKey ? 0.1 : 0.02);
      const now = space.dims.map((dim) => (dim === null ? 0 : state.z[dim]));
      const inside = (value, axis) => clamp(value, space.centre[axis] - space.half, space.centre[axis] + space.half);
      move(now.map((value, axis) => inside(value + step * ARROWS[event.key][axis], axis)));
    } else return;
    event.preventDefault();
  });
  on_click("random-z", () => jump(standard_normal()));
  on_click("origin-z", () => jump(zeros()));
  element("random-z").hidden = is_ae(); // no prior to draw from
  for (const name of ["manifold", "dots", "prior"]) {
    const box = element(`show-${name}`);
    box.addEventListener("change", () => ((state[name] = box.checked), schedule(draw_planes)));
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
    const name = make("span", { textContent: class_name(label) });
    const chip = make("button", { type: "button", className: "chip" }, mark, name);
    chip.setAttribute("aria-pressed", "false");
    chip.addEventListener("click", () => {
      state.alone = state.alone === label ? null : label;
      press(element("legend").querySelectorAll("button"), (other) => other === chip && state.alone !== null);
      schedule(draw_planes);
    });
    element("legend").append(chip);
  }
}

function colour_legend() {
  for (const mark of document.querySelectorAll(".dot")) mark.style.backgroundColor = class_colour(mark.dataset.label);
}

/** How much a dimension holds over the test images: its KL, or the variance of an autoencoder's code. */
function content_text(dim) {
  const content = number(run.kl_per_dim[dim]);
  return is_ae() ? `variance ${content}` : `${content} nats`;
}

function start_axes() {
  element("axes").hidden = run.latent_dim <= 2;
  for (const axis of [0, 1]) {
    const select = element(`axis-${axis}`);
    for (const dim of run.order) {
      select.append(make("option", { value: String(dim), textContent: `z[${dim}], ${content_text(dim)}` }));
    }
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
  element("sliders-title").textContent = run.latent_dim === 1
    ? "The one dimension" : `One dimension at a time, largest ${is_ae() ? "variance of mu" : "KL"} first`;
  state.sliders = run.order.map((dim, rank) => {
    const means = range(images.length).map((n) => mu_of(n)[dim]), margin = is_ae() ? 0 : 3;
    const [low, high] = [Math.min(-margin, ...means), Math.max(margin, ...means)];
    const bounds = { min: low.toFixed(2), max: high.toFixed(2), step: "0.01" };
    const input = make("input", { type: "range", ...bounds, id: `z-${dim}` });
    const output = make("output", { className: "mono" });
    const name = make("label", { htmlFor: input.id }, make("span", { className: "mono", textContent: `z[${dim}] ` }));
    name.append(make("span", { className: "content", textContent: run.active[dim] ? content_text(dim) : "inactive" }));
    const row = make("div", { className: run.active[dim] ? "slider" : "slider inactive" }, name, input, output);
    input.addEventListener("input", () => {
      set_z(replaced(state.z, [dim], [Number(input.value)]));
      if (!space.dims.includes(dim)) repaint_manifold();
    });
    element(rank < NAMED ? "sliders" : "more-sliders").append(row);
    return { dim, input, output };
  });
  element("more").hidden = run.latent_dim <= NAMED;
  element("more-text").textContent = `${run.latent_dim - NAMED} more`;
}
