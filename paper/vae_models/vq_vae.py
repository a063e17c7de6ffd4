"""VQ-VAE: each of 7x7 positions of the latent is one vector out of a learned codebook (code_prior.py learns the codes).

The network is the spec's without its fully connected layers: 28 -> 14 -> 7 and back; in the decoder one 3x3
convolution and one residual block let neighbouring codes meet. Between the halves each position's vector is
replaced by the nearest of K codes, which has no gradient; the decoder's is copied to the encoder, or turned as the
vector was. A fixed grid can stand in for the learned codebook, and needs none of the care that keeps that in use.

Axes: B batch, C channels, H W height and width, K codes, D code dimensions, T = 49 positions in raster order.

van den Oord, Vinyals & Kavukcuoglu 2017, "Neural Discrete Representation Learning", https://arxiv.org/abs/1711.00937
Mentzer, Minnen, Agustsson & Tschannen 2024, "Finite Scalar Quantization", https://arxiv.org/abs/2309.15505
Fifty et al. 2025, "Restructuring Vector Quantization with the Rotation Trick", https://arxiv.org/abs/2410.06424
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conv_vae import pixel_loss
from vae_models.code_evaluation import CodeEvaluation, code_shares, perplexity

SIDE = 7
POSITIONS = SIDE * SIDE

# --- encoder and decoder: the spec's convolutions, and one more on each side of the codes --------------------------


class ResidualBlock(nn.Module):
    """h + conv1x1(relu(conv3x3(relu(h)))) (B, 64, 7, 7): the block of the paper's sec. 4.1, so that neighbours meet."""

    def __init__(self, channels: int = 64):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 1)

    def forward(self, h: Tensor) -> Tensor:
        """h (B, 64, 7, 7) -> (B, 64, 7, 7)."""
        return h + self.conv2(F.relu(self.conv1(F.relu(h))))


class Encoder(nn.Module):
    """Images x (B, 1, 28, 28) in [0, 1] -> z_e (B, D, 7, 7), before quantization.

    A position sees 7x7 pixels, so all empty paper gets the same code, which the prior learns to expect.
    """

    def __init__(self, code_dim: int):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.to_code = nn.Conv2d(64, code_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 1, 28, 28) -> z_e (B, D, 7, 7)."""
        h = F.relu(self.conv1(x))  # (B, 32, 14, 14)
        h = F.relu(self.conv2(h))  # (B, 64, 7, 7)
        return self.to_code(h)


class Decoder(nn.Module):
    """Quantized z_q (B, D, 7, 7) -> x_logits (B, 1, 28, 28)."""

    def __init__(self, code_dim: int):
        super().__init__()
        self.from_code = nn.Conv2d(code_dim, 64, 3, padding=1)
        self.block = ResidualBlock()
        self.deconv1 = nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1)
        self.deconv2 = nn.ConvTranspose2d(32, 1, 3, stride=2, padding=1, output_padding=1)

    def forward(self, z_q: Tensor) -> Tensor:
        """z_q (B, D, 7, 7) -> x_logits (B, 1, 28, 28)."""
        h = F.relu(self.block(self.from_code(z_q)))  # (B, 64, 7, 7)
        h = F.relu(self.deconv1(h))  # (B, 32, 14, 14)
        return self.deconv2(h)


# --- the codebook -------------------------------------------------------------------------------------------------


def nearest_code(z_e: Tensor, codebook: Tensor) -> Tensor:
    """argmin_k ||z - e_k||^2 of each row of z_e (..., D) in codebook (K, D) -> (...,) (eq. 1).

    ||z||^2 is the same for all k, so ||e||^2 - 2 z.e decides: one matmul, and no array of size (..., K, D).
    """
    return (codebook.square().sum(dim=1) - 2 * z_e @ codebook.T).argmin(dim=-1)


def straight_through(z_e: Tensor, z_q: Tensor) -> Tensor:
    """The value of z_q with the gradient of z_e: the gradient at the decoder's input goes to the encoder (sec. 3.2)."""
    return z_e + (z_q - z_e).detach()


def rotated(z_e: Tensor, z_q: Tensor) -> Tensor:
    """z_q (..., D) as s R z_e, with s = |z_q| / |z_e| and R the rotation of z_e's direction onto that of z_q.

    Both are constants to the gradient g of z_q, so z_e gets s R^T g: moved along with z_e, where `straight_through`
    leaves g as it is. R = I - 2 r r^T + 2 q e^T with unit vectors e, q, and r along e + q (Fifty et al., sec. 4).
    """
    e, q = F.normalize(z_e.detach(), dim=-1), F.normalize(z_q.detach(), dim=-1)
    r = F.normalize(e + q, dim=-1)
    turned = z_e - 2 * (r * z_e).sum(dim=-1, keepdim=True) * r + 2 * (e * z_e).sum(dim=-1, keepdim=True) * q
    return turned * (z_q.norm(dim=-1, keepdim=True) / z_e.norm(dim=-1, keepdim=True)).detach()


