"""Disks that are full, or cannot be written: a small one is mounted, which takes root on Linux; skipped elsewhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import evaluate
import latent_explorer
import latent_figures
import rate_distortion
import vae_lowlevel
import vae_numpy
import vae_paper
from synthetic_mnist import write_mnist
from test_resume import assert_same_run
from vae_common import digits as drawn_digits
from vae_common.data import load_dataset
from vae_plots.run import PICTURES

MIB = 2**20


class Disk:
    """A file system in memory, mounted at `path`, with room for so many bytes."""

    def __init__(self, path: Path, size: int):
        self.path = path
        path.mkdir()
        argv = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")

    def change(self, options: str) -> None:
        """`size=N` makes it larger or smaller, `ro` and `rw` refuse and allow writing."""
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True)

    def fill(self) -> None:
        """Make it as small as what it holds."""
        found = os.statvfs(self.path)
        self.change(f"size={(found.f_blocks - found.f_bfree) * found.f_frsize}")

    def release(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path):
    if not sys.platform.startswith("linux") or os.geteuid():
        pytest.skip("a small disk can be mounted by root on Linux")
    disk = Disk(tmp_path / "disk", 64 * MIB)
    yield disk
    disk.release()


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FULL = "No space left on device"
FLAGS = ["--architecture", "mlp", "--latent-dim", "2", "--epochs", "2", "--batch-size", "32"]


@pytest.fixture
def whole(trained) -> Path:
    """The run that always had room; without pictures, which are tested apart."""
    return trained(*FLAGS)


def train_with_room_for(size: int, disk: Disk, whole: Path, capsys) -> bool:
    """Train with so much room, and go on with enough of it: the same run in the end. Whether it was too little."""
    run = disk.path / "run"
    disk.change(f"size={size}")
    capsys.readouterr()
    status, said = vae_paper.main([*FLAGS, "--out", str(run)]), capsys.readouterr().err
    if status:
        assert status == 2 and FULL in said and str(run) in said and len(said.splitlines()) == 1, said
    assert not list(run.rglob(".*.tmp"))
    disk.change(f"size={64 * MIB}")
    began = (run / "config.json").is_file()  # where not even that had room, nothing was begun
    assert vae_paper.main(["--resume", str(run)] if began else [*FLAGS, "--out", str(run), "--overwrite"]) == 0
    assert "damaged" not in capsys.readouterr().err
    assert_same_run(run, whole)
    shutil.rmtree(run)
    return status != 0


def test_a_disk_that_gets_full_ends_a_run_that_goes_on_when_there_is_room(disk, whole, capsys):
    checkpoint = (whole / "checkpoint.safetensors").stat().st_size
    assert [train_with_room_for(int(n * checkpoint), disk, whole, capsys) for n in (0.01, 0.5, 1.5, 4)] == [1, 1, 1, 0]


@pytest.mark.slow
def test_a_disk_that_gets_full_at_any_moment(disk, whole, capsys):
    written = [*whole.rglob("*.*"), whole / "checkpoint.safetensors"]  # and a third checkpoint as it is written
    pages = sum(-(-path.stat().st_size // 4096) for path in written)
    sizes = np.linspace(1, pages + 200, 60, dtype=int) * 4096  # to more than the run ever takes
    full = [train_with_room_for(size, disk, whole, capsys) for size in sizes]
    assert full == sorted(full, reverse=True) and 30 < sum(full) < 60
    with capsys.disabled():
        print(f"\na disk with room for less than a run: {sum(full)} of {len(full)}, the same run in the end")


COMMANDS = {
    "latent_figures": lambda run: latent_figures.main([run, "--animate"]),
    "evaluate": lambda run: evaluate.main([run, "--importance-samples", "2", "--only", "bounds"]),
    "rate_distortion": lambda run: rate_distortion.main([run, "--samples", "50"]),
    "evaluate --only probes": lambda run: evaluate.main([run, "--only", "probes"]),
    "latent_explorer": lambda run: latent_explorer.main([run]),
    "vae_paper --resume": lambda run: vae_paper.main(["--resume", run]),
    "vae_paper --out": lambda run: vae_paper.main([*FLAGS, "--out", run + "/again"]),
    "vae_lowlevel": lambda run: vae_lowlevel.main(["--epochs", "1", "--latent-dim", "2", "--out", run + "/low"]),
    "vae_numpy": lambda run: vae_numpy.main(["--latent-dim", "2", "--out", run + "/numpy"]),
}


@pytest.fixture
def finished(trained, monkeypatch) -> Path:
    """A run that has ended, trained once and not to be written to; pictures are two where there are any."""
    monkeypatch.setitem(PICTURES, "vae", PICTURES["vae"][:2])
    monkeypatch.setattr("vae_plots.run.draw_training", lambda *args: None)
    return trained("--latent-dim", "2", "--epochs", "1")


@pytest.fixture
def run_on_disk(disk, finished) -> Path:
    return shutil.copytree(finished, disk.path / "run")


READ_ONLY = "Read-only file system"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((name, FULL) for name in COMMANDS),
        *((name, READ_ONLY) for name in COMMANDS if name.startswith("vae_paper")),
        *(pytest.param(name, READ_ONLY, marks=pytest.mark.slow) for name in COMMANDS if not name.startswith("vae_p")),
    ],
)
def test_a_disk_that_takes_nothing_is_told_and_what_was_there_stays(name, reason, disk, run_on_disk, told):
    before = files_of(disk.path)
    disk.fill() if reason == FULL else disk.change("ro")
    said = told(COMMANDS[name], str(run_on_disk))
    wanted = "this folder, or its disk, is read-only" if reason == READ_ONLY and "--resume" in name else reason
    assert wanted in said and str(disk.path) in said
    assert files_of(disk.path) == before
    if reason == FULL and name.startswith("evaluate"):
        disk.change(f"size={64 * MIB}")
        assert COMMANDS[name](str(run_on_disk)) == 0


def test_drawn_data_is_drawn_each_time_where_it_cannot_be_kept(disk, monkeypatch, capsys):
    monkeypatch.setitem(drawn_digits.SPLIT_SIZES, "test", 3)
    (disk.path / "page").write_bytes(bytes(4096))
    for reason in (READ_ONLY, FULL):
        disk.change("ro") if reason == READ_ONLY else (disk.change("rw"), disk.fill())
        capsys.readouterr()
        assert load_dataset("digits", "test", disk.path / "cache").images.shape == (3, 1, 28, 28)
        said = capsys.readouterr().err
        assert "could not be cached" in said and reason in said and len(said.splitlines()) == 1
        assert not list((disk.path / "cache").glob("*"))


def test_real_data_on_a_disk_that_cannot_be_written_is_read_and_none_is_put_there(disk, capsys):
    write_mnist(disk.path, train=7, test=7)
    disk.change("ro")
    assert len(load_dataset("mnist", "test", disk.path)) == 7
    argv = ["--epochs", "1", "--dataset", "kmnist", "--data-dir", str(disk.path)]
    assert vae_paper.main([*argv, "--out", str(disk.path.parent / "run")]) == 2
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("downloading kmnist") and READ_ONLY in last and "use --dataset digits" in last
    assert not (disk.path.parent / "run").exists()
