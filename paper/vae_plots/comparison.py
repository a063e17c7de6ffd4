"""Pictures that compare an autoencoder, PCA and a VAE with the same number of latent dimensions."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vae_common.evaluation import Evaluation
from vae_common.plots import charts, style
from vae_common.plots.style import save_figure
from vae_common.randomness import generator
from vae_measures.linear_code import LinearCode
from vae_models.autoencoder import Autoencoder

COLUMNS = 12  # images in a row of the pictures


def draw_comparison(
    folder: Path, ae: Evaluation, vae: Evaluation, pca: LinearCode, found: Sequence[tuple[str, dict]], seed: int
) -> None:
    """Draw reconstructions, samples, the two clouds of codes, and `spaces` of all runs into folder/figures."""
    z = generator(seed, "figures").standard_normal((COLUMNS, ae.mu.shape[1]), dtype=np.float32)
    pictures = {
        "reconstructions": reconstructions(ae, vae, pca),
        "samples": samples(ae, vae.decode, pca, z),
        "codes-ae": latent(
            ae,
            "The codes of the autoencoder",
            "Nothing sets their scale, whereas z ~ N(0, I) mostly lies within 2 of the origin",
        ),
        "codes-vae": latent(
            vae, "The posterior means of the VAE", "The KL pulls them to where z ~ N(0, I) lies, the circles"
        ),
        "spaces": spaces(found),
    }
    for name, figure in pictures.items():
        print(f"wrote {save_figure(figure, folder / 'figures' / f'against-{name}.png')}")


def reconstructions(ae: Evaluation, vae: Evaluation, pca: LinearCode) -> Figure:
    """Test images, and what PCA, the VAE and the autoencoder make of them."""
    x = ae.x[:COLUMNS]
    rows = [x, pca.decode(pca.encode(x)), vae.decode(vae.mu[:COLUMNS]), ae.decode(ae.mu[:COLUMNS])]
    return charts.image_grid(
        np.concatenate(rows).clip(0, 1), COLUMNS, f"Test images from {ae.mu.shape[1]} numbers each",
        row_labels=["original", "PCA", "VAE", "AE"],
        caption="PCA adds and subtracts fixed images, which leaves shadows. The VAE, here at z = mu, gives up detail "
        "for codes that can be sampled; the AE does not have to.",
    )  # fmt: skip


def samples(ae: Evaluation, decode_vae: Callable[..., np.ndarray], pca: LinearCode, z: np.ndarray) -> Figure:
    """The same z (M, Z) ~ N(0, I), decoded by each."""
    fitted = ae.mu.mean(axis=0) + ae.mu.std(axis=0) * z
    rows = [decode_vae(z), ae.decode(z), ae.decode(fitted.astype(np.float32)), pca.decode(pca.std * z)]
    return charts.image_grid(
        np.concatenate(rows).clip(0, 1), COLUMNS, "The same z ~ N(0, I), decoded by each",
        row_labels=["VAE", "AE", "AE, z rescaled", "PCA, z rescaled"],
        caption="Only the VAE was trained to have its codes there; the AE's decoder never saw such z. Rescaled: z is "
        "given the mean and the standard deviation of the codes, which helps, but the codes are not Gaussian.",
    )  # fmt: skip


def latent(measured: Evaluation, title: str, caption: str) -> Figure:
    """The codes in the plane of their two most varied dimensions, by class."""
    variance = measured.mu.var(axis=0)
    dims = np.sort(np.argsort(-variance, kind="stable")[:2])
    spread = f": the standard deviations are {variance[dims].max() ** 0.5:.1f} and {variance[dims].min() ** 0.5:.1f}."
    shown = f" Shown: the two of {len(variance)} dimensions with the largest variance." if len(variance) > 2 else ""
    mu = measured.mu[:, dims] if len(dims) == 2 else np.repeat(measured.mu, 2, axis=1)
    return charts.latent_scatter(
        mu, measured.data.labels, measured.data.class_names, title, [f"mu[{dim}]" for dim in np.resize(dims, 2)],
        caption=caption + spread + shown,
    )  # fmt: skip


@style.styled
def spaces(found: Sequence[tuple[str, dict]]) -> Figure:
    """Completeness against continuity of each run, from its title and its `latent_space.report`: a full mark at codes
    from its prior or, of an autoencoder, from the Gaussian fitted to its codes, an open one halfway between test codes.
    """
    fig = style.new_figure(
        "Continuity and completeness", "Higher and further to the left is better; one mark for each run. Full: codes "
        "drawn where the model would sample, N(0, I), or for an autoencoder the Gaussian fitted to its codes. Open: "
        "codes halfway between those of two test images.", height=4.4,
    )  # fmt: skip
    ax, titles = fig.subplots(), list(dict.fromkeys(title for title, _ in found))
    for k, (title, one) in enumerate(found):
        first = title not in [earlier for earlier, _ in found[:k]]
        mark = dict(ls="", marker="os^Dv"[titles.index(title) % 5], color=style.LINES[titles.index(title) % 4], ms=8)
        drawn = one["recognised"]["fitted" if title == Autoencoder.title else "prior"]
        ax.plot(one["jump"], 100 * one["recognised"]["midway"], mfc="none", **mark)
        ax.plot(one["jump"], 100 * drawn, label=title if first else None, **mark)
    ax.set(xlabel="continuity: largest change of the image in one step, over the mean (1: even)")
    ax.set(ylabel="completeness: % recognised with confidence", ylim=(0, 100))
    ax.set_xlim(1, 1.05 * max(one["jump"] for _, one in found))
    ax.grid()
    ax.legend(loc="best", frameon=True)
    return style.settle(fig)
