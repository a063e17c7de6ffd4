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

    The paper's prior is a PixelCNN (sec. 3.3); both are p(c) = prod_t p(c_t | c_<t). Position t reads the codes up to
    t-1, shifted by one, and each one's place. `vqvae` is frozen, and kept with the prior's own weights.
    """

    def __init__(self, vqvae: VQVAE, width: int = 128, blocks: int = 2):
        super().__init__()
        self.vqvae = vqvae.requires_grad_(False)
        count = len(vqvae.codebook)
        self.embed = nn.Embedding(count, width)
        self.place = nn.Parameter(0.02 * torch.randn(POSITIONS, width))
        self.blocks = nn.Sequential(*[CausalBlock(width) for _ in range(blocks)])
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, count)

    def forward(self, codes: Tensor) -> Tensor:
        """codes (B, 7, 7) -> logits (B, T, K); those of position t depend on codes at positions before t only."""
        before = F.pad(self.embed(codes.flatten(1)[:, :-1]), (0, 0, 1, 0))  # (B, T, E): zeros, then codes 0 .. T-2
        return self.out(self.norm(self.blocks(before + self.place)))

    def nats(self, codes: Tensor) -> Tensor:
        """-ln p(codes) (B,) of codes (B, 7, 7): the sum over positions of -ln p(c_t | c_<t)."""
        log_p = F.cross_entropy(self(codes).movedim(1, 2), codes.flatten(1), reduction="none")
        return log_p.sum(dim=1)

    # --- what training and measuring ask of every model ---

    title = "VQ-VAE"
    conditional = has_posterior = codes_are_vectors = False
    has_prior = True
    noise_shape, latent_shape = (), (0,)

    def objective(self, x: Tensor, y: Tensor | None, eps: Tensor, step: int) -> dict[str, Tensor]:
        """Mean of -ln p(codes of x): KL(q(z|x) || p(z)) in nats per image, since q puts all on one code."""
        nats = self.nats(self.vqvae.encode(x)[1]).mean()
        return {"nats": nats, "loss": nats}

    @property
    def likelihood(self) -> str:
        """That of the VQ-VAE, which decodes."""
        return self.vqvae.likelihood

    def evaluate(self, x: Tensor, y: Tensor | None, eps: Tensor) -> dict[str, Tensor]:
        """What is measured of the VQ-VAE, and prior_nats (B,), -ln p(codes)."""
        found = self.vqvae.evaluate(x, y, eps)
        return {**found, "prior_nats": self.nats(found["codes"])}

    def evaluation(self, on_arrays: Callable, **measured) -> CodeEvaluation:
        """The evaluation of the VQ-VAE, with samples of this prior."""
        return self.vqvae.evaluation(on_arrays, sample=on_arrays(self.sample), **measured)

    @torch.no_grad()
    def sample(self, uniforms: Tensor) -> Tensor:
        """uniforms (B, T) in [0, 1) -> codes (B, 7, 7), one position after another through the inverse CDF."""
        codes = torch.zeros(len(uniforms), POSITIONS, dtype=torch.long, device=uniforms.device)
        for t in range(POSITIONS):
            logits = self(codes.unflatten(1, (SIDE, SIDE)))[:, t]
            cdf = logits.double().softmax(dim=1).cumsum(dim=1)
            codes[:, t] = (cdf <= uniforms[:, t, None]).sum(dim=1).clamp(max=logits.shape[1] - 1)
        return codes.unflatten(1, (SIDE, SIDE))
