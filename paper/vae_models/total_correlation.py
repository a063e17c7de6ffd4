"""beta-TCVAE: only that part of the KL weighs more which says how far the dimensions of z depend on one another.

    KL(q(z) || p(z)) = TC + sum_d KL(q(z_d) || p(z_d)),   TC = KL(q(z) || prod_d q(z_d))
    loss = recon + kl + W * TC                            Chen et al. 2018, eq. 4, where beta = 1 + W

q(z) is the mean of the posteriors of all N images, and a step sees B of them. Two estimates of it at the z of image i:

    weighted     1/(N B) sum_j q(z_i|x_j)                 their eq. 5: a lower bound of E log q(z)
    stratified   1/N q(z_i|x_i) + sum_j!=i w_j q(z_i|x_j) their App. C.2: its mean over batches is q(z_i)

A third way, without densities, is in factor_vae.py. vae_measures/rate_parts.py measures TC of a set of images.

Axes: B batch, Z latent. Chen, Li, Grosse & Duvenaud 2018, https://arxiv.org/abs/1802.04942
"""

import math

import torch
from torch import Tensor
from torch.distributions import Normal

from conv_vae import ConvVAE


def log_shares(batch: int, images: int, estimate: str) -> Tensor:
    """log of what q(z_i|x_j) counts in the estimate of q(z_i) (B, B), a row for each i; float64.

    The stratified shares are 1/M each, M = B - 1, but 1/N for image i itself, which is in its batch for certain, and
    for one other image what is missing to a sum of 1. An image alone has nothing to be compared with.
    """
    if estimate == "weighted" or batch == 1:
        return torch.full((batch, batch), -math.log(images * batch), dtype=torch.float64)
    others, rest = batch - 1, (images - batch + 1) / (images * (batch - 1))
    shares = torch.full((batch, batch), 1 / others, dtype=torch.float64).fill_diagonal_(1 / images)
    shares[torch.arange(batch), torch.arange(1, batch + 1) % batch] = rest
    return shares.log()


def total_correlation(z: Tensor, mu: Tensor, logvar: Tensor, log_share: Tensor) -> Tensor:
    """The estimate of log q(z_i) - sum_d log q(z_id) at each z of a batch (B,), in nats.

    z, mu, logvar (B, Z): the codes and their posteriors; log_share (B, B) of `log_shares`.
    """
    posteriors = Normal(mu, torch.exp(0.5 * logvar), validate_args=False)
    log_q = posteriors.log_prob(z[:, None])  # (B, B, Z): log q(z_i|x_j) of each dimension
    joint = torch.logsumexp(log_q.sum(dim=2) + log_share, dim=1)
    marginals = torch.logsumexp(log_q + log_share[:, :, None], dim=1)
    return joint - marginals.sum(dim=1)


class TCVAE(ConvVAE):
    """The VAE of the spec, trained with the total correlation weighing 1 + tc_weight; images: N, to be trained on."""

    def __init__(self, *args, tc_weight: float = 0.0, estimate: str = "weighted", images: int = 1, **kwargs):
        super().__init__(*args, **kwargs)
        self.tc_weight, self.estimate, self.images = tc_weight, estimate, images

    @property
    def title(self) -> str:
        """What reports call the model."""
        return f"beta-TCVAE, beta = {1 + self.tc_weight:g}"

    def objective(self, x: Tensor, y: Tensor | None, eps: Tensor, step: int) -> dict[str, Tensor]:
        """The loss is recon + kl + W tc; tc is the batch's estimate. A weighted one lies (Z - 1) log N too high, which
        moves nothing."""
        mu, logvar = self.encode(x, y)
        z = self.reparameterize(mu, logvar, eps)
        recon, kl = (term.mean() for term in self.elbo_terms(x, self.decode(z, y), mu, logvar))
        shares = log_shares(len(x), max(len(x), self.images), self.estimate).to(z)
        tc = total_correlation(z, mu, logvar, shares).mean()
        return {"recon": recon, "kl": kl, "elbo": -(recon + kl), "tc": tc, "loss": recon + kl + self.tc_weight * tc}
