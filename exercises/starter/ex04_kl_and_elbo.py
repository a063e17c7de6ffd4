"""Exercise 4: the KL, the reconstruction term and the ELBO, in nats. See exercises/04_kl_and_elbo.md."""

import numpy as np  # noqa: F401


def monte_carlo_kl(mu, logvar, eps, mu_p=0, logvar_p=0):
    """KL(q || p) as a mean of log q(z) - log p(z) over samples z of q; eps (K, B, Z) ~ N(0, I) -> (B,), in nats.

    q is N(mu, exp(logvar)), both (B, Z); p is N(mu_p, exp(logvar_p)), numbers or arrays that fit; here the prior.
    """
    raise NotImplementedError


def gaussian_kl(mu, logvar, mu_p=0, logvar_p=0):
    """KL(N(mu, exp(logvar)) || N(mu_p, exp(logvar_p))) in closed form, with the same arguments -> (B,), in nats."""
    raise NotImplementedError


def bernoulli_recon(x, x_logits):
    """-log p(x|z): pixels x in [0, 1] and x_logits, both (B, 1, H, W) -> (B,), in nats; finite for every logit."""
    raise NotImplementedError


def elbo(x, x_logits, mu, logvar):
    """The ELBO of each image (B,), in nats: what training makes as large as it can."""
    raise NotImplementedError


def entropy_floor(x):
    """The least that bernoulli_recon can be for pixels x (B, 1, H, W) in [0, 1] -> (B,), in nats."""
    raise NotImplementedError
