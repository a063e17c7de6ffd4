"""Pictures of a VAE: NumPy arrays in, a matplotlib `Figure` out, without a screen or any global state.

`N` images, `T` steps along a path, `Z` latent dimensions. Images are (N, 1, 28, 28) or (N, 28, 28): floats in
[0, 1], or uint8 in 0..255. All figures take a title and an optional `caption`, a sentence of what to see, and
raise ValueError in one sentence for a wrong shape, a value out of range or a NaN.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Ellipse
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from vae_common.arrays import checked_array
from vae_common.latent_paths import manifold_grid
from vae_common.plots.style import (
    GAP,
    GREY,
    INK,
    LINES,
    MOST_CLASSES,
    PALE,
    PALETTE,
    SIDE,
    checked_images,
    fit_mosaic,
    label_tiles,
    mosaic_figure,
    new_figure,
    settle,
    styled,
    tile_centres,
)

TERMS = {  # the terms of metrics.jsonl, as the panels of the loss curves name them
    "recon": "reconstruction (recon)",
    "kl": "KL divergence (kl)",
    "elbo": "their sum (-elbo)",
    "mse": "squared error per pixel (mse)",
}
SPLITS = {  # of metrics.jsonl, and their lines
    "train": {"color": LINES[0], "ls": "--"},
    "validation": {"color": LINES[2], "ls": "-"},
    "test": {"color": LINES[1], "ls": "-"},
}

# --- figures ------------------------------------------------------------------------------------------------------


@styled
def image_grid(
    images: np.ndarray,
    columns: int,
    title: str,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    caption: str | None = None,
) -> Figure:
    """The images (N, 1, 28, 28) in reading order, `columns` to a row; one label for each row, each column."""
    images = checked_images("images", images)
    if columns < 1:
        raise ValueError(f"columns: expected at least 1, found {columns}")
    fig, (ax,) = mosaic_figure(images, columns, title, caption)
    label_tiles(ax, -(-len(images) // columns), columns, row_labels, column_labels)
    return fit_mosaic(fig)


@styled
def reconstructions(
    x: np.ndarray,
    x_hat: np.ndarray,
    recon: np.ndarray,
    title: str,
    caption: str | None = None,
    number: str = "recon (nats)",
    groups: Sequence[str] = (),
) -> Figure:
    """Originals x above reconstructions x_hat (both (N, 1, 28, 28)), with recon (N,), or another number, beneath.

    groups: what each row of pairs is called; there are ten pairs to a row at the most.
    """
    x, x_hat = checked_images("x", x), checked_images("x_hat", x_hat)
    if len(x_hat) != len(x):
        raise ValueError(f"x_hat: expected {len(x)} images, one for each x, found {len(x_hat)}")
    recon = checked_array("recon", recon, len(x))
    rows = -(-len(x) // 10)
    columns, band = -(-len(x) // rows), 12
    line, paper = np.ones((len(x), 1, SIDE)), np.ones((len(x), band, SIDE))
    pairs = np.concatenate([x, line, x_hat, paper], axis=1)  # (N, 69, 28)
    fig, (ax,) = mosaic_figure(pairs, columns, title, caption)
    height = pairs.shape[1] + GAP
    inside = np.array([SIDE / 2, 1.5 * SIDE + 1, 2 * SIDE + 1 + band / 2]) - 0.5
    ticks = np.concatenate([row * height + inside for row in range(rows)])
    originals = [f"{group}: original" for group in groups] or ["original"] * rows
    if len(originals) != rows:
        raise ValueError(f"groups: expected {rows} names, one for each row, found {len(groups)}")
    ax.set_yticks(ticks, [label for name in originals for label in (name, "reconstruction", number)])
    for i, nats in enumerate(recon):
        row, column = divmod(i, columns)
        place = column * (SIDE + GAP) + SIDE / 2 - 0.5, row * height + inside[2]
        ax.text(*place, f"{nats:.1f}", ha="center", va="center", fontsize=8)
    return fit_mosaic(fig)


@styled
def latent_scatter(
    mu: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    title: str,
    axis_labels: Sequence[str] | None = None,
    prior_circles: bool = True,
    caption: str | None = None,
    ellipses: tuple[np.ndarray, np.ndarray] | None = None,
) -> Figure:
    """Points mu (N, 2) coloured by integer labels (N,), each class named in the legend and at its median.

    The dashed circles have radius 1 and 2, one and two sigma of the prior N(0, I): 39% and 86% lie inside.
    ellipses: the centres and standard deviations, (K, 2) each, of posteriors drawn as their one-sigma ellipses.
    """
    mu = checked_array("mu", mu, None, 2)
    fig = new_figure(title, caption, height=9)
    ax = fig.subplots()
    handles = _dots(ax, mu, labels, class_names)
    if prior_circles:
        handles.append(_prior_circles(ax))
    if ellipses is not None:
        handles.append(_ellipses(ax, *ellipses))
    _name_axes(ax, axis_labels)
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5))
    _fit_square(ax, np.concatenate([mu, [[-2.1, -2.1], [2.1, 2.1]]] if prior_circles else [mu]))
    _name_classes(ax, mu, np.asarray(labels), class_names)
    return fig


@styled
def projections(
    panels: Mapping[str, np.ndarray],
    labels: np.ndarray,
    class_names: Sequence[str],
    title: str,
    caption: str | None = None,
) -> Figure:
    """Views of the same N points side by side: the name of each and its coordinates (N, 2), coloured by label (N,)."""
    if len(panels) == 0:
        raise ValueError("panels: expected at least one view of the points, found none")
    fig = new_figure(title, caption, height=4.3)
    axes = fig.subplots(1, len(panels), squeeze=False)[0]
    for ax, (name, points) in zip(axes, panels.items(), strict=True):
        points = checked_array(name, points, None, 2)
        handles = _dots(ax, points, labels, class_names)
        ax.set(title=name, xticks=[], yticks=[], box_aspect=1)
        settle(fig)
        _name_classes(ax, points, np.asarray(labels), class_names)
    fig.legend(handles=handles, loc="outside right center")
    return settle(fig)


@styled
def against_prior(
    z: np.ndarray, names: Sequence[str], title: str, caption: str | None = None, learned: np.ndarray | None = None
) -> Figure:
    """The density of each column of the sampled z (N, K) against N(0, 1); with K = 2 the plane is shown too.

    names: what each of the K columns is called; learned: draws (M, K) of a prior that takes the place of N(0, I).
    """
    z = checked_array("z", z, None, len(names))
    count, reach = len(names), max(3.5, np.quantile(np.abs(z), 0.999))  # a few stragglers need not be seen
    plane = int(count == 2)
    columns = min(4, count + plane)
    rows = -(-(count + plane) // columns)
    fig = new_figure(title, caption, height=0.9 + (3.0 if plane else 1.9 * rows))
    widths = [2, 1, 1] if plane else None
    axes = list(fig.subplots(rows, columns, squeeze=False, width_ratios=widths).flat)
    if plane:
        _density_plane(axes[0], z, names, reach, learned)
    grid = np.linspace(-reach, reach, 201)
    histograms = [np.histogram(column, 60, (-reach, reach), density=True) for column in z.T]
    highest = 1.05 * max(0.4, *(heights.max() for heights, _ in histograms))
    for ax, name, histogram in zip(axes[plane:], names, histograms, strict=False):
        ax.stairs(*histogram, fill=True, color=PALE, label="sampled z")
        if learned is None:
            ax.plot(grid, np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi), color=LINES[1], lw=1.3, label="prior N(0, 1)")
        ax.set(title=name, ylim=(0, highest), xlim=(-reach, reach), yticks=[])
        ax.spines["left"].set_visible(False)
    for ax, column in zip(axes[plane:], [] if learned is None else learned.T, strict=False):
        heights, edges = np.histogram(column, 60, (-reach, reach), density=True)
        ax.stairs(heights, edges, color=LINES[1], lw=1.3, label="learned prior")
    fig.legend(*axes[plane].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    for ax in axes[plane + count :]:
        ax.remove()
    return settle(fig)


@styled
def planes(
    z: Mapping[str, np.ndarray],
    prior: Mapping[str, np.ndarray],
    images: Mapping[str, np.ndarray],
    axis: np.ndarray,
    title: str,
    caption: str | None = None,
) -> Figure:
    """Several latent planes side by side: the density of the sampled z (N, 2), and contours of the prior's density
    (T, T), a row for each z[1] of the even `axis` (T,); beneath each what its prior draws, images (24, 1, 28, 28)."""
    fig = new_figure(title, caption, height=2.2 + 6 / len(z))
    axes = fig.subplots(2, len(z), squeeze=False, height_ratios=[3, 2])
    for (name, codes), ax, tiles in zip(z.items(), axes[0], axes[1], strict=True):
        ax.hist2d(*codes.T, bins=50, range=[axis[[0, -1]]] * 2, cmap="Greys", norm=PowerNorm(0.5))
        _contours_of_mass(ax, axis, axis, prior[name])
        ticks = np.linspace(axis[0], axis[-1], 3)
        ax.set(title=name, xlabel="z[0]", ylabel="z[1]", xticks=ticks, yticks=ticks, box_aspect=1)
        drawn = checked_images(name, images[name], 24).reshape(4, 6, SIDE, SIDE).swapaxes(1, 2)
        tiles.imshow(drawn.reshape(4 * SIDE, 6 * SIDE), cmap="gray", vmin=0, vmax=1)
        tiles.set_axis_off()
    return settle(fig)


@styled
def manifold(
    images: np.ndarray,
    side: int,
    title: str,
    axis_labels: Sequence[str] | None = None,
    caption: str | None = None,
    grid: np.ndarray | None = None,
) -> Figure:
    """The decoded points of `grid` (side*side, 2), by default `manifold_grid(side)`: images (side*side, 1, 28, 28),
    without gaps on axes z1 and z2."""
    images = checked_images("images", images, side * side)
    grid = manifold_grid(side) if grid is None else checked_array("grid", grid, side * side, 2)
    fig, (ax,) = mosaic_figure(images, side, title, caption, gap=0, widest=6.4)
    shown = slice(None, None, -(-side // 20))
    centres, digits = tile_centres(side, SIDE, 0)[shown], 2 if side <= 12 else 1
    grid = grid.round(digits) + 0.0  # no -0.0
    ax.set_xticks(centres, [f"{v:.{digits}f}" for v in grid[:side, 0][shown]])
    ax.set_yticks(centres, [f"{v:.{digits}f}" for v in grid[::side, 1][shown]])
    ax.tick_params(length=3, labelsize=9 if side <= 12 else 7)
    _name_axes(ax, axis_labels)
    return fit_mosaic(fig)


@styled
def traversals(
    images: np.ndarray,
    row_labels: Sequence[str],
    column_values: np.ndarray,
    title: str,
    caption: str | None = None,
    quantiles: bool = False,
) -> Figure:
    """One row for each latent dimension moved, one column for each value (T,); images (rows*T, 1, 28, 28).

    quantiles: whether the values are not coordinates, but the quantiles, from 0 to 1, where each row finds its own.
    """
    values = checked_array("column_values", column_values, None)
    images = checked_images("images", images, len(row_labels) * len(values))
    fig, (ax,) = mosaic_figure(images, len(values), title, caption)
    labels = [f"{v:.0%}" if quantiles else f"{v:.1f}" for v in values.round(2 if quantiles else 1) + 0.0]
    label_tiles(ax, len(row_labels), len(values), row_labels, labels)
    ax.set_xlabel(f"{'quantile' if quantiles else 'value'} of the one latent coordinate that moves")
    ax.xaxis.set_label_position("top")
    return fit_mosaic(fig)


@styled
def interpolation_strips(
    strips: Sequence[np.ndarray],
    labels: Sequence[str],
    title: str,
    norms: Sequence[np.ndarray] | None = None,
    caption: str | None = None,
) -> Figure:
    """Paths between two latent points, one strip of images (T, 1, 28, 28) each, with its label on the left.

    norms: for each strip the (T,) values of ||z||, drawn as lines beneath, each point under its image.
    """
    if len(strips) == 0:
        raise ValueError("strips: expected at least one strip of images, found none")
    steps = len(checked_images("strips[0]", strips[0]))
    images = np.concatenate([checked_images(f"strips[{i}]", strip, steps) for i, strip in enumerate(strips)])
    fig, (ax, *below) = mosaic_figure(images, steps, title, caption, panels=int(norms is not None))
    label_tiles(ax, len(strips), steps, labels, None)
    if norms is None:
        return fit_mosaic(fig)
    norms = checked_array("norms", norms, len(strips), steps)
    panel, centres = below[0], tile_centres(steps, SIDE, GAP)
    for i, (norm, label) in enumerate(zip(norms, labels, strict=True)):
        look = {"ls": ("-", "--", ":", "-.")[i % 4], "marker": "o", "ms": 3.5, "color": LINES[i % len(LINES)]}
        panel.plot(centres, norm, label=label, **look)
    shown = slice(None, None, -(-steps // 13))
    panel.set_xticks(centres[shown], [f"{t:.3g}" for t in np.linspace(0, 1, steps).round(2)[shown]])
    panel.set(xlim=ax.get_xlim(), ylim=(0, 1.6 * norms.max()), ylabel="norm of z", xlabel="t")
    panel.legend(loc="upper center", ncols=2)
    return fit_mosaic(fig, panel=1.6)


@styled
def loss_curves(
    rows: Sequence[Mapping],
    title: str,
    entropy_floor: float | None = None,
    caption: str | None = None,
    terms: Sequence[str] = ("recon", "kl", "elbo"),
) -> Figure:
    """The terms by epoch, of each split, one panel each, -elbo for elbo; rows as in metrics.jsonl.

    Each row has the keys epoch, split (one of SPLITS) and the terms. entropy_floor, in nats per image, is
    what recon cannot go below when grey pixels are Bernoulli targets: their own entropy.
    """
    table = _table(rows, terms)
    fig = new_figure(title, caption, height=3.4)
    for ax, name in zip(fig.subplots(1, len(terms), squeeze=False)[0], terms, strict=True):
        for split, columns in table.items():
            epochs, values = columns["epoch"], columns[name] * (-1 if name == "elbo" else 1)
            size = 3 if len(epochs) <= 30 else 0
            ax.plot(epochs, values, **SPLITS[split], label=split, marker="o", ms=size)
        if entropy_floor is not None and name in ("recon", "elbo"):
            ax.axhline(entropy_floor, color=GREY, lw=1, ls=":", label="entropy of the data")
        ax.set(title=TERMS.get(name, name), xlabel="epoch")
        _whole_epochs(ax)
    fig.axes[0].set_ylabel("mean over pixels" if terms[0] == "mse" else "nats per image")
    legend = {"frameon": True, "edgecolor": "none", "framealpha": 0.85}
    fig.axes[-1].legend(*fig.axes[0].get_legend_handles_labels(), loc="best", **legend)
    return settle(fig)


@styled
def rate_and_distortion(rows: Sequence[Mapping], title: str, caption: str | None = None) -> Figure:
    """The path of training in the plane of rate (kl) and distortion (recon), with the held-out points' epochs.

    rows as for `loss_curves`. Along a dotted line rate + distortion, -elbo, is constant.
    """
    table = _table(rows, ("recon", "kl"))
    fig = new_figure(title, caption, height=5)
    ax = fig.subplots()
    for split, columns in table.items():
        ax.plot(columns["kl"], columns["recon"], **SPLITS[split], marker="o", ms=4, label=split)
    ax.margins(0.12)
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    for total in MaxNLocator(8).tick_values(left + low, right + high):
        ax.axline((left, total - left), slope=-1, color=GREY, lw=0.8, ls=":", zorder=0)
    ax.plot([], [], color=GREY, lw=0.8, ls=":", label="equal -elbo")
    ax.set(xlim=(left, right), ylim=(low, high), xlabel="rate: kl (nats)", ylabel="distortion: recon (nats)")
    ax.legend(loc="best")
    settle(fig)
    _name_epochs(ax, table[_held_out(table)])
    return fig


@styled
def schedule(
    epochs: np.ndarray, values: np.ndarray, name: str, rows: Sequence[Mapping], title: str, caption: str | None = None
) -> Figure:
    """The schedule (values (T,) of `name` at `epochs` (T,)) above the KL that resulted (held-out rows).

    When `name` is "C", a KL in nats, both are drawn on the same axes.
    """
    epochs = checked_array("epochs", epochs, None)
    values, table = checked_array("values", values, len(epochs)), _table(rows, ("kl",))
    split = _held_out(table)
    fig = new_figure(title, caption, height=3.4 if name == "C" else 4.6)
    axes = fig.subplots(1 if name == "C" else 2, 1, sharex=True, squeeze=False)[:, 0]
    axes[0].plot(epochs, values, color=LINES[0], label=name)
    axes[-1].plot(table[split]["epoch"], table[split]["kl"], color=LINES[1], marker="o", ms=3, label=f"kl, {split}")
    axes[0].set_ylabel(name)
    axes[-1].set(ylabel="nats per image", xlabel="epoch")
    for ax in axes:
        ax.set_ylim(bottom=0)
        _whole_epochs(ax)
        ax.legend(loc="best")
    return settle(fig)


@styled
def kl_per_dimension(
    kl: np.ndarray, title: str, active: np.ndarray | None = None, caption: str | None = None
) -> Figure:
    """KL (Z,) of each latent dimension in nats, largest first; what active (Z,), of bools, denies is grey."""
    kl = checked_array("kl", kl, None)
    used = np.ones(len(kl), bool) if active is None else checked_array("active", active, len(kl)).astype(bool)
    fig = new_figure(title, caption, height=3.6)
    ax = fig.subplots()
    order, places = np.argsort(-kl, kind="stable"), np.arange(len(kl))
    for mask, colour, name in ((used[order], LINES[0], "active"), (~used[order], PALE, "inactive")):
        if mask.any():
            ax.bar(places[mask], kl[order][mask], color=colour, width=0.8, label=f"{name} ({mask.sum()})")
    if active is not None:
        ax.legend()
    ax.set(ylabel="KL (nats)")
    _name_dimensions(ax, order, "KL", used)
    return settle(fig)


@styled
def sigma_per_dimension(sigma: np.ndarray, title: str, caption: str | None = None) -> Figure:
    """Posterior standard deviations sigma (N, Z) over the data, by dimension, smallest mean first.

    The dot is the median, the thick bar holds the middle half, the thin one 5% to 95%; the prior has sigma 1.
    """
    sigma = checked_array("sigma", sigma, None, None)
    order = np.argsort(sigma.mean(axis=0), kind="stable")
    low, lower, median, upper, high = np.quantile(sigma[:, order], [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    fig = new_figure(title, caption, height=3.6)
    ax = fig.subplots()
    places = np.arange(len(order))
    ax.axhline(1, color=GREY, lw=1, ls="--", label="prior")
    ax.vlines(places, low, high, color=LINES[0], lw=1, label="5% to 95% of the images")
    ax.vlines(places, lower, upper, color=LINES[0], lw=4, label="middle half")
    ax.plot(places, median, "o", ms=4, mec="white", mew=0.7, color=INK, label="median")
    ax.set(ylim=(0, max(1.1, 1.05 * high.max())), ylabel="posterior sigma")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)
    _name_dimensions(ax, order, "mean sigma", np.ones(len(order), bool))
    return settle(fig)


@styled
def factor_matrices(
    shares: Mapping[str, np.ndarray], factor_names: Sequence[str], title: str, caption: str | None = None
) -> Figure:
    """Factors against dimensions: matrices (F, Z) with entries in [0, 1], side by side, each under its name.

    Small entries are darkened (their square root is shown). Of more than 20 dimensions those with the largest entry
    are shown.
    """
    fig = new_figure(title, caption, height=1.5 + 0.27 * len(factor_names))
    axes = fig.subplots(1, len(shares), sharey=True, squeeze=False)[0]
    for ax, (name, share) in zip(axes, shares.items(), strict=True):
        share = checked_array(name, share, len(factor_names), None)
        if share.min() < 0 or share.max() > 1 + 1e-9:
            raise ValueError(f"{name}: expected shares in [0, 1], found {share.min():.3g} to {share.max():.3g}")
        dims = np.sort(np.argsort(-share.max(axis=0), kind="stable")[:20])
        image = ax.imshow(share[:, dims], cmap="Blues", norm=PowerNorm(0.5, 0, 1), aspect="auto")
        ax.set_xticks(np.arange(len(dims)), dims, size=9 if len(dims) <= 10 else 6)
        ax.set(title=name, xlabel="dimension of mu")
        ax.tick_params(length=0)
    axes[0].set_yticks(np.arange(len(factor_names)), factor_names)
    fig.colorbar(image, ax=list(axes), label="I / H(factor)", fraction=0.05, pad=0.02)
    return settle(fig)


# --- what they are made of ----------------------------------------------------------------------------------------


def _table(rows: Sequence[Mapping], terms: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Rows of metrics.jsonl -> for each split the epochs, in order, and each term at them."""
    keys = ("epoch", *terms)
    try:
        table = [(row["split"], *(float(row[key]) for key in keys)) for row in rows]
    except KeyError as error:
        wanted = ", ".join(("split", *keys))
        raise ValueError(f"rows: expected the keys {wanted}, found no {error}") from None
    checked_array("rows", [row[1:] for row in table], None, len(keys))
    columns = {}
    for split in (split for split in SPLITS if any(row[0] == split for row in table)):
        ordered = np.array(sorted(row[1:] for row in table if row[0] == split)).reshape(-1, len(keys))
        columns[split] = dict(zip(keys, ordered.T, strict=True))
    return columns


