"""Exercise 1: the holes of a latent plane, and what its posteriors share. See exercises/01_latent_space.md."""

import numpy as np


def holes(draws, mu, radius):
    """draws (M, Z) of the prior, means mu (N, Z) -> the share of draws that have no mean within `radius`: 0 to 1."""
    distance = np.sqrt(((draws[:, None] - mu) ** 2).sum(axis=-1))  # (M, N)
    return (distance.min(axis=1) > radius).mean()


def overlap(mu1, std1, mu2, std2):
    """The integral of sqrt(q1 q2) of diagonal Gaussians (..., Z) -> (...), from 0 (disjoint) to 1 (the same)."""
    v = std1**2 + std2**2
    return (np.sqrt(2 * std1 * std2 / v) * np.exp(-((mu1 - mu2) ** 2) / (4 * v))).prod(axis=-1)


def told_apart(overlaps):
    """The overlap of every two of N images (N, N), 1 with itself -> a number: how many can be told apart, 1 to N."""
    return np.exp(-np.log(overlaps.mean(axis=1)).mean())
