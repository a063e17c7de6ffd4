// --- 3: the way from one image to another ---------------------------------------------------------------------------

function path_at(t) {
  const ends = state.ends.map((end) => end.mu);
  return (state.path === "slerp" && slerp(...ends, t)) || lerp(...ends, t);
}

function set_end(which, pixels, label) {
  const x = image_of(pixels, run.binary), y = run.classes ? label : null;
  state.ends[which] = { x, mu: encode(params, x, y)[0] };
  if (run.classes && which === 0) show_class("path-class", (state.y_path = label));
  draw_pixels(element(`end-${which}`), x, `${which ? "To" : "From"}: ${a_class(label, "an image")}`);
  if (state.ends.length === 2) schedule(draw_path);
}

function another_end(which) {
  const other = state.end_images[1 - which], count = images.length;
  const differs = (n) => !run.labels || run.labels[n] !== run.labels[other];
  let n = (state.end_images[which] + 1) % count;
  for (let tries = 0; tries < count && !(differs(n) && n !== other); tries++) n = (n + 1) % count;
  state.end_images[which] = n;
  set_end(which, images[n], label_of(n));
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
  const x_hat = sigmoid(decode(params, z, state.y_path));
  draw_pixels(element("between"), x_hat, `The image decoded at t = ${number(state.t)}`);
  element("t-text").textContent = number(state.t);
  element("between-text").textContent = `z = ${point_text(z)}, ${number(norm(z))} from the origin`;
  draw_path_plane();
}

function draw_path_plane() {
  if (!state.ends || state.ends.length < 2) return;
  draw_plane(element("path-plane"), (context, at, size) => {
    context.beginPath();
    for (const k of range(61)) context.lineTo(...at(path_at(k / 60)));
    context.lineJoin = "round";
    outline(context, theme.ink, 2.2, 6);
    for (const end of state.ends) {
      circle(context, ...at(end.mu), 5);
      Object.assign(context, { fillStyle: theme.ink, strokeStyle: theme.surface, lineWidth: 2 });
      context.fill();
      context.stroke();
    }
    draw_handle(context, at(path_at(state.t)), 7);
  }, 0.45);
  describe(element("path-plane"), "The path on the latent plane");
}

function start_path() {
  element("strip").append(...range(FRAMES).map(() => make("canvas", { className: "pixels" })));
  describe(element("strip"), `${FRAMES} images decoded along the path`);
  for (const which of [0, 1]) {
    on_click(`another-${which}`, () => another_end(which));
    on_click(`use-${which}`, () => set_end(which, state.pixels, run.classes ? state.y_image : label_of(state.image)));
  }
  element("path-kind").hidden = run.latent_dim === 1; // on a line there is no sphere to go along
  for (const input of element("path-kind").querySelectorAll("input")) {
    input.addEventListener("change", () => ((state.path = input.value), schedule(draw_path)));
  }
  element("t").addEventListener("input", (event) => ((state.t = Number(event.target.value)), schedule(draw_between)));
  class_switch("path-class", state.y_path, (y) => ((state.y_path = y), schedule(draw_path)));
  set_end(0, images[0], label_of(0));
  another_end(1);
}