def _held_out(table: Mapping[str, Mapping]) -> str:
    """The split that was measured after each epoch."""
    return "validation" if "validation" in table else "test"


def _fit_square(ax: Axes, points: np.ndarray) -> None:
    """Square axes around the points (N, 2), with equal units, in a figure without spare height."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = 0.52 * (high - low).max()
    limits = np.stack([(low + high) / 2 - half, (low + high) / 2 + half])
    ax.set(xlim=limits[:, 0], ylim=limits[:, 1], aspect="equal", anchor="W")
    fig = settle(ax.figure)
    spare = ax.get_position(original=True).height - ax.get_position().height
    fig.set_figheight(fig.get_figheight() * (1 - spare))
    settle(fig)


def _dots(ax: Axes, points: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> list[Line2D]:
    """Points (N, 2) in the colours of their classes; returns the entries of the legend."""
    labels = checked_array("labels", labels, len(points))
    if not np.isin(labels, np.arange(len(class_names))).all():
        raise ValueError(f"labels: expected whole numbers from 0 to {len(class_names) - 1}, one per name")
    colours = np.array([PALETTE[k % len(PALETTE)] for k in range(len(class_names))])
    order = np.random.default_rng(0).permutation(len(points))  # so that no class hides another
    dots = {"s": 9 if len(points) <= 3000 else 5, "alpha": 0.75, "linewidths": 0}
    ax.scatter(*points[order].T, c=colours[labels[order].astype(int)], **dots)
    names = enumerate(class_names[:MOST_CLASSES])
    handles = [Line2D([], [], marker="o", ls="", color=colours[k], label=name) for k, name in names]
    more = len(class_names) - MOST_CLASSES
    return [*handles, Line2D([], [], ls="", label=f"and {more} more")] if more > 0 else handles


def _prior_circles(ax: Axes) -> Line2D:
    """One and two sigma of N(0, I), dashed; returns the entry of the legend."""
    dashed = {"color": GREY, "lw": 0.9, "ls": (0, (4, 3))}
    for radius in (1, 2):
        ax.add_patch(Circle((0, 0), radius, fill=False, zorder=2, **dashed))
    return Line2D([], [], label="prior: 1, 2 sigma", **dashed)


def _ellipses(ax: Axes, centres: np.ndarray, std: np.ndarray) -> Line2D:
    """One sigma of normal distributions with these centres and standard deviations, (K, 2) each."""
    centres = checked_array("ellipses", centres, None, 2)
    for centre, (across, up) in zip(centres, checked_array("ellipses", std, len(centres), 2), strict=True):
        halo = [withStroke(linewidth=2.6, foreground="white")]
        ax.add_patch(Ellipse(centre, 2 * across, 2 * up, fill=False, color=INK, lw=1.2, zorder=3, path_effects=halo))
    return Line2D([], [], marker="o", ls="", mfc="none", color=INK, label="posterior: 1 sigma")


def _density_plane(ax: Axes, z: np.ndarray, names: Sequence[str], reach: float, learned: np.ndarray | None) -> None:
    """How densely the points z (N, 2) lie, darker where they are denser, under the circles of N(0, I), or contours of
    the draws (M, 2) of a learned prior: they hold half, nine tenths and 99 % of it."""
    ax.hist2d(*z.T, bins=50, range=[(-reach, reach)] * 2, cmap="Greys", norm=PowerNorm(0.5))
    title = "prior: circles of 1, 2 sigma"
    if learned is None:
        _prior_circles(ax)
    else:
        density, *edges = np.histogram2d(*learned.T, bins=50, range=[(-reach, reach)] * 2)
        _contours_of_mass(ax, *((one[1:] + one[:-1]) / 2 for one in edges), density.T)
        title = "learned prior: contours of 50, 90, 99 %"
    ax.set(title=title, xlabel=names[0], ylabel=names[1], box_aspect=1)


def _contours_of_mass(ax: Axes, x: np.ndarray, y: np.ndarray, density: np.ndarray) -> None:
    """Contours that hold half, nine tenths and 99 % of the density (len(y), len(x)) that is on the plane."""
    heights = np.sort(density.ravel())[::-1]
    levels = [heights[np.searchsorted(heights.cumsum(), share * heights.sum())] for share in (0.99, 0.9, 0.5)]
    ax.contour(x, y, density, levels=np.unique(levels), colors=LINES[1], linewidths=0.9)


def _whole_epochs(ax: Axes) -> None:
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    ax.grid(axis="y")


def _name_classes(ax: Axes, mu: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> None:
    """Each class's name at its median, except where it would cover another."""
    placed = []
    for k in np.unique(labels).astype(int):
        halo = [withStroke(linewidth=3, foreground="white")]
        look = {"ha": "center", "va": "center", "size": 11, "weight": "bold", "path_effects": halo}
        text = ax.text(*np.median(mu[labels == k], axis=0), class_names[k], **look)
        box = text.get_window_extent()
        if any(box.overlaps(other) for other in placed):
            text.remove()
        else:
            placed.append(box)


