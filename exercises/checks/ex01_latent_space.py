"""What exercise 1 asks for, compared with integrals on a grid, a nearest-neighbour search, and drawn samples."""

import numpy as np
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from checks.judging import Mismatch, Wrong, agree_on_cases

PAGE = "01_latent_space.md"
TASK = f"{PAGE}#your-task-how-much-do-two-posteriors-overlap"


# --- overlap ------------------------------------------------------------------------------------------------------


def integral(mu1, std1, mu2, std2):
    """The integral of sqrt(q1 q2), dimension by dimension, by the trapezoidal rule, which such curves suit."""
    mu1, std1, mu2, std2 = (a[..., None].astype(np.float64) for a in np.broadcast_arrays(mu1, std1, mu2, std2))
    middle, width = (mu1 + mu2) / 2, np.maximum(std1, std2) + np.abs(mu1 - mu2)
    z = middle + width * np.linspace(-12, 12, 4_001)
    each = np.trapezoid if hasattr(np, "trapezoid") else np.trapz
    return each(np.sqrt(stats.norm.pdf(z, mu1, std1) * stats.norm.pdf(z, mu2, std2)), z).prod(axis=-1)


def coefficient(power=0.5, four=4.0, squared=2, std_power=2):
    """The formula, or with another number in it the mistake."""

    def overlap(mu1, std1, mu2, std2):
        v = std1**std_power + std2**std_power
        root = (2 * std1 * std2 / v) ** power
        return (root * np.exp(-(np.abs(mu1 - mu2) ** squared) / (four * v))).prod(axis=-1)

    return overlap


def part_overlap(work, rng):
    """overlap: the Bhattacharyya coefficient"""
    cases = []
    for dtype in (np.float64, np.float32):
        for first, second in (((5, 3), (5, 3)), ((4, 1, 2), (1, 3, 2)), ((1,), (1,)), ((7, 1), (7, 1))):
            mu1, mu2 = rng.normal(size=first).astype(dtype), rng.normal(size=second).astype(dtype)
            std1, std2 = (np.exp(rng.normal(size=shape) / 2).astype(dtype) for shape in (first, second))
            cases.append(dict(mu1=mu1, std1=std1, mu2=mu2, std2=std2))
    mu, std = rng.normal(size=(3, 2)), np.exp(rng.normal(size=(3, 2)))
    cases.append(dict(mu1=mu, std1=std, mu2=mu, std2=std))
    mistakes = {
        "The root is missing: in front of the exponential stands sqrt(2 std1 std2 / v).": coefficient(power=1),
        "In the exponent stands 4 v, not 2 v: the root of a product of two Gaussians.": coefficient(four=2),
        "In the exponent stands 4 v, not v.": coefficient(four=1),
        "In the exponent stands 4 v, not 8 v.": coefficient(four=8),
        "The distance must be squared in the exponent.": (
            coefficient(squared=1),
            signed,
        ),
        "Python divides by 4 and then multiplies by v: write / (4 * v).": times_v,
        "v is the sum of the squares of the two std.": coefficient(std_power=1),
        "Dimensions are independent: multiply them, a sum or mean is no overlap.": (
            lambda *args: per_dimension(*args).sum(axis=-1),
            lambda *args: per_dimension(*args).mean(axis=-1),
        ),
        "One number for each dimension: multiply over the last axis.": lambda *args: per_dimension(*args),
        "One number for all pairs: multiply over the last axis only.": lambda *args: per_dimension(*args).prod(),
    }
    agree_on_cases("overlap", work.overlap, integral, cases, mistakes=mistakes, read=TASK)


def signed(mu1, std1, mu2, std2):
    v = std1**2 + std2**2
    return (np.sqrt(2 * std1 * std2 / v) * np.exp(-(mu1 - mu2) / (4 * v))).prod(axis=-1)


def times_v(mu1, std1, mu2, std2):
    v = std1**2 + std2**2
    return (np.sqrt(2 * std1 * std2 / v) * np.exp(-((mu1 - mu2) ** 2) / 4 * v)).prod(axis=-1)


