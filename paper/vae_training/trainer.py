"""The loop that trains every model of this folder. It knows nothing of VAEs: the model names its terms.

A model is an nn.Module with `noise_shape`, the shape of the standard normal noise it takes for one image, and
`objective(x, y, eps, step)`, which returns a dict of scalar terms; the last one, "loss", is minimised. Batch order,
noise, binarization and learning rate depend on the seed and the step alone, so the state of a run is only what
`RunState` holds, and a resumed run does exactly what an uninterrupted one would have done. Several processes (see
processes.py) draw the same whole batches, and each computes its share of them.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from vae_common.config import RunConfig
from vae_common.data import ImageSet, binarize
from vae_common.errors import check_finite
from vae_common.randomness import batches, generator
from vae_common.schedule import learning_rate
from vae_training import processes


@dataclass
class RunState:
    """Everything that a run is at one moment: `step` optimizer steps have been taken."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Callable[..., dict[str, torch.Tensor]]  # the model's, as it is computed: compiled, or shared
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)  # of each term over the images of the unfinished epoch
    rows: list[dict] = field(default_factory=list)  # of metrics.jsonl, for the finished epochs

    @classmethod
    def start(cls, model: nn.Module, config: RunConfig) -> "RunState":
        """The state before the first step."""
        fused = next(model.parameters()).device.type in ("cpu", "cuda")  # one pass over memory where torch has it
        optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=fused)
        objective = torch.compile(model.objective) if config.compile else model.objective
        return cls(model, optimizer, processes.shared(model, objective))


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM came; the step under way was finished first, so the state is whole. `status`: to exit with."""

    def __init__(self, number: int = signal.SIGINT, message: str = ""):
        super().__init__(message)
        self.number, self.status = number, 128 + number


def steps_per_epoch(images: int, batch_size: int) -> int:
    """How many steps an epoch of `images` images takes."""
    return math.ceil(images / batch_size)


# --- training -----------------------------------------------------------------------------------------------------


def train(state: RunState, data: ImageSet, config: RunConfig, evaluate: Callable[[int], dict]) -> Iterator[RunState]:
    """Train from where `state` is to the end of `config.epochs`; yields `state` after each epoch, its rows appended.

    evaluate(epoch) measures the model after an epoch and returns the test row.
    Raises NotFiniteError, and Interrupted after Ctrl-C or SIGTERM; in both cases `state` holds the last whole step.
    """
    on = {"dataset": data.name, "binarize": config.binarize, "likelihood": config.likelihood}
    measured = state.rows[-1]["epoch"] if state.rows else 0
    for epoch in range(measured + 1, config.epochs + 1):
        start = time.perf_counter()
        train_epoch(state, data, config, epoch)
        seconds = round(time.perf_counter() - start, 3)
        means = {name: total / len(data) for name, total in state.sums.items()}
        state.rows += [{"epoch": epoch, "split": "train", **means, "seconds": seconds, **on}, evaluate(epoch)]
        state.sums = {}
        yield state


def train_epoch(state: RunState, data: ImageSet, config: RunConfig, epoch: int) -> None:
    """Take the steps that are left of this epoch, adding each term, times the number of images, to `state.sums`."""
    state.model.train()
    per_epoch = steps_per_epoch(len(data), config.batch_size)
    done = state.step - (epoch - 1) * per_epoch
    order = islice(batches(len(data), config.batch_size, config.seed, epoch), done, None)
    hidden = None if processes.is_writer() else True  # None: where stderr is no terminal
    bar = tqdm(order, f"epoch {epoch}/{config.epochs}", per_epoch, initial=done, disable=hidden, leave=False)
    with bar, _interrupt_between_steps() as hits:
        for index in bar:
            terms = train_step(state, data, index, config, config.epochs * per_epoch)
            for name, value in terms.items():
                state.sums[name] = state.sums.get(name, 0.0) + value * len(index)
            bar.set_postfix({name: f"{value:.1f}" for name, value in terms.items()}, refresh=False)
            if processes.anywhere(bool(hits)):
                raise Interrupted(*hits[:1])


def train_step(
    state: RunState, data: ImageSet, index: np.ndarray, config: RunConfig, total_steps: int
) -> dict[str, float]:
    """One optimizer step on the images data.images[index]; returns the batch means of the model's terms."""
    like = next(state.model.parameters())
    x = binarize(data.images[index], config.binarize, generator(config.seed, "binarize", state.step))
    noise_shape = (len(index), *state.model.noise_shape)
    eps = generator(config.seed, "noise", state.step).standard_normal(noise_shape, dtype=np.float32)
    x, eps = torch.from_numpy(x).to(like), torch.from_numpy(eps).to(like)  # its device and dtype
    y = torch.from_numpy(data.labels[index]).to(like.device)

    with torch.autocast(like.device.type, torch.bfloat16, enabled=config.amp):
        terms = state.objective(x, y, eps, state.step)
    values = processes.mean({name: term.item() for name, term in terms.items()})
    check_finite(values, f"at step {state.step}", config.lr)
    state.optimizer.zero_grad()
    terms["loss"].backward()
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(state.step, total_steps, config.lr)
    state.optimizer.step()
    state.step += 1
    return values


@contextmanager
def _interrupt_between_steps():
    """Within this block the first Ctrl-C or SIGTERM is only added to `hits`; a second one interrupts at once.

    Not with several processes: the terminal and torchrun may both pass one Ctrl-C on, and all have to end together;
    and SIGTERM is how torchrun says that one of them is gone.
    """
    hits = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread is given signals
        yield hits
        return
    numbers = [signal.SIGINT] if processes.count() > 1 else [signal.SIGINT, signal.SIGTERM]

    def note(number, frame):
        hits.append(number)
        for one in numbers:
            signal.signal(one, signal.SIG_IGN if processes.count() > 1 else earlier[one])

    earlier = {one: signal.signal(one, note) for one in numbers}
    try:
        yield hits
    finally:
        if processes.count() == 1 or not hits:
            for one in numbers:
                signal.signal(one, earlier[one])
