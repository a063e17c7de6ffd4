"""Place finished runs in the plane of rate and distortion, or train a sweep over beta and place each of its models."""

import contextlib
import json
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from vae_common import cli
from vae_common.config import BETAS, RunConfig, SweepConfig
from vae_common.data import ImageSet
from vae_common.errors import UsageError
from vae_common.evaluation import LIKELIHOODS, PIXELS
from vae_common.files import read_whole
from vae_common.plots.style import save_figure
from vae_common.run_folder import (
    RUN_FILES,
    hold_run_folder,
    make_run_folder,
    note_threads,
    read_config,
    refuse_unlike,
    short_names,
    unreadable,
    write_json,
    write_metrics,
)
from vae_measures.held_out import measure, measured_again
from vae_measures.rate_distortion_plane import place
from vae_plots.rate_distortion import BOUNDS, CAPTION, RUNS_CAPTION, rate_distortion_plane
from vae_training.factory import build_model
from vae_training.run_files import load_model, read_run, save_model
from vae_training.trainer import RunState, train

LEVEL = "rate_distortion"  # of config.json, and the name of the default folder

# --- finished runs ------------------------------------------------------------------------------------------------


def place_runs(run: Sequence[str], device: str = "auto", data_dir: str | None = None, samples: int = 2000) -> None:
    """Place finished runs of the same data in the plane: print and draw them, write rate_distortion.json into each.

    The picture goes into the folder of the first.
    """
    names, on = short_names(run), cli.torch_device(device)
    runs = {folder: read_run(folder) for folder in run}
    for folder, (config, model, _) in runs.items():
        refuse_without_place(folder, config, model)
    configs = {folder: config for folder, (config, _, _) in runs.items()}
    refuse_unlike(configs, ("dataset", "validation", "binarize", "likelihood"))
    config, _, _ = runs[run[0]]
    train, test = (config.load(split, data_dir) for split in ("train", "test"))
    splits, models = [train.hold_out(config.validation)[0], test], []
    for folder, (own, model, rows) in runs.items():
        measured_again(folder, own, model.to(on), rows, test)
        entry, ends = place(model, splits, own, samples)
        write_json(Path(folder) / "rate_distortion.json", {"models": [entry], "ends": ends})
        models.append({"name": names[folder], **entry} if len(run) > 1 else entry)
    report({"models": models, "ends": ends}, config, Path(run[0]))


def refuse_without_place(folder: str, config: RunConfig, model: nn.Module) -> None:
    """Raise UsageError for a run that has no rate, or a distortion of another kind."""
    if not model.has_posterior or model.conditional or model.mean_output:
        raise UsageError(
            f"{folder}: the plane is for --model vae with pixels as Bernoulli or squared error, and this is "
            f"--model {config.model} --architecture {config.architecture}; name another run."
        )


# --- the sweep ----------------------------------------------------------------------------------------------------


def train_new_sweep(config: SweepConfig) -> None:
    """Train and place one model after another; after each, folder/results.json is whole."""
    betas = tuple(sorted({float(f"{beta:g}") for beta in config.sweep or BETAS}))
    config = replace(config, sweep=betas).settled()
    earlier = models_in(Path(config.out)) if config.overwrite and config.out else []
    cli.torch_device(config.device)
    splits = [config.load(split) for split in ("train", "test")]
    config = replace(config, class_names=splits[0].class_names)
    folder = make_run_folder(config, LEVEL)
    remove_runs(earlier)
    train_sweep(config, folder, splits, {"models": []})


def resume_sweep(resume: str, **typed) -> None:
    """Go on with an interrupted sweep, exactly as it would have gone on.

    Raises UsageError when the folder holds no sweep, or the command names another setting than where data and device
    are.
    """
    folder = Path(resume)
    if folder.is_dir():
        hold_run_folder(folder)
    config, more = read_config(folder, LEVEL, SweepConfig)
    path = folder / "results.json"
    try:
        results = json.loads(read_whole(path)) if path.exists() else {"models": []}
        if tuple(model["beta"] for model in results["models"]) != tuple(config.sweep)[: len(results["models"])]:
            raise ValueError("its betas are others than those of config.json")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable(path, "the results of a sweep to go on with", error) from error
    config = replace(config, **typed)
    splits = [config.load(split) for split in ("train", "test")]
    note_threads(more.get("threads"))
    train_sweep(config, folder, splits, results)


def train_sweep(config: SweepConfig, folder: Path, splits: Sequence[ImageSet], results: dict) -> None:
    """Train the models that `results` lacks, then report."""
    try:
        for number in range(len(results["models"]), len(config.sweep)):
            one = config_of(config, number, folder)
            warm = folder / name_of(config.sweep[number - 1]) if number else None
            entry, results["ends"] = place(train_one(one, splits, warm), splits, one, config.samples)
            results["models"].append(entry)
            write_json(folder / "results.json", results)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; go on with --resume {shlex.quote(str(folder))}") from None
    report(results, config, folder)


def name_of(beta: float) -> str:
    """The folder of one model within the sweep's."""
    return f"beta-{beta:g}"


