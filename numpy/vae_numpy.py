"""Level 1: the whole convolutional VAE in NumPy, forward only, from arithmetic on arrays to pictures.

Read it from top to bottom: four primitives, encoder, reparameterization, decoder, loss; then the command line, which
takes trained weights, measures the ELBO and draws. Level 2 (pytorch_lowlevel/vae_lowlevel.py) has the same sections
and the same names, so `diff -y` of the two files is a lesson in itself.

Axes: B batch, C input channels, O output channels, H W height and width, k kernel, Z latent. The dtype that comes in
goes out: float64 in, float64 out.

Kingma & Welling 2014, "Auto-Encoding Variational Bayes", https://arxiv.org/abs/1312.6114
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping

import numpy as np

from vae_common import cli
from vae_common.data import ImageSet, binarize, generator, load_dataset
from vae_common.measured import Measured
from vae_common.spec import Layer, VAESpec, shape_text
from vae_common.weights import PRETRAINED, latent_dim_of, load_weights

Params = Mapping[str, np.ndarray]

# --- primitives ---------------------------------------------------------------------------------------------------

PIECE = 32  # images that a convolution works on at a time, so that their patches stay in the processor's cache


def windows(padded: np.ndarray, k: int, stride: int, H: int, W: int) -> np.ndarray:
    """The k x k windows of padded (B, H_in, W_in, C), one every `stride` pixels, as a view (B, H, W, k, k, C).

    Nothing is copied: windows that overlap share their memory, so what is added to one is seen by its neighbours.
    """
    B, _, _, C = padded.shape
    to_image, to_row, to_column, to_channel = padded.strides  # bytes from one entry of an axis to the next
    strides = (to_image, stride * to_row, stride * to_column, to_row, to_column, to_channel)
    return np.ndarray((B, H, W, k, k, C), padded.dtype, buffer=padded, strides=strides)


def conv2d(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int = 2, padding: int = 1) -> np.ndarray:
    """Convolution (cross-correlation, as in all deep learning): x (B, C, H, W), weight (O, C, k, k), bias (O,)
    -> (B, O, H', W') with H' = (H + 2 padding - k) // stride + 1.

    Each output pixel is the product of the kernel with the k x k patch of the input under it. Laying all patches
    out as the rows of one matrix turns the convolution into a single matrix product, the one operation that
    processors do at full speed. Channels go last inside, so that each copied run of memory is long.
    """
    (B, C, H, W), (O, _, k, _) = x.shape, weight.shape
    H_out, W_out = ((side + 2 * padding - k) // stride + 1 for side in (H, W))
    kernel = weight.transpose(0, 2, 3, 1).reshape(O, k * k * C)
    y = np.empty((B, H_out, W_out, O), x.dtype)
    for start in range(0, B, PIECE):
        piece = x[start : start + PIECE].transpose(0, 2, 3, 1)
        padded = np.zeros((len(piece), H + 2 * padding, W + 2 * padding, C), x.dtype)
        padded[:, padding : padding + H, padding : padding + W] = piece
        patches = windows(padded, k, stride, H_out, W_out).reshape(-1, k * k * C)
        np.add((patches @ kernel.T).reshape(-1, H_out, W_out, O), bias, out=y[start : start + PIECE])
    return y.transpose(0, 3, 1, 2)


def conv_transpose2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    stride: int = 2,
    padding: int = 1,
    output_padding: int = 1,
) -> np.ndarray:
    """Transposed convolution: x (B, C, H, W), weight (C, O, k, k), bias (O,) -> (B, O, H', W') with
    H' = (H - 1) stride - 2 padding + k + output_padding.

    The transpose of `conv2d` as a linear map: where that gathers a patch into one pixel, this scatters one pixel
    into a patch, and patches add where they overlap. `output_padding` says which of the `stride` input sizes that
    a convolution would have rounded to H is meant.
    """
    (B, C, H, W), (_, O, k, _) = x.shape, weight.shape
    H_out, W_out = ((side - 1) * stride - 2 * padding + k + output_padding for side in (H, W))
    kernel = weight.transpose(0, 2, 3, 1).reshape(C, k * k * O)
    y = np.empty((B, H_out, W_out, O), x.dtype)
    for start in range(0, B, PIECE):
        piece = x[start : start + PIECE].transpose(0, 2, 3, 1)
        patches = (piece.reshape(-1, C) @ kernel).reshape(-1, H, W, k, k, O)
        padded = np.zeros((len(piece), H_out + 2 * padding, W_out + 2 * padding, O), x.dtype)
        under = windows(padded, k, stride, H, W)
        for i in range(0, k, stride):
            for j in range(0, k, stride):  # windows cut to stride x stride pixels do not overlap
                place = under[:, :, :, i : i + stride, j : j + stride]
                place += patches[:, :, :, i : i + stride, j : j + stride]
        inner = padded[:, padding : padding + H_out, padding : padding + W_out]
        np.add(inner, bias, out=y[start : start + PIECE])
    return y.transpose(0, 3, 1, 2)


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """x (B, C), weight (O, C), bias (O,) -> (B, O)."""
    return x @ weight.T + bias


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), written with tanh, which cannot overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


# --- encoder: q(z|x) = N(mu, diag(exp(logvar))) -------------------------------------------------------------------


def encode(params: Params, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images x (B, 1, 28, 28) in [0, 1] -> mu, logvar (B, Z), the posterior's mean and log-variance."""
    h = relu(conv2d(x, params["encoder.conv1.weight"], params["encoder.conv1.bias"], stride=2, padding=1))
    h = relu(conv2d(h, params["encoder.conv2.weight"], params["encoder.conv2.bias"], stride=2, padding=1))
    h = h.reshape(len(h), 64 * 7 * 7)  # (B, 3136)
    h = relu(linear(h, params["encoder.fc.weight"], params["encoder.fc.bias"]))  # (B, 256)
    mu = linear(h, params["encoder.mu.weight"], params["encoder.mu.bias"])  # (B, Z)
    logvar = linear(h, params["encoder.logvar.weight"], params["encoder.logvar.bias"])  # (B, Z)
    return mu, logvar


