"""Answers to exercise 3 whose verdict is known; see test_exercise_solutions.py."""

PLACES = "(size + 2 * padding - k) // stride + 1"
GATHER = """            y += np.einsum("bchw,oc->bohw", under, weight[:, :, i, j])
    return y + bias[:, None, None]"""
CUT = "y[:, :, padding : padding + H_out, padding : padding + W_out]"

TRANSPOSE = """    y = np.zeros((B, O, H_out + 2 * padding, W_out + 2 * padding), x.dtype)
    for i in range(k):
        for j in range(k):
            stamp = np.einsum("bchw,co->bohw", x, weight[:, :, i, j])
            y[:, :, i : i + stride * H : stride, j : j + stride * W : stride] += stamp
"""
# A convolution of the pixels set apart by zeros, with the kernel turned round; `around` is k - 1 - padding.
BY_ZEROS = """    apart = np.zeros((B, x.shape[1], (H - 1) * stride + 1, (W - 1) * stride + 1), x.dtype)
    apart[:, :, ::stride, ::stride] = x
    around = k - 1 - padding
{make_room}
    return conv2d(apart, weight.swapaxes(0, 1)[:, :, ::-1, ::-1], bias, 1, 0)
"""
MORE = "(around, around + output_padding)"
ROOM = f"    apart = np.pad(apart, ((0, 0), (0, 0), {MORE}, {MORE}))"
CUT_OR_PAD = """    ends = [(max(end, 0), max(-end, 0)) for end in (around, around + output_padding)]
    (before, cut), (after, cut_after) = ends
    apart = np.pad(apart, ((0, 0), (0, 0), (before, after), (before, after)))
    apart = apart[:, :, cut : apart.shape[2] - cut_after, cut : apart.shape[3] - cut_after]"""

WRONG = (
    (TRANSPOSE, BY_ZEROS.format(make_room=ROOM), "np.pad cannot cut"),
    (PLACES, "(size + 2 * padding - k) // stride", "one more"),
    (PLACES, "(size + padding - k) // stride + 1", "both sides"),
    (PLACES, "-((k - size - 2 * padding) // stride) + 1", "round down"),
    (PLACES, "(size + 2 * padding - k) / stride + 1", "//"),
    ("under, weight[:, :, i, j]", "under, weight[:, :, -1 - i, -1 - j]", "turned round"),
    ("under, weight[:, :, i, j]", "under, weight[:, :, j, i]", "rows and columns"),
    (GATHER, GATHER.replace(" + bias[:, None, None]", ""), "as if bias were 0"),
    (GATHER, GATHER.replace("[:, None, None]", ""), "belongs to the channels"),
    ("    padded = np.pad(x,", "    x *= 2\n    padded = np.pad(x / 2,", "changes an"),
    ("padding + k + output_padding", "padding + k", "as if output_padding were 0"),
    ("- 2 * padding + k", "- padding + k", "cut off on both sides"),
    ("(size - 1) * stride", "size * stride", "size - 1 steps"),
    ("stride * W : stride] += stamp", "stride * W : stride] = stamp", "+="),
    ("x, weight[:, :, i, j]", "x, weight[:, :, k - 1 - i, k - 1 - j]", "turned round"),
    (f"return {CUT} + bias[:, None, None]", f"return {CUT}", "as if bias were 0"),
    (CUT, "y[:, :, :H_out, :W_out]", "top and left"),
    (
        f"return {CUT}",
        "more = (0, output_padding)\n    y = y[:, :, padding : padding + H_out - output_padding, padding : padding + "
        "W_out - output_padding]\n    return np.pad(y, ((0, 0), (0, 0), more, more))",
        "not zeros",
    ),
    ("(size + 2 * padding - k) % stride", "1", "One number is not right"),
    ("(size + 2 * padding - k) % stride", "(size + padding - k) % stride", "What the stride leaves over "),
    ("(size + 2 * padding - k) % stride", "size % stride", "What the stride leaves over "),
    ("(size + 2 * padding - k) % stride", "(size - 1) % stride", "What the stride leaves over "),
)

CANVAS = "conv_transpose2d: 2 -> 3 in y = np.zeros((B, O, H_out + 2 * padding, W_out + 2 * padding), x.dtype)"
LARGER = "a canvas that is larger than needed at the bottom and right is cut to the same picture"
EQUIVALENT = {CANVAS: LARGER, f"{CANVAS} #2": LARGER}

ALSO_RIGHT = (
    (TRANSPOSE, BY_ZEROS.format(make_room=CUT_OR_PAD)),
    (
        (
            """    for i in range(k):
        for j in range(k):
            under = padded[:, :, i : i + stride * H_out : stride, j : j + stride * W_out : stride]
            y += np.einsum("bchw,oc->bohw", under, weight[:, :, i, j])"""
        ),
        (
            """    for a in range(H_out):
        for b in range(W_out):
            patch = padded[:, :, a * stride : a * stride + k, b * stride : b * stride + k]
            y[:, :, a, b] = np.tensordot(patch, weight, axes=((1, 2, 3), (1, 2, 3)))"""
        ),
    ),
    (PLACES, "1 + (2 * padding + size - k) // stride"),
    (
        "return (size + 2 * padding - k) % stride",
        "there = conv_size("
        "size, k, stride, padding)\n    return size - conv_transpose_size(there, k, stride, padding, 0)",
    ),
)
