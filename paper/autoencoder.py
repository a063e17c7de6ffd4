"""The autoencoder: a VAE without noise and without a price. It reduces dimensions, but generates nothing.

Its loss is recon at z = mu; the logvar layer is there, as in the spec, and unused. `python paper/autoencoder.py AE VAE`
sets two finished runs of the same Z beside PCA with as many components: squared error per pixel on the test split, and
what each makes of z ~ N(0, I). A linear autoencoder trained on squared error finds the subspace of PCA (Bourlard & Kamp
1988; Baldi & Hornik 1989).
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from conv_vae import ConvVAE
from vae_common import canvas, cli, figures
from vae_common.data import ImageSet, binarize, generator
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
            raise cli.NotFiniteError(
                f"recon of the test split is {terms['recon']} in epoch {epoch}; try a smaller --lr."
            )
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


# --- AE, PCA and VAE side by side ---------------------------------------------------------------------------------

COLUMNS = 12  # images in a row of the pictures


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
        from sklearn.decomposition import PCA

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


def errors(ae: Measured, vae: Measured, pca: LinearCode) -> dict[str, float]:
    """Squared error per pixel on the test split, by name."""
    x = ae.x
    return {
        "mean image, no code": mse(x, pca.mean.reshape(1, 1, 28, 28)),
        "VAE, sampled z": mse(x, vae.decode(vae.mu + vae.std * vae.eps)),
        "PCA": mse(x, pca.decode(pca.encode(x))),
        "VAE, z = mu": mse(x, vae.decode(vae.mu)),
        "AE": mse(x, ae.decode(ae.mu)),
    }


def draw(folder: Path, ae: Measured, vae: Measured, pca: LinearCode, seed: int) -> None:
    """Draw reconstructions, samples, and the two clouds of codes into folder/figures."""
    z = generator(seed, "figures").standard_normal((COLUMNS, ae.mu.shape[1]), dtype=np.float32)
    pictures = {
        "reconstructions": reconstructions(ae, vae, pca),
        "samples": samples(ae, vae.decode, pca, z),
        "latent-ae": latent(
            ae,
            "The codes of the autoencoder",
            "Nothing sets their scale, where z ~ N(0, I) mostly lies within 2 of the origin",
        ),
        "latent-vae": latent(
            vae, "The posterior means of the VAE", "The KL draws them to where z ~ N(0, I) falls, the circles"
        ),
    }
    for name, figure in pictures.items():
        print(f"wrote {canvas.save_figure(figure, folder / 'figures' / f'{name}.png')}")


def reconstructions(ae: Measured, vae: Measured, pca: LinearCode):
    x = ae.x[:COLUMNS]
    rows = [x, pca.decode(pca.encode(x)), vae.decode(vae.mu[:COLUMNS]), ae.decode(ae.mu[:COLUMNS])]
    return figures.image_grid(
        np.concatenate(rows).clip(0, 1), COLUMNS, f"Test images from {ae.mu.shape[1]} numbers each",
        row_labels=["original", "PCA", "VAE", "AE"],
        caption="PCA adds and subtracts fixed images, which leaves shadows. The VAE, here at z = mu, gives up detail "
        "for codes that can be sampled; the AE gives up nothing for that.",
    )  # fmt: skip


def samples(ae: Measured, decode_vae: Callable[..., np.ndarray], pca: LinearCode, z: np.ndarray):
    fitted = ae.mu.mean(axis=0) + ae.mu.std(axis=0) * z
    rows = [decode_vae(z), ae.decode(z), ae.decode(fitted.astype(np.float32)), pca.decode(pca.std * z)]
    return figures.image_grid(
        np.concatenate(rows).clip(0, 1), COLUMNS, "The same z ~ N(0, I), decoded by each",
        row_labels=["VAE", "AE", "AE, z rescaled", "PCA, z rescaled"],
        caption="Only the VAE was trained to have its codes there; the AE's decoder never saw such z. Rescaled: z is "
        "given the mean and the standard deviation of the codes, which helps, but their cloud is no Gaussian.",
    )  # fmt: skip


def latent(measured: Measured, title: str, caption: str):
    variance = measured.mu.var(axis=0)
    dims = np.sort(np.argsort(-variance, kind="stable")[:2])
    spread = f": the standard deviations are {variance[dims].max() ** 0.5:.1f} and {variance[dims].min() ** 0.5:.1f}."
    shown = f" Shown: the two of {len(variance)} dimensions with the largest variance." if len(variance) > 2 else ""
    mu = measured.mu[:, dims] if len(dims) == 2 else np.repeat(measured.mu, 2, axis=1)
    return figures.latent_scatter(
        mu, measured.data.labels, measured.data.class_names, title, [f"mu[{dim}]" for dim in np.resize(dims, 2)],
        caption=caption + spread + shown,
    )  # fmt: skip


# --- command line -------------------------------------------------------------------------------------------------


def run(args: argparse.Namespace) -> None:
    from paper_run import measure, read_run
    from vae_common.data import load_dataset

    (config, ae, _), (vae_config, vae, _) = (read_run(folder) for folder in (args.ae, args.vae))
    refuse_unlike(args, config, vae_config)
    data_dir = args.data_dir or config.data_dir
    train, test = (load_dataset(config.dataset, split, data_dir) for split in ("train", "test"))
    folder = cli.make_run_folder(args, "autoencoder")
    pca = LinearCode.fit(binarize(train.images, config.binarize, generator(config.seed, "binarize")), config.latent_dim)
    ae, vae = (measure(model, test, config) for model in (ae, vae))  # one binarization of the images for both
    found = errors(ae, vae, pca)
    print("\n" + table(found, test, config, vae_config) + "\n")
    cli.write_json(folder / "evaluation.json", {**about(config), "latent_dim": config.latent_dim, "mse": found})
    draw(folder, ae, vae, pca, config.seed)


def refuse_unlike(args: argparse.Namespace, config: argparse.Namespace, vae_config: argparse.Namespace) -> None:
    """Raise UsageError unless the two runs are an AE and a VAE that can be set side by side."""
    for folder, found, model in ((args.ae, config.model, "ae"), (args.vae, vae_config.model, "vae")):
        if found != model:
            raise cli.UsageError(
                f"{folder}: expected a run of --model {model}, found --model {found}; name AE, then VAE."
            )
    for name in ("dataset", "binarize", "latent_dim"):
        one, other = getattr(config, name), getattr(vae_config, name)
        if one != other:
            flag = "--" + name.replace("_", "-")
            raise cli.UsageError(
                f"{args.vae}: expected {flag} {one}, as in {args.ae}, found {other}; compare like runs."
            )


def table(found: dict[str, float], test: ImageSet, config: argparse.Namespace, vae_config: argparse.Namespace) -> str:
    lines = [
        f"{test.name} test: {len(test):,} images, {PIXELS[config.binarize]}, squared error per pixel, "
        f"Z = {config.latent_dim}",
        f"(AE trained {config.epochs} epochs on the {LIKELIHOODS[config.likelihood]} loss, "
        f"VAE {vae_config.epochs} on the {LIKELIHOODS[vae_config.likelihood]} likelihood)",
    ]
    return "\n".join(
        lines + [f"  {name:20} {value:.4f}" for name, value in sorted(found.items(), key=lambda item: -item[1])]
    )


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser("Set an autoencoder beside PCA and a VAE.", "--data-dir", "--out", "--overwrite")
    parser.add_argument("ae", metavar="AE", help="a finished run of vae_paper.py --model ae")
    parser.add_argument("vae", metavar="VAE", help="one of --model vae with the same data and latent dimensions")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
