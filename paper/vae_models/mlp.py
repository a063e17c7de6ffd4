"""Other encoders and decoders for the same VAE: fully connected layers, and linear maps.

Each half has the signature of conv_vae's: images x (B, 1, 28, 28) -> mu, logvar (B, Z), and z (B, Z) -> x_logits.
"""

import torch
from torch import Tensor, nn


class MLPEncoder(nn.Module):
    """784-500-500-Z with tanh: two hidden layers where Kingma & Welling 2014, sec. 5 and App. C.2, have one."""

    def __init__(self, latent_dim: int):
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(784, 500), nn.Tanh(), nn.Linear(500, 500), nn.Tanh())
        self.mu = nn.Linear(500, latent_dim)
        self.logvar = nn.Linear(500, latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 1, 28, 28) -> mu, logvar (B, Z)."""
        h = self.hidden(x)  # (B, 500)
        return self.mu(h), self.logvar(h)


class MLPDecoder(nn.Sequential):
    """Z-500-500-784 with tanh."""

    def __init__(self, latent_dim: int):
        layers = nn.Linear(latent_dim, 500), nn.Tanh(), nn.Linear(500, 500), nn.Tanh(), nn.Linear(500, 784)
        super().__init__(*layers, nn.Unflatten(1, (1, 28, 28)))


class LinearEncoder(nn.Module):
    """mu = V x + c, and one logvar for all images: the true posterior of a linear Gaussian model has this form."""

    def __init__(self, latent_dim: int, pixels: int = 784):
        super().__init__()
        self.mu = nn.Linear(pixels, latent_dim)
        self.logvar = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 1, H, W) -> mu, logvar (B, Z)."""
        mu = self.mu(x.flatten(1))  # (B, Z)
        return mu, self.logvar.expand_as(mu)


class LinearDecoder(nn.Module):
    """W z + b, a mean and not a logit, with `log_s2`, the logarithm of the one variance that all pixels share."""

    def __init__(self, latent_dim: int, side: int = 28):
        super().__init__()
        self.mean = nn.Linear(latent_dim, side * side)
        self.log_s2 = nn.Parameter(torch.zeros(()))
        self.side = side

    def forward(self, z: Tensor) -> Tensor:
        """z (B, Z) -> means of the pixels (B, 1, side, side)."""
        return self.mean(z).unflatten(1, (1, self.side, self.side))


MLP = (MLPEncoder, MLPDecoder)
LINEAR = (LinearEncoder, LinearDecoder)
