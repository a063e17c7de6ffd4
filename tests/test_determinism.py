"""Same seed, same machine, same bytes: of two runs, and of every command in two processes that share only the seed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vae_lowlevel
import vae_paper
from vae_common import run_folder

FEW = "--epochs 2 --batch-size 32"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same(one: dict[str, bytes], two: dict[str, bytes]) -> None:
    assert sorted(one) == sorted(two)
    assert [name for name in one if one[name] != two[name]] == []


def test_level_2_trained_twice_writes_the_same_bytes(small_digits, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("time.perf_counter", lambda: 0.0)  # the seconds are all that may differ
    monkeypatch.setattr("vae_common.plots.run_pictures.draw_level_2", lambda *args: None)
    found = []
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        monkeypatch.chdir(tmp_path / str(number))
        torch.manual_seed(number)  # which nothing depends on
        np.random.seed(number)
        assert vae_lowlevel.main(f"{FEW} --latent-dim 3 --binarize dynamic --out run".split()) == 0
        found.append({**contents(tmp_path / str(number)), "said": capsys.readouterr().out.encode()})
    assert_same(*found)
    assert {"run/config.json", "run/metrics.jsonl", "run/weights.safetensors", "said"} <= set(found[0])


# One process that runs the commands it is given, on 150 images, and keeps what each of them prints.
PROCESS = """
import contextlib, importlib, json, sys, time
from vae_common import data
draw, parts = data._load_drawn, {"train": slice(0, 150), "test": slice(150, 350)}
data._load_drawn = lambda name, split, folder: tuple(array[parts[split]] for array in draw(name, "test", folder))
time.perf_counter = lambda: 0.0
for number, command in enumerate(json.loads(sys.argv[1])):
    module, *argv = command.split()
    with open(f"{number:02} {module}.txt", "w") as said, contextlib.redirect_stdout(said):
        status = importlib.import_module(module).main(argv)
    assert status in (0, 1), (command, status)
"""
ALL = (
    "vae_numpy --out numpy",
    f"vae_lowlevel {FEW} --latent-dim 2 --binarize dynamic --out lowlevel",
    f"vae_paper {FEW} --latent-dim 2 --out vae",
    f"vae_paper {FEW} --model ae --latent-dim 2 --out ae",
    f"vae_paper {FEW} --model cvae --latent-dim 3 --out cvae",
    f"vae_paper {FEW} --model vqvae --codes 16 --out vqvae",
    f"vae_paper {FEW} --importance-samples 3 --latent-dim 3 --out iwae",
    "latent_figures vae --animate",
    "latent_figures vqvae",
    "evaluate vae --importance-samples 5",
    "evaluate vqvae --importance-samples 5",
    "evaluate vae --doctor",
    "evaluate ae --against vae",
    "rate_distortion vae --samples 100",
    "rate_distortion --sweep 1 4 --epochs 1 --samples 100 --latent-dim 2 --out sweep",
    f"quadrants {FEW} --latent-dim 2 --quadrants 1 --samples 3 --out quadrants",
    "latent_explorer vae",
    "effective_beta --table",
)


@pytest.mark.slow
def test_two_launches_of_every_command_write_the_same_bytes(tmp_path):
    commands = {path.stem for path in Path(vae_paper.__file__).parent.glob("*.py") if "\ndef main(" in path.read_text()}
    assert commands | {"vae_numpy", "vae_lowlevel"} == {command.split()[0] for command in ALL}
    for number in "12":  # the order of sets and of dicts of text is another in each process
        (tmp_path / number).mkdir()
        done = subprocess.run(
            [sys.executable, "-c", PROCESS, json.dumps(ALL)], cwd=tmp_path / number,
            env={**os.environ, "PYTHONHASHSEED": number}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    found = contents(tmp_path / "1")
    assert_same(found, contents(tmp_path / "2"))
    configs = [json.loads(content) for name, content in found.items() if name.endswith("config.json")]
    assert len(configs) >= 8 and all(config["threads"] == torch.get_num_threads() for config in configs)


def test_the_threads_of_a_level_without_torch_are_those_of_blas():
    code = "from vae_common import run_folder; import sys; print(run_folder.threads(), 'torch' in sys.modules)"
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, text=True, capture_output=True, check=True)
    assert done.stdout == "1 False\n"
    assert run_folder.threads() == torch.get_num_threads()


@pytest.mark.parametrize(
    ("given", "spin"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")]
)
def test_torchs_threads_spin_only_briefly_while_they_wait_unless_the_user_says_otherwise(given, spin):
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = "import vae_common, os; print(os.environ.get('GOMP_SPINCOUNT'))"  # as level 2 does it, before torch
    done = subprocess.run([sys.executable, "-c", code], env={**kept, **given}, capture_output=True, text=True)
    assert done.stdout.strip() == spin, done.stderr
