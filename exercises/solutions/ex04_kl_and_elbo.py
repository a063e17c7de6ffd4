"""Exercise 4: the KL, the reconstruction term and the ELBO, in nats. See exercises/04_kl_and_elbo.md."""

import numpy as np


def monte_carlo_kl(mu, logvar, eps, mu_p=0, logvar_p=0):
    """KL(q || p) as a mean of log q(z) - log p(z) over samples z of q; eps (K, B, Z) ~ N(0, I) -> (B,), in nats.

    q is N(mu, exp(logvar)), both (B, Z); p is N(mu_p, exp(logvar_p)), numbers or arrays that fit; here the prior.
    """
    z = mu + np.exp(0.5 * logvar) * eps
    log_q = -0.5 * (eps**2 + logvar)  # both without the constant -1/2 log(2 pi)
    log_p = -0.5 * ((z - mu_p) ** 2 / np.exp(logvar_p) + logvar_p)
    return (log_q - log_p).sum(axis=-1).mean(axis=0)


def gaussian_kl(mu, logvar, mu_p=0, logvar_p=0):
    """KL(N(mu, exp(logvar)) || N(mu_p, exp(logvar_p))) in closed form, with the same arguments -> (B,), in nats."""
    distance = ((mu - mu_p) ** 2 + np.exp(logvar)) / np.exp(logvar_p)
    return 0.5 * (distance - 1 - logvar + logvar_p).sum(axis=-1)


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
