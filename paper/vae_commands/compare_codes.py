"""Compare an autoencoder with PCA and a VAE: squared errors, and what each makes of z ~ N(0, I)."""

from pathlib import Path

from vae_common.config import RunConfig
from vae_common.config import flag as flag_of
from vae_common.data import ImageSet, binarize, load_dataset
from vae_common.errors import UsageError
from vae_common.evaluation import LIKELIHOODS, PIXELS
from vae_common.randomness import generator
from vae_common.run_folder import write_json
from vae_measures.held_out import measure
from vae_measures.linear_code import LinearCode, errors
from vae_plots.comparison import draw_comparison
from vae_training.run_files import read_run


def compare_codes(run: str, against: str, data_dir: str | None = None) -> None:
    """Carry out paper/evaluate.py RUN --against VAE: two finished runs of the same data and Z, RUN an autoencoder's.

    Prints the squared error per pixel of each on the test split, and writes against.json and pictures into RUN.
    """
    (config, ae, _), (vae_config, vae, _) = (read_run(folder) for folder in (run, against))
    refuse_unlike(run, config, against, vae_config)
    data_dir = data_dir or config.data_dir
    train, test = (load_dataset(config.dataset, split, data_dir) for split in ("train", "test"))
    x_train = binarize(train.images, config.binarize, generator(config.seed, "binarize"))
    pca = LinearCode.fit(x_train, config.latent_dim)
    ae, vae = (measure(model, test, config.binarize, config.seed) for model in (ae, vae))  # the same x for both
    found = errors(ae, vae, pca)
    print("\n" + table(found, test, config, vae_config) + "\n")
    write_json(Path(run) / "against.json", {**ae.on, "latent_dim": config.latent_dim, "vae": against, "mse": found})
    draw_comparison(Path(run), ae, vae, pca, config.seed)


def refuse_unlike(run: str, config: RunConfig, against: str, vae_config: RunConfig) -> None:
    """Raise UsageError unless the two runs are an AE and a VAE that can be compared."""
    for folder, found, model in ((run, config.model, "ae"), (against, vae_config.model, "vae")):
        if found != model:
            raise UsageError(
                f"{folder}: expected a run of --model {model}, found --model {found}; RUN is "
                "of --model ae, and --against names one of --model vae."
            )
    if vae_config.architecture == "masked":
        raise UsageError(
            f"{against}: a masked decoder draws images and has no mean image to compare; name another run."
        )
    for name in ("dataset", "binarize", "latent_dim"):
        one, other = getattr(config, name), getattr(vae_config, name)
        if one != other:
            flag = flag_of(name)
            raise UsageError(f"{against}: expected {flag} {one}, as in {run}, found {other}; compare like runs.")


def table(found: dict[str, float], test: ImageSet, config: RunConfig, vae_config: RunConfig) -> str:
    """The squared errors as lines of text, largest first."""
    lines = [
        f"{test.name} test: {len(test):,} images, {PIXELS[config.binarize]}, squared error per pixel, "
        f"Z = {config.latent_dim}",
        f"(AE trained {config.epochs} epochs on the {LIKELIHOODS[config.likelihood]} loss, "
        f"VAE {vae_config.epochs} on the {LIKELIHOODS[vae_config.likelihood]} likelihood)",
    ]
    return "\n".join(
        lines + [f"  {name:20} {value:.4f}" for name, value in sorted(found.items(), key=lambda item: -item[1])]
    )
