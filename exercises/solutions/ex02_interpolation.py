"""Exercise 2: paths through the latent space, and what they leave. See exercises/02_interpolation.md."""

import math

import numpy as np


def lerp(z0, z1, t):
    """The straight line: z0, z1 (Z,), t (T,) -> (T, Z)."""
    t = np.asarray(t)[:, None]
    return (1 - t) * z0 + t * z1


def slerp(z0, z1, t):
    """The arc: even turning, norm from that of z0 to that of z1; z0, z1 (Z,), t (T,) -> (T, Z)."""
    t = np.asarray(t)[:, None]
    norm0, norm1 = np.linalg.norm(z0), np.linalg.norm(z1)
    u0, u1 = z0 / norm0, z1 / norm1
    omega = np.arccos(np.clip(u0 @ u1, -1, 1))
    if omega < 1e-6:
        return lerp(z0, z1, t[:, 0])
    direction = (np.sin((1 - t) * omega) * u0 + np.sin(t * omega) * u1) / np.sin(omega)
    return ((1 - t) * norm0 + t * norm1) * direction


def expected_norm(Z):
    """The mean of |z| for z ~ N(0, I_Z), for every Z up to a million."""
    return math.sqrt(2) * math.exp(math.lgamma((Z + 1) / 2) - math.lgamma(Z / 2))


def attribute_vector(mu, factor):
    """Mean of mu (N, Z) over the upper quarter of factor (N,), less that over the lower quarter -> (Z,)."""
    low, high = np.quantile(factor, [0.25, 0.75])
    return mu[factor > high].mean(axis=0) - mu[factor < low].mean(axis=0)
