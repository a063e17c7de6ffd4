"""Rate and distortion: what beta trades for what, from codes that say nothing to codes that copy the image.

`python paper/rate_distortion.py --sweep` trains one beta-VAE after another, each from the weights of the one before,
and draws them in the plane of rate R = KL(q(z|x) || p(z)) and distortion D = -E log p(x|z), both in nats per image.
`python paper/rate_distortion.py RUN` places one finished run there. What is known for certain about the plane (Alemi et
al. 2018, "Fixing a Broken ELBO", sec. 2):

    H - D <= I(x; z) <= R          the code holds what it has cost at the most, what it has saved at the least
    -elbo = R + D >= H             lines of slope -1 hold models of equal elbo
    dD/dR = -beta                  on the frontier, where D + beta R is least; beta = 1 touches the best elbo
    R = 0                          collapse: the best decoder that knows nothing is the mean image
    D = entropy of the pixels      copying: no decoder does better, and N images need no more than ln N nats for it
"""

import argparse
import contextlib
import json
import math
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from vae_common import canvas, cli
from vae_common.data import entropy_floor
from vae_common.files import read_whole
from vae_common.measured import LIKELIHOODS, PIXELS

LEVEL = "rate_distortion"  # of config.json, and the name of the default folder
BETAS = (0.03, 0.1, 0.3, 1, 3, 10, 30, 100)

# --- the exact ends of the plane ----------------------------------------------------------------------------------


def mean_image(x: np.ndarray) -> np.ndarray:
    """Pixels x (N, 1, 28, 28) in [0, 1] -> (1, 28, 28), their mean, one grey level of 255 added to light and to dark.

    So a pixel that is never lit in the N images has a mean above 0, and an image where it is lit a finite distortion.
    """
    return (255 * x.sum(axis=0, dtype=np.float64) + 1) / (255 * len(x) + 2)


def distortion_without_z(x: np.ndarray, mean: np.ndarray, likelihood: str) -> float:
    """D at R = 0: every image of x (N, 1, 28, 28) decoded as `mean` (1, 28, 28), nats per image.

    "bernoulli": sum over pixels of the cross-entropy of x's mean and `mean`, as -log p(x|z) is linear in x; "gaussian":
    the squared error. With `mean` from the training split it is what a factorised decoder that ignores z reaches.
    """
    p = x.mean(axis=0, dtype=np.float64)
    if likelihood == "gaussian":
        return float(((x - mean) ** 2).sum() / len(x))
    return float(-(p * np.log(mean) + (1 - p) * np.log1p(-mean)).sum())


def entropy_of_set(x: np.ndarray) -> float:
    """H, in nats, of: draw one of the images x (N, 1, 28, 28), then each pixel with its grey value as probability.

    ln N where all differ, plus the pixels' own entropy. Exact for pixels of 0 and 1; for grey ones an upper bound, met
    when a binarized image still tells which one it was drawn from.
    """
    counts = np.unique(x.reshape(len(x), -1), axis=0, return_counts=True)[1] / len(x)
    return float(-(counts * np.log(counts)).sum()) + pixel_entropy(x)


def pixel_entropy(x: np.ndarray, at_once: int = 5000) -> float:
    """`entropy_floor` in bounded memory."""
    parts = [x[start : start + at_once] for start in range(0, len(x), at_once)]
    return sum(entropy_floor(part) * len(part) for part in parts) / len(x)


def end_points(x: np.ndarray, mean: np.ndarray, likelihood: str) -> dict[str, float | int | None]:
    """What is known of a split before any training: images N, D without z, the floor of D, H (None for "gaussian")."""
    bernoulli = likelihood == "bernoulli"
    return {
        "images": len(x),
        "without_z": distortion_without_z(x, mean, likelihood),
        "floor": pixel_entropy(x) if bernoulli else 0.0,
        "entropy": entropy_of_set(x) if bernoulli else None,
    }


# --- one model in the plane ---------------------------------------------------------------------------------------


