"""Train one model of level 3, or go on with a run that was stopped; measure it, write it, draw it."""

import shlex
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from vae_common import cli
from vae_common.config import RunConfig, flag
from vae_common.data import ImageSet
from vae_common.errors import UsageError
from vae_common.run_folder import (
    hold_run_folder,
    make_run_folder,
    note_threads,
    read_config,
    read_evaluation,
    write_json,
    write_metrics,
)
from vae_common.weights import latent_dim_of, load_weights
from vae_measures.held_out import label_worth, measure
from vae_models.conditional_vae import label_lines
from vae_plots.run import draw_run
from vae_plots.snapshots import add_snapshot
from vae_training import processes
from vae_training.autocast import autocast_refusal
from vae_training.checkpoints import load_checkpoint, previous, save_checkpoint
from vae_training.factory import build_model, build_prior, follows_spec
from vae_training.run_files import load_model, save_model
from vae_training.trainer import Interrupted, RunState, train

# -elbo on the test split with default settings, over three seeds: (dataset, latent_dim) -> after epoch 1, at the end.
EXPECTED = {
    ("digits", 20): ("151 to 168", "96.3 to 97.6"),
    ("digits", 2): ("162 to 166", "144.9 to 145.8"),
    ("mnist", 20): ("110 to 114", "96.8 to 97.3"),
}
FREE = ("resume", "device", "data_dir")  # what may be named anew with --resume


def train_run(**typed) -> None:
    """Carry out paper/vae_paper.py with the settings that were typed."""
    with processes.joined():
        if typed.get("resume") is not None:
            config, folder, began = resumed(typed)
        else:
            config, folder, began = started(RunConfig(**typed))
        carry_out(config, folder, began)


# --- which run ----------------------------------------------------------------------------------------------------


def resumed(typed: dict) -> tuple[RunConfig, Path, dict]:
    """The settings of the run to go on with, but for where data and device are; its folder; the rest of config.json.

    Raises UsageError when the command names another setting: the run would no longer be the one it began as.
    """
    folder = Path(typed["resume"])
    config, more = read_config(folder)
    changed = [name for name in typed if name not in FREE]
    if changed:
        raise UsageError(
            f"{flag(changed[0])} cannot be given with --resume, which goes on with the settings of the run."
        )
    return replace(config, **typed), folder, more


def started(config: RunConfig) -> tuple[RunConfig, Path | None, dict]:
    """The settings of a new run; where torchrun started the processes again, the folder of the run they had begun."""
    if config.weights is not None and config.prior == "normal":
        config = replace(config, latent_dim=latent_dim_of(load_weights(config.weights, config.latent_dim)))
    config = config.settled()
    if config.weights is not None and config.prior != "normal":
        load_model(build_model(config), config.model, config.weights)  # so that a wrong file is told before all else
    name, again = processes.launch()
    folder = processes.from_writer(lambda: begun_before(config, name)) if again else None
    return config, folder, {}


def begun_before(config: RunConfig, launch: str | None) -> Path | None:
    """The folder of this very run, which torchrun started again after a process had died; None if it had none yet."""
    folder = Path(config.out or Path("runs") / "paper")
    try:
        found, more = read_config(folder)
    except UsageError:
        return None
    free = (*FREE, "amp", "class_names")
    same = all(asdict(found)[name] == value for name, value in asdict(config).items() if name not in free)
    return folder if same and more.get("launch") == launch else None


# --- the run ------------------------------------------------------------------------------------------------------


def carry_out(config: RunConfig, folder: Path | None, began: dict) -> None:
    """Train, measure, write and draw the run of `config`, from its checkpoint where `folder` is that of a run begun.

    began: what its config.json then says besides the settings.
    """
    device = processes.own_device(cli.torch_device(config.device))
    stored, test = processes.writer_first(lambda: [config.load(split) for split in ("train", "test")])
    data, validation = stored.hold_out(config.validation)
    held_out = validation if config.validation else test
    config = replace(config, class_names=data.class_names)
    if (config.model == "cvae" or config.prior_labels) and len(data.class_names) == 1:
        what = "--prior-labels" if config.prior_labels else "--model cvae"
        raise UsageError(f"{what} is given classes, and this data has one; put the pictures into a folder for each.")
    resume, images = folder is not None, {part.split: len(part) for part in (data, validation, test)}
    if resume:
        if began.get("images", images) != images:
            raise UsageError(
                f"{folder}: it began with images {began['images']} and now there are {images}, so the data is not that "
                "of the run; see --data-dir."
            )
        processes.from_writer(lambda: (hold_run_folder(folder), note_threads(began.get("threads"))))
    else:
        config, folder = processes.from_writer(lambda: new_folder(config, device, images))
    model = build_model(config, len(data)).to(device)
    begun = resume and (folder / "checkpoint.safetensors").exists()
    if config.weights is not None and not begun:
        load_model(model, config.model, config.weights)

    several = f", {processes.count()} processes" if processes.count() > 1 else ""
    epochs = cli.counted(config.epochs, "epoch")
    print(f"training {config.model} on {len(data):,} images of {data.name} for {epochs} on {device}{several}")
    print(expectation(config))
    rows = fit(model, data, held_out, test, config, folder, resume)
    if processes.is_writer():
        print(f"wrote {save_model(model, config.model, folder / 'weights.safetensors')}")
    prior = build_prior(config, model)
    if prior is not None:
        model = prior.to(device)
        print(f"\ntraining the prior of its codes for {cli.counted(config.prior_epochs, 'epoch')}")
        fit(model, data, held_out, test, replace(config, epochs=config.prior_epochs), folder, resume, "prior-")
        if processes.is_writer():
            print(f"wrote {save_model(model, 'prior', folder / 'prior-weights.safetensors')}")
    measured = measure(model, test, config.binarize, config.seed)
    if processes.is_writer():
        finish(model, measured, rows, config, folder)


