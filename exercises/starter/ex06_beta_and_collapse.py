"""Exercise 6: beta, and how a posterior collapses. See exercises/06_beta_and_collapse.md."""

import numpy as np  # noqa: F401


def curvature_at_collapse(variance, s2, beta):
    """The second derivatives by (w, v) -> (2, 2) of the smallest VAE's loss, at w = v = 0 and std 1."""
    raise NotImplementedError


def cyclical_beta(step, ramp, beta=1.0):
    """Up from 0 in `ramp` steps, as many steps at `beta`, then from 0 again."""
    raise NotImplementedError


def free_bits(kl, floor):
    """kl (B, Z) a tensor, floor in nats per dimension -> what is paid instead of the batch's mean KL, a tensor ()."""
    raise NotImplementedError


def active_units(mu, threshold=0.01):
    """Posterior means mu (N, Z) of N images -> how many dimensions are active, a whole number."""
    raise NotImplementedError


def effective_beta(kl_weight, recon="sum", kl="sum", pixels=784, latent_dim=20):
    """The beta of recon + beta kl, both summed, that a loss recon + kl_weight kl has the gradients' direction of.

    recon, kl: "sum" or "mean", how that loss reduces the former over `pixels` and the latter over `latent_dim`.
    """
    raise NotImplementedError
