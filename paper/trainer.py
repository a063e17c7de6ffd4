"""The loop that trains every model of this folder. It knows nothing of VAEs: the model names its terms.

A model is an nn.Module with `noise_shape`, the shape of the standard normal noise it takes for one image, and
`objective(x, y, eps, step)`, which returns a dict of scalar terms; "loss" among them is minimised. Batch order, noise,
binarization and learning rate depend on the seed and the step alone, so the state of a run is only what `RunState`
holds: weights, optimizer, step and the rows already measured.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from vae_common.cli import NotFiniteError
from vae_common.data import ImageSet, batches, binarize, generator
from vae_common.schedule import learning_rate


@dataclass(frozen=True)
class Settings:
    """What a training run is told, besides the model and the data."""

    epochs: int = 10
    batch_size: int = 128
    lr: float = 2e-3
    seed: int = 0
    binarize: str = "none"


@dataclass
class RunState:
    """Everything that a run is at one moment: `step` optimizer steps have been taken."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    rows: list[dict] = field(default_factory=list)

    @classmethod
    def start(cls, model: nn.Module, settings: Settings) -> "RunState":
        return cls(model, torch.optim.Adam(model.parameters(), lr=settings.lr))


def train(state: RunState, data: ImageSet, settings: Settings, evaluate: Callable[[int], dict]) -> Iterator[RunState]:
    """Train until `settings.epochs` epochs are done; yields `state` after each, with its metrics rows appended.

    evaluate(epoch) measures the model after an epoch and returns the test row. Raises NotFiniteError.
    """
    steps_per_epoch = math.ceil(len(data) / settings.batch_size)
    for epoch in range(state.step // steps_per_epoch + 1, settings.epochs + 1):
        start = time.perf_counter()
        terms = train_epoch(state, data, settings, epoch)
        seconds = round(time.perf_counter() - start, 3)
        state.rows.append({"epoch": epoch, "split": "train", **terms, "seconds": seconds})
        state.rows.append(evaluate(epoch))
        yield state


def train_epoch(state: RunState, data: ImageSet, settings: Settings, epoch: int) -> dict[str, float]:
    """One pass over the images; returns the epoch's mean of each term."""
    state.model.train()
    steps_per_epoch = math.ceil(len(data) / settings.batch_size)
    order = batches(len(data), settings.batch_size, settings.seed, epoch)
    bar = tqdm(order, f"epoch {epoch}/{settings.epochs}", steps_per_epoch, disable=None, leave=False)
    sums: dict[str, float] = {}
    for index in bar:
        terms = train_step(state, data, index, settings, settings.epochs * steps_per_epoch)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value * len(index) / len(data)
        bar.set_postfix({name: f"{value:.1f}" for name, value in terms.items()}, refresh=False)
    return sums


def train_step(
    state: RunState, data: ImageSet, index: np.ndarray, settings: Settings, total_steps: int
) -> dict[str, float]:
    """One optimizer step on the images data.images[index]; returns the batch means of the model's terms."""
    device = next(state.model.parameters()).device
    x = binarize(data.images[index], settings.binarize, generator(settings.seed, "binarize", state.step))
    eps = generator(settings.seed, "noise", state.step).standard_normal(
        (len(index), *state.model.noise_shape), dtype=np.float32
    )
    x, y, eps = (torch.from_numpy(array).to(device) for array in (x, data.labels[index], eps))

    terms = state.model.objective(x, y, eps, state.step)
    state.optimizer.zero_grad()
    terms["loss"].backward()
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(state.step, total_steps, settings.lr)
    values = {name: term.item() for name, term in terms.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise NotFiniteError(
                f"{name} became {value} at step {state.step}; try a smaller --lr than {settings.lr:g}."
            )
    state.optimizer.step()
    state.step += 1
    return values
