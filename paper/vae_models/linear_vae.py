"""The linear VAE, which is probabilistic PCA: the one VAE whose optimum is known in closed form.

    z ~ N(0, I),  x ~ N(W z + b, s2 I),  q(z|x) = N(V x + c, diag(std^2))

Tipping & Bishop 1999: with the eigenvalues l_1 >= l_2 >= ... of the data's covariance, the best s2 is the mean of the
discarded ones, and the best log-likelihood is `ppca_log_likelihood`. Lucas et al. 2019, "Don't blame the ELBO": the
linear VAE reaches it, and as q is diagonal the columns of W become principal axes, not a rotation of them.
"""

import math

import numpy as np
import torch
from torch import Tensor

from vae_models.beta_vae import BetaVAE
from vae_models.mlp import LINEAR


class LinearVAE(BetaVAE):
    """Linear encoder and decoder, Gaussian likelihood whose variance s2 is learned, or fixed with `fixed_variance`."""

    def __init__(
        self, spec=None, likelihood="gaussian", architecture=LINEAR, fixed_variance: float | None = None, **kwargs
    ):
        if likelihood != "gaussian":
            raise ValueError(f"the linear VAE has a Gaussian likelihood only, got {likelihood!r}.")
        super().__init__(spec, likelihood, architecture, **kwargs)
        if fixed_variance is not None:
            self.decoder.log_s2.data.fill_(math.log(fixed_variance))
            self.decoder.log_s2.requires_grad_(False)

    title = "linear VAE"
    mean_output = True
    recon_constant = 0.0

    def pixels(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The mean W z + b, cut to [0, 1]: what a picture shows."""
        return self.decode(z, y).clamp(0, 1)

    def elbo_terms(self, x: Tensor, mean: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
        """recon = -log N(x; mean, s2 I), with its constants, so it may be below 0; kl; each (B,), in nats."""
        log_s2 = self.decoder.log_s2
        pixels = (x - mean) ** 2 * torch.exp(-log_s2) + log_s2 + math.log(2 * math.pi)
        return 0.5 * pixels.sum(dim=(1, 2, 3)), self.kl_terms(mu, logvar).sum(dim=1)


def ppca_log_likelihood(eigenvalues: np.ndarray, q: int) -> float:
    """The mean log-likelihood per image of the best pPCA with q components, in nats (Tipping & Bishop 1999, eq. 3).

    eigenvalues (d,): those of the data's covariance (divided by N), largest first. It is also the best elbo.
    """
    d, s2 = len(eigenvalues), eigenvalues[q:].mean()
    log_det = np.log(eigenvalues[:q]).sum() + (d - q) * np.log(s2)
    return -0.5 * (d * math.log(2 * math.pi) + log_det + d)


def linear_rate_distortion(eigenvalues: np.ndarray, q: int, s2: float, beta: float) -> tuple[float, float, int]:
    """The optimum of the linear beta-VAE at fixed s2: rate in nats, squared error, number of active units.

    Reverse water-filling of a Gaussian source (Cover & Thomas 2006, thm 10.3.3) with water level theta = beta s2:
    a component is used when its variance is above the water, and its error is then theta.
    """
    theta, kept = beta * s2, eigenvalues[:q]
    rate = 0.5 * np.log(np.maximum(kept / theta, 1)).sum()
    return rate, np.minimum(kept, theta).sum() + eigenvalues[q:].sum(), int((kept > theta).sum())
