"""FactorVAE: the total correlation without densities, from a network that tells dependent codes from independent.

    loss = recon + kl + W * TC,   TC ~ E_q(z)[ log D(z) / (1 - D(z)) ]      Kim & Mnih 2018, eq. 2 and 3, W = gamma

D(z) is the probability that z comes from q(z) and not from the product of its marginals, of which one has a draw for
each code of a batch when every dimension is shuffled among the batch (their algorithm 1). The best D has
D / (1 - D) = q(z) / prod_d q(z_d), so the mean of its log is the total correlation.

Here D learns beside the VAE, in the same steps and from the same batch; in the paper the two take turns.

Axes: B batch, Z latent. Kim & Mnih 2018, https://arxiv.org/abs/1802.05983
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conv_vae import ConvVAE


def shuffled(z: Tensor, order: Tensor) -> Tensor:
    """z (B, Z) with each dimension shuffled among the batch for itself, by the ranks of order (B, Z)."""
    return z.gather(0, order.argsort(dim=0))


class Discriminator(nn.Module):
    """Codes z (B, Z) -> log D / (1 - D) (B,); the paper's has six layers of 1000."""

    def __init__(self, latent_dim: int, hidden: int = 256):
        super().__init__()
        widths = (latent_dim, hidden), (hidden, hidden), (hidden, hidden)
        layers = [layer for width in widths for layer in (nn.Linear(*width), nn.LeakyReLU(0.2))]
        self.net = nn.Sequential(*layers, nn.Linear(hidden, 1))

    def forward(self, z: Tensor) -> Tensor:
        """z (B, Z) -> logits (B,)."""
        return self.net(z)[:, 0]


class FactorVAE(ConvVAE):
    """The VAE of the spec, trained with tc_weight times the total correlation that a discriminator sees."""

    def __init__(self, *args, tc_weight: float = 0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.tc_weight = tc_weight
        self.discriminator = Discriminator(self.spec.latent_dim)

    @property
    def title(self) -> str:
        """What reports call the model."""
        return f"FactorVAE, gamma = {self.tc_weight:g}"

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """For each image eps, and what orders the batch in each dimension: (2, Z)."""
        return (2, self.spec.latent_dim)

    def objective(self, x: Tensor, y: Tensor | None, eps: Tensor, step: int) -> dict[str, Tensor]:
        """The loss is recon + kl + W tc + the discriminator's cross-entropy; eps (B, 2, Z).

        The tc moves the codes and not D, the cross-entropy D and not the codes.
        """
        mu, logvar = self.encode(x, y)
        z = self.reparameterize(mu, logvar, eps[:, 0])
        recon, kl = (term.mean() for term in self.elbo_terms(x, self.decode(z, y), mu, logvar))
        held = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        tc = torch.func.functional_call(self.discriminator, held, z).mean()
        together, alone = self.discriminator(z.detach()), self.discriminator(shuffled(z.detach(), eps[:, 1]))
        cross_entropy = 0.5 * (F.softplus(-together) + F.softplus(alone)).mean()
        terms = {"recon": recon, "kl": kl, "elbo": -(recon + kl), "tc": tc, "discriminator": cross_entropy}
        return {**terms, "loss": recon + kl + self.tc_weight * tc + cross_entropy}
