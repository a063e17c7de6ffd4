"""Train and measure many models whose factors are known, and say what the scores depend on: the objective, or the seed.

Each model is a run of its own, which every other command can open; table.json holds what was measured of all.
"""

import contextlib
import io
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from tqdm import tqdm

from vae_commands.evaluate_run import Run, codes, opened, report
from vae_commands.rate_distortion_runs import train_one
from vae_common import cli, sprites
from vae_common.config import RunConfig
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


def study(
    out: str = "runs/study",
    seeds: int = 5,
    epochs: int = 12,
    workers: int | None = None,
    data_dir: str | None = None,
    device: str = "auto",
) -> None:
    """Carry out paper/disentanglement_study.py --out DIR: train and measure what is missing, then write the table."""
    cli.torch_device(device)
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: the folder cannot be made ({error.strerror}); choose another.") from error
    shared = {"dataset": "sprites", "latent_dim": Z, "epochs": epochs}
    where = {"data_dir": data_dir, "device": device, "overwrite": True}
    configs = [
        RunConfig(**shared, **where, **flags, seed=seed, out=f"{out}/{name}-seed-{seed}").settled()
        for name, flags in OBJECTIVES.items()
        for seed in range(seeds)
    ]
    train = configs[0].load("train")  # drawn and cached before several processes ask for it
    train_missing(configs, workers or os.cpu_count())
    found = [read_evaluation(config.out) for config in configs]
    models = {name: found[n * seeds : (n + 1) * seeds] for n, name in enumerate(OBJECTIVES)}
    table = Path(out) / "table.json"
    write_json(table, {**shared, "votes": VOTES, **table_of(models, ends(train, configs[:seeds]))})
    draw_table(table, out)


def draw_table(table: str | Path, out: str | Path) -> None:
    """Say what a table.json holds, and draw it into out/figures/scores.png; raises UsageError when it is none."""
    try:
        found = json.loads(read_whole(table))
        for row in [row for of in ("scores", "terms") for row in found[of].values()]:
            row.update({name: np.array(values, float) for name, values in row.items()})
        print(in_words(found))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{table}: expected the table.json of a study, found none that can be read ({error})."
        ) from error
    print(f"wrote {save_figure(scores_of_objectives(found, SCORES), Path(out) / 'figures' / 'scores.png')}")


# --- the models ---------------------------------------------------------------------------------------------------


def train_missing(configs: list[RunConfig], workers: int) -> None:
    """Train and measure the models that are not measured yet, `workers` at once."""
    missing = [config for config in configs if not is_measured(config)]
    print(f"{len(configs)} models, {len(missing)} of them to be trained")
    if not missing:
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # so the workers begin: Ctrl-C is for this process alone
    try:
        with multiprocessing.get_context("spawn").Pool(workers, begin_worker) as pool:
            signal.signal(signal.SIGINT, handler)
            for _ in tqdm(pool.imap_unordered(train_and_measure, missing), "models", total=len(missing), disable=None):
                pass
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on with the models that are missing") from None


def is_measured(config: RunConfig) -> bool:
    """Whether the folder of this run holds its scores; raises UsageError where it holds another run."""
    folder = Path(config.out)
    if not (folder / "config.json").exists():
        return False
    found = read_config(folder)[0]
    free = {name: getattr(config, name) for name in ("out", "data_dir", "device", "overwrite", "class_names")}
    if replace(found, **free) != config:
        raise UsageError(f"{folder}: it holds a run with other settings than this study's; choose another --out.")
    return "disentanglement" in read_evaluation(folder)


def begin_worker() -> None:
    """One core each, and a lock for progress bars that is no semaphore, which a process that is ended would leave."""
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())


def train_and_measure(config: RunConfig) -> None:
    """One model, written as a run, with what paper/evaluate.py says of its codes and factors, without their words."""
    with contextlib.redirect_stdout(io.StringIO()):
        train_one(config, [config.load(split) for split in ("train", "test")], None)
        run = opened(config.out, config.data_dir, cli.torch_device(config.device), 1, VOTES)
        status, _ = report(run, {"codes": codes, "factors": scored})
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


