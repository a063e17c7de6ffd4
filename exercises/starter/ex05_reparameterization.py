"""Exercise 5: gradients through a random draw. See exercises/05_reparameterization.md."""

import numpy as np  # noqa: F401


def reparameterize(mu, logvar, eps):
    """mu, logvar, eps (B, Z) -> z (B, Z), distributed as N(mu, exp(logvar))."""
    raise NotImplementedError


def pathwise_samples(df, mu, logvar, eps):
    """mu, logvar (Z,), eps (N, Z), df: z (N, Z) -> the derivatives of f by z (N, Z).

    -> (2, N, Z): each draw's estimate of the derivatives of E[f(z)] by mu and by logvar.
    """
    raise NotImplementedError


def score_samples(f, mu, logvar, eps, baseline=0):
    """mu, logvar (Z,), eps (N, Z), f: z (N, Z) -> values (N,), baseline a number or (N,).

    -> (2, N, Z): each draw's estimate of the derivatives of E[f(z)] by mu and by logvar, from values of f alone.
    """
    raise NotImplementedError


def leave_one_out(values):
    """values (N,), N > 1 -> (N,): for each, the mean of the N - 1 others."""
    raise NotImplementedError


def square_variances(mu, std, baseline=0):
    """f(z) = z^2, Z = 1 -> (2,): the variance of one draw's derivative by mu, pathwise and by the score."""
    raise NotImplementedError


def elbo_gradients(d_z, mu, logvar, eps):
    """All (B, Z); d_z: the derivative by z of recon, summed over pixels, mean over the batch.

    -> (2, B, Z): the derivatives of neg_elbo = mean over the batch of recon + kl, by mu and by logvar.
    """
    raise NotImplementedError
