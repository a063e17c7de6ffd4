"""Draw the pages' pictures: `python exercises/draw_pictures.py 07 08` writes exercises/pictures/07_*.png and 08_*.png.

Without numbers it draws all, in about a minute of one core, as two of them train a small model. What is drawn is
computed by the exercises' solutions, from the shipped weights and the drawn digits.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Annulus, Circle, Rectangle
from matplotlib.patheffects import withStroke

from solutions import ex02_interpolation as ex02
from solutions import ex03_convolution as ex03
from solutions import ex05_reparameterization as ex05
from solutions import ex07_rate_distortion as ex07
from solutions import ex08_importance_weighting as ex08
from solutions import ex10_vector_quantization as ex10
from solutions import ex11_linear_vae as ex11
from vae_common import cli
from vae_common.config import RunConfig
from vae_common.data import binarize, load_dataset
from vae_common.plots import charts
from vae_common.plots.style import GREY, INK, LINES, PALE, PALETTE, new_figure, save_figure, settle, styled
from vae_common.weights import load_weights
from vae_numpy import decode, encode, sigmoid
from vae_training.factory import build_model
from vae_training.trainer import RunState, train

FOLDER = Path(__file__).parent / "pictures"
HALO = [withStroke(linewidth=3, foreground="white")]


def trained(**settings) -> torch.nn.Module:
    """A model of level 3 after a few epochs on the drawn digits."""
    config = RunConfig(lr=2e-3, batch_size=64, **settings).settled()
    torch.manual_seed(0)
    state = RunState.start(build_model(config), config)
    for _ in train(state, load_dataset("digits", "train"), config, lambda epoch: {}):
        pass
    return state.model.requires_grad_(False)


def emptiest(points: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` largest discs without a point of (N, 2), apart from one another, with their centres within radius 2.

    -> centres (count, 2), largest first, and radii (count,).
    """
    side, centres, radii = np.linspace(-2, 2, 81), [], []
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    grid = grid[np.linalg.norm(grid, axis=1) <= 2]
    room = np.linalg.norm(grid[:, None] - points, axis=2).min(axis=1)
    for _ in range(count):
        centres.append(grid[room.argmax()])
        radii.append(room.max())
        room = np.minimum(room, np.linalg.norm(grid - centres[-1], axis=1) - radii[-1])
    return np.array(centres), np.array(radii)


@styled
def holes() -> Figure:
    """Codes of the test digits in the VAE's plane and in an autoencoder's, and what their emptiest places decode to."""
    test, params = load_dataset("digits", "test"), load_weights("digits-z2")
    x, ae = binarize(test.images, "none"), trained(model="ae", architecture="mlp", latent_dim=2, epochs=10)
    mu, codes = encode(params, x)[0], ae.encode(torch.from_numpy(x))[0].numpy()
    mean, std = codes.mean(axis=0), codes.std(axis=0)
    fig = new_figure("The five largest holes within two standard deviations, decoded", None, height=5.4)
    vae_images = lambda z: sigmoid(decode(params, z))  # noqa: E731
    ae_images = lambda z: ae.pixels(torch.from_numpy(z * std + mean)).numpy()  # noqa: E731
    left, right = fig.subplots(2, 2, height_ratios=[4.6, 1]).T
    for name, points, images_at, (plane, row) in (
        ("VAE, z2 against z1", mu, vae_images, left),
        ("Autoencoder, codes scaled to variance 1", (codes - mean) / std, ae_images, right),
    ):
        plane.scatter(*points.T, c=np.array(PALETTE)[test.labels], s=5, alpha=0.75, lw=0)
        plane.add_patch(Circle((0, 0), 2, fill=False, color=GREY, lw=0.9, ls=(0, (4, 3))))
        plane.set(title=name, xlim=(-3.3, 3.3), ylim=(-3.3, 3.3), aspect="equal")
        for k in range(10):
            place = np.median(points[test.labels == k], axis=0)
            plane.text(*place, k, ha="center", va="center", weight="bold", path_effects=HALO)
        empty, radii = emptiest(points, 5)
        for place, radius, letter in zip(empty, radii, "abcde", strict=True):
            plane.add_patch(Circle(place, radius, fill=False, color=INK, lw=1.4))
            plane.text(*place, letter, ha="center", va="center")
        row.imshow(np.concatenate(images_at(empty.astype(np.float32))[:, 0], axis=1), cmap="gray")
        row.set_xticks(28 * np.arange(5) + 13.5, list("abcde"))
        bare(row)
    return settle(fig)


