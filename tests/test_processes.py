"""Several processes are one run: they take the steps that one process takes, and one of them may die.

This file is also the script that torchrun starts: `train` takes steps of every model and keeps what came of them,
`command` is paper/vae_paper.py on a few images, of which one process may kill itself.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

import latent_figures
import vae_paper
from vae_common.data import ImageSet, load_dataset
from vae_common.randomness import batches
from vae_common.weights import read_safetensors
from vae_training import processes, trainer
from vae_training.factory import build_model, build_prior, measure
from vae_training.trainer import RunState, Settings, train_step

MODELS = {
    "vae": ["--latent-dim", "3"],
    "annealed": ["--beta", "4", "--anneal", "linear"],
    "free bits": ["--latent-dim", "6", "--free-bits", "0.097"],  # in the second batch of FEW, two shares' means of a
    "capacity": ["--latent-dim", "3", "--capacity", "1.336", "--anneal-epochs", "0.01"],  # kl lie on either side
    "iwae": ["--latent-dim", "3", "--importance-samples", "3"],
    "many samples": ["--latent-dim", "3", "--mc-samples", "2"],
    "mlp": ["--trunk", "mlp"],
    "linear": ["--trunk", "linear", "--likelihood", "gaussian"],
    "cvae": ["--model", "cvae"],
    "ae": ["--model", "ae"],
    "vqvae": ["--model", "vqvae", "--codes", "16"],
    "vqvae by gradient": ["--model", "vqvae", "--codes", "16", "--codebook", "gradient"],
    "prior of codes": ["--model", "vqvae", "--codes", "16"],
}


def settings_of(model: str, *more: str):
    args = vae_paper.build_parser().parse_args([*MODELS[model], *more])
    vae_paper.fill_in(args)
    return args


def part_of(data: ImageSet, part: slice) -> ImageSet:
    return ImageSet(data.name, data.split, data.images[part], data.labels[part], data.class_names)


def noise_images(count: int) -> ImageSet:
    """Images without two patches alike: of codes that are twins, as empty paper makes them, rounding chooses one."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8), rng.integers(0, 10, count)
    return ImageSet("digits", "train", images, labels, tuple("0123456789"))


def take_steps(
    name: str, data: ImageSet, batch_size: int, dtype: torch.dtype, steps: int, compiled=False, device="cpu"
) -> dict:
    """Train a model for some steps: the terms and gradients of each, the state at the end, what is measured then."""
    args = settings_of(name, "--binarize", "dynamic", "--batch-size", str(batch_size))
    settings = Settings(1, batch_size, args.lr, args.seed, args.binarize, compile=compiled)
    model = build_model(args, settings.steps_per_epoch(len(data))).to(device, dtype)
    if name == "prior of codes":
        model = build_prior(args, model).to(device, dtype)
    model.train()
    state, kept = RunState.start(model, settings), {"terms": [], "gradients": []}
    for index in list(batches(len(data), batch_size, args.seed, 1))[:steps]:
        kept["terms"].append(train_step(state, data, index, settings, steps))
        gradients = {key: value.grad.cpu().clone() for key, value in model.named_parameters() if value.grad is not None}
        kept["gradients"].append(gradients)
    row = measure(model, data, args, batch_size=4).row(1, args, 0.0)
    measured = {key: value for key, value in row.items() if isinstance(value, int | float)}
    return {**kept, "state": {key: value.cpu() for key, value in model.state_dict().items()}, "measured": measured}


# --- what torchrun starts -----------------------------------------------------------------------------------------

FEW = dict(data=noise_images(11), batch_size=5, dtype=torch.float64, steps=3)  # batches of 5, 5 and 1


def many() -> dict:
    return dict(
        data=part_of(load_dataset("digits", "train"), slice(12000)), batch_size=500, dtype=torch.float32, steps=24
    )


def train_worker(out: str, what: str, *names: str) -> int:
    """`take_steps` of models in this process, saved as out/RANK.pt."""
    with processes.joined():
        kept = {name: take_steps(name, **(FEW if what == "few" else many())) for name in names}
        torch.save(kept, Path(out) / f"{processes.rank()}.pt")
    return 0


