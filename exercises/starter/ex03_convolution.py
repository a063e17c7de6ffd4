"""Exercise 3: convolution and transposed convolution in NumPy. See exercises/03_convolution.md."""

import numpy as np  # noqa: F401


def conv_size(size, k, stride, padding):
    """How many places a kernel of side k takes along an axis of `size` pixels."""
    raise NotImplementedError


def conv2d(x, weight, bias, stride=2, padding=1):
    """x (B, C, H, W), weight (O, C, k, k), bias (O,) -> (B, O, H', W')."""
    raise NotImplementedError


def conv_transpose_size(size, k, stride, padding, output_padding):
    """The side of the image that a transposed convolution makes of `size` pixels."""
    raise NotImplementedError


def conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1):
    """x (B, C, H, W), weight (C, O, k, k), bias (O,) -> (B, O, H', W')."""
    raise NotImplementedError


def output_padding_for(size, k, stride, padding):
    """The output_padding with which the transposed convolution gives back `size`, the side that conv2d took."""
    raise NotImplementedError
