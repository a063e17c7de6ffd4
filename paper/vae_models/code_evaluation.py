"""What a VQ-VAE and its prior reach on a whole split: the bound under either prior, and the use of the codebook."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vae_common.data import ImageSet
from vae_common.evaluation import LIKELIHOODS, PIXELS, metrics_row


def code_shares(codes: Tensor, count: int) -> Tensor:
    """Which share of codes (any shape) is code 0 .. count-1: float64 (count,), summing to 1."""
    return torch.bincount(codes.flatten(), minlength=count).double() / codes.numel()


def perplexity(share: Tensor) -> Tensor:
    """exp(entropy) of the codes' shares (K,), from 1 (one code does all) to K (all are used equally)."""
    return torch.special.entr(share).sum().exp()


@dataclass(frozen=True)
class CodeEvaluation:
    """A VQ-VAE and, once it is trained, its prior on one split: what reports and pictures take.

    binarize, likelihood: as in RunConfig; x (N, 1, 28, 28) float32: what the encoder saw; decode: codes (M, 7, 7) ->
    pixel means (M, 1, 28, 28); codebook (K, D); recon (N,) in nats, squared_error (N,) per pixel; codes (N, 7, 7) in
    0 .. K-1; prior_nats (N,), -ln p(codes) under the learned prior, and sample: uniforms (M, 49) -> codes (M, 7, 7)
    drawn from it, both None without one; conditional: that prior is given the label, and sample the labels (M,) too.
    """

    data: ImageSet
    binarize: str
    likelihood: str
    x: np.ndarray
    decode: Callable[[np.ndarray], np.ndarray]
    codebook: np.ndarray
    recon: np.ndarray
    squared_error: np.ndarray
    codes: np.ndarray
    prior_nats: np.ndarray | None = None
    sample: Callable[..., np.ndarray] | None = None
    conditional: bool = False

    @property
    def on(self) -> dict[str, str]:
        """What the numbers are on."""
        return {"dataset": self.data.name, "binarize": self.binarize, "likelihood": self.likelihood}

    def prior_samples(self, rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        """Pixel means of samples of the learned prior, of labels (M,) where it is given them."""
        uniforms = rng.random((len(labels), self.codes[0].size))
        return self.decode(self.sample(uniforms, labels) if self.conditional else self.sample(uniforms))

    @property
    def share(self) -> np.ndarray:
        """The share of all positions that each code (K,) takes; sums to 1."""
        return code_shares(torch.from_numpy(self.codes), len(self.codebook)).numpy()

    @property
    def uniform_kl(self) -> float:
        """T ln K, what the codes of an image cost in nats when every code is as likely everywhere."""
        return self.codes[0].size * math.log(len(self.codebook))

    @property
    def terms(self) -> dict[str, float]:
        """recon, kl and elbo under the learned prior, or under the uniform one as long as there is none."""
        recon = float(self.recon.mean())
        kl = self.uniform_kl if self.prior_nats is None else float(self.prior_nats.mean())
        return {"elbo": -(recon + kl), "recon": recon, "kl": kl}

    @property
    def codebook_use(self) -> dict[str, float]:
        """How much of the codebook this split uses, and the squared error per pixel."""
        used = int((self.share > 0).sum())
        return {
            "mse": float(self.squared_error.mean()),
            "codes": len(self.share),
            "codes_used": used,
            "perplexity": float(perplexity(torch.from_numpy(self.share))),
        }

    def row(self, epoch: int, seconds: float) -> dict:
        """This measurement as a row of metrics.jsonl."""
        row = metrics_row(epoch, self.data.split, self.terms["recon"], self.terms["kl"], self.on, seconds)
        return {**row, **self.codebook_use}

    def collapse(self) -> str:
        """One line on how much of the codebook is used; a warning when it is less than half."""
        used, count = int((self.share > 0).sum()), len(self.share)
        if used < count / 2:
            return f"warning: {count - used} of {count} codes are dead; try fewer, or --codebook ema."
        return f"{used} of {count} codes are used."

    def results(self) -> dict:
        """This measurement as evaluation.json."""
        prior = "uniform" if self.prior_nats is None else "learned, given the label" if self.conditional else "learned"
        uniform = {"kl_uniform": self.uniform_kl, "elbo_uniform": -(self.terms["recon"] + self.uniform_kl)}
        return {**self.on, "images": len(self.x), "prior": prior, **self.terms, **uniform, **self.codebook_use}

    def summary(self) -> str:
        """This measurement as lines to print."""
        recon, use = self.recon.mean(), self.codebook_use
        lines = [
            f"{self.data.name} {self.data.split}: {len(self.x):,} images, {PIXELS[self.binarize]}, "
            f"{LIKELIHOODS[self.likelihood]} likelihood, one code per position, nats per image",
            f"  recon {recon:8.2f}   squared error {use['mse']:.5f} per pixel",
            f"  uniform prior: kl {self.uniform_kl:8.2f}   elbo {-(recon + self.uniform_kl):8.2f}",
        ]
        if self.prior_nats is not None:
            kl, error = self.prior_nats.mean(), (self.recon + self.prior_nats).std() / len(self.x) ** 0.5
            lines.append(f"  learned prior: kl {kl:8.2f}   elbo {-(recon + kl):8.2f}  (standard error {error:.2f})")
            lines[-1] += ", given the label" if self.conditional else ""
        lines.append(
            f"  {use['codes_used']} of {use['codes']} codes used ({use['codes_used'] / use['codes']:.0%}), "
            f"perplexity {use['perplexity']:.1f}"
        )
        return "\n".join(lines)
