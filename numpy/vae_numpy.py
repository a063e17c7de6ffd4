"""Level 1: the whole convolutional VAE in NumPy, forward only, from arithmetic on arrays to the ELBO.

    log p(x)  >=  elbo  =  E_q(z|x)[ log p(x|z) ]  -  KL( q(z|x) || p(z) )  =  -(recon + kl)
    q(z|x) = N(mu, diag(std^2)) from the encoder,  p(z) = N(0, I),  p(x|z) from the decoder;  equal where q = p(z|x)

Read it from top to bottom. Level 2 has the same sections, names and text, so that
`diff -y -W 160 numpy/vae_numpy.py pytorch_lowlevel/vae_lowlevel.py` is a lesson in itself.

Axes: B batch, C input channels, O output channels, H W height and width, k kernel, Z latent. The dtype that comes in
goes out. Kingma & Welling 2014, "Auto-Encoding Variational Bayes", https://arxiv.org/abs/1312.6114
"""

import sys
from collections.abc import Mapping

import numpy as np

from vae_common import cli
from vae_common.config import RunConfig

Array = np.ndarray
Params = Mapping[str, Array]

# --- primitives ---------------------------------------------------------------------------------------------------


def conv2d(x: Array, weight: Array, bias: Array, stride: int = 2, padding: int = 1) -> Array:
    """Convolution (cross-correlation, as in all deep learning): x (B, C, H, W), weight (O, C, k, k), bias (O,)
    -> (B, O, H', W') with H' = (H + 2 padding - k) // stride + 1.

    Gather: each output pixel is the product of the kernel with the k x k patch of the input under it. The patches are
    the rows of one matrix, filled with k x k shifted slices of the input, so that one matrix product does it all.
    """
    if x.dtype.kind != "f":
        raise ValueError(f"x must hold floats, images from 0 to 1, got {x.dtype}; divide pixels from 0 to 255 by 255.")
    (B, C, H, W), (O, _, k, _) = x.shape, weight.shape
    H_out, W_out = ((side + 2 * padding - k) // stride + 1 for side in (H, W))
    padded = np.zeros((B, H + 2 * padding, W + 2 * padding, C), x.dtype)
    padded[:, padding : padding + H, padding : padding + W] = x.transpose(0, 2, 3, 1)  # channels last
    patches = np.empty((B, H_out, W_out, k, k, C), x.dtype)
    for i in range(k):
        for j in range(k):
            patches[:, :, :, i, j] = padded[:, i : i + stride * H_out : stride, j : j + stride * W_out : stride]
    y = patches.reshape(-1, k * k * C) @ weight.transpose(2, 3, 1, 0).reshape(k * k * C, O)
    return (y + bias).reshape(B, H_out, W_out, O).transpose(0, 3, 1, 2)


def conv_transpose2d(
    x: Array, weight: Array, bias: Array, stride: int = 2, padding: int = 1, output_padding: int = 1
) -> Array:
    """Transposed convolution: x (B, C, H, W), weight (C, O, k, k), bias (O,) -> (B, O, H', W') with
    H' = (H - 1) stride - 2 padding + k + output_padding.

    Scatter: the transpose of `conv2d` as a linear map. One matrix product makes a k x k patch of each input pixel, and
    the same slices, now added to, put the patches where `conv2d` would have taken them from. `output_padding` says
    which of the `stride` input sizes that a convolution would have rounded to H is meant.
    """
    (B, C, H, W), (_, O, k, _) = x.shape, weight.shape
    H_out, W_out = ((side - 1) * stride - 2 * padding + k + output_padding for side in (H, W))
    patches = x.transpose(0, 2, 3, 1).reshape(-1, C) @ weight.transpose(0, 2, 3, 1).reshape(C, k * k * O)
    patches = patches.reshape(B, H, W, k, k, O)
    padded = np.zeros((B, H_out + 2 * padding, W_out + 2 * padding, O), x.dtype)
    for i in range(k):
        for j in range(k):
            padded[:, i : i + stride * H : stride, j : j + stride * W : stride] += patches[:, :, :, i, j]
    y = padded[:, padding : padding + H_out, padding : padding + W_out]
    return (y + bias).transpose(0, 3, 1, 2)


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """x (B, C), weight (O, C), bias (O,) -> (B, O)."""
    return x @ weight.T + bias


def relu(x: Array) -> Array:
    """max(x, 0), element by element."""
    return np.maximum(x, 0)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written with tanh, which cannot overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


# --- encoder: q(z|x) = N(mu, diag(exp(logvar))) -------------------------------------------------------------------


def encode(params: Params, x: Array) -> tuple[Array, Array]:
    """Images x (B, 1, 28, 28) in [0, 1] -> mu, logvar (B, Z), the posterior's mean and log-variance."""
    h = relu(conv2d(x, params["encoder.conv1.weight"], params["encoder.conv1.bias"], stride=2, padding=1))
    h = relu(conv2d(h, params["encoder.conv2.weight"], params["encoder.conv2.bias"], stride=2, padding=1))
    h = h.reshape(len(h), 64 * 7 * 7)  # (B, 3136)
    h = relu(linear(h, params["encoder.fc.weight"], params["encoder.fc.bias"]))  # (B, 256)
    mu = linear(h, params["encoder.mu.weight"], params["encoder.mu.bias"])  # (B, Z)
    logvar = linear(h, params["encoder.logvar.weight"], params["encoder.logvar.bias"])  # (B, Z)
    return mu, logvar


# --- reparameterization -------------------------------------------------------------------------------------------


def reparameterize(mu: Array, logvar: Array, eps: Array) -> Array:
    """z = mu + std * eps with eps ~ N(0, I), so z ~ N(mu, std^2) and gradients reach mu and std; all (B, Z).

    The noise is an argument: the model itself is a plain function, and levels can be compared number by number
    (Kingma & Welling 2014, sec. 2.4).
    """
    std = np.exp(0.5 * logvar)
    return mu + std * eps


# --- decoder: p(x|z) ----------------------------------------------------------------------------------------------


def decode(params: Params, z: Array) -> Array:
    """Latents z (B, Z) -> x_logits (B, 1, 28, 28); the sigmoid of a logit is the pixel's mean."""
    h = relu(linear(z, params["decoder.fc1.weight"], params["decoder.fc1.bias"]))  # (B, 256)
    h = relu(linear(h, params["decoder.fc2.weight"], params["decoder.fc2.bias"]))  # (B, 3136)
    h = h.reshape(len(h), 64, 7, 7)
    up = {"stride": 2, "padding": 1, "output_padding": 1}  # 7 -> 14 -> 28
    h = relu(conv_transpose2d(h, params["decoder.deconv1.weight"], params["decoder.deconv1.bias"], **up))
    return conv_transpose2d(h, params["decoder.deconv2.weight"], params["decoder.deconv2.bias"], **up)


def forward(params: Params, x: Array, eps: Array) -> tuple[Array, Array, Array]:
    """x (B, 1, 28, 28), eps (B, Z) -> x_logits (B, 1, 28, 28), mu (B, Z), logvar (B, Z)."""
    mu, logvar = encode(params, x)
    z = reparameterize(mu, logvar, eps)
    return decode(params, z), mu, logvar


# --- loss: elbo = -(recon + kl), in nats per image ----------------------------------------------------------------


def bernoulli_recon(x: Array, x_logits: Array) -> Array:
    """-log p(x|z) = -sum_pixels [x log s + (1 - x) log(1 - s)] with s = sigmoid(l) -> (B,).

    Written on the logit l: max(l, 0) - l x + log(1 + exp(-|l|)), in which nothing can overflow.
    """
    bce = relu(x_logits) - x_logits * x + np.log1p(np.exp(-abs(x_logits)))
    return bce.sum(axis=(1, 2, 3))


def gaussian_recon(x: Array, x_logits: Array) -> Array:
    """||x - sigmoid(l)||^2 -> (B,): -log p(x|z) of a Gaussian of variance 1/2, less its constant 392 ln(pi)."""
    return ((x - sigmoid(x_logits)) ** 2).sum(axis=(1, 2, 3))


def gaussian_kl(mu: Array, logvar: Array) -> Array:
    """KL(N(mu, std^2) || N(0, I)) = 1/2 sum_z (mu^2 + std^2 - 1 - log std^2) -> (B,), never below 0.

    Kingma & Welling 2014, App. B, with the sign turned. expm1(l) is exp(l) - 1 without the rounding near l = 0.
    """
    return 0.5 * (mu**2 + np.expm1(logvar) - logvar).sum(axis=1)


def elbo_terms(
    x: Array, x_logits: Array, mu: Array, logvar: Array, likelihood: str = "bernoulli"
) -> tuple[Array, Array]:
    """The two terms of elbo = -(recon + kl), each (B,), nats per image: summed over pixels and latents.

    Raises ValueError when `likelihood` is neither "bernoulli" nor "gaussian".
    """
    if likelihood not in ("bernoulli", "gaussian"):
        raise ValueError(f'likelihood must be "bernoulli" or "gaussian", got {likelihood!r}.')
    recon = bernoulli_recon(x, x_logits) if likelihood == "bernoulli" else gaussian_recon(x, x_logits)
    return recon, gaussian_kl(mu, logvar)


# --- no training: level 2 goes on from here with gradients. The command measures trained weights on a test split --


def measure(params: Params, x: Array, eps: Array, likelihood: str) -> tuple[Array, ...]:
    """What is measured of images, one row for each: recon, kl (B,), mu, logvar (B, Z)."""
    x_logits, mu, logvar = forward(params, x, eps)
    return *elbo_terms(x, x_logits, mu, logvar, likelihood), mu, logvar


def pixels(params: Params, z: Array) -> Array:
    """Latents z (B, Z) -> the mean of p(x|z), in [0, 1]: what a picture shows."""
    return sigmoid(decode(params, z))


def main(argv: list[str] | None = None) -> int:
    """The command line: see `show_weights`. Returns the exit status."""
    parser = cli.parser(__doc__.splitlines()[0], *RunConfig.settings("numpy"))
    primitives = {"conv": conv2d, "deconv": conv_transpose2d, "linear": linear}
    show = cli.later("vae_common.weights_shown", "show_weights")  # imports matplotlib
    return cli.run(parser, argv, lambda **typed: show(RunConfig(**typed), measure, pixels, primitives, reparameterize))


if __name__ == "__main__":
    sys.exit(main())