def table_of(models: Mapping[str, list[dict]], ends: Mapping[str, list[dict]]) -> dict:
    """The figures as name -> row -> a value for each seed: scores of models and ends, terms of the models alone.

    models: what evaluation.json holds of each; recon, kl and elbo are of the test split, the parts of the kl of the
    training images.
    """
    parts = ("information", "total_correlation", "dimension_kl")
    rows = {name: [one["disentanglement"]["trained"] for one in several] for name, several in models.items()} | ends
    flat = {
        name: [{**one, **{part: one["information"]["train"][part]["value"] for part in parts}} for one in several]
        for name, several in models.items()
    }

    def columns(names, of):
        return {name: {row: [one[name] for one in several] for row, several in of.items()} for name in names}

    return {"scores": columns(SCORES, rows), "terms": columns(("recon", "kl", "elbo", *parts), flat)}


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
        "untrained": [found[one.seed] for one in untrained],
        "PCA": [found["PCA"]],
        "factors, rotated": [dis.scores(rotated, trials.points)],
        "factors": [dis.scores(factors, trials.points)],
    }


# --- what it says -------------------------------------------------------------------------------------------------


def share_of_objective(values: Mapping[str, np.ndarray]) -> float:
    """How much of the variance of a figure lies between the objectives, in [0, 1]; the rest is between seeds.

    The means' share of the sum of squares (eta^2). With M objectives of S seeds that differ in nothing, it would be
    (M - 1) / (M S - 1) on average.
    """
    table = np.array(list(values.values()))  # (M, S)
    return float(table.mean(axis=1).var() / max(table.var(), 1e-300))


def better_half(chosen_by: np.ndarray, score: np.ndarray) -> float:
    """How many of the models (N,) that are in the upper half by one figure are so by the other: 0.5 by chance."""
    upper = [values.argsort(kind="stable").argsort() >= len(values) / 2 for values in (chosen_by, score)]
    return float((upper[0] & upper[1]).sum() / upper[0].sum())


def in_words(found: Mapping) -> str:
    """The table as lines of text."""
    scores, terms = found["scores"], found["terms"]
    objectives = list(terms["elbo"])
    models, seeds = len(objectives), len(terms["elbo"][objectives[0]])
    columns = [*SCORES, *(name for name in terms if name != "elbo")]
    lines = [
        f"{found['dataset']}, Z = {found['latent_dim']}, {found['epochs']} epochs; medians of {seeds} seeds",
        f"{'':18}" + "".join(f"{name.split('_')[0].split()[0][:12]:>13}" for name in columns),
    ]
    for row in scores["MIG"]:
        values = [(scores | terms)[name].get(row) for name in columns]
        lines.append(f"{row:18}" + "".join(f"{np.median(one):13.3f}" for one in values if one is not None))
    every = {name: np.concatenate([of[one] for one in objectives]) for name, of in (scores | terms).items()}
    shares = [share_of_objective({one: scores[name][one] for one in objectives}) for name in SCORES]
    lines += [
        "",
        "how much of a score's variance lies between the objectives, and not between seeds of the same one",
        f"chance {(models - 1) / (models * seeds - 1):<11.2f}" + "".join(f"{value:13.2f}" for value in shares),
        "rank correlation of a score with what needs no factors; in brackets, which share of the half that this would",
        "choose is in the better half by the score",
    ]
    for head, name, sign in (("elbo", "elbo", 1), ("least TC", "total_correlation", -1), ("least kl", "kl", -1)):
        against = [(spearmanr(sign * every[name], every[one])[0], every[one]) for one in SCORES]
        cells = [f"{rho:.2f} ({better_half(sign * every[name], score):.2f})" for rho, score in against]
        lines.append(f"{head:18}" + "".join(f"{cell:>13}" for cell in cells))
    return "\n".join(lines)