def bare(ax: Axes) -> None:
    """Leave the labels of the x axis, and no frame, ticks or y axis."""
    ax.spines[:].set_visible(False)
    ax.set_yticks([])
    ax.tick_params(length=0)


@styled
def shell() -> Figure:
    """Two draws from the prior of Z = 20: the line and the arc between them, in the plane of both, and decoded."""
    z0, z1 = np.random.default_rng(2).standard_normal((2, 20))  # both of them in the shell
    t, params = np.linspace(0, 1, 11), load_weights("digits-z20")
    u = z0 / np.linalg.norm(z0)
    v = z1 - z1 @ u * u
    plane = np.stack([u, v / np.linalg.norm(v)])  # both paths lie in it
    fig = new_figure("The arc stays in the shell, the line leaves it", None, height=5.2)
    axes = fig.subplot_mosaic("ab;cc", height_ratios=[2.6, 1.4])
    radius = ex02.expected_norm(20)
    axes["a"].add_patch(Annulus((0, 0), radius + 0.7, 1.4, color=PALE, alpha=0.5, lw=0))
    axes["a"].plot(0, 0, "+", color=INK)
    axes["b"].axhspan(radius - 0.7, radius + 0.7, color=PALE, alpha=0.5, lw=0, label="shell: mean norm, +- 0.7")
    images = []
    for name, path, colour in (("lerp", ex02.lerp, LINES[1]), ("slerp", ex02.slerp, LINES[0])):
        z = path(z0, z1, t)
        axes["a"].plot(*(z @ plane.T).T, "o-", ms=4, color=colour)
        axes["b"].plot(t, np.linalg.norm(z, axis=1), "o-", ms=4, color=colour, label=name)
        images.append(np.concatenate(sigmoid(decode(params, z.astype(np.float32)))[:, 0], axis=1))
    axes["a"].set(aspect="equal", xlim=(-5.3, 5.3), ylim=(-2.2, 5.3), title="the plane through 0 and both ends")
    axes["b"].set(ylim=(0, 6), xlabel="t", title="norm of z")
    axes["b"].legend(loc="lower right")
    axes["c"].imshow(np.concatenate(images), cmap="gray")
    bare(axes["c"])
    axes["c"].set_yticks([13.5, 41.5], ["lerp", "slerp"])
    axes["c"].set_xticks(28 * np.arange(11) + 13.5, [f"{one:.1f}" for one in t])
    return settle(fig)


@styled
def stamps() -> Figure:
    """A transposed convolution of ones, stride 2: how many stamps reach each pixel, with kernels of side 3 and 4."""
    fig = new_figure("How many stamps reach a pixel, stride 2", None, height=3.1)
    four = np.zeros((1, 1, 5, 5))
    four[0, 0, 1:3, 1:3] = 1
    panels = (("four stamps, side 3", four, 3, 1), ("all, side 3", np.ones((1, 1, 5, 5)), 3, 1),
              ("all, side 4", np.ones((1, 1, 5, 5)), 4, 0))  # fmt: skip
    for ax, (name, x, k, more) in zip(fig.subplots(1, 3), panels, strict=True):
        counts = ex03.conv_transpose2d(x, np.ones((1, 1, k, k)), np.zeros(1), output_padding=more)[0, 0]
        ax.imshow(counts, cmap="Blues", vmin=0, vmax=5)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                ax.text(column, row, f"{count:.0f}", ha="center", va="center", color="white" if count > 3 else INK)
        ax.set_xticks([])
        ax.set(title=name)
        bare(ax)
    for (row, column), colour in zip(np.argwhere(four[0, 0]), LINES, strict=True):
        corner = 2 * column - 1.5 + 0.05 * row, 2 * row - 1.5 + 0.05 * column  # side by side where two lie together
        fig.axes[0].add_patch(Rectangle(corner, 3, 3, fill=False, color=colour, lw=2))
    return settle(fig)


