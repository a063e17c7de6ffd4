"""Exercise 4: the KL, the reconstruction term and the ELBO, in nats. See exercises/04_kl_and_elbo.md."""

import numpy as np


def gaussian_kl(mu, logvar):
    """KL(N(mu, std^2) || N(0, I)) of mu, logvar (B, Z), with logvar = log std^2 -> (B,), in nats."""
    return 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum(axis=-1)


def monte_carlo_kl(mu, logvar, eps):
    """The same as a mean of log q(z|x) - log p(z) over samples z; eps (K, B, Z) ~ N(0, I) -> (B,)."""
    z = mu + np.exp(0.5 * logvar) * eps
    log_q = -0.5 * (eps**2 + logvar).sum(axis=-1)  # both without the constant -Z/2 log(2 pi)
    log_p = -0.5 * (z**2).sum(axis=-1)
    return (log_q - log_p).mean(axis=0)


def bernoulli_recon(x, x_logits):
    """-log p(x|z): pixels x in [0, 1] and x_logits, both (B, 1, H, W) -> (B,), in nats; finite for every logit."""
    bce = np.maximum(x_logits, 0) - x_logits * x + np.log1p(np.exp(-np.abs(x_logits)))
    return bce.sum(axis=(1, 2, 3))


def elbo(x, x_logits, mu, logvar):
    """The ELBO of each image (B,), in nats: what training makes as large as it can."""
    return -bernoulli_recon(x, x_logits) - gaussian_kl(mu, logvar)


def entropy_floor(x):
    """The least that bernoulli_recon can be for pixels x (B, 1, H, W) in [0, 1] -> (B,), in nats."""
    surprise = -x * np.log(np.where(x > 0, x, 1)) - (1 - x) * np.log(np.where(x < 1, 1 - x, 1))
    return surprise.sum(axis=(1, 2, 3))
