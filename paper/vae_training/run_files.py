"""A model and its weights file; a finished run and its folder."""

import json
import shlex
from pathlib import Path

import numpy as np
from torch import nn

from vae_common.config import RunConfig
from vae_common.errors import UsageError, WeightsError
from vae_common.files import read_whole
from vae_common.run_folder import read_config, unreadable
from vae_common.weights import load_weights, read_safetensors, save_weights, write_safetensors
from vae_training.factory import build_model, build_prior, follows_spec, load_arrays, shapes_of


def save_model(model: nn.Module, name: str, path: Path) -> Path:
    """Write the model's weights: as a weights file of all levels where it follows the spec, else as one of level 3."""
    arrays = {key: value.cpu().numpy() for key, value in model.state_dict().items()}
    if follows_spec(model):
        return save_weights(arrays, path)
    return write_safetensors(arrays, {"format": "paper-vae", "version": "1", "model": name}, path)


def load_model(model: nn.Module, name: str, path: str | Path) -> None:
    """Read what `save_model` wrote into `model`; raises WeightsError when the file is not of such a model."""
    if follows_spec(model):
        load_arrays(model, load_weights(path, model.spec.latent_dim))
        return
    metadata, arrays = read_safetensors(path)
    expected = {"format": "paper-vae", "version": "1", "model": name}
    if metadata != expected or {key: value.shape for key, value in arrays.items()} != shapes_of(model):
        raise WeightsError(f"{path}: expected the weights of this {name}, found others; give those of the same run.")
    for key, value in arrays.items():
        if not np.isfinite(value).all():
            raise WeightsError(f"{path}: expected finite numbers in key {key!r}, found NaN or infinity; train again.")
    load_arrays(model, arrays)


def read_run(folder: str | Path) -> tuple[RunConfig, nn.Module, list[dict]]:
    """A finished run of level 3 -> its settings, its model on the CPU (of a VQ-VAE the prior, which holds it), the rows
    of its metrics.jsonl.

    Raises UsageError when the folder does not hold such a run or one was stopped before its end, WeightsError when
    its weights cannot be used.
    """
    (config, _), path = read_config(folder), Path(folder) / "metrics.jsonl"
    try:
        rows = [json.loads(line) for line in read_whole(path).splitlines()]
        if not all(_is_row(row) for row in rows):
            raise ValueError("a line is no row of numbers of an epoch")
        if len({(row["split"], frozenset(row)) for row in rows}) > len({row["split"] for row in rows}):
            raise ValueError("its rows do not hold the same terms")
    except (OSError, ValueError, RecursionError) as error:
        wanted = "the metrics of a finished run that this version of the project wrote"
        raise unreadable(path, wanted, error) from error
    if not any(row["split"] == "test" and row["epoch"] >= config.epochs for row in rows):
        done = max((row["epoch"] for row in rows if row["split"] != "train"), default=0)
        raise UsageError(
            f"{folder}: expected a finished run, found the metrics of {done} of {config.epochs} epochs; go on with "
            f"paper/vae_paper.py --resume {shlex.quote(str(folder))}."
        )
    model = build_model(config)
    load_model(model, config.model, Path(folder) / "weights.safetensors")
    prior = build_prior(config, model)
    if prior is not None:
        load_model(prior, "prior", Path(folder) / "prior-weights.safetensors")
    return config, prior or model, rows


def _is_row(row: object) -> bool:
    """Whether this is a row of metrics.jsonl: an epoch, a split, and of each term a finite number."""
    if not isinstance(row, dict) or type(row.get("epoch")) is not int or not 1 <= row["epoch"] <= 10**6:
        return False
    terms = [row[name] for name in ("recon", "kl", "elbo", "loss", "seconds") if name in row]
    finite = all(type(value) in (int, float) and abs(value) < float("inf") for value in terms)
    whole = {"recon", "dataset", "binarize", "likelihood"} <= set(row)
    return row.get("split") in ("train", "validation", "test") and whole and finite