@styled
def clouds() -> Figure:
    """The estimates of the gradient of E[z1^2 + z2^2] by mu that single draws give, by path and by score."""
    mu, logvar, eps = np.array([2.0, 1.0]), np.zeros(2), np.random.default_rng(0).standard_normal((1000, 2))
    values = square(ex05.reparameterize(mu, logvar, eps))
    ways = {
        "pathwise": ex05.pathwise_samples(lambda z: 2 * z, mu, logvar, eps),
        "score, leave one out": ex05.score_samples(square, mu, logvar, eps, ex05.leave_one_out(values)),
        "score": ex05.score_samples(square, mu, logvar, eps),
    }
    fig = new_figure("One gradient, 1,000 estimates of it", None, height=3.5)
    for ax, (name, (by_mu, _)) in zip(fig.subplots(1, 3, sharex=True, sharey=True), ways.items(), strict=True):
        ax.scatter(*by_mu.T, s=4, color=LINES[0], alpha=0.4, lw=0)
        ax.plot(*2 * mu, "P", ms=10, mfc=LINES[3], mec="white", label="the gradient, (4, 2)")
        ax.set(title=f"{name}\nvariance {by_mu.var(axis=0).sum():.0f}", xlim=(-30, 38), ylim=(-34, 34), aspect="equal")
        ax.set(xlabel="by the first mu")
    fig.axes[0].set_ylabel("by the second mu")
    fig.axes[0].legend(loc="lower center")
    return settle(fig)


def square(z: np.ndarray) -> np.ndarray:
    """z (N, Z) -> its squared norm (N,)."""
    return (z**2).sum(axis=1)


def loss(w: np.ndarray, v: np.ndarray, beta: float, s2: float = 0.8, variance: float = 1.0) -> np.ndarray:
    """The loss of exercise 6's smallest VAE at weights w and v, sigma being the best for them."""
    var = beta * s2 / (w**2 + beta * s2)
    recon = ((1 - w * v) ** 2 * variance + w**2 * var) / (2 * s2)
    return recon + beta / 2 * (v**2 * variance + var - 1 - np.log(var))


@styled
def surfaces() -> Figure:
    """The loss over (w, v) below, near and above the beta of collapse, with the way down from near 0."""
    side = np.linspace(-1.6, 1.6, 161)
    w, v = np.meshgrid(side, side)
    fig = new_figure("The loss over the two weights, s2 = 0.8", None, height=3.5)
    for ax, beta in zip(fig.subplots(1, 3, sharey=True), (0.2, 1.0, 2.0), strict=True):
        heights = loss(w, v, beta)
        steps = heights.min() + np.linspace(0, 1, 14) ** 3
        ax.contourf(w, v, heights, steps, cmap="Blues_r", extend="max")
        ax.contour(w, v, heights, steps, colors="white", linewidths=0.6)
        place, path = np.array([0.02, 0.01]), []
        for _ in range(400):
            path.append(place)
            around = place + 1e-5 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
            right, left, up, down = loss(*around.T, beta)
            place = place - 0.1 * np.array([right - left, up - down]) / 2e-5
        ax.plot(*np.array(path)[::20].T, "o-", ms=4, color=LINES[3], mec="white", mew=0.5, label="every 20th step")
        ax.set(title=f"beta {beta:g}", xlabel="w", aspect="equal")
    fig.axes[0].set_ylabel("v")
    fig.axes[0].legend(loc="upper left", frameon=True, edgecolor="none")
    return settle(fig)


@styled
def frontier() -> Figure:
    """The Gaussian frontier of exercise 7, with the tangent of slope -beta at five of its points."""
    variances, s2 = np.array([4.0, 2.0, 1.0, 0.5, 0.25]), 0.1
    fig = new_figure("The best that any code can do, for five Gaussian numbers", None, height=4.4)
    ax = fig.subplots()
    line = np.array([place_of(variances, s2, beta) for beta in np.geomspace(0.1, 45, 300)])
    ax.plot(*line.T, color=LINES[0], lw=2, label="the frontier")
    ax.fill_between(*line.T, -5, color="#e4e4e4", lw=0, label="no code gets here")
    for beta, reach in ((0.5, 2.2), (1.0, 2.2), (2.0, 1.6), (4.0, 1.0), (8.0, 0.7)):
        R, D = place_of(variances, s2, beta)
        ax.plot([R - reach, R + reach], [D + beta * reach, D - beta * reach], color=LINES[1], lw=1.2)
        ax.plot(R, D, "o", color=LINES[1])
        ax.annotate(f"beta {beta:g}", (R, D), (8, 6), textcoords="offset points", path_effects=HALO)
    total = sum(place_of(variances, s2, 1.0))
    ax.axline((0, total), slope=-1, color=GREY, lw=0.9, ls=":", label=f"R + D = {total:.1f}, the entropy of the data")
    ax.set(xlim=(0, 9), ylim=(-2, 36), xlabel="rate R (nats)", ylabel="distortion D (nats)")
    ax.legend()
    return settle(fig)


