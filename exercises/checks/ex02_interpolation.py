"""What exercise 2 asks for, compared with the paths that the project's pictures take, and with SciPy's chi."""

import functools
import math

import numpy as np
from scipy import stats

from checks.judging import Mismatch, Wrong, agree, agree_on_cases, numbers
from vae_common import figures

FORBIDDEN = ("vae_common",)  # its figures hold the answer
PAGE = "02_interpolation.md"


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
    mistakes = {
        "It runs backwards: t = 0 is z0.": lambda z0, z1, t: figures.lerp(z1, z0, t),
        "(1 - t) belongs to z0: it must be the whole of z0 at t = 0.": lambda z0, z1, t: z0 + t[:, None] * z1,
        "One row for each t: (T, Z), not (Z, T).": lambda z0, z1, t: figures.lerp(z0, z1, t).T,
    }
    read = f"{PAGE}#the-maths"
    agree_on_cases("lerp", work.lerp, figures.lerp, list(paths(rng)), mistakes=mistakes, read=read)


# --- the arc ------------------------------------------------------------------------------------------------------


def turned(z0, z1, t, *, unit=True, radius=True, sine=True, omega=None):
    """The arc, or with one of its parts left out or another in its place."""
    z0, z1, t = z0.astype(np.float64), z1.astype(np.float64), t[:, None].astype(np.float64)
    norm0, norm1 = np.linalg.norm(z0), np.linalg.norm(z1)
    omega = np.arccos(z0 @ z1 / (norm0 * norm1)) if omega is None else omega
    a, b = (z0 / norm0, z1 / norm1) if unit else (z0, z1)
    path = np.sin((1 - t) * omega) * a + np.sin(t * omega) * b
    path = path / np.sin(omega) if sine else path
    return ((1 - t) * norm0 + t * norm1) * path if radius else path


def by_cosine(z0, z1, t, smallest=-np.inf):
    """The arc with the cosine for omega; the straight line where that is below `smallest`."""
    omega = unit(z0.astype(np.float64)) @ unit(z1.astype(np.float64))
    return figures.lerp(z0, z1, t) if omega < smallest else turned(z0, z1, t, omega=omega)


def other_radius(radius):
    """The arc with another norm on the way: radius(norm0, norm1)."""

    def path(z0, z1, t):
        return radius(np.linalg.norm(z0), np.linalg.norm(z1)) * turned(z0, z1, t, radius=False)

    return path


def straight(z0, z1, t):
    """The straight line, pushed out to the right norm: the turning is uneven."""
    path = figures.lerp(z0 / np.linalg.norm(z0), z1 / np.linalg.norm(z1), t)
    radius = figures.lerp(np.linalg.norm(z0)[None], np.linalg.norm(z1)[None], t)
    return radius * path / np.linalg.norm(path, axis=1, keepdims=True)


def crossed(z0, z1, t):
    """The directions exchanged, and the norms not."""
    arc = turned(z1, z0, t, radius=False)
    return figures.lerp(np.linalg.norm(z0)[None], np.linalg.norm(z1)[None], t) * arc


