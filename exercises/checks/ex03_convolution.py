"""What exercise 3 asks for, compared with level 1's convolutions, which the tests compare with PyTorch's."""

import numpy as np

import vae_numpy as right
from checks.judging import agree, agree_on_cases

FORBIDDEN = ("vae_numpy", "vae_lowlevel", "conv_vae", "torch", "scipy")  # they hold the answer

# B, C, O, H, W, k, stride, padding, output_padding
CASES = (
    (2, 3, 4, 9, 7, 3, 2, 1, 1),
    (1, 1, 1, 8, 8, 3, 2, 1, 0),
    (3, 2, 5, 6, 11, 3, 1, 1, 0),
    (1, 3, 2, 7, 10, 4, 3, 2, 2),
    (3, 1, 2, 4, 5, 1, 1, 0, 0),
    (2, 2, 3, 5, 6, 2, 2, 2, 1),  # more padding than k - 1: of the outermost stamps nothing is left
)


def arrays(rng, dtype, *shapes):
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def convolutions(rng, back=False):
    """Cases of conv2d, or of the way back; the last leaves stride, padding and output_padding to their defaults."""
    for dtype in (np.float64, np.float32):
        for B, C, O, H, W, k, stride, padding, extra in CASES:
            names = ("stride", "padding", "output_padding")[: 3 if back else 2]
            how = dict(zip(names, (stride, padding, extra), strict=False))
            x, weight, bias = arrays(rng, dtype, (B, C, H, W), (C, O, k, k) if back else (O, C, k, k), (O,))
            yield dict(x=x, weight=weight, bias=bias, **how)
    x, weight, bias = arrays(rng, dtype, (1, 2, 8, 8), (2, 2, 3, 3), (2,))
    yield dict(x=x, weight=weight, bias=bias)


def sizes(rng):
    """Cases {size, k, stride, padding} in which a kernel fits into the padded image."""
    for _ in range(40):
        k, stride, padding = (int(n) for n in (rng.integers(1, 6), rng.integers(1, 4), rng.integers(0, 3)))
        yield dict(size=int(rng.integers(max(1, k - 2 * padding), 30)), k=k, stride=stride, padding=padding)


def size_of_conv2d(size, k, stride, padding):
    """The side of what level 1's conv2d returns."""
    x, weight = np.zeros((1, 1, size, size)), np.zeros((1, 1, k, k))
    return right.conv2d(x, weight, np.zeros(1), stride, padding).shape[-1]