def per_dimension(mu1, std1, mu2, std2):
    return coefficient()(*(np.asarray(a)[..., None] for a in (mu1, std1, mu2, std2)))


# --- neighbours ---------------------------------------------------------------------------------------------------


def share(mu, labels):
    _, index = NearestNeighbors(n_neighbors=2).fit(mu).kneighbors(mu)
    return np.mean(labels[index[:, 1]] == labels)


def part_neighbours(work, rng):
    """neighbours_agree: who lies next to whom"""
    cases = []
    for N, Z, classes in ((31, 2, 3), (12, 1, 2), (40, 7, 4), (2, 3, 2)):
        labels = rng.integers(0, classes, size=N)
        cases.append(dict(mu=rng.normal(size=(N, Z)) + labels[:, None], labels=labels))
    cases.append(dict(cases[0], mu=cases[0]["mu"].astype(np.float32)))
    mistakes = {
        "Every image is its own nearest neighbour: leave it out.": lambda mu, labels: 1.0,
        "The number of images; divide by it for a share.": lambda mu, labels: len(mu) * share(mu, labels),
        "In percent; a share from 0 to 1 is asked for.": lambda mu, labels: 100 * share(mu, labels),
        "The share of those that differ.": lambda mu, labels: 1 - share(mu, labels),
        "The farthest image, not the nearest.": farthest,
        "By the first dimension alone; the distance is over all of them.": lambda mu, labels: share(mu[:, :1], labels),
    }
    agree_on_cases("neighbours_agree", work.neighbours_agree, share, cases, mistakes=mistakes, read=f"{PAGE}#run")


def farthest(mu, labels):
    distance = ((mu[:, None] - mu[None]) ** 2).sum(axis=-1)
    return (labels[distance.argmax(axis=1)] == labels).mean()


# --- the second moment --------------------------------------------------------------------------------------------


