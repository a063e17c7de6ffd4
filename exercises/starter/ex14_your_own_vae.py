"""Exercise 14: the whole VAE, yours: network, objective, training. See exercises/14_your_own_vae.md."""

import torch  # noqa: F401
import torch.nn.functional as F  # noqa: F401
from torch import nn


class VAE(nn.Module):
    """The network of README.md: the keys of its state_dict are the 18 names there, as encoder.conv1.weight."""

    def __init__(self, latent_dim=20):
        super().__init__()
        self.latent_dim = latent_dim
        raise NotImplementedError

    def encode(self, x):
        """x (B, 1, 28, 28) in [0, 1] -> mu, logvar (B, Z)."""
        raise NotImplementedError

    def decode(self, z):
        """z (B, Z) -> x_logits (B, 1, 28, 28)."""
        raise NotImplementedError


def objective(model, x, eps):
    """x (B, 1, 28, 28) in [0, 1], eps (B, Z) -> recon (B,), kl (B,), and loss, a number: -elbo, the batch's mean.

    In nats. Of the model it calls encode and decode, each once; z is made by hand, from eps.
    """
    raise NotImplementedError


def train(model, images, epochs, batch_size=64):
    """Train the model, of model.latent_dim dimensions, in place on images, uint8 (N, 1, 28, 28), and return it.

    Each epoch takes all images once, in a new random order, batch_size at a time (the last batch may be smaller), with
    new noise. Each batch is one call of objective and one step of an optimizer of torch.optim.
    """
    raise NotImplementedError
