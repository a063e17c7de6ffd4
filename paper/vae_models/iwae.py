"""Several samples of z per image: averaged outside the logarithm (the VAE with L > 1), or inside it (the IWAE).

    elbo = E[ 1/K sum_k log p(x|z_k) ] - KL(q || p)                       Kingma & Welling 2014, eq. 7
    L_K  = E[ log 1/K sum_k w_k ],  w_k = p(x|z_k) p(z_k) / q(z_k|x)      Burda, Grosse & Salakhutdinov 2016, eq. 8

Each z_k is drawn from q(z|x). L_1 is the elbo, L_K grows with K, and none exceeds log p(x) (their theorem 1). Inside
the logarithm every density is sampled: the closed-form KL belongs outside only.

Axes: B batch, K samples, Z latent.
"""

import math

import torch
from torch import Tensor

from conv_vae import ConvVAE


def log_weights(recon: Tensor, z: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    """log w = log p(x|z) + log p(z) - log q(z|x), where recon (B, K) = -log p(x|z), z and eps (B, K, Z), logvar (B, Z).

    p(z) is N(0, I). With z = mu + std eps, log q(z|x) = -1/2 sum (eps^2 + logvar + log 2 pi); the log 2 pi cancels.
    """
    return -recon + 0.5 * (eps**2 - z**2).sum(dim=2) + 0.5 * logvar.sum(dim=1, keepdim=True)


def importance_bound(log_w: Tensor) -> Tensor:
    """log_w (B, K) -> one draw of L_K for each image (B,), in nats."""
    return torch.logsumexp(log_w, dim=1) - math.log(log_w.shape[1])


def sample_terms(model: ConvVAE, x: Tensor, eps: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """K draws of z for each image: recon (B, K) = -log p(x|z_k), kl (B,), log_w (B, K).

    The kl is the closed form; where the prior is learned, with the mean of what that changes at the K draws.
    x (B, 1, 28, 28), eps (B, K, Z), and for a conditional model the labels y (B,).
    """
    B, K, _ = eps.shape
    mu, logvar = model.encode(x, y)
    z = model.reparameterize(mu[:, None], logvar[:, None], eps)  # (B, K, Z)
    x_K, mu_K, logvar_K = (value.repeat_interleave(K, dim=0) for value in (x, mu, logvar))  # (B K, ...)
    y_K = y.repeat_interleave(K) if y is not None else None
    recon, _ = model.elbo_terms(x_K, model.logits_of(x_K, z.flatten(0, 1), y_K), mu_K, logvar_K)
    recon = recon.unflatten(0, (B, K))
    ratio = model.log_prior_ratio(z)  # (B, K)
    kl = model.kl_terms(mu, logvar).sum(dim=1) - ratio.mean(dim=1)
    return recon, kl, log_weights(recon, z, logvar, eps) + ratio


class ManySampleVAE(ConvVAE):
    """The VAE of the spec, its reconstruction term averaged over `samples` draws of z."""

    def __init__(self, *args, samples: int = 1, **kwargs):
        super().__init__(*args, **kwargs)
        self.samples = samples

    @property
    def title(self) -> str:
        """What reports call the model."""
        return f"VAE, {self.samples} samples"

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """K draws of z for each image: (K, Z)."""
        return (self.samples, self.spec.latent_dim)

    def objective(self, x: Tensor, y: Tensor | None, eps: Tensor, step: int) -> dict[str, Tensor]:
        """The loss is -elbo with recon averaged over the K draws; eps (B, K, Z)."""
        recon, kl, _ = sample_terms(self, x, eps)
        neg_elbo = recon.mean() + kl.mean()
        return {"recon": recon.mean(), "kl": kl.mean(), "elbo": -neg_elbo, "loss": neg_elbo}


class IWAE(ManySampleVAE):
    """The VAE of the spec, trained on L_K with K = `samples`."""

    @property
    def title(self) -> str:
        """What reports call the model."""
        return f"IWAE, K = {self.samples}"

    def objective(self, x: Tensor, y: Tensor | None, eps: Tensor, step: int) -> dict[str, Tensor]:
        """The loss is -L_K, reported as bound; recon, kl and elbo are those of the K draws; eps (B, K, Z)."""
        recon, kl, log_w = sample_terms(self, x, eps)
        bound = importance_bound(log_w).mean()
        neg_elbo = recon.mean() + kl.mean()
        return {"recon": recon.mean(), "kl": kl.mean(), "elbo": -neg_elbo, "bound": bound, "loss": -bound}