def part_conv_size(work, rng):
    """conv_size: how many places the kernel takes"""

    def mistakes(y, n, k, s, p):
        return {
            "That is the number of steps; the places are one more.": (n + 2 * p - k) // s,
            "Padding goes on both sides.": (n + p - k) // s + 1,
            "A step over the edge is not taken: round down, with //.": (
                -((k - n - 2 * p) // s) + 1,
                (n + 2 * p - k) / s + 1,
            ),
        }

    agree_on_cases("conv_size", work.conv_size, size_of_conv2d, sizes(rng), mistakes, "the-maths")


def part_conv2d(work, rng):
    """conv2d: gather"""

    def mistakes(y, x, w, b, stride=2, padding=1):
        bare, width = right.conv2d(x, w, 0 * b, stride, padding), y.shape[3]
        flipped = (
            "The kernel is turned round. Deep learning does not flip it: weight[.., i, j] meets the pixel i below and "
            "j to the right of the patch's corner."
        )
        return {
            flipped: right.conv2d(x, w[:, :, ::-1, ::-1], b, stride, padding),
            "The kernel's rows and columns are exchanged.": right.conv2d(x, w.swapaxes(2, 3), b, stride, padding),
            "The bias is laid along the width; it belongs to the channels: bias[:, None, None].": (
                bare + b if len(b) in (1, width) else bare  # at other widths the mistake gives no answer
            ),
        }

    agree_on_cases("conv2d", work.conv2d, right.conv2d, convolutions(rng), mistakes, "the-maths")


def size_of_transpose(size, k, stride, padding, output_padding):
    return (size - 1) * stride - 2 * padding + k + output_padding


def part_conv_transpose_size(work, rng):
    """conv_transpose_size: the way back"""
    back = size_of_transpose

    def mistakes(y, n, k, s, p, extra):
        return {
            "Between `size` pixels there are size - 1 steps.": back(n + 1, k, s, p, extra),
            "Padding is cut off on both sides.": y + p,
        }

    cases = [dict(case, output_padding=int(rng.integers(0, case["stride"]))) for case in sizes(rng)]
    agree_on_cases("conv_transpose_size", work.conv_transpose_size, back, cases, mistakes, "the-way-back")


def part_conv_transpose2d(work, rng):
    """conv_transpose2d: scatter"""
    back = right.conv_transpose2d

    def mistakes(y, x, w, b, stride=2, padding=1, extra=1):
        whole, short = back(x, w, b, stride, 0, extra), back(x, w, 0 * b, stride, padding, 0)
        zeros_added = np.pad(short, ((0, 0), (0, 0), (0, extra), (0, extra))) + b[:, None, None]
        stamped = overwritten(x, w, b, stride, padding, extra)
        flipped = back(x, w[:, :, ::-1, ::-1], b, stride, padding, extra)
        return {
            "Patches overlap, and where they do they add: += instead of =.": stamped,
            "The kernel is turned round: each pixel stamps the kernel as it is.": flipped,
            "The kernel's rows and columns are exchanged.": back(x, w.swapaxes(2, 3), b, stride, padding, extra),
            "The rows and columns that output_padding adds are not zeros: cut the padding off the whole canvas, and "
            "the stamps that reach there are kept.": zeros_added,
            "The padding is cut off at the bottom and right only, not at the top and left.": whole[
                :, :, : y.shape[2], : y.shape[3]
            ],
        }

    agree_on_cases("conv_transpose2d", work.conv_transpose2d, back, convolutions(rng, True), mistakes, "the-way-back")


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


def lost(size, k, stride, padding):
    """What is missing when the transposed convolution without output_padding comes back."""
    return size - size_of_transpose(size_of_conv2d(size, k, stride, padding), k, stride, padding, 0)


def part_output_padding(work, rng):
    """output_padding_for: which of the sizes that the stride rounds to one"""

    def mistakes(y, n, k, s, p):
        return {
            "What the stride leaves over of the padded side less the kernel is asked for, size + 2 padding - k.": (
                (n + p - k) % s,
                (n - 1) % s,
                n % s,
            ),
            "One number is not right for all sides: what is left over depends on the side.": (s - 1, 1, 0),
        }

    agree_on_cases("output_padding_for", work.output_padding_for, lost, sizes(rng), mistakes, "the-way-back")


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
            read="the-way-back",
        )


HINTS = (
    "conv_size: put the kernel at the left edge of the padded row. How many whole steps of `stride` are left?",
    "conv_size: a whole number, one place more than there are steps. The padded row has size + 2 padding pixels.",
    "conv_size: (size + 2 * padding - k) // stride + 1",
    "conv2d: do not loop over the image: loop over the k x k places (i, j) of the kernel, and add up.",
    "conv2d: pad with np.pad. Under place (i, j) lie, in all patches, the pixels padded[:, :, i::stride, j::stride], "
    "cut to H' x W': (B, C, H', W'). weight[:, :, i, j] is (O, C).",
    'conv2d: y += np.einsum("bchw,oc->bohw", pixels, weight[:, :, i, j]); at last + bias[:, None, None].',
    "conv_transpose_size: the last of `size` stamps begins size - 1 strides after the first.",
    "conv_transpose_size: all of it: the stamps' width, less the padding on both sides, plus output_padding on one.",
    "conv_transpose_size: (size - 1) * stride - 2 * padding + k + output_padding",
    "conv_transpose2d: the same two loops backwards: what was read from [i::stride, j::stride] is now added there.",
    "conv_transpose2d: start from a canvas of zeros (B, O, H' + 2 padding, W' + 2 padding). Cut `padding` from the top "
    "and left, then keep H' x W'.",
    'conv_transpose2d: y[:, :, i : i + stride * H : stride, j : j + stride * W : stride] += np.einsum("bchw,co->bohw", '
    "x, weight[:, :, i, j])",
    "output_padding_for: conv2d threw something away when it rounded down. That is what is to be added.",
    "output_padding_for: a whole number from 0 to stride - 1, as a remainder is.",
    "output_padding_for: (size + 2 * padding - k) % stride",
)
