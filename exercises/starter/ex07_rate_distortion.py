"""Exercise 7: rate, distortion and what the code holds. See exercises/07_rate_distortion.md."""

import numpy as np  # noqa: F401


def pixel_entropy(x):
    """x (N, 1, H, W) in [0, 1], each pixel the probability of a 1 -> a number: nats per image, 0 ln 0 = 0."""
    raise NotImplementedError


def distortion_without_z(x):
    """x (N, 1, H, W) in [0, 1] -> a number: the least D of a decoder that gives every image the same picture."""
    raise NotImplementedError


def log_densities(z, mu, logvar):
    """z (M, Z), mu and logvar (N, Z) -> (M, N): log q(z_m | x_n), each a diagonal Gaussian."""
    raise NotImplementedError


def log_aggregate(z, mu, logvar):
    """z (M, Z), mu and logvar (N, Z) -> (M,): log q(z_m), where q(z) is the mean of the N posteriors."""
    raise NotImplementedError


def information(z, index, mu, logvar):
    """z (M, Z), mu and logvar (N, Z) -> (M,): what each code says about its image, in nats; the mean estimates I.

    index (M,) has for each code the number n of the posterior that it was drawn from.
    """
    raise NotImplementedError


def frontier_rate(variances, s2, beta):
    """variances (K,) of the data, s2 of the decoder -> a number: R in nats, where D + beta R is least."""
    raise NotImplementedError


def frontier_distortion(variances, s2, beta):
    """variances (K,), s2 as above -> a number: D = -E log p(x|z) in nats, all constants counted, at the same place."""
    raise NotImplementedError
