"""Level 3: the same convolutional VAE as the papers' code has it, an nn.Module with PyTorch's own losses.

Sections and names are those of levels 1 and 2; the keys of `state_dict()` are the parameter names of the spec, so one
weights file serves all three. The other models of this folder are this file with one idea changed.

Axes: B batch, C channels, H W height and width, Z latent.

Kingma & Welling 2014, "Auto-Encoding Variational Bayes", https://arxiv.org/abs/1312.6114
Rezende, Mohamed & Wierstra 2014, "Stochastic Backpropagation", https://arxiv.org/abs/1401.4082
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from vae_common.spec import VAESpec

# --- encoder: q(z|x) = N(mu, diag(exp(logvar))) -------------------------------------------------------------------


class Encoder(nn.Module):
    """Images x (B, 1, 28, 28) in [0, 1] -> mu, logvar (B, Z)."""

    def __init__(self, latent_dim: int):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.fc = nn.Linear(64 * 7 * 7, 256)
        self.mu = nn.Linear(256, latent_dim)
        self.logvar = nn.Linear(256, latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.conv1(x))  # (B, 32, 14, 14)
        h = F.relu(self.conv2(h))  # (B, 64, 7, 7)
        h = F.relu(self.fc(h.flatten(1)))  # (B, 256)
        return self.mu(h), self.logvar(h)


# --- decoder: p(x|z) ----------------------------------------------------------------------------------------------


class Decoder(nn.Module):
    """Latents z (B, Z) -> x_logits (B, 1, 28, 28)."""

    def __init__(self, latent_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(latent_dim, 256)
        self.fc2 = nn.Linear(256, 64 * 7 * 7)
        self.deconv1 = nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1)
        self.deconv2 = nn.ConvTranspose2d(32, 1, 3, stride=2, padding=1, output_padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = F.relu(self.fc1(z))  # (B, 256)
        h = F.relu(self.fc2(h)).unflatten(1, (64, 7, 7))
        h = F.relu(self.deconv1(h))  # (B, 32, 14, 14)
        return self.deconv2(h)


# --- the model ----------------------------------------------------------------------------------------------------


class ConvVAE(nn.Module):
    """The VAE of the spec. Noise is an argument of every method that needs it; nothing is drawn in here.

    trunk: the classes of encoder and decoder, each built from latent_dim; trunks.py has smaller ones.
    """

    def __init__(self, spec: VAESpec | None = None, likelihood: str = "bernoulli", trunk: tuple = (Encoder, Decoder)):
        super().__init__()
        self.spec = spec or VAESpec()
        self.likelihood = likelihood
        self.encoder, self.decoder = (half(self.spec.latent_dim) for half in trunk)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images x (B, 1, 28, 28) in [0, 1] -> mu, logvar (B, Z), the posterior's mean and log-variance."""
        mu, logvar = self.encoder(x)
        return mu.to(x.dtype), logvar.to(x.dtype)  # under autocast the layers answer in bfloat16

    def reparameterize(self, mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
        """z = mu + std * eps with eps ~ N(0, I), all (B, Z) (Kingma & Welling 2014, sec. 2.4)."""
        std = torch.exp(0.5 * logvar)
        return mu + std * eps

    def decode(self, z: Tensor) -> Tensor:
        """Latents z (B, Z) -> x_logits (B, 1, 28, 28); the sigmoid of a logit is the pixel's mean."""
        return self.decoder(z).to(z.dtype)

    def pixel_means(self, x_logits: Tensor) -> Tensor:
        """x_logits -> the mean of p(x|z), in [0, 1]: what a picture shows."""
        return torch.sigmoid(x_logits)

    def forward(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, 1, 28, 28), eps (B, Z) -> x_logits (B, 1, 28, 28), mu (B, Z), logvar (B, Z)."""
        mu, logvar = self.encode(x)
        z = self.reparameterize(mu, logvar, eps)
        return self.decode(z), mu, logvar

    # --- loss: elbo = -(recon + kl), in nats per image ---

    def elbo_terms(
        self, x: Tensor, x_logits: Tensor, mu: Tensor, logvar: Tensor, likelihood: str = "bernoulli"
    ) -> tuple[Tensor, Tensor]:
        """recon and kl, each (B,), nats per image: summed over pixels and latents; elbo = -(recon + kl).

        "bernoulli": -log p(x|z); "gaussian": ||x - sigmoid(x_logits)||^2, which is -log p(x|z) of a Gaussian of
        variance 1/2 up to the constant 392 ln(pi). Raises ValueError for another likelihood.
        """
        if likelihood == "bernoulli":
            recon = F.binary_cross_entropy_with_logits(x_logits, x, reduction="none").sum(dim=(1, 2, 3))
        elif likelihood == "gaussian":
            recon = F.mse_loss(torch.sigmoid(x_logits), x, reduction="none").sum(dim=(1, 2, 3))
        else:
            raise ValueError(f'likelihood must be "bernoulli" or "gaussian", got {likelihood!r}.')
        return recon, self.kl_terms(mu, logvar).sum(dim=1)

    def kl_terms(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """KL(N(mu, std^2) || N(0, 1)) of each latent dimension (B, Z), in nats (Kingma & Welling 2014, App. B)."""
        posterior = Normal(mu, torch.exp(0.5 * logvar), validate_args=False)
        prior = Normal(torch.zeros_like(mu), torch.ones_like(mu), validate_args=False)
        return kl_divergence(posterior, prior)

    # --- training: what the trainer asks of every model ---

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """The shape of the standard normal noise that `objective` takes for one image."""
        return (self.spec.latent_dim,)

    def objective(self, x: Tensor, y: Tensor, eps: Tensor, step: int) -> dict[str, Tensor]:
        """Named terms of one training step, means over the batch; "loss", the last, is minimised.

        x (B, 1, 28, 28), labels y (B,), eps (B, *noise_shape), step counted from 0. Here the loss is -elbo.
        """
        x_logits, mu, logvar = self(x, eps)
        recon, kl = self.elbo_terms(x, x_logits, mu, logvar, self.likelihood)
        neg_elbo = (recon + kl).mean()
        return {"recon": recon.mean(), "kl": kl.mean(), "elbo": -neg_elbo, "loss": neg_elbo}
