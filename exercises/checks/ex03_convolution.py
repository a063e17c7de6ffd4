"""What exercise 3 asks for, compared with level 1's convolutions, which the tests compare with PyTorch's."""

import numpy as np

import vae_numpy as right
from checks.judging import Wrong, agree, agree_on_cases

FORBIDDEN = ("vae_numpy", "vae_lowlevel", "conv_vae", "torch", "scipy")  # they hold the answer
PAGE = "03_convolution.md"

# B, C, O, H, W, k, stride, padding, output_padding
CASES = (
    (2, 3, 4, 9, 7, 3, 2, 1, 1),
    (1, 1, 1, 8, 8, 3, 2, 1, 0),
    (3, 2, 5, 6, 11, 3, 1, 1, 0),
    (1, 3, 2, 7, 10, 4, 3, 2, 2),
    (2, 2, 2, 5, 6, 2, 2, 0, 1),
    (3, 1, 2, 4, 5, 1, 1, 0, 0),
)


def arrays(rng, dtype, *shapes):
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def sizes(rng):
    """Cases {size, k, stride, padding} in which a kernel fits into the padded image."""
    for _ in range(40):
        k, stride, padding = (int(n) for n in (rng.integers(1, 6), rng.integers(1, 4), rng.integers(0, 3)))
        yield dict(size=int(rng.integers(max(1, k - 2 * padding), 30)), k=k, stride=stride, padding=padding)


# --- sizes --------------------------------------------------------------------------------------------------------


def size_of_conv2d(size, k, stride, padding):
    """The side of what level 1's conv2d returns."""
    x, weight = np.zeros((1, 1, size, size)), np.zeros((1, 1, k, k))
    return right.conv2d(x, weight, np.zeros(1), stride, padding).shape[-1]


