"""Exercise 8: importance weights. See exercises/08_importance_weighting.md."""

import numpy as np  # noqa: F401


def log_weights(recon, z, mu, logvar):
    """recon (B, K) = -log p(x|z), z (B, K, Z) from q, mu and logvar (B, Z) of q -> log w (B, K)."""
    raise NotImplementedError


def importance_bound(log_w):
    """log w (B, K) -> (B,): the log of the mean weight, one draw of L_K for each image."""
    raise NotImplementedError


def bound_of_groups(log_w, k):
    """log w (B, K) -> (B,): L_k, the mean over the K // k groups of k weights in a row, the rest at the end dropped."""
    raise NotImplementedError


def effective_sample_size(log_w):
    """log w (B, K) -> (B,): how many equal weights are worth as much, from 1 (one has it all) to K (all are equal)."""
    raise NotImplementedError


def expected_share(c, Z):
    """c = std of q / std of the exact posterior, in each of Z dimensions -> a number: what ESS / K tends to.

    Both are Gaussians with one mean and independent dimensions. 0 where the weights have no finite variance.
    """
    raise NotImplementedError


def log_integral(log_joint, cell):
    """log p(x|z) + log p(z) on a grid (B, G) whose cells have the area `cell` -> (B,): log p(x)."""
    raise NotImplementedError
