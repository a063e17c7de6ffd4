"""Exercise 7: rate, distortion and what the code holds. See exercises/07_rate_distortion.md."""

import numpy as np


def pixel_entropy(x):
    """x (N, 1, H, W) in [0, 1], each pixel the probability of a 1 -> a number: nats per image, 0 ln 0 = 0."""
    p = np.stack([x, 1 - x])
    return -(p * np.log(np.where(p > 0, p, 1))).sum() / len(x)


def distortion_without_z(x):
    """x (N, 1, H, W) in [0, 1] -> a number: the least D of a decoder that gives every image the same picture."""
    return pixel_entropy(x.mean(axis=0, keepdims=True))


def log_densities(z, mu, logvar):
    """z (M, Z), mu and logvar (N, Z) -> (M, N): log q(z_m | x_n), each a diagonal Gaussian."""
    squares = (z[:, None] - mu) ** 2 * np.exp(-logvar)  # (M, N, Z)
    return -0.5 * (squares + logvar + np.log(2 * np.pi)).sum(axis=-1)


def log_aggregate(z, mu, logvar):
    """z (M, Z), mu and logvar (N, Z) -> (M,): log q(z_m), where q(z) is the mean of the N posteriors."""
    log_q = log_densities(z, mu, logvar)
    return np.logaddexp.reduce(log_q, axis=1) - np.log(len(mu))


def information(z, index, mu, logvar):
    """z (M, Z), mu and logvar (N, Z) -> (M,): what each code says about its image, in nats; the mean estimates I.

    index (M,) has for each code the number n of the posterior that it was drawn from.
    """
    own = log_densities(z, mu, logvar)[np.arange(len(z)), index]
    return own - log_aggregate(z, mu, logvar)


def frontier_rate(variances, s2, beta):
    """variances (K,) of the data, s2 of the decoder -> a number: R in nats, where D + beta R is least."""
    return 0.5 * np.log(np.maximum(variances / (beta * s2), 1)).sum()


def frontier_distortion(variances, s2, beta):
    """variances (K,), s2 as above -> a number: D = -E log p(x|z) in nats, all constants counted, at the same place."""
    errors = np.minimum(variances, beta * s2)
    return 0.5 * (errors / s2 + np.log(2 * np.pi * s2)).sum()