def place_of(variances: np.ndarray, s2: float, beta: float) -> tuple[float, float]:
    """R and D of the best code at the price beta."""
    return ex07.frontier_rate(variances, s2, beta), ex07.frontier_distortion(variances, s2, beta)


def weights_of(c: float, K: int = 1000, Z: int = 10) -> np.ndarray:
    """log w (1, K) of K codes for one x of exercise 8's linear model, q being c times as wide as the posterior."""
    rng, a, s = np.random.default_rng(0), np.linspace(0.5, 2, Z), 0.5
    x = a * rng.standard_normal(Z) + s * rng.standard_normal(Z)
    mu, logvar = (a * x / (a**2 + s**2))[None], np.log(c**2 * s**2 / (a**2 + s**2))[None]
    z = ex05.reparameterize(mu, logvar, rng.standard_normal((K, Z)))[None]
    recon = 0.5 * (((x - a * z) / s) ** 2 + np.log(2 * np.pi * s**2)).sum(axis=2)
    return ex08.log_weights(recon, z, mu, logvar)


@styled
def weights() -> Figure:
    """Proposals that are right, too wide and too narrow: in one dimension, and the weights of 1,000 codes in ten."""
    fig = new_figure("A proposal q and the weights that it gives", None, height=5)
    above, below = fig.subplots(2, 3, sharey="row", height_ratios=[1.1, 1])
    z = np.linspace(-4, 4, 401)
    posterior = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    widths = {"as wide as the posterior": 1.0, "twice as wide": 2.0, "half as wide": 0.5}
    for (width, c), top, bottom in zip(widths.items(), above, below, strict=True):
        q = np.exp(-((z / c) ** 2) / 2) / np.sqrt(2 * np.pi) / c
        top.fill_between(z, posterior, color=PALE, label="posterior")
        top.plot(z, q, color=LINES[0], label="q")
        top.plot(z, posterior / q, color=LINES[1], ls="--", label="posterior / q")
        top.set(title=f"q {width}", xlim=(-4, 4), ylim=(0, 2.3), xlabel="z")
        log_w = weights_of(c)
        w = np.sort(np.exp(log_w - log_w.max()) / np.exp(log_w - log_w.max()).sum())[0, ::-1]
        bottom.plot(np.arange(1, 1001), 100 * w.cumsum(), color=LINES[1])
        title = f"ESS {ex08.effective_sample_size(log_w)[0]:.0f}, heaviest {w[0]:.1%}"
        bottom.set(title=title, xscale="log", ylim=(0, 103), xlabel="codes, heaviest first")
        bottom.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
        bottom.minorticks_off()
        bottom.grid(axis="y")
    above[0].legend(loc="upper center")
    below[0].set_ylabel("% of all weight, Z = 10")
    return settle(fig)


def styles() -> Figure:
    """The class x style grid of a conditional VAE: one z in each row, one label in each column."""
    model = trained(model="cvae", latent_dim=8, epochs=3)
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 8), dtype=np.float32))
    images = model.pixels(z.repeat_interleave(10, dim=0), torch.arange(10).repeat(4)).numpy()
    labels = [f"style {k}" for k in range(1, 5)]
    return charts.image_grid(images, 10, "Ten classes in four styles", labels, [str(k) for k in range(10)])


