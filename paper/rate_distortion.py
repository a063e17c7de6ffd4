"""Rate and distortion: what beta trades for what, from codes that say nothing to codes that copy the image.

`python paper/rate_distortion.py --sweep` trains one beta-VAE after another, each from the weights of the one before,
and draws them in the plane of rate R = KL(q(z|x) || p(z)) and distortion D = -E log p(x|z), both in nats per image.
`python paper/rate_distortion.py RUN` places one finished run there. What is known for certain about the plane (Alemi et
al. 2018, "Fixing a Broken ELBO", sec. 2):

    H - D <= I(x; z) <= R          the code holds what it has cost at the most, what it has saved at the least
    -elbo = R + D >= H             lines of slope -1 hold models of equal elbo
    dD/dR = -beta                  on the frontier, where D + beta R is least; beta = 1 touches the best elbo
    R = 0                          collapse: the best decoder that knows nothing is the mean image
    D = entropy of the pixels      copying: no decoder does better, and N images need no more than ln N nats for it
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from vae_common import cli, figures
from vae_common.data import entropy_floor

BETAS = (0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
CAPTION = (
    "Each point is one beta; the short strokes have its slope, -beta. Upwards to the left the code falls silent "
    "(collapse), downwards to the right it copies. Where the train points go on falling and the test points do not, the "
    "rate is spent on memorising. Nothing can lie in the grey. Below: what the rate on the training images consists of."
)

# --- the exact ends of the plane ----------------------------------------------------------------------------------


def mean_image(x: np.ndarray) -> np.ndarray:
    """Pixels x (N, 1, 28, 28) in [0, 1] -> (1, 28, 28), their mean, one grey level of 255 added to light and to dark.

    So a pixel that is never lit in the N images has a mean above 0, and an image where it is lit a finite distortion.
    """
    return (255 * x.sum(axis=0, dtype=np.float64) + 1) / (255 * len(x) + 2)


def distortion_without_z(x: np.ndarray, mean: np.ndarray, likelihood: str) -> float:
    """D at R = 0: every image of x (N, 1, 28, 28) decoded as `mean` (1, 28, 28), nats per image.

    "bernoulli": sum over pixels of the cross-entropy of x's mean and `mean`, as -log p(x|z) is linear in x; "gaussian":
    the squared error. With `mean` from the training split it is what a factorised decoder that ignores z reaches.
    """
    p = x.mean(axis=0, dtype=np.float64)
    if likelihood == "gaussian":
        return float(((x - mean) ** 2).sum() / len(x))
    return float(-(p * np.log(mean) + (1 - p) * np.log1p(-mean)).sum())


def entropy_of_set(x: np.ndarray) -> float:
    """H, in nats, of: draw one of the images x (N, 1, 28, 28), then each pixel with its grey value as probability.

    ln N where all differ, plus the pixels' own entropy. Exact for pixels of 0 and 1; for grey ones an upper bound, met
    when a binarized image still tells which one it was drawn from.
    """
    counts = np.unique(x.reshape(len(x), -1), axis=0, return_counts=True)[1] / len(x)
    return float(-(counts * np.log(counts)).sum()) + entropy_floor(x)


def end_points(x: np.ndarray, mean: np.ndarray, likelihood: str) -> dict[str, float | int | None]:
    """What is known of a split before any training: images N, D without z, the floor of D, H (None for "gaussian")."""
    bernoulli = likelihood == "bernoulli"
    return {
        "images": len(x),
        "without_z": distortion_without_z(x, mean, likelihood),
        "floor": entropy_floor(x) if bernoulli else 0.0,
        "entropy": entropy_of_set(x) if bernoulli else None,
    }


# --- one model in the plane ---------------------------------------------------------------------------------------


def place(model, splits: Sequence, config: argparse.Namespace, samples: int) -> tuple[dict, dict]:
    """Measure a model on its train and test ImageSets: its entry in results.json, and the end points of both splits.

    Rate and distortion are those of one sampled z per image; I(x; z) is that of the training images and their index.
    Raises EstimateError when an estimate of it is impossible.
    """
    from mutual_information import decompose
    from paper_run import measure
    from vae_common.data import generator

    train, test = (measure(model, data, config) for data in splits)
    parts = decompose(train.mu, train.logvar, samples, generator(config.seed, "evaluation", 2))
    entry = {"beta": config.beta, "active_units": int(test.active.sum())}
    for name, measured in (("train", train), ("test", test)):
        rate, distortion = float(measured.kl.mean()), float(measured.recon.mean())
        entry[name] = {"rate": rate, "distortion": distortion, "elbo": -(rate + distortion)}
    mean = mean_image(train.x)
    ends = {
        name: end_points(measured.x, mean, config.likelihood) for name, measured in (("train", train), ("test", test))
    }
    return {**entry, **asdict(parts)}, ends


def table(models: Sequence[Mapping]) -> str:
    """The entries of results.json as lines of text."""
    lines = [
        "             train            test                   active   I(x; z)        KL(q(z)||p(z))  total",
        "    beta     R       D        R       D      -elbo   units    (train)        (train)         correlation",
    ]
    for model in models:
        points = "  ".join(
            f"{model[split]['rate']:6.2f}  {model[split]['distortion']:6.2f}" for split in ("train", "test")
        )
        parts = (model[key] for key in ("information", "aggregate_kl", "total_correlation"))
        parts = "  ".join(f"{part['value']:6.2f} +- {part['error']:.2f}" for part in parts)
        lines.append(
            f"{model['beta']:8g} {points}  {-model['test']['elbo']:6.2f}  {model['active_units']:5d}   {parts}"
        )
    return "\n".join(lines)


def known(ends: Mapping[str, Mapping], config: argparse.Namespace) -> str:
    """The end points of both splits, and what the parts of the rate rest on, as lines of text."""
    from vae_common.measured import LIKELIHOODS, PIXELS

    lines = [
        f"{config.dataset}, {PIXELS[config.binarize]}, {LIKELIHOODS[config.likelihood]} likelihood, nats per image"
    ]
    for split, end in ends.items():
        known = f"  {split}: {end['images']:,} images; R = 0 has D = {end['without_z']:.2f} (mean image of train), "
        known += f"D >= {end['floor']:.2f} (entropy of the pixels), I(x; index) <= {math.log(end['images']):.2f}"
        lines.append(known + (f", R + D >= {end['entropy']:.2f}" if end["entropy"] and split == "train" else ""))
    return "\n".join(lines)


# --- the picture --------------------------------------------------------------------------------------------------


@figures._styled
def rate_distortion_plane(
    models: Sequence[Mapping], ends: Mapping[str, Mapping], title: str, caption: str | None = None
) -> Figure:
    """Models in the plane (Alemi et al. 2018, figs. 1 and 3) above the parts of their rates; as in results.json.

    models: entries with the keys beta, train, test, active_units, information, aggregate_kl; ends: see `end_points`.
    """
    models = sorted(models, key=lambda model: model["beta"])
    points = [[model[split][key] for split in ("train", "test") for key in ("rate", "distortion")] for model in models]
    points = figures._array("models", points, None, 4)
    fig = figures._figure(title, caption, height=8.2)
    plane, below = fig.subplots(2, 1, height_ratios=[2.6, 1])
    for column, split, colour, ls in ((0, "train", figures.LINES[0], "--"), (2, "test", figures.LINES[1], "-")):
        plane.plot(*points[:, column : column + 2].T, ls=ls, marker="o", ms=4.5, color=colour, label=split)
        plane.plot(0, ends[split]["without_z"], marker="s", ms=8, mfc="none", color=colour, clip_on=False)
    plane.set(xlabel="rate R (nats)", ylabel="distortion D (nats)")
    right = 1.12 * max(points[:, [0, 2]].max(), math.log(ends["train"]["images"]))
    low, high = ends["train"]["floor"], max(points[:, [1, 3]].max(), ends["train"]["without_z"])
    plane.set(xlim=(-0.02 * right, right), ylim=(low - 0.12 * (high - low), high + 0.08 * (high - low)))
    _impossible(plane, ends["train"])
    _strokes(plane, points[:, :2], [model["beta"] for model in models])
    _equal_elbo(plane, models)
    plane.legend(loc="upper right")
    _parts(below, models, math.log(ends["train"]["images"]))
    figures._settle(fig)
    _name_points(plane, points, models, ends["train"])
    return figures._settle(fig)


def _impossible(ax: Axes, end: Mapping) -> None:
    """Grey where no model of the training images can lie: under the floor of D, and under R + D = H."""
    R = np.linspace(0, ax.get_xlim()[1], 1000)
    least = np.maximum(end["floor"], (end["entropy"] or 0) - R)
    ax.fill_between(R, ax.get_ylim()[0], least, color="#e4e4e4", lw=0, zorder=0)
    if end["entropy"]:
        ax.plot(
            math.log(end["images"]), end["floor"], "*", ms=11, color=figures.LINES[0], label="N images learnt by heart"
        )
    ax.plot([], [], "s", ms=8, mfc="none", color=figures.INK, label="R = 0: the mean image")


def _strokes(ax: Axes, points: np.ndarray, betas: Sequence[float]) -> None:
    """A short line of slope -beta through each of the points (K, 2), all of one length on the paper."""
    across, up = np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())
    for (rate, distortion), beta in zip(points, betas, strict=True):
        step = 0.06 / math.hypot(1 / across, beta / up)
        ends = np.array([-step, step])
        ax.plot(rate + ends, distortion - beta * ends, color=figures.GREY, lw=1.1, zorder=1)


def _equal_elbo(ax: Axes, models: Sequence[Mapping]) -> None:
    """The line of slope -1 through the test point of beta = 1, or where there is none of the best elbo."""
    best = min(models, key=lambda model: (model["beta"] != 1, -model["test"]["elbo"]))
    total = -best["test"]["elbo"]
    label = f"R + D = {total:.1f}: -elbo of beta = {best['beta']:g}, test"
    ax.axline((0, total), slope=-1, color=figures.INK, lw=0.9, ls=":", zorder=1, label=label)


def _parts(ax: Axes, models: Sequence[Mapping], most: float) -> None:
    """The rate of each model as a bar of I(x; z) and KL(q(z) || p(z)), with the number of active units above it."""
    places = np.arange(len(models))
    information, error = np.array([(m["information"]["value"], m["information"]["error"]) for m in models]).T
    rest = np.array([model["aggregate_kl"]["value"] for model in models])
    ax.bar(places, information, yerr=2 * error, width=0.7, color=figures.LINES[0], label="I(x; z)")
    ax.bar(places, rest, bottom=information, width=0.7, color=figures.PALE, label="KL(q(z) || p(z))")
    ax.axhline(most, color=figures.INK, lw=0.9, ls="--", label=f"ln N = {most:.1f}")
    for place, model, top in zip(places, models, information + rest, strict=True):
        ax.text(place, top, f"{model['active_units']}", ha="center", va="bottom", size=8)
    ax.set_xticks(places, [f"{model['beta']:g}" for model in models])
    ax.set(xlabel="beta; above the bars the active units", ylabel="R (nats)", xlim=(-0.6, max(len(models), 4) - 0.4))
    ax.set_ylim(0, 1.18 * max((information + rest).max(), most))
    ax.legend(loc="upper right")


def _name_points(ax: Axes, points: np.ndarray, models: Sequence[Mapping], end: Mapping) -> None:
    """The two ends, then each beta beside its train point where it covers no other name."""
    halo = [withStroke(linewidth=3, foreground="white")]
    look = {"textcoords": "offset points", "size": 9, "path_effects": halo}
    names = [
        ((0, end["without_z"]), (10, 7), "collapse"),
        ((ax.get_xlim()[1], end["floor"]), (-4, -14), "entropy of the pixels; memorisation ends here"),
        *((points[k, :2], (7, 5), f"beta {model['beta']:g}") for k, model in enumerate(models)),
    ]
    placed = []
    for at, offset, name in names:
        text = ax.annotate(name, at, offset, ha="right" if offset[0] < 0 else "left", **look)
        box = text.get_window_extent()
        if any(box.overlaps(other) for other in placed):
            text.remove()
        else:
            placed.append(box)


# --- the sweep ----------------------------------------------------------------------------------------------------


def sweep(args: argparse.Namespace) -> int | None:
    """Train and place one model after another; after each, folder/results.json is whole. Returns 130 after Ctrl-C."""
    from paper_run import load_model
    from vae_common.data import load_dataset

    folder, args, results = begin(args)
    splits = [load_dataset(args.dataset, split, args.data_dir) for split in ("train", "test")]
    try:
        for beta in args.sweep[len(results["models"]) :]:
            config = settings_of(args, beta, first := not results["models"], folder)
            warm = None if first else folder / f"beta-{results['models'][-1]['beta']:g}" / "weights.safetensors"
            model = train_one(
                config, splits, None if warm is None else lambda model, warm=warm: load_model(model, "vae", warm)
            )
            entry, results["ends"] = place(model, splits, config, args.samples)
            results["models"].append(entry)
            cli.write_json(folder / "results.json", results)
    except KeyboardInterrupt:
        print(f"\ninterrupted; go on with --resume {folder}", file=sys.stderr)
        return 130
    report(results["models"], results["ends"], args, folder)
    return None