def part_slerp(work, rng):
    """slerp: the arc"""
    mistakes = {
        "The arc turns the whole vectors; turn the directions, and give the norm r(t) afterwards.": lambda *args: (
            turned(*args, unit=False, radius=False)
        ),
        "The norm is counted twice: take r(t) times the arc between unit vectors.": lambda *args: turned(
            *args, unit=False
        ),
        "The norm r(t) is missing: all your points lie on the unit sphere.": lambda *args: turned(*args, radius=False),
        "The division by sin(omega) is missing.": lambda *args: turned(*args, sine=False),
        "A straight line pushed out to the sphere: its turning is fastest in the middle.": straight,
        "That is the straight line.": figures.lerp,
        "It runs backwards: t = 0 is z0.": lambda z0, z1, t: figures.slerp(z1, z0, t),
        "The directions run backwards, the norm does not: u0 goes with sin((1 - t) omega).": crossed,
        "The norm stays the same all the way; r(t) goes from that of z0 to that of z1.": (
            other_radius(lambda norm0, norm1: norm0),
            other_radius(lambda norm0, norm1: norm1),
            other_radius(lambda norm0, norm1: (norm0 + norm1) / 2),
            other_radius(lambda norm0, norm1: np.sqrt(norm0 * norm1)),
        ),
        "omega is the angle, the arccos of u0 @ u1, not the cosine itself.": (
            by_cosine,
            functools.partial(by_cosine, smallest=1e-6),
        ),
        "One row for each t: (T, Z), not (Z, T).": lambda z0, z1, t: figures.slerp(z0, z1, t).T,
    }
    read = f"{PAGE}#the-maths"
    cases = list(paths(rng))
    try:
        agree_on_cases("slerp", work.slerp, figures.slerp, cases, mistakes=mistakes, read=read)
    except Mismatch as error:
        nameless = "largest difference" in error.lines["likely"] or "not finite" in error.lines["likely"]
        if nameless and not all(np.abs(numbers("slerp", work.slerp(*case.values()))).max() < 1e6 for case in cases):
            error.lines["likely"] = "Is omega the arccos of u0 @ u1? z0 @ z1 may lie outside -1 to 1."
        raise


def part_same_direction(work, rng):
    """slerp: two ends in one direction"""
    zero = (
        "With omega = 0 both sines are 0, and 0/0 is NaN: the direction stays what it is. (And u0 @ u1 may be a "
        "rounding above 1: np.clip it before arccos.)"
    )
    norm = "The direction stays, but the norm still goes from that of z0 to that of z1."
    for Z in (1, 3, 20) * 10:  # often enough for a cosine that rounding puts above 1
        z0, factor, t = rng.normal(size=Z), float(rng.uniform(1.5, 3)), np.linspace(0, 1, 5)
        what, path = "slerp(z0, z1, t), both in one direction", work.slerp(z0, factor * z0, t)
        try:
            agree(what, path, figures.lerp(z0, factor * z0, t), rel=1e-6)
        except Mismatch as error:
            path = numbers(what, path)
            if not np.isfinite(path).all():
                error.lines["likely"] = zero
            elif path.shape == (5, Z) and np.allclose(path, path[:1]):
                error.lines["likely"] = norm
            raise


# --- norms --------------------------------------------------------------------------------------------------------


def chi(Z):
    return stats.chi(Z).mean()


def part_expected_norm(work, rng):
    """expected_norm: the shell's radius"""
    cases = [dict(Z=int(Z)) for Z in (1, 2, 3, 20, *rng.integers(21, 300, size=3), 1000)]
    mistakes = {
        "sqrt(Z) is the root of the mean square; the mean of the norm is a little below it.": lambda Z: Z**0.5,
        "sqrt(Z - 1) is the most likely norm, not the mean.": lambda Z: (Z - 1) ** 0.5,
        "The mean of |z|^2 is Z; asked for is that of |z|.": lambda Z: Z,
        "The sqrt(2) is missing.": lambda Z: chi(Z) / 2**0.5,
        "sqrt(Z - 1/2) is near for large Z; the formula with Gamma is exact.": lambda Z: (Z - 0.5) ** 0.5,
        "lgamma is the logarithm of Gamma: subtract the two, and take exp of the difference.": (
            lambda Z: 2**0.5 * (math.lgamma((Z + 1) / 2) - math.lgamma(Z / 2)),
            lambda Z: math.lgamma((Z + 1) / 2) - math.lgamma(Z / 2),
            lambda Z: 2**0.5 * np.divide(math.lgamma((Z + 1) / 2), math.lgamma(Z / 2)),
        ),
        "That is its inverse times 2: Gamma((Z + 1) / 2) stands above.": lambda Z: 2 / chi(Z),
    }
    read = f"{PAGE}#the-maths"
    small = cases[:-1]  # SciPy's own chi grows a little inexact with Z
    agree_on_cases("expected_norm", work.expected_norm, chi, small, mistakes=mistakes, read=read, rel=1e-7)
    agree(
        "expected_norm(1000000)",
        work.expected_norm(1_000_000),
        1e3 - 2.5e-4,  # sqrt(Z) - 1 / (4 sqrt(Z)), the next term is below 1e-9
        rel=1e-8,
        mistakes={"sqrt(Z) is the root of the mean square; the mean of the norm is a little below it.": 1e3},
        read=read,
    )


