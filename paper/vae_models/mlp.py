"""Other encoders and decoders for the same VAE: fully connected layers, and linear maps.

Each half has the signature of conv_vae's: images x (B, 1, 28, 28) -> mu, logvar (B, Z), and z (B, Z) -> x_logits.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class MLPEncoder(nn.Module):
    """784-500-500-Z with tanh: two hidden layers where Kingma & Welling 2014, sec. 5 and App. C.2, have one.

    hidden: the widths of the hidden layers from the image on; activation: the module after each of them.
    """

    def __init__(self, latent_dim: int, hidden: Sequence[int] = (500, 500), activation: type[nn.Module] = nn.Tanh):
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), *layers([784, *hidden], activation))
        self.mu = nn.Linear(hidden[-1], latent_dim)
        self.logvar = nn.Linear(hidden[-1], latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 1, 28, 28) -> mu, logvar (B, Z)."""
        h = self.hidden(x)  # (B, the last width)
        return self.mu(h), self.logvar(h)


class MLPDecoder(nn.Sequential):
    """The encoder's layers in reverse: Z-500-500-784 with tanh; z (B, Z) -> x_logits (B, 1, 28, 28)."""

    def __init__(self, latent_dim: int, hidden: Sequence[int] = (500, 500), activation: type[nn.Module] = nn.Tanh):
        widths = [latent_dim, *reversed(hidden)]
        super().__init__(*layers(widths, activation), nn.Linear(widths[-1], 784), nn.Unflatten(1, (1, 28, 28)))


def layers(widths: Sequence[int], activation: type[nn.Module]) -> list[nn.Module]:
    """A linear layer from each width to the next, with the activation after it."""
    return [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), activation())]


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
