"""The pictures that every level draws of what it measured: which latent points are decoded, and what to see in them."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vae_common import figures
from vae_common.data import generator
from vae_common.measured import Measured

Picture = Callable[[Measured, np.random.Generator], Figure]

SIDE = 20  # images along one side of the manifold
REACH = np.linspace(-2.5, 2.5, 11)  # where traversals go, in units of the prior's standard deviation
ROWS = 10  # at most so many dimensions are traversed


def draw(folder: Path, measured: Measured, pictures: Iterable[Picture], seed: int) -> None:
    """Draw each picture, a function of what was measured, into folder/figures under its name; print each path."""
    for picture in pictures:
        name, figure = picture.__name__, picture(measured, generator(seed, "figures"))
        print(f"wrote {figures.save_figure(figure, folder / 'figures' / f'{name}.png')}")


def draw_losses(folder: Path, rows: Sequence[dict], title: str, **options) -> None:
    """Draw folder/figures/losses.png from the rows of metrics.jsonl."""
    figure = figures.loss_curves(
        rows,
        title,
        caption="A gap that opens between test and train is overfitting; kl near 0 is collapse.",
        **options,
    )
    print(f"wrote {figures.save_figure(figure, folder / 'figures' / 'losses.png')}")


def most_active(measured: Measured, count: int) -> np.ndarray:
    """The `count` latent dimensions with the largest KL, largest first."""
    return np.argsort(-measured.kl_per_dim, kind="stable")[:count]


def reconstructions(measured: Measured, rng: np.random.Generator) -> Figure:
    first = slice(0, 20)
    x, z = measured.x[first], (measured.mu + measured.std * measured.eps)[first]
    return figures.reconstructions(
        x, measured.decode_like(z, first), measured.recon[first], f"Test images of {measured.data.name}, reconstructed",
        caption="Each image is encoded, one z is sampled from its posterior and decoded. Fine detail is lost first.",
    )  # fmt: skip


def samples(measured: Measured, rng: np.random.Generator) -> Figure:
    z = rng.standard_normal((80, measured.mu.shape[1]), dtype=np.float32)
    return figures.image_grid(
        measured.decode(z), 16, "Samples from the prior",
        caption="Each z is drawn from N(0, I) and decoded; no image goes in. Some fall between the classes.",
    )  # fmt: skip


def latent(measured: Measured, rng: np.random.Generator) -> Figure:
    dims = _plane(measured)
    return figures.latent_scatter(
        measured.mu[:, dims], measured.data.labels, measured.data.class_names, "Where the encoder puts the test images",
        axis_labels=[f"mu[{dim}]" for dim in dims],
        caption="The encoder never saw a label, yet classes gather; together they fill the prior's disc. "
        + _of_all(measured),
    )  # fmt: skip


def manifold(measured: Measured, rng: np.random.Generator) -> Figure:
    dims = _plane(measured)
    z = np.zeros((SIDE * SIDE, measured.mu.shape[1]), np.float32)
    z[:, dims] = figures.manifold_grid(SIDE)[:, : len(dims)]
    return figures.manifold(
        measured.decode_like(z, 0), SIDE, "The latent plane, decoded",
        axis_labels=[f"z[{dim}]" for dim in dims],
        caption="Steps hold equal shares of the prior's probability. Classes change into one another without a break. "
        + _of_all(measured, rest=", the others held at 0"),
    )  # fmt: skip


def traversals(measured: Measured, rng: np.random.Generator) -> Figure:
    dims = most_active(measured, ROWS)
    z = np.concatenate([figures.traversal(measured.mu[0], dim, REACH) for dim in dims]).astype(np.float32)
    kl = measured.kl_per_dim
    return figures.traversals(
        measured.decode_like(z, 0), [f"z[{dim}], {kl[dim]:.2f} nats" for dim in dims], REACH,
        "One latent coordinate moves, the others stay",
        caption="All rows start from the posterior mean of the first test image; largest KL on top. "
        "A row that does not change belongs to a dimension the decoder ignores.",
    )  # fmt: skip


def interpolation(measured: Measured, rng: np.random.Generator) -> Figure:
    t = np.linspace(0, 1, 11)
    strips, labels, norms = [], [], []
    for start, end in _pairs_of_classes(measured.data.labels, 2):
        between = f"{measured.data.class_names[measured.data.labels[start]]} to "
        between += measured.data.class_names[measured.data.labels[end]]
        for name, path in (("lerp", figures.lerp), ("slerp", figures.slerp)):
            z = path(measured.mu[start], measured.mu[end], t).astype(np.float32)
            strips.append(measured.decode_like(z, start))
            labels.append(f"{between}, {name}")
            norms.append(np.linalg.norm(z, axis=1))
    return figures.interpolation_strips(
        strips, labels, "Between two test images, straight (lerp) and along the sphere (slerp)", norms,
        caption="The straight line cuts through the middle, where the norm dips and few posteriors lie.",
    )  # fmt: skip


def kl(measured: Measured, rng: np.random.Generator) -> Figure:
    return figures.kl_per_dimension(
        measured.kl_per_dim, "What each latent dimension costs", measured.active,
        caption="Active: the posterior means vary over the images by more than 0.01 (Burda et al. 2015). "
        "An inactive dimension carries nothing: its posterior is the prior.",
    )  # fmt: skip


ALL = (reconstructions, samples, latent, manifold, traversals, interpolation, kl)


def _plane(measured: Measured) -> np.ndarray:
    """The dimensions that the plane shows: both when Z = 2, else the two most active ones, in rising order."""
    return np.sort(most_active(measured, 2))


def _of_all(measured: Measured, rest: str = "") -> str:
    count = measured.mu.shape[1]
    return "" if count <= 2 else f"Shown: the two of {count} dimensions with the largest KL{rest}."


def _pairs_of_classes(labels: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Pairs of image numbers, the first of each class, so that the two are of different classes."""
    firsts = np.unique(labels, return_index=True)[1]
    return [(firsts[i], firsts[-1 - i]) for i in range(min(count, len(firsts) // 2))]
