"""Train and measure many models whose factors are known, and say what the scores depend on: the objective, or the seed.

Each model is a run of its own, which every other command can open; table.json holds what was measured of all.
"""

import contextlib
import io
import json
import multiprocessing
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from tqdm import tqdm

from vae_commands.evaluate_run import Run, codes, opened, report
from vae_commands.rate_distortion_runs import train_one
from vae_common import cli, sprites
from vae_common.config import RunConfig, flag
from vae_common.data import ImageSet
from vae_common.errors import UsageError
from vae_common.files import read_whole
from vae_common.plots.style import save_figure
from vae_common.randomness import generator
from vae_common.run_folder import read_config, read_evaluation, release_all, write_json
from vae_measures import disentanglement as dis
from vae_measures.held_out import posterior_means
from vae_measures.linear_code import LinearCode
from vae_plots.study import scores_of_objectives
from vae_training.factory import build_model

Z, VOTES = 10, 320
OBJECTIVES = {
    **{f"beta-vae-{beta}": {"beta": float(beta)} for beta in (1, 2, 4, 8, 16)},
    "capacity-12": {"capacity": 12.0},
    **{f"beta-tcvae-{1 + weight}": {"tc_weight": float(weight)} for weight in (1, 3, 7, 15)},
    **{f"factor-vae-{gamma}": {"tc_weight": float(gamma), "tc_estimate": "discriminator"} for gamma in (10, 30)},
}
SCORES = ("beta-VAE score", "FactorVAE score", "MIG", "DCI disentanglement", "SAP", "explicitness")
TERMS = {  # of evaluation.json: recon, kl and elbo of the test split, the parts of the kl over the training images
    "recon": ("recon",),
    "kl": ("kl",),
    "elbo": ("elbo",),
    **{name: ("information", "train", name, "value") for name in ("information", "total_correlation", "dimension_kl")},
}


def study(
    out: str = "runs/study",
    seeds: int = 5,
    epochs: int = 12,
    workers: int | None = None,
    data_dir: str | None = None,
    device: str = "auto",
    table: str | None = None,
) -> None:
    """Carry out paper/disentanglement_study.py."""
    if table is None:
        cli.torch_device(device)
        shared = {"dataset": "sprites", "latent_dim": Z, "epochs": epochs}
        where = {"data_dir": data_dir, "device": device, "overwrite": True}
        configs = [
            RunConfig(**shared, **where, **flags, seed=seed, out=f"{out}/{name}-seed-{seed}").settled()
            for name, flags in OBJECTIVES.items()
            for seed in range(seeds)
        ]
        train = configs[0].load("train")  # drawn and cached before several processes ask for it
        train_missing(configs, workers or os.cpu_count())
        models = [of_run(config) for config in configs]
        found = {**shared, "votes": VOTES, "models": models, "ends": ends(train, configs[:seeds])}
        table = Path(out) / "table.json"
        write_json(table, found)
    found = read_table(Path(table))
    print(in_words(found))
    print(f"wrote {save_figure(scores_of_objectives(found, SCORES), Path(out) / 'figures' / 'scores.png')}")


# --- the models ---------------------------------------------------------------------------------------------------


def train_missing(configs: list[RunConfig], workers: int) -> None:
    """Train and measure the models that are not measured yet, `workers` at once."""
    missing = [config for config in configs if not is_measured(config)]
    print(f"{len(configs)} models, {len(missing)} of them to be trained")
    try:
        with multiprocessing.get_context("spawn").Pool(workers, ignore_interrupts) as pool:
            for _ in tqdm(pool.imap_unordered(train_and_measure, missing), "models", total=len(missing), disable=None):
                pass
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on with the models that are missing") from None


def is_measured(config: RunConfig) -> bool:
    """Whether the folder of this run holds its scores; raises UsageError where it holds another run."""
    folder = Path(config.out)
    if not (folder / "config.json").exists():
        return False
    found, free = read_config(folder)[0], ("out", "data_dir", "device", "overwrite", "class_names")
    for name in RunConfig.settings("paper"):
        one, other = getattr(config, name), getattr(found, name)
        if name not in free and one != other:
            raise UsageError(f"{folder}: expected {flag(name)} {one}, found {other}; name another folder with --out.")
    return "disentanglement" in read_evaluation(folder)


