"""A seeded fuzzer: damaged files are refused in one sentence, or are still valid; never a traceback, a hang, or memory
beyond a bound.

The default run takes a sample of each kind; `pytest -m slow tests/test_fuzz.py -s` takes all and prints the counts.
"""

import json
import os
import resource
import signal
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from run_folders import finished_run
from vae_common import data
from vae_common.data import ImageSet
from vae_common.errors import DatasetError, UsageError, WeightsError
from vae_common.run_folder import read_config, write_metrics
from vae_common.spec import VAESpec
from vae_common.weights import load_weights, save_weights
from vae_training.checkpoints import load_checkpoint, save_checkpoint
from vae_training.factory import build_model
from vae_training.run_files import read_run
from vae_training.trainer import RunState

REFUSALS = (UsageError, WeightsError, DatasetError)
SAMPLE, ALL = 12, 220  # damaged inputs of each kind
MEMORY = 400 * 2**20  # bytes that reading one damaged file may add to this process, torch's and libraries' caches too
SECONDS = 120  # for one input, on a machine that has other work too; a whole file takes a hundredth of a second

HUGE = (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x7FFFFFFFFFFFFFFF, 10**12)


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    """One to three random damages: bits flipped, bytes cut off, cut out, put in, or a huge number in the header."""
    for _ in range(rng.integers(1, 4)):
        whole = DAMAGES[rng.integers(len(DAMAGES))](bytearray(whole), rng)
    return bytes(whole)


def at(whole: bytearray, rng: np.random.Generator) -> int:
    """A position, half of the time in the first 1,000 bytes, where headers are."""
    return int(rng.integers(0, max(1, len(whole) if rng.random() < 0.5 else min(len(whole), 1000))))


def flip_bits(whole: bytearray, rng) -> bytearray:
    for _ in range(rng.integers(1, 9)):
        if whole:
            whole[at(whole, rng)] ^= 1 << int(rng.integers(8))
    return whole


def cut_off(whole: bytearray, rng) -> bytearray:
    return whole[: at(whole, rng)]


def cut_out(whole: bytearray, rng) -> bytearray:
    start = at(whole, rng)
    del whole[start : start + int(rng.integers(1, 100))]
    return whole


def put_in(whole: bytearray, rng) -> bytearray:
    start = at(whole, rng)
    whole[start:start] = rng.bytes(int(rng.integers(1, 100)))
    return whole


def huge_number(whole: bytearray, rng) -> bytearray:
    start, value = at(whole, rng), HUGE[rng.integers(len(HUGE))]
    order = "<" if rng.random() < 0.5 else ">"
    packed = struct.pack(order + ("I" if value < 2**32 else "Q"), value)
    whole[start : start + len(packed)] = packed
    return whole


DAMAGES = (flip_bits, cut_off, cut_out, put_in, huge_number)
ODD = (None, True, -1, 0, 1e400, -1e400, 10**400, 0.5, "", "x" * 1000, [], {}, [[1]], {"a": None}, "vae", "\ud800")