# --- attributes ---------------------------------------------------------------------------------------------------


def means(mu, factor):
    low, high = np.quantile(factor, 0.25), np.quantile(factor, 0.75)
    return mu[factor < low].mean(axis=0), mu[factor > high].mean(axis=0)


def by_range(mu, factor):
    low, high = factor.min() + np.ptp(factor) * np.array([0.25, 0.75])
    return mu[factor > high].mean(axis=0) - mu[factor < low].mean(axis=0)


def part_attribute_vector(work, rng):
    """attribute_vector: a difference of two means"""
    cases = []
    for dtype in (np.float64, np.float32):
        for N, Z in ((40, 3), (8, 1), (100, 20)):  # a whole quarter: no image stands on the border
            factor = rng.normal(size=N) + 5
            mu = (rng.normal(size=(N, Z)) + factor[:, None]).astype(dtype)
            cases.append(dict(mu=mu, factor=factor))
    mistakes = {
        "The sign is turned: from little of the factor to much of it.": lambda mu, f: means(mu, f)[0] - means(mu, f)[1],
        "The mean of the upper quarter alone; take the lower one's away.": lambda mu, f: means(mu, f)[1],
        "Halves, split at the median; quarters are asked for.": lambda mu, f: (
            mu[f > np.median(f)].mean(axis=0) - mu[f < np.median(f)].mean(axis=0)
        ),
        "Thirds or tenths or other shares; quarters are asked for.": tuple(
            lambda mu, f, q=q: mu[f > np.quantile(f, 1 - q)].mean(axis=0) - mu[f < np.quantile(f, q)].mean(axis=0)
            for q in (0.1, 0.2, 1 / 3)
        ),
        "The factor's largest and smallest image alone; take quarters.": lambda mu, f: mu[f.argmax()] - mu[f.argmin()],
        "One number; the mean is over the images, axis 0.": lambda mu, f: (
            means(mu, f)[1].mean() - means(mu, f)[0].mean()
        ),
        "A quarter of the factor's range; asked for is a quarter of the images.": by_range,
        "The first and the last quarter of the images as they come; sort them by the factor.": lambda mu, f: (
            mu[-(len(f) // 4) :].mean(axis=0) - mu[: len(f) // 4].mean(axis=0)
        ),
        "The sums are divided by all N; divide by the images of the quarter.": lambda mu, f: (
            (means(mu, f)[1] - means(mu, f)[0]) * (len(f) // 4) / len(f)
        ),
        "Medians; the quarters' means are asked for.": lambda mu, f: (
            np.median(mu[f > np.quantile(f, 0.75)], axis=0) - np.median(mu[f < np.quantile(f, 0.25)], axis=0)
        ),
        "The vector is brought to length 1; its own length is wanted.": lambda mu, f: unit(
            means(mu, f)[1] - means(mu, f)[0]
        ),
        "Sums; the quarters' means are asked for.": lambda mu, f: (
            mu[f > np.quantile(f, 0.75)].sum(axis=0) - mu[f < np.quantile(f, 0.25)].sum(axis=0)
        ),
    }
    read = f"{PAGE}#attribute-vectors"

    def right(mu, factor):
        low, high = means(mu, factor)
        return high - low

    agree_on_cases("attribute_vector", work.attribute_vector, right, cases, mistakes=mistakes, read=read)


def unit(v):
    return v / np.linalg.norm(v)


PARTS = (part_lerp, part_slerp, part_same_direction, part_expected_norm, part_attribute_vector)

HINTS = (
    "lerp: t has T numbers and the answer T rows, so t[:, None] is a column, and the rest is the formula.",
    "slerp: first the directions u0 = z0 / |z0| and u1; omega is np.arccos(u0 @ u1); then the formula, with t as a "
    "column. What happens for omega = 0?",
    "slerp: `if omega < 1e-6` return the straight line. And np.clip(u0 @ u1, -1, 1): a cosine may come out a rounding "
    "above 1.",
    "expected_norm: Gamma(Z / 2) overflows at Z = 342. math.lgamma is its log: exp(lgamma(a) - lgamma(b)).",
    "attribute_vector: np.quantile(factor, [0.25, 0.75]) gives both borders; mu[factor > high] are the rows above.",
)

ARC = "direction = (np.sin((1 - t) * omega) * u0 + np.sin(t * omega) * u1) / np.sin(omega)"
RADIUS = "return ((1 - t) * norm0 + t * norm1) * direction"
CHI = "math.sqrt(2) * math.exp(math.lgamma((Z + 1) / 2) - math.lgamma(Z / 2))"
QUARTILES = "np.quantile(factor, [0.25, 0.75])"
BOTH = "mu[factor > high].mean(axis=0) - mu[factor < low].mean(axis=0)"

WRONG = (
    Wrong("a line backwards", "return (1 - t) * z0 + t * z1", "return t * z0 + (1 - t) * z1", "backwards"),
    Wrong("all of z0 all the way", "return (1 - t) * z0 + t * z1", "return z0 + t * z1", "belongs to z0"),
    Wrong(
        "whole vectors turned",
        f"{ARC}\n    {RADIUS}",
        ARC.replace("u0", "z0").replace("u1", "z1") + "\n    return direction",
        "turns the whole vectors",
    ),
    Wrong("a norm squared", ARC, ARC.replace("u0", "z0").replace("u1", "z1"), "counted twice"),
    Wrong("unit sphere", RADIUS, "return direction", "unit sphere"),
    Wrong("no sine below", ARC, ARC.replace(" / np.sin(omega)", ""), "division by sin"),
    Wrong("a line for the arc", ARC, "return lerp(z0, z1, t[:, 0])", "straight line"),
    Wrong(
        "a line pushed out",
        ARC,
        "direction = (1 - t) * u0 + t * u1\n    direction /= np.linalg.norm(direction, axis=1, keepdims=True)",
        "pushed out",
    ),
    Wrong("the norm of z0 alone", RADIUS, "return norm0 * direction", "stays the same"),
    Wrong("the geometric mean", RADIUS, "return np.sqrt(norm0 * norm1) * direction", "stays the same"),
    Wrong("the cosine for the angle", "np.arccos(np.clip(u0 @ u1, -1, 1))", "u0 @ u1", "arccos of"),
    Wrong("the angle of whole vectors", "np.clip(u0 @ u1, -1, 1)", "z0 @ z1", "outside -1 to 1"),
    Wrong(
        "sines exchanged",
        ARC,
        "direction = (np.sin(t * omega) * u0 + np.sin((1 - t) * omega) * u1) / np.sin(omega)",
        "norm does",
    ),
    Wrong("transposed", RADIUS, f"return ({RADIUS.removeprefix('return ')}).T", "not (Z, T)"),
    Wrong("a list", "return (1 - t) * z0 + t * z1", "return list((1 - t) * z0 + t * z1)", "np.array"),
    Wrong("an end changed", "u0, u1 = z0 / norm0, z1 / norm1", "z0 /= norm0\n    u0, u1 = z0, z1 / norm1", "in place"),
    Wrong("one point all the way", "return lerp(z0, z1, t[:, 0])", "return z0 + 0 * t", "still goes"),
    Wrong("a cosine above 1", "np.clip(u0 @ u1, -1, 1)", "u0 @ u1", "np.clip"),
    Wrong("0/0", "    if omega < 1e-6:\n        return lerp(z0, z1, t[:, 0])\n", "", "0/0 is NaN"),
    Wrong("sqrt(Z)", CHI, "math.sqrt(Z)", "a little below"),
    Wrong("the mode", CHI, "math.sqrt(Z - 1)", "most likely norm"),
    Wrong("nearly the mean", CHI, "math.sqrt(Z - 0.5)", "near for large Z"),
    Wrong("no exp", CHI, CHI.replace("math.exp", ""), "take exp"),
    Wrong("a ratio of logarithms", CHI, "math.sqrt(2) * math.lgamma((Z + 1) / 2) / math.lgamma(Z / 2)", "take exp"),
    Wrong("upside down", CHI, "math.sqrt(2) * math.exp(math.lgamma(Z / 2) - math.lgamma((Z + 1) / 2))", "stands above"),
    Wrong("Gamma overflows", CHI, "math.sqrt(2) * math.gamma((Z + 1) / 2) / math.gamma(Z / 2)", "OverflowError"),
    Wrong("attribute turned", BOTH, "mu[factor < low].mean(axis=0) - mu[factor > high].mean(axis=0)", "sign is turned"),
    Wrong("halves", "[0.25, 0.75]", "[0.5, 0.5]", "Halves"),
    Wrong("one mean", BOTH, "mu[factor > high].mean(axis=0)", "lower one's"),
    Wrong("sums", BOTH, BOTH.replace("mean", "sum"), "Sums"),
    Wrong("medians", BOTH, "np.median(mu[factor > high], axis=0) - np.median(mu[factor < low], axis=0)", "Medians"),
    Wrong("mean of all numbers", BOTH, BOTH.replace("axis=0", ""), "axis 0"),
    Wrong(
        "a quarter of the range",
        QUARTILES,
        "factor.min() + np.ptp(factor) * np.array([0.25, 0.75])",
        "the factor's range",
    ),
    Wrong("unsorted", BOTH, "mu[-(len(mu) // 4) :].mean(axis=0) - mu[: len(mu) // 4].mean(axis=0)", "sort them"),
    Wrong("divided by N", BOTH, f"({BOTH.replace('mean', 'sum')}) / len(mu)", "divided by all N"),
)

EQUIVALENT = {
    f"attribute_vector: factor > high -> factor >= high in return {BOTH}": "no image stands on the border of a quarter",
    f"attribute_vector: factor < low -> factor <= low in return {BOTH}": "no image stands on the border of a quarter",
    "slerp: 1 -> 2 in omega = np.arccos(np.clip(u0 @ u1, -1, 1))": "no cosine of these paths is near -1",
    "slerp: omega < 1e-06 -> omega <= 1e-06 in if omega < 1e-6:": "no angle is exactly 1e-6",
    "slerp: 1e-06 -> 2e-06 in if omega < 1e-6:": "any small angle serves",
    "slerp: 0 -> -1 in return lerp(z0, z1, t[:, 0])": "of one column the first is the last",
}

ALSO_RIGHT = (
    Wrong(
        "the angle by arctan2",
        "np.arccos(np.clip(u0 @ u1, -1, 1))",
        "2 * np.arctan2(np.linalg.norm(u0 - u1), np.linalg.norm(u0 + u1))",
    ),
    Wrong(
        "a loop over t",
        "    t = np.asarray(t)[:, None]\n    return (1 - t) * z0 + t * z1",
        "    return np.array([z0 + s * (z1 - z0) for s in (t[:, 0] if np.ndim(t) == 2 else t)])",
    ),
    Wrong("the border in the quarter", BOTH, BOTH.replace(">", ">=").replace("<", "<=")),
    Wrong(
        "quarters by sorting",
        f"low, high = {QUARTILES}\n    return {BOTH}",
        "order, n = np.argsort(factor), len(factor) // 4\n"
        "    return mu[order[-n:]].mean(axis=0) - mu[order[:n]].mean(axis=0)",
    ),
    Wrong(
        "a product for Gamma",
        CHI,
        "np.sqrt(Z) - 1 / (4 * np.sqrt(Z)) + 1 / (32 * Z**1.5) + 5 / (128 * Z**2.5) - 21 / "
        "(2048 * Z**3.5) if Z > 300 else np.sqrt(2) * math.gamma((Z + 1) / 2) / math.gamma(Z / 2)",
    ),
)