def new_folder(config: RunConfig, device: torch.device, images: dict[str, int]) -> tuple[RunConfig, Path]:
    """The folder of a new run, and its settings: without --amp, and with a note, where bfloat16 does not pay."""
    more = {"torch": torch.__version__, "images": images}
    reason = autocast_refusal(device) if config.amp else None
    if reason is not None:
        config = replace(config, amp=False)
        more["note"] = f"--amp was asked for and left out: {reason}"
        print(f"note: --amp is left out: {reason}", file=sys.stderr)
    name, _ = processes.launch()
    if name is not None:
        more["launch"] = name
    return config, make_run_folder(config, "paper", **more)


def fit(
    model: nn.Module,
    data: ImageSet,
    held_out: ImageSet,
    test: ImageSet,
    config: RunConfig,
    folder: Path,
    resume: bool,
    phase: str = "",
) -> list[dict]:
    """Train the model, from its checkpoint when the run is resumed; the rows of its metrics.

    After each epoch it is measured on `held_out`; where that is not the test split, on this too at the end.

    Raises Interrupted after Ctrl-C or SIGTERM, when the checkpoint is written.
    """

    def evaluate(epoch: int, on: ImageSet = held_out) -> dict:
        start = time.perf_counter()
        return measure(model, on, config.binarize, config.seed).row(epoch, time.perf_counter() - start)

    checkpoint, metrics = folder / f"{phase}checkpoint.safetensors", folder / f"{phase}metrics.jsonl"
    state = RunState.start(model, config)
    if resume and (checkpoint.exists() or metrics.exists()):
        load_checkpoint(state, checkpoint)
        if state.rows and processes.is_writer():
            write_metrics(metrics, state.rows)  # it is written after the checkpoint, unless the run is killed there
    if resume and (state.step or not phase):
        print(f"resuming {folder} after {state.step:,} steps")
    if state.step == 0 and processes.is_writer():
        add_snapshot(folder, model, 0, config.epochs)
    try:
        for _ in train(state, data, config, evaluate):
            if not processes.is_writer():
                continue
            add_snapshot(folder, model, state.rows[-1]["epoch"], config.epochs)
            save_checkpoint(state, checkpoint)
            write_metrics(metrics, state.rows)
            for row in state.rows[-2:]:
                print(cli.format_row(row))
    except Interrupted as stop:
        if processes.is_writer():
            save_checkpoint(state, checkpoint)
        go_on = f"go on with --resume {shlex.quote(str(folder))}"
        raise Interrupted(stop.number, f"interrupted after step {state.step:,}; {go_on}") from None
    except RuntimeError as error:
        if not config.compile or not type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
            raise
        reason = str(error).strip().splitlines()[0].rstrip(".:")
        raise UsageError(f"--compile: torch.compile cannot do it here ({reason}); leave --compile out.") from error
    if held_out is not test:
        state.rows.append(evaluate(config.epochs, test))
        if processes.is_writer():
            write_metrics(metrics, state.rows)
            print(cli.format_row(state.rows[-1]))
    print(f"wrote {checkpoint}\nwrote {metrics}")
    for path in (previous(checkpoint), folder / "snapshots.npz"):
        if path.exists():
            print(f"wrote {path}")
    return state.rows


def finish(model: nn.Module, measured, rows: list[dict], config: RunConfig, folder: Path) -> None:
    """Report and draw what the trained model reaches on the test split."""
    print(f"\n{measured.summary()}\n{expectation(config)}\n{measured.collapse()}\n")
    results = measured.results()
    if model.conditional:
        report = label_worth(model, measured.data, config.binarize, config.seed)
        print(label_lines(report, model.classes) + "\n")
        results.update(report)
    write_json(folder / "evaluation.json", {**read_evaluation(folder), **results})  # a run resumed keeps evaluate's
    draw_run(folder, measured, rows, config)
    if follows_spec(model) or (model.conditional and model.has_posterior):
        print(f"to explore it in a browser: python paper/latent_explorer.py {shlex.quote(str(folder))}")


def expectation(config: RunConfig) -> str:
    """What -elbo to expect on the test split, where the settings are those that were measured."""
    free = ("dataset", "data_dir", "latent_dim", "seed", "device", "out", "overwrite", "resume")
    default = asdict(RunConfig().settled())
    as_measured = all(value == default[name] for name, value in asdict(config).items() if name not in free)
    known = EXPECTED.get((config.dataset, config.latent_dim)) if as_measured else None
    if known is None:
        return "expect: not measured for these settings; the results in paper/README.md have the nearest ones"
    return "expect: -elbo on the test split of {} nats after epoch 1, {} at the end (three seeds)".format(*known)