def command_worker(what: str, step: str, *argv: str) -> int:
    """vae_paper.main on 150 images; in the first attempt, process 1 sends itself that signal after that many steps."""
    import vae_common.data

    digits, parts = load_dataset("digits", "test"), {"train": slice(0, 150), "test": slice(150, 200)}
    vae_common.data.load_dataset = lambda name, split, data_dir=None: part_of(digits, parts[split])
    original = trainer.train_step

    def train_step(state, *args):
        values = original(state, *args)
        if processes.rank() == 1 and state.step == int(step) and not processes.launch()[1]:
            os.kill(os.getppid() if what == "SIGINT" else os.getpid(), signal.Signals[what])
            time.sleep(what == "SIGINT")  # Ctrl-C is for torchrun, which passes it on
        return values

    trainer.train_step, processes.TIMEOUT = train_step, timedelta(seconds=20)
    latent_figures.draw_run = lambda *args: None
    return vae_paper.main(list(argv))


def torchrun(count: int, *argv: str, restarts: int = 0) -> subprocess.CompletedProcess:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    command = [*launcher, "--max-restarts", str(restarts), __file__, *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


if __name__ == "__main__":
    sys.exit({"train": train_worker, "command": command_worker}[sys.argv[1]](*sys.argv[2:]))


# --- the same steps -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained_by_two(tmp_path_factory):
    """What each of two processes has after a few steps of every model."""
    out = tmp_path_factory.mktemp("two")
    done = torchrun(2, "train", out, "few", *MODELS)
    assert done.returncode == 0, done.stderr
    return [torch.load(out / f"{rank}.pt") for rank in range(2)]


def furthest(found: dict, expected: dict) -> float:
    """The largest |found - expected| / |expected| of the tensors, each a Euclidean norm."""
    assert found.keys() == expected.keys()
    norms = [(torch.dist(found[key], expected[key]), expected[key].norm()) for key in expected]
    return max(float(distance / norm) if norm else float(distance) for distance, norm in norms)


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_take_the_steps_of_one(name, trained_by_two):
    """In float64, where only the order of the sums differs: some 1e-16 each, times what Adam makes of it."""
    expected = take_steps(name, **FEW)
    for found in (kept[name] for kept in trained_by_two):
        for one, other in zip(found["terms"], expected["terms"], strict=True):
            assert one == pytest.approx(other, rel=1e-9)
        for one, other in zip(found["gradients"], expected["gradients"], strict=True):
            assert furthest(one, other) < 1e-9
        assert furthest(found["state"], expected["state"]) < 1e-9
        assert found["measured"] == pytest.approx(expected["measured"], rel=1e-9)
    first, second = (kept[name]["state"] for kept in trained_by_two)
    assert all(torch.equal(first[key], second[key]) for key in first)


# --- a run of several processes -----------------------------------------------------------------------------------

LOST = "error: a process of this run died, no longer answers or was told to end; --resume RUN goes on from the last"
FLAGS = ["--epochs", "3", "--batch-size", "32", "--binarize", "dynamic", "--latent-dim", "3"]  # 5 steps an epoch


@pytest.fixture
def whole(small_digits, monkeypatch, tmp_path):
    """The folder of a run in a single process, never interrupted."""
    monkeypatch.setattr("latent_figures.draw_run", lambda *args: None)
    assert vae_paper.main([*FLAGS, "--out", str(tmp_path / "whole")]) == 0
    return tmp_path / "whole"


def assert_same_run(folder: Path, whole: Path) -> None:
    """Weights and metrics agree to rounding: each step of Adam may turn a gradient's rounding, 1e-7 of it, into as much
    of a step, and where a gradient is nearly nothing but rounding into a whole step of one weight."""
    found, expected = (read_safetensors(run / "weights.safetensors")[1] for run in (folder, whole))
    for name in expected:
        assert np.linalg.norm(found[name] - expected[name]) < 3e-3 * np.linalg.norm(expected[name]), name
    rows, expected_rows = ((run / "metrics.jsonl").read_text().splitlines() for run in (folder, whole))
    assert len(rows) == len(expected_rows)
    for row, expected_row in zip(map(json.loads, rows), map(json.loads, expected_rows), strict=True):
        assert row["elbo"] == pytest.approx(expected_row["elbo"], rel=1e-4)
        assert (row["epoch"], row["split"]) == (expected_row["epoch"], expected_row["split"])


def test_a_process_that_dies_is_told_once_and_the_restarted_run_goes_on(whole, tmp_path):
    done = torchrun(2, "command", "SIGKILL", 8, *FLAGS, "--out", tmp_path / "run", restarts=1)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(LOST) == 1
    assert "Error" not in done.stderr and "Warning" not in done.stderr
    assert f"resuming {tmp_path / 'run'} after 5 steps" in done.stdout
    lines = done.stdout.splitlines()
    for said_once in ("epoch   1 test", "epoch   2 test", "epoch   3 test", "wrote " + str(tmp_path / "run/weights")):
        assert sum(line.startswith(said_once) for line in lines) == 1
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow  # two starts of torchrun
@pytest.mark.parametrize("step", [3, 8])  # before there is a checkpoint, and after
def test_a_run_that_lost_a_process_is_resumed_by_one(step, whole, small_digits, tmp_path):
    done = torchrun(2, "command", "SIGKILL", step, *FLAGS, "--out", tmp_path / "run")
    assert done.returncode == 1 and done.stderr.count(LOST) == 1
    assert vae_paper.main(["--resume", str(tmp_path / "run")]) == 0
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow  # torchrun waits 30 s before it kills what is stopped
def test_a_process_that_no_longer_answers_ends_the_run(tmp_path):
    done = torchrun(2, "command", "SIGSTOP", 8, *FLAGS, "--out", tmp_path / "run")
    assert done.returncode == 1 and done.stderr.count(LOST) == 1


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 1])
def test_ctrl_c_ends_all_after_the_same_step_and_another_number_of_processes_goes_on(count, whole, tmp_path):
    done = torchrun(2, "command", "SIGINT", 8, *FLAGS, "--out", tmp_path / "run")
    assert done.returncode != 0 and done.stderr.count("go on with --resume") == 1
    saved, _ = read_safetensors(tmp_path / "run" / "checkpoint.safetensors")
    assert json.loads(saved["state"])["step"] in (8, 9)
    done = torchrun(count, "command", "SIGKILL", 99, "--resume", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow
def test_bad_input_is_refused_once(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "note").touch()
    done = torchrun(2, "command", "SIGKILL", 99, *FLAGS, "--out", tmp_path / "run")
    assert done.returncode == 1 and done.stderr.count("the folder is not empty; choose another") == 1
    assert "Traceback" not in done.stderr.split("torch/distributed")[0]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_24_steps_of_500_images(count, tmp_path):
    """In float32, on digits. A gradient summed over 500 images of 784 pixels in another order is off by about
    6e-8 sqrt(392,000) = 4e-5 of a tensor whose terms cancel; those before the codes, of which rounding may choose
    others, by 1e-4. The parameters after 24 steps agree to 3e-3."""
    names = [name for name in MODELS if name not in ("vqvae by gradient", "prior of codes")]
    done = torchrun(count, "train", tmp_path, "many", *names)
    assert done.returncode == 0, done.stderr
    kept = torch.load(tmp_path / "0.pt")
    for name in names:
        expected = take_steps(name, **many())
        assert furthest(kept[name]["gradients"][0], expected["gradients"][0]) < (3e-4 if name == "vqvae" else 1e-4)
        assert furthest(kept[name]["state"], expected["state"]) < 3e-3


# --- alone --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("items", [0, 1, 5, 500, 501])
def test_shares_are_all_of_it_in_order_and_differ_by_one(items, count, monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: count)
    shares = []
    for rank in range(count):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        shares.append(range(items)[processes.share(items)])
    assert [item for share in shares for item in share] == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_restart_goes_on_with_its_own_run_only(small_digits, monkeypatch, tmp_path):
    """Its own is the one with all its settings and, where torchrun gave it, the name of the launch."""
    monkeypatch.setattr("latent_figures.draw_run", lambda *args: None)
    flags = [*FLAGS[2:], "--epochs", "1", "--out", str(tmp_path / "run")]
    assert vae_paper.main(flags) == 0
    args = vae_paper.settled(vae_paper.build_parser().parse_args(flags))
    assert vae_paper.begun_before(args) == str(tmp_path / "run")
    args.launch = "another"
    assert vae_paper.begun_before(args) is None
    args = vae_paper.settled(vae_paper.build_parser().parse_args([*flags, "--lr", "1e-3"]))
    assert vae_paper.begun_before(args) is None
    args = vae_paper.settled(vae_paper.build_parser().parse_args([*flags[:-1], str(tmp_path / "none")]))
    assert vae_paper.begun_before(args) is None


def test_images_that_are_not_in_memory(tmp_path):
    """A memory-mapped file of 2 GB, nearly all of it a hole: steps read the images of their batches, and no others."""
    count = 2 * 2**30 // 784
    (tmp_path / "images").touch()
    os.truncate(tmp_path / "images", count * 784)
    images = np.memmap(tmp_path / "images", np.uint8, "r+", shape=(count, 1, 28, 28))
    labels = np.zeros(count, np.int64)
    index = np.array([count - 1, 7, 10**6])
    few = noise_images(3)
    images[index] = few.images
    settings, states = Settings(1, 3), []
    tracemalloc.start()  # NumPy's arrays too
    for data, rows in ((ImageSet("digits", "train", images, labels, ()), index), (few, np.arange(3))):
        states.append(RunState.start(build_model(settings_of("mlp")), settings))
        train_step(states[-1], data, rows, settings, 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 2**20  # noise and binarized images of three, and what torch imports on the way
    mapped, in_memory = (state.model.state_dict() for state in states)
    assert all(torch.equal(mapped[key], in_memory[key]) for key in mapped)


@pytest.mark.parametrize("name", ["doctor", "latent_figures", "quadrants", "vae_lowlevel", "vae_numpy"])
def test_a_command_for_one_process_is_refused_with_several(name, monkeypatch, capsys):
    """They would all do the same work and write the same files."""
    run, program = {"doctor": ["run"], "latent_figures": ["run"]}.get(name, []), importlib.import_module(name)
    for variable, value in {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(variable, value)
    assert program.main(run) == 2
    assert "it runs in one process; start it with python, without torchrun" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    assert program.main(run) == 2
    assert capsys.readouterr().err == ""
    assert importlib.import_module("evaluate").main(["run", "--doctor"]) == 2
    assert "--doctor runs in one process" in capsys.readouterr().err


@pytest.mark.slow  # a compiler runs
@pytest.mark.parametrize("name", ["vae", "mlp", "iwae", "cvae", "ae"])
def test_a_compiled_objective_takes_the_same_steps(name):
    """In float64, where fused operations differ in the order of their sums."""
    batch = dict(data=noise_images(15), batch_size=5, dtype=torch.float64, steps=3)
    found, expected = take_steps(name, **batch, compiled=True), take_steps(name, **batch)
    for one, other in zip(found["gradients"], expected["gradients"], strict=True):
        assert furthest(one, other) < 1e-9
    assert furthest(found["state"], expected["state"]) < 1e-9


@pytest.mark.parametrize("flags", [["--anneal", "linear"], ["--free-bits", "1"], ["--model", "vqvae"]])
def test_compile_is_refused_where_it_fails(flags, capsys):
    assert vae_paper.main(["--compile", *flags]) == 2
    assert "--compile takes an objective that is the same at every step" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_steps_on_another_device(device):
    """Weights, order and noise are NumPy's, so a GPU takes the same steps; float32 sums there are in another order."""
    if not getattr(torch, device).is_available():
        pytest.skip(f"needs a {device} device")
    batch = dict(data=noise_images(10), batch_size=5, dtype=torch.float32, steps=1)
    for name in MODELS:
        found, expected = (take_steps(name, **batch, device=where) for where in (device, "cpu"))
        assert found["terms"][0] == pytest.approx(expected["terms"][0], rel=1e-5), name
        assert furthest(found["gradients"][0], expected["gradients"][0]) < 1e-4, name
