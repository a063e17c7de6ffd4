"""The pictures that every level draws of what it measured: which latent points are decoded, and what to see in them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vae_common import latent_paths
from vae_common.data import entropy_floor
from vae_common.evaluation import Evaluation
from vae_common.plots import charts
from vae_common.plots.style import save_figure
from vae_common.randomness import generator

Picture = Callable[[Evaluation, np.random.Generator], Figure]

SIDE = 20  # images along one side of the manifold
QUANTILES = np.array([0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.99])  # where traversals go
ROWS = 10  # at most so many dimensions are traversed


def draw(folder: Path, measured: Evaluation, pictures: Iterable[Picture], seed: int) -> None:
    """Draw each picture, a function of what was measured, into folder/figures under its name; print each path."""
    for picture in pictures:
        name, figure = picture.__name__, picture(measured, generator(seed, "figures"))
        print(f"wrote {save_figure(figure, folder / 'figures' / f'{name}.png')}")


def most_active(measured: Evaluation, count: int) -> np.ndarray:
    """The `count` latent dimensions with the largest KL, largest first."""
    return np.argsort(-measured.kl_per_dim, kind="stable")[:count]


def reconstructions(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """The first twenty test images above what one sampled z each decodes to."""
    first = slice(0, 20)
    x, z = measured.x[first], measured.z[first]
    return charts.reconstructions(
        x, measured.decode_like(z, first), measured.recon[first], f"Test images of {measured.data.name}, reconstructed",
        caption="Each image is encoded, one z is sampled from its posterior and decoded. Fine detail is lost first.",
    )  # fmt: skip


def samples(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """Eighty samples of the prior, decoded."""
    z = measured.as_prior(rng.standard_normal((80, measured.mu.shape[1]), dtype=np.float32), rng)
    return charts.image_grid(
        measured.decode_like(z, rng.integers(len(measured.x), size=len(z))), 16, "Samples from the prior",
        caption="Each z is drawn from the prior and decoded; no image goes in. Some fall between the classes.",
    )  # fmt: skip


def latent(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """The posterior means in the latent plane, by class."""
    return scatter(
        measured, "Where the encoder puts the test images",
        "The encoder never saw a label, yet the classes form clusters. An ellipse is the posterior of one image, small "
        "where the image determines its code; together they should cover the prior.",
        circles=measured.prior_codes is None,
    )  # fmt: skip


def scatter(measured: Evaluation, title: str, caption: str, prior: bool = True, circles: bool = True) -> Figure:
    """The posterior means in the plane, by class; with `prior` ellipses of six posteriors, and `circles` of N(0, I).

    With Z = 1 there is no plane: mu runs to the right, and classes stand above one another.
    """
    names, labels = measured.data.class_names, measured.data.labels
    if measured.mu.shape[1] == 1:
        spread = np.random.default_rng(0).uniform(-0.35, 0.35, len(labels))
        points = np.stack([measured.mu[:, 0], labels + spread], axis=1)
        return charts.latent_scatter(points, labels, names, title, ["mu[0]", "class"], False, caption)
    dims = _plane(measured)
    mu, std = measured.mu[:, dims], measured.std[:, dims]
    return charts.latent_scatter(
        mu, labels, names, title, [f"mu[{dim}]" for dim in dims], prior and circles,
        f"{caption} {_of_all(measured, by='KL' if prior else 'variance')}", (mu[:6], std[:6]) if prior else None,
    )  # fmt: skip


def manifold(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """The latent plane, decoded on a grid that is denser where the prior is (Kingma & Welling 2014, Fig. 4)."""
    if measured.mu.shape[1] == 1:
        line = latent_paths.manifold_grid(100)[:100, :1].astype(np.float32)
        return charts.image_grid(
            measured.decode_like(line, 0), SIDE, "The latent line, decoded",
            caption="In reading order, in 100 steps that hold equal shares of the prior's probability.",
        )  # fmt: skip
    dims = _plane(measured)
    z = np.zeros((SIDE * SIDE, measured.mu.shape[1]), np.float32)
    grid, rest = latent_paths.manifold_grid(SIDE), ", the others held at 0"
    if measured.prior_codes is not None:  # the same shares of a learned prior, one dimension at a time
        drawn, rest = measured.as_prior(rng.standard_normal((5000, z.shape[1])), rng), ", the others at their medians"
        z += np.median(drawn, axis=0)
        across, up = np.quantile(drawn[:, dims], (np.arange(SIDE) + 0.5) / SIDE, axis=0).T
        grid = np.stack(np.meshgrid(across, up[::-1]), axis=-1).reshape(-1, 2)
    z[:, dims] = grid
    return charts.manifold(
        measured.decode_like(z, 0), SIDE, "The latent plane, decoded",
        axis_labels=[f"z[{dim}]" for dim in dims], grid=grid,
        caption="Steps hold equal shares of the prior's probability. Classes blend smoothly into one another. "
        + _of_all(measured, rest=rest),
    )  # fmt: skip


def traversals(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """A row for each of the most active dimensions: the image as that coordinate alone moves."""
    dims, kl = most_active(measured, ROWS), measured.kl_per_dim
    values = quantiles_of_z(measured, dims)
    z = [latent_paths.traversal(measured.mu[0], dim, row) for dim, row in zip(dims, values, strict=True)]
    rows = zip(dims, values, strict=True)
    return charts.traversals(
        measured.decode_like(np.concatenate(z).astype(np.float32), 0),
        [f"z[{dim}] {row[0]:.1f} to {row[-1]:.1f}, {kl[dim]:.2f} nats" for dim, row in rows], QUANTILES,
        "One latent coordinate moves, the others stay", quantiles=True,
        caption="Each row starts from the posterior mean of the first test image and walks through the quantiles of "
        "that coordinate, sampled over all test images; largest KL on top. A row that does not change belongs to a "
        "dimension the decoder ignores.",
    )  # fmt: skip


def quantiles_of_z(measured: Evaluation, dims: np.ndarray) -> np.ndarray:
    """The QUANTILES (K, T) of the sampled z, over all test images, in each of the K dims."""
    return np.quantile(measured.z[:, dims], QUANTILES, axis=0).T


def interpolation(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """The straight and the great-circle path between two images, and between two samples of the prior."""
    (start, end), *_ = pairs_of_classes(measured, 1)
    prior = rng.standard_normal((2, measured.mu.shape[1]))
    ends = {between(measured, start, end): measured.mu[[start, end]], "two prior samples": prior}
    return lerp_and_slerp(
        measured, ends, "Straight (lerp) and along the sphere (slerp)",
        "In many dimensions all samples of the prior have norms near the square root of Z "
        f"({prior.shape[1] ** 0.5:.1f} here). The straight line between two of them crosses a region where few lie. "
        "Compare the strips: can you see it?",
    )  # fmt: skip


def lerp_and_slerp(measured: Evaluation, ends: Mapping[str, np.ndarray], title: str, caption: str) -> Figure:
    """Both paths between each named pair of latent points (2, Z), with the norm along the way."""
    t, paths = np.linspace(0, 1, 11), {"lerp": latent_paths.lerp, "slerp": latent_paths.slerp}
    if measured.mu.shape[1] == 1:
        del paths["slerp"]  # on a line there is no sphere to go along
    strips, labels, norms = [], [], []
    for pair, (z0, z1) in ends.items():
        for name, path in paths.items():
            z = path(z0, z1, t).astype(np.float32)
            strips.append(measured.decode_like(z, 0))
            labels.append(f"{pair}, {name}")
            norms.append(np.linalg.norm(z, axis=1))
    return charts.interpolation_strips(strips, labels, title, norms, caption)


def kl(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """The KL of each latent dimension, in nats."""
    return charts.kl_per_dimension(
        measured.kl_per_dim, "What each latent dimension costs", measured.active,
        caption="Active: the posterior means vary over the images by more than 0.01 (Burda et al. 2015). "
        "An inactive dimension carries nothing: its posterior is the prior.",
    )  # fmt: skip


ALL = (reconstructions, samples, latent, manifold, traversals, interpolation, kl)


def draw_level_1(folder: Path, measured: Evaluation, plane: Evaluation | None, seed: int) -> None:
    """What level 1 draws: every picture of the model, the two of the latent plane of one with Z = 2 if there is any."""
    of_plane = (latent, manifold)
    draw(folder, measured, [picture for picture in ALL if picture not in of_plane], seed)
    if plane is not None:
        draw(folder, plane, of_plane, seed)


def draw_level_2(folder: Path, measured: Evaluation, rows: Sequence[dict], seed: int) -> None:
    """What level 2 draws: the losses of the training, and every picture of the model."""
    draw_losses(folder, rows, measured)
    draw(folder, measured, ALL, seed)


def draw_losses(folder: Path, rows: Sequence[dict], measured: Evaluation, **options) -> None:
    """Draw folder/figures/losses.png from the rows of metrics.jsonl; options: those of charts.loss_curves."""
    grey = measured.likelihood == "bernoulli" and measured.binarize == "none"
    floor = entropy_floor(measured.x) if grey else None
    caption = "A gap that opens between train and held-out images is overfitting; kl near 0 is collapse."
    options = {"caption": caption, "entropy_floor": floor, **options}
    figure = charts.loss_curves(rows, f"Training on {measured.data.name}", **options)
    print(f"wrote {save_figure(figure, folder / 'figures' / 'losses.png')}")


def _plane(measured: Evaluation) -> np.ndarray:
    """The dimensions that the plane shows: both when Z = 2, else the two most active ones, in rising order."""
    return np.sort(most_active(measured, 2))


def _of_all(measured: Evaluation, rest: str = "", by: str = "KL") -> str:
    count = measured.mu.shape[1]
    return "" if count <= 2 else f"Shown: the two of {count} dimensions with the largest {by}{rest}."


def pairs_of_classes(measured: Evaluation, count: int) -> list[tuple[int, int]]:
    """Pairs of image numbers, the first of each class, so that the two are of different classes."""
    firsts = np.unique(measured.data.labels, return_index=True)[1]
    return [(firsts[i], firsts[-1 - i]) for i in range(min(count, len(firsts) // 2))] or [(0, len(measured.x) - 1)]


def between(measured: Evaluation, start: int, end: int) -> str:
    """What the way from one test image to another is called: the names of their classes."""
    names, labels = measured.data.class_names, measured.data.labels
    return f"{names[labels[start]]} to {names[labels[end]]}"