# --- reparameterization -------------------------------------------------------------------------------------------


def reparameterize(mu: np.ndarray, logvar: np.ndarray, eps: np.ndarray) -> np.ndarray:
    """z = mu + std * eps with eps ~ N(0, I), so z ~ N(mu, std^2) and mu, std stay differentiable; all (B, Z).

    The noise is an argument: the model itself is a plain function, and levels can be compared number by number
    (Kingma & Welling 2014, sec. 2.4).
    """
    std = np.exp(0.5 * logvar)
    return mu + std * eps


# --- decoder: p(x|z) ----------------------------------------------------------------------------------------------


def decode(params: Params, z: np.ndarray) -> np.ndarray:
    """Latents z (B, Z) -> x_logits (B, 1, 28, 28); the sigmoid of a logit is the pixel's mean."""
    h = relu(linear(z, params["decoder.fc1.weight"], params["decoder.fc1.bias"]))  # (B, 256)
    h = relu(linear(h, params["decoder.fc2.weight"], params["decoder.fc2.bias"]))  # (B, 3136)
    h = h.reshape(len(h), 64, 7, 7)
    h = relu(
        conv_transpose2d(h, params["decoder.deconv1.weight"], params["decoder.deconv1.bias"], 2, 1, output_padding=1)
    )  # (B, 32, 14, 14)
    return conv_transpose2d(
        h, params["decoder.deconv2.weight"], params["decoder.deconv2.bias"], 2, 1, output_padding=1
    )  # (B, 1, 28, 28)


