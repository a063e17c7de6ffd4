"""A seeded fuzzer: damaged files are refused in one sentence, or are still valid; never a traceback, a hang, or memory
beyond a bound.

The default run takes a sample of each kind; `pytest -m slow tests/test_fuzz.py -s` takes all and prints the counts.
"""

import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
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


# --- the damages --------------------------------------------------------------------------------------------------


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


# --- what is read -------------------------------------------------------------------------------------------------


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


# --- answers to exercises -----------------------------------------------------------------------------------------

EXERCISES = Path(__file__).parents[1] / "exercises"
ANSWERS = {"03": ("ex03_convolution", "def conv_size(size"), "04": ("ex04_kl_and_elbo", "def gaussian_kl(mu")}
TIME_LIMIT = 1  # second that an answer gets; reading a right one takes a tenth

# What an answer may do instead of answering; {n} is a random number. The rest of the file is right.
DEEDS = (
    "raise SystemExit(0)",
    "raise KeyboardInterrupt",
    "raise BaseExceptionGroup('x', [SystemExit(0)]) if hasattr(__builtins__, 'BaseExceptionGroup') else GeneratorExit",
    "import os; os._exit(0)",
    "import os; os._exit({n} % 256)",
    "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "import os, signal; signal.signal(2, signal.default_int_handler); os.kill(0, signal.SIGINT)",  # else & ignores it
    "import os, signal; os.kill(0, signal.SIGTERM)",
    "import ctypes; ctypes.string_at({n} % 4096)",
    "import atexit, os; atexit.register(os._exit, 0); raise SystemExit(0)",
    "print('[pass] 03 Convolution'); raise SystemExit(0)",
    "import sys; sys.stdout.buffer.write(bytes(range(256)) * ({n} % 50)); return {n}",
    '[os.write(f, b\'{{"passed": true, "text": "", "tried": true}}\\n\') for f in range({n} % 60)]; os._exit(0)',
    "[(os.write(f, b'x' * 4000) if os.isatty(f) is None or f > 2 else 0) for _ in iter(int, 1) for f in (3, 4, 5)]",
    "import os; os.closerange({n} % 5, {n} % 5 + 40); return {n}",
    "import os; os.dup2(os.open(os.devnull, os.O_RDWR), {n} % 8); return {n}",
    "import os; return os.fork()",
    "import os; os.fork() or (os.setsid(), __import__('time').sleep(1), os._exit(0)); return {n}",
    "import threading, time; threading.Thread(target=time.sleep, args=(9,)).start(); return {n}",
    "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()']); return {n}",
    "return bytearray(2**33)",
    "return [bytearray(2**30) for _ in range({n})]",
    "return np.ones((2**20, {n}))",
    "return np.broadcast_to(np.float32(0), (2**20, 2**12))",
    "return np.full((), np.nan)",
    "return np.array([object()])",
    "return type('Odd', (), {{'__array__': lambda s: 1 / 0, 'dtype': 1, 'shape': 2, '__repr__': lambda s: 1}})()",
    "return type('Odd', (int,), {{'__repr__': lambda s: s, '__float__': lambda s: s, 'detach': 1}})({n})",
    "return 10**{n}",
    "f = lambda: f(); return f()",
    "import sys; sys.setrecursionlimit(10**9); f = lambda: f(); return f()",
    "x = []; x.append(x); return x",
    "import sys; sys.modules.clear(); return {n}",
    "import builtins; builtins.isinstance = None; return {n}",
    "import os; os.remove(__file__); return {n}",
    "open(__file__, 'w').write('# right'); return {n}",
    "import sys; sys.stdout = sys.stderr = sys.stdin = None; print({n}); return {n}",
    "import signal; signal.alarm(1); signal.pause()",
    "import time; time.sleep({n})",
    "while True: print({n})",
    "while True: pass",
)
TEXTS = (
    lambda rng: rng.bytes(int(rng.integers(1, 3000))),
    lambda rng: b"\x00" * int(rng.integers(1, 100)),
    lambda rng: "x = 'größer'".encode(("utf-16", "latin-1", "utf-32", "cp500")[rng.integers(4)]),
    lambda rng: b"# coding: " + (b"rot13", b"utf-7", b"none", b"\xff", b"zlib")[rng.integers(5)] + b"\nx = 1\n",
    lambda rng: b"x = " + b"9" * int(rng.integers(4000, 10**6)),
    lambda rng: b"x = " + b"([{-~"[(i := rng.integers(5)) : i + 1] * int(rng.integers(90, 10**5)) + b"1",
    lambda rng: b"x = " + b"1+" * int(rng.integers(1000, 10**5)) + b"1",
    lambda rng: b"x = " + b"lambda: " * int(rng.integers(50, 10**4)) + b"1",
    lambda rng: b"x" + b"[0]" * int(rng.integers(50, 10**5)),
    lambda rng: b"".join(b" " * i + b"if 1:\n" for i in range(int(rng.integers(20, 400)))),
    lambda rng: b"x = '" + b"\\N{" * int(rng.integers(1, 1000)),
    lambda rng: b'x = f"' + b"{x:" * int(rng.integers(1, 300)),
    lambda rng: b"x = (" + b"'a' * 9**9 * 9, " * int(rng.integers(1, 30)) + b")",
)


