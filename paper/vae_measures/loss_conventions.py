"""What beta another project's loss amounts to here: conventions of sums and means, and some public losses.

Here the loss is recon + beta KL: summed over pixels and latents, mean over the batch, so beta = 1 is the exact ELBO.
Elsewhere one term or both are averaged, and a constant before the KL makes up for it, or does not. Any such loss is

    loss = scale * (recon + beta KL)

with the sums of this project: gradients of the same direction, `scale` times as long, which Adam does not see. A mean
over P pixels divides recon by P, which multiplies beta by P.

The squared error: `--likelihood gaussian` is ||x - x_hat||^2 here, -log p(x|z) of a Gaussian of variance 1/2 up to a
constant. With another variance s2 it is ||x - x_hat||^2 / (2 s2), so s2 = 1 is beta = 2. Conversely, every beta of
a squared error is an exact ELBO: that of the variance beta / 2.
"""

import math
from dataclasses import dataclass

REDUCTIONS = ("sum", "mean")
LIKELIHOODS = ("bernoulli", "gaussian")


@dataclass(frozen=True)
class LossConvention:
    """A training loss recon_weight * recon + kl_weight * kl, by how its two terms are reduced: "sum" or "mean".

    likelihood: "bernoulli" (binary cross-entropy), or "gaussian", a squared error over 2 `variance`: 1/2 leaves the
    plain square, 1 is half of it. A pixel's channels are pixels too. Raises ValueError for anything else.
    """

    recon_over_pixels: str = "sum"
    recon_over_batch: str = "mean"
    kl_over_latents: str = "sum"
    kl_over_batch: str = "mean"
    kl_weight: float = 1.0
    recon_weight: float = 1.0
    likelihood: str = "bernoulli"
    variance: float = 0.5

    def __post_init__(self):
        for name in ("recon_over_pixels", "recon_over_batch", "kl_over_latents", "kl_over_batch", "likelihood"):
            allowed, value = LIKELIHOODS if name == "likelihood" else REDUCTIONS, getattr(self, name)
            if value not in allowed:
                raise ValueError(f'{name} must be "{allowed[0]}" or "{allowed[1]}", got {value!r}.')
        if not (math.isfinite(self.kl_weight) and self.kl_weight >= 0):
            raise ValueError(f"kl_weight must be a finite number of at least 0, got {self.kl_weight!r}.")
        for name in ("recon_weight", "variance"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} must be a finite number above 0, got {getattr(self, name)!r}.")

    @property
    def depends_on_batch_size(self) -> bool:
        """Whether beta does: a sum of one term over the batch and a mean of the other. The last, smaller batch of an
        epoch is then trained with another beta than the rest."""
        return self.recon_over_batch != self.kl_over_batch


def effective_beta(
    convention: LossConvention, pixels: int = 784, latent_dim: int = 20, batch_size: int | None = None
) -> float:
    """The beta of this project whose loss has gradients of the same direction.

    pixels: numbers per image, channels included; batch_size is needed where the convention mixes a sum over the batch
    with a mean. Raises ValueError when it is needed and missing, or a size is not positive.
    """
    for name, value in (("pixels", pixels), ("latent_dim", latent_dim), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value!r}.")
    if convention.depends_on_batch_size and batch_size is None:
        raise ValueError("beta depends on the batch size under this convention; give batch_size.")
    kl = convention.kl_weight / (latent_dim if convention.kl_over_latents == "mean" else 1)
    recon = convention.recon_weight / (pixels if convention.recon_over_pixels == "mean" else 1)
    beta = kl / (recon / (2 * convention.variance) if convention.likelihood == "gaussian" else recon)
    if convention.depends_on_batch_size:
        beta *= batch_size if convention.kl_over_batch == "sum" else 1 / batch_size
    return beta


# --- in words -----------------------------------------------------------------------------------------------------


