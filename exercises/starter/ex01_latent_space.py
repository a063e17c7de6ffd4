"""Exercise 1: how near are two posteriors, and what are an image's neighbours? See exercises/01_latent_space.md."""

import numpy as np  # noqa: F401


def overlap(mu1, std1, mu2, std2):
    """Bhattacharyya coefficient of diagonal Gaussians (..., Z) -> (...), from 0 (disjoint) to 1 (the same)."""
    raise NotImplementedError


def neighbours_agree(mu, labels):
    """The share of images whose nearest other image, by mu (N, Z), has the same label (N,): 0 to 1."""
    raise NotImplementedError


def second_moment(mu, std):
    """E[z^2] of each dimension over images and noise, z = mu + std eps; mu, std (N, Z) -> (Z,). The prior's is 1."""
    raise NotImplementedError
