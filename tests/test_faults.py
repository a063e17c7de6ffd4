"""What may befall a run: a second run in its folder, files that lie, a death at any moment; what must not differ."""

import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import latent_figures
import vae_paper
from synthetic_mnist import write_mnist
from test_resume import MODELS, assert_same_run, flipped
from vae_common import cli, data, digits, files
from vae_common.config import RunConfig
from vae_common.data import load_dataset
from vae_common.errors import DatasetError, UsageError
from vae_common.files import FolderLock
from vae_common.run_folder import make_run_folder
from vae_plots.snapshots import read_snapshots
from vae_training import trainer
from vae_training.factory import build_model, build_prior

TRACED = 32 * 2**20  # bytes that reading one file below may take at its peak, as tracemalloc counts; each promises more
PROMISED = 3 * TRACED

posix = pytest.mark.skipif(os.name == "nt", reason="folders are locked with fcntl, which Windows does not have")
HOLD = """
import sys
from vae_common.files import FolderLock
lock = FolderLock(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def traced(read: Callable[[], object]):
    """What read() returns, within TRACED bytes of memory."""
    tracemalloc.start()
    try:
        return read()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < TRACED


@pytest.fixture
def holder(tmp_path):
    """Another process that writes to tmp_path / "run" until it is killed."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"level": "paper", "numpy": "2"}')
    argv = [sys.executable, "-c", HOLD, tmp_path / "run"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process


def begin(*argv: str) -> int:
    """What a command does that makes its run folder, and nothing else."""

    def body(**typed):
        make_run_folder(RunConfig(**typed), "paper")

    return cli.run(cli.parser("test", "out", "overwrite"), argv, body)


@posix
def test_a_second_run_in_the_same_folder_is_refused_until_the_first_is_dead(holder, tmp_path, capsys):
    again = ["--out", str(tmp_path / "run"), "--overwrite"]
    assert begin(*again) == 2
    assert "another run is writing to this folder" in capsys.readouterr().err
    assert (tmp_path / "run" / "config.json").read_text() == '{"level": "paper", "numpy": "2"}'
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert begin(*again) == 0


@posix
def test_the_default_folder_is_not_moved_away_from_under_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "paper"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    lock = FolderLock(folder)
    assert begin() == 2
    assert "another run is writing to this folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["paper"]
    lock.release()
    assert begin() == 0
    FolderLock(folder).release()  # a command that has ended holds no folder
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["paper", "paper-1"]


# --- what a killed process leaves behind --------------------------------------------------------------------------

# It writes half a file and is killed there.
HALF = """
import os, signal, sys
from vae_common.files import write_atomically
def half(file):
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
write_atomically(sys.argv[1], half)
"""


def write_half(path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", HALF, path]).returncode == -signal.SIGKILL


@posix
def test_what_a_killed_process_left_is_removed_by_the_next_run_in_that_folder(tmp_path):
    run = tmp_path / "run"
    for path in (run / "config.json", run / "figures" / "a\npicture.png"):
        write_half(path)
    (run / "figures" / ".notes.tmp").write_text("somebody else's")
    assert len(list(run.rglob(".*.tmp"))) == 3
    assert begin("--out", str(run), "--overwrite") == 0
    assert [path.name for path in run.rglob(".*.tmp")] == [".notes.tmp"]
    write_half(tmp_path / "empty" / "config.json")
    assert begin("--out", str(tmp_path / "empty")) == 0  # which holds only what a killed process left


def test_a_folder_is_held_with_a_note_where_none_can_be_locked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "fcntl", None)
    assert begin("--out", str(tmp_path)) == 0
    assert "cannot be locked on this system; start no second run on it" in capsys.readouterr().err


# --- files that promise more than they hold -----------------------------------------------------------------------


def test_images_that_are_more_than_their_file_holds_or_too_many_are_refused_before_memory_is_taken(tmp_path):
    path = write_mnist(tmp_path, train=7, test=7) / "t10k-images-idx3-ubyte"
    assert len(load_dataset("mnist", "train", tmp_path)) == 7  # and torchvision is imported
    for count, size, said in (
        (2**31, 800, path.name),
        (2**24, 16 + 2**24 * 784, "13,153,337,360 bytes, where 1,073,741,824 are the most"),  # sparse
    ):
        path.write_bytes(struct.pack(">4I", 0x803, count, 28, 28))
        os.truncate(path, size)
        with pytest.raises(DatasetError, match=said):
            traced(lambda: load_dataset("mnist", "test", tmp_path))


# --- archives of arrays: no code from them, and no more than they may hold ----------------------------------------


def archive_of(name: str, header: dict, how: int = zipfile.ZIP_DEFLATED, zeros: int = PROMISED) -> bytes:
    """An archive of one array with this header, and zeros for what it holds: a thousandth of their size."""
    whole, start = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(start, header)
    with zipfile.ZipFile(whole, "w", how, compresslevel=1) as archive, archive.open(f"{name}.npy", "w") as part:
        part.write(start.getvalue())
        for _ in range(0, zeros, 2**20):
            part.write(bytes(2**20))
    return whole.getvalue()


def header(*shape: int, descr: str = "|u1") -> dict:
    return {"descr": descr, "fortran_order": False, "shape": shape}


class Bomb:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def explosive(path: Path, *names: str) -> bytes:
    whole = io.BytesIO()
    np.savez(whole, **{name: np.array([Bomb(path)], dtype=object) for name in names})
    return whole.getvalue()


PLANES = PROMISED // (225 * 784)
SNAPSHOTS = {
    "zeros": lambda path: archive_of("planes", header(PLANES, 225, 1, 28, 28)),
    "zeros by bzip2": lambda path: archive_of("planes", header(2, 225, 1, 28, 28), zipfile.ZIP_BZIP2, 2 * TRACED),
    "a promise": lambda path: archive_of("planes", header(2**31, 225, 1, 28, 28), zipfile.ZIP_STORED, 0),
    "wide numbers": lambda path: archive_of("planes", header(2, 225, 1, 28, 28, descr="|V9999"), zeros=0),
    "a pickle": lambda path: explosive(path, "planes"),
}


@pytest.mark.parametrize("what", SNAPSHOTS)
def test_snapshots_that_are_no_pictures_are_refused_before_they_are_unpacked(what, tmp_path):
    (tmp_path / "snapshots.npz").write_bytes(SNAPSHOTS[what](tmp_path / "exploded"))
    with pytest.raises(UsageError, match=r"snapshots\.npz: expected the snapshots of a run"):
        traced(lambda: read_snapshots(tmp_path, epochs=1))
    assert not (tmp_path / "exploded").exists()


CACHED = {
    "zeros": lambda path: archive_of("factors", header(PROMISED)),
    "a promise": lambda path: archive_of("factors", header(2**40, 2**20, descr="<f8"), zipfile.ZIP_STORED, 0),
    "a pickle": lambda path: explosive(path, "factors", "images"),
}


@pytest.mark.parametrize("what", CACHED)
def test_cached_data_that_is_no_data_is_drawn_again_before_it_is_unpacked(what, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(digits.SPLIT_SIZES, "test", 3)
    drawn = load_dataset("digits", "test", tmp_path).images
    next(tmp_path.glob("digits-*.npz")).write_bytes(CACHED[what](tmp_path / "exploded"))
    found = traced(lambda: load_dataset("digits", "test", tmp_path))
    np.testing.assert_array_equal(found.images, drawn)
    assert "is damaged; drawing the digits again" in capsys.readouterr().err
    assert not (tmp_path / "exploded").exists()


def test_every_flipped_bit_of_an_archive_is_noticed_or_changes_nothing():
    """Of every byte one bit; some of the bytes say when and by whom it was written."""
    arrays = {"factors": np.random.default_rng(0).random((2, 9)), "images": np.arange(600).astype(np.uint8)}
    file = io.BytesIO()
    np.savez(file, **arrays)
    noticed = 0
    for at in range(len(file.getvalue())):
        damaged = io.BytesIO(flipped(file.getvalue(), at))
        try:
            found = files.load_arrays(damaged, {name: array.nbytes for name, array in arrays.items()})
        except Exception:  # a damaged zip is reported as almost any exception
            noticed += 1
            continue
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array, strict=True)
    assert noticed > sum(array.nbytes for array in arrays.values())


# --- what is no file ----------------------------------------------------------------------------------------------

FLAGS = ["--epochs", "1", "--architecture", "mlp", "--latent-dim", "2"]


@pytest.fixture
def finished(trained, tmp_path) -> Path:
    return shutil.copytree(trained(*FLAGS), tmp_path / "run")


READS = {
    "checkpoint.safetensors": lambda run: vae_paper.main(["--resume", run]),
    "weights.safetensors": lambda run: latent_figures.main([run]),
    "snapshots.npz": lambda run: latent_figures.main([run, "--animate"]),
    "metrics.jsonl": lambda run: latent_figures.main([run]),
    "config.json": lambda run: vae_paper.main(["--resume", run]),
}
IN_ITS_PLACE = {
    "sparse": lambda path: (path.touch(), os.truncate(path, 2**34)),
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
}


@posix
@pytest.mark.parametrize("name", READS)
def test_what_is_no_file_of_a_run_is_refused_at_once(name, finished, told):
    """16 GiB of nothing take no room on the disk; a pipe never answers, /dev/zero never ends."""
    (finished / name).rename(finished / "aside")
    for make in IN_ITS_PLACE.values():
        make(finished / name)
        assert name in told(lambda run: traced(lambda: READS[name](run)), str(finished))
        (finished / name).rmdir() if (finished / name).is_dir() else (finished / name).unlink()


def test_the_size_that_is_read_has_room_for_what_is_written():
    """Twice the weights, and two moments of each, of the prior over the largest codebook."""
    config = RunConfig(model="vqvae", codes=65536, codebook="gradient").settled()
    model = build_prior(config, build_model(config))
    assert 2 * 3 * sum(4 * value.numel() for value in model.state_dict().values()) < files.MOST


# --- a death at any moment ----------------------------------------------------------------------------------------


def die_at(moment: int, die: Callable[[], object], set_attribute: Callable) -> None:
    """Make a run die where, from its first step on, it would take a step, flush a file to the disk, or rename one for
    the `moment`-th time."""
    begun, step = [], trainer.train_step

    def mortal(call):
        def counted(*args):
            if begun or call is step:
                begun.append(call)
            if len(begun) == moment:
                die()
            return call(*args)

        return counted

    for module, name in ((trainer, "train_step"), (os, "fsync"), (os, "replace")):
        set_attribute(module, name, mortal(getattr(module, name)))


class Killed(BaseException):
    """As near to SIGKILL as one process comes: nothing here handles it. What cleans up still runs."""


def test_dead_at_one_moment_after_another_and_resumed(without_pictures, monkeypatch, tmp_path):
    """In the second epoch's first step; as the earlier checkpoint is copied; before the new one is renamed."""
    flags = ["--architecture", "mlp", "--epochs", "2", "--batch-size", "32", "--binarize", "dynamic"]
    run, argv = str(tmp_path / "run"), [*flags, "--out", str(tmp_path / "run")]
    for moment in (12, 7, 10):
        with monkeypatch.context() as patched, pytest.raises(Killed):

            def die():
                raise Killed

            die_at(moment, die, patched.setattr)
            vae_paper.main(argv)
        argv = ["--resume", run]
    assert vae_paper.main(argv) == 0
    assert vae_paper.main([*flags, "--out", str(tmp_path / "whole")]) == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole")


# vae_paper.main in a process of its own, on 150 images, which kills itself.
COMMAND = """
import os, signal, sys
import vae_paper
from vae_commands import train_run
from vae_common import data
sys.path.insert(0, sys.argv[1])
from test_faults import die_at
whole = data.load_dataset("digits", "test")
def few(name, split, folder):
    part = {"train": slice(0, 150), "test": slice(150, 200)}[split]
    return whole.factors[part], whole.images[part]
data._load_drawn, train_run.draw_run = few, lambda *args: None
die_at(int(sys.argv[2]), lambda: os.kill(os.getpid(), signal.SIGKILL), setattr)
sys.exit(vae_paper.main(sys.argv[3:]))
"""


# As in the tests of resuming, but one of Z = 2, whose run keeps snapshots of the decoded plane as well.
KILLED = {name: flags for name, flags in MODELS.items() if name != "capacity"} | {"vae": ["--latent-dim", "2"]}


@posix
@pytest.mark.slow
@pytest.mark.parametrize("model", KILLED)
def test_each_model_killed_at_random_moments(model, without_pictures, tmp_path, capsys):
    """Up to 5 times, each time after it was resumed; with 14 moments or more in each epoch the first two hit."""
    flags, hits = [*KILLED[model], "--epochs", "6", "--batch-size", "32", "--binarize", "dynamic"], 0
    rng, argv = np.random.default_rng(list(KILLED).index(model)), [*flags, "--out", str(tmp_path / "run")]
    for _ in range(5):
        launch = [sys.executable, "-c", COMMAND, str(Path(__file__).parent), str(rng.integers(1, 40)), *argv]
        done = subprocess.run(launch, capture_output=True, text=True, timeout=1200)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        hits += done.returncode == -signal.SIGKILL
        assert not any(line for line in done.stderr.splitlines() if "damaged" in line or "Traceback" in line)
        argv = ["--resume", str(tmp_path / "run")]
    assert hits >= 2
    assert vae_paper.main(argv) == 0
    assert vae_paper.main([*flags, "--out", str(tmp_path / "whole")]) == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    with capsys.disabled():
        print(f"\n{model}: killed {hits} times, the same bytes in the end")


# --- places -------------------------------------------------------------------------------------------------------


def test_any_name_of_a_folder_will_do(without_pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "-ein Lauf\nGröße-学習"
    assert vae_paper.main([*FLAGS, f"--out={name}"]) == 0
    assert vae_paper.main([f"--resume={name}"]) == 0


@posix
def test_a_folder_behind_a_link_is_locked_and_written(without_pictures, tmp_path, capsys):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert vae_paper.main([*FLAGS, "--out", str(tmp_path / "link")]) == 0
    assert (tmp_path / "real" / "weights.safetensors").is_file() and (tmp_path / "link").is_symlink()
    lock = FolderLock(tmp_path / "real")
    assert vae_paper.main(["--resume", str(tmp_path / "link")]) == 2
    assert "another run is writing to this folder" in capsys.readouterr().err
    lock.release()


DRAW = """
import sys
from vae_common import data, digits
digits.SPLIT_SIZES["test"] = 300
print(int(data.load_dataset("digits", "test", sys.argv[1]).images.sum(dtype=int)))
"""


def test_several_processes_draw_into_one_cache(tmp_path):
    argv = [sys.executable, "-c", DRAW, str(tmp_path)]
    started = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [process.communicate(timeout=1200) for process in started]
    assert all(process.returncode == 0 for process in started) and len(set(ended)) == 1 and ended[0][1] == ""
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


# --- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (0, []),
        (255, ["--architecture", "mlp", "--capacity", "5"]),
        (0, ["--model", "vqvae", "--codes", "4"]),
    ],
)
def test_images_without_content_give_finite_numbers(value, flags, without_pictures, monkeypatch, tmp_path):
    factors = (np.arange(40) % 10).astype(float)[:, None]
    images = np.full((40, 1, 28, 28), value, np.uint8)
    monkeypatch.setattr(data, "_load_drawn", lambda name, split, folder: (factors, images))
    assert vae_paper.main([*flags, "--epochs", "1", "--batch-size", "4", "--out", str(tmp_path / "run")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(one) for row in rows for one in row.values() if isinstance(one, float))
    assert 0 <= rows[-1]["recon"] < 784 * np.log(2)  # better than grey


@pytest.mark.parametrize("flags", [["--model", "vqvae", "--codes", "4"], ["--importance-samples", "2"]])
def test_a_huge_lr_ends_in_numbers_or_in_a_sentence(flags, without_pictures, tmp_path, capsys):
    status = vae_paper.main([*flags, "--lr", "1000", "--epochs", "3", "--batch-size", "16", "--out", str(tmp_path)])
    said = capsys.readouterr()
    assert "nan" not in said.out
    assert status == 0 or (status == 2 and len(said.err.splitlines()) == 1 and "try a smaller --lr" in said.err)