def config_of(config: SweepConfig, number: int, folder: Path) -> RunConfig:
    """The settings of one model of the sweep: its folder is a run that the other commands can read."""
    names = RunConfig.settings(LEVEL)
    shared = {name: getattr(config, name) for name in names if name not in ("out", "overwrite", "epochs")}
    epochs = config.epochs if number else config.first_epochs or 3 * config.epochs
    out = str(folder / name_of(config.sweep[number]))
    return RunConfig(
        **shared, epochs=epochs, beta=config.sweep[number], anneal_epochs=epochs, out=out, overwrite=True
    ).settled()


def train_one(config: RunConfig, splits: Sequence[ImageSet], warm: Path | None) -> nn.Module:
    """Train one beta-VAE, from the weights in the run `warm` where one is given, and write it as a run of its own."""
    train_set, test_set = splits
    model = build_model(config, len(train_set))
    if warm is not None:
        load_model(model, config.model, warm / "weights.safetensors")
    state = RunState.start(model.to(cli.torch_device(config.device)), config)

    def evaluate(epoch: int) -> dict:
        start = time.perf_counter()
        return measure(model, test_set, config.binarize, config.seed).row(epoch, time.perf_counter() - start)

    origin = f", from the weights of {warm}" if warm else ""
    print(f"\nbeta {config.beta:g}, {cli.counted(config.epochs, 'epoch')}{origin}")
    for _ in train(state, train_set, config, evaluate):
        print(cli.format_row(state.rows[-1]))
    folder = make_run_folder(config, "paper")
    write_metrics(folder / "metrics.jsonl", state.rows)
    print(f"wrote {folder / 'metrics.jsonl'}\nwrote {save_model(model, config.model, folder / 'weights.safetensors')}")
    write_json(folder / "evaluation.json", measure(model, test_set, config.binarize, config.seed).results())
    return model


def models_in(folder: Path) -> list[Path]:
    """The folders of the models of the sweep in `folder`, as its config.json names them; none where it is no sweep."""
    try:
        config = json.loads(read_whole(folder / "config.json"))
        names = [f"beta-{beta:g}" for beta in config["sweep"]] if config["level"] == LEVEL else []
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [folder / name for name in names if (folder / name).is_dir() and not (folder / name).is_symlink()]


def remove_runs(folders: Sequence[Path]) -> None:
    """Delete the files that a run has written into each of the folders, and the folders that are empty then."""
    for folder in folders:
        for file in [file for pattern in RUN_FILES for file in folder.glob(pattern)]:
            file.unlink()
        for emptied in (folder / "figures", folder):
            with contextlib.suppress(OSError):  # one that holds something stays
                emptied.rmdir()


# --- in words and in a picture -------------------------------------------------------------------------------------


def table(models: Sequence[Mapping]) -> str:
    """The entries of results.json as lines of text; those of several runs have names."""
    width = max(8, *(len(model.get("name", "")) for model in models))
    lines = [
        f"{'':{width}}      train            test                    active  I(x; z)         KL(q(z)||p(z))  total",
        f"{'run' if 'name' in models[0] else 'beta':>{width}}       R       D       R       D     -elbo      units  "
        "(train)         (train)         correlation",
    ]
    for model in models:
        numbers = [model[split][key] for split in ("train", "test") for key in ("rate", "distortion")]
        numbers = "".join(f"{value:8.2f}" for value in [*numbers, -model["test"]["elbo"]])
        beta = "-" if model["beta"] is None else f"{model['beta']:g}"
        parts = [model[key] for key in ("information", "aggregate_kl", "total_correlation")]
        parts = "".join(f"{part['value']:8.2f} +- {part['error']:.2f}" for part in parts)
        lines.append(f"{model.get('name', beta):>{width}}{numbers}{model['active_units']:9d} {parts}")
    return "\n".join(lines)


def known(ends: Mapping[str, Mapping], config: RunConfig) -> str:
    """The end points of both splits as lines of text."""
    likelihood = f"{LIKELIHOODS[config.likelihood]} likelihood"
    lines = [f"{config.dataset}, {PIXELS[config.binarize]}, {likelihood}, nats per image; known without a model:"]
    for split, end in ends.items():
        lines += [
            f"  {split}, N = {end['images']:,}",
            f"    D = {end['without_z']:.2f} at R = 0, every image decoded as the mean image of train",
            f"    D >= {end['floor']:.2f}, the entropy of the pixels" if end["floor"] else "    D >= 0",
            f"    I(x; z) <= ln N = {math.log(end['images']):.2f}",
        ]
        if end["entropy"] is not None:
            lines.append(f"    R + D >= H = {end['entropy']:.2f}, of a model that knew these images and no others")
    return "\n".join(lines)


def report(results: Mapping, config: RunConfig, folder: Path) -> None:
    """Print what was measured, and draw it into folder/figures."""
    print("\n" + known(results["ends"], config) + "\n\n" + table(results["models"]) + "\n")
    title = f"Rate and distortion on {config.dataset}, {PIXELS[config.binarize]}"
    several = "name" in results["models"][0]
    caption = (RUNS_CAPTION if several else CAPTION) + (BOUNDS if config.likelihood == "bernoulli" else "")
    figure = rate_distortion_plane(results["models"], results["ends"], title, caption)
    name = "rate_distortion_runs" if several else "rate_distortion_plane"
    print(f"wrote {save_figure(figure, folder / 'figures' / f'{name}.png')}")
