"""Exercise 1: the holes of a latent plane, and what its posteriors share. See exercises/01_latent_space.md."""

import numpy as np  # noqa: F401


def holes(draws, mu, radius):
    """draws (M, Z) of the prior, means mu (N, Z) -> the share of draws that have no mean within `radius`: 0 to 1."""
    raise NotImplementedError


def overlap(mu1, std1, mu2, std2):
    """The integral of sqrt(q1 q2) of diagonal Gaussians (..., Z) -> (...), from 0 (disjoint) to 1 (the same)."""
    raise NotImplementedError


def told_apart(overlaps):
    """The overlap of every two of N images (N, N), 1 with itself -> a number: how many can be told apart, 1 to N."""
    raise NotImplementedError
