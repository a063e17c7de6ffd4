"""PCA of images as a code, and its squared error beside that of an autoencoder and of a VAE.

A linear autoencoder trained on squared error finds the subspace of PCA (Bourlard & Kamp 1988; Baldi & Hornik 1989).
"""

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA

from vae_common.evaluation import Evaluation


@dataclass(frozen=True)
class LinearCode:
    """PCA of images: the `components` (Z, 784), orthonormal rows, around the `mean` (784,), with the data's `std` (Z,)
    along them, largest first. Of all linear codes of Z numbers it has the least squared error (Eckart & Young 1936)."""

    mean: np.ndarray
    components: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, latent_dim: int) -> "LinearCode":
        """From images x (N, 1, 28, 28); Z = latent_dim must exceed neither N nor 784."""
        pca = PCA(latent_dim, svd_solver="full").fit(x.reshape(len(x), -1))
        return cls(pca.mean_, pca.components_, np.sqrt(pca.explained_variance_))

    def encode(self, x: np.ndarray) -> np.ndarray:
        """x (N, 1, 28, 28) -> z (N, Z)."""
        return (x.reshape(len(x), -1) - self.mean) @ self.components.T

    def decode(self, z: np.ndarray) -> np.ndarray:
        """z (N, Z) -> x_hat (N, 1, 28, 28), which may leave [0, 1]."""
        return (z @ self.components + self.mean).reshape(-1, 1, 28, 28)


def mse(x: np.ndarray, x_hat: np.ndarray) -> float:
    """Squared error per pixel, mean over the images."""
    return float(((x_hat - x) ** 2).mean(dtype=np.float64))


def errors(ae: Evaluation, vae: Evaluation, pca: LinearCode) -> dict[str, float]:
    """Squared error per pixel on the test split, by name."""
    x = ae.x
    return {
        "mean image, no code": mse(x, pca.mean.reshape(1, 1, 28, 28)),
        "VAE, sampled z": mse(x, vae.decode(vae.z)),
        "PCA": mse(x, pca.decode(pca.encode(x))),
        "VAE, z = mu": mse(x, vae.decode(vae.mu)),
        "AE": mse(x, ae.decode(ae.mu)),
    }
