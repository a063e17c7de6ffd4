"""Exercise 11: the linear VAE, solved before it is trained. See exercises/11_linear_vae.md."""

import numpy as np  # noqa: F401


def spectrum(x):
    """x (N, d) -> eigenvalues (d,) of the data's covariance (divided by N), largest first, and axes (d, d).

    Column i of the axes is the eigenvector, of length 1, of eigenvalue i.
    """
    raise NotImplementedError


def best_log_likelihood(eigenvalues, q):
    """eigenvalues (d,), largest first; q < d latents -> a number: the best mean of log p(x), in nats per image."""
    raise NotImplementedError


def best_decoder(eigenvalues, axes, q):
    """What `spectrum` returns, and q < d -> W (d, q) and the number s2 of the best model, the largest axis first."""
    raise NotImplementedError


def exact_posterior(x, W, b, s2):
    """x (N, d), any W (d, q), b (d,), s2 -> the means (N, q) and the covariance (q, q) of p(z|x)."""
    raise NotImplementedError


def diagonal_gap(W, s2):
    """Any W (d, q), s2 -> a number: the nats of log p(x) - elbo when q(z|x) is the best diagonal Gaussian."""
    raise NotImplementedError


def water_filling(eigenvalues, q, s2, beta):
    """The best linear beta-VAE at fixed s2 -> (3,): rate in nats, squared error, number of active units."""
    raise NotImplementedError


def learned_s2(eigenvalues, q, beta):
    """The s2 of the best linear beta-VAE when s2 is learned too; q < d -> a number."""
    raise NotImplementedError
