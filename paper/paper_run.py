"""A run of level 3: from settings to a model, from a model to its measurement, from a run folder back to both."""

import argparse
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import processes
from autoencoder import Autoencoder, AutoencoderMeasured
from beta_vae import BetaVAE, KLPrice
from conditional_vae import ConditionalVAE, label_report, log_p_given_each_label
from conv_vae import ConvVAE
from iwae import IWAE, ManySampleVAE
from linear_vae import LinearVAE
from trunks import MLP
from vae_common.cli import FORMAT, UsageError
from vae_common.data import BINARIZE, CLASS_NAMES, DATASETS, ImageSet, binarize, generator
from vae_common.files import read_whole
from vae_common.measured import Measured
from vae_common.spec import MAX_LATENT_DIM, VAESpec
from vae_common.weights import WeightsError, load_weights, read_safetensors, save_weights, write_safetensors
from vq_measured import MeasuredVQ, measure_vq
from vq_vae import VQVAE, CodePrior

# --- settings -> model --------------------------------------------------------------------------------------------


def build_model(config: argparse.Namespace, steps_per_epoch: int = 1) -> nn.Module:
    """The model that `config` (the parsed flags of vae_paper.py) describes, with seeded initial weights.

    A model of the spec's architecture starts from the spec's weights, as levels 1 and 2 do.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = _construct(config, VAESpec(config.latent_dim), steps_per_epoch)
    if follows_spec(model):
        load_arrays(model, model.spec.init_params(config.seed))
    return model


def build_prior(config: argparse.Namespace, vqvae: VQVAE) -> CodePrior:
    """The prior over the codes of a trained VQ-VAE, with seeded initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return CodePrior(vqvae)


def _construct(config: argparse.Namespace, spec: VAESpec, steps_per_epoch: int) -> nn.Module:
    trunk = {"trunk": MLP} if config.trunk == "mlp" else {}
    if config.model == "vqvae":
        return VQVAE(config.codes, likelihood=config.likelihood, codebook=config.codebook)
    if config.model == "ae":
        return Autoencoder(spec, config.likelihood, **trunk)
    if config.model == "cvae":
        return ConditionalVAE(spec, config.likelihood, classes=len(CLASS_NAMES[config.dataset]))
    price = BatchPrice(
        config.beta, config.anneal, config.anneal_epochs * steps_per_epoch, config.free_bits, config.capacity
    )
    if config.trunk == "linear":
        return LinearVAE(spec, config.likelihood, price=price)
    if config.importance_samples > 1:
        return IWAE(spec, config.likelihood, samples=config.importance_samples, **trunk)
    if config.mc_samples > 1:
        return ManySampleVAE(spec, config.likelihood, samples=config.mc_samples, **trunk)
    if price != BatchPrice(ramp=price.ramp):
        return BetaVAE(spec, config.likelihood, price=price, **trunk)
    return ConvVAE(spec, config.likelihood, **trunk)


class BatchPrice(KLPrice):
    """KLPrice of the whole batch's mean KL, however many processes share the batch: it bends after the mean."""

    def __call__(self, kl_per_dim: Tensor, step: int) -> Tensor:
        return super().__call__(processes.batch_mean(kl_per_dim), step)


# --- model -> measurement -----------------------------------------------------------------------------------------


@torch.no_grad()
def measure(
    model: nn.Module, data: ImageSet, config: argparse.Namespace, batch_size: int = 500
) -> Measured | MeasuredVQ:
    """The held-out ELBO's terms, with one sampled z per image and seeded noise: the numbers of levels 1 and 2.

    Collective: several processes divide the chunks of `batch_size` images, and all know the result.
    """
    if isinstance(model, VQVAE | CodePrior):
        return measure_vq(*((model.vqvae, model) if isinstance(model, CodePrior) else (model, None)), data, config)
    model.eval()
    like, conditional = next(model.parameters()), isinstance(model, ConditionalVAE)
    rng = generator(config.seed, "evaluation")
    x = binarize(data.images, config.binarize, rng)
    eps = rng.standard_normal((len(x), model.spec.latent_dim), dtype=np.float32)
    parts = []
    starts = range(0, len(x), batch_size)
    for start in starts[processes.share(len(starts))]:
        chunk = slice(start, start + batch_size)
        x_chunk, eps_chunk = torch.from_numpy(x[chunk]).to(like), torch.from_numpy(eps[chunk]).to(like)
        y = (torch.from_numpy(data.labels[chunk]).to(like.device),) if conditional else ()
        x_logits, mu, logvar = model(x_chunk, eps_chunk, *y)
        terms = (*model.elbo_terms(x_chunk, x_logits, mu, logvar, config.likelihood), mu, logvar)
        parts.append([term.cpu().numpy() for term in terms])
    recon, kl, mu, logvar = (np.concatenate(part) for part in zip(*processes.gather(parts), strict=True))
    kind = AutoencoderMeasured if isinstance(model, Autoencoder) else Measured
    return kind(data, x, eps, recon, kl, mu, logvar, pixel_decoder(model), conditional)


