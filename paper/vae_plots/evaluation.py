"""Pictures of what was measured of a run: bounds, factors, samples."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from vae_common.arrays import checked_array
from vae_common.data import DRAWN
from vae_common.plots import charts, style
from vae_measures.sample_quality import Copies

COLUMNS = 12  # pairs in a row of the picture of copies


@style.styled
def importance_bounds(
    K: Sequence[int], bounds: np.ndarray, error: np.ndarray, elbo: float, title: str, caption: str | None = None
) -> Figure:
    """L_K against the number of samples K, in nats per image, and what it gains on L_1 with two standard errors.

    bounds (T,): L_K of each of the T values of K, rising; error (T,): the standard error of L_K - L_1.
    """
    K, bounds = checked_array("K", K, None), checked_array("bounds", bounds, len(K))
    error = checked_array("error", error, len(K))
    fig = style.new_figure(title, caption, height=3.9)
    ax = fig.subplots()
    ax.axhline(elbo, color=style.GREY, lw=1, ls="--", label=f"elbo, closed-form KL: {elbo:.2f}")
    ax.fill_between(K, bounds, bounds.max(), color="#e8f1f8", lw=0, label="what L_K loses, at least")
    ax.errorbar(K, bounds, 2 * error, marker="o", ms=5, capsize=3, color=style.LINES[0], label="L_K")
    for k, bound in zip(K, bounds, strict=True):
        text = f"{bound:.2f}" if k == K[0] else f"{bound:.2f} ({bound - bounds[0]:+.2f})"
        ax.annotate(text, (k, bound), (7, -13), textcoords="offset points")
    span = max(bounds.max() - min(elbo, bounds.min()), 0.1)
    ax.set_xscale("log")
    ax.set_xticks(K, [f"{k:,}" for k in K])
    ax.minorticks_off()
    ax.set(xlabel="K, samples of z inside the logarithm", ylabel="nats per image")
    ax.set(ylim=(bounds.min() - 0.25 * span, bounds.max() + 0.12 * span), xlim=(0.7 * min(K), 4 * max(K)))
    ax.grid(axis="y")
    ax.legend(loc="lower right", frameon=True, edgecolor="none", framealpha=0.9)
    return style.settle(fig)


@style.styled
def classes_of_samples(
    shares: Mapping[str, np.ndarray], class_names: Sequence[str], title: str, caption: str | None = None
) -> Figure:
    """The share of each class (C,) among several sets of images, as bars side by side, under the sets' names."""
    fig = style.new_figure(title, caption, height=3.4)
    ax, places = fig.subplots(), np.arange(len(class_names))
    width = 0.8 / len(shares)
    for number, (name, share) in enumerate(shares.items()):
        share = checked_array(name, share, len(class_names))
        colour = (style.PALE, *style.LINES)[number]
        ax.bar(places + (number - (len(shares) - 1) / 2) * width, share, width, color=colour, label=name)
    ax.axhline(1 / len(class_names), color=style.INK, lw=0.9, ls="--", label="all alike")
    named = slice(None, None, -(-len(class_names) // (2 * style.MOST_CLASSES)))
    size = 9 if max(map(len, class_names)) <= 4 else 7
    ax.set_xticks(places[named], class_names[named], size=size, rotation=90 * (sum(map(len, class_names[named])) > 90))
    ax.set(ylabel="share", xlabel="class that the classifier names")
    ax.tick_params(axis="x", length=0)
    ax.grid(axis="y")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=3)
    return style.settle(fig)


def factors_by_dimension(found: Mapping[str, Mapping], dataset: str) -> Figure:
    """The share of each factor's entropy that each dimension explains, for each encoder of `disentanglement.report`."""
    return charts.factor_matrices(
        {name: np.array(one["information"]) for name, one in found.items()}, DRAWN[dataset].FACTOR_NAMES,
        f"What each dimension of mu tells about each factor of {dataset}",
        "The share of a factor's entropy that one dimension explains. Disentangled: one dark cell in a row, alone in "
        "its column. A pale row is a factor that no dimension explains, or that several explain only together.",
    )  # fmt: skip


def nearest_images(samples: np.ndarray, train: np.ndarray, copies: Copies, title: str, caption: str) -> Figure:
    """The samples that are closest to a training image, and the first ones, each above that image; uint8 images."""
    closest = np.argsort(copies.distance, kind="stable")[:COLUMNS]
    first = np.arange(min(COLUMNS, len(samples)))
    rows = [images for index in (closest, first) for images in (samples[index], train[copies.index[index]])]
    labels = ["closest samples", "training images", "first samples", "training images"]
    return charts.image_grid(np.concatenate(rows), len(first), title, row_labels=labels, caption=caption)
