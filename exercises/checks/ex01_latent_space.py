"""What exercise 1 asks for, compared with a search for neighbours, integrals on a grid, and a sum image by image."""

import math

import numpy as np
from scipy import stats
from scipy.spatial import KDTree

from checks.judging import agree_on_cases

HOLES, OVERLAP, APART = "your-task-holes-and-overlaps", "two-posteriors", "how-many-images"


def empty(draws, mu, radius):
    return np.mean(KDTree(mu).query(draws)[0] > radius)


def part_holes(work, rng):
    """holes: where no image is near"""
    cases = []
    for M, N, Z, radius in ((40, 31, 2, 0.3), (50, 12, 1, 0.1), (30, 40, 7, 2.5), (9, 1, 3, 1.5)):
        draws, mu = rng.normal(size=(M, Z)), 0.5 + 1.5 * rng.normal(size=(N, Z))
        cases.append(dict(draws=draws, mu=mu, radius=radius))
    cases.append(dict(draws=cases[0]["draws"].astype(np.float32), mu=cases[0]["mu"].astype(np.float32), radius=0.4))

    def mistakes(y, draws, mu, radius):
        distance = np.sqrt(((draws[:, None] - mu) ** 2).sum(axis=-1))
        return {
            "The squared distance is compared with the radius: take its root.": (
                distance.min(axis=1) ** 2 > radius
            ).mean(),
            "Of all pairs; a draw lies in a hole if even its nearest mean is too far.": (distance > radius).mean(),
        }

    agree_on_cases("holes", work.holes, empty, cases, mistakes, HOLES)


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
        for first, second in (((5, 3), (5, 3)), ((4, 1, 2), (1, 3, 2)), ((1,), (1,))):
            mu1, mu2 = rng.normal(size=first).astype(dtype), rng.normal(size=second).astype(dtype)
            std1, std2 = (np.exp(rng.normal(size=shape) / 2).astype(dtype) for shape in (first, second))
            cases.append(dict(mu1=mu1, std1=std1, mu2=mu2, std2=std2))

    def mistakes(y, mu1, std1, mu2, std2):
        v, gap, stds = std1**2 + std2**2, mu1 - mu2, std1 + std2
        root, bell = np.sqrt(2 * std1 * std2 / v), np.exp(-(gap**2) / (4 * v))
        of_stds = np.sqrt(2 * std1 * std2 / stds) * np.exp(-(gap**2) / (4 * stds))
        front = (
            "In front of the exponential stands sqrt(2 std1 std2 / v), from the densities' constants and the integral."
        )
        exponent = "In the exponent stands 4 v, all of it below: the root of a product of two Gaussians."
        return {
            front: ((root**2 * bell).prod(-1), bell.prod(-1)),
            exponent: ((root * bell**2).prod(-1), (root * bell**4).prod(-1), (root * bell ** (v**2)).prod(-1)),
            "v is the sum of the squares of the two std.": of_stds.prod(-1),
            "Dimensions are independent: multiply them.": ((root * bell).sum(-1), (root * bell).mean(-1)),
        }

    agree_on_cases("overlap", work.overlap, integral, cases, mistakes, OVERLAP)


def effective_number(overlaps):
    """Image by image: the nats that it takes to find it among those that it could be, averaged."""
    N = len(overlaps)
    return math.exp(sum(math.log(N / sum(row)) for row in overlaps.tolist()) / N)


def part_told_apart(work, rng):
    """told_apart: the number of images that the overlaps leave"""
    group = np.repeat(np.arange(4), [3, 1, 4, 2])
    cases = [dict(overlaps=(group[:, None] == group).astype(float))]
    for N, dtype in ((12, np.float64), (30, np.float32)):
        mu = rng.normal(size=(N, 2))
        cases.append(dict(overlaps=np.exp(-((mu[:, None] - mu) ** 2).sum(axis=-1)).astype(dtype)))

    def mistakes(y, overlaps):
        share, nats = overlaps.mean(axis=1), -np.log(overlaps)
        return {
            "Shares are averaged, or their inverses; average the nats.": (1 / share.mean(), (1 / share).mean()),
            "Single overlaps have their logarithm taken; first comes the mean of a row.": np.exp(nats.mean()),
        }

    agree_on_cases("told_apart", work.told_apart, effective_number, cases, mistakes, APART)


HINTS = (
    "holes: a draw lies in a hole if even the nearest of all the means is farther away than `radius`.",
    "holes: draws[:, None] - mu is (M, N, Z), so the distances are (M, N); the smallest of each row is (M,).",
    "holes: (distance.min(axis=1) > radius).mean(), where the distance is np.sqrt of the squares' sum over axis -1.",
    "overlap: complete the square in one dimension. What is left without z is a factor, the rest a bell to integrate.",
    "overlap: NumPy's broadcasting makes all pairs of (N, 1, Z) and (1, N, Z); multiply over the last axis alone.",
    "overlap: with v = std1**2 + std2**2 a dimension has np.sqrt(2 * std1 * std2 / v) * np.exp(-gap**2 / (4 * v)).",
    "told_apart: an image that could be any of a share s of them is found by log(1 / s) nats. Average the nats.",
    "told_apart: s is the mean of a row, (N,); the answer is one number, e to the power of the mean nats.",
    "told_apart: np.exp(-np.log(overlaps.mean(axis=1)).mean())",
)
