"""Exercise 14: the whole VAE, yours: network, objective, training. See exercises/14_your_own_vae.md."""

import torch
import torch.nn.functional as F
from torch import nn


class VAE(nn.Module):
    """The network of README.md: the keys of its state_dict are the 18 names there, as encoder.conv1.weight."""

    def __init__(self, latent_dim=20):
        super().__init__()
        self.latent_dim = latent_dim
        up = dict(stride=2, padding=1, output_padding=1)
        self.encoder = nn.ModuleDict(
            {
                "conv1": nn.Conv2d(1, 32, 3, stride=2, padding=1),
                "conv2": nn.Conv2d(32, 64, 3, stride=2, padding=1),
                "fc": nn.Linear(64 * 7 * 7, 256),
                "mu": nn.Linear(256, latent_dim),
                "logvar": nn.Linear(256, latent_dim),
            }
        )
        self.decoder = nn.ModuleDict(
            {
                "fc1": nn.Linear(latent_dim, 256),
                "fc2": nn.Linear(256, 64 * 7 * 7),
                "deconv1": nn.ConvTranspose2d(64, 32, 3, **up),
                "deconv2": nn.ConvTranspose2d(32, 1, 3, **up),
            }
        )

    def encode(self, x):
        """x (B, 1, 28, 28) in [0, 1] -> mu, logvar (B, Z)."""
        h = F.relu(self.encoder["conv1"](x))
        h = F.relu(self.encoder["conv2"](h))
        h = F.relu(self.encoder["fc"](h.flatten(1)))
        return self.encoder["mu"](h), self.encoder["logvar"](h)

    def decode(self, z):
        """z (B, Z) -> x_logits (B, 1, 28, 28)."""
        h = F.relu(self.decoder["fc1"](z))
        h = F.relu(self.decoder["fc2"](h)).reshape(-1, 64, 7, 7)
        h = F.relu(self.decoder["deconv1"](h))
        return self.decoder["deconv2"](h)


def objective(model, x, eps):
    """x (B, 1, 28, 28) in [0, 1], eps (B, Z) -> recon (B,), kl (B,), and loss, a number: -elbo, the batch's mean.

    In nats. Of the model it calls encode and decode, each once; z is made by hand, from eps.
    """
    mu, logvar = model.encode(x)
    z = mu + torch.exp(0.5 * logvar) * eps
    x_logits = model.decode(z)
    recon = F.binary_cross_entropy_with_logits(x_logits, x, reduction="none").sum(dim=(1, 2, 3))
    kl = 0.5 * (mu**2 + torch.exp(logvar) - 1 - logvar).sum(dim=1)
    return recon, kl, (recon + kl).mean()


def train(model, images, epochs, batch_size=64):
    """Train the model, of model.latent_dim dimensions, in place on images, uint8 (N, 1, 28, 28), and return it.

    Each epoch takes all images once, in a new random order, batch_size at a time (the last batch may be smaller), with
    new noise. Each batch is one call of objective and one step of an optimizer of torch.optim.
    """
    data = torch.from_numpy(images).float() / 255
    adam = torch.optim.Adam(model.parameters(), lr=2e-3)
    model.train()
    for _ in range(epochs):
        for index in torch.randperm(len(data)).split(batch_size):
            _, _, loss = objective(model, data[index], torch.randn(len(index), model.latent_dim))
            adam.zero_grad()
            loss.backward()
            adam.step()
    return model
