"""Level 2: the same convolutional VAE on PyTorch's functional ops, with hand-written loss and training loop.

Read it beside level 1 (`diff -y numpy/vae_numpy.py pytorch_lowlevel/vae_lowlevel.py`): same sections, same names, same
dict of parameters. What is new is what PyTorch gives for free, fast convolutions and gradients, and what those make
possible: training.

Axes: B batch, C channels, H W height and width, Z latent. The dtype that comes in goes out.

Kingma & Welling 2014, "Auto-Encoding Variational Bayes", https://arxiv.org/abs/1312.6114
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from vae_common import cli
from vae_common.data import ImageSet, batches, binarize, entropy_floor, generator, load_dataset
from vae_common.measured import Measured, metrics_row
from vae_common.schedule import learning_rate
from vae_common.spec import VAESpec
from vae_common.weights import latent_dim_of, load_weights, save_weights

Params = Mapping[str, Tensor]

# --- primitives: torch.nn.functional has them ---------------------------------------------------------------------


def to_tensors(params: Mapping[str, np.ndarray], device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The parameters of a weights file or of `VAESpec.init_params` as trainable tensors of the same dtype."""
    return {name: torch.tensor(value, device=device, requires_grad=True) for name, value in params.items()}


def to_arrays(params: Params) -> dict[str, np.ndarray]:
    """The way back: tensors -> arrays that `save_weights` and level 1 take."""
    return {name: value.detach().cpu().numpy() for name, value in params.items()}


# --- encoder: q(z|x) = N(mu, diag(exp(logvar))) -------------------------------------------------------------------


def encode(params: Params, x: Tensor) -> tuple[Tensor, Tensor]:
    """Images x (B, 1, 28, 28) in [0, 1] -> mu, logvar (B, Z), the posterior's mean and log-variance."""
    h = F.relu(F.conv2d(x, params["encoder.conv1.weight"], params["encoder.conv1.bias"], stride=2, padding=1))
    h = F.relu(F.conv2d(h, params["encoder.conv2.weight"], params["encoder.conv2.bias"], stride=2, padding=1))
    h = h.reshape(len(h), 64 * 7 * 7)  # (B, 3136)
    h = F.relu(F.linear(h, params["encoder.fc.weight"], params["encoder.fc.bias"]))  # (B, 256)
    mu = F.linear(h, params["encoder.mu.weight"], params["encoder.mu.bias"])  # (B, Z)
    logvar = F.linear(h, params["encoder.logvar.weight"], params["encoder.logvar.bias"])  # (B, Z)
    return mu, logvar


# --- reparameterization -------------------------------------------------------------------------------------------