def moment(mu, std):
    """E[z^2] = Var z + (E z)^2 of the mixture of all posteriors, with Gauss-Hermite quadrature for the noise."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    z = mu[..., None] + std[..., None] * nodes
    return (z**2 @ weights / weights.sum()).mean(axis=0)


def part_second_moment(work, rng):
    """second_moment: how wide the cloud is"""
    cases = []
    for dtype in (np.float64, np.float32):
        for N, Z in ((5, 3), (1, 4), (17, 1)):
            mu, std = rng.normal(size=(N, Z)).astype(dtype), np.exp(rng.normal(size=(N, Z))).astype(dtype)
            cases.append(dict(mu=mu, std=std))
    mistakes = {
        "The noise is missing: z spreads by std around mu.": lambda mu, std: (mu**2).mean(axis=0),
        "The means are missing.": lambda mu, std: (std**2).mean(axis=0),
        "std, not its square, is added.": lambda mu, std: (mu**2 + std).mean(axis=0),
        "(mu + std)^2 has a term 2 mu std that the noise averages away.": lambda mu, std: ((mu + std) ** 2).mean(
            axis=0
        ),
        "That is the variance; the second moment is around 0, where the prior stands.": lambda mu, std: (
            mu.var(axis=0) + (std**2).mean(axis=0)
        ),
        "One number for each dimension: the mean is over the images, axis 0.": (
            lambda mu, std: (mu**2 + std**2).mean(axis=1),
            lambda mu, std: (mu**2 + std**2).mean(),
        ),
        "The sum over the images; take their mean.": lambda mu, std: (mu**2 + std**2).sum(axis=0),
    }
    read = f"{PAGE}#look-closer"
    once, again = (work.second_moment(**cases[0]) for _ in range(2))
    if not np.array_equal(once, again):
        raise Mismatch(
            "second_moment gave two answers to the same question.",
            expected="the mean over the noise itself, which needs no draw",
            mistake="The noise is drawn. What are E[eps] and E[eps^2]?",
            read=read,
        )
    agree_on_cases("second_moment", work.second_moment, moment, cases, mistakes=mistakes, read=read)


PARTS = (part_overlap, part_neighbours, part_second_moment)

HINTS = (
    "overlap: v has the shape of std1 and std2 together; NumPy's broadcasting makes all pairs of (N, 1, Z) and "
    "(1, N, Z). The product over the dimensions is .prod(axis=-1).",
    "overlap: np.sqrt(2 * std1 * std2 / v) times np.exp(...), and only then the product.",
    "neighbours_agree: the page computes it in its first block. An image must not be its own neighbour: "
    "np.fill_diagonal.",
    "second_moment: E[(mu + std eps)^2] = mu^2 + 2 mu std E[eps] + std^2 E[eps^2]. What are E[eps] and E[eps^2]?",
)

ROOT = "np.sqrt(2 * std1 * std2 / v)"
SECOND = "(mu**2 + std**2).mean(axis=0)"

WRONG = (
    Wrong("no root", ROOT, "(2 * std1 * std2 / v)", "root is missing"),
    Wrong("2 v in the exponent", "(4 * v)", "(2 * v)", "not 2 v"),
    Wrong("distance not squared", "-((mu1 - mu2) ** 2)", "-np.abs(mu1 - mu2)", "must be squared"),
    Wrong("difference not squared", "-((mu1 - mu2) ** 2)", "-(mu1 - mu2)", "must be squared"),
    Wrong("v on the wrong side", "(4 * v)", "4 * v", "then multiplies"),
    Wrong("std added, not squares", "v = std1**2 + std2**2", "v = std1 + std2", "sum of the squares"),
    Wrong("a mean over the dimensions", ".prod(axis=-1)", ".mean(axis=-1)", "multiply them"),
    Wrong("all axes at once", ".prod(axis=-1)", ".prod()", "last axis only"),
    Wrong("its own neighbour", "    np.fill_diagonal(distance, np.inf)\n", "", "its own nearest neighbour"),
    Wrong("a count", "== labels).mean()", "== labels).sum()", "divide by it"),
    Wrong("percent", "return (labels[", "return 100 * (labels[", "In percent"),
    Wrong(
        "the farthest",
        "    np.fill_diagonal(distance, np.inf)\n    return (labels[distance.argmin(axis=1)]",
        "    return (labels[distance.argmax(axis=1)]",
        "farthest",
    ),
    Wrong("drawn noise", SECOND, "((mu + std * np.random.normal(size=mu.shape)) ** 2).mean(axis=0)", "noise is drawn"),
    Wrong("means only", SECOND, "(mu**2).mean(axis=0)", "noise is missing"),
    Wrong("variance", SECOND, "mu.var(axis=0) + (std**2).mean(axis=0)", "That is the variance"),
    Wrong("mean over the dimensions", SECOND, "(mu**2 + std**2).mean(axis=1)", "over the images"),
    Wrong("std not squared", SECOND, "(mu**2 + std).mean(axis=0)", "not its square"),
)

SQUARES = "((mu[:, None] - mu[None]) ** 2)"
EQUIVALENT = {
    f"neighbours_agree: {SQUARES}.sum -> {SQUARES}.mean in distance = {SQUARES}.sum(axis=-1)  # (N, N)": (
        "the same images are nearest by the mean of the squares"
    ),
    "neighbours_agree: 1 -> 0 in return (labels[distance.argmin(axis=1)] == labels).mean()": (
        "the distances are symmetric"
    ),
}

ALSO_RIGHT = (
    Wrong(
        "logarithms added",
        "(np.sqrt(2 * std1 * std2 / v) * np.exp(-((mu1 - mu2) ** 2) / (4 * v))).prod(axis=-1)",
        "np.exp((0.5 * np.log(2 * std1 * std2 / v) - (mu1 - mu2) ** 2 / (4 * v)).sum(axis=-1))",
    ),
    Wrong("neighbours by sorting", "distance.argmin(axis=1)", "np.argsort(distance, axis=1)[:, 0]"),
    Wrong("a variance and a mean", SECOND, "mu.var(axis=0) + mu.mean(axis=0) ** 2 + (std**2).mean(axis=0)"),
)