def forward(params: Params, x: np.ndarray, eps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x (B, 1, 28, 28), eps (B, Z) -> x_logits (B, 1, 28, 28), mu (B, Z), logvar (B, Z)."""
    mu, logvar = encode(params, x)
    z = reparameterize(mu, logvar, eps)
    return decode(params, z), mu, logvar


# --- loss: elbo = -(recon + kl), in nats per image ----------------------------------------------------------------


def bernoulli_recon(x: np.ndarray, x_logits: np.ndarray) -> np.ndarray:
    """-log p(x|z) = -sum_pixels [x log s + (1 - x) log(1 - s)] with s = sigmoid(l) -> (B,).

    Written on the logit l: max(l, 0) - l x + log(1 + exp(-|l|)), in which nothing can overflow, and no pixel is so
    sure that its loss becomes infinite.
    """
    bce = np.maximum(x_logits, 0) - x_logits * x + np.log1p(np.exp(-np.abs(x_logits)))
    return bce.sum(axis=(1, 2, 3))


def gaussian_recon(x: np.ndarray, x_logits: np.ndarray) -> np.ndarray:
    """||x - sigmoid(l)||^2 -> (B,): -log p(x|z) of a Gaussian of variance 1/2, less its constant 392 ln(pi)."""
    return ((x - sigmoid(x_logits)) ** 2).sum(axis=(1, 2, 3))


def gaussian_kl(mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
    """KL(N(mu, std^2) || N(0, I)) = 1/2 sum_z (mu^2 + std^2 - 1 - log std^2) -> (B,), never below 0.

    Kingma & Welling 2014, App. B, with the sign turned. expm1(l) is exp(l) - 1 without the rounding near l = 0.
    """
    return 0.5 * (mu**2 + np.expm1(logvar) - logvar).sum(axis=1)


def elbo_terms(
    x: np.ndarray, x_logits: np.ndarray, mu: np.ndarray, logvar: np.ndarray, likelihood: str = "bernoulli"
) -> tuple[np.ndarray, np.ndarray]:
    """The two terms of elbo = -(recon + kl), each (B,), nats per image: summed over pixels and latents.

    Raises ValueError when `likelihood` is neither "bernoulli" nor "gaussian".
    """
    if likelihood not in ("bernoulli", "gaussian"):
        raise ValueError(f'likelihood must be "bernoulli" or "gaussian", got {likelihood!r}.')
    recon = bernoulli_recon(x, x_logits) if likelihood == "bernoulli" else gaussian_recon(x, x_logits)
    return recon, gaussian_kl(mu, logvar)


# --- no training: this level is forward only. Level 2 goes on from here with gradients ----------------------------


def evaluate(
    params: Params, x: np.ndarray, eps: np.ndarray, likelihood: str = "bernoulli", batch_size: int = 128
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """recon (N,), kl (N,), mu (N, Z), logvar (N, Z) of images x (N, 1, 28, 28) with noise eps (N, Z), in chunks."""
    parts = []
    for start in range(0, len(x), batch_size):
        chunk = slice(start, start + batch_size)
        x_logits, mu, logvar = forward(params, x[chunk], eps[chunk])
        parts.append((*elbo_terms(x[chunk], x_logits, mu, logvar, likelihood), mu, logvar))
    recon, kl, mu, logvar = (np.concatenate(part) for part in zip(*parts, strict=True))
    return recon, kl, mu, logvar


def layer_by_layer(params: Params, x: np.ndarray, eps: np.ndarray) -> Iterator[tuple[Layer, np.ndarray]]:
    """The same network told by the spec's table instead of by `encode` and `decode`: each layer with its output."""
    primitive = {"conv": conv2d, "deconv": conv_transpose2d, "linear": linear}
    outputs = {"x": x}
    for layer in VAESpec(latent_dim_of(params)).layers:
        h = outputs[layer.reads]
        h = h.reshape(len(h), -1) if layer.kind == "linear" else h
        h = primitive[layer.kind](h, params[f"{layer.name}.weight"], params[f"{layer.name}.bias"])
        h = (relu(h) if layer.relu else h).reshape(len(h), *layer.output)
        outputs[layer.name] = h
        if layer.name == "encoder.logvar":
            outputs["z"] = reparameterize(outputs["encoder.mu"], outputs["encoder.logvar"], eps)
        yield layer, h


# --- command line -------------------------------------------------------------------------------------------------


def follow_one_image(params: Params, x: np.ndarray, eps: np.ndarray, label: str, likelihood: str) -> None:
    """Print what happens to one image (1, 1, 28, 28) on its way through the network."""
    print(f"\nOne image (a {label}) on its way through the network")
    print(f"{'layer':<17}{'output':<18}{'min':>9}{'mean':>9}{'max':>9}{'zeros':>8}")
    rows = [("x", x), *((layer.name, h) for layer, h in layer_by_layer(params, x, eps))]
    for name, h in rows:
        numbers = f"{h.min():>9.3f}{h.mean():>9.3f}{h.max():>9.3f}{(h == 0).mean():>8.0%}"
        print(f"{name:<17}{shape_text(h.shape):<18}{numbers}")
    mu, logvar = encode(params, x)
    z = reparameterize(mu, logvar, eps)
    recon, kl = elbo_terms(x, decode(params, z), mu, logvar, likelihood)
    for name, vector in (("mu", mu), ("std", np.exp(0.5 * logvar)), ("eps", eps), ("z = mu + std*eps", z)):
        more = " ..." if vector.shape[1] > 8 else ""
        print(f"{name:<17}" + " ".join(f"{number:7.3f}" for number in vector[0, :8]) + more)
    print(f"recon {recon[0]:.2f} + kl {kl[0]:.2f} = -elbo {recon[0] + kl[0]:.2f} nats")


def choose_weights(weights: str | None, latent_dim: int | None) -> tuple[Params, Params | None]:
    """The parameters to measure, and parameters with Z = 2 for the map of the latent plane, if there are any."""
    if weights is not None:
        params = load_weights(weights, latent_dim)
        return params, params if latent_dim_of(params) == 2 else None
    if latent_dim not in (None, 2, 20):
        raise cli.UsageError(
            f"--latent-dim {latent_dim}: weights are shipped for 2 and 20; train others with level 2 or 3 "
            "and name them with --weights."
        )
    plane = load_weights(PRETRAINED / "digits-z2.safetensors")
    return plane if latent_dim == 2 else load_weights(PRETRAINED / "digits-z20.safetensors"), plane


def measure(params: Params, data: ImageSet, args: argparse.Namespace) -> Measured:
    """The held-out ELBO's terms, with one sampled z per image and seeded noise."""
    rng = generator(args.seed, "evaluation")
    x = binarize(data.images, args.binarize, rng)
    eps = rng.standard_normal((len(x), latent_dim_of(params)), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # a result that is not finite is refused by name
        recon, kl, mu, logvar = evaluate(params, x, eps, args.likelihood, args.batch_size)
    return Measured(data, x, eps, recon, kl, mu, logvar, lambda z: sigmoid(decode(params, z)))


def run(args: argparse.Namespace) -> None:
    start = time.perf_counter()
    params, plane = choose_weights(args.weights, args.latent_dim)
    data = load_dataset(args.dataset, "test", args.data_dir)
    folder = cli.make_run_folder(args, "numpy")
    print(VAESpec(latent_dim_of(params)).summary())
    measured = measure(params, data, args)
    follow_one_image(params, measured.x[:1], measured.eps[:1], data.class_names[data.labels[0]], args.likelihood)
    row = measured.row(0, args, time.perf_counter() - start)
    cli.write_metrics(folder / "metrics.jsonl", [row])
    print(f"wrote {folder / 'metrics.jsonl'}")
    print("\n" + measured.summary(args))

    from vae_common import pictures  # matplotlib takes longer to import than the model to run

    of_model = (
        pictures.reconstructions,
        pictures.samples,
        pictures.traversals,
        pictures.interpolation,
        pictures.kl,
    )
    pictures.draw(folder, measured, of_model, args.seed)
    if plane is not None:
        pictures.draw(folder, measure(plane, data, args), (pictures.latent, pictures.manifold), args.seed)


def build_parser() -> argparse.ArgumentParser:
    flags = ("--dataset", "--data-dir", "--weights", "--latent-dim", "--batch-size", "--seed", "--likelihood")
    return cli.parser(__doc__.splitlines()[0], *flags, "--binarize", "--out", "--overwrite")


def main(argv: list[str] | None = None) -> int:
    return cli.run(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
