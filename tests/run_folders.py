"""Finished runs of level 3, written in this process without training: for tests of the commands that read a run."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from vae_common.config import RunConfig
from vae_common.data import ImageSet
from vae_common.run_folder import make_run_folder, release_all, write_metrics
from vae_measures.held_out import measure
from vae_training.factory import build_model, build_prior
from vae_training.run_files import save_model


def finished_run(
    folder: Path,
    measured_on: ImageSet | None = None,
    change: Callable[[nn.Module], object] = lambda model: None,
    **settings,
) -> Path:
    """The folder of a run of RunConfig(**settings), of one epoch, as paper/vae_paper.py leaves it; returns `folder`.

    The model has its seeded initial weights, after change(model). The last row of the metrics is measured on
    `measured_on`, or, for commands that do not look at it, made up.
    """
    config = RunConfig(**{"epochs": 1, **settings}, out=str(folder)).settled()
    model = build_model(config)
    change(model)
    make_run_folder(config, "paper")
    release_all()
    save_model(model, config.model, folder / "weights.safetensors")
    if config.model == "vqvae":
        save_model(build_prior(config, model), "prior", folder / "prior-weights.safetensors")
    if measured_on is not None:
        row = measure(model, measured_on, config.binarize, config.seed).row(config.epochs, 0.0)
    else:
        on = {name: getattr(config, name) for name in ("dataset", "binarize", "likelihood")}
        row = {"epoch": config.epochs, "split": "test", "recon": 100.0, **on}
    write_metrics(folder / "metrics.jsonl", [row])
    return folder


def spread_codes(model: nn.Module) -> None:
    """Make the posterior means ten times as far apart: initial weights leave them all near 0."""
    model.encoder.mu.weight.data.mul_(10)
