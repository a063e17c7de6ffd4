"""Pictures of several runs of the same data, a row for each: where their nats go, and what they draw."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from vae_common.plots import style
from vae_common.run_folder import short_names

SHOWN = 8  # samples of each run
FORMS = {  # the figures of samples that are compared
    "recognised": "{:.1%}", "Frechet": "{:.1f}", "class KL": "{:.3f}", "nearest": "{:.2f}"
}  # fmt: skip


@style.styled
def gaps_of_runs(found: Mapping[str, Mapping], log_p: str, on: str) -> Figure:
    """-elbo of each run as a bar of three parts: -log p(x), the family gap, the amortization gap (`gaps.report`)."""
    fig = style.new_figure(
        f"Where the nats go: {on}", "Each bar ends at -elbo; the axis does not begin at 0. Amortization gap: what the "
        "encoder loses on the best Gaussian of each image alone. Family gap: what that Gaussian loses, at the least.",
        height=1.9 + 0.36 * len(found),
    )  # fmt: skip
    ax, names = fig.subplots(), [*short_names([*found]).values()]
    edges = np.array([[-one["log_p"], -one["best_gaussian"], -one["elbo"]] for one in found.values()])
    span = max(np.ptp(edges), 0.1)
    left = np.full(len(found), edges.min() - 0.25 * span)
    for right, label, colour in zip(
        edges.T, (f"-{log_p}, at most", "family gap", "amortization gap"), (style.PALE, *style.LINES), strict=False
    ):
        ax.barh(names, right - left, left=left, height=0.6, color=colour, label=label)
        left = right
    for k, (log_p_of, gaussian, elbo) in enumerate(edges):
        text = f"{log_p_of:.2f} + {gaussian - log_p_of:.2f} + {elbo - gaussian:.2f} = {elbo:.2f}"
        ax.annotate(text, (elbo, k), (5, 0), textcoords="offset points", va="center")
    ax.set(xlabel="nats per image", xlim=(edges.min() - 0.25 * span, edges.max() + 0.75 * span))
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return style.settle(fig)


@style.styled
def samples_of_runs(rows: Mapping[str, Mapping[str, float]], strips: np.ndarray, on: str) -> Figure:
    """Some images of each row, strips (R, M, 1, 28, 28) uint8, beside its figures: those of FORMS. The first row is of
    real images."""
    R, M = strips.shape[:2]
    fig = style.new_figure(
        f"Who draws best: {on}", "Recognised: by a classifier, p >= 0.9. Frechet: how far its features are from "
        "those of test images. Class KL: of the classes drawn, to those of test images. Nearest: median distance to a "
        "training image.", height=1.7 + 0.37 * R,
    )  # fmt: skip
    ax, *axes = fig.subplots(1, 1 + len(FORMS), sharey=True, width_ratios=(3, *[0.8] * len(FORMS)))
    tiles = np.pad(strips.reshape(R, M, 28, 28), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=255)
    ax.imshow(tiles.swapaxes(1, 2).reshape(R * 30, -1), cmap="gray", extent=(0, M, R - 0.5, -0.5), aspect="auto")
    real, *runs = rows
    ax.set_yticks(range(R), [real, *short_names(runs).values()])
    for panel, (name, form) in zip(axes, FORMS.items(), strict=True):
        values = [row[name] for row in rows.values()]
        bars = panel.barh(range(R), values, 0.6, color=[style.PALE] + [style.LINES[0]] * (R - 1))
        panel.bar_label(bars, [form.format(value) for value in values], padding=2, size=8)
        panel.set_title(name, size=9)
        panel.set_xlim(0, 1.8 * max(*values, 1e-9))
    for one in fig.axes:
        one.set_xticks([])
        one.spines[["left", "bottom"]].set_visible(False)
        one.tick_params(length=0)
    return style.settle(fig)