def in_words(convention: LossConvention, pixels: int = 784, latent_dim: int = 20, batch_size: int | None = None) -> str:
    """What a learner should know about this convention, a few lines. Raises ValueError as `effective_beta` does."""
    beta = effective_beta(convention, pixels, latent_dim, batch_size)
    lines = [f"beta = {beta:.4g} in this project's convention (sums over pixels and latents, mean over the batch)."]
    if beta == 0:
        lines.append(f"It is not an ELBO. {_leaning(beta)}")
    elif convention.likelihood == "gaussian":
        std = math.sqrt(beta / 2)
        lines.append(f"It is the exact ELBO of pixels with Gaussian noise of variance {beta / 2:.4g}, std {std:.4g}.")
        if std > 0.5:
            lines.append("On pixels from 0 to 1 that is more noise than most images have contrast: expect blur.")
    elif math.isclose(beta, 1):
        lines.append("It is the exact ELBO.")
    else:
        lines.append(f"It is not an ELBO: the KL counts {beta:.4g} times. {_leaning(beta)}")
    if convention.depends_on_batch_size and batch_size > 1:
        smaller = batch_size // 2
        other = effective_beta(convention, pixels, latent_dim, smaller)
        lines.append(
            f"One term is summed over the batch and the other averaged: beta holds for batches of {batch_size}; "
            f"a batch of {smaller}, the last of an epoch perhaps, has beta = {other:.4g}."
        )
    return "\n".join(lines)


def _leaning(beta: float) -> str:
    if beta == 0:
        return "It is an autoencoder with noise: nothing holds q(z|x) near the prior."
    return "Expect unused latent dimensions." if beta > 1 else "Expect samples from the prior to be worse."


# --- loops that can be read in public -----------------------------------------------------------------------------


@dataclass(frozen=True)
class PublicLoss:
    """A loss from a public repository, with the sizes that are used there."""

    where: str
    what: str
    convention: LossConvention
    pixels: int
    latent_dim: int
    batch_size: int | None = None

    @property
    def beta(self) -> float:
        """Its beta in this project's convention."""
        return effective_beta(self.convention, self.pixels, self.latent_dim, self.batch_size)


_SUMS = LossConvention(recon_over_batch="sum", kl_over_batch="sum")
_MEAN_SQUARE = LossConvention("mean", likelihood="gaussian", kl_weight=0.00025)
_CONFIGURED = LossConvention("mean", kl_over_batch="sum", kl_weight=1 / (128 * 784))
_RGB = 3 * 64 * 64

PUBLIC = (
    PublicLoss("pytorch/examples, vae/main.py", "BCE and KL, all summed", _SUMS, 784, 20, 128),
    PublicLoss("the same, January 2018 (#294)", "mean BCE, KL / (128 x 784)", _CONFIGURED, 784, 20, 128),
    PublicLoss("the same, last batch of an epoch", "its 96 images, KL / (128 x 784)", _CONFIGURED, 784, 20, 96),
    PublicLoss("keras-io, examples/generative/vae.py", "BCE and KL of an image", LossConvention(), 784, 2),
    PublicLoss("google/flax, examples/vae/train.py", "BCE and KL of an image", LossConvention(), 784, 20),
    PublicLoss(
        "1Konny/Beta-VAE, run_celeba_H_beta10_z32.sh",
        "squared error, 10 x KL",
        LossConvention(likelihood="gaussian", kl_weight=10),
        _RGB,
        32,
    ),
    PublicLoss(
        "YannDubs/disentangling-vae, losses.py, gaussian",
        "255 x squared error, 1 x KL",
        LossConvention(likelihood="gaussian", recon_weight=255),
        1024,
        10,
    ),
    PublicLoss(
        "clementchadebec/benchmark_VAE, vae_model.py",
        "half the squared error, 1 x KL",
        LossConvention(likelihood="gaussian", variance=1.0),
        784,
        10,
    ),
    PublicLoss("AntixK/PyTorch-VAE, configs/vae.yaml", "mean squared error, 0.00025 x KL", _MEAN_SQUARE, _RGB, 128),
    PublicLoss(
        "the same, validation (experiment.py)",
        "mean squared error, 1 x KL",
        LossConvention("mean", likelihood="gaussian"),
        _RGB,
        128,
    ),
    PublicLoss(
        "ethanluoyc/pytorch-vae, vae.py",
        "mean squared error, mean KL of 8 latents",
        LossConvention("mean", kl_over_latents="mean", likelihood="gaussian"),
        784,
        8,
    ),
)


def table() -> str:
    """PUBLIC as a table in Markdown, each beta computed by `effective_beta`."""
    rows = [("where", "what its loss is", "pixels", "Z", "beta here"), ("---", "---", "--:", "--:", "--:")]
    for loss in PUBLIC:
        beta = f"{loss.beta:.4g}" if loss.beta < 1000 else f"{loss.beta:,.0f}"
        rows.append((loss.where, loss.what, loss.pixels, loss.latent_dim, beta))
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)
