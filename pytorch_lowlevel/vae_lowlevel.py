"""Level 2: the same convolutional VAE on PyTorch's functional ops, with hand-written loss and training loop.

    log p(x)  >=  elbo  =  E_q(z|x)[ log p(x|z) ]  -  KL( q(z|x) || p(z) )  =  -(recon + kl)
    q(z|x) = N(mu, diag(std^2)) from the encoder,  p(z) = N(0, I),  p(x|z) from the decoder;  equal where q = p(z|x)

Read it beside level 1 (`diff -y -W 160 numpy/vae_numpy.py pytorch_lowlevel/vae_lowlevel.py`): same sections, names and
text. What is new is what PyTorch gives, fast convolutions and gradients, and what those make possible: training.

Axes: B batch, C channels, H W height and width, Z latent. The dtype that comes in goes out.
Kingma & Welling 2014, "Auto-Encoding Variational Bayes", https://arxiv.org/abs/1312.6114
"""

import math
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

from vae_common import cli, evaluation  # isort: skip  (before torch, whose threads it tells how long to spin)
import numpy as np
import torch
from torch import Tensor, sigmoid
from torch.nn.functional import conv2d, conv_transpose2d, linear, relu
from tqdm import tqdm

from vae_common.config import RunConfig
from vae_common.data import ImageSet, binarize
from vae_common.errors import check_finite
from vae_common.randomness import batches, generator
from vae_common.run_folder import make_run_folder, write_metrics
from vae_common.schedule import learning_rate
from vae_common.spec import VAESpec
from vae_common.weights import latent_dim_of, load_weights, save_weights

Array = Tensor
Params = Mapping[str, Array]

# --- primitives: torch.nn.functional has them ---------------------------------------------------------------------


def to_tensors(params: Mapping[str, np.ndarray], device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The parameters of a weights file or of `VAESpec.init_params` as trainable tensors of the same dtype."""
    return {name: torch.tensor(value, device=device, requires_grad=True) for name, value in params.items()}


def to_arrays(params: Params) -> dict[str, np.ndarray]:
    """The way back: tensors -> arrays that `save_weights` and level 1 take."""
    return {name: value.detach().cpu().numpy() for name, value in params.items()}


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
    std = torch.exp(0.5 * logvar)
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
    bce = relu(x_logits) - x_logits * x + torch.log1p(torch.exp(-abs(x_logits)))
    return bce.sum(dim=(1, 2, 3))


def gaussian_recon(x: Array, x_logits: Array) -> Array:
    """||x - sigmoid(l)||^2 -> (B,): -log p(x|z) of a Gaussian of variance 1/2, less its constant 392 ln(pi)."""
    return ((x - sigmoid(x_logits)) ** 2).sum(dim=(1, 2, 3))


def gaussian_kl(mu: Array, logvar: Array) -> Array:
    """KL(N(mu, std^2) || N(0, I)) = 1/2 sum_z (mu^2 + std^2 - 1 - log std^2) -> (B,), never below 0.

    Kingma & Welling 2014, App. B, with the sign turned. expm1(l) is exp(l) - 1 without the rounding near l = 0.
    """
    return 0.5 * (mu**2 + torch.expm1(logvar) - logvar).sum(dim=1)


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


# --- training -----------------------------------------------------------------------------------------------------


def train_epoch(
    params: Params, optimizer: torch.optim.Optimizer, images: np.ndarray, epoch: int, config: RunConfig
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over images uint8 (N, 1, 28, 28); yields the batch's recon and kl (B,) after each step.

    Epochs count from 1. Order, noise and binarization depend on the seed and the step alone.
    """
    like, latent_dim = params["encoder.mu.bias"], latent_dim_of(params)
    steps_per_epoch = math.ceil(len(images) / config.batch_size)
    first_step = (epoch - 1) * steps_per_epoch
    for step, index in enumerate(batches(len(images), config.batch_size, config.seed, epoch), first_step):
        x = binarize(images[index], config.binarize, generator(config.seed, "binarize", step))
        eps = generator(config.seed, "noise", step).standard_normal((len(index), latent_dim), dtype=np.float32)
        x, eps = torch.from_numpy(x).to(like), torch.from_numpy(eps).to(like)  # its device and dtype

        x_logits, mu, logvar = forward(params, x, eps)
        recon, kl = elbo_terms(x, x_logits, mu, logvar, config.likelihood)
        neg_elbo = (recon + kl).mean()

        optimizer.zero_grad()
        neg_elbo.backward()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config.epochs * steps_per_epoch, config.lr)
        optimizer.step()
        yield recon.detach(), kl.detach()


