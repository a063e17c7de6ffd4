"""Several processes are one run: they take the steps that one process takes, and one of them may die.

What the processes do is in few_processes.py, which starts them, or torchrun does.
"""

import importlib
import json
import os
import re
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import few_processes
import vae_paper
from few_processes import MODELS, few, many, noise_images, take_steps
from run_folders import finished_run
from vae_commands import train_run
from vae_common.config import RunConfig
from vae_common.data import ImageSet
from vae_common.errors import UsageError
from vae_common.weights import read_safetensors
from vae_training import processes
from vae_training.factory import build_model
from vae_training.trainer import RunState, train_step


def started(by: str, count: int, *argv: object, restarts: int = 0) -> subprocess.CompletedProcess:
    """few_processes.py in `count` processes, started by torchrun, or by its own fork, which imports torch only once."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count, "--max-restarts", restarts]
    given = {
        "torchrun": [*torchrun, few_processes.__file__, *argv],
        "fork": [few_processes.__file__, "fork", count, restarts, *argv],
    }
    return subprocess.run([sys.executable, *map(str, given[by])], capture_output=True, text=True, timeout=600)


QUICK = [name for name in MODELS if name not in ("annealed", "many samples", "iwae, flow", "mlp", "linear")]
FLAGS = ["--epochs", "3", "--batch-size", "32", "--binarize", "dynamic", "--latent-dim", "3"]  # 5 steps an epoch
DYING = "command", "SIGKILL", 8, *FLAGS, "--out"  # and where to: a run of which a process dies in step 8


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    """What both of these leave in one folder: a few steps of QUICK, and DYING, which may start once more. They are two
    launches of one Python, for which to import torch takes longest."""
    out = tmp_path_factory.mktemp("forked")
    done = started("fork", 2, "train", out, "few", *QUICK, "then", "fork", 2, 1, *DYING, out / "run")
    return out, done


@pytest.fixture(scope="module")
def trained_by_two(forked):
    """What each of two processes has after a few steps of every model."""
    out, done = forked
    assert (out / "1.pt").exists(), done.stderr
    return [torch.load(out / f"{rank}.pt") for rank in range(2)]


def furthest(found: dict, expected: dict) -> float:
    """The largest |found - expected| / |expected| of the tensors, each a Euclidean norm."""
    assert found.keys() == expected.keys()
    norms = [(torch.dist(found[key], expected[key]), expected[key].norm()) for key in expected]
    return max(float(distance / norm) if norm else float(distance) for distance, norm in norms)


@pytest.mark.parametrize("name", QUICK)
def test_two_processes_take_the_steps_of_one(name, trained_by_two):
    """In float64, where only the order of the sums differs: some 1e-16 each, times what Adam makes of it."""
    expected = take_steps(name, **few())
    for found in (kept[name] for kept in trained_by_two):
        for one, other in zip(found["terms"], expected["terms"], strict=True):
            assert one == pytest.approx(other, rel=1e-9)
        for one, other in zip(found["gradients"], expected["gradients"], strict=True):
            assert furthest(one, other) < 1e-9
        assert furthest(found["state"], expected["state"]) < 1e-9
        assert found["measured"] == pytest.approx(expected["measured"], rel=1e-9)
    first, second = (kept[name]["state"] for kept in trained_by_two)
    assert all(torch.equal(first[key], second[key]) for key in first)


LOST = "error: a process of this run died, no longer answers or was told to end; --resume RUN goes on from the last"


@pytest.fixture
def whole(trained):
    """The folder of a run in a single process, never interrupted."""
    return trained(*FLAGS)


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


@pytest.mark.parametrize("by", ["fork", pytest.param("torchrun", marks=pytest.mark.slow)])
def test_a_process_that_dies_is_told_once_and_the_restarted_run_goes_on(by, forked, whole, tmp_path):
    if by == "fork":
        tmp_path, done = forked
    else:
        done = started(by, 2, *DYING, tmp_path / "run", restarts=1)
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
    done = started("torchrun", 2, "command", "SIGKILL", step, *FLAGS, "--out", tmp_path / "run")
    assert done.returncode == 1 and done.stderr.count(LOST) == 1
    assert vae_paper.main(["--resume", str(tmp_path / "run")]) == 0
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow  # torchrun waits 30 s before it kills what is stopped
def test_a_process_that_no_longer_answers_ends_the_run(tmp_path):
    done = started("torchrun", 2, "command", "SIGSTOP", 8, *FLAGS, "--out", tmp_path / "run")
    assert done.returncode == 1 and done.stderr.count(LOST) == 1


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 1])
def test_ctrl_c_ends_all_after_the_same_step_and_another_number_of_processes_goes_on(count, whole, tmp_path):
    done = started("torchrun", 2, "command", "SIGINT", 8, *FLAGS, "--out", tmp_path / "run")
    assert done.returncode != 0 and done.stderr.count("go on with --resume") == 1
    saved, _ = read_safetensors(tmp_path / "run" / "checkpoint.safetensors")
    assert json.loads(saved["state"])["step"] in (8, 9)
    done = started("torchrun", count, "command", "SIGKILL", 99, "--resume", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert re.search("after [89] steps", done.stdout)
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_24_steps_of_500_images(count, tmp_path):
    """In float32, on digits. A gradient summed over 500 images of 784 pixels in another order is off by about
    6e-8 sqrt(392,000) = 4e-5 of a tensor whose terms cancel; those before the codes, of which rounding may choose
    others, by 1e-4. The parameters after 24 steps agree to 3e-3."""
    names = [name for name in MODELS if name not in ("vqvae by gradient", "prior of codes")]
    done = started("torchrun", count, "train", tmp_path, "many", *names)
    assert done.returncode == 0, done.stderr
    kept = torch.load(tmp_path / "0.pt")
    for name in names:
        expected = take_steps(name, **many())
        assert furthest(kept[name]["gradients"][0], expected["gradients"][0]) < (3e-4 if name == "vqvae" else 1e-4)
        assert furthest(kept[name]["state"], expected["state"]) < 3e-3


@pytest.mark.parametrize(("items", "count"), [(0, 2), (1, 3), (500, 4), (501, 7)])
def test_shares_are_all_of_it_in_order_and_differ_by_one(items, count, monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: count)
    shares = []
    for rank in range(count):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        shares.append(range(items)[processes.share(items)])
    assert [item for share in shares for item in share] == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_of_all_that_fail_together_the_first_tells_why():
    """The others end without a word, with the status of their own reason; a mistake of the program is always told."""
    store = torch.distributed.HashStore()
    bug, gone = ValueError("a bug"), RuntimeError("gloo: connection closed by peer")
    errors = UsageError("no such file"), UsageError("no such file"), KeyboardInterrupt(), gone, bug
    first, *others, last = (processes._told_once(error, store) for error in errors)
    assert first is errors[0] and last is bug
    assert [(type(one), one.code) for one in others] == [(SystemExit, 2), (SystemExit, 130), (SystemExit, 2)]
    assert str(processes._told_once(gone, torch.distributed.HashStore())) == processes.LOST


def test_a_restart_goes_on_with_its_own_run_only(tmp_path):
    """Its own is the one with all its settings and, where torchrun gave it, the name of the launch."""
    own, config = str(tmp_path / "run"), RunConfig(epochs=1, latent_dim=3, out=str(tmp_path / "run")).settled()
    finished_run(tmp_path / "run", latent_dim=3)
    assert train_run.begun_before(config, None) == Path(own)
    assert train_run.begun_before(config, "another") is None
    assert train_run.begun_before(replace(config, lr=1e-3), None) is None
    assert train_run.begun_before(replace(config, device="cpu"), None) == Path(own)
    assert train_run.begun_before(replace(config, out=str(tmp_path / "none")), None) is None


def test_images_that_are_not_in_memory(tmp_path):
    """A memory-mapped file of 2 GB, nearly all of it a hole: steps read the images of their batches, and no others."""
    count = 2 * 2**30 // 784
    (tmp_path / "images").touch()
    os.truncate(tmp_path / "images", count * 784)
    images = np.memmap(tmp_path / "images", np.uint8, "r+", shape=(count, 1, 28, 28))
    labels = np.zeros(count, np.int64)
    index = np.array([count - 1, 7, 10**6])
    three = noise_images(3)
    images[index] = three.images
    config, states = RunConfig(architecture="mlp", batch_size=3).settled(), []
    tracemalloc.start()  # NumPy's arrays too
    for data, rows in ((ImageSet("digits", "train", images, labels, ()), index), (three, np.arange(3))):
        states.append(RunState.start(build_model(config), config))
        train_step(states[-1], data, rows, config, 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 2**20  # noise and binarized images of three, and what torch imports on the way
    mapped, in_memory = (state.model.state_dict() for state in states)
    assert all(torch.equal(mapped[key], in_memory[key]) for key in mapped)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("latent_figures run", "it runs in one process"),
        ("vae_lowlevel", "it runs in one process"),
        ("vae_numpy", "it runs in one process"),
        ("evaluate run --doctor", "--doctor runs in one process"),
        ("evaluate run --against run", "--against runs in one process"),
    ],
)
def test_a_command_for_one_process_is_refused_with_several(command, said, monkeypatch, capsys):
    """They would all do the same work and write the same files. All are told by the one that is first."""
    name, *argv = command.split()
    for variable, value in {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(variable, value)
    assert importlib.import_module(name).main(argv) == 2
    assert f"{said}; start it with python, without torchrun" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    assert importlib.import_module(name).main(argv) == 2
    assert (capsys.readouterr().err == "") == (said == "it runs in one process")


@pytest.mark.slow  # a compiler runs
@pytest.mark.parametrize("name", ["vae", "mlp", "iwae", "cvae", "ae"])
def test_a_compiled_objective_takes_the_same_steps(name):
    """In float64, where fused operations differ in the order of their sums."""
    batch = dict(data=noise_images(15), batch_size=5, dtype=torch.float64, steps=3)
    found, expected = take_steps(name, **batch, compiled=True), take_steps(name, **batch)
    for one, other in zip(found["gradients"], expected["gradients"], strict=True):
        assert furthest(one, other) < 1e-9
    assert furthest(found["state"], expected["state"]) < 1e-9


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