def damaged_json(whole: bytes, rng: np.random.Generator) -> bytes:
    """A value of another type or size, a key less or more, a deep nest; or a damage to the text."""
    lines = whole.decode().splitlines() if whole.count(b'"epoch"') > 1 else [whole.decode()]
    number = int(rng.integers(len(lines)))
    found, choice = json.loads(lines[number]), rng.random()
    if choice < 0.3:
        return damaged(whole, rng)
    if choice < 0.35:
        lines[number] = "[" * 10**5
    else:
        key = list(found)[rng.integers(len(found))]
        if choice < 0.5:
            del found[key]
        else:
            found[key] = ODD[rng.integers(len(ODD))]
        lines[number] = json.dumps(found if choice < 0.95 else [found])
    return "\n".join(lines).encode()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run, small enough to be read a thousand times."""
    folder = finished_run(tmp_path_factory.mktemp("run") / "run", architecture="mlp", latent_dim=2, epochs=2)
    on = {"dataset": "digits", "binarize": "none", "likelihood": "bernoulli"}
    row = {"recon": 1.5, "kl": 1.0, "elbo": -2.5, **on}
    rows = [{"epoch": epoch, "split": split, **row} for epoch in (1, 2) for split in ("train", "test")]
    write_metrics(folder / "metrics.jsonl", rows)
    config, _ = read_config(folder)
    state = RunState.start(build_model(config), config)
    for value in state.model.parameters():
        value.grad = torch.zeros_like(value)
    state.optimizer.step()
    state.step, state.rows = 1, rows
    save_checkpoint(state, folder / "checkpoint.safetensors")
    return folder


def read_weights(path: Path) -> None:
    assert list(load_weights(path)) == list(VAESpec(2).shapes)


def read_checkpoint(path: Path) -> None:
    config, _ = read_config(path.parent)
    state = RunState.start(build_model(config), config)
    load_checkpoint(state, path)
    assert state.step == 1 and state.rows[-1]["epoch"] == 2


def read_folder(path: Path) -> None:
    config, model, rows = read_run(path.parent)
    assert config.model == "vae" and len(list(model.parameters())) and rows is not None


def read_idx(path: Path) -> None:
    split = data.load_dataset("mnist", "train", path.parents[2])
    assert split.images.shape == (7, 1, 28, 28) and len(split.labels) == 7
    assert 0 <= split.labels.min() <= split.labels.max() < 10


def read_cached(path: Path) -> None:
    """Drawn again where it is damaged; what is drawn is right in any case."""
    found: ImageSet = data.load_dataset("digits", "test", path.parent)
    assert found.images.sum() == 1


def read_progress(path: Path) -> None:
    import check

    for entry in check.read_progress().values():
        assert isinstance(entry, dict)


def prepare(kind: str, run: Path, folder: Path, monkeypatch):
    """(the file to damage, how, what reads it), in `folder`."""
    for name in ("config.json", "metrics.jsonl", "weights.safetensors", "checkpoint.safetensors"):
        (folder / name).write_bytes((run / name).read_bytes())
    if kind == "weights":
        return save_weights(VAESpec(2).init_params(0), folder / "spec.safetensors"), damaged, read_weights
    if kind in ("idx images", "idx labels"):
        from synthetic_mnist import write_mnist

        raw = write_mnist(folder, train=7, test=7)
        return raw / f"train-{'images-idx3' if kind == 'idx images' else 'labels-idx1'}-ubyte", damaged, read_idx
    if kind == "cached data":
        drawer = data.DRAWN["digits"]
        monkeypatch.setitem(drawer.SPLIT_SIZES, "test", 3)
        images = np.zeros((3, 1, 28, 28), np.uint8)
        images[0, 0, 0, 0] = 1
        monkeypatch.setattr(drawer, "draw", lambda factors: images)
        data.load_dataset("digits", "test", folder)
        return next(folder.glob("digits-*.npz")), damaged, read_cached
    if kind == "progress":
        monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "exercises"))
        import check

        monkeypatch.setattr(check, "WORK", folder)
        (folder / ".progress.json").write_text('{"01": {"tries": 3, "hints": 1}, "02": {"tries": 1, "passed": "ab"}}')
        return folder / ".progress.json", damaged_json, read_progress
    name = {"config": "config.json", "metrics": "metrics.jsonl", "run's weights": "weights.safetensors"}.get(kind)
    if name is None:
        return folder / "checkpoint.safetensors", damaged, read_checkpoint
    return folder / name, damaged if "weights" in kind else damaged_json, read_folder


KINDS = ("weights", "run's weights", "checkpoint", "config", "metrics", "idx images", "idx labels")
KINDS += ("cached data", "progress")


def fuzz(kind: str, count: int, run: Path, folder: Path, monkeypatch) -> tuple[int, int]:
    """How many of `count` damaged files were refused, and how many could still be read."""
    path, damage, read = prepare(kind, run, folder, monkeypatch)
    whole, refused, valid = path.read_bytes(), 0, 0
    read(path)  # what is whole is read, and what it needs imported
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        path.unlink(missing_ok=True)
        path.write_bytes(damage(whole, np.random.default_rng([KINDS.index(kind), number])))
        signal.alarm(SECONDS)
        try:
            read(path)
            valid += 1
        except REFUSALS as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 1000, number
            assert str(error).endswith("."), str(error)
        except BaseException as error:
            raise AssertionError(f"{kind}, damaged input {number}: {type(error).__name__}: {error}") from error
        finally:
            signal.alarm(0)
    unit = 1 if sys.platform == "darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < MEMORY
    return refused, valid


needs_alarm = pytest.mark.skipif(os.name == "nt", reason="a hang is ended by SIGALRM, which Windows does not have")


@needs_alarm
@pytest.mark.parametrize("count", [SAMPLE, pytest.param(ALL, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(kind, count, run, monkeypatch, tmp_path):
    refused, valid = fuzz(kind, count, run, tmp_path, monkeypatch)
    print(f"\n{kind}: {count} damaged inputs, {refused} refused in one sentence, {valid} still read or replaced")
    assert refused + valid == count
