"""Every picture of a finished run: `python paper/latent_figures.py RUN` draws them again, with --animate a GIF too.

A picture is a function of what was measured on the test split, and of a random generator, that returns a Figure; its
name is that of the file. Those that all levels share are in vae_common/pictures.py, and the drawing itself is in
vae_common/figures.py: what stands here is which arrays to look at, and what to see in them.
"""

import argparse
import io
import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from vae_common import canvas, cli, figures, pictures
from vae_common.data import entropy_floor
from vae_common.files import check_size, load_arrays, write_atomically
from vae_common.measured import Measured
from vq_figures import draw_vq

EMBEDDED = 700  # test images that t-SNE is given: its time grows faster than their number
SNAPSHOT_SIDE, MOST_FRAMES = 15, 40  # images along one side of a snapshot of the plane; frames of the GIF

# --- what the latent space looks like -----------------------------------------------------------------------------


def aggregate(measured: Measured, rng: np.random.Generator) -> Figure:
    dims, z = pictures.most_active(measured, 8), pictures.sampled(measured)
    dims = np.sort(dims) if len(dims) == 2 else dims
    return figures.against_prior(
        z[:, dims], [f"z[{dim}]" for dim in dims], "All posteriors together, against the prior",
        caption="Samples from N(0, I) decode to good images where the codes of real images fill it. A gap or an "
        "overhang is a place where the decoder was trained too little, or is never asked. Largest KL first.",
    )  # fmt: skip


def sigma(measured: Measured, rng: np.random.Generator) -> Figure:
    return figures.sigma_per_dimension(
        measured.std, "How precisely each latent coordinate is known",
        caption="A small posterior sigma means the image fixes that coordinate; at 1 it says nothing about it.",
    )  # fmt: skip


def embedding(measured: Measured, rng: np.random.Generator) -> Figure:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    some = np.sort(rng.permutation(len(measured.mu))[:EMBEDDED])
    mu = measured.mu.astype(np.float64)
    pca = PCA(2, random_state=0).fit(mu)
    neighbours = min(30.0, (len(some) - 1) / 3)
    tsne = TSNE(perplexity=neighbours, init="pca", learning_rate="auto", random_state=0).fit_transform(mu[some])
    share = pca.explained_variance_ratio_.sum()
    return figures.projections(
        {f"PCA: {share:.0%} of the variance": pca.transform(mu)[some], "t-SNE: who is near whom": tsne},
        measured.data.labels[some], measured.data.class_names, f"The {mu.shape[1]} dimensions of mu seen in two",
        caption=f"{len(some)} test images. PCA is a shadow: classes that overlap in it may lie apart. t-SNE keeps "
        "neighbours together; its distances between clusters, and their sizes, mean nothing.",
    )  # fmt: skip


# --- what the decoder makes of it ---------------------------------------------------------------------------------


def best_to_worst(measured: Measured, rng: np.random.Generator) -> Figure:
    return ranked(
        measured, measured.recon + measured.kl, "-elbo",
        "The test images the model explains best, middling and worst",
        "Simple shapes with little ink are cheap. The worst are rare: look whether they are badly drawn, or of a kind "
        "the model has not learnt.",
    )  # fmt: skip


def ranked(measured: Measured, cost: np.ndarray, name: str, title: str, caption: str) -> Figure:
    """Originals above reconstructions of the ten cheapest images by cost (N,), the ten around the median, the ten
    dearest, with the cost beneath."""
    places = ranks(cost)
    z = pictures.sampled(measured)[places]
    return figures.reconstructions(
        measured.x[places], measured.decode_like(z, places), cost[places], title, caption,
        number=f"{name} (nats)", groups=("best", "median", "worst") if len(places) == 30 else (),
    )  # fmt: skip


def ranks(cost: np.ndarray, count: int = 10) -> np.ndarray:
    """Numbers of the `count` cheapest images, the `count` around the median and the `count` dearest, rising."""
    order = np.argsort(cost, kind="stable")
    if len(order) < 3 * count:
        return order
    middle = (len(order) - count) // 2
    return np.concatenate([order[:count], order[middle : middle + count], order[-count:]])


