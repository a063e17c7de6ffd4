"""The VAE with a prior that is learned: p(z) has parameters of its own, and moves to where the codes are.

    KL(q(z|x) || p(z))  =  KL(q(z|x) || N(0, I))  -  E_q(z|x)[ log p(z) - log N(z; 0, I) ]

The first part keeps its closed form. The second, `log_ratio`, is taken at the one z that is decoded anyway; it is 0
where p is N(0, I). The best prior of all is the mean of the posteriors, q(z) = 1/N sum_n q(z|x_n): with it
KL(q(z) || p(z)) is 0, and a code costs what it says about which image it is of (Hoffman & Johnson 2016).

    mixture   p(z) = 1/K sum_k N(z; m_k, diag(s_k^2)),  m_k and s_k learned
    vamp      p(z) = 1/K sum_k q(z|u_k),  pseudo-inputs u_k learned: Tomczak & Welling 2018, eq. 9
    flow      z = f(e), e ~ N(0, I): flow_prior.py

Axes: B batch, K components, Z latent.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vae_common.evaluation import Evaluation
from vae_models.beta_vae import BetaVAE
from vae_models.iwae import IWAE

# --- mixtures -----------------------------------------------------------------------------------------------------


class MixturePrior(nn.Module):
    """K Gaussians of equal weight, each with a mean and a diagonal variance to learn."""

    name = "mixture prior"

    def __init__(self, latent_dim: int, components: int = 500):
        super().__init__()
        self.mu = nn.Parameter(torch.randn(components, latent_dim))
        self.logvar = nn.Parameter(torch.zeros(components, latent_dim))

    def components(self, encode) -> tuple[Tensor, Tensor]:
        """mu, logvar (K, Z)."""
        return self.mu, self.logvar

    def log_ratio(self, z: Tensor, encode) -> Tensor:
        """log p(z) - log N(z; 0, I) of z (..., Z) -> (...), in nats; the log 2 pi cancels."""
        mu, logvar = self.components(encode)
        precision = torch.exp(-logvar)
        square = z**2 @ precision.T - 2 * z @ (mu * precision).T + (mu**2 * precision).sum(dim=1)  # (..., K)
        log_p = torch.logsumexp(-0.5 * (square + logvar.sum(dim=1)), dim=-1) - math.log(len(mu))
        return log_p + 0.5 * (z**2).sum(dim=-1)

    def codes(self, eps: Tensor, u: Tensor, encode) -> Tensor:
        """Draws of p(z) (B, Z) from eps (B, Z) ~ N(0, I) and u (B,) ~ U[0, 1), which chooses the components."""
        mu, logvar = self.components(encode)
        k = (u * len(mu)).long().clamp(max=len(mu) - 1)
        return mu[k] + torch.exp(0.5 * logvar[k]) * eps


class VampPrior(MixturePrior):
    """The posteriors of K pseudo-inputs, images (K, 1, 28, 28) to learn: as many parameters as K images have pixels."""

    name = "VampPrior"

    def __init__(self, latent_dim: int, components: int = 500):
        nn.Module.__init__(self)
        self.pseudo_inputs = nn.Parameter(0.05 + 0.01 * torch.randn(components, 1, 28, 28))  # as the authors begin

    def components(self, encode) -> tuple[Tensor, Tensor]:
        """mu, logvar (K, Z): what the encoder makes of the pseudo-inputs, clipped to [0, 1]."""
        return encode(self.pseudo_inputs.clamp(0, 1))


# --- the models ---------------------------------------------------------------------------------------------------


class _LearnedPrior:
    """What a model with a learned prior changes; `prior` has a name, log_ratio and codes."""

    def __init__(self, *args, prior: nn.Module, **kwargs):
        super().__init__(*args, **kwargs)
        self.prior = prior

    @property
    def title(self) -> str:
        """What reports call the model: its objective, and its prior."""
        objective = super().title
        return f"{'VAE' if objective == 'beta-VAE' else objective} with a {self.prior.name}"

    def log_prior_ratio(self, z: Tensor) -> Tensor:
        """log p(z) - log N(z; 0, I) of z (..., Z) -> (...), in nats."""
        with torch.autocast(z.device.type, enabled=False):  # bfloat16 would be too coarse for z^2 / s^2
            return self.prior.log_ratio(z, self.encode)

    def prior_codes(self, eps: Tensor, u: Tensor) -> Tensor:
        """Draws of the prior (B, Z) from eps (B, Z) ~ N(0, I) and u (B,) ~ U[0, 1)."""
        return self.prior.codes(eps, u, self.encode)

    def evaluate(self, x: Tensor, y: Tensor | None, eps: Tensor) -> dict[str, Tensor]:
        """What is measured of images: as of every VAE, but that the kl is that to the learned prior, at one z."""
        found = super().evaluate(x, y, eps)
        z = self.reparameterize(found["mu"], found["logvar"], eps)
        return {**found, "kl": found["kl"] - self.log_prior_ratio(z)}

    def evaluation(self, on_arrays: Callable, **measured) -> Evaluation:
        """The evaluation made of all that was measured, with the prior."""
        prior = {"prior_codes": on_arrays(self.prior_codes), "log_prior_ratio": on_arrays(self.log_prior_ratio)}
        return super().evaluation(on_arrays, **measured, **prior)


class PriorVAE(_LearnedPrior, BetaVAE):
    """The beta-VAE with a learned prior, with its schedules and free nats."""

    def objective(self, x: Tensor, y: Tensor | None, eps: Tensor, step: int) -> dict[str, Tensor]:
        """The loss is recon + beta(step) * max(free nats, kl); recon, kl and elbo (at beta = 1) are reported too."""
        found = self.evaluate(x, y, eps)
        recon, kl = found["recon"].mean(), found["kl"].mean()
        loss = recon + self.kl_weight.penalty(self.batch_mean(kl)[None], step)
        beta = torch.tensor(self.kl_weight.beta_at(step))
        return {"recon": recon, "kl": kl, "elbo": -(recon + kl), "beta": beta, "loss": loss}


class PriorIWAE(_LearnedPrior, IWAE):
    """The IWAE with a learned prior."""
