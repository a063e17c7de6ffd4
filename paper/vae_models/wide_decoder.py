"""The spec's decoder with every layer twice as wide: what more capacity changes, and what it does not.

The likelihood can only gain from a decoder that can say more. Inference need not: the posterior p(z|x) is that of
another decoder now, and may be further from a Gaussian. vae_measures/gaps.py tells the two apart (Cremer, Li & Duvenaud
2018, sec. 5.4). The encoder is the spec's. With Z = 20 there are 4,134,825 parameters, two and a half times the spec's.
"""

from torch import nn


class WideDecoder(nn.Sequential):
    """z (B, Z) -> x_logits (B, 1, 28, 28): conv_vae.Decoder, of 512 hidden units and 128 and 64 channels."""

    def __init__(self, latent_dim: int, hidden: int = 512, channels: int = 64):
        twice = dict(kernel_size=3, stride=2, padding=1, output_padding=1)  # the side of the image
        super().__init__(
            *(nn.Linear(latent_dim, hidden), nn.ReLU()),
            *(nn.Linear(hidden, 2 * channels * 7 * 7), nn.ReLU(), nn.Unflatten(1, (2 * channels, 7, 7))),
            *(nn.ConvTranspose2d(2 * channels, channels, **twice), nn.ReLU()),
            nn.ConvTranspose2d(channels, 1, **twice),
        )
