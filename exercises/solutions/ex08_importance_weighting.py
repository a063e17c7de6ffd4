"""Exercise 8: importance weights. See exercises/08_importance_weighting.md."""

import numpy as np


def log_weights(recon, z, mu, logvar):
    """recon (B, K) = -log p(x|z), z (B, K, Z) from q, mu and logvar (B, Z) of q -> log w (B, K)."""
    mu, logvar = mu[:, None], logvar[:, None]  # (B, 1, Z)
    squares = (z - mu) ** 2 * np.exp(-logvar)  # (B, K, Z): eps^2
    return -recon + 0.5 * (squares + logvar - z**2).sum(axis=-1)  # log 2 pi cancels between prior and q


def importance_bound(log_w):
    """log w (B, K) -> (B,): the log of the mean weight, one draw of L_K for each image."""
    return np.logaddexp.reduce(log_w, axis=1) - np.log(log_w.shape[1])


def bound_of_groups(log_w, k):
    """log w (B, K) -> (B,): L_k, the mean over the K // k groups of k weights in a row, the rest at the end dropped."""
    B, K = log_w.shape
    groups = log_w[:, : K // k * k].reshape(-1, k)
    return importance_bound(groups).reshape(B, -1).mean(axis=1)


def effective_sample_size(log_w):
    """log w (B, K) -> (B,): how many equal weights are worth as much, from 1 (one has it all) to K (all are equal)."""
    w = np.exp(log_w - log_w.max(axis=1, keepdims=True))
    return w.sum(axis=1) ** 2 / (w**2).sum(axis=1)


def expected_share(c, Z):
    """c = std of q / std of the exact posterior, in each of Z dimensions -> a number: what ESS / K tends to.

    Both are Gaussians with one mean and independent dimensions. 0 where the weights have no finite variance.
    """
    return (np.sqrt(2 * c**2 - 1) / c**2) ** Z if 2 * c**2 > 1 else 0


def log_integral(log_joint, cell):
    """log p(x|z) + log p(z) on a grid (B, G) whose cells have the area `cell` -> (B,): log p(x)."""
    return np.logaddexp.reduce(log_joint, axis=1) + np.log(cell)