def hostile_answer(number: str, rng: np.random.Generator) -> bytes:
    """Not an answer: text of another kind, a wrong answer that is damaged, or a right one that does something else."""
    name, first = ANSWERS[number]
    solution, kind = (EXERCISES / "solutions" / f"{name}.py").read_text(encoding="utf-8"), rng.random()
    if kind < 0.2:
        return TEXTS[rng.integers(len(TEXTS))](rng)
    if kind < 0.45:
        return damaged(solution.replace("return ", "return 2 * ").encode(), rng)
    deed = DEEDS[rng.integers(len(DEEDS))].format(n=int(rng.integers(1, 10**6)))
    if rng.random() < 0.3 and "return" not in deed:
        return f"{solution}\nimport os\n{deed}\n".encode()
    start = solution.index(first)
    body = solution.index('"""', solution.index('"""', start) + 3) + 3 if '"""' in solution[start:] else None
    return f"import os\n{solution[:body]}\n    {deed}\n{solution[body:]}".encode()


def fuzz_answers(numbers: range, folder: Path, monkeypatch, capsys) -> list[float]:
    """Check so many hostile answers, each in a process of its own; the seconds that each took."""
    monkeypatch.syspath_prepend(str(EXERCISES))
    import check

    monkeypatch.setattr(check, "WORK", folder)
    took = []
    for number in numbers:
        exercise, rng = list(ANSWERS)[number % 2], np.random.default_rng([len(KINDS), number])
        (folder / f"{ANSWERS[exercise][0]}.py").write_bytes(answer := hostile_answer(exercise, rng))
        capsys.readouterr()
        start = time.monotonic()
        status = check.main([exercise, "--seed", str(number), "--time-limit", str(TIME_LIMIT)])
        said = capsys.readouterr()
        took.append(time.monotonic() - start)
        assert status == 1, (number, answer[:300], said)
        assert f"[fail] {exercise}" in said.out and said.err == "", (number, answer[-300:], said)
        assert not any(ours in said.out for ours in ("judging.py", "sandbox.py", 'check.py", line', "checks/ex")), said
        assert len(said.out) < 20_000, (number, answer[-300:], said.out)
    return took


@needs_alarm  # the sample: answers to exercise 03, which needs no torch
@pytest.mark.parametrize("numbers", [range(0, 8, 2), pytest.param(range(ALL), marks=pytest.mark.slow)])
def test_hostile_answers(numbers, monkeypatch, tmp_path, capsys):
    took = fuzz_answers(numbers, tmp_path, monkeypatch, capsys)
    print(f"\n{len(took)} hostile answers, none passed, each told in a paragraph, in {max(took):.1f} s at the most")
    assert max(took) < SECONDS


@needs_alarm
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_an_answer_that_ends_the_checker_has_not_passed(number, tmp_path):
    shutil.copytree(EXERCISES, tmp_path / "exercises", ignore=shutil.ignore_patterns("my_work", "__pycache__"))
    (tmp_path / "exercises" / "my_work").mkdir()
    answer = f"import os, signal\nos.kill(os.getppid(), signal.{number})\n"
    (tmp_path / "exercises" / "my_work" / "ex03_convolution.py").write_text(answer)
    argv = [sys.executable, str(tmp_path / "exercises" / "check.py"), "03"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode and "[pass]" not in done.stdout and "Traceback" not in done.stderr
