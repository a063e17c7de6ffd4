"""A run folder: files are written whole or not at all, no earlier run is lost, settings are written and read again."""

import errno
import json
import math
import os

import numpy as np
import pytest

from messages import one_sentence
from vae_common import files, run_folder
from vae_common.config import RunConfig
from vae_common.errors import UsageError
from vae_common.run_folder import RUN_FILES, make_run_folder, note_threads, read_config


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path, monkeypatch, broken, failure):
    path, calls = tmp_path / "a" / "b" / "file", []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args)))
    assert files.write_atomically(path, lambda file: file.write(b"old")) == path

    assert calls[:2] == ["fsync", "replace"]  # the bytes are on disk before the rename

    def fail(*_):
        raise failure

    def write(file):
        file.write(b"ne")
        file.flush()
        if broken == "write":
            raise failure

    if broken != "write":
        monkeypatch.setattr(os, broken, fail)
    with pytest.raises(type(failure)) as error:
        files.write_atomically(path, write)
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]
    assert broken == "write" or error.type is KeyboardInterrupt or error.value.filename == str(path)


def made(out=None, **settings):
    try:
        return make_run_folder(RunConfig(out=out and str(out), **settings).settled(), "paper", torch="2.4")
    finally:
        run_folder.release_all()


def test_the_config_says_how_the_run_was_started(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = made(seed=3, lr=0.25, data_dir="data")
    config = json.loads((folder / "config.json").read_text())
    assert str(folder) == os.path.join("runs", "paper") and (config["format"], config["level"]) == (1, "paper")
    assert (config["seed"], config["lr"], config["numpy"], config["torch"]) == (3, 0.25, np.__version__, "2.4")
    assert config["threads"] == run_folder.threads()
    assert config["data_dir"] == str(tmp_path / "data")  # so that the run can be read from any folder
    assert set(RunConfig.settings("paper")) <= set(config)
    assert capsys.readouterr().out == f"wrote {folder / 'config.json'}\n"


def test_earlier_runs_in_the_default_place_are_moved_aside_one_after_another(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        (made() / "mine.txt").write_text(str(number))
    kept = {path.name: (path / "mine.txt").read_text() for path in (tmp_path / "runs").iterdir()}
    assert kept == {"paper-1": "0", "paper-2": "1", "paper": "2"}
    moves = [line for line in capsys.readouterr().out.splitlines() if line.startswith("moved")]
    assert moves == [f"moved the earlier run runs/paper to runs/paper-{number}" for number in (1, 2)]


def test_a_named_folder_may_be_new_or_empty_and_otherwise_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new/folder"):
        assert made(out=tmp_path / name) == tmp_path / name
    write(tmp_path, "full/mine.txt")
    with one_sentence(UsageError, f"--out {tmp_path / 'full'}", "not empty", "--overwrite"):
        made(out=tmp_path / "full")
    for out, fragment in (("full/mine.txt", "found a file"), ("full/mine.txt/run", "cannot be made")):
        with one_sentence(UsageError, str(tmp_path / out), fragment, "choose a"):
            made(out=tmp_path / out, overwrite=True)
    assert files_in(tmp_path / "full") == {"mine.txt"}


def write(folder, *names: str) -> None:
    for path in (folder / name for name in names):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")


def files_in(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_overwrite_removes_the_files_of_a_run_and_no_others(tmp_path):
    of_a_run = {pattern.replace("*", "old") for pattern in RUN_FILES}
    known = {"metrics.jsonl", "weights.safetensors", "evaluation.json", "figures/old.png"}
    known |= {f"{phase}checkpoint{which}.safetensors" for phase in ("", "prior-") for which in ("", "-previous")}
    assert known < of_a_run
    others = {"figures/mine.txt", "figures/deeper/mine.png", "weights.safetensors.backup", "a-checkpoint.pt"}
    made(out=tmp_path)
    write(tmp_path, *(of_a_run - {"config.json"}), *others)
    made(out=tmp_path, overwrite=True)
    assert files_in(tmp_path) == {*others, "config.json"}


@pytest.mark.parametrize("config", [None, "mine", '{"level": "paper"}', "[" * 10**5])
def test_overwrite_leaves_what_is_no_run_alone(tmp_path, config):
    mine = ["figures/holiday.png", "checkpoint.safetensors"]
    write(tmp_path, *mine)
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    before = files_in(tmp_path)
    with one_sentence(UsageError, "--overwrite replaces a run", "holds checkpoint.safetensors but no config"):
        made(out=tmp_path, overwrite=True)
    assert files_in(tmp_path) == before
    (tmp_path / "checkpoint.safetensors").unlink()
    made(out=tmp_path, overwrite=True)
    assert files_in(tmp_path) == {"config.json", "figures/holiday.png"}


def test_the_weights_to_start_from_are_not_overwritten(tmp_path):
    made(out=tmp_path)
    (tmp_path / "weights.safetensors").write_text("mine")
    with one_sentence(UsageError, "is of the run that --overwrite would replace"):
        made(out=tmp_path, overwrite=True, weights=str(tmp_path / "weights.safetensors"))
    assert files_in(tmp_path) == {"config.json", "weights.safetensors"}


def test_the_settings_come_back_and_the_rest_beside_them(tmp_path):
    typed = dict(out=tmp_path, model="cvae", lr=1e-3, seed=2**32 - 1, binarize="dynamic", amp=True, free_bits=0.5)
    folder = made(**typed)
    config, rest = read_config(folder)
    assert config == RunConfig(**{**typed, "out": str(tmp_path)}).settled()
    assert {"level", "format", "threads", "python", "numpy", "torch"} == set(rest)


def change_config(folder, without=None, **changes) -> None:
    """Rewrite config.json with these values, and without one of the others."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    config.pop(without, None)
    path.write_text(json.dumps(config))


def test_a_run_of_before_calls_the_architecture_trunk(tmp_path):
    change_config(made(out=tmp_path), without="architecture", trunk="mlp")
    config, _ = read_config(tmp_path)
    assert config.architecture == "mlp" and config == RunConfig(out=str(tmp_path), architecture="mlp").settled()
    change_config(tmp_path, trunk="tree")
    with pytest.raises(UsageError, match="architecture is 'tree'"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"level": "lowlevel"}, "it is a run of level 'lowlevel'"),
        ({"format": 2}, "a newer version of this project wrote it"),
        ({"likelihood": None}, "likelihood is 'None'"),
        ({"latent_dim": "2"}, "latent_dim is '2'"),
        ({"beta": math.nan}, "beta is 'nan'"),
        ({"beta": 10**400}, "beta is '1000"),
        ({"epochs": True}, "epochs is 'True'"),
        ({"amp": 1}, "amp is '1'"),
        ({"dataset": "imagenet"}, "dataset is 'imagenet'"),
        ({"latent_dim": None}, "latent_dim is None"),
        *(
            ({"without": name}, f"it lacks {name}")
            for name, declared in RunConfig.settings("paper").items()
            if not declared.get("new")
        ),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path, change, reason):
    change_config(made(out=tmp_path), **change)
    with one_sentence(UsageError, str(tmp_path / "config.json"), reason, "name a run folder"):
        read_config(tmp_path)


def test_a_run_that_goes_on_with_other_threads_says_so(capsys, monkeypatch):
    monkeypatch.setattr(run_folder, "threads", lambda: 2)
    for before in (2, "3", None, True, 0):
        note_threads(before)
    assert capsys.readouterr().err == ""
    note_threads(3)
    said = capsys.readouterr().err
    assert said.startswith("note: this run began with 3 threads and goes on with 2: ")
    assert said.endswith("; OMP_NUM_THREADS=3 keeps them.\n") and said.count("\n") == 1