def place(model, splits: Sequence, config: argparse.Namespace, samples: int) -> tuple[dict, dict]:
    """Measure a model on its train and test ImageSets: its entry in results.json, and the end points of both splits.

    Rate and distortion are those of one sampled z per image; I(x; z) is that of the training images and their index.
    Raises EstimateError when an estimate of it is impossible.
    """
    from mutual_information import decompose
    from paper_run import measure
    from vae_common.data import generator

    train, test = (measure(model, data, config) for data in splits)
    measurements = {"train": train, "test": test}
    parts = decompose(train.mu, train.logvar, samples, generator(config.seed, "evaluation", 2))
    plain = config.capacity is None and not config.free_bits and config.importance_samples == 1
    entry = {"beta": config.beta if plain else None, "active_units": int(test.active.sum())}
    for name, measured in measurements.items():
        rate, distortion = float(measured.kl.mean()), float(measured.recon.mean())
        entry[name] = {"rate": rate, "distortion": distortion, "elbo": -(rate + distortion)}
    mean = mean_image(train.x)
    ends = {name: end_points(measured.x, mean, config.likelihood) for name, measured in measurements.items()}
    return {**entry, **asdict(parts)}, ends


def table(models: Sequence[Mapping]) -> str:
    """The entries of results.json as lines of text."""
    lines = [
        "              train            test                    active  I(x; z)         KL(q(z)||p(z))  total",
        "    beta       R       D       R       D     -elbo      units  (train)         (train)         correlation",
    ]
    for model in models:
        numbers = [model[split][key] for split in ("train", "test") for key in ("rate", "distortion")]
        numbers = "".join(f"{value:8.2f}" for value in [*numbers, -model["test"]["elbo"]])
        beta = "-" if model["beta"] is None else f"{model['beta']:g}"
        parts = [model[key] for key in ("information", "aggregate_kl", "total_correlation")]
        parts = "".join(f"{part['value']:8.2f} +- {part['error']:.2f}" for part in parts)
        lines.append(f"{beta:>8}{numbers}{model['active_units']:9d} {parts}")
    return "\n".join(lines)


def known(ends: Mapping[str, Mapping], config: argparse.Namespace) -> str:
    """The end points of both splits as lines of text."""
    likelihood = f"{LIKELIHOODS[config.likelihood]} likelihood"
    lines = [f"{config.dataset}, {PIXELS[config.binarize]}, {likelihood}, nats per image; known without a model:"]
    for split, end in ends.items():
        lines += [
            f"  {split}, N = {end['images']:,}",
            f"    D = {end['without_z']:.2f} at R = 0, every image decoded as the mean image of train",
            f"    D >= {end['floor']:.2f}, the entropy of the pixels" * bool(end["floor"]) or "    D >= 0",
            f"    I(x; z) <= ln N = {math.log(end['images']):.2f}",
        ]
        if end["entropy"] is not None:
            lines.append(f"    R + D >= H = {end['entropy']:.2f}, of a model that knew these images and no others")
    return "\n".join(lines)


# --- the sweep ----------------------------------------------------------------------------------------------------


def sweep(args: argparse.Namespace) -> int | None:
    """Train and place one model after another; after each, folder/results.json is whole. Returns 130 after Ctrl-C."""
    from vae_common.data import load_dataset

    folder, args, results = go_on(args) if args.resume is not None else (None, args, {"models": []})
    args.sweep = sorted({float(f"{beta:g}") for beta in args.sweep or BETAS})
    args.latent_dim = args.latent_dim or 20
    cli.torch_device(args.device)
    splits = [load_dataset(args.dataset, split, args.data_dir) for split in ("train", "test")]
    if folder is not None:
        cli.note_threads(args)
    else:
        earlier = models_in(Path(args.out)) if args.overwrite and args.out else []
        folder = cli.make_run_folder(args, LEVEL)
        remove_runs(earlier)
    try:
        for number in range(len(results["models"]), len(args.sweep)):
            config = settings_of(args, number, folder)
            model = train_one(config, splits, warm=folder_of(args, number - 1, folder) if number else None)
            entry, results["ends"] = place(model, splits, config, args.samples)
            results["models"].append(entry)
            cli.write_json(folder / "results.json", results)
    except KeyboardInterrupt:
        print(f"\ninterrupted; go on with --resume {shlex.quote(str(folder))}", file=sys.stderr)
        return 130
    report(results, args, folder)
    return None


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
        for file in [file for pattern in cli.RUN_FILES for file in folder.glob(pattern)]:
            file.unlink()
        for emptied in (folder / "figures", folder):
            with contextlib.suppress(OSError):  # one that holds something stays
                emptied.rmdir()


