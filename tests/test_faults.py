"""What may befall a run: a second run in its folder, a file that promises more than it holds."""

import os
import resource
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vae_common import cli
from vae_common.data import DatasetError, load_dataset
from vae_common.files import FolderLock

posix = pytest.mark.skipif(os.name == "nt", reason="folders are locked with fcntl, which Windows does not have")
HOLD = """
import sys, time
from vae_common.files import FolderLock
lock = FolderLock(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that writes to tmp_path / "run" until it is killed."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def begin(folder: Path, overwrite: bool = True) -> int:
    parser = cli.parser("test", "--out", "--overwrite")
    argv = ["--out", str(folder), *(["--overwrite"] if overwrite else [])]
    return cli.run(parser, lambda args: cli.make_run_folder(args, "paper") and None, argv)


@posix
def test_a_second_run_in_the_same_folder_is_refused_and_harms_nothing(holder, tmp_path, capsys):
    assert begin(tmp_path / "run") == 2
    assert "another run is writing to this folder" in capsys.readouterr().err
    assert (tmp_path / "run" / "config.json").read_text() == "{}"


@posix
def test_the_default_folder_is_not_moved_away_from_under_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "paper"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    lock = FolderLock(folder)
    assert cli.run(cli.parser("test", "--out"), lambda args: cli.make_run_folder(args, "paper") and None, []) == 2
    assert "another run is writing to this folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["paper"]
    lock.release()
    assert cli.run(cli.parser("test", "--out"), lambda args: cli.make_run_folder(args, "paper") and None, []) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["paper", "paper-1"]


@posix
def test_a_process_that_was_killed_holds_no_folder(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert begin(tmp_path / "run") == 0


@posix
def test_a_command_that_ended_holds_no_folder(tmp_path):
    assert begin(tmp_path / "run") == 0
    FolderLock(tmp_path / "run").release()
    assert begin(tmp_path / "run", overwrite=False) == 2
    FolderLock(tmp_path / "run").release()


# --- files that promise more than they hold -----------------------------------------------------------------------

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def write_idx(folder: Path, images: bytes | None = None, labels: bytes | None = None) -> None:
    """The four files of MNIST with seven images in each split, or other bytes in their place."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)
    for name in IDX:
        whole = struct.pack(">4BI", 0, 0, 8, 1, 7) + bytes(range(7))
        if "images" in name:
            whole = struct.pack(">4B3I", 0, 0, 8, 3, 7, 28, 28) + pixels.tobytes()
        given = images if "images" in name else labels
        (raw / name).write_bytes(whole if given is None else given)


def test_whole_files_are_read(tmp_path):
    write_idx(tmp_path)
    data = load_dataset("mnist", "test", tmp_path)
    assert data.images.shape == (7, 1, 28, 28) and data.labels.tolist() == list(range(7))


@pytest.mark.parametrize(
    "images",
    [
        struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 28, 28) + bytes(784),
        struct.pack(">4B3I", 0, 0, 8, 3, 7, 28, 28) + bytes(6 * 784),
        struct.pack(">4B3I", 0, 0, 8, 3, 7, 28, 28) + bytes(8 * 784),
        struct.pack(">4B3I", 0, 0, 14, 3, 7, 28, 28) + bytes(7 * 784),
        struct.pack(">4B2I", 0, 0, 8, 3, 7, 28),
        b"\x00\x00",
        b"",
    ],
    ids=["2^31 images", "one image short", "one image over", "float64", "half a header", "two bytes", "nothing"],
)
def test_a_header_that_does_not_fit_the_file_is_refused_before_memory_is_taken(images, tmp_path):
    write_idx(tmp_path, images)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DatasetError, match=r"t10k-images-idx3-ubyte|train-images-idx3-ubyte"):
        load_dataset("mnist", "test", tmp_path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300 * 1024  # KiB; importing torchvision takes most of it, 2^31 images would take 1,643 GiB
