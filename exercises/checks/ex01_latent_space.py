"""What exercise 1 asks for, compared with integrals on a grid, a nearest-neighbour search, and drawn samples."""

import numpy as np
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from checks.judging import Mismatch, agree_on_cases

TASK = "your-task-how-much-do-two-posteriors-overlap"


# --- overlap ------------------------------------------------------------------------------------------------------


def integral(mu1, std1, mu2, std2):
    """The integral of sqrt(q1 q2), dimension by dimension, by the trapezoidal rule, which such curves suit."""
    mu1, std1, mu2, std2 = (a[..., None].astype(np.float64) for a in np.broadcast_arrays(mu1, std1, mu2, std2))
    middle, width = (mu1 + mu2) / 2, np.maximum(std1, std2) + np.abs(mu1 - mu2)
    z = middle + width * np.linspace(-12, 12, 4_001)
    each = np.trapezoid if hasattr(np, "trapezoid") else np.trapz
    return each(np.sqrt(stats.norm.pdf(z, mu1, std1) * stats.norm.pdf(z, mu2, std2)), z).prod(axis=-1)


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

    def mistakes(y, mu1, std1, mu2, std2):
        v, gap, stds = std1**2 + std2**2, mu1 - mu2, std1 + std2
        root, bell = np.sqrt(2 * std1 * std2 / v), np.exp(-(gap**2) / (4 * v))
        return {
            "The root is missing: in front of the exponential stands sqrt(2 std1 std2 / v).": (root**2 * bell).prod(-1),
            "In the exponent stands 4 v, not 2 v: the root of a product of two Gaussians.": (root * bell**2).prod(-1),
            "In the exponent stands 4 v, not v.": (root * bell**4).prod(-1),
            "In the exponent stands 4 v, not 8 v.": (root * np.sqrt(bell)).prod(-1),
            "The distance must be squared in the exponent.": (
                (root * np.exp(-np.abs(gap) / (4 * v))).prod(-1),
                (root * np.exp(-gap / (4 * v))).prod(-1),
            ),
            "Python divides by 4 and then multiplies by v: write / (4 * v).": (root * np.exp(-(gap**2) / 4 * v)).prod(
                -1
            ),
            "v is the sum of the squares of the two std.": (
                (np.sqrt(2 * std1 * std2 / stds) * np.exp(-(gap**2) / (4 * stds))).prod(-1)
            ),
            "Dimensions are independent: multiply them, a sum or mean is no overlap.": (
                (root * bell).sum(-1),
                (root * bell).mean(-1),
            ),
            "One number for each dimension: multiply over the last axis.": root * bell,
            "One number for all pairs: multiply over the last axis only.": (root * bell).prod(),
        }

    agree_on_cases("overlap", work.overlap, integral, cases, mistakes, TASK)


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

    def mistakes(y, mu, labels):
        distance = ((mu[:, None] - mu[None]) ** 2).sum(axis=-1)
        return {
            "Every image is its own nearest neighbour: leave it out.": 1.0,
            "The number of images; divide by it for a share.": len(mu) * y,
            "In percent; a share from 0 to 1 is asked for.": 100 * y,
            "The share of those that differ.": 1 - y,
            "The farthest image, not the nearest.": (labels[distance.argmax(axis=1)] == labels).mean(),
            "By the first dimension alone; the distance is over all of them.": share(mu[:, :1], labels),
        }

    agree_on_cases("neighbours_agree", work.neighbours_agree, share, cases, mistakes, "run")


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

    def mistakes(y, mu, std):
        return {
            "The noise is missing: z spreads by std around mu.": (mu**2).mean(axis=0),
            "The means are missing.": (std**2).mean(axis=0),
            "std, not its square, is added.": (mu**2 + std).mean(axis=0),
            "(mu + std)^2 has a term 2 mu std that the noise averages away.": ((mu + std) ** 2).mean(axis=0),
            "That is the variance; the second moment is around 0, where the prior stands.": (
                mu.var(axis=0) + (std**2).mean(axis=0)
            ),
            "One number for each dimension: the mean is over the images, axis 0.": (
                (mu**2 + std**2).mean(axis=1),
                (mu**2 + std**2).mean(),
            ),
            "The sum over the images; take their mean.": (mu**2 + std**2).sum(axis=0),
        }

    once, again = (work.second_moment(**cases[0]) for _ in range(2))
    if not np.array_equal(once, again):
        raise Mismatch(
            "second_moment gave two answers to the same question.",
            expected="the mean over the noise itself, which needs no draw",
            mistake="The noise is drawn. What are E[eps] and E[eps^2]?",
            read="look-closer",
        )
    agree_on_cases("second_moment", work.second_moment, moment, cases, mistakes, "look-closer")


HINTS = (
    "overlap: v has the shape of std1 and std2 together; NumPy's broadcasting makes all pairs of (N, 1, Z) and "
    "(1, N, Z). The product over the dimensions is .prod(axis=-1).",
    "overlap: np.sqrt(2 * std1 * std2 / v) times np.exp(...), and only then the product.",
    "neighbours_agree: the page computes it in its first block. An image must not be its own neighbour: "
    "np.fill_diagonal.",
    "second_moment: E[(mu + std eps)^2] = mu^2 + 2 mu std E[eps] + std^2 E[eps^2]. What are E[eps] and E[eps^2]?",
)
