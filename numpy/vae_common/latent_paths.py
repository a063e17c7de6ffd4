"""Where to decode: the grid of a latent plane, ways between two latent points, walks along one dimension."""

from statistics import NormalDist

import numpy as np

from vae_common.arrays import checked_array


def manifold_grid(side: int) -> np.ndarray:
    """Latent points (side*side, 2), denser where N(0, I) is denser; the top row (largest z2) comes first.

    A regular grid on the unit square through the inverse Gaussian CDF, at (i + 0.5) / side: never 0 or 1,
    where the inverse is infinite. Kingma & Welling 2014, Fig. 4. Raises ValueError for side < 1.
    """
    if side < 1:
        raise ValueError(f"side: expected at least 1, found {side}")
    quantiles = np.array([NormalDist().inv_cdf((i + 0.5) / side) for i in range(side)])
    return np.stack(np.meshgrid(quantiles, quantiles[::-1]), axis=-1).reshape(-1, 2)


def lerp(z0: np.ndarray, z1: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The straight line (1 - t) z0 + t z1 as (T, Z), from vectors (Z,) and t (T,), beyond [0, 1] too."""
    z0, z1, t, dtype = _path(z0, z1, t)
    return ((1 - t) * z0 + t * z1).astype(dtype)


def slerp(z0: np.ndarray, z1: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The path (T, Z) whose direction turns along the great circle evenly while its norm changes linearly.

    direction(t) = [sin((1 - t) w) u0 + sin(t w) u1] / sin w, with u0, u1 the unit vectors of z0, z1 (Z,)
    and w their angle. sin(t w) / sin w is written t sinc(t w) / sinc(w), which is t, as in lerp, at w = 0.
    Shoemake 1985; White 2016. Raises ValueError for a zero vector, and for opposite ones, which infinitely
    many great circles join.
    """
    z0, z1, t, dtype = _path(z0, z1, t)
    norm0, norm1 = np.linalg.norm(z0), np.linalg.norm(z1)
    if min(norm0, norm1) == 0:
        raise ValueError("slerp: expected vectors with a direction, found a zero vector; use lerp")
    u0, u1 = z0 / norm0, z1 / norm1
    apart, together = np.linalg.norm(u0 - u1), np.linalg.norm(u0 + u1)
    if together < 1e-6:
        raise ValueError("slerp: z0 and z1 are opposite, so no one great circle joins them; use lerp")
    turns = 2 * np.arctan2(apart, together) / np.pi  # the angle w over pi, as np.sinc wants it
    towards0, towards1 = (s * np.sinc(s * turns) / np.sinc(turns) for s in (1 - t, t))
    return (((1 - t) * norm0 + t * norm1) * (towards0 * u0 + towards1 * u1)).astype(dtype)


def traversal(z: np.ndarray, dim: int, values: np.ndarray) -> np.ndarray:
    """Copies of z (Z,) as (T, Z), with coordinate `dim` set to each of values (T,)."""
    z, values = checked_array("z", z, None), checked_array("values", values, None)
    if not 0 <= dim < len(z):
        raise ValueError(f"dim: expected 0 to {len(z) - 1}, found {dim}")
    path = np.tile(z, (len(values), 1)).astype(np.result_type(z, np.float16))
    path[:, dim] = values
    return path


def _path(z0: np.ndarray, z1: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, ...]:
    """The two ends in float64, t as a column, and the dtype to give back."""
    z0 = checked_array("z0", z0, None)
    z1, t = checked_array("z1", z1, len(z0)), checked_array("t", t, None)
    dtype = np.result_type(z0, z1, np.float16)  # a float type, whatever the ends are
    return z0.astype(np.float64), z1.astype(np.float64), t.astype(np.float64)[:, None], dtype
