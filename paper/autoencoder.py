"""The autoencoder: a VAE without noise and without a price. It reduces dimensions, but generates nothing.

Its loss is recon at z = mu; the logvar layer is there, as in the spec, and unused. `python paper/autoencoder.py AE VAE`
sets two finished runs of the same Z beside PCA with as many components: squared error per pixel on the test split, and
what each makes of z ~ N(0, I). A linear autoencoder trained on squared error finds the subspace of PCA (Bourlard & Kamp
1988; Baldi & Hornik 1989).
"""

import argparse

import numpy as np
import torch
from torch import Tensor

from conv_vae import ConvVAE
from vae_common.cli import NotFiniteError
from vae_common.measured import LIKELIHOODS, PIXELS, Measured, about


class Autoencoder(ConvVAE):
    """The network of the spec, z = mu."""

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (0,)

    def reparameterize(self, mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
        return mu

    def objective(self, x: Tensor, y: Tensor, eps: Tensor, step: int) -> dict[str, Tensor]:
        x_logits, mu, logvar = self(x, eps)
        recon = self.elbo_terms(x, x_logits, mu, logvar, self.likelihood)[0].mean()
        mse = ((torch.sigmoid(x_logits) - x) ** 2).mean()
        return {"mse": mse, "recon": recon, "loss": recon}


class AutoencoderMeasured(Measured):
    """What is measured of an autoencoder: it has no posterior, so no kl and no elbo, but a squared error."""

    @property
    def std(self) -> np.ndarray:
        return np.zeros_like(self.mu)

    @property
    def kl_per_dim(self) -> np.ndarray:
        """There is no KL; dimensions are ordered by the variance of mu instead."""
        return self.mu.var(axis=0)

    @property
    def mse(self) -> float:
        """Squared error per pixel, mean over the images."""
        return float(((self.decode(self.mu) - self.x) ** 2).mean())

    def row(self, epoch: int, args: argparse.Namespace, seconds: float) -> dict:
        terms = {"recon": float(self.recon.mean()), "mse": self.mse}
        if not np.isfinite(terms["recon"]):
            raise NotFiniteError(f"recon of the test split is {terms['recon']} in epoch {epoch}; try a smaller --lr.")
        return {"epoch": epoch, "split": "test", **terms, "seconds": round(seconds, 3), **about(args)}

    def evaluation(self, args: argparse.Namespace) -> dict:
        return {**about(args), "images": len(self.x), "recon": float(self.recon.mean()), "mse": self.mse}

    def collapse(self) -> str:
        return "an autoencoder has no posterior that could collapse, and no prior to sample from."

    def summary(self, args: argparse.Namespace) -> str:
        return (
            f"{self.data.name} {self.data.split}: {len(self.x):,} images, {PIXELS[args.binarize]}, "
            f"{LIKELIHOODS[args.likelihood]} loss, z = mu\n"
            f"  recon {self.recon.mean():8.2f}  nats per image\n  mse   {self.mse:8.5f}  per pixel"
        )
