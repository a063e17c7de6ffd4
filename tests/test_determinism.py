"""Same seed, same machine, same bytes: every command, in two processes that share nothing but the seed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vae_paper
from vae_common import cli
from vae_common.weights import read_safetensors

ENVIRONMENT = {**os.environ}

# One process that runs the commands it is given, on 150 images, and keeps what each of them prints.
PROCESS = """
import contextlib, importlib, json, sys
from dataclasses import replace
from pathlib import Path
import vae_common.data
load = vae_common.data.load_dataset
def few(name, split="train", data_dir=None):
    whole, part = load(name, "test", data_dir), {"train": slice(0, 150), "test": slice(150, 350)}[split]
    arrays = {key: getattr(whole, key)[part] for key in ("images", "labels", "factors")}
    return replace(whole, split=split, **arrays)
vae_common.data.load_dataset = few
for number, (module, *argv) in enumerate(json.loads(sys.argv[1])):
    with open(f"{number:02} {module}.txt", "w") as said, contextlib.redirect_stdout(said):
        status = importlib.import_module(module).main(argv)
    assert status in (0, 1), (module, argv, status)
"""
FEW = ["--epochs", "2", "--batch-size", "32"]
QUICK = (
    ("vae_paper", *FEW, "--model", "ae", "--latent-dim", "2", "--trunk", "mlp", "--binarize", "dynamic", "--out", "ae"),
    ("effective_beta", "--table"),
)
ALL = (
    ("vae_numpy", "--out", "numpy"),
    ("vae_lowlevel", *FEW, "--latent-dim", "2", "--binarize", "dynamic", "--out", "lowlevel"),
    ("vae_paper", *FEW, "--latent-dim", "2", "--out", "vae"),
    ("vae_paper", *FEW, "--model", "ae", "--latent-dim", "2", "--out", "ae"),
    ("vae_paper", *FEW, "--model", "cvae", "--latent-dim", "3", "--out", "cvae"),
    ("vae_paper", *FEW, "--model", "vqvae", "--codes", "16", "--out", "vqvae"),
    ("vae_paper", *FEW, "--importance-samples", "3", "--latent-dim", "3", "--out", "iwae"),
    ("latent_figures", "vae", "--animate"),
    ("latent_figures", "vqvae"),
    ("evaluate", "vae", "--importance-samples", "5"),
    ("evaluate", "vqvae", "--importance-samples", "5"),
    ("rate_distortion", "vae", "--samples", "100"),
    (
        "rate_distortion",
        "--sweep",
        "1",
        "4",
        "--epochs",
        "1",
        "--samples",
        "100",
        "--latent-dim",
        "2",
        "--out",
        "sweep",
    ),
    ("probes", "vae"),
    ("disentanglement", "vae"),
    ("autoencoder", "ae", "vae", "--out", "beside"),
    ("quadrants", *FEW, "--latent-dim", "2", "--quadrants", "1", "--samples", "3", "--out", "quadrants"),
    ("latent_explorer", "vae"),
    ("doctor", "vae"),
    ("effective_beta", "--table"),
)


def launch(commands: tuple, folder: Path, number: int) -> None:
    """In a folder of its own under the same names; the order of sets and dicts of text is another in each process."""
    folder.mkdir()
    argv = [sys.executable, "-c", PROCESS, json.dumps(commands)]
    done = subprocess.run(argv, cwd=folder, env={**ENVIRONMENT, "PYTHONHASHSEED": str(number)}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def without_seconds(value: object) -> object:
    """What must be equal: all but the seconds that were measured."""
    if isinstance(value, dict):
        return {key: without_seconds(one) for key, one in value.items() if key != "seconds"}
    return [without_seconds(one) for one in value] if isinstance(value, list) else value


def content(path: Path) -> object:
    if path.suffix == ".json":
        return without_seconds(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [without_seconds(json.loads(line)) for line in path.read_text().splitlines()]
    if "checkpoint" in path.name:
        metadata, arrays = read_safetensors(path)
        return without_seconds(json.loads(metadata["state"])), {name: one.tobytes() for name, one in arrays.items()}
    if path.suffix == ".txt":
        return re.sub(r" +[\d.]+ s\b", " _ s", path.read_text())
    return path.read_bytes()


def assert_same_bytes(commands: tuple, folder: Path) -> int:
    """How many files the two processes wrote."""
    for number in (1, 2):
        launch(commands, folder / str(number), number)
    one, two = ([path for path in sorted((folder / n).rglob("*")) if path.is_file()] for n in "12")
    assert [path.relative_to(folder / "1") for path in one] == [path.relative_to(folder / "2") for path in two]
    different = [path.name for path, other in zip(one, two, strict=True) if content(path) != content(other)]
    assert not different
    return len(one)


def test_two_launches_of_some_commands_write_the_same_bytes(tmp_path):
    assert assert_same_bytes(QUICK, tmp_path) > 10
    assert json.loads((tmp_path / "1" / "ae" / "config.json").read_text())["threads"] == torch.get_num_threads()


@pytest.mark.slow
def test_two_launches_of_every_command_write_the_same_bytes(tmp_path, capsys):
    commands = {path.stem for path in Path(vae_paper.__file__).parent.glob("*.py") if "\ndef main(" in path.read_text()}
    assert commands | {"vae_numpy", "vae_lowlevel"} == {command[0] for command in ALL}
    count = assert_same_bytes(ALL, tmp_path)
    configs = [json.loads(path.read_text()) for path in (tmp_path / "1").rglob("config.json")]
    assert all(config["threads"] == torch.get_num_threads() for config in configs)
    with capsys.disabled():
        print(f"\n{len(ALL)} commands, {count} files, the same bytes in two processes")


# --- another number of threads ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "told"), [(3, True), (torch.get_num_threads(), False), ("3", False), (None, False)])
def test_a_run_that_goes_on_with_other_threads_says_so(before, told, small_digits, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("latent_figures.draw_run", lambda *args: None)
    assert vae_paper.main([*FEW, "--trunk", "mlp", "--out", str(tmp_path / "run")]) == 0
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "threads": before}))
    capsys.readouterr()
    assert vae_paper.main(["--resume", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    assert said.startswith("note: this run began with 3 threads and goes on with") if told else said == ""
    assert len(said.splitlines()) == told


def test_the_threads_of_a_level_without_torch_are_those_of_blas():
    code = "from vae_common import cli; import numpy, sys; print(cli.threads(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env={**ENVIRONMENT, "OPENBLAS_NUM_THREADS": "1"}, text=True,
                          capture_output=True, check=True)  # fmt: skip
    assert done.stdout == "1 False\n"
    assert cli.threads() == torch.get_num_threads()
