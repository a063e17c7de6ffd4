"""How a VAE is usually trained with PyTorch, for the benchmarks to measure against.

A Dataset that makes a PIL image of each row and a tensor of that (what torchvision's MNIST with ToTensor does), a
DataLoader with its defaults, an nn.Module, a summed loss, plain Adam, and `.item()` after every step. Written here
anew; the MLP, its batch size and its optimizer settings are those of github.com/pytorch/examples, vae/main.py.
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ToTensor

from conv_vae import Decoder, Encoder


class Images(Dataset):
    """uint8 images (N, 1, 28, 28) as (image, label) pairs, the image a float tensor in [0, 1]."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images, self.labels, self.transform = images, labels, ToTensor()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index, 0])), int(self.labels[index])


class ConvVAE(nn.Module):
    """The network of the spec, or one of another architecture, with noise drawn inside."""

    def __init__(self, latent_dim: int = 20, architecture: tuple = (Encoder, Decoder)):
        super().__init__()
        self.encoder, self.decoder = (half(latent_dim) for half in architecture)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encoder(x)
        std = torch.exp(0.5 * logvar)
        return torch.sigmoid(self.decoder(mu + std * torch.randn_like(std))), mu, logvar


class MLPVAE(nn.Module):
    """784 - 400 - Z - 400 - 784, with Z = 20."""

    def __init__(self):
        super().__init__()
        self.fc, self.mu, self.logvar = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = F.relu(self.fc(x.flatten(1)))
        mu, logvar = self.mu(h), self.logvar(h)
        std = torch.exp(0.5 * logvar)
        return self.decoder(mu + std * torch.randn_like(std)).view_as(x), mu, logvar


def neg_elbo(pixel_means: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """-elbo summed over the batch, in nats."""
    recon = F.binary_cross_entropy(pixel_means, x, reduction="sum")
    return recon - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


def train_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader) -> float:
    """One pass over the loader; returns -elbo per image."""
    model.train()
    total = 0.0
    for x, _ in loader:
        optimizer.zero_grad()
        pixel_means, mu, logvar = model(x)
        loss = neg_elbo(pixel_means, x, mu, logvar)
        loss.backward()
        total += loss.item()
        optimizer.step()
    return total / len(loader.dataset)


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader) -> float:
    """-elbo per image over the loader, one sampled z for each."""
    model.eval()
    total = 0.0
    for x, _ in loader:
        pixel_means, mu, logvar = model(x)
        total += neg_elbo(pixel_means, x, mu, logvar).item()
    return total / len(loader.dataset)
