"""VQ-VAE: each of 7x7 positions of the latent is one vector out of a learned codebook; a second model learns the codes.

The trunk is the spec's, without its fully connected layers: 28 -> 14 -> 7 and back; in the decoder one 3x3 convolution
and one residual block let neighbouring codes meet. Between the halves each position's vector is replaced by the nearest
of K codes, which has no gradient; the decoder's is copied to the encoder.

Axes: B batch, C channels, H W height and width, K codes, D code dimensions, T = 49 positions in raster order.

van den Oord, Vinyals & Kavukcuoglu 2017, "Neural Discrete Representation Learning", https://arxiv.org/abs/1711.00937
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from processes import batch_mean, batch_rows

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
        return h + self.conv2(F.relu(self.conv1(F.relu(h))))


class Encoder(nn.Module):
    """Images x (B, 1, 28, 28) in [0, 1] -> z_e (B, D, 7, 7), before quantization; with or without a residual block.

    Without one a position sees 7x7 pixels, so all empty paper gets the same code, which the prior learns to expect.
    """

    def __init__(self, code_dim: int, block: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.block = ResidualBlock() if block else nn.Identity()
        self.to_code = nn.Conv2d(64, code_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.conv1(x))  # (B, 32, 14, 14)
        h = self.conv2(h)  # (B, 64, 7, 7)
        return self.to_code(F.relu(self.block(h)))


class Decoder(nn.Module):
    """Quantized z_q (B, D, 7, 7) -> x_logits (B, 1, 28, 28)."""

    def __init__(self, code_dim: int):
        super().__init__()
        self.from_code = nn.Conv2d(code_dim, 64, 3, padding=1)
        self.block = ResidualBlock()
        self.deconv1 = nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1)
        self.deconv2 = nn.ConvTranspose2d(32, 1, 3, stride=2, padding=1, output_padding=1)

    def forward(self, z_q: Tensor) -> Tensor:
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
    """The value of z_q with the gradient of z_e: what the decoder's input asks for goes to the encoder (sec. 3.2)."""
    return z_e + (z_q - z_e).detach()


def perplexity(share: Tensor) -> Tensor:
    """exp(entropy) of the codes' shares (K,), from 1 (one code does all) to K (all are used alike)."""
    return torch.special.entr(share).sum().exp()


# --- the model ----------------------------------------------------------------------------------------------------


