"""The autoencoder: a VAE without noise and without a KL. It reduces dimensions, but generates nothing.

Its loss is recon at z = mu; the logvar layer is there, as in the spec, and unused. A linear autoencoder trained on
squared error finds the subspace of PCA (Bourlard & Kamp 1988; Baldi & Hornik 1989).
"""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from conv_vae import ConvVAE
from vae_common.errors import check_finite
from vae_common.evaluation import LIKELIHOODS, PIXELS, Evaluation


class Autoencoder(ConvVAE):
    """The network of the spec, z = mu."""

    title = "Autoencoder"
    has_posterior = has_prior = False
    noise_shape = (0,)

    def reparameterize(self, mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
        """z = mu: there is no noise."""
        return mu

    def objective(self, x: Tensor, y: Tensor | None, eps: Tensor, step: int) -> dict[str, Tensor]:
        """The loss is recon; mse is the squared error per pixel. eps (B, 0) and y have no part in it."""
        x_logits, mu, logvar = self(x, eps)
        recon = self.elbo_terms(x, x_logits, mu, logvar)[0].mean()
        mse = ((x_logits.sigmoid() - x) ** 2).mean()
        return {"mse": mse, "recon": recon, "loss": recon}

    def evaluation(self, on_arrays: Callable, **measured) -> "AutoencoderEvaluation":
        """The evaluation made of all that was measured."""
        return AutoencoderEvaluation(decode=on_arrays(self.pixels), **measured)


class AutoencoderEvaluation(Evaluation):
    """What is measured of an autoencoder: it has no posterior, so no kl and no elbo, but a squared error."""

    @property
    def std(self) -> np.ndarray:
        """0 (N, Z): there is no posterior."""
        return np.zeros_like(self.mu)

    @property
    def kl_per_dim(self) -> np.ndarray:
        """There is no KL; dimensions are ordered by the variance of mu instead."""
        return self.mu.var(axis=0)

    @property
    def active(self) -> np.ndarray:
        """Nothing draws a dimension to a prior, so all (Z,) are used."""
        return np.ones(self.mu.shape[1], bool)

    @property
    def mse(self) -> float:
        """Squared error per pixel, mean over the images."""
        return float(((self.decode(self.mu) - self.x) ** 2).mean())

    def row(self, epoch: int, seconds: float) -> dict:
        """This measurement as a row of metrics.jsonl: recon in nats, mse per pixel."""
        terms = {"recon": float(self.recon.mean()), "mse": self.mse}
        check_finite(terms, f"on the {self.data.split} split in epoch {epoch}")
        return {"epoch": epoch, "split": self.data.split, **terms, "seconds": round(seconds, 3), **self.on}

    def results(self) -> dict:
        """This measurement as evaluation.json."""
        return {**self.on, "images": len(self.x), "recon": float(self.recon.mean()), "mse": self.mse}

    def collapse(self) -> str:
        """What stands in the place of the line on unused dimensions."""
        return "an autoencoder has no posterior that could collapse, and no prior to sample from."

    def summary(self) -> str:
        """This measurement as lines to print."""
        return (
            f"{self.data.name} {self.data.split}: {len(self.x):,} images, {PIXELS[self.binarize]}, "
            f"{LIKELIHOODS[self.likelihood]} loss, z = mu\n"
            f"  recon {self.recon.mean():8.2f}  nats per image\n  mse   {self.mse:8.5f}  per pixel"
        )