def arithmetic(measured: Measured, rng: np.random.Generator) -> Figure:
    names, steps = measured.data.class_names, np.linspace(0, 1, 6)
    strips, labels = [], []
    for start, end in pictures.pairs_of_classes(measured, 4):
        minus, plus = measured.data.labels[[start, end]]
        direction = class_direction(measured.mu, measured.data.labels, plus, minus)
        z = (measured.mu[start] + steps[:, None] * direction).astype(np.float32)
        strips += [measured.x[[start]], measured.decode_like(z, start)]
        labels.append(f"a {names[minus]} - mean {names[minus]} + mean {names[plus]}")
    return figures.image_grid(
        np.concatenate(strips), 1 + len(steps), "Arithmetic on classes", labels,
        ["image", *(f"{step:.0%}" for step in steps)],
        caption="To the code of one image is added the mean code of one class less the mean of its own, more of it "
        "from left to right. The class changes; with enough dimensions slant and thickness stay.",
    )  # fmt: skip


def class_direction(mu: np.ndarray, labels: np.ndarray, plus: int, minus: int) -> np.ndarray:
    """Mean code (Z,) of class `plus` less that of class `minus`."""
    return mu[labels == plus].mean(axis=0) - mu[labels == minus].mean(axis=0)


# --- conditional: the label is given, z is the style --------------------------------------------------------------


def class_by_style(measured: Measured, rng: np.random.Generator) -> Figure:
    z = rng.standard_normal((8, measured.mu.shape[1]), dtype=np.float32)
    return figures.image_grid(
        each_class(measured, z), len(measured.data.class_names), "Ten classes, eight styles",
        [f"z no. {k}" for k in range(1, 9)], measured.data.class_names,
        caption="In a row z, drawn from N(0, I), stays the same and only the label changes: slant, width and "
        "thickness go along the row, for the label says which class, and z how it is drawn.",
    )  # fmt: skip


def each_class(measured: Measured, z: np.ndarray) -> np.ndarray:
    """Latents (M, Z) decoded as every class, (M * classes, 1, 28, 28), the classes of one z beside one another."""
    classes = len(measured.data.class_names)
    return measured.decode(np.repeat(z, classes, axis=0), np.tile(np.arange(classes), len(z)))


def relabelled(measured: Measured, rng: np.random.Generator) -> Figure:
    names, firsts = measured.data.class_names, np.unique(measured.data.labels, return_index=True)[1]
    own = measured.decode_like(measured.mu[firsts], firsts)
    others = each_class(measured, measured.mu[firsts]).reshape(len(firsts), len(names), 1, 28, 28)
    rows = np.concatenate([measured.x[firsts][:, None], own[:, None], others], axis=1)
    return figures.image_grid(
        rows.reshape(-1, 1, 28, 28), 2 + len(names), "The same z, another label",
        [f"a {names[measured.data.labels[i]]}" for i in firsts], ["image", "own", *names],
        caption="Test images, reconstructed with their own label, then with every label. Where the writing stays and "
        "the class changes, z holds style alone.",
    )  # fmt: skip


def styles(measured: Measured, rng: np.random.Generator) -> Figure:
    return pictures.scatter(
        measured, "Where the encoder puts the test images, knowing their labels",
        "The classes lie over one another: the label is given, so z need not say it, and holds the style. "
        "An ellipse is the posterior of one image.",
    )  # fmt: skip


# --- autoencoder: codes, but no distribution of codes -------------------------------------------------------------


def best_to_worst_by_recon(measured: Measured, rng: np.random.Generator) -> Figure:
    return ranked(
        measured, measured.recon, "recon", "The test images reconstructed best, middling and worst",
        "Without noise and without a price on the code, images are copied more sharply than by a VAE of the same Z.",
    )  # fmt: skip


def decoded_noise(measured: Measured, rng: np.random.Generator) -> Figure:
    z = rng.standard_normal((80, measured.mu.shape[1]), dtype=np.float32)
    return figures.image_grid(
        measured.decode(z), 16, "What an autoencoder makes of N(0, I)",
        caption="Not a generative model: nothing in its training puts codes where N(0, I) is (their spread is "
        f"{measured.mu.std(axis=0).mean():.1f}, not 1), so the decoder is asked about places between them.",
    )  # fmt: skip


