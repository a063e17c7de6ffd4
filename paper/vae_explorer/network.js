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
  const code = { name: "z", h: z, relu: false, what: is_ae() ? "z = mu" : WHAT.sampled };
  return [
    ["Encoder", [{ name: "x", h: x, relu: true, what: WHAT.given }, ...rows.slice(0, 5)]],
    [is_ae() ? "The code" : "Reparameterization", [code]],
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
    element(`stats-${name}`).textContent =
      `min ${number(low)}, mean ${number(mean)}, max ${number(high)}, zeros ${Math.round(100 * zeros)}%`;
  }
}

function network_half([title, rows]) {
  const layers = rows.map(({ name, h, what }) => {
    const weight = params[`${name}.weight`], canvas = make("canvas", { className: "maps", id: `maps-${name}` });
    canvas.setAttribute("role", "img");
    describe(canvas, `The output of ${name}, shape ${shape_text(h.shape)}`);
    const line = (className, textContent) => make("p", { className, textContent });
    const text = make("div", {}, make("h4", { textContent: name }), line("small", what));
    text.append(line("small mono", `output ${shape_text(h.shape)}`));
    if (weight) text.append(line("small mono", `weight ${shape_text(weight.shape)}`));
    const stats = Object.assign(line("small mono scale", ""), { id: `stats-${name}` });
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
