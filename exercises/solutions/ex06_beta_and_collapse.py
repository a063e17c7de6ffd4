"""Exercise 6: beta, and how a posterior collapses. See exercises/06_beta_and_collapse.md."""

import numpy as np


def curvature_at_collapse(variance, s2, beta):
    """The second derivatives by (w, v) -> (2, 2) of the smallest VAE's loss, at w = v = 0 and std 1."""
    return np.array([[1 / s2, -variance / s2], [-variance / s2, beta * variance]])


def cyclical_beta(step, ramp, beta=1.0):
    """Up from 0 in `ramp` steps, as many steps at `beta`, then from 0 again."""
    return beta * min(1, step % (2 * ramp) / ramp)


def free_bits(kl, floor):
    """kl (B, Z) a tensor, floor in nats per dimension -> what is paid instead of the batch's mean KL, a tensor ()."""
    return kl.mean(dim=0).clamp(min=floor).sum()


def active_units(mu, threshold=0.01):
    """Posterior means mu (N, Z) of N images -> how many dimensions are active, a whole number."""
    return int((mu.var(axis=0) > threshold).sum())


def effective_beta(kl_weight, recon="sum", kl="sum", pixels=784, latent_dim=20):
    """The beta of recon + beta kl, both summed, that a loss recon + kl_weight kl has the gradients' direction of.

    recon, kl: "sum" or "mean", how that loss reduces the former over `pixels` and the latter over `latent_dim`.
    """
    return kl_weight * (pixels if recon == "mean" else 1) / (latent_dim if kl == "mean" else 1)