def folder_of(args: argparse.Namespace, number: int, folder: Path) -> Path:
    return folder / f"beta-{args.sweep[number]:g}"


def settings_of(args: argparse.Namespace, number: int, folder: Path) -> argparse.Namespace:
    """The settings of one model of the sweep, under the names that paper/vae_paper.py has for them, so that its folder
    is a run that the other commands can read."""
    shared = ("dataset", "data_dir", "latent_dim", "batch_size", "lr", "seed", "device", "likelihood", "binarize")
    epochs = args.epochs if number else args.first_epochs or 3 * args.epochs
    price = {"beta": args.sweep[number], "anneal": "none", "anneal_epochs": epochs, "free_bits": 0.0, "capacity": None}
    return argparse.Namespace(
        **{name: getattr(args, name) for name in shared}, **price, epochs=epochs, model="vae", trunk="conv",
        importance_samples=1, mc_samples=1, codes=512, codebook="ema", prior_epochs=epochs, amp=False, compile=False,
        weights=None, resume=None, overwrite=True, out=str(folder_of(args, number, folder)),
    )  # fmt: skip


def train_one(config: argparse.Namespace, splits: Sequence, warm: Path | None):
    """Train one beta-VAE, from the weights in the run `warm` where one is given, and write it as a run of its own."""
    from paper_run import build_model, load_model, measure, save_model
    from trainer import RunState, Settings, train
    from vae_common.measured import about

    train_set, test_set = splits
    settings = Settings(config.epochs, config.batch_size, config.lr, config.seed, config.binarize)
    model = build_model(config, settings.steps_per_epoch(len(train_set)))
    if warm is not None:
        load_model(model, config.model, warm / "weights.safetensors")
    state = RunState.start(model.to(cli.torch_device(config.device)), settings)

    def evaluate(epoch: int) -> dict:
        start = time.perf_counter()
        return measure(model, test_set, config).row(epoch, config, time.perf_counter() - start)

    origin = f", from the weights of {warm}" if warm else ""
    print(f"\nbeta {config.beta:g}, {cli.counted(config.epochs, 'epoch')}{origin}")
    for _ in train(state, train_set, settings, evaluate, about(config)):
        print(cli.format_row(state.rows[-1]))
    folder = cli.make_run_folder(config, "paper")
    cli.write_metrics(folder / "metrics.jsonl", state.rows)
    print(f"wrote {folder / 'metrics.jsonl'}\nwrote {save_model(model, config.model, folder / 'weights.safetensors')}")
    cli.write_json(folder / "evaluation.json", measure(model, test_set, config).evaluation(config))
    return model


def go_on(args: argparse.Namespace) -> tuple[Path, argparse.Namespace, dict]:
    """--resume: the folder of the sweep, its settings, and what results.json already holds.

    Raises UsageError when the folder holds no sweep, or the command names another setting.
    """
    folder = Path(args.resume)
    refuse_others(args, "--resume", "resume", "device", "data_dir")
    if folder.is_dir():
        cli.hold_run_folder(folder)
    try:
        config = json.loads(read_whole(folder / "config.json"))
        if config["level"] != LEVEL:
            raise ValueError(f"it is a run of level {config['level']!r}")
        path = folder / "results.json"
        results = json.loads(read_whole(path)) if path.exists() else {"models": []}
        if [model["beta"] for model in results["models"]] != config["sweep"][: len(results["models"])]:
            raise ValueError("its betas are others than those of config.json")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise cli.UsageError(
            f"{folder}: expected a sweep to go on with, found none that can be read ({reason})."
        ) from error
    here = {name: value for name, value in vars(args).items() if name in ("device", "data_dir") and name in args.typed}
    return folder, argparse.Namespace(**{**config, **here}), results


