"""Exercise 3: convolution and transposed convolution in NumPy. See exercises/03_convolution.md."""

import numpy as np


def conv_size(size, k, stride, padding):
    """How many places a kernel of side k takes along an axis of `size` pixels."""
    return (size + 2 * padding - k) // stride + 1


def conv2d(x, weight, bias, stride=2, padding=1):
    """x (B, C, H, W), weight (O, C, k, k), bias (O,) -> (B, O, H', W')."""
    (B, _, H, W), (O, _, k, _) = x.shape, weight.shape
    H_out, W_out = (conv_size(side, k, stride, padding) for side in (H, W))
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    y = np.zeros((B, O, H_out, W_out), x.dtype)
    for i in range(k):
        for j in range(k):
            under = padded[:, :, i : i + stride * H_out : stride, j : j + stride * W_out : stride]
            y += np.einsum("bchw,oc->bohw", under, weight[:, :, i, j])
    return y + bias[:, None, None]


def conv_transpose_size(size, k, stride, padding, output_padding):
    """The side of the image that a transposed convolution makes of `size` pixels."""
    return (size - 1) * stride - 2 * padding + k + output_padding


def conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1):
    """x (B, C, H, W), weight (C, O, k, k), bias (O,) -> (B, O, H', W')."""
    (B, _, H, W), (_, O, k, _) = x.shape, weight.shape
    H_out, W_out = (conv_transpose_size(side, k, stride, padding, output_padding) for side in (H, W))
    y = np.zeros((B, O, H_out + 2 * padding, W_out + 2 * padding), x.dtype)
    for i in range(k):
        for j in range(k):
            stamp = np.einsum("bchw,co->bohw", x, weight[:, :, i, j])
            y[:, :, i : i + stride * H : stride, j : j + stride * W : stride] += stamp
    return y[:, :, padding : padding + H_out, padding : padding + W_out] + bias[:, None, None]


def output_padding_for(size, k, stride, padding):
    """The output_padding with which the transposed convolution gives back `size`, the side that conv2d took."""
    return (size + 2 * padding - k) % stride
