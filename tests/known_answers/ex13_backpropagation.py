"""Answers to exercise 13 whose verdict is known; see test_exercise_solutions.py."""

CANVAS = "d_padded[under] += np"
CUT = "d_padded[:, :, padding : padding + H, padding : padding + W]"
LINEAR = "return d_y @ weight, d_y.T @ x, d_y.sum(axis=0)"
BCE = "(sigmoid(x_logits) - x) / len(x)"
DRAW = "d_z * 0.5 * np.exp(0.5 * logvar) * eps"
KL = "return mu / len(mu), 0.5 * (np.exp(logvar) - 1) / len(mu)"
GATHER = "d_x = conv2d(d_y, weight, np.zeros(len(weight), d_y.dtype), stride, padding)"

WRONG = (
    ("d_h * (h > 0)", "d_h * (h >= 0)", "everywhere"),
    ("d_h * (h > 0)", "np.maximum(d_h, 0)", "ReLU of d_h"),
    (LINEAR, LINEAR.replace("d_y.T @ x", "x.T @ d_y"), "axes are exchanged"),
    (LINEAR, LINEAR.replace("d_y @ weight", "d_y @ weight.T"), "transposed"),
    (LINEAR, "return d_y @ weight, d_y.T @ x", "3 values"),
    (CANVAS, "d_padded[under] = np", "+= instead of ="),
    ("d_y, weight[:, :, i, j]", "d_y, weight[:, :, k - 1 - i, k - 1 - j]", "turned round"),
    (f"return {CUT}", "return d_padded", "shape"),
    (GATHER, GATHER.replace("weight, np", "weight[:, :, ::-1, ::-1], np"), "turned round"),
    (BCE, f"sigmoid(x_logits) * (1 - sigmoid(x_logits)) * {BCE}", "own slope"),
    (BCE, "(x_logits - x) / len(x)", "no probabilities"),
    (DRAW, "d_z * eps", "derivative by sigma"),
    (KL, KL.replace("(np.exp(logvar) - 1)", "np.exp(logvar)"), "A term is missing: the -1"),
)

SQUARE, MINUS = "kernels are square", "NumPy takes any negative size for the one that is left over"
EQUIVALENT = {
    "conv2d_backward: 1 -> 2 in (H, W), (H_out, W_out), k = x.shape[2:], d_y.shape[2:], weight.shape[-1]": SQUARE,
    'forward: 1 -> 2 in h["encoder.fc"] = relu(run("encoder.fc", linear, h["encoder.conv2"].reshape(len(x), '
    "-1)))": MINUS,
    'vae_backward: 1 -> 2 in d = through(back("decoder.fc2", linear_backward, d.reshape(len(x), -1), '
    'h["decoder.fc1"]), "decoder.fc1")': MINUS,
    'vae_backward: 1 -> 2 in flat = h["encoder.conv2"].reshape(len(x), -1)': MINUS,
}

ALSO_RIGHT = (
    (
        f"return {CUT}",
        "left = (H + 2 * padding - k) % stride\n    if H - (H_out - 1) * stride == W - (W_out - 1) * stride:\n"
        "        other = conv_transpose2d(d_y, weight, np.zeros(x.shape[1], x.dtype), stride, padding, left)\n"
        "        return other, d_weight, d_y.sum(axis=(0, 2, 3))\n"
        f"    return {CUT}",
    ),
    ("d_h * (h > 0)", "np.where(h > 0, d_h, 0)"),
)