def train(params: Params, data: ImageSet, held_out: ImageSet, config: RunConfig) -> Iterator[dict]:
    """Train `params` in place with Adam; yields rows of metrics.jsonl for `data` and `held_out` after each epoch.

    Raises NotFiniteError, naming term and step, when the loss stops being finite.
    """
    fused = params["encoder.mu.bias"].device.type in ("cpu", "cuda")  # one pass over memory where torch has it
    optimizer = torch.optim.Adam(params.values(), lr=config.lr, fused=fused)
    total = math.ceil(len(data) / config.batch_size)
    for epoch in range(1, config.epochs + 1):
        start, sums = time.perf_counter(), np.zeros(2)
        steps = train_epoch(params, optimizer, data.images, epoch, config)
        bar = tqdm(steps, f"epoch {epoch}/{config.epochs}", total, disable=None, leave=False)
        for step, (recon, kl) in enumerate(bar, 1):
            terms = {"recon": recon.mean().item(), "kl": kl.mean().item()}
            check_finite(terms, f"at step {step} of epoch {epoch}", config.lr)
            sums += len(recon) * np.array(list(terms.values()))
            bar.set_postfix({name: f"{value:.1f}" for name, value in terms.items()}, refresh=False)
        trained = time.perf_counter()
        measured = evaluate(params, held_out, config)
        yield evaluation.metrics_row(epoch, "train", *(sums / len(data)), measured.on, trained - start)
        yield measured.row(epoch, time.perf_counter() - trained)


# --- command line -------------------------------------------------------------------------------------------------


def evaluate(params: Params, data: ImageSet, config: RunConfig) -> evaluation.Evaluation:
    """The held-out ELBO, with one sampled z per image and seeded noise."""
    like = params["encoder.mu.bias"]

    @torch.no_grad()
    def terms(x: np.ndarray, eps: np.ndarray) -> tuple[np.ndarray, ...]:
        x, eps = torch.from_numpy(x).to(like), torch.from_numpy(eps).to(like)
        x_logits, mu, logvar = forward(params, x, eps)
        recon, kl = elbo_terms(x, x_logits, mu, logvar, config.likelihood)
        return tuple(term.cpu().numpy() for term in (recon, kl, mu, logvar))

    @torch.no_grad()
    def decode_pixels(z: np.ndarray) -> np.ndarray:
        return sigmoid(decode(params, torch.from_numpy(z).to(like))).cpu().numpy()

    return evaluation.evaluate(terms, decode_pixels, data, latent_dim_of(params), config, batch_size=128)


def run(config: RunConfig) -> None:
    """Train, measure on held-out images after each epoch, write the weights, measure the test split, draw."""
    device = cli.torch_device(config.device)
    weights = load_weights(config.weights, config.latent_dim) if config.weights is not None else None
    config = replace(config, latent_dim=latent_dim_of(weights)) if weights else config.settled()
    data, test = (config.load(split) for split in ("train", "test"))
    data, validation = data.hold_out(config.validation)
    folder = make_run_folder(config, "lowlevel", torch=torch.__version__)

    params, rows = to_tensors(weights or VAESpec(config.latent_dim).init_params(config.seed), device), []
    print(f"training on {len(data):,} images of {data.name} for {cli.counted(config.epochs, 'epoch')} on {device}")
    for row in train(params, data, validation if config.validation else test, config):
        rows.append(row)
        write_metrics(folder / "metrics.jsonl", rows)
        print(cli.format_row(row))
    print(f"wrote {save_weights(to_arrays(params), folder / 'weights.safetensors')}")

    start, measured = time.perf_counter(), evaluate(params, test, config)
    if config.validation:
        rows.append(measured.row(config.epochs, time.perf_counter() - start))
        write_metrics(folder / "metrics.jsonl", rows)
    print(f"wrote {folder / 'metrics.jsonl'}\n\n{measured.summary()}")
    cli.later("vae_common.plots.run_pictures", "draw_level_2")(folder, measured, rows, config.seed)


def main(argv: list[str] | None = None) -> int:
    """The command line: see `run`. Returns the exit status."""
    parser = cli.parser(__doc__.splitlines()[0], *RunConfig.settings("lowlevel"))
    return cli.run(parser, argv, lambda **typed: run(RunConfig(**typed)))


if __name__ == "__main__":
    sys.exit(main())