def book(with_revival: bool) -> tuple[np.ndarray, np.ndarray]:
    """Exercise 10's book of 64 patches (64, 16), and how many held-out patches take each, (64,); most used first."""
    images = load_dataset("digits", "test").images / 255
    patches = images.reshape(-1, 7, 4, 7, 4).swapaxes(2, 3).reshape(-1, 49, 16)
    rng = np.random.default_rng(0)
    codebook = rng.standard_normal((64, 16))
    usage, sums = np.full(64, 1 / 64), codebook / 64
    for _ in range(60):
        batch = rng.permutation(patches[rng.integers(0, 1500, 60)].reshape(-1, 16))
        usage, sums, codebook = ex10.ema_step(usage, sums, codebook, batch, ex10.nearest_code(batch, codebook), 0.8)
        if with_revival:
            usage, sums, codebook = ex10.revive(usage, sums, codebook, batch)
    used = np.bincount(ex10.nearest_code(patches[1500:], codebook).ravel(), minlength=64)
    order = np.argsort(-used, kind="stable")
    return codebook[order], used[order]


@styled
def codebooks() -> Figure:
    """The book of patches learned without and with revival, each patch with its share of the held-out positions."""
    fig = new_figure("A book of 64 patches, most used first, with the share of each in %", None, height=4.4)
    for ax, revival in zip(fig.subplots(1, 2), (False, True), strict=True):
        codebook, used = book(revival)
        tiles = np.ones((64, 6, 5))
        tiles[:, :4, :4] = codebook.reshape(64, 4, 4).clip(0, 1)
        ax.imshow(tiles.reshape(8, 8, 6, 5).swapaxes(1, 2).reshape(48, 40), cmap="gray", vmin=0, vmax=1)
        for k, share in enumerate(used / used.sum()):
            name = f"{100 * share:.1f}" if share else "unused"
            place = 5 * (k % 8) + 1.5, 6 * (k // 8) + 4.3
            ax.text(*place, name, size=6.5, ha="center", va="center", color=INK if share else LINES[1])
        ax.set_xticks([])
        ax.set(title=f"{'with' if revival else 'without'} revival: {(used > 0).sum()} in use")
        bare(ax)
    return settle(fig)


@styled
def levels() -> Figure:
    """The eigenvalues of the drawn digits against three water levels: what stands out of the water is told."""
    flat = load_dataset("digits", "train").images.reshape(-1, 784) / 255
    eigenvalues, shown, s2 = ex11.spectrum(flat)[0], 30, 0.5
    fig = new_figure("The variance along the first 30 axes, and the water, s2 = 1/2", None, height=3.6)
    for ax, beta in zip(fig.subplots(1, 3, sharey=True), (1, 4, 8), strict=True):
        rate, _, active = ex11.water_filling(eigenvalues, 50, s2, beta)
        tops, level = eigenvalues[:shown], beta * s2
        ax.bar(np.arange(1, shown + 1), tops, width=0.8, color=[LINES[3] if top > level else PALE for top in tops])
        ax.axhspan(0, level, color=LINES[0], alpha=0.35, lw=0, zorder=2)
        ax.set(title=f"beta {beta}, level {level:g}\n{active:.0f} told, {rate:.2f} nats", yscale="log", xlabel="axis")
        ax.set_ylim(0.1, 8)
        ax.minorticks_off()
    fig.axes[0].set_ylabel("variance")
    fig.axes[0].set_yticks([0.1, 0.5, 1, 2, 4], ["0.1", "0.5", "1", "2", "4"])
    return settle(fig)


PICTURES: dict[str, Callable[[], Figure]] = {
    "01": holes, "02": shell, "03": stamps, "05": clouds, "06": surfaces,
    "07": frontier, "08": weights, "09": styles, "10": codebooks, "11": levels,
}  # fmt: skip


def path_of(number: str) -> Path:
    """The file of an exercise's picture."""
    return FOLDER / f"{number}_{PICTURES[number].__name__}.png"


def run(numbers: Sequence[str] = ()) -> None:
    """Draw the pictures of these exercises, or of all."""
    for number in numbers or PICTURES:
        print(f"wrote {save_figure(PICTURES[number](), path_of(number)).relative_to(FOLDER.parents[1])}")


def exercise(text: str) -> str:
    """An argparse type: the number of an exercise that has a picture, "3" or "03"."""
    if text.zfill(2) not in PICTURES:
        raise argparse.ArgumentTypeError(f"expected an exercise with a picture, one of {', '.join(PICTURES)}")
    return text.zfill(2)


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = cli.parser(__doc__.splitlines()[0])
    parser.add_argument("numbers", metavar="NN", nargs="*", type=exercise, help="the exercises, by default all")
    return cli.run(parser, argv, run)


if __name__ == "__main__":
    sys.exit(main())
