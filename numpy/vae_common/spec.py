"""The one network that all three levels implement: its layers, parameter names, shapes and initial weights.

Axes: B batch, C channels, H W height and width, Z latent. Images are NCHW, kernels are laid out as PyTorch has
them (convolution: out, in, k, k; transposed convolution: in, out, k, k; linear: out, in), flattening is C-order.
So one set of weights serves every level without a transpose.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

IMAGE_SHAPE = (1, 28, 28)
MAX_LATENT_DIM = 256


@dataclass(frozen=True)
class Layer:
    """One row of the layer table; `output` is the shape after the layer, without the batch axis."""

    name: str
    kind: str  # "conv", "linear" (which flattens what it reads) or "deconv"
    reads: str  # the layer whose output it takes, or "x", or "z"
    weight: tuple[int, ...]
    output: tuple[int, ...]
    relu: bool = True  # whether a ReLU follows

    @property
    def bias(self) -> tuple[int]:
        """The bias's shape: one number for each output channel."""
        return (self.weight[1],) if self.kind == "deconv" else (self.weight[0],)

    @property
    def fan_in(self) -> int:
        """What PyTorch counts as fan-in: every axis of the weight but the first."""
        return prod(self.weight[1:])

    @property
    def parameters(self) -> int:
        """How many numbers weight and bias hold."""
        return prod(self.weight) + prod(self.bias)


@dataclass(frozen=True)
class VAESpec:
    """The convolutional VAE with `latent_dim` latent dimensions, the only free number (1 to 256).

    Raises ValueError when `latent_dim` is not an integer in that range.
    """

    latent_dim: int = 20

    def __post_init__(self):
        z = self.latent_dim
        if isinstance(z, bool) or not isinstance(z, (int, np.integer)) or not 1 <= z <= MAX_LATENT_DIM:
            raise ValueError(f"latent_dim must be an integer from 1 to {MAX_LATENT_DIM}, got {z!r}.")

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The nine layers in the order of the data flow. Every kernel is 3x3, stride 2, padding 1; the
        transposed convolutions add output_padding 1, so that 7 -> 14 -> 28 undoes 28 -> 14 -> 7."""
        z = self.latent_dim
        return (
            Layer("encoder.conv1", "conv", "x", (32, 1, 3, 3), (32, 14, 14)),
            Layer("encoder.conv2", "conv", "encoder.conv1", (64, 32, 3, 3), (64, 7, 7)),
            Layer("encoder.fc", "linear", "encoder.conv2", (256, 3136), (256,)),
            Layer("encoder.mu", "linear", "encoder.fc", (z, 256), (z,), relu=False),
            Layer("encoder.logvar", "linear", "encoder.fc", (z, 256), (z,), relu=False),
            Layer("decoder.fc1", "linear", "z", (256, z), (256,)),
            Layer("decoder.fc2", "linear", "decoder.fc1", (3136, 256), (64, 7, 7)),
            Layer("decoder.deconv1", "deconv", "decoder.fc2", (64, 32, 3, 3), (32, 14, 14)),
            Layer("decoder.deconv2", "deconv", "decoder.deconv1", (32, 1, 3, 3), (1, 28, 28), relu=False),
        )

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter name -> shape, in the order of the weights file and of level 3's `state_dict()`."""
        return {f"{layer.name}.{part}": getattr(layer, part) for layer in self.layers for part in ("weight", "bias")}

    @property
    def parameters(self) -> int:
        """Number of trainable numbers: 1,662,249 at Z = 20."""
        return sum(layer.parameters for layer in self.layers)

    def init_params(self, seed: int, dtype=np.float32) -> dict[str, np.ndarray]:
        """Seeded initial parameters: weights and biases uniform in +-1/sqrt(fan_in), PyTorch's own default.

        They are drawn in float64 and then cast, so that every dtype starts from the same numbers.
        """
        rng = np.random.default_rng(seed)
        bounds = {f"{layer.name}.{p}": layer.fan_in**-0.5 for layer in self.layers for p in ("weight", "bias")}
        return {
            name: rng.uniform(-bounds[name], bounds[name], shape).astype(dtype) for name, shape in self.shapes.items()
        }

    def summary(self) -> str:
        """The layer table as text: layer, weight shape, output shape, number of parameters."""
        rows = [("layer", "weight", "output", "parameters")]
        rows += [
            (layer.name, shape_text(layer.weight), shape_text(("B", *layer.output)), f"{layer.parameters:,}")
            for layer in self.layers
        ]
        rows.append((f"in all, Z = {self.latent_dim}", "", "", f"{self.parameters:,}"))
        return "\n".join(f"{name:<17}{weight:<17}{output:<17}{count:>10}" for name, weight, output, count in rows)


def shape_text(shape: tuple) -> str:
    """(32, 1, 3, 3) as it is written in the tables, with axis letters allowed: "(B, 32, 14, 14)"."""
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