# --- command line -------------------------------------------------------------------------------------------------


def place_run(args: argparse.Namespace) -> None:
    """Place the finished run args.run in the plane: print it, draw it, write rate_distortion.json beside it."""
    from paper_run import read_run
    from vae_common.data import load_dataset

    refuse_others(args, "RUN", "run", "device", "data_dir", "samples")
    device = cli.torch_device(args.device)
    config, model, _ = read_run(args.run)
    if config.model != "vae" or config.trunk == "linear":
        raise cli.UsageError(
            f"{args.run}: the plane is for --model vae with pixels as Bernoulli or squared error, "
            f"and this is --model {config.model} --trunk {config.trunk}; name another run."
        )
    splits = [load_dataset(config.dataset, split, args.data_dir or config.data_dir) for split in ("train", "test")]
    entry, ends = place(model.to(device), splits, config, args.samples)
    cli.write_json(Path(args.run) / "rate_distortion.json", {"models": [entry], "ends": ends})
    report({"models": [entry], "ends": ends}, config, Path(args.run))


def report(results: Mapping, config: argparse.Namespace, folder: Path) -> None:
    """Print what was measured, and draw it into folder/figures/rate_distortion_plane.png."""
    from rate_distortion_figures import BOUNDS, CAPTION, rate_distortion_plane

    print("\n" + known(results["ends"], config) + "\n\n" + table(results["models"]) + "\n")
    title = f"Rate and distortion on {config.dataset}, {PIXELS[config.binarize]}"
    caption = CAPTION + (BOUNDS if config.likelihood == "bernoulli" else "")
    figure = rate_distortion_plane(results["models"], results["ends"], title, caption)
    print(f"wrote {canvas.save_figure(figure, folder / 'figures' / 'rate_distortion_plane.png')}")


def refuse_others(args: argparse.Namespace, what: str, *allowed: str) -> None:
    """Raise UsageError when a flag other than the allowed ones was given."""
    for name in vars(args):
        if name not in allowed and name in args.typed:
            flag = "--" + name.replace("_", "-")
            raise cli.UsageError(f"{flag} cannot be given with {what}, which keeps the settings it was trained with.")


def run(args: argparse.Namespace) -> int | None:
    chosen = [name for name in ("run", "sweep", "resume") if getattr(args, name) is not None]
    if not chosen:
        raise cli.UsageError("name a finished RUN to place in the plane, or train a row of them with --sweep.")
    return place_run(args) if args.run is not None else sweep(args)


def build_parser() -> argparse.ArgumentParser:
    flags = ("--dataset", "--data-dir", "--latent-dim", "--batch-size", "--lr", "--seed", "--device", "--likelihood")
    parser = cli.parser(__doc__.splitlines()[0], *flags, "--binarize", "--out", "--overwrite")
    add = parser.add_argument
    add("run", metavar="RUN", nargs="?", help="a run folder written by paper/vae_paper.py")
    add(
        "--sweep", type=cli.number(0, above=True), nargs="*", metavar="BETA",
        help=f"train a model for each, in rising order (default {' '.join(f'{beta:g}' for beta in BETAS)})",
    )  # fmt: skip
    add("--epochs", type=cli.whole(1, 10**6), default=3, metavar="N", help="passes for each beta (default 3)")
    add("--first-epochs", type=cli.whole(1, 10**6), metavar="N", help="passes for the first (default 3 x --epochs)")
    add("--samples", type=cli.whole(2, 10**7), default=2000, metavar="M", help="codes for I(x; z) (default 2000)")
    add("--resume", metavar="RUN", help="go on with an interrupted sweep, exactly as it would have")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
