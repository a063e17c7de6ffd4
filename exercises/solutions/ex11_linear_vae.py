"""Exercise 11: the linear VAE, solved before it is trained. See exercises/11_linear_vae.md."""

import numpy as np


def spectrum(x):
    """x (N, d) -> eigenvalues (d,) of the data's covariance (divided by N), largest first, and axes (d, d).

    Column i of the axes is the eigenvector, of length 1, of eigenvalue i.
    """
    centred = x - x.mean(axis=0)
    eigenvalues, axes = np.linalg.eigh(centred.T @ centred / len(x))
    return eigenvalues[::-1], axes[:, ::-1]


def best_log_likelihood(eigenvalues, q):
    """eigenvalues (d,), largest first; q < d latents -> a number: the best mean of log p(x), in nats per image."""
    d, s2 = len(eigenvalues), eigenvalues[q:].mean()
    return -0.5 * (d * np.log(2 * np.pi) + np.log(eigenvalues[:q]).sum() + (d - q) * np.log(s2) + d)


def best_decoder(eigenvalues, axes, q):
    """What `spectrum` returns, and q < d -> W (d, q) and the number s2 of the best model, the largest axis first."""
    s2 = eigenvalues[q:].mean()
    return axes[:, :q] * np.sqrt(eigenvalues[:q] - s2), s2


def exact_posterior(x, W, b, s2):
    """x (N, d), any W (d, q), b (d,), s2 -> the means (N, q) and the covariance (q, q) of p(z|x)."""
    covariance = np.linalg.inv(np.eye(W.shape[1]) + W.T @ W / s2)
    return (x - b) @ W @ covariance / s2, covariance


def diagonal_gap(W, s2):
    """Any W (d, q), s2 -> a number: the nats of log p(x) - elbo when q(z|x) is the best diagonal Gaussian."""
    precision = np.eye(W.shape[1]) + W.T @ W / s2
    return 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])


def water_filling(eigenvalues, q, s2, beta):
    """The best linear beta-VAE at fixed s2 -> (3,): rate in nats, squared error, number of active units."""
    level, kept = beta * s2, eigenvalues[:q]
    rate = 0.5 * np.log(np.maximum(kept / level, 1)).sum()
    return np.array([rate, np.minimum(kept, level).sum() + eigenvalues[q:].sum(), (kept > level).sum()])


def learned_s2(eigenvalues, q, beta):
    """The s2 of the best linear beta-VAE when s2 is learned too; q < d -> a number."""
    d = len(eigenvalues)
    return min(eigenvalues[k:].sum() / (d - beta * k) for k in range(q + 1) if beta * k < d)
