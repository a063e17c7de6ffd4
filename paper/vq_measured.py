"""What a VQ-VAE and its prior reach on a whole split: the bound under either prior, and the use of the codebook."""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

import processes
from vae_common.data import ImageSet, binarize, generator
from vae_common.measured import LIKELIHOODS, PIXELS, about, metrics_row
from vq_vae import POSITIONS, VQVAE, CodePrior, code_shares, perplexity


@dataclass(frozen=True)
class MeasuredVQ:
    """A VQ-VAE and, once it is trained, its prior on one split: what reports and vq_figures.py take.

    x (N, 1, 28, 28) float32: what the encoder saw; recon (N,) in nats, squared_error (N,) per pixel; codes
    (N, 7, 7) in 0 .. K-1; codebook (K, D); prior_nats (N,), -ln p(codes) under the learned prior, and sample:
    uniforms (M, 49) -> codes (M, 7, 7) drawn from it, both None without one; decode: codes (M, 7, 7) -> pixel
    means (M, 1, 28, 28).
    """

    data: ImageSet
    x: np.ndarray
    recon: np.ndarray
    squared_error: np.ndarray
    codes: np.ndarray
    codebook: np.ndarray
    prior_nats: np.ndarray | None
    decode: Callable[[np.ndarray], np.ndarray]
    sample: Callable[[np.ndarray], np.ndarray] | None

    @property
    def share(self) -> np.ndarray:
        """The share of all positions that each code (K,) takes; sums to 1."""
        return code_shares(torch.from_numpy(self.codes), len(self.codebook)).numpy()

    @property
    def uniform_kl(self) -> float:
        """T ln K, what the codes of an image cost in nats when every code is as likely everywhere."""
        return POSITIONS * math.log(len(self.codebook))

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

    def row(self, epoch: int, args: argparse.Namespace, seconds: float) -> dict:
        """This measurement as a row of metrics.jsonl."""
        row = metrics_row(epoch, "test", self.terms["recon"], self.terms["kl"], args, seconds)
        return {**row, **self.codebook_use}

    def collapse(self) -> str:
        """One line on how much of the codebook is used; a warning when it is less than half."""
        used, count = int((self.share > 0).sum()), len(self.share)
        if used < count / 2:
            return f"warning: {count - used} of {count} codes are dead; try fewer --codes, or --codebook ema."
        return f"{used} of {count} codes are used."

    def evaluation(self, args: argparse.Namespace) -> dict:
        """This measurement as evaluation.json."""
        prior = "uniform" if self.prior_nats is None else "learned"
        uniform = {"kl_uniform": self.uniform_kl, "elbo_uniform": -(self.terms["recon"] + self.uniform_kl)}
        return {**about(args), "images": len(self.x), "prior": prior, **self.terms, **uniform, **self.codebook_use}

    def summary(self, args: argparse.Namespace) -> str:
        """This measurement as lines to print."""
        recon, use = self.recon.mean(), self.codebook_use
        lines = [
            f"{self.data.name} {self.data.split}: {len(self.x):,} images, {PIXELS[args.binarize]}, "
            f"{LIKELIHOODS[args.likelihood]} likelihood, one code per position, nats per image",
            f"  recon {recon:8.2f}   squared error {use['mse']:.5f} per pixel",
            f"  uniform prior: kl {self.uniform_kl:8.2f}   elbo {-(recon + self.uniform_kl):8.2f}",
        ]
        if self.prior_nats is not None:
            kl, error = self.prior_nats.mean(), (self.recon + self.prior_nats).std() / len(self.x) ** 0.5
            lines.append(f"  learned prior: kl {kl:8.2f}   elbo {-(recon + kl):8.2f}  (standard error {error:.2f})")
        lines.append(
            f"  {use['codes_used']} of {use['codes']} codes used ({use['codes_used'] / use['codes']:.0%}), "
            f"perplexity {use['perplexity']:.1f}"
        )
        return "\n".join(lines)


@torch.no_grad()
def measure_vq(
    vqvae: VQVAE, prior: CodePrior | None, data: ImageSet, config: argparse.Namespace, batch_size: int = 500
) -> MeasuredVQ:
    """Measure a VQ-VAE, and its prior if there is one, on all of `data` (config: binarize, seed). No noise enters.

    Collective: several processes divide the chunks of `batch_size` images, and all know the result.
    """
    vqvae.eval()
    device = vqvae.codebook.device
    x = binarize(data.images, config.binarize, generator(config.seed, "evaluation"))
    parts = []
    chunks = torch.from_numpy(x).split(batch_size)
    for x_chunk in chunks[processes.share(len(chunks))]:
        x_chunk = x_chunk.to(vqvae.codebook)  # its device and dtype
        _, codes = vqvae.encode(x_chunk)
        x_logits = vqvae.decode_codes(codes)
        squared_error = (torch.sigmoid(x_logits) - x_chunk).square().mean(dim=(1, 2, 3))
        nats = codes.new_zeros(len(codes)) if prior is None else prior.nats(codes)
        terms = (vqvae.recon(x_chunk, x_logits), squared_error, codes, nats)
        parts.append([term.cpu().numpy() for term in terms])
    recon, squared_error, codes, nats = (np.concatenate(part) for part in zip(*processes.gather(parts), strict=True))

    @torch.no_grad()
    def decode(codes: np.ndarray) -> np.ndarray:
        return torch.sigmoid(vqvae.decode_codes(torch.from_numpy(codes).to(device))).cpu().numpy()

    def sample(uniforms: np.ndarray) -> np.ndarray:
        return prior.sample(torch.from_numpy(uniforms).to(device)).cpu().numpy()

    codebook = vqvae.codebook.detach().cpu().numpy()
    learned = (None, None) if prior is None else (nats, sample)
    return MeasuredVQ(data, x, recon, squared_error, codes, codebook, learned[0], decode, learned[1])
