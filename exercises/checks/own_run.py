"""A VAE of the learner's own, with the names and shapes of the spec, measured and kept as a run of level 3."""

import contextlib
from collections.abc import Mapping
from itertools import count
from pathlib import Path

import torch
from torch import nn

from conv_vae import ConvVAE
from vae_common.config import RunConfig
from vae_common.data import ImageSet
from vae_common.evaluation import Evaluation
from vae_common.run_folder import hold_run_folder, make_run_folder, release_all, write_metrics
from vae_common.spec import VAESpec
from vae_measures.held_out import measure
from vae_training.run_files import save_model


def level_3(params: Mapping[str, torch.Tensor]) -> ConvVAE:
    """Level 3's model with these weights, name -> tensor."""
    with torch.device("meta"):  # nothing is drawn
        model = ConvVAE(VAESpec(len(params["encoder.mu.bias"])))
    model.load_state_dict(params, assign=True)
    return model


def measured(model: nn.Module, data: ImageSet) -> Evaluation:
    """Level 3's evaluation of the model's weights. Raises NotFiniteError."""
    found = measure(level_3(model.state_dict()), data, "none", seed=0)
    found.row(1, 0.0)  # raises it
    return found


def keep_run(model: nn.Module, data: ImageSet, test: ImageSet, epochs: int, folder: Path, seconds: float = 0.0) -> None:
    """Write the trained model as a run folder, as paper/vae_paper.py does; it takes its place when it is whole, and an
    earlier one is moved aside to <folder>-1, -2, ...

    Raises OSError, UsageError where another process is writing there, NotFiniteError.
    """
    new, weights = folder.with_name(f".{folder.name}-new"), model.state_dict()
    settings = dict(dataset=data.name, latent_dim=len(weights["encoder.mu.bias"]), epochs=epochs)
    note = "trained by a train function of one's own, with its own batch_size and lr"
    try:
        with contextlib.redirect_stdout(None):  # which would name the folder `new`
            make_run_folder(RunConfig(**settings, out=str(new), overwrite=True).settled(), "paper", note=note)
        write_metrics(new / "metrics.jsonl", [measured(model, split).row(epochs, seconds) for split in (data, test)])
        save_model(level_3(weights), "vae", new / "weights.safetensors")
        if folder.exists():
            hold_run_folder(folder)
            folder.rename(next(p for n in count(1) if not (p := folder.with_name(f"{folder.name}-{n}")).exists()))
        new.rename(folder)
    finally:
        release_all()