def pixel_decoder(model: ConvVAE) -> Callable[..., np.ndarray]:
    @torch.no_grad()
    def decode_pixels(z: np.ndarray, *y: np.ndarray) -> np.ndarray:
        like = next(model.parameters())
        y = (torch.tensor(labels, device=like.device) for labels in y)
        return model.pixel_means(model.decode(torch.from_numpy(z).to(like), *y)).cpu().numpy()

    return decode_pixels


def label_worth(
    model: ConditionalVAE,
    data: ImageSet,
    config: argparse.Namespace,
    images: int = 500,
    samples: int = 10,
    batch_size: int = 20,
) -> dict[str, float]:
    """`label_report` on the first `images` images, from L_K with K = `samples` seeded draws of z for each label."""
    like, rng = next(model.parameters()), generator(config.seed, "evaluation", 1)
    x = binarize(data.images[:images], config.binarize, rng)
    log_p = []
    for start in range(0, len(x), batch_size):
        chunk = x[start : start + batch_size]
        eps = rng.standard_normal((len(chunk), samples, model.spec.latent_dim), dtype=np.float32)
        log_p.append(log_p_given_each_label(model, torch.from_numpy(chunk).to(like), torch.from_numpy(eps).to(like)))
    report = label_report(torch.cat(log_p).cpu(), torch.from_numpy(data.labels[: len(x)]))
    return {**report, "label_images": len(x), "label_samples": samples}


# --- model <-> file -----------------------------------------------------------------------------------------------


def follows_spec(model: nn.Module) -> bool:
    """Whether the model's weights are those of the spec, which levels 1 and 2 read too."""
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    return hasattr(model, "spec") and shapes == model.spec.shapes


def load_arrays(model: nn.Module, params: dict[str, np.ndarray]) -> None:
    """Put arrays into the model; names and shapes must be those of its state_dict."""
    model.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in params.items()})


def save_model(model: nn.Module, name: str, path: Path) -> Path:
    """Write the model's weights: as a weights file of all levels where it follows the spec, else as one of level 3."""
    arrays = {key: value.cpu().numpy() for key, value in model.state_dict().items()}
    if follows_spec(model):
        return save_weights(arrays, path)
    return write_safetensors(arrays, {"format": "paper-vae", "version": "1", "model": name}, path)


def load_model(model: nn.Module, name: str, path: Path) -> None:
    """Read what `save_model` wrote into `model`; raises WeightsError when the file is not of such a model."""
    if follows_spec(model):
        load_arrays(model, load_weights(path, model.spec.latent_dim))
        return
    metadata, arrays = read_safetensors(path)
    expected = {"format": "paper-vae", "version": "1", "model": name}
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    if metadata != expected or {key: value.shape for key, value in arrays.items()} != shapes:
        raise WeightsError(f"{path}: expected the weights of this {name}, found others; give those of the same run.")
    for key, value in arrays.items():
        if not np.isfinite(value).all():
            raise WeightsError(f"{path}: expected finite numbers in key {key!r}, found NaN or infinity; train again.")
    load_arrays(model, arrays)


# --- run folder -> run --------------------------------------------------------------------------------------------


