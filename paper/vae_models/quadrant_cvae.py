"""The CVAE that predicts the missing part of an image from the given one, with a learned prior, beside a plain network.

    log p(y|x) >= E_q(z|x,y)[ log p(y|x,z) ] - KL(q(z|x,y) || p(z|x))       Sohn, Lee & Yan 2015

x is the given part of an image and y the missing one. Many y fit one x. A network that gives each pixel a mean must
answer with the average of them; one with a latent z can say "this one or that one". Unlike in conditional_vae.py the
prior is learned: p(z|x) knows which answers are open once x is seen, and the KL is what y adds to that about z.

Axes: B batch, G given pixels, M missing pixels, K samples, Z latent.
"""

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from vae_models.iwae import importance_bound

WIDTH = 500  # of the hidden layers, as in Pyro's example


def given_pixels(quadrants: int) -> np.ndarray:
    """Which pixels (28, 28) are given: those of 1, 2 or 3 quadrants, from the lower left on."""
    given = np.zeros((28, 28), bool)
    given[14:, :14] = True
    given[:14, :14] = quadrants >= 2
    given[:14, 14:] = quadrants >= 3
    return given


# --- the model ----------------------------------------------------------------------------------------------------


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes with a ReLU between them."""
    layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


class QuadrantCVAE(nn.Module):
    """The plain network and, on top of its prediction, the CVAE; no gradient of the CVAE reaches the plain network."""

    def __init__(self, quadrants: int, latent_dim: int = 20):
        super().__init__()
        given = torch.from_numpy(given_pixels(quadrants).ravel())
        self.latent_dim, missing = latent_dim, int((~given).sum())
        self.register_buffer("given", given, persistent=False)
        self.plain = mlp(784 - missing, WIDTH, WIDTH, missing)
        self.prior_net = mlp(784, WIDTH, WIDTH, 2 * latent_dim)
        self.posterior_net = mlp(784, WIDTH, WIDTH, 2 * latent_dim)
        self.from_guess, self.from_z = nn.Linear(784, WIDTH), nn.Linear(latent_dim, WIDTH)
        self.decoder = mlp(WIDTH, WIDTH, missing)

    def split(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image (B, 1, 28, 28) -> x (B, G), y (B, M)."""
        pixels = image.flatten(1)
        return pixels[:, self.given], pixels[:, ~self.given]

    def prior(self, x: Tensor, guess: Tensor) -> Normal:
        """p(z|x), (B, 1, Z); guess (B, M), the plain network's logits, is a function of x."""
        return normal(self.prior_net(torch.cat([x, torch.sigmoid(guess)], dim=1)))

    def posterior(self, x: Tensor, y: Tensor) -> Normal:
        """q(z|x, y), (B, 1, Z)."""
        return normal(self.posterior_net(torch.cat([x, y], dim=1)))

    def decode(self, x: Tensor, guess: Tensor, z: Tensor) -> Tensor:
        """x (B, G), guess (B, M), z (B, K, Z) -> y_logits (B, K, M) of p(y|x, z)."""
        from_guess = self.from_guess(torch.cat([x, torch.sigmoid(guess)], dim=1))
        h = F.relu(from_guess[:, None] + self.from_z(z))  # (B, K, 500)
        return guess[:, None] + self.decoder(h)

    def predict(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, G), eps (B, K, Z) -> logits of y: the plain network's (B, M), and (B, K, M) for K draws of p(z|x)."""
        guess = self.plain(x)
        p = self.prior(x, guess)
        return guess, self.decode(x, guess, p.loc + p.scale * eps)

    def forward(self, image: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """image (B, 1, 28, 28), eps (B, K, Z) -> plain (B,), recon (B, K), kl (B,), log_w (B, K), nats per image.

        log_w = log p(y|x,z_k) + log p(z_k|x) - log q(z_k|x,y), z_k from q; the closed-form kl has no part in it.
        """
        x, y = self.split(image)
        guess = self.plain(x)
        plain, guess = bernoulli_recon(y, guess), guess.detach()
        p, q = self.prior(x, guess), self.posterior(x, y)
        z = q.loc + q.scale * eps  # (B, K, Z)
        recon = bernoulli_recon(y[:, None], self.decode(x, guess, z))
        log_w = (p.log_prob(z) - q.log_prob(z)).sum(dim=2) - recon
        return plain, recon, kl_divergence(q, p).sum(dim=(1, 2)), log_w

    # --- what training asks of every model ---

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """One draw of z for each image: (1, Z)."""
        return (1, self.latent_dim)

    def objective(self, image: Tensor, label: Tensor | None, eps: Tensor, step: int) -> dict[str, Tensor]:
        """Both losses at once, each with weights of its own, so both networks learn what they would learn alone."""
        plain, recon, kl, _ = self(image, eps)
        plain, neg_elbo = plain.mean(), recon.mean() + kl.mean()
        return {"plain": plain, "recon": recon.mean(), "kl": kl.mean(), "elbo": -neg_elbo, "loss": plain + neg_elbo}


def normal(h: Tensor) -> Normal:
    """Mean and log-variance side by side, (B, 2 Z) -> the Gaussian (B, 1, Z), ready for K samples."""
    mu, logvar = h[:, None].chunk(2, dim=2)
    return Normal(mu, torch.exp(0.5 * logvar), validate_args=False)


def bernoulli_recon(y: Tensor, y_logits: Tensor) -> Tensor:
    """-log p(y|...) in nats per image, summed over the missing pixels, the last axis."""
    return F.binary_cross_entropy_with_logits(y_logits, y.expand_as(y_logits), reduction="none").sum(dim=-1)


@torch.no_grad()
def estimates(model: QuadrantCVAE, image: Tensor, eps: Tensor) -> dict[str, Tensor]:
    """image (B, 1, 28, 28), eps (B, K, Z) -> estimates (B,) in nats per image.

    plain: -log p(y|x) of the plain network. recon, kl, elbo: the CVAE's bound, recon averaged over K samples of q.
    bound: L_K, log 1/K sum_k p(y|x,z_k) p(z_k|x) / q(z_k|x,y). prior_bound: log 1/K sum_k p(y|x,z_k), z_k ~ p(z|x);
    it too is below log p(y|x) in the mean, and far below where few samples of the prior come near the true y.
    """
    plain, recon, kl, log_w = model(image, eps)
    x, y = model.split(image)
    from_prior = bernoulli_recon(y[:, None], model.predict(x, eps)[1])
    terms = {"plain": plain, "recon": recon.mean(dim=1), "kl": kl, "elbo": -(recon.mean(dim=1) + kl)}
    return {**terms, "bound": importance_bound(log_w), "prior_bound": importance_bound(-from_prior)}