def ignore_interrupts() -> None:
    """What each worker begins with: Ctrl-C is for the process that started it, which then ends it; one core each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def train_and_measure(config: RunConfig) -> None:
    """One model, written as a run, with what paper/evaluate.py says of its codes and factors, without their words."""
    with contextlib.redirect_stdout(io.StringIO()):
        train_one(config, [config.load(split) for split in ("train", "test")], None)
        run = opened(config.out, config.data_dir, cli.torch_device(config.device), 1, VOTES)
        status = report(run, {"codes": codes, "factors": scored})
    release_all()
    if status:
        raise UsageError(
            f"{config.out}: a figure is impossible; see python paper/evaluate.py {config.out} --only codes"
        )


def scored(run: Run) -> tuple[str, dict]:
    """The scores of the trained encoder, which evaluate.py sets beside an untrained one and draws."""
    rng = generator(run.config.seed, "evaluation", 2)
    found = dis.report(sprites, {"trained": run.encoders[0]}, run.config.binarize, rng, votes=run.votes)
    return "", {"disentanglement": {"votes": run.votes, **found}}


# --- the table ----------------------------------------------------------------------------------------------------


def of_run(config: RunConfig) -> dict:
    """What the table says of one model."""
    evaluation = read_evaluation(Path(config.out))
    terms = {}
    for name, keys in TERMS.items():
        value = evaluation
        for key in keys:
            value = value[key]
        terms[name] = value
    objective = Path(config.out).name.removesuffix(f"-seed-{config.seed}")
    return {"objective": objective, "seed": config.seed, **terms, **scores_in(evaluation["disentanglement"]["trained"])}


def scores_in(found: Mapping) -> dict[str, float]:
    """Those of SCORES in what `disentanglement.scores` returned."""
    return {name: found[name] for name in SCORES}


def ends(train: ImageSet, untrained: list[RunConfig]) -> dict[str, list[dict]]:
    """Between what the scores lie: untrained encoders, PCA, the factors turned by some rotation, and the factors."""
    rng = generator(0, "evaluation", 2)
    pca = LinearCode.fit(train.images / np.float32(255), Z)
    encoders = {one.seed: posterior_means(build_model(one), torch.device("cpu")) for one in untrained}
    found = dis.report(sprites, {**encoders, "PCA": pca.encode}, "none", rng, votes=VOTES)
    trials = dis.sample_trials(sprites, rng, votes=VOTES)
    mean, std = trials.points.mean(axis=0), trials.points.std(axis=0)
    factors = dis.Trials(*((part - mean) / std for part in trials))
    rotation, _ = np.linalg.qr(rng.standard_normal((len(mean), len(mean))))
    rotated = dis.Trials(*(part @ rotation for part in factors))
    return {
        "untrained": [scores_in(found[one.seed]) for one in untrained],
        "PCA": [scores_in(found["PCA"])],
        "factors, rotated": [scores_in(dis.scores(rotated, trials.points))],
        "factors": [scores_in(dis.scores(factors, trials.points))],
    }


def read_table(path: Path) -> dict:
    """A table.json; raises UsageError when it is none."""
    try:
        found = json.loads(read_whole(path))
        for one in found["models"]:
            _ = [float(one[name]) for name in (*SCORES, *TERMS)], one["objective"], one["seed"]
        for one in [one for several in found["ends"].values() for one in several]:
            _ = [float(one[name]) for name in SCORES]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: expected the table.json of a study, found none that can be read ({error})."
        ) from error
    return found


# --- what it says -------------------------------------------------------------------------------------------------


def by_objective(found: Mapping, name: str) -> dict[str, np.ndarray]:
    """A figure of all models: its values over the seeds, for each objective."""
    values = {}
    for one in found["models"]:
        values.setdefault(one["objective"], []).append(one[name])
    return {objective: np.array(several) for objective, several in values.items()}


def share_of_objective(values: Mapping[str, np.ndarray]) -> float:
    """How much of the variance of a figure lies between the objectives, in [0, 1]; the rest is between seeds.

    The means' share of the sum of squares (eta^2). With M objectives of S seeds that differ in nothing, it would be
    (M - 1) / (M S - 1) on average.
    """
    table = np.array(list(values.values()))  # (M, S)
    return float(table.mean(axis=1).var() / max(table.var(), 1e-300))


def better_half(chosen_by: np.ndarray, score: np.ndarray) -> float:
    """How many of the models (N,) that are in the upper half by one figure are so by the other: 0.5 by chance."""
    upper = [values.argsort().argsort() >= len(values) / 2 for values in (chosen_by, score)]
    return float((upper[0] & upper[1]).sum() / upper[0].sum())


def in_words(found: Mapping) -> str:
    """The table as lines of text."""
    scored = {name: by_objective(found, name) for name in SCORES}
    terms = {name: by_objective(found, name) for name in TERMS}
    objectives, seeds = list(scored["MIG"]), len(next(iter(scored["MIG"].values())))
    short = ("beta-VAE", "Factor", "MIG", "DCI", "SAP", "explicit")
    lines = [
        f"{found['dataset']}, Z = {found['latent_dim']}, {found['epochs']} epochs; medians of {seeds} seeds",
        f"{'':20}" + "".join(f"{name:>10}" for name in (*short, "recon", "kl", "I(x; z)", "TC", "dim. KL")),
    ]
    for one in objectives:
        lines.append(f"{one:20}" + "".join(f"{np.median(scored[name][one]):10.3f}" for name in SCORES))
        of_kl = ("recon", "kl", "information", "total_correlation", "dimension_kl")
        lines[-1] += "".join(f"{np.median(terms[name][one]):10.2f}" for name in of_kl)
    for one, several in found["ends"].items():
        lines.append(f"{one:20}" + "".join(f"{np.median([of[name] for of in several]):10.3f}" for name in SCORES))
    chance = (len(objectives) - 1) / (len(objectives) * seeds - 1)
    rows = {f"(chance {chance:.2f})": [share_of_objective(scored[name]) for name in SCORES]}
    lines += ["", "share of the variance that lies between objectives, and not between seeds"]
    lines += [f"{head:20}" + "".join(f"{value:10.2f}" for value in row) for head, row in rows.items()]
    lines += ["rank correlation with the score; in brackets, of the half of the models chosen by it, how many belong"]
    for head, name, sign in (("elbo", "elbo", 1), ("least TC", "total_correlation", -1), ("least kl", "kl", -1)):
        chosen_by = sign * np.concatenate(list(terms[name].values()))
        every = [np.concatenate(list(scored[score].values())) for score in SCORES]
        lines.append(f"{head:20}" + "".join(
            f"{f'{spearmanr(chosen_by, score)[0]:.2f} ({better_half(chosen_by, score):.2f})':>13}" for score in every
        ))  # fmt: skip
    return "\n".join(lines)
