"""A decoder that can do without z: besides z, each pixel sees pixels of the image that come before it.

    p(x|z) = prod_i p(x_i | x_<i, z)             the pixels i row by row, and from left to right in each row

The elbo holds for any p(x|z), so nothing else changes; but a code costs its KL and now pays only with what the pixels
above and to the left do not say already. Where that is less, the best posterior is the prior: posterior collapse.
The masked convolution is that of van den Oord et al. 2016 (PixelCNN); as the decoder of a VAE: Gulrajani et al. 2017
(PixelVAE), Chen et al. 2017 (Variational Lossy Autoencoder), who keep the window small so that z is needed.

Axes: B batch, C channels, H W height and width, Z latent.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conv_vae import Decoder, Encoder
from vae_models.beta_vae import BetaVAE


class MaskedConv2d(nn.Conv2d):
    """A convolution whose output at a pixel depends only on pixels before it, up to `reach` rows and columns away.

    The kernel (reach + 1, 2 reach + 1) ends with the pixel's own row, where a mask removes the pixel and what follows.
    Its input is padded by `before` already.
    """

    def __init__(self, in_channels: int, out_channels: int, reach: int):
        super().__init__(in_channels, out_channels, (reach + 1, 2 * reach + 1))
        mask = torch.ones(self.kernel_size)
        mask[-1, reach:] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C_in, H + reach, W + 2 reach) -> (B, C_out, H, W)."""
        return F.conv2d(x, self.weight * self.mask, self.bias)


class MaskedDecoder(nn.Module):
    """z (B, Z) and the images x (B, 1, 28, 28) -> x_logits (B, 1, 28, 28); that of pixel i sees z and x_<i alone.

    The spec's decoder, ending in C maps instead of one image, is added to a masked convolution of x; two layers that
    mix the channels of one position follow. So a pixel sees the `reach` rows above it and columns beside it.
    """

    def __init__(self, latent_dim: int, reach: int = 10, channels: int = 16):
        super().__init__()
        self.reach = reach
        self.from_z = Decoder(latent_dim)
        self.from_z.deconv2 = nn.ConvTranspose2d(32, channels, 3, stride=2, padding=1, output_padding=1)
        self.before = MaskedConv2d(1, channels, reach)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.logits = nn.Conv2d(channels, 1, 1)

    def pad(self, x: Tensor) -> Tensor:
        """x (B, 1, H, W) with zeros above, to the left and to the right, where a pixel looks."""
        return F.pad(x, (self.reach, self.reach, self.reach, 0))

    def at(self, maps: Tensor, padded: Tensor) -> Tensor:
        """Logits (B, 1, H, W) from what z says there (B, C, H, W) and the padded pixels around."""
        h = F.relu(maps + self.before(padded))
        h = F.relu(self.mix(h))
        return self.logits(h)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """All pixels at once, each after the true ones before it (teacher forcing): x_logits (B, 1, 28, 28)."""
        return self.at(self.from_z(z), self.pad(x))

    def draw(self, z: Tensor, u: Tensor) -> Tensor:
        """Images of 0 and 1 (B, 1, 28, 28) from p(x|z), pixel by pixel: x_i = 1 where u_i < p(x_i = 1 | x_<i, z).

        u (B, 1, 28, 28), uniform in [0, 1), is the noise.
        """
        maps, x, r = self.from_z(z), self.pad(torch.zeros_like(u)), self.reach
        for i, j in np.ndindex(*u.shape[2:]):
            window = x[:, :, i : i + r + 1, j : j + 2 * r + 1]
            p = torch.sigmoid(self.at(maps[:, :, i : i + 1, j : j + 1], window))
            x[:, :, i + r, j + r] = (u[:, :, i, j] < p[:, :, 0, 0]).to(x)
        return x[:, :, r:, r:-r]


class MaskedVAE(BetaVAE):
    """The VAE with the spec's encoder and a masked decoder, for pixels of 0 and 1; any weight on the KL."""

    sees_pixels = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, architecture=(Encoder, MaskedDecoder), **kwargs)

    @property
    def title(self) -> str:
        """What reports call the model."""
        return super().title.replace("beta-VAE", "VAE with a masked decoder", 1)

    def logits_of(self, x: Tensor, z: Tensor, y: Tensor | None = None) -> Tensor:
        """x_logits (B, 1, 28, 28) of images x and z (B, Z), the pixels before each one being those of x."""
        return self.decoder(z, x).to(z.dtype)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """There are no logits of z alone: a pixel's depend on the pixels before it."""
        raise TypeError("a masked decoder gives logits of an image (logits_of), or draws one (pixels).")

    def pixels(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (B, Z) -> an image drawn from p(x|z) for each, as its mean has no closed form; the same in each call,
        since its noise is seeded by z."""
        noise = np.random.default_rng(z.cpu().numpy().astype(np.float32).view(np.uint32).ravel())
        u = noise.random((len(z), 1, 28, 28), dtype=np.float32)
        return self.decoder.draw(z, torch.from_numpy(u).to(z))