def _whole(low: int, high: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _number(low: float) -> Callable[[object], bool]:
    return lambda value: type(value) in (int, float) and low <= value < float("inf")


def _one_of(*choices: object) -> Callable[[object], bool]:
    return lambda value: any(value == choice and type(value) is type(choice) for choice in choices)


def _text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


# What a config.json has to say, and whether it is a value that the flags of vae_paper.py could have had.
SETTINGS = {
    "model": _one_of("vae", "ae", "cvae", "vqvae"),
    "trunk": _one_of("conv", "mlp", "linear"),
    "dataset": _one_of(*DATASETS),
    "data_dir": _text_or_none,
    "weights": _text_or_none,
    "latent_dim": _whole(1, MAX_LATENT_DIM),
    "batch_size": _whole(1, 10**6),
    "epochs": _whole(1, 10**6),
    "lr": _number(0),
    "seed": _whole(0, 2**32 - 1),
    "likelihood": _one_of("bernoulli", "gaussian"),
    "binarize": _one_of(*BINARIZE),
    "beta": _number(0),
    "anneal": _one_of("none", "linear", "sigmoid", "cyclical"),
    "anneal_epochs": _number(0),
    "free_bits": _number(0),
    "capacity": lambda value: value is None or _number(0)(value),
    "importance_samples": _whole(1, 1000),
    "mc_samples": _whole(1, 1000),
    "codes": _whole(2, 65536),
    "codebook": _one_of("ema", "gradient"),
    "prior_epochs": _whole(1, 10**6),
}


def read_config(folder: str | Path) -> argparse.Namespace:
    """The settings of a run of level 3; raises UsageError when the folder holds none that can be read and used."""
    path = Path(folder) / "config.json"
    try:
        config = json.loads(read_whole(path))
        if not isinstance(config, dict):
            raise ValueError("it is no JSON object")
        if config.get("level") != "paper":
            raise ValueError(f"it is a run of level {str(config.get('level'))[:40]!r}")
        if not _whole(1, FORMAT)(config.get("format", 1)):
            raise ValueError("a newer version of this project wrote it")
        for name, fits in SETTINGS.items():
            if name not in config:
                raise ValueError(f"it lacks {name}")
            if not fits(config[name]):
                raise ValueError(f"{name} is {str(config[name])[:40]!r}")
    except (OSError, ValueError, RecursionError) as error:
        raise _no_run(path, "the settings of a run that this version of paper/vae_paper.py wrote", error) from error
    return argparse.Namespace(**config)


def read_run(folder: str | Path) -> tuple[argparse.Namespace, nn.Module, list[dict]]:
    """A finished run of level 3 -> its settings, its model on the CPU (of a VQ-VAE the prior, which holds it), the rows
    of its metrics.jsonl.

    Raises UsageError when the folder does not hold such a run or one was stopped before its end, WeightsError when
    its weights cannot be used.
    """
    config, path = read_config(folder), Path(folder) / "metrics.jsonl"
    try:
        rows = [json.loads(line) for line in read_whole(path).splitlines()]
        if not all(_is_row(row) for row in rows):
            raise ValueError("a line is no row of numbers of an epoch")
        if len({(row["split"], frozenset(row)) for row in rows}) > len({row["split"] for row in rows}):
            raise ValueError("its rows do not hold the same terms")
    except (OSError, ValueError, RecursionError) as error:
        raise _no_run(
            path, "the metrics of a finished run that this version of paper/vae_paper.py wrote", error
        ) from error
    done = max((row["epoch"] for row in rows if row["split"] == "test"), default=0)
    if done < config.epochs:
        raise UsageError(
            f"{folder}: expected a finished run, found the metrics of {done} of {config.epochs} epochs; go on with "
            f"paper/vae_paper.py --resume {shlex.quote(str(folder))}."
        )
    model = build_model(config)
    load_model(model, config.model, Path(folder) / "weights.safetensors")
    if isinstance(model, VQVAE):
        model = build_prior(config, model)
        load_model(model, "prior", Path(folder) / "prior-weights.safetensors")
    return config, model, rows


def _is_row(row: object) -> bool:
    """Whether this is a row of metrics.jsonl: an epoch, a split, and of each term a finite number."""
    if not isinstance(row, dict) or not _whole(1, 10**6)(row.get("epoch")):
        return False
    terms = [row[name] for name in ("recon", "kl", "elbo", "loss", "seconds") if name in row]
    finite = all(type(value) in (int, float) and abs(value) < float("inf") for value in terms)
    whole = {"recon", "dataset", "binarize", "likelihood"} <= set(row)
    return row.get("split") in ("train", "test") and whole and finite


def _no_run(path: Path, wanted: str, error: Exception) -> UsageError:
    reason = " ".join((getattr(error, "strerror", None) or str(error)).split())
    return UsageError(f"{path}: expected {wanted}, found none that can be read ({reason}); name a run folder.")
