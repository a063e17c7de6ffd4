"""Which pictures a run of level 3 gets."""

from pathlib import Path

from vae_common.config import RunConfig
from vae_common.plots import run_pictures
from vae_plots import latent, vq
from vae_plots.training import draw_training

# By --model; the first two are those to look at first.
_OF_POSTERIORS = (run_pictures.traversals, run_pictures.kl, latent.sigma, latent.aggregate, latent.best_to_worst)
PICTURES = {
    "vae": (
        *(
            run_pictures.manifold,
            run_pictures.reconstructions,
            run_pictures.samples,
            run_pictures.latent,
            run_pictures.interpolation,
        ),
        *(*_OF_POSTERIORS, latent.arithmetic, latent.embedding),
    ),
    "cvae": (latent.class_by_style, run_pictures.reconstructions, latent.relabelled, latent.styles, *_OF_POSTERIORS),
    "ae": (latent.best_to_worst_by_recon, latent.decoded_noise, latent.codes, latent.between_images, latent.embedding),
    "vqvae": vq.ALL,
}


def draw_run(folder: Path, measured, rows: list[dict], config: RunConfig) -> None:
    """Draw every picture of a run from its evaluation into folder/figures, and say which to look at first."""
    chosen = PICTURES[config.model]
    if config.latent_dim <= 2:
        chosen = [picture for picture in chosen if picture is not latent.embedding]
    if len(measured.data.class_names) == 1:
        chosen = [picture for picture in chosen if picture is not latent.arithmetic]
    if config.prior != "normal":  # these are about N(0, I)
        of_normal = (run_pictures.kl, latent.sigma, run_pictures.interpolation)
        chosen = [picture for picture in chosen if picture not in of_normal]
    run_pictures.draw(folder, measured, chosen, config.seed)
    if config.model == "vqvae":
        return
    draw_training(folder, measured, rows, config)
    first, second = (folder / "figures" / f"{picture.__name__}.png" for picture in chosen[:2])
    print(f"\nlook first at {first} and {second}")
    if (folder / "snapshots.npz").exists():
        print(f"python paper/latent_figures.py {folder} --animate shows how the plane was learnt")
