"""What level 3 shows of the latent space and of the decoder: which arrays to look at, and what to see in them.

A picture is a function of an evaluation and of a random generator that returns a Figure; its name is that of the file.
Those that all levels share are in vae_common/plots/run_pictures.py, the drawing itself is in charts.py beside it.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from vae_common.cli import later
from vae_common.evaluation import Evaluation
from vae_common.plots import charts, run_pictures, style

PCA, TSNE = later("sklearn.decomposition", "PCA"), later("sklearn.manifold", "TSNE")  # they take seconds to import
EMBEDDED = 700  # test images that t-SNE is given: its time grows faster than their number

# --- what the latent space looks like -----------------------------------------------------------------------------


def aggregate(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """All sampled z together, dimension by dimension, against the prior."""
    dims, z = run_pictures.most_active(measured, 8), measured.z
    dims = np.sort(dims) if len(dims) == 2 else dims
    learned = None
    if measured.prior_codes is not None:
        eps = (rng.standard_normal((5000, len(measured.active))) for _ in range(10))
        learned = np.concatenate([measured.as_prior(part, rng) for part in eps])[:, dims]
    return charts.against_prior(
        z[:, dims], [f"z[{dim}]" for dim in dims], "All posteriors together, against the prior", learned=learned,
        caption="Samples of the prior decode to good images where the codes of real images fill it. In a gap the "
        "decoder was hardly trained; codes beyond the prior are hardly ever sampled. Largest KL first.",
    )  # fmt: skip


def priors(runs: Mapping[str, Evaluation], rng: np.random.Generator) -> Figure:
    """The latent planes of several runs side by side, under their priors, and what these draw; Z = 2."""
    axis, density, images = np.linspace(-5, 5, 101, dtype=np.float32), {}, {}
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    for name, measured in runs.items():
        ratio = 0 if measured.log_prior_ratio is None else measured.log_prior_ratio(grid)
        density[name] = np.exp(ratio - (grid**2).sum(axis=1) / 2).reshape(len(axis), -1)
        eps = rng.standard_normal((24, 2), dtype=np.float32)
        images[name] = measured.decode(measured.as_prior(eps, rng))
    return charts.planes(
        {name: measured.z for name, measured in runs.items()}, density, images, axis,
        "All posteriors together, and the prior",
        caption="Grey: one code of each test image, darker where they lie closer. Lines hold 50, 90 and 99 % of the "
        "prior. Beneath: samples of it, decoded.",
    )  # fmt: skip


def sigma(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """The spread of the posterior standard deviations over the images, by dimension."""
    return charts.sigma_per_dimension(
        measured.std, "How precisely each latent coordinate is known",
        caption="A small posterior sigma means that the image determines the coordinate; at 1 it says nothing of it.",
    )  # fmt: skip


def embedding(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """mu in two dimensions: PCA beside t-SNE."""
    some = np.sort(rng.permutation(len(measured.mu))[:EMBEDDED])
    mu = measured.mu.astype(np.float64)
    pca = PCA(2, random_state=0).fit(mu)
    neighbours = min(30.0, (len(some) - 1) / 3)
    tsne = TSNE(perplexity=neighbours, init="pca", learning_rate="auto", random_state=0).fit_transform(mu[some])
    share = pca.explained_variance_ratio_.sum()
    return charts.projections(
        {f"PCA: {share:.0%} of the variance": pca.transform(mu)[some], "t-SNE: who is close to whom": tsne},
        measured.data.labels[some], measured.data.class_names, f"The {mu.shape[1]} dimensions of mu seen in two",
        caption=f"{len(some)} test images. PCA is a shadow: classes that overlap in it may lie apart. t-SNE keeps "
        "neighbours together; its distances between clusters, and their sizes, mean nothing.",
    )  # fmt: skip


# --- what the decoder makes of it ---------------------------------------------------------------------------------


def best_to_worst(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """The ten test images with the best -elbo, ten around the median, the ten worst."""
    return ranked(
        measured, measured.recon + measured.kl, "-elbo",
        "The test images that the model explains best, at the median, and worst",
        "Simple shapes with little ink cost few nats. Look at the worst: are they badly drawn, or of a kind that the "
        "model has not learned?",
    )  # fmt: skip


def ranked(measured: Evaluation, cost: np.ndarray, name: str, title: str, caption: str) -> Figure:
    """Originals above reconstructions of the ten images of the lowest cost (N,), the ten around the median and the ten
    worst, with the cost beneath."""
    places = ranks(cost)
    z = measured.z[places]
    return charts.reconstructions(
        measured.x[places], measured.decode_like(z, places), cost[places], title, caption,
        number=f"{name} (nats)", groups=("best", "median", "worst") if len(places) == 30 else (),
    )  # fmt: skip


def ranks(cost: np.ndarray, count: int = 10) -> np.ndarray:
    """Indices of the `count` images of the lowest cost, of `count` around the median and of the `count` worst."""
    order = np.argsort(cost, kind="stable")
    if len(order) < 3 * count:
        return order
    middle = (len(order) - count) // 2
    return np.concatenate([order[:count], order[middle : middle + count], order[-count:]])


def arithmetic(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """Codes moved by the difference of two class means."""
    names, steps = measured.data.class_names, np.linspace(0, 1, 6)
    strips, labels = [], []
    for start, end in run_pictures.pairs_of_classes(measured, 4):
        minus, plus = measured.data.labels[[start, end]]
        direction = class_direction(measured.mu, measured.data.labels, plus, minus)
        z = (measured.mu[start] + steps[:, None] * direction).astype(np.float32)
        strips += [measured.x[[start]], measured.decode_like(z, start)]
        labels.append(f"a {names[minus]} - mean {names[minus]} + mean {names[plus]}")
    return charts.image_grid(
        np.concatenate(strips), 1 + len(steps), "Arithmetic on classes", labels,
        ["image", *(f"{step:.0%}" for step in steps)],
        caption="From left to right, more and more of (mean code of another class - mean code of its own) is added to "
        "the code of one image. The class changes; with enough dimensions slant and thickness stay.",
    )  # fmt: skip


def class_direction(mu: np.ndarray, labels: np.ndarray, plus: int, minus: int) -> np.ndarray:
    """Mean code (Z,) of class `plus` less that of class `minus`."""
    return mu[labels == plus].mean(axis=0) - mu[labels == minus].mean(axis=0)


# --- conditional: the label is given, z is the style --------------------------------------------------------------


def class_by_style(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """One z in each row, decoded as every class: of a conditional model."""
    z, names = rng.standard_normal((8, measured.mu.shape[1]), dtype=np.float32), class_names(measured)
    return charts.image_grid(
        each_class(measured, z), len(names), f"{'Ten' if len(names) == 10 else len(names)} classes, eight styles",
        [f"z no. {k}" for k in range(1, 9)], names,
        caption="Each row has one z, drawn from N(0, I), and only the label changes. Slant, width and thickness stay "
        "the same along a row: the label says which class, and z how it is drawn.",
    )  # fmt: skip


def each_class(measured: Evaluation, z: np.ndarray) -> np.ndarray:
    """Latents (M, Z) decoded as each class that is shown, (M * classes, 1, 28, 28), those of one z side by side."""
    classes = len(class_names(measured))
    return measured.decode(np.repeat(z, classes, axis=0), np.tile(np.arange(classes), len(z)))


def class_names(measured: Evaluation) -> tuple[str, ...]:
    """The classes that pictures with a column for each show: all, or the first of many."""
    return measured.data.class_names[: style.MOST_CLASSES]


def relabelled(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """Test images decoded with their own label and with every other one."""
    names = class_names(measured)
    firsts = np.unique(measured.data.labels, return_index=True)[1][: len(names)]
    own = measured.decode_like(measured.mu[firsts], firsts)
    others = each_class(measured, measured.mu[firsts]).reshape(len(firsts), len(names), 1, 28, 28)
    rows = np.concatenate([measured.x[firsts][:, None], own[:, None], others], axis=1)
    return charts.image_grid(
        rows.reshape(-1, 1, 28, 28), 2 + len(names), "The same z, another label",
        [f"a {names[measured.data.labels[i]]}" for i in firsts], ["image", "own", *names],
        caption="Test images, reconstructed with their own label, then with every label. If the handwriting stays "
        "while the class changes, z holds the style alone.",
    )  # fmt: skip


def styles(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """The posterior means in the plane, of a conditional model."""
    return run_pictures.scatter(
        measured, "Where the encoder puts the test images, knowing their labels",
        "The classes overlap: the label is given, so z need not say it and holds the style. "
        "An ellipse is the posterior of one image.",
    )  # fmt: skip


# --- autoencoder: codes, but no distribution of codes -------------------------------------------------------------


def best_to_worst_by_recon(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """The ten test images with the least recon, ten around the median, the ten with the largest."""
    return ranked(
        measured, measured.recon, "recon", "The test images reconstructed best, at the median, and worst",
        "With no noise and no KL, images are copied more sharply than by a VAE of the same Z.",
    )  # fmt: skip


def decoded_noise(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """What the decoder of an autoencoder makes of N(0, I)."""
    z = rng.standard_normal((80, measured.mu.shape[1]), dtype=np.float32)
    return charts.image_grid(
        measured.decode(z), 16, "What an autoencoder makes of N(0, I)",
        caption="Not a generative model: nothing in its training puts codes where N(0, I) is (their spread is "
        f"{measured.mu.std(axis=0).mean():.1f}, not 1), so the decoder is given points it was never trained on.",
    )  # fmt: skip


def codes(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """The codes of an autoencoder in the plane, by class."""
    return run_pictures.scatter(
        measured, "Where the autoencoder puts the test images",
        "Nothing pulls the codes to the origin or to unit scale: compare the axes with those of a VAE.", prior=False,
    )  # fmt: skip


def between_images(measured: Evaluation, rng: np.random.Generator) -> Figure:
    """Paths between the codes of two pairs of test images."""
    pairs = run_pictures.pairs_of_classes(measured, 2)
    ends = {run_pictures.between(measured, *pair): measured.mu[list(pair)] for pair in pairs}
    return run_pictures.lerp_and_slerp(
        measured, ends, "Between two test images",
        "Halfway the decoder is given codes that no training image had: expect blends rather than digits.",
    )  # fmt: skip
