"""Pictures of a VQ-VAE: what it rebuilds, which codes it uses where, and what its prior over the codes is good for."""

import math
from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from vae_common.arrays import checked_array
from vae_common.plots import charts, style
from vae_models.code_evaluation import CodeEvaluation

# --- figures: arrays in, a Figure out -----------------------------------------------------------------------------


def code_colours(codebook: np.ndarray) -> np.ndarray:
    """Codes' vectors (K, D) -> colours (K, 3) in [0, 1]: ranks along the first three principal axes, so that codes
    that lie close together look alike, and every brightness is used equally often."""
    centred = codebook - codebook.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:3]
    ranks = (centred @ axes.T).argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
    colours = np.full((len(codebook), 3), 0.5)
    colours[:, : ranks.shape[1]] = ranks / max(len(codebook) - 1, 1)
    return 0.15 + 0.8 * colours


@style.styled
def code_maps(
    x: np.ndarray, codes: np.ndarray, x_hat: np.ndarray, colours: np.ndarray, title: str, caption: str | None = None
) -> Figure:
    """Images x (N, 1, 28, 28), their codes (N, 7, 7) in the colours (K, 3), and reconstructions x_hat, in three rows.

    Raises ValueError when a code has no colour, or the three differ in number.
    """
    x, x_hat = style.checked_images("x", x), style.checked_images("x_hat", x_hat, len(x))
    codes = checked_array("codes", codes, len(x), 7, 7)
    if codes.min() < 0 or codes.max() >= len(colours):
        raise ValueError(f"codes: expected 0 to {len(colours) - 1}, found {codes.min()} to {codes.max()}")
    maps = colours[codes].repeat(4, axis=1).repeat(4, axis=2)  # (N, 28, 28, 3)
    rows = np.stack([np.stack([x] * 3, axis=-1), maps, np.stack([x_hat] * 3, axis=-1)])  # (3, N, 28, 28, 3)
    tile = style.SIDE + style.GAP
    drawn = np.ones((3, len(x), tile, tile, 3))
    drawn[:, :, : style.SIDE, : style.SIDE] = rows
    drawn = drawn.swapaxes(1, 2).reshape(3 * tile, len(x) * tile, 3)[: -style.GAP, : -style.GAP]
    fig, (ax,) = style.mosaic_figure(np.ones((3 * len(x), style.SIDE, style.SIDE)), len(x), title, caption)
    ax.images[0].set_data(drawn)
    style.label_tiles(ax, 3, len(x), ["image", "7x7 codes", "from the codes"], None)
    return style.fit_mosaic(fig)


@style.styled
def codebook_usage(share: np.ndarray, perplexity: float, title: str, caption: str | None = None) -> Figure:
    """The share of all positions that each code takes, share (K,), largest first, beside the uniform share 1/K."""
    share = np.sort(checked_array("share", share, None))[::-1]
    fig = style.new_figure(title, caption, height=3.4)
    ax = fig.subplots()
    used = int((share > 0).sum())
    label = f"{used} of {len(share)} codes used, perplexity {perplexity:.0f}"
    ax.bar(np.arange(len(share)), 100 * share, width=1, color=style.LINES[0], label=label)
    ax.axhline(100 / len(share), color=style.GREY, lw=1, ls="--", label="if all were used equally")
    ax.set(xlabel="code, sorted by use", ylabel="share of positions (%)", xlim=(-0.5, len(share) - 0.5))
    ax.set_yscale("log")
    ax.grid(axis="y")
    ax.legend()
    return style.settle(fig)


# --- what of a measured run they show -----------------------------------------------------------------------------


def reconstructions(measured: CodeEvaluation, rng: np.random.Generator) -> Figure:
    """The first 20 test images, each beside what its 49 codes decode to."""
    return charts.reconstructions(
        measured.x[:20], measured.decode(measured.codes[:20]), measured.recon[:20],
        f"Reconstructions of {measured.data.name} test images from 49 codes each",
        caption=f"Only 49 numbers from 0 to {len(measured.codebook) - 1} pass from encoder to decoder, at most "
        f"{measured.uniform_kl / math.log(2):.0f} bits. Strokes keep their place and width.",
    )  # fmt: skip


def codes(measured: CodeEvaluation, rng: np.random.Generator) -> Figure:
    """One test image of each class with its map of codes."""
    of_class = np.unique(measured.data.labels, return_index=True)[1][:10]
    return code_maps(
        measured.x[of_class], measured.codes[of_class], measured.decode(measured.codes[of_class]),
        code_colours(measured.codebook), "What is stored: one code at each of 7x7 positions",
        caption="Similar colours are codes with similar vectors. Empty paper is a few codes that repeat; along the "
        "strokes they change with the direction of the stroke and with where it passes through the cell.",
    )  # fmt: skip


def usage(measured: CodeEvaluation, rng: np.random.Generator) -> Figure:
    """How often the test split uses each code."""
    return codebook_usage(
        measured.share, measured.codebook_use["perplexity"], "How much of the codebook is used",
        caption="Where bars are missing on the right, codes are never used. Perplexity is the number of codes that, "
        "all used equally, would carry as much information. The few tall bars are empty paper, which keeps it low.",
    )  # fmt: skip


def samples(measured: CodeEvaluation, rng: np.random.Generator) -> Figure:
    """New images from the learned prior, from each position's own frequencies, and from uniform codes.

    A prior that is given the label has a row for each class (the first ten).
    """
    columns, count = 16, 48
    images, labels = [], []
    if measured.sample:
        labels = measured.data.class_names[:10] if measured.conditional else ("", "learned prior", "")
        images.append(measured.prior_samples(rng, np.arange(len(labels)).repeat(columns)))
    enough = np.resize(measured.codes, (max(count, len(measured.codes)), 7, 7))  # few images: again from the first
    images.append(measured.decode(rng.permuted(enough, axis=0)[:count]))
    images.append(measured.decode(rng.integers(0, len(measured.codebook), (count, 7, 7))))
    labels = [*labels, "", "each position\non its own", "", "", "uniform codes", ""]
    learned = "the learned prior, which sees the codes before" + (" and the label" if measured.conditional else "")
    return charts.image_grid(
        np.concatenate(images), columns,
        "Samples: codes drawn in three ways, then decoded" if measured.sample else "Samples: codes drawn, then decoded",
        labels,
        caption="The decoder turns any 49 codes into an image. Uniform codes give scraps everywhere; codes drawn "
        "independently, as frequent as they are at their position, give strokes in the middle that do not join"
        + (f"; {learned}, joins them into digits." if measured.sample else "."),
    )  # fmt: skip


ALL: tuple[Callable[[CodeEvaluation, np.random.Generator], Figure], ...] = (reconstructions, codes, usage, samples)