def part_conv_size(work, rng):
    """conv_size: how many places the kernel takes"""
    mistakes = {
        "That is the number of steps; the places are one more.": lambda n, k, s, p: (n + 2 * p - k) // s,
        "Padding goes on both sides.": lambda n, k, s, p: (n + p - k) // s + 1,
        "A step over the edge is not taken: round down.": lambda n, k, s, p: -((k - n - 2 * p) // s) + 1,
        "Whole places only: divide with //.": lambda n, k, s, p: (n + 2 * p - k) / s + 1,
    }
    read = f"{PAGE}#the-maths"
    agree_on_cases("conv_size", work.conv_size, size_of_conv2d, list(sizes(rng)), mistakes=mistakes, read=read)


def size_of_transpose(size, k, stride, padding, output_padding):
    return (size - 1) * stride - 2 * padding + k + output_padding


def part_conv_transpose_size(work, rng):
    """conv_transpose_size: the way back"""
    back = size_of_transpose
    mistakes = {
        "output_padding is missing.": lambda n, k, s, p, extra: back(n, k, s, p, 0),
        "output_padding counts once: it adds at one side only.": lambda n, k, s, p, extra: back(n, k, s, p, 2 * extra),
        "Between `size` pixels there are size - 1 steps.": lambda n, k, s, p, extra: back(n + 1, k, s, p, extra),
        "Padding is cut off here, where conv2d added it.": lambda n, k, s, p, extra: back(n, k, s, -p, extra),
    }
    cases = [dict(case, output_padding=int(rng.integers(0, case["stride"]))) for case in sizes(rng)]
    read = f"{PAGE}#the-way-back"
    agree_on_cases("conv_transpose_size", work.conv_transpose_size, back, cases, mistakes=mistakes, read=read)


def lost(size, k, stride, padding):
    """What is missing when the transposed convolution without output_padding comes back."""
    return size - size_of_transpose(size_of_conv2d(size, k, stride, padding), k, stride, padding, 0)


def part_output_padding(work, rng):
    """output_padding_for: which of the sizes that the stride rounds to one"""
    mistakes = {
        "Right for k 3 and padding 1 alone; in general it is what the stride leaves over of size + 2 padding - k.": (
            lambda n, k, s, p: (n - 1) % s
        ),
        "The remainder of a division by the stride; 2 is only the stride of this model.": lambda n, k, s, p: (
            (n + 2 * p - k) % 2
        ),
        "1 is right for the even sizes of this model; other sizes need another number.": lambda n, k, s, p: 1,
        "0 gives back the smallest of the sizes only.": lambda n, k, s, p: 0,
    }
    cases, read = list(sizes(rng)), f"{PAGE}#the-way-back"
    agree_on_cases("output_padding_for", work.output_padding_for, lost, cases, mistakes=mistakes, read=read)


# --- gather -------------------------------------------------------------------------------------------------------


def part_conv2d(work, rng):
    """conv2d: gather"""
    cases = []
    for dtype in (np.float64, np.float32):
        for B, C, O, H, W, k, stride, padding, _ in CASES:
            x, weight, bias = arrays(rng, dtype, (B, C, H, W), (O, C, k, k), (O,))
            cases.append(dict(x=x, weight=weight, bias=bias, stride=stride, padding=padding))
    mistakes = {
        "The kernel is turned round. Deep learning does not flip it: weight[.., i, j] meets the pixel i below and j to "
        "the right of the patch's corner.": lambda x, w, b, *how: right.conv2d(x, w[:, :, ::-1, ::-1], b, *how),
        "The kernel's rows and columns are exchanged.": lambda x, w, b, *how: right.conv2d(
            x, w.swapaxes(2, 3), b, *how
        ),
        "The bias is missing.": lambda x, w, b, *how: right.conv2d(x, w, 0 * b, *how),
        "The bias is counted once for each place of the kernel.": lambda x, w, b, *how: right.conv2d(
            x, w, w.shape[2] ** 2 * b, *how
        ),
        "The bias is laid along the width; it belongs to the channels: bias[:, None, None].": bias_along_the_width,
        "The padding is missing.": lambda x, w, b, stride, padding: right.conv2d(x, w, b, stride, 0),
        "The stride is not used.": lambda x, w, b, stride, padding: right.conv2d(x, w, b, 1, padding),
    }
    read = f"{PAGE}#the-maths"
    agree_on_cases("conv2d", work.conv2d, right.conv2d, cases, mistakes=mistakes, read=read)
    x, weight, bias = arrays(rng, np.float64, (1, 2, 8, 8), (2, 2, 3, 3), (2,))
    what = "conv2d(x, weight, bias) with stride and padding left out (2 and 1)"
    agree(what, work.conv2d(x, weight, bias), right.conv2d(x, weight, bias), read=read)


def bias_along_the_width(x, weight, bias, stride, padding):
    y = right.conv2d(x, weight, 0 * bias, stride, padding)
    return y + bias if len(bias) in (1, y.shape[3]) else y  # at other widths the mistake gives no answer


# --- scatter ------------------------------------------------------------------------------------------------------


def part_conv_transpose2d(work, rng):
    """conv_transpose2d: scatter"""
    cases, back = [], right.conv_transpose2d
    for dtype in (np.float64, np.float32):
        for B, C, O, H, W, k, stride, padding, extra in CASES:
            x, weight, bias = arrays(rng, dtype, (B, C, H, W), (C, O, k, k), (O,))
            cases.append(dict(x=x, weight=weight, bias=bias, stride=stride, padding=padding, output_padding=extra))
    mistakes = {
        "Patches overlap, and where they do they add: += instead of =.": overwritten,
        "The kernel is turned round: each pixel stamps the kernel as it is.": lambda x, w, b, *how: back(
            x, w[:, :, ::-1, ::-1], b, *how
        ),
        "The kernel's rows and columns are exchanged.": lambda x, w, b, *how: back(x, w.swapaxes(2, 3), b, *how),
        "The bias is missing.": lambda x, w, b, *how: back(x, w, 0 * b, *how),
        "The rows and columns that output_padding adds are not zeros: they are a part of the canvas that the padding "
        "would have cut off.": zeros_added,
        "The padding is cut off at the bottom and right only; cut as much from the top and left.": not_cut_in_front,
    }
    read = f"{PAGE}#the-way-back"
    agree_on_cases("conv_transpose2d", work.conv_transpose2d, back, cases, mistakes=mistakes, read=read)
    x, weight, bias = arrays(rng, np.float64, (1, 2, 5, 5), (2, 2, 3, 3), (2,))
    what = "conv_transpose2d(x, weight, bias) with stride, padding and output_padding left out (2, 1 and 1)"
    agree(what, work.conv_transpose2d(x, weight, bias), back(x, weight, bias), read=read)


def overwritten(x, weight, bias, stride, padding, extra):
    """Patches stamped one over the other."""
    (B, _, H, W), (_, O, k, _) = x.shape, weight.shape
    H_out, W_out = (size_of_transpose(side, k, stride, padding, extra) for side in (H, W))
    y = np.zeros((B, O, H_out + 2 * padding, W_out + 2 * padding), x.dtype)
    for i in range(k):
        for j in range(k):
            stamp = np.einsum("bchw,co->bohw", x, weight[:, :, i, j])
            y[:, :, i : i + stride * H : stride, j : j + stride * W : stride] = stamp
    return y[:, :, padding : padding + H_out, padding : padding + W_out] + bias[:, None, None]


def zeros_added(x, weight, bias, stride, padding, extra):
    short = right.conv_transpose2d(x, weight, 0 * bias, stride, padding, 0)
    return np.pad(short, ((0, 0), (0, 0), (0, extra), (0, extra))) + bias[:, None, None]


def not_cut_in_front(x, weight, bias, stride, padding, extra):
    whole = right.conv_transpose2d(x, weight, bias, stride, 0, extra)
    H_out, W_out = (side - 2 * padding for side in whole.shape[2:])
    return whole[:, :, :H_out, :W_out]


# --- both ---------------------------------------------------------------------------------------------------------


def part_adjoint(work, rng):
    """conv_transpose2d: the identity <A x, y> = <x, A' y> between your two"""
    for _, C, O, H, _, k, stride, padding, _ in CASES:
        x, weight = arrays(rng, np.float64, (2, C, H, H), (O, C, k, k))
        extra = int(work.output_padding_for(H, k, stride, padding))
        forward = work.conv2d(x, weight, np.zeros(O), stride, padding)
        y = rng.normal(size=forward.shape)
        agree(
            f"<x, A' y> with k={k}, stride={stride}, padding={padding}, output_padding={extra}",
            (x * work.conv_transpose2d(y, weight, np.zeros(C), stride, padding, extra)).sum(),
            (forward * y).sum(),
            read=f"{PAGE}#the-way-back",
        )


PARTS = (
    part_conv_size,
    part_conv2d,
    part_conv_transpose_size,
    part_conv_transpose2d,
    part_output_padding,
    part_adjoint,
)

HINTS = (
    "conv_size: put the kernel at the left edge of the padded row. How many whole steps of `stride` are left?",
    "conv2d: pad with np.pad. Do not loop over the image: loop over the k x k places (i, j) of the kernel. For one of "
    "them, the pixels under it in all patches are padded[:, :, i::stride, j::stride], cut to H' x W'.",
    "conv2d: those pixels are (B, C, H', W') and weight[:, :, i, j] is (O, C): "
    'np.einsum("bchw,oc->bohw", pixels, weight[:, :, i, j]), added up over (i, j).',
    "conv_transpose_size: solve conv_size's formula for `size`, as if nothing were left over; what conv2d left over at "
    "the edge is output_padding.",
    "conv_transpose2d: the same two loops backwards. Start from a canvas of zeros of side H' + 2 padding; what was "
    "read from [i::stride, j::stride] is now added there. Cut `padding` from the top and left, then keep H' x W'.",
    "output_padding_for: conv2d throws away the remainder of (size + 2 padding - k) / stride.",
)

PLACES = "(size + 2 * padding - k) // stride + 1"
GATHER = """            y += np.einsum("bchw,oc->bohw", under, weight[:, :, i, j])
    return y + bias[:, None, None]"""
CUT = "y[:, :, padding : padding + H_out, padding : padding + W_out]"

WRONG = (
    Wrong("steps for places", PLACES, "(size + 2 * padding - k) // stride", "one more"),
    Wrong("padding on one side", PLACES, "(size + padding - k) // stride + 1", "both sides"),
    Wrong("rounding up", PLACES, "-((k - size - 2 * padding) // stride) + 1", "round down"),
    Wrong("a size with a fraction", PLACES, "(size + 2 * padding - k) / stride + 1", "//"),
    Wrong("a flipped kernel", "under, weight[:, :, i, j]", "under, weight[:, :, -1 - i, -1 - j]", "turned round"),
    Wrong("rows and columns", "under, weight[:, :, i, j]", "under, weight[:, :, j, i]", "rows and columns"),
    Wrong("no bias", GATHER, GATHER.replace(" + bias[:, None, None]", ""), "bias is missing"),
    Wrong("bias along the width", GATHER, GATHER.replace("[:, None, None]", ""), "belongs to the channels"),
    Wrong(
        "bias in the loop",
        GATHER,
        GATHER.replace(" + bias[:, None, None]", "").replace("i, j])", "i, j]) + bias[:, None, None]"),
        "once for each place",
    ),
    Wrong(
        "the image changed in place", "    padded = np.pad(x,", "    x *= 2\n    padded = np.pad(x / 2,", "changes an"
    ),
    Wrong("output_padding forgotten", "padding + k + output_padding", "padding + k", "output_padding is missing"),
    Wrong("one step too many", "(size - 1) * stride", "size * stride", "size - 1 steps"),
    Wrong("overlaps overwritten", "stride * W : stride] += stamp", "stride * W : stride] = stamp", "+="),
    Wrong("a kernel flipped back", "x, weight[:, :, i, j]", "x, weight[:, :, k - 1 - i, k - 1 - j]", "turned round"),
    Wrong("no bias on the way back", f"return {CUT} + bias[:, None, None]", f"return {CUT}", "bias is missing"),
    Wrong("cut at one end", CUT, "y[:, :, :H_out, :W_out]", "top and left"),
    Wrong(
        "zeros for output_padding",
        f"return {CUT}",
        "more = (0, output_padding)\n    y = y[:, :, padding : padding + H_out - output_padding, padding : padding + "
        "W_out - output_padding]\n    return np.pad(y, ((0, 0), (0, 0), more, more))",
        "not zeros",
    ),
    Wrong("always 1", "(size + 2 * padding - k) % stride", "1", "other sizes"),
    Wrong(
        "this model's stride", "(size + 2 * padding - k) % stride", "(size + 2 * padding - k) % 2", "only the stride"
    ),
    Wrong("for this model alone", "(size + 2 * padding - k) % stride", "(size - 1) % stride", "k 3 and padding 1"),
)

CANVAS = "conv_transpose2d: 2 -> 3 in y = np.zeros((B, O, H_out + 2 * padding, W_out + 2 * padding), x.dtype)"
LARGER = "a canvas that is larger than needed at the bottom and right is cut to the same picture"
EQUIVALENT = {CANVAS: LARGER, f"{CANVAS} #2": LARGER}

ALSO_RIGHT = (
    Wrong(
        "one patch at a time",
        """    for i in range(k):
        for j in range(k):
            under = padded[:, :, i : i + stride * H_out : stride, j : j + stride * W_out : stride]
            y += np.einsum("bchw,oc->bohw", under, weight[:, :, i, j])""",
        """    for a in range(H_out):
        for b in range(W_out):
            patch = padded[:, :, a * stride : a * stride + k, b * stride : b * stride + k]
            y[:, :, a, b] = np.tensordot(patch, weight, axes=((1, 2, 3), (1, 2, 3)))""",
    ),
    Wrong("another order of the terms", PLACES, "1 + (2 * padding + size - k) // stride"),
    Wrong(
        "the remainder after the way there and back",
        "return (size + 2 * padding - k) % stride",
        "there = conv_size("
        "size, k, stride, padding)\n    return size - conv_transpose_size(there, k, stride, padding, 0)",
    ),
)
