"""The scores of many models, a row for each objective."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from vae_common.plots import style


@style.styled
def scores_of_objectives(found: Mapping, scores: Sequence[str]) -> Figure:
    """A panel for each score: a bar, and a point for each seed, in a row for each objective of a study's table, and
    beneath them what needs no training."""
    rows, objectives = list(found["scores"]["MIG"]), len(found["terms"]["elbo"])
    fig = style.new_figure(
        f"Scores of disentanglement on {found['dataset']}, Z = {found['latent_dim']}, {found['epochs']} epochs",
        "A point for each seed; bars from the lower to the upper quartile, with the median. The last four rows are "
        "codes without a trained network: nobody can tell the rotated factors from the factors without knowing them.",
        height=2.2 + 2 * 0.17 * len(rows),
    )  # fmt: skip
    panels = fig.subplots(2, 3, sharey=True).ravel()
    colours = [style.LINES[0]] * objectives + [style.GREY] * (len(rows) - objectives)
    for ax, score in zip(panels, scores, strict=True):
        for row, (values, colour) in enumerate(zip(found["scores"][score].values(), colours, strict=True)):
            lower, median, upper = np.quantile(values, (0.25, 0.5, 0.75))
            ax.barh(row, upper - lower, left=lower, height=0.6, color=colour, alpha=0.25)
            ax.vlines(median, row - 0.3, row + 0.3, color=colour)
            ax.plot(values, np.full(len(values), row), "o", color=colour, markersize=2.5, alpha=0.7)
        ax.axhline(objectives - 0.5, color=style.PALE, linewidth=0.8)
        ax.set_title(score, size=9)
        ax.set_xlim(-0.03, 1.03)
        ax.set_yticks(range(len(rows)), rows)
    panels[0].invert_yaxis()
    return style.settle(fig)
