"""beta-VAE and its relatives: the same network, another weight on the KL.

    loss = recon + beta * kl                           Higgins et al. 2017, "beta-VAE", eq. 4
    loss = recon + beta(step) * kl                     KL annealing: Bowman et al. 2016; cyclical: Fu et al. 2019
    loss = recon + beta * sum_z max(floor, kl_z)       free bits: Kingma et al. 2016 (IAF), App. C.8
    loss = recon + beta * max(floor, kl)               free nats: one floor for all dimensions together
    loss = recon + gamma * |kl - C(step)|              capacity: Burgess et al. 2018, eq. 8

beta = 1 with no schedule is the plain VAE. Whatever is minimised, recon, kl and elbo (at beta = 1) are reported too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from conv_vae import ConvVAE

# --- schedules: pure functions of the step, counted from 0 --------------------------------------------------------


@dataclass(frozen=True)
class KLWeight:
    """The weight of the KL, or its schedule.

    ramp: the length of one ramp in optimizer steps; free_bits: the floor of each latent dimension, in nats; free_nats:
    that of their sum; with `capacity`, C rises to that many nats and beta is Burgess et al.'s gamma.
    """

    beta: float = 1.0
    anneal: str = "none"
    ramp: float = 1.0
    free_bits: float = 0.0
    capacity: float | None = None
    free_nats: float = 0.0

    def beta_at(self, step: int) -> float:
        """The weight of the KL at this step.

        linear: up from 0 in `ramp` steps; sigmoid: a logistic curve, at half of beta after ramp/2 and at 99.75% after
        ramp; cyclical: up from 0 in `ramp` steps, as many at beta, and again from 0.
        """
        done = step / self.ramp
        rise = {
            "none": 1.0,
            "linear": min(1.0, done),
            "sigmoid": 1 / (1 + math.exp(min(700.0, -12 * (done - 0.5)))),
            "cyclical": min(1.0, done % 2),
        }
        return self.beta * rise[self.anneal]

    def capacity_at(self, step: int) -> float:
        """C at this step, in nats: up from 0 to `capacity` in `ramp` steps."""
        return (self.capacity or 0.0) * min(1.0, step / self.ramp)

    def penalty(self, kl_per_dim: Tensor, step: int) -> Tensor:
        """What is added to recon: kl_per_dim (Z,) are the minibatch means of each dimension's KL.

        A floor is held against the minibatch mean, not against each image: the max comes after.
        """
        if self.capacity is not None:
            return self.beta * (kl_per_dim.sum() - self.capacity_at(step)).abs()
        if self.free_bits > 0:
            kl_per_dim = kl_per_dim.clamp(min=self.free_bits)
        return self.beta_at(step) * kl_per_dim.sum().clamp(min=self.free_nats)


# --- the model ----------------------------------------------------------------------------------------------------


class BetaVAE(ConvVAE):
    """The VAE of the spec, trained with another weight on the KL.

    batch_mean: the mean of a share of the batch -> that of the whole batch, where several processes share one.
    """

    def __init__(
        self,
        *args,
        kl_weight: KLWeight | None = None,
        batch_mean: Callable[[Tensor], Tensor] = lambda mean: mean,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.kl_weight = kl_weight or KLWeight()
        self.batch_mean = batch_mean

    @property
    def title(self) -> str:
        """What reports call the model: its weight and schedule."""
        weight = self.kl_weight
        parts = [f"beta = {weight.beta:g}"] if weight.beta != 1 else []
        parts += [f"free bits {weight.free_bits:g}"] if weight.free_bits else []
        parts += [f"free nats {weight.free_nats:g}"] if weight.free_nats else []
        parts += [f"capacity {weight.capacity:g}"] if weight.capacity is not None else []
        parts += [f"{weight.anneal} annealing"] if weight.anneal != "none" else []
        return ", ".join(["beta-VAE", *parts])

    def objective(self, x: Tensor, y: Tensor | None, eps: Tensor, step: int) -> dict[str, Tensor]:
        """The loss is recon + the penalty of the KL at this step; recon, kl and elbo (at beta = 1) are reported too."""
        x_logits, mu, logvar = self(x, eps, y)
        recon, kl = (term.mean() for term in self.elbo_terms(x, x_logits, mu, logvar))
        kl_per_dim = self.batch_mean(self.kl_terms(mu, logvar).mean(dim=0))
        loss = recon + self.kl_weight.penalty(kl_per_dim, step)
        beta = torch.tensor(self.kl_weight.beta_at(step))
        return {"recon": recon, "kl": kl, "elbo": -(recon + kl), "beta": beta, "loss": loss}
