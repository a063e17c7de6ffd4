"""What is measured of a model on a held-out split, at every level: the elbo's terms and the latent dimensions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from vae_common.config import RunConfig
from vae_common.data import ImageSet, binarize
from vae_common.errors import check_finite
from vae_common.randomness import generator

PIXELS = {"none": "grey pixels", "threshold": "thresholded pixels", "dynamic": "dynamically binarized pixels"}
LIKELIHOODS = {"bernoulli": "Bernoulli", "gaussian": "Gaussian"}
FAINT = 0.1  # nats: a latent dimension of a smaller KL is hardly used

# --- from a model to its evaluation -------------------------------------------------------------------------------


def evaluate(
    terms: Callable[..., tuple[np.ndarray, ...]],
    decode: Callable[[np.ndarray], np.ndarray],
    data: ImageSet,
    latent_dim: int,
    config: RunConfig,
    batch_size: int,
) -> "Evaluation":
    """Measure a model on all of `data`, in chunks of `batch_size` images: one sampled z per image, seeded noise.

    terms(x, eps) -> recon (B,), kl (B,), mu (B, Z), logvar (B, Z) and decode(z) -> pixel means (B, 1, 28, 28) are the
    model's own functions, of float32 arrays.
    """
    x, eps = held_out_inputs(data, (latent_dim,), config.binarize, config.seed)
    with np.errstate(over="ignore", invalid="ignore"):  # a result that is not finite is refused by name
        parts = [terms(x[chunk], eps[chunk]) for chunk in chunks(len(x), batch_size)]
    recon, kl, mu, logvar = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Evaluation(data, config.binarize, config.likelihood, x, eps, decode, recon, kl, mu, logvar)


def held_out_inputs(
    data: ImageSet, noise_shape: tuple[int, ...], binarization: str, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """What the encoder sees, x float32 (N, 1, 28, 28), and the noise eps float32 (N, *noise_shape) of an evaluation."""
    rng = generator(seed, "evaluation")
    x = binarize(data.images, binarization, rng)
    return x, rng.standard_normal((len(x), *noise_shape), dtype=np.float32)


def chunks(count: int, size: int) -> Iterator[slice]:
    """range(count) cut into slices of `size`, the last one shorter."""
    return (slice(start, start + size) for start in range(0, count, size))


# --- an evaluation ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluation:
    """The terms of the held-out ELBO, image by image, in nats, and what they were computed from.

    binarize, likelihood: as in RunConfig; x (N, 1, 28, 28) float32: what the encoder saw; eps (N, Z): the noise of the
    one sample of z per image; decode: z (M, Z) float32 -> pixel means (M, 1, 28, 28), where the model is conditional
    also given the labels (M,); recon, kl (N,); mu, logvar (N, Z): the posteriors. Of a learned prior: prior_codes,
    draws (M, Z) from eps (M, Z) ~ N(0, I) and u (M,) ~ U[0, 1), and log_prior_ratio, z (M, Z) -> log p(z) - log N(z; 0,
    I) (M,).
    """

    data: ImageSet
    binarize: str
    likelihood: str
    x: np.ndarray
    eps: np.ndarray
    decode: Callable[..., np.ndarray]
    recon: np.ndarray
    kl: np.ndarray
    mu: np.ndarray
    logvar: np.ndarray
    conditional: bool = False
    prior_codes: Callable[..., np.ndarray] | None = None
    log_prior_ratio: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def on(self) -> dict[str, str]:
        """What the numbers are on: figures of other data, binarization or likelihood cannot be compared."""
        return {"dataset": self.data.name, "binarize": self.binarize, "likelihood": self.likelihood}

    @property
    def z(self) -> np.ndarray:
        """The one z (N, Z) that was sampled from the posterior of each image."""
        return self.mu + self.std * self.eps

    def decode_like(self, z: np.ndarray, image: int | np.ndarray | slice) -> np.ndarray:
        """Pixel means of z (M, Z); a conditional model is given the label of that test image, or of those M."""
        if not self.conditional:
            return self.decode(z)
        return self.decode(z, np.broadcast_to(self.data.labels[image], len(z)))

    def prior_samples(self, rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        """Pixel means of samples of the prior, one for each of labels (M,), which a conditional model is given."""
        z = self.as_prior(rng.standard_normal((len(labels), self.mu.shape[1]), dtype=np.float32), rng)
        return self.decode(z, labels) if self.conditional else self.decode(z)

    def as_prior(self, eps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws of the prior (M, Z) from draws eps (M, Z) of N(0, I): these themselves, unless the prior is learned."""
        if self.prior_codes is None:
            return eps
        return self.prior_codes(eps.astype(np.float32), rng.random(len(eps), dtype=np.float32))

    @property
    def std(self) -> np.ndarray:
        """The posterior's standard deviations (N, Z)."""
        return np.exp(0.5 * self.logvar)

    @property
    def kl_per_dim(self) -> np.ndarray:
        """Mean over the images of each dimension's KL to N(0, 1) (Z,), in nats; unless the prior is learned they sum
        to the mean of `kl`."""
        return 0.5 * (self.mu**2 + np.expm1(self.logvar) - self.logvar).mean(axis=0)

    @property
    def active(self) -> np.ndarray:
        """Which latent dimensions (Z,) the encoder uses: Var_x(E_q[z]) > 0.01 (Burda et al. 2015)."""
        return self.mu.var(axis=0) > 0.01

    def row(self, epoch: int, seconds: float) -> dict:
        """This measurement as a row of metrics.jsonl."""
        row = metrics_row(epoch, self.data.split, self.recon.mean(), self.kl.mean(), self.on, seconds)
        units = {"active_units": int(self.active.sum()), "kl_per_dim": [round(float(kl), 4) for kl in self.kl_per_dim]}
        return {**row, **units}

    def collapse(self) -> str:
        """One line on the latent dimensions that are not used, or hardly; a warning when none is used."""
        kl, count = self.kl_per_dim, len(self.active)
        dead, faint = np.flatnonzero(~self.active), np.flatnonzero(self.active & (kl < FAINT))
        if len(dead) == count:
            return (
                "warning: posterior collapse: q(z|x) is nearly the same for every image and the decoder ignores z; "
                "try a smaller beta, annealing or free bits."
            )
        if len(dead):
            return (
                f"note: {len(dead)} of {count} latent dimensions are inactive, {_listed(dead)}: the mean of q(z|x) is "
                "nearly the same there for every image, so they tell next to nothing of it; for a smaller model take "
                "fewer latent dimensions, to use them a smaller beta, annealing or free bits."
            )
        if len(faint) and self.prior_codes is None:
            some = f"{len(faint)} of them hold less than {FAINT} nats each, {_listed(faint)}"
            return f"all {count} latent dimensions are active, but {some}."
        return f"all {count} latent dimensions are active."

    def results(self) -> dict:
        """This measurement as evaluation.json."""
        recon, kl = float(self.recon.mean()), float(self.kl.mean())
        units = {"active_units": int(self.active.sum()), "kl_per_dim": self.kl_per_dim.tolist()}
        return {**self.on, "images": len(self.x), "elbo": -(recon + kl), "recon": recon, "kl": kl, **units}

    def summary(self) -> str:
        """This measurement as the lines that every level prints."""
        recon, kl, count = self.recon.mean(), self.kl.mean(), len(self.x)
        spread = (self.recon + self.kl).std() / count**0.5
        std = self.std.mean(axis=0)
        beside = " (the prior's is 1)" if self.prior_codes is None else ""
        return (
            f"{self.data.name} {self.data.split}: {count:,} images, {PIXELS[self.binarize]}, "
            f"{LIKELIHOODS[self.likelihood]} likelihood, one sampled z each, nats per image\n"
            f"  recon {recon:8.2f}\n  kl    {kl:8.2f}\n  elbo  {-(recon + kl):8.2f}  (standard error {spread:.2f})\n"
            f"  std of q(z|x): smallest dimension {std.min():.3f}, largest {std.max():.3f}{beside}"
        )


def _listed(dims: np.ndarray, most: int = 12) -> str:
    """The numbers of latent dimensions as words, the first `most` of them."""
    names = ", ".join(str(dim) for dim in dims[:most])
    return f"dimension {names}" if len(dims) == 1 else f"dimensions {names}{', ...' if len(dims) > most else ''}"


def metrics_row(epoch: int, split: str, recon: float, kl: float, on: dict, seconds: float) -> dict:
    """One line of metrics.jsonl: means over the split, nats per image, named with the data they are on.

    Raises NotFiniteError when one of them is NaN or infinite.
    """
    recon, kl = float(recon), float(kl)
    terms = dict(recon=recon, kl=kl, elbo=-(recon + kl))
    check_finite(terms, f"on the {split} split in epoch {epoch}")
    return {"epoch": epoch, "split": split, **terms, "seconds": round(seconds, 3), **on}
