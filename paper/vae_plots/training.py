"""Pictures of the training: losses, rate against distortion, and the schedule where the run had one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vae_common.config import RunConfig
from vae_common.evaluation import Evaluation
from vae_common.plots import charts
from vae_common.plots.run_pictures import draw_losses
from vae_common.plots.style import save_figure
from vae_models.beta_vae import KLWeight


def draw_training(folder: Path, measured: Evaluation, rows: Sequence[dict], config: RunConfig) -> None:
    """Draw the pictures of metrics.jsonl into folder/figures; print each path."""
    if "kl" not in rows[-1]:
        caption = "A gap that opens between train and held-out images is overfitting."
        draw_losses(folder, rows, measured, caption=caption, terms=("recon", "mse"))
        return
    draw_losses(folder, rows, measured)
    drawn = {"rate_and_distortion": charts.rate_and_distortion(
        rows, "Rate against distortion during training",
        caption="Rate is what the code says about an image, distortion what is still missing. Training lowers "
        "distortion, mostly by raising the rate; along a dotted line one is only traded for the other.",
    )}  # fmt: skip
    if config.anneal != "none" or config.capacity is not None:
        name, at, values = schedule_of(config)
        drawn["schedule"] = charts.schedule(
            at, values, name, rows, "The schedule, and the KL that resulted",
            caption="With a small weight the code is used at once; as beta rises, only what pays for its nats is kept. "
            if name == "beta" else "The KL is held to C, which rises: dimensions come into use one after another.",
        )  # fmt: skip
    for name, figure in drawn.items():
        print(f"wrote {save_figure(figure, folder / 'figures' / f'{name}.png')}")


def schedule_of(config: RunConfig) -> tuple[str, np.ndarray, np.ndarray]:
    """The name, "beta" or "C", the moments (T,) at which it is drawn, in epochs, and its values (T,) there."""
    weight = KLWeight(
        config.beta, config.anneal, config.anneal_epochs, capacity=config.capacity
    )  # a step of it is an epoch
    name, value_at = ("beta", weight.beta_at) if config.capacity is None else ("C", weight.capacity_at)
    at = np.linspace(0, config.epochs, 1000, endpoint=False)
    return name, at, np.array([value_at(epoch) for epoch in at])