def codes(measured: Measured, rng: np.random.Generator) -> Figure:
    return pictures.scatter(
        measured, "Where the autoencoder puts the test images",
        "Nothing draws the codes to the origin or to a scale of 1: compare the axes with those of a VAE.", prior=False,
    )  # fmt: skip


def between_images(measured: Measured, rng: np.random.Generator) -> Figure:
    pairs = pictures.pairs_of_classes(measured, 2)
    ends = {pictures.between(measured, *pair): measured.mu[list(pair)] for pair in pairs}
    return pictures.lerp_and_slerp(
        measured, ends, "Between two test images",
        "Halfway the decoder is asked about codes that no training image had: expect blends rather than digits.",
    )  # fmt: skip


# --- which pictures a run gets; the first two are those to look at first ------------------------------------------

_OF_POSTERIORS = (pictures.traversals, pictures.kl, sigma, aggregate, best_to_worst)
PICTURES = {
    "vae": (
        *(pictures.manifold, pictures.reconstructions, pictures.samples, pictures.latent, pictures.interpolation),
        *(*_OF_POSTERIORS, arithmetic, embedding),
    ),
    "cvae": (class_by_style, pictures.reconstructions, relabelled, styles, *_OF_POSTERIORS),
    "ae": (best_to_worst_by_recon, decoded_noise, codes, between_images, embedding),
}


def draw_run(folder: Path, model, measured: Measured, rows: list[dict], args: argparse.Namespace) -> None:
    """Draw every picture of a run into folder/figures, and say which to look at first."""
    if args.model == "vqvae":
        draw_vq(folder, measured, args.seed)
        return
    chosen = [p for p in PICTURES[args.model] if p is not embedding or measured.mu.shape[1] > 2]
    pictures.draw(folder, measured, chosen, args.seed)
    draw_training(folder, measured, rows, args)
    first, second = (folder / "figures" / f"{picture.__name__}.png" for picture in chosen[:2])
    print(f"\nlook first at {first} and {second}")
    if (folder / "snapshots.npz").exists():
        print(f"python paper/latent_figures.py {folder} --animate shows how the plane was learnt")


# --- pictures of the training -------------------------------------------------------------------------------------


def draw_training(folder: Path, measured: Measured, rows: list[dict], args: argparse.Namespace) -> None:
    """Draw what metrics.jsonl tells: losses, rate and distortion, and the schedule where the run had one."""
    title = f"Training on {measured.data.name}"
    grey = args.likelihood == "bernoulli" and args.binarize == "none"
    floor = entropy_floor(measured.x) if grey else None
    if "kl" not in rows[-1]:
        caption = "A gap that opens between test and train is overfitting."
        pictures.draw_losses(folder, rows, title, entropy_floor=floor, caption=caption, terms=("recon", "mse"))
        return
    pictures.draw_losses(folder, rows, title, entropy_floor=floor)
    drawn = {"rate_and_distortion": figures.rate_and_distortion(
        rows, "What training buys: rate against distortion",
        caption="Rate is what the code says about an image, distortion what is still missing. Training goes down, "
        "mostly by sending more; along a dotted line the two are only traded for one another.",
    )}  # fmt: skip
    if args.anneal != "none" or args.capacity is not None:
        name, at, values = schedule_of(args)
        drawn["schedule"] = figures.schedule(
            at, values, name, rows, "What the schedule asks of the KL, and the KL that came of it",
            caption="A cheap code is used at once; when the price rises, only what earns it is kept. "
            if name == "beta" else "The KL is held to C, which rises: dimensions come into use one after another.",
        )  # fmt: skip
    for name, figure in drawn.items():
        print(f"wrote {canvas.save_figure(figure, folder / 'figures' / f'{name}.png')}")


def schedule_of(args: argparse.Namespace) -> tuple[str, np.ndarray, np.ndarray]:
    """The name, "beta" or "C", the moments (T,) at which it is drawn, in epochs, and its values (T,) there."""
    from beta_vae import KLPrice

    price = KLPrice(args.beta, args.anneal, args.anneal_epochs, capacity=args.capacity)  # a step of it is an epoch
    name, value_at = ("beta", price.beta_at) if args.capacity is None else ("C", price.capacity_at)
    at = np.linspace(0, args.epochs, 1000, endpoint=False)
    return name, at, np.array([value_at(epoch) for epoch in at])