def _name_epochs(ax: Axes, test: Mapping[str, np.ndarray]) -> None:
    """The epoch beside its point, last and first of all, except where it would cover another."""
    placed, numbers = [], range(len(test["epoch"]))
    for i in (*numbers[-1:], *numbers[:-1]):
        halo = [withStroke(linewidth=3, foreground="white")]
        place = {"xytext": (6, 4), "textcoords": "offset points", "size": 9, "path_effects": halo}
        at, epoch = (test["kl"][i], test["recon"][i]), test["epoch"][i]
        text = ax.annotate(f"epoch {epoch:.0f}" if i in (numbers[0], numbers[-1]) else f"{epoch:.0f}", at, **place)
        box = text.get_window_extent()
        if any(box.overlaps(other) for other in placed):
            text.remove()
        else:
            placed.append(box)


def _name_axes(ax: Axes, axis_labels: Sequence[str] | None) -> None:
    horizontal, vertical = axis_labels or ("z1", "z2")
    ax.set(xlabel=horizontal, ylabel=vertical)


def _name_dimensions(ax: Axes, order: np.ndarray, by: str, used: np.ndarray) -> None:
    """The dimensions' own numbers beneath the bars, as many as can be read, in grey where unused."""
    shown = np.arange(0, len(order), 1 if len(order) <= 40 else -(-len(order) // 25))
    ax.set_xticks(shown, order[shown], size=9 if len(order) <= 25 else 7)
    for label, dim in zip(ax.get_xticklabels(), order[shown], strict=True):
        label.set_color(INK if used[dim] else PALE)
    ax.tick_params(axis="x", length=0)
    ax.grid(axis="y")
    middle, half = (len(order) - 1) / 2, max(len(order), 8) / 2 + 0.2
    ax.set(xlabel=f"latent dimension, sorted by {by}", xlim=(middle - half, middle + half))