def reparameterize(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    """z = mu + std * eps with eps ~ N(0, I), so z ~ N(mu, std^2) and gradients reach mu and std; all (B, Z).

    The noise is an argument: the model itself is a plain function, and levels can be compared number by number
    (Kingma & Welling 2014, sec. 2.4).
    """
    std = torch.exp(0.5 * logvar)
    return mu + std * eps


# --- decoder: p(x|z) ----------------------------------------------------------------------------------------------


def decode(params: Params, z: Tensor) -> Tensor:
    """Latents z (B, Z) -> x_logits (B, 1, 28, 28); the sigmoid of a logit is the pixel's mean."""
    h = F.relu(F.linear(z, params["decoder.fc1.weight"], params["decoder.fc1.bias"]))  # (B, 256)
    h = F.relu(F.linear(h, params["decoder.fc2.weight"], params["decoder.fc2.bias"]))  # (B, 3136)
    h = h.reshape(len(h), 64, 7, 7)
    h = F.relu(
        F.conv_transpose2d(h, params["decoder.deconv1.weight"], params["decoder.deconv1.bias"], 2, 1, output_padding=1)
    )  # (B, 32, 14, 14)
    return F.conv_transpose2d(
        h, params["decoder.deconv2.weight"], params["decoder.deconv2.bias"], 2, 1, output_padding=1
    )  # (B, 1, 28, 28)


def forward(params: Params, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, 1, 28, 28), eps (B, Z) -> x_logits (B, 1, 28, 28), mu (B, Z), logvar (B, Z)."""
    mu, logvar = encode(params, x)
    z = reparameterize(mu, logvar, eps)
    return decode(params, z), mu, logvar


# --- loss: elbo = -(recon + kl), in nats per image ----------------------------------------------------------------


def bernoulli_recon(x: Tensor, x_logits: Tensor) -> Tensor:
    """-log p(x|z) = -sum_pixels [x log s + (1 - x) log(1 - s)] with s = sigmoid(l) -> (B,).

    Written on the logit l: max(l, 0) - l x + log(1 + exp(-|l|)), in which nothing can overflow, and no pixel is so
    sure that its loss becomes infinite.
    """
    bce = x_logits.clamp(min=0) - x_logits * x + torch.log1p(torch.exp(-x_logits.abs()))
    return bce.sum(dim=(1, 2, 3))


def gaussian_recon(x: Tensor, x_logits: Tensor) -> Tensor:
    """||x - sigmoid(l)||^2 -> (B,): -log p(x|z) of a Gaussian of variance 1/2, less its constant 392 ln(pi)."""
    return ((x - torch.sigmoid(x_logits)) ** 2).sum(dim=(1, 2, 3))


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, std^2) || N(0, I)) = 1/2 sum_z (mu^2 + std^2 - 1 - log std^2) -> (B,), never below 0.

    Kingma & Welling 2014, App. B, with the sign turned. expm1(l) is exp(l) - 1 without the rounding near l = 0.
    """
    return 0.5 * (mu**2 + torch.expm1(logvar) - logvar).sum(dim=1)


def elbo_terms(
    x: Tensor, x_logits: Tensor, mu: Tensor, logvar: Tensor, likelihood: str = "bernoulli"
) -> tuple[Tensor, Tensor]:
    """The two terms of elbo = -(recon + kl), each (B,), nats per image: summed over pixels and latents.

    Raises ValueError when `likelihood` is neither "bernoulli" nor "gaussian".
    """
    if likelihood not in ("bernoulli", "gaussian"):
        raise ValueError(f'likelihood must be "bernoulli" or "gaussian", got {likelihood!r}.')
    recon = bernoulli_recon(x, x_logits) if likelihood == "bernoulli" else gaussian_recon(x, x_logits)
    return recon, gaussian_kl(mu, logvar)


# --- training -----------------------------------------------------------------------------------------------------


def train_epoch(
    params: Params, optimizer: torch.optim.Optimizer, images: np.ndarray, epoch: int, args: argparse.Namespace
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over images uint8 (N, 1, 28, 28); yields the batch's recon and kl (B,) after each step.

    Epochs count from 1. Order, noise and binarization depend on the seed and the step alone.
    """
    like, latent_dim = params["encoder.mu.bias"], latent_dim_of(params)
    steps_per_epoch = math.ceil(len(images) / args.batch_size)
    first_step = (epoch - 1) * steps_per_epoch
    for step, index in enumerate(batches(len(images), args.batch_size, args.seed, epoch), first_step):
        x = binarize(images[index], args.binarize, generator(args.seed, "binarize", step))
        eps = generator(args.seed, "noise", step).standard_normal((len(index), latent_dim), dtype=np.float32)
        x, eps = torch.from_numpy(x).to(like), torch.from_numpy(eps).to(like)  # its device and dtype

        x_logits, mu, logvar = forward(params, x, eps)
        recon, kl = elbo_terms(x, x_logits, mu, logvar, args.likelihood)
        neg_elbo = (recon + kl).mean()

        optimizer.zero_grad()
        neg_elbo.backward()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.epochs * steps_per_epoch, args.lr)
        optimizer.step()
        yield recon.detach(), kl.detach()


def train(params: Params, data: ImageSet, test: ImageSet, args: argparse.Namespace) -> Iterator[dict]:
    """Train `params` in place with Adam; yields a row of metrics.jsonl for train and one for test after each epoch.

    Raises cli.NotFiniteError, naming term and step, when the loss stops being finite.
    """
    fused = params["encoder.mu.bias"].device.type in ("cpu", "cuda")  # one pass over memory where torch has it
    optimizer = torch.optim.Adam(params.values(), lr=args.lr, fused=fused)
    for epoch in range(1, args.epochs + 1):
        start, sums = time.perf_counter(), np.zeros(2)
        total = math.ceil(len(data) / args.batch_size)
        steps = train_epoch(params, optimizer, data.images, epoch, args)
        steps = tqdm(steps, f"epoch {epoch}/{args.epochs}", total, disable=None, leave=False)
        for step, (recon, kl) in enumerate(steps, 1):
            terms = {"recon": recon.mean().item(), "kl": kl.mean().item()}
            for name, value in terms.items():
                if not math.isfinite(value):
                    raise cli.NotFiniteError(
                        f"{name} became {value} at step {step} of epoch {epoch}; try a smaller --lr than {args.lr:g}."
                    )
            sums += len(recon) * np.array(list(terms.values()))
            steps.set_postfix({name: f"{value:.1f}" for name, value in terms.items()}, refresh=False)
        yield metrics_row(epoch, "train", *(sums / len(data)), args, time.perf_counter() - start)
        start = time.perf_counter()
        yield measure(params, test, args).row(epoch, args, time.perf_counter() - start)


@torch.no_grad()
def evaluate(
    params: Params, x: Tensor, eps: Tensor, likelihood: str = "bernoulli", batch_size: int = 128
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """recon (N,), kl (N,), mu (N, Z), logvar (N, Z) of images x (N, 1, 28, 28) with noise eps (N, Z), in chunks."""
    device, parts = params["encoder.mu.bias"].device, []
    for x_chunk, eps_chunk in zip(x.split(batch_size), eps.split(batch_size), strict=True):
        x_chunk, eps_chunk = x_chunk.to(device), eps_chunk.to(device)
        x_logits, mu, logvar = forward(params, x_chunk, eps_chunk)
        parts.append((*elbo_terms(x_chunk, x_logits, mu, logvar, likelihood), mu, logvar))
    recon, kl, mu, logvar = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return recon, kl, mu, logvar


# --- command line -------------------------------------------------------------------------------------------------


def measure(params: Params, data: ImageSet, args: argparse.Namespace) -> Measured:
    """The held-out ELBO's terms, with one sampled z per image and seeded noise."""
    rng = generator(args.seed, "evaluation")
    x = binarize(data.images, args.binarize, rng)
    eps = rng.standard_normal((len(x), latent_dim_of(params)), dtype=np.float32)
    recon, kl, mu, logvar = evaluate(params, torch.from_numpy(x), torch.from_numpy(eps), args.likelihood)

    @torch.no_grad()
    def decode_pixels(z: np.ndarray) -> np.ndarray:
        device = params["decoder.fc1.bias"].device
        return torch.sigmoid(decode(params, torch.from_numpy(z).to(device))).cpu().numpy()

    return Measured(data, x, eps, recon, kl, mu, logvar, decode_pixels)


def run(args: argparse.Namespace) -> None:
    device = cli.torch_device(args.device)
    params = load_weights(args.weights, args.latent_dim) if args.weights is not None else None
    args.latent_dim = latent_dim_of(params) if params else args.latent_dim or 20
    params = params or VAESpec(args.latent_dim).init_params(args.seed)
    data, test = (load_dataset(args.dataset, split, args.data_dir) for split in ("train", "test"))
    folder = cli.make_run_folder(args, "lowlevel", torch=torch.__version__)

    params, rows = to_tensors(params, device), []
    print(f"training on {len(data):,} images of {data.name} for {cli.counted(args.epochs, 'epoch')} on {device}")
    for row in train(params, data, test, args):
        rows.append(row)
        cli.write_metrics(folder / "metrics.jsonl", rows)
        print(cli.format_row(row))
    print(f"wrote {folder / 'metrics.jsonl'}")
    print(f"wrote {save_weights(to_arrays(params), folder / 'weights.safetensors')}")

    measured = measure(params, test, args)
    print("\n" + measured.summary(args))
    from vae_common import pictures

    grey = args.likelihood == "bernoulli" and args.binarize == "none"
    floor = entropy_floor(measured.x) if grey else None
    pictures.draw_losses(folder, rows, f"Training on {data.name}", entropy_floor=floor)
    pictures.draw(folder, measured, pictures.ALL, args.seed)


def build_parser() -> argparse.ArgumentParser:
    flags = ("--dataset", "--data-dir", "--weights", "--latent-dim", "--batch-size", "--epochs", "--lr", "--seed")
    return cli.parser(__doc__.splitlines()[0], *flags, "--device", "--likelihood", "--binarize", "--out", "--overwrite")


def main(argv: list[str] | None = None) -> int:
    return cli.run(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
