"""Level 3: the same convolutional VAE as research code writes it, an nn.Module with PyTorch's own losses.

    log p(x)  >=  elbo  =  E_q(z|x)[ log p(x|z) ]  -  KL( q(z|x) || p(z) )  =  -(recon + kl)
    q(z|x) = N(mu, diag(std^2)) from the encoder,  p(z) = N(0, I),  p(x|z) from the decoder;  equal where q = p(z|x)

Sections and names are those of levels 1 and 2; the keys of `state_dict()` are the parameter names of the spec, so one
weights file serves all three. The models of vae_models/ are this file with one idea changed.

Axes: B batch, C channels, H W height and width, Z latent.
Kingma & Welling 2014, "Auto-Encoding Variational Bayes", https://arxiv.org/abs/1312.6114
Rezende, Mohamed & Wierstra 2014, "Stochastic Backpropagation", https://arxiv.org/abs/1401.4082
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from vae_common.evaluation import Evaluation
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
        """x (B, 1, 28, 28) -> mu, logvar (B, Z)."""
        h = F.relu(self.conv1(x))  # (B, 32, 14, 14)
        h = F.relu(self.conv2(h))  # (B, 64, 7, 7)
        h = F.relu(self.fc(h.flatten(1)))  # (B, 256)
        return self.mu(h), self.logvar(h)


# --- reparameterization -------------------------------------------------------------------------------------------


def reparameterize(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    """z = mu + std * eps with eps ~ N(0, I), so z ~ N(mu, std^2) and gradients reach mu and std; all (B, Z).

    The noise is an argument: the model itself is a plain function (Kingma & Welling 2014, sec. 2.4).
    """
    std = torch.exp(0.5 * logvar)
    return mu + std * eps


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
        """z (B, Z) -> x_logits (B, 1, 28, 28)."""
        h = F.relu(self.fc1(z))  # (B, 256)
        h = F.relu(self.fc2(h)).unflatten(1, (64, 7, 7))
        h = F.relu(self.deconv1(h))  # (B, 32, 14, 14)
        return self.deconv2(h)


# --- the model ----------------------------------------------------------------------------------------------------


class ConvVAE(nn.Module):
    """The VAE of the spec. Noise is an argument of every method that needs it; nothing is drawn in here.

    likelihood: "bernoulli" or "gaussian"; architecture: the classes of encoder and decoder, each built from latent_dim
    (vae_models/mlp.py has others). This model ignores the labels y (B,); conditional ones use them.
    """

    conditional = False  # whether encode and decode look at y
    has_posterior = has_prior = True  # densities q(z|x) and p(z), to measure and to sample
    codes_are_vectors = True  # whether mu depends on the image alone
    mean_output = False  # whether decode answers with means of pixels instead of logits
    sees_pixels = False  # whether the logits of a pixel also depend on other pixels: see logits_of

    def __init__(
        self,
        spec: VAESpec | None = None,
        likelihood: str = "bernoulli",
        architecture: tuple[type[nn.Module], type[nn.Module]] = (Encoder, Decoder),
    ):
        super().__init__()
        if likelihood not in ("bernoulli", "gaussian"):
            raise ValueError(f'likelihood must be "bernoulli" or "gaussian", got {likelihood!r}.')
        self.spec = spec or VAESpec()
        self.likelihood = likelihood
        self.encoder, self.decoder = (half(self.spec.latent_dim) for half in architecture)

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images x (B, 1, 28, 28) in [0, 1] -> mu, logvar (B, Z), the posterior's mean and log-variance."""
        mu, logvar = self.encoder(x)
        return mu.to(x.dtype), logvar.to(x.dtype)  # under autocast the layers answer in bfloat16

    def reparameterize(self, mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
        """z (B, Z), a sample of the posterior."""
        return reparameterize(mu, logvar, eps)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Latents z (B, Z) -> x_logits (B, 1, 28, 28); the sigmoid of a logit is the pixel's mean."""
        return self.decoder(z).to(z.dtype)

    def logits_of(self, x: Tensor, z: Tensor, y: Tensor | None = None) -> Tensor:
        """x_logits of p(x|z) for these x, z: those of decode, but where the decoder looks at pixels as well."""
        return self.decode(z, y)

    def forward(self, x: Tensor, eps: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, 1, 28, 28), eps (B, Z) -> x_logits (B, 1, 28, 28), mu (B, Z), logvar (B, Z)."""
        mu, logvar = self.encode(x, y)
        z = self.reparameterize(mu, logvar, eps)
        return self.logits_of(x, z, y), mu, logvar

    # --- loss: elbo = -(recon + kl), in nats per image ---

    def elbo_terms(self, x: Tensor, x_logits: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
        """recon and kl, each (B,), nats per image: summed over pixels and latents; elbo = -(recon + kl).

        recon of a Bernoulli likelihood is -log p(x|z); of a Gaussian one ||x - sigmoid(x_logits)||^2, which is
        -log p(x|z) of a Gaussian of variance 1/2 up to the constant 392 ln(pi).
        """
        return pixel_loss(x, x_logits, self.likelihood), self.kl_terms(mu, logvar).sum(dim=1)

    @property
    def recon_constant(self) -> float:
        """What recon leaves out of -log p(x|z), in nats."""
        return 392 * math.log(math.pi) if self.likelihood == "gaussian" else 0.0

    def kl_terms(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """KL(N(mu, std^2) || N(0, 1)) of each latent dimension (B, Z), in nats (Kingma & Welling 2014, App. B)."""
        posterior = Normal(mu, torch.exp(0.5 * logvar), validate_args=False)
        prior = Normal(torch.zeros_like(mu), torch.ones_like(mu), validate_args=False)
        return kl_divergence(posterior, prior)

    def log_prior_ratio(self, z: Tensor) -> Tensor:
        """log p(z) - log N(z; 0, I) of z (..., Z) -> (...): 0 here; vae_models/learned_prior.py has other priors."""
        return torch.zeros_like(z[..., 0])

    # --- what training and measuring ask of every model ---

    @property
    def title(self) -> str:
        """What reports call the model."""
        return "VAE"

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """The shape of the standard normal noise that `objective` takes for one image."""
        return self.latent_shape

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of the noise that `evaluate` takes for one image: one sample of z."""
        return (self.spec.latent_dim,)

    def objective(self, x: Tensor, y: Tensor | None, eps: Tensor, step: int) -> dict[str, Tensor]:
        """Named terms of one training step, means over the batch; "loss", the last, is minimised.

        x (B, 1, 28, 28), labels y (B,), eps (B, *noise_shape), step counted from 0. Here the loss is -elbo.
        """
        x_logits, mu, logvar = self(x, eps, y)
        recon, kl = self.elbo_terms(x, x_logits, mu, logvar)
        neg_elbo = (recon + kl).mean()
        return {"recon": recon.mean(), "kl": kl.mean(), "elbo": -neg_elbo, "loss": neg_elbo}

    def evaluate(self, x: Tensor, y: Tensor | None, eps: Tensor) -> dict[str, Tensor]:
        """What is measured of images, one row for each: recon, kl (B,), mu, logvar (B, Z); eps (B, Z)."""
        x_logits, mu, logvar = self(x, eps, y)
        recon, kl = self.elbo_terms(x, x_logits, mu, logvar)
        return {"recon": recon, "kl": kl, "mu": mu, "logvar": logvar}

    def pixels(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Latents z (B, Z) -> the mean of p(x|z), in [0, 1]: what a picture shows."""
        return torch.sigmoid(self.decode(z, y))

    def evaluation(self, on_arrays: Callable, **measured) -> Evaluation:
        """The evaluation made of all that was measured; on_arrays turns a method into a function of NumPy arrays."""
        return Evaluation(decode=on_arrays(self.pixels), conditional=self.conditional, **measured)


def pixel_loss(x: Tensor, x_logits: Tensor, likelihood: str) -> Tensor:
    """recon (B,) of images x and x_logits (B, 1, 28, 28): "bernoulli" or "gaussian", see `ConvVAE.elbo_terms`."""
    if likelihood == "bernoulli":
        recon = F.binary_cross_entropy_with_logits(x_logits, x, reduction="none")
    else:
        recon = F.mse_loss(torch.sigmoid(x_logits), x, reduction="none")
    return recon.sum(dim=(1, 2, 3))
