"""Compare an autoencoder with PCA and VAEs: squared errors, what each makes of z ~ N(0, I), and their latent spaces."""

from collections.abc import Sequence
from pathlib import Path

from vae_common.config import RunConfig
from vae_common.data import ImageSet, binarize
from vae_common.errors import UsageError
from vae_common.evaluation import LIKELIHOODS, PIXELS
from vae_common.randomness import generator
from vae_common.run_folder import refuse_unlike, write_json
from vae_measures import latent_space
from vae_measures.held_out import measure, measured_again
from vae_measures.linear_code import LinearCode, errors
from vae_measures.sample_quality import classifier_of
from vae_plots.comparison import draw_comparison
from vae_training.run_files import read_run


def compare_codes(run: str, against: Sequence[str], data_dir: str | None = None) -> None:
    """Carry out paper/evaluate.py RUN --against VAE ...: finished runs of the same data and Z, RUN an autoencoder's.

    Prints the squared error per pixel of RUN and of the first VAE on the test split, and for every run continuity and
    completeness; writes against.json and pictures into RUN.
    """
    runs = {folder: read_run(folder) for folder in (run, *against)}
    refuse_other_models([(folder, runs[folder][0]) for folder in (run, *against)])
    config = runs[run][0]
    train, test = (config.load(split, data_dir) for split in ("train", "test"))
    train, _ = train.hold_out(config.validation)
    x_train = binarize(train.images, config.binarize, generator(config.seed, "binarize"))
    pca = LinearCode.fit(x_train, config.latent_dim)
    measured = {}
    for folder, (own, model, rows) in runs.items():
        measured_again(folder, own, model, rows, test)
        measured[folder] = measure(model, test, config.binarize, config.seed)  # the same x and noise for all
    ae, vae = measured[run], measured[against[0]]
    found = errors(ae, vae, pca)
    print("\n" + table(found, test, config, runs[against[0]][0]) + "\n")
    classifier = classifier_of(train, config.binarize, config.seed)
    titles = {folder: model.title for folder, (_, model, _) in runs.items()}
    space = {folder: latent_space.report(one, classifier, config.seed) for folder, one in measured.items()}
    print(table_of_spaces(space, titles) + "\n")
    settings = {"latent_dim": config.latent_dim, "vae": against[0]}
    write_json(Path(run) / "against.json", {**ae.on, **settings, "mse": found, "latent_space": space})
    draw_comparison(Path(run), ae, vae, pca, [(titles[folder], one) for folder, one in space.items()], config.seed)


def refuse_other_models(runs: Sequence[tuple[str, RunConfig]]) -> None:
    """Raise UsageError unless the first run is an AE's, the second a VAE's, and all can be compared."""
    kinds = [("ae",), ("vae",), *(("ae", "vae") for _ in runs[2:])]
    for (folder, found), models in zip(runs, kinds, strict=True):
        if found.model not in models:
            raise UsageError(
                f"{folder}: expected a run of --model {' or '.join(models)}, found --model {found.model}; RUN is of "
                "--model ae, and --against names one of --model vae first."
            )
    for folder, found in runs[1:]:
        if found.prior != "normal":
            raise UsageError(f"{folder}: --against decodes draws of N(0, I), and this run has --prior {found.prior}.")
        if found.architecture == "masked":
            raise UsageError(
                f"{folder}: a masked decoder draws images and has no mean image to compare; name another run."
            )
    refuse_unlike(dict(runs), ("dataset", "binarize", "latent_dim"))


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


def table_of_spaces(found: dict[str, dict], titles: dict[str, str]) -> str:
    """Continuity and completeness of each run as lines of text."""
    width = max(map(len, found)) + 2
    lines = [
        "continuity (an even change of the image has 1 and 1) and completeness (the share recognised with confidence)",
        f"  {'':{width}}{'jump':>7}{'detour':>8}{'codes':>8}{'midway':>8}{'fitted':>8}{'N(0, I)':>9}",
    ]
    for folder, one in found.items():
        shares = "".join(f"{one['recognised'][name]:8.1%}" for name in ("codes", "midway", "fitted", "prior"))
        lines.append(f"  {folder:{width}}{one['jump']:7.2f}{one['detour']:8.2f}{shares}   {titles[folder]}")
    return "\n".join(lines)
