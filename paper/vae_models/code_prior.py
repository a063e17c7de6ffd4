"""The prior over the codes of a VQ-VAE: p(c) = prod_t p(c_t | c_<t), a small causal transformer, trained afterwards.

The prior of van den Oord, Vinyals & Kavukcuoglu 2017, sec. 3.3, is a PixelCNN; both are products of conditionals.

Axes: B batch, K codes, T = 49 positions in raster order, E width.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_models.code_evaluation import CodeEvaluation
from vae_models.vq_vae import POSITIONS, SIDE, VQVAE

NEIGHBOURS = (1, SIDE - 1, SIDE, SIDE + 1)  # how many positions before: on the left, above it three


class CausalBlock(nn.Module):
    """h (B, T, E) -> (B, T, E): attention to oneself and to earlier positions, then two linear layers, each added."""

    def __init__(self, width: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        """h (B, T, E) -> (B, T, E); position t sees positions up to t."""
        q, k, v = self.qkv(self.norm1(h)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, T, -1)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.mix(attended.transpose(1, 2).flatten(2))
        return h + self.fc2(F.gelu(self.fc1(self.norm2(h))))


class CodePrior(nn.Module):
    """A small causal transformer (Vaswani et al. 2017) over the 49 codes of a trained VQ-VAE, in raster order.

    The paper's prior is a PixelCNN (sec. 3.3); both are p(c) = prod_t p(c_t | c_<t). Position t starts from its place
    and the codes beside and above it, each embedded in its own way, which is a PixelCNN's first masked convolution; by
    attention it then reads all before. Where the prior is told the label, p(c | y) with `classes` > 0, each position
    starts from that too. `vqvae` is frozen, and kept with the prior's own weights.
    """

    def __init__(self, vqvae: VQVAE, width: int = 128, blocks: int = 2, classes: int = 0):
        super().__init__()
        self.vqvae, self.classes, self.conditional = vqvae.requires_grad_(False), classes, classes > 0
        count = len(vqvae.codebook)
        self.embed = nn.Embedding(count, len(NEIGHBOURS) * width)
        if self.conditional:
            self.label = nn.Embedding(classes, width)
        self.place = nn.Parameter(0.02 * torch.randn(POSITIONS, width))
        self.blocks = nn.Sequential(*[CausalBlock(width) for _ in range(blocks)])
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, count)

    def forward(self, before: Tensor, y: Tensor | None = None) -> Tensor:
        """Codes before (B, t), labels y (B,) -> logits (B, t + 1, K) of each of them and of the next one.

        Those of a position depend on what stands before it only. Without y, or where the prior is not given it, the
        label adds nothing.
        """
        count = before.shape[1] + 1
        parts = self.embed(before).unflatten(2, (len(NEIGHBOURS), -1)).unbind(dim=2)  # of (B, t, E), one for each
        moved = [F.pad(part, (0, 0, by, 0))[:, :count] for by, part in zip(NEIGHBOURS, parts, strict=True)]
        h = torch.stack(moved).sum(dim=0) + self.place[:count]  # (B, t + 1, E)
        if self.conditional and y is not None:
            h = h + self.label(y)[:, None]
        return self.out(self.norm(self.blocks(h)))

    def nats(self, codes: Tensor, y: Tensor | None = None) -> Tensor:
        """-ln p(codes | y) (B,) of codes (B, 7, 7): the sum over positions of -ln p(c_t | c_<t, y)."""
        codes = codes.flatten(1)
        return F.cross_entropy(self(codes[:, :-1], y).movedim(1, 2), codes, reduction="none").sum(dim=1)

    # --- what training and measuring ask of every model ---

    title = "VQ-VAE"
    has_posterior = codes_are_vectors = False
    has_prior = True
    noise_shape, latent_shape = (), (0,)

    def objective(self, x: Tensor, y: Tensor | None, eps: Tensor, step: int) -> dict[str, Tensor]:
        """Mean of -ln p(codes of x): KL(q(z|x) || p(z)) in nats per image, since q puts all on one code."""
        nats = self.nats(self.vqvae.encode(x)[1], y).mean()
        return {"nats": nats, "loss": nats}

    @property
    def likelihood(self) -> str:
        """That of the VQ-VAE, which decodes."""
        return self.vqvae.likelihood

    def evaluate(self, x: Tensor, y: Tensor | None, eps: Tensor) -> dict[str, Tensor]:
        """What is measured of the VQ-VAE, and prior_nats (B,), -ln p(codes)."""
        found = self.vqvae.evaluate(x, y, eps)
        return {**found, "prior_nats": self.nats(found["codes"], y)}

    def log_p(self, x: Tensor, y: Tensor | None, eps: Tensor) -> Tensor:
        """The bound (B,) of log p(x | y), in which eps has no part: one code has all of q."""
        found = self.evaluate(x, y, eps)
        return -(found["recon"] + found["prior_nats"])

    def evaluation(self, on_arrays: Callable, **measured) -> CodeEvaluation:
        """The evaluation of the VQ-VAE, with samples of this prior."""
        own = {"sample": on_arrays(self.sample), "conditional": self.conditional}
        return self.vqvae.evaluation(on_arrays, **own, **measured)

    @torch.no_grad()
    def sample(self, uniforms: Tensor, y: Tensor | None = None) -> Tensor:
        """uniforms (B, T) in [0, 1) -> codes (B, 7, 7), one position after another through the inverse CDF."""
        codes = torch.zeros(len(uniforms), 0, dtype=torch.long, device=uniforms.device)
        for u in uniforms.split(1, dim=1):
            cdf = self(codes, y)[:, -1].double().softmax(dim=1).cumsum(dim=1)
            drawn = (cdf <= u).sum(dim=1, keepdim=True).clamp(max=cdf.shape[1] - 1)
            codes = torch.cat([codes, drawn], dim=1)
        return codes.unflatten(1, (SIDE, SIDE))
