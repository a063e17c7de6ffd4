"""The picture of rate and distortion: arrays and entries of results.json in, a Figure out."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from vae_common.arrays import checked_array
from vae_common.plots import style

CAPTION = (
    "Each point is one beta, and the short line through it has slope -beta. Top left is the auto-decoding limit: the "
    "code says nothing. Towards the auto-encoding limit, bottom right, the model copies: where train still falls and "
    "test does not, it memorises. Below: the parts of R."
)
RUNS_CAPTION = (
    "Each point is one run; lines of slope -1 hold runs of equal elbo. At the auto-decoding limit the code says "
    "nothing, at the auto-encoding limit it says all. The square is for decoders that see nothing but z: one that also "
    "sees pixels needs no code to lie below it. Below: the parts of R."
)
BOUNDS = (
    " No model of the training images lies in the grey area. At each height come, in this order, its edge (H - D), a "
    "tick (I(x; z)) and the point (R)."
)


@style.styled
def rate_distortion_plane(
    models: Sequence[Mapping], ends: Mapping[str, Mapping], title: str, caption: str | None = None
) -> Figure:
    """Models in the plane of Alemi et al. 2018 above the parts of their rates; as in results.json.

    models: entries in rising order of beta (None: trained for something other than D + beta R), with the keys train,
    test, active_units, information and aggregate_kl, or of separate runs, with a name besides;
    ends: `rate_distortion.end_points` of both splits.
    """
    points = [[model[split][key] for split in ("train", "test") for key in ("rate", "distortion")] for model in models]
    points = checked_array("models", points, None, 4)
    separate = "name" in models[0]
    fig = style.new_figure(title, caption, height=8.2)
    plane, below = fig.subplots(2, 1, height_ratios=[2.6, 1])
    for column, split, colour, ls in ((0, "train", style.LINES[0], "--"), (2, "test", style.LINES[1], "-")):
        line = {"ls": "none" if separate else ls, "marker": "o", "ms": 4.5, "color": colour}
        plane.plot(*points[:, column : column + 2].T, **line, label=split)
        plane.plot(0, ends[split]["without_z"], marker="s", ms=8, mfc="none", color=colour, clip_on=False)
    information = np.array([model["information"]["value"] for model in models])
    plane.plot(information, points[:, 1], "|", ms=9, mew=1.6, color=style.LINES[0], label="I(x; z), train")
    plane.hlines(points[:, 1], information, points[:, 0], color=style.PALE, lw=1, zorder=1)
    plane.set(xlabel="rate R (nats)", ylabel="distortion D (nats)")
    right = 1.12 * max(points[:, [0, 2]].max(), math.log(ends["train"]["images"]))
    low, high = ends["train"]["floor"], max(points[:, [1, 3]].max(), ends["train"]["without_z"])
    plane.set(xlim=(-0.02 * right, right), ylim=(low - 0.12 * (high - low), high + 0.12 * (high - low)))
    _impossible(plane, ends["train"])
    if not separate:
        _strokes(plane, points[:, :2], [model["beta"] for model in models])
    _equal_elbo(plane, models)
    plane.legend(loc="upper right", frameon=True, edgecolor="none", framealpha=0.85)
    _parts(below, models, math.log(ends["train"]["images"]))
    style.settle(fig)
    _name_points(plane, points, models, ends["train"])
    return style.settle(fig)


def _impossible(ax: Axes, end: Mapping) -> None:
    """Grey where no model of the training images can lie: under the floor of D, and under R + D = H."""
    R = np.linspace(0, ax.get_xlim()[1], 1000)
    least = np.maximum(end["floor"], (end["entropy"] or 0) - R)
    ax.fill_between(R, ax.get_ylim()[0], least, color="#e4e4e4", lw=0, zorder=0)
    if end["entropy"]:
        star = {"ls": "", "marker": "*", "ms": 11, "color": style.LINES[0]}
        ax.plot(math.log(end["images"]), end["floor"], label="N images memorised: R = ln N", **star)
    ax.plot([], [], "s", ms=8, mfc="none", color=style.INK, label="R = 0: the mean image")


def _strokes(ax: Axes, points: np.ndarray, betas: Sequence[float | None]) -> None:
    """A short line of slope -beta through each of the points (K, 2), all of the same length in the picture."""
    across, up = np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())
    for (rate, distortion), beta in zip(points, betas, strict=True):
        if beta is None:
            continue
        step = 0.06 / math.hypot(1 / across, beta / up)
        ends = np.array([-step, step])
        ax.plot(rate + ends, distortion - beta * ends, color=style.GREY, lw=1.1, zorder=1)


def _equal_elbo(ax: Axes, models: Sequence[Mapping]) -> None:
    """The line of slope -1 through the test point of beta = 1, or where there is none of the best elbo."""
    best = min(models, key=lambda model: (model["beta"] != 1, -model["test"]["elbo"]))
    total = -best["test"]["elbo"]
    label = f"R + D = {total:.1f}: -elbo of {_name(best)}, test"
    ax.axline((0, total), slope=-1, color=style.INK, lw=0.9, ls=":", zorder=1, label=label)


def _parts(ax: Axes, models: Sequence[Mapping], most: float) -> None:
    """The rate of each model as a bar of I(x; z) and KL(q(z) || p(z)), with the number of active units above it."""
    places = np.arange(len(models))
    information, error = np.array([(m["information"]["value"], m["information"]["error"]) for m in models]).T
    rest = np.array([model["aggregate_kl"]["value"] for model in models])
    ax.bar(places, information, yerr=2 * error, width=0.7, color=style.LINES[0], label="I(x; z)")
    ax.bar(places, rest, bottom=information, width=0.7, color=style.PALE, label="KL(q(z) || p(z))")
    ax.axhline(most, color=style.INK, lw=0.9, ls="--", label=f"ln N = {most:.1f}")
    for place, model, top in zip(places, models, information + rest, strict=True):
        ax.text(place, top, f"{model['active_units']}", ha="center", va="bottom", size=8)
    ax.set_xticks(places, [_name(model).removeprefix("beta ") for model in models])
    of_betas = "" if "name" in models[0] else "beta; "
    ax.set(
        xlabel=f"{of_betas}above the bars the active units", ylabel="R (nats)", xlim=(-0.6, max(len(models), 4) - 0.4)
    )
    ax.set_ylim(0, 1.18 * max((information + rest).max(), most))
    ax.legend(loc="upper right")


def _name(model: Mapping) -> str:
    if "name" in model:
        return model["name"]
    return "this run" if model["beta"] is None else f"beta {model['beta']:g}"


def _name_points(ax: Axes, points: np.ndarray, models: Sequence[Mapping], end: Mapping) -> None:
    """The two ends, then each beta beside its train point where it covers no other name."""
    halo = [withStroke(linewidth=3, foreground="white")]
    look = {"textcoords": "offset points", "size": 9, "path_effects": halo}
    names = [
        ((0, end["without_z"]), [(8, 16)], "auto-decoding limit: R = 0, collapse"),
        ((ax.get_xlim()[1], end["floor"]), [(-4, -14)], "auto-encoding limit: D at its floor"),
        *((points[k, :2], [(7, 5), (7, -13)], _name(model)) for k, model in enumerate(models)),
    ]
    placed = []
    for at, offsets, name in names:
        for offset in offsets:
            text = ax.annotate(name, at, offset, ha="right" if offset[0] < 0 else "left", **look)
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in placed):
                placed.append(box)
                break
            text.remove()
