"""Exercise 2: paths through the latent space, and what they leave. See exercises/02_interpolation.md."""

import math  # noqa: F401

import numpy as np  # noqa: F401


def lerp(z0, z1, t):
    """The straight line: z0, z1 (Z,), t (T,) -> (T, Z)."""
    raise NotImplementedError


def slerp(z0, z1, t):
    """The arc: even turning, norm from that of z0 to that of z1; z0, z1 (Z,), t (T,) -> (T, Z)."""
    raise NotImplementedError


def expected_norm(Z):
    """The mean of |z| for z ~ N(0, I_Z), for every Z up to a million."""
    raise NotImplementedError


def attribute_vector(mu, factor):
    """Mean of mu (N, Z) over the upper quarter of factor (N,), less that over the lower quarter -> (Z,)."""
    raise NotImplementedError
