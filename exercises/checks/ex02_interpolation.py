"""What exercise 2 asks for, compared with the paths that the project's pictures take, and with SciPy's chi."""

import math

import numpy as np
from scipy import stats

from checks.judging import Mismatch, agree, agree_on_cases, numbers, show
from vae_common import latent_paths

FORBIDDEN = ("vae_common",)  # its latent paths hold the answer


def unit(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def paths(rng):
    """Cases {z0, z1, t}: ends of different norms, t beyond the ends too, Z = 2 to 40."""
    for dtype in (np.float64, np.float32):
        for Z, T in ((3, 5), (2, 1), (40, 7)):
            z0, z1 = ((scale * unit(rng.normal(size=Z))).astype(dtype) for scale in rng.uniform(0.5, 4, size=2))
            while abs(unit(z0) @ unit(z1)) > 0.9:  # near 1 the angle is lost in float32's rounding
                z1 = (np.linalg.norm(z1) * unit(rng.normal(size=Z))).astype(dtype)
            yield dict(z0=z0, z1=z1, t=rng.random(size=T).astype(dtype))
    yield dict(z0=np.array([1.0, 0.0]), z1=np.array([0.0, 2.0]), t=np.linspace(0, 1, 3))


def part_lerp(work, rng):
    """lerp: the straight line"""

    def mistakes(y, z0, z1, t):
        return {
            "It runs backwards: t = 0 is z0.": latent_paths.lerp(z1, z0, t),
        }

    agree_on_cases("lerp", work.lerp, latent_paths.lerp, paths(rng), mistakes, "the-maths")


def turned(z0, z1, t, *, unit=True, radius=True, sine=True):
    """The arc with one of its parts left out."""
    z0, z1, t = z0.astype(np.float64), z1.astype(np.float64), t[:, None].astype(np.float64)
    norm0, norm1 = np.linalg.norm(z0), np.linalg.norm(z1)
    omega = np.arccos(z0 @ z1 / (norm0 * norm1))
    a, b = (z0 / norm0, z1 / norm1) if unit else (z0, z1)
    path = np.sin((1 - t) * omega) * a + np.sin(t * omega) * b
    path = path / np.sin(omega) if sine else path
    return ((1 - t) * norm0 + t * norm1) * path if radius else path


def part_slerp(work, rng):
    """slerp: the arc"""

    def mistakes(y, z0, z1, t):
        norm0, norm1 = np.linalg.norm(z0), np.linalg.norm(z1)
        radius, arc = (1 - t[:, None]) * norm0 + t[:, None] * norm1, turned(z0, z1, t, radius=False)
        line = latent_paths.lerp(z0, z1, t)
        pushed_out = unit(latent_paths.lerp(z0 / norm0, z1 / norm1, t)), unit(line)
        return {
            "The slerp of much public code: the angle is that of the directions, but the sine weights stand on z0 and "
            "z1 themselves. Put them on u0 and u1, and give the norm r(t) afterwards.": (
                turned(z0, z1, t, unit=False, radius=False)
            ),
            "The norm r(t) is missing: all your points lie on the unit sphere.": arc,
            "The division by sin(omega) is missing.": turned(z0, z1, t, sine=False),
            "A straight line pushed out to the sphere: its turning is fastest in the middle.": (
                tuple(r * path for r in (radius, norm0, norm1, len(z0) ** 0.5) for path in pushed_out)
            ),
            "That is the straight line.": line,
            "It runs backwards: t = 0 is z0.": latent_paths.slerp(z1, z0, t),
            "The norm stays the same all the way; r(t) goes from that of z0 to that of z1.": (norm0 * arc, norm1 * arc),
        }

    agree_on_cases("slerp", work.slerp, latent_paths.slerp, paths(rng), mistakes, "the-maths")


def part_same_direction(work, rng):
    """slerp: two ends in one direction"""
    zero = (
        "With omega = 0 both sines are 0, and 0/0 is NaN: the direction stays what it is. (And u0 @ u1 may be a "
        "rounding above 1: np.clip it before arccos.)"
    )
    for Z in (1, 3, 20) * 30:  # often enough for a cosine that rounding puts above 1
        z0, factor, t = rng.normal(size=Z), float(rng.uniform(1.5, 3)), np.linspace(0, 1, 5)
        what, path = "slerp(z0, z1, t), both in one direction", work.slerp(z0, factor * z0, t)
        right = latent_paths.lerp(z0, factor * z0, t)
        if not np.isfinite(numbers(what, path)).all():
            raise Mismatch(what, show(right), show(path), zero, "the-maths")
        norm = {"The direction stays, but the norm still goes from that of z0 to that of z1.": np.tile(z0, (5, 1))}
        agree(what, path, right, mistakes=norm, read="the-maths", rel=1e-6)


def chi(Z):
    return stats.chi(Z).mean()


def part_expected_norm(work, rng):
    """expected_norm: the shell's radius"""
    cases = [dict(Z=int(Z)) for Z in (1, 2, 3, 20, *rng.integers(21, 300, size=3), 1000)]

    root = "sqrt(Z) is the root of the mean square; the mean of the norm is a little below it."

    def mistakes(y, Z):
        return {
            root: Z**0.5,
            "lgamma is the logarithm of Gamma: subtract the two, and take exp of the difference.": (
                2**0.5 * (math.lgamma((Z + 1) / 2) - math.lgamma(Z / 2))
            ),
        }

    small = cases[:-1]  # SciPy's own chi grows a little inexact with Z
    agree_on_cases("expected_norm", work.expected_norm, chi, small, mistakes, "the-maths", rel=1e-7)
    got, right = work.expected_norm(1_000_000), 1e3 - 2.5e-4  # sqrt(Z) - 1 / (4 sqrt(Z)); the next term is below 1e-9
    agree("expected_norm(1000000)", got, right, mistakes={root: 1e3}, read="the-maths", rel=1e-8)


def by_quarters(mu, factor, share=0.25):
    low, high = np.quantile(factor, share), np.quantile(factor, 1 - share)
    return mu[factor > high].mean(axis=0) - mu[factor < low].mean(axis=0)


def part_attribute_vector(work, rng):
    """attribute_vector: a difference of two means"""
    cases = []
    for dtype in (np.float64, np.float32):
        for N, Z in ((40, 3), (8, 1), (100, 20)):  # a whole quarter: no image stands on the border
            factor = rng.normal(size=N) + 5
            mu = (rng.normal(size=(N, Z)) + factor[:, None]).astype(dtype)
            cases.append(dict(mu=mu, factor=factor))

    def mistakes(y, mu, f):
        low, high = f.min() + np.ptp(f) * np.array([0.25, 0.75])
        return {
            "The mean of the upper quarter alone; take the lower one's away.": mu[f > np.quantile(f, 0.75)].mean(
                axis=0
            ),
            "Halves, split at the median; quarters are asked for.": by_quarters(mu, f, 0.5),
            "A quarter of the factor's range, not of the images.": mu[f > high].mean(axis=0) - mu[f < low].mean(axis=0),
        }

    agree_on_cases("attribute_vector", work.attribute_vector, by_quarters, cases, mistakes, "attribute-vectors")


HINTS = (
    "lerp: at t = 0 all of it is z0, at t = 1 all of it is z1.",
    "lerp: t has T numbers and the answer T rows, so t[:, None] is a column.",
    "lerp: (1 - t) * z0 + t * z1, with that column.",
    "slerp: the angle to u0 is t omega, that to u1 (1 - t) omega. So a + b cos(omega) = cos(t omega).",
    "slerp: omega is one number, np.arccos(u0 @ u1), the direction is (T, Z). a and b share the divisor sin(omega). "
    "What happens for omega = 0?",
    "slerp: a = np.sin((1 - t) * omega) / np.sin(omega), b with t. `if omega < 1e-6` return the line; and "
    "np.clip(u0 @ u1, -1, 1), as a cosine may come out a rounding above 1.",
    "expected_norm: the integral of r times the density, r^Z, divided by that of the density, r^(Z - 1).",
    "expected_norm: Gamma((Z + 1) / 2) / Gamma(Z / 2), times a number. Gamma overflows: take math.lgamma, its log.",
    "expected_norm: math.sqrt(2) * math.exp(math.lgamma((Z + 1) / 2) - math.lgamma(Z / 2))",
    "attribute_vector: which images belong to the upper quarter? Its border is a quantile of the factor.",
    "attribute_vector: np.quantile(factor, [0.25, 0.75]) gives both borders; factor > high is a mask (N,).",
    "attribute_vector: mu[factor > high].mean(axis=0), and the same below `low` taken off.",
)