class VQVAE(nn.Module):
    """VQ-VAE on the spec's trunk, trained by eq. 3 of the paper, summed over pixels, positions and dimensions:

        loss = recon + ||sg[z_e] - e||^2 + beta ||z_e - sg[e]||^2        (mean over the batch)

    The second term moves codes; with `codebook="ema"` running means move them instead (App. A.1) and it is absent.
    All terms are sums over one image, so beta = 0.25 weighs a squared distance per image against nats per image,
    whatever the batch size. (Code that takes means instead weighs it by 784 / (49 D) times as much.)

    codes: K; code_dim: D; decay: of the running means, per step; dead_below: a code whose running share of the
    positions is less than this part of the uniform share 1/K is dead, and becomes an encoder output of the batch.
    A new codebook is all dead, so the first batch fills it. encoder_block: see Encoder.
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
        encoder_block: bool = False,
    ):
        super().__init__()
        if codebook not in ("ema", "gradient"):
            raise ValueError(f'codebook must be "ema" or "gradient", got {codebook!r}.')
        self.likelihood, self.update, self.beta = likelihood, codebook, beta
        self.decay, self.dead_below = decay, dead_below
        self.encoder = Encoder(code_dim, encoder_block)
        self.decoder = Decoder(code_dim)
        vectors = torch.randn(codes, code_dim)
        if codebook == "gradient":
            self.codebook = nn.Parameter(vectors)
        else:
            self.register_buffer("codebook", vectors)
        self.register_buffer("usage", torch.zeros(codes))  # N_i of App. A.1, as a share of all positions
        self.register_buffer("sums", torch.zeros(codes, code_dim))  # m_i, likewise

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images x (B, 1, 28, 28) -> z_e (B, 7, 7, D) before quantization, codes (B, 7, 7) in 0 .. K-1."""
        z_e = self.encoder(x).movedim(1, -1).to(x.dtype)  # (B, 7, 7, D)
        return z_e, nearest_code(z_e.detach(), self.codebook.detach())

    def decode(self, z: Tensor) -> Tensor:
        """Vectors z (B, 7, 7, D) -> x_logits (B, 1, 28, 28); the sigmoid of a logit is the pixel's mean."""
        return self.decoder(z.movedim(-1, 1)).to(z.dtype)

    def decode_codes(self, codes: Tensor) -> Tensor:
        """codes (B, 7, 7) -> x_logits (B, 1, 28, 28)."""
        return self.decode(self.codebook[codes])

    @property
    def uniform_kl(self) -> float:
        """KL(q(z|x) || uniform) = T ln K nats: q puts all on one code per position, so it is the same for every x."""
        return POSITIONS * math.log(len(self.codebook))

    # --- loss ---

    def recon(self, x: Tensor, x_logits: Tensor) -> Tensor:
        """-log p(x|z) (B,) in nats for "bernoulli"; ||x - sigmoid(x_logits)||^2 for "gaussian", as in conv_vae.py."""
        if self.likelihood == "bernoulli":
            return F.binary_cross_entropy_with_logits(x_logits, x, reduction="none").sum(dim=(1, 2, 3))
        if self.likelihood == "gaussian":
            return F.mse_loss(torch.sigmoid(x_logits), x, reduction="none").sum(dim=(1, 2, 3))
        raise ValueError(f'likelihood must be "bernoulli" or "gaussian", got {self.likelihood!r}.')

    # --- training: what the trainer asks of every model ---

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """One number per position: the model itself is free of noise, which only picks what revives dead codes."""
        return (SIDE, SIDE)

    def objective(self, x: Tensor, y: Tensor, eps: Tensor, step: int) -> dict[str, Tensor]:
        """Named terms of one training step, means over the batch; "loss", the last, is minimised.

        x (B, 1, 28, 28), eps (B, 7, 7); y and step have no part in it. elbo = -(recon + kl) is the bound with the
        uniform prior. In training mode the running means and dead codes are brought up to date after the loss.
        """
        z_e, codes = self.encode(x)
        z_q = self.codebook[codes]
        recon = self.recon(x, self.decode(straight_through(z_e, z_q))).mean()
        commitment = (z_e - z_q.detach()).square().sum(dim=(1, 2, 3)).mean()
        loss = recon + self.beta * commitment
        if self.update == "gradient":
            loss = loss + (z_e.detach() - z_q).square().sum(dim=(1, 2, 3)).mean()
        share = batch_mean(code_shares(codes, len(self.codebook)).to(x))
        if self.training:
            self.update_codes(z_e.detach(), codes, eps)
        kl = torch.full_like(recon, self.uniform_kl)
        counts = {"perplexity": perplexity(share), "codes_used": (share > 0).sum().to(x)}
        return {"recon": recon, "kl": kl, "elbo": -(recon + kl), "commitment": commitment, **counts, "loss": loss}

    @torch.no_grad()
    def update_codes(self, z_e: Tensor, codes: Tensor, eps: Tensor) -> None:
        """Running means of App. A.1, then revival: z_e (B, 7, 7, D), codes and eps (B, 7, 7).

        N_i <- decay N_i + (1 - decay) n_i, m_i <- decay m_i + (1 - decay) sum of i's members, e_i = m_i / N_i, with
        n_i and the sum divided by the number of positions. Dead codes take the outputs with the smallest eps. All that
        is of the whole batch, however many processes share it, so each has the same codebook.
        """
        members = F.one_hot(codes.flatten(), len(self.codebook)).to(z_e)  # (B T, K)
        outputs = z_e.flatten(0, 2)  # (B T, D)
        self.usage.lerp_(batch_mean(members.mean(dim=0)), 1 - self.decay)
        self.sums.lerp_(batch_mean(members.T @ outputs / len(outputs)), 1 - self.decay)
        if self.update == "ema":
            alive = self.usage > 0
            self.codebook[alive] = self.sums[alive] / self.usage[alive, None]
        dead = (self.usage < self.dead_below / len(self.usage)).nonzero()[:, 0]
        if len(dead) == 0:
            return
        outputs, eps = batch_rows(z_e).flatten(0, 2), batch_rows(eps).flatten()
        dead = dead[: len(outputs)]
        chosen = outputs[eps.argsort()[: len(dead)]]
        self.codebook[dead] = chosen
        self.usage[dead] = 1 / len(self.usage)
        self.sums[dead] = chosen / len(self.usage)


def code_shares(codes: Tensor, count: int) -> Tensor:
    """Which share of codes (any shape) is code 0 .. count-1: float64 (count,), summing to 1."""
    return torch.bincount(codes.flatten(), minlength=count).double() / codes.numel()


# --- the prior over codes: p(c) = prod_t p(c_t | c_<t), its own training phase -------------------------------------


class CausalBlock(nn.Module):
    """h (B, T, E) -> (B, T, E): attention to oneself and to earlier positions, then two linear layers, each added."""

    def __init__(self, width: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: Tensor) -> Tensor:
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

    noise_shape = ()

    def objective(self, x: Tensor, y: Tensor, eps: Tensor, step: int) -> dict[str, Tensor]:
        """Mean of -ln p(codes of x): KL(q(z|x) || p(z)) in nats per image, since q puts all on one code."""
        nats = self.nats(self.vqvae.encode(x)[1]).mean()
        return {"nats": nats, "loss": nats}

    @torch.no_grad()
    def sample(self, uniforms: Tensor) -> Tensor:
        """uniforms (B, T) in [0, 1) -> codes (B, 7, 7), one position after another through the inverse CDF."""
        codes = torch.zeros(len(uniforms), POSITIONS, dtype=torch.long, device=uniforms.device)
        for t in range(POSITIONS):
            logits = self(codes.unflatten(1, (SIDE, SIDE)))[:, t]
            cdf = logits.double().softmax(dim=1).cumsum(dim=1)
            codes[:, t] = (cdf <= uniforms[:, t, None]).sum(dim=1).clamp(max=logits.shape[1] - 1)
        return codes.unflatten(1, (SIDE, SIDE))