def grid(levels: Sequence[int]) -> Tensor:
    """All vectors with entry d at one of levels[d] even steps from -1 to 1: (K, D), K = prod(levels), D = len(levels).

    The codebook of finite scalar quantization: the nearest code of tanh(z) is each of its entries, rounded to a step.
    (Mentzer et al., sec. 3.1; where a level count is even they move tanh, so that 0 is a step: here it lies between.)
    """
    steps = [torch.linspace(-1, 1, count) for count in levels]
    return torch.cartesian_prod(*steps).reshape(-1, len(steps))


CODE_GRADIENTS = {"straight": straight_through, "rotation": rotated}

# --- the model ----------------------------------------------------------------------------------------------------


class VQVAE(nn.Module):
    """VQ-VAE on the spec's convolutions, trained by eq. 3 of the paper, summed over pixels, positions and dimensions:

        loss = recon + ||sg[z_e] - e||^2 + beta ||z_e - sg[e]||^2        (mean over the batch)

    The second term moves codes; with `codebook="ema"` running means move them instead (App. A.1) and it is absent.
    All terms are sums over one image, so beta = 0.25 weighs a squared distance per image against nats per image,
    whatever the batch size. (Code that takes means instead gives it 784 / (49 D) times the weight.)

    levels: instead of a codebook that is learned, the `grid` of these counts, which encoder outputs come to through
    tanh. Then the loss is recon, with no commitment, and codes, code_dim and codebook have no part.
    code_gradient: what reaches the encoder, "straight" through or "rotation", see `rotated`.
    codes: K; code_dim: D; decay: of the running means, per step; dead_below: a code whose running share of the
    positions is less than this part of the uniform share 1/K is dead, and becomes an encoder output of the batch.
    A new codebook is all dead, so the first batch fills it. batch_mean, batch_rows: where several processes share a
    batch, what makes of a share's mean, or of its rows, those of the whole batch.
    """

    def __init__(
        self,
        codes: int = 512,
        code_dim: int = 16,
        likelihood: str = "bernoulli",
        codebook: str = "ema",
        beta: float = 0.25,
        decay: float = 0.99,
        dead_below: float = 0.1,
        levels: Sequence[int] | None = None,
        code_gradient: str = "straight",
        batch_mean: Callable[[Tensor], Tensor] = lambda mean: mean,
        batch_rows: Callable[[Tensor], Tensor] = lambda rows: rows,
    ):
        super().__init__()
        if likelihood not in ("bernoulli", "gaussian"):
            raise ValueError(f'likelihood must be "bernoulli" or "gaussian", got {likelihood!r}.')
        if codebook not in ("ema", "gradient"):
            raise ValueError(f'codebook must be "ema" or "gradient", got {codebook!r}.')
        if code_gradient not in CODE_GRADIENTS:
            raise ValueError(f'code_gradient must be "straight" or "rotation", got {code_gradient!r}.')
        self.likelihood, self.through = likelihood, CODE_GRADIENTS[code_gradient]
        self.update, self.beta = codebook, beta
        self.decay, self.dead_below = decay, dead_below
        self.batch_mean, self.batch_rows = batch_mean, batch_rows
        if levels is not None:
            self.update, self.beta, code_dim = None, 0.0, len(levels)
        self.encoder = Encoder(code_dim)
        self.decoder = Decoder(code_dim)
        vectors = torch.randn(codes, code_dim) if levels is None else grid(levels)
        if self.update == "gradient":
            self.codebook = nn.Parameter(vectors)
        else:
            self.register_buffer("codebook", vectors)
        self.register_buffer("usage", torch.zeros(len(vectors)))  # N_i of App. A.1, as a share of all positions
        self.register_buffer("sums", torch.zeros_like(vectors))  # m_i, likewise

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images x (B, 1, 28, 28) -> z_e (B, 7, 7, D) before quantization, codes (B, 7, 7) in 0 .. K-1."""
        z_e = self.encoder(x).movedim(1, -1).to(x.dtype)  # (B, 7, 7, D)
        z_e = z_e if self.update else torch.tanh(z_e)
        return z_e, nearest_code(z_e.detach(), self.codebook.detach())

    def decode(self, z: Tensor) -> Tensor:
        """Vectors z (B, 7, 7, D) -> x_logits (B, 1, 28, 28); the sigmoid of a logit is the pixel's mean."""
        return self.decoder(z.movedim(-1, 1)).to(z.dtype)

    def decode_codes(self, codes: Tensor) -> Tensor:
        """codes (B, 7, 7) -> x_logits (B, 1, 28, 28)."""
        return self.decode(self.codebook[codes])

    # --- what training and measuring ask of every model ---

    title = "VQ-VAE"
    conditional = has_posterior = codes_are_vectors = False
    has_prior = True
    noise_shape = (SIDE, SIDE)  # one number per position: the model is free of noise, which picks what revives codes
    latent_shape = (0,)  # and measuring takes none

    def objective(self, x: Tensor, y: Tensor | None, eps: Tensor, step: int) -> dict[str, Tensor]:
        """Named terms of one training step, means over the batch; "loss", the last, is minimised.

        x (B, 1, 28, 28), eps (B, 7, 7); y and step have no part in it. elbo = -(recon + kl) is the bound with the
        uniform prior, kl = T ln K for every x, as q puts all on one code per position. In training mode the running
        means and dead codes are brought up to date after the loss.
        """
        z_e, codes = self.encode(x)
        z_q = self.codebook[codes]
        recon = pixel_loss(x, self.decode(self.through(z_e, z_q)), self.likelihood).mean()
        commitment = (z_e - z_q.detach()).square().sum(dim=(1, 2, 3)).mean()
        loss = recon + self.beta * commitment
        if self.update == "gradient":
            loss = loss + (z_e.detach() - z_q).square().sum(dim=(1, 2, 3)).mean()
        share = self.batch_mean(code_shares(codes, len(self.codebook)).to(x))
        if self.training and self.update:
            self.update_codes(z_e.detach(), codes, eps)
        kl = torch.full_like(recon, POSITIONS * math.log(len(self.codebook)))
        counts = {"perplexity": perplexity(share), "codes_used": (share > 0).sum().to(x)}
        return {"recon": recon, "kl": kl, "elbo": -(recon + kl), "commitment": commitment, **counts, "loss": loss}

    def evaluate(self, x: Tensor, y: Tensor | None, eps: Tensor) -> dict[str, Tensor]:
        """What is measured of images, one row for each: recon (B,), squared_error (B,) per pixel, codes (B, 7, 7)."""
        _, codes = self.encode(x)
        x_logits = self.decode_codes(codes)
        squared_error = (torch.sigmoid(x_logits) - x).square().mean(dim=(1, 2, 3))
        return {"recon": pixel_loss(x, x_logits, self.likelihood), "squared_error": squared_error, "codes": codes}

    def pixels(self, codes: Tensor) -> Tensor:
        """codes (B, 7, 7) -> the mean of p(x|z) (B, 1, 28, 28), in [0, 1]."""
        return torch.sigmoid(self.decode_codes(codes))

    def evaluation(self, on_arrays: Callable, eps: np.ndarray, **measured) -> CodeEvaluation:
        """The evaluation made of all that was measured."""
        codebook = self.codebook.detach().cpu().numpy()
        return CodeEvaluation(decode=on_arrays(self.pixels), codebook=codebook, **measured)

    @torch.no_grad()
    def update_codes(self, z_e: Tensor, codes: Tensor, eps: Tensor) -> None:
        """Running means of App. A.1, then revival: z_e (B, 7, 7, D), codes and eps (B, 7, 7).

        N_i <- decay N_i + (1 - decay) n_i, m_i <- decay m_i + (1 - decay) sum of i's members, e_i = m_i / N_i, with
        n_i and the sum divided by the number of positions. Dead codes take the outputs with the smallest eps. All that
        is of the whole batch, however many processes share it, so each has the same codebook.
        """
        members = F.one_hot(codes.flatten(), len(self.codebook)).to(z_e)  # (B T, K)
        outputs = z_e.flatten(0, 2)  # (B T, D)
        self.usage.lerp_(self.batch_mean(members.mean(dim=0)), 1 - self.decay)
        self.sums.lerp_(self.batch_mean(members.T @ outputs / len(outputs)), 1 - self.decay)
        if self.update == "ema":
            alive = self.usage > 0
            self.codebook[alive] = self.sums[alive] / self.usage[alive, None]
        dead = (self.usage < self.dead_below / len(self.usage)).nonzero()[:, 0]
        if len(dead) == 0:
            return
        outputs, eps = self.batch_rows(z_e).flatten(0, 2), self.batch_rows(eps).flatten()
        dead = dead[: len(outputs)]
        chosen = outputs[eps.argsort()[: len(dead)]]
        self.codebook[dead] = chosen
        self.usage[dead] = 1 / len(self.usage)
        self.sums[dead] = chosen / len(self.usage)