# --- the learning of the manifold ---------------------------------------------------------------------------------


def add_snapshot(folder: Path, model, epoch: int, args: argparse.Namespace) -> None:
    """Keep the plane as decoded after this epoch (0: before training) in folder/snapshots.npz, when the model has one.

    What the file holds of this and later epochs is dropped, so an epoch that is done again is kept once.
    """
    from paper_run import pixel_decoder

    if args.model != "vae" or args.latent_dim != 2:
        return
    plane = pixel_decoder(model)(figures.manifold_grid(SNAPSHOT_SIDE).astype(np.float32))
    plane = np.round(255 * plane).astype(np.uint8)[None]  # (1, 225, 1, 28, 28)
    path = folder / "snapshots.npz"
    planes = np.concatenate([read_snapshots(folder, args.epochs)[:epoch], plane]) if path.exists() else plane
    write_atomically(path, lambda file: np.savez_compressed(file, planes=planes))


def read_snapshots(folder: Path, epochs: int = 1000) -> np.ndarray:
    """uint8 (N, 225, 1, 28, 28) with N <= epochs + 1; raises UsageError when the run kept none or they cannot be read.

    The file is compressed, so it could unpack to anything: it is read only if it promises no more than that.
    """
    path = folder / "snapshots.npz"
    if not path.exists():
        raise cli.UsageError(f"{path}: not found; a run of --model vae with --latent-dim 2 keeps what --animate shows.")
    try:
        check_size(path)
        with open(path, "rb") as file:
            planes = load_arrays(file, {"planes": (epochs + 1) * SNAPSHOT_SIDE**2 * 28 * 28})["planes"]
        if planes.dtype != np.uint8 or not len(planes):
            raise ValueError("no planes of 8-bit greys")
        return planes.reshape(-1, SNAPSHOT_SIDE**2, 1, 28, 28)
    except Exception as error:  # a damaged zip is reported as almost any exception
        raise cli.UsageError(f"{path}: expected the snapshots of a run, found a damaged file; train again.") from error


def animate(folder: Path, epochs: int = 1000) -> Path:
    """Write folder/figures/manifold.gif, one frame for each epoch (40 at the most, evenly chosen), under 2 MB."""
    planes = read_snapshots(folder, epochs)
    shown = np.unique(np.linspace(0, len(planes) - 1, min(len(planes), MOST_FRAMES)).round().astype(int))
    first, *others = (frame(planes[epoch], f"epoch {epoch}") for epoch in shown)
    gif, times = io.BytesIO(), [400] * (len(shown) - 1) + [2500]  # milliseconds
    first.save(gif, "GIF", save_all=True, append_images=others, duration=times, loop=0)
    return write_atomically(folder / "figures" / "manifold.gif", lambda file: file.write(gif.getvalue()))


def frame(plane: np.ndarray, text: str) -> Image.Image:
    """A decoded plane (225, 1, 28, 28) as one picture in 16 greys, with a line of text above."""
    side, band = 28 * SNAPSHOT_SIDE, 26
    tiles = plane.reshape(SNAPSHOT_SIDE, SNAPSHOT_SIDE, 28, 28).swapaxes(1, 2).reshape(side, side)
    picture = Image.fromarray(np.pad(tiles // 17 * 17, ((band, 0), (0, 0)), constant_values=255))
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), 15)
    ImageDraw.Draw(picture).text((4, 4), text, fill=34, font=font)
    return picture


# --- command line -------------------------------------------------------------------------------------------------


def run(args: argparse.Namespace) -> None:
    from paper_run import measure, read_run
    from vae_common.data import load_dataset

    config, model, rows = read_run(args.run)
    if args.animate:
        print(f"wrote {animate(Path(args.run), config.epochs)}")
    data = load_dataset(config.dataset, "test", args.data_dir or config.data_dir)
    draw_run(Path(args.run), model, measure(model, data, config), rows, config)


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__.splitlines()[0], "--data-dir")
    parser.add_argument("run", metavar="RUN", help="a run folder written by paper/vae_paper.py")
    parser.add_argument("--animate", action="store_true", help="also figures/manifold.gif, how the plane was learnt")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
