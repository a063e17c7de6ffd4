"""Exercise 5: gradients through a random draw. See exercises/05_reparameterization.md."""

import numpy as np


def reparameterize(mu, logvar, eps):
    """mu, logvar, eps (B, Z) -> z (B, Z), distributed as N(mu, exp(logvar))."""
    return mu + np.exp(0.5 * logvar) * eps


def pathwise_samples(df, mu, logvar, eps):
    """mu, logvar (Z,), eps (N, Z), df: z (N, Z) -> the derivatives of f by z (N, Z).

    -> (2, N, Z): each draw's estimate of the derivatives of E[f(z)] by mu and by logvar.
    """
    d_z = df(reparameterize(mu, logvar, eps))
    return np.stack([d_z, d_z * 0.5 * np.exp(0.5 * logvar) * eps])


def score_samples(f, mu, logvar, eps, baseline=0):
    """mu, logvar (Z,), eps (N, Z), f: z (N, Z) -> values (N,), baseline a number or (N,).

    -> (2, N, Z): each draw's estimate of the derivatives of E[f(z)] by mu and by logvar, from values of f alone.
    """
    value = (f(reparameterize(mu, logvar, eps)) - baseline)[:, None]
    return np.stack([value * eps / np.exp(0.5 * logvar), value * 0.5 * (eps**2 - 1)])


def leave_one_out(values):
    """values (N,), N > 1 -> (N,): for each, the mean of the N - 1 others."""
    return (values.sum() - values) / (len(values) - 1)


def square_variances(mu, std, baseline=0):
    """f(z) = z^2, Z = 1 -> (2,): the variance of one draw's derivative by mu, pathwise and by the score."""
    path = 4 * std**2
    square = mu**4 + 18 * mu**2 * std**2 + 15 * std**4 - 2 * baseline * (mu**2 + 3 * std**2) + baseline**2
    return np.array([path, square / std**2 - 4 * mu**2])


def elbo_gradients(d_z, mu, logvar, eps):
    """All (B, Z); d_z: the derivative by z of recon, summed over pixels, mean over the batch.

    -> (2, B, Z): the derivatives of neg_elbo = mean over the batch of recon + kl, by mu and by logvar.
    """
    d_mu = d_z + mu / len(mu)
    d_logvar = d_z * 0.5 * np.exp(0.5 * logvar) * eps + 0.5 * (np.exp(logvar) - 1) / len(mu)
    return np.stack([d_mu, d_logvar])
