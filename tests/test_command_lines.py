"""Each level as a user runs it: what a good command writes and prints, and what a bad one says."""

import json
import math
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import latent_figures
import vae_lowlevel
import vae_numpy
import vae_paper
from synthetic_mnist import write_mnist
from vae_common.spec import VAESpec
from vae_common.weights import load_weights, save_weights

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = {
    "numpy": ROOT / "numpy" / "vae_numpy.py",
    "lowlevel": ROOT / "pytorch_lowlevel" / "vae_lowlevel.py",
    "paper": ROOT / "paper" / "vae_paper.py",
}
MODULE = {"numpy": vae_numpy, "lowlevel": vae_lowlevel, "paper": vae_paper}
TRAINING = ("lowlevel", "paper")
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
WITHOUT_TORCH = (
    "import runpy, sys; sys.modules['torch'] = sys.modules['torchvision'] = None; "
    "sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


def environment() -> dict[str, str]:
    """That of the tests, less the data folder, with no way out to the network and one thread per process."""
    kept = {name: value for name, value in os.environ.items() if name != "VAE_DATA_DIR"}
    return {**kept, **NO_NETWORK, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def command(*argv, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, argv)], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=120
    )


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def everything_in(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def told_to_be_written(stdout: str) -> list[str]:
    return re.findall(r"^wrote (.+)$", stdout, re.MULTILINE)


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- good commands ------------------------------------------------------------------------------------------------

EPS = float(np.finfo(np.float32).eps)
Z = {"lowlevel": 20, "paper": 2}
FIGURES = {
    "numpy": {"reconstructions", "samples", "traversals", "interpolation"},
    "lowlevel": {"losses", "reconstructions", "samples", "latent", "manifold", "traversals", "interpolation"},
    "paper": {"losses", "reconstructions", "samples", "latent", "manifold", "traversals", "interpolation", "kl"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Each level started once in a folder that holds only data/, level 1 on the weights of level 2."""
    cwd = tmp_path_factory.mktemp("user")
    write_mnist(cwd / "data")
    small = ("--dataset", "mnist", "--data-dir", "data")
    done = {
        "lowlevel": command(SCRIPT["lowlevel"], *small, "--epochs", 1, cwd=cwd),
        "paper": command(SCRIPT["paper"], *small, "--epochs", 2, "--latent-dim", Z["paper"], cwd=cwd),
        "numpy": command(SCRIPT["numpy"], *small, "--weights", "runs/lowlevel/weights.safetensors", cwd=cwd),
    }
    return SimpleNamespace(cwd=cwd, done=done, folder={level: cwd / "runs" / level for level in done})


@pytest.mark.parametrize("level", SCRIPT)
def test_a_level_runs_from_any_folder(runs, level):
    assert runs.done[level].returncode == 0, runs.done[level].stderr
    assert "Traceback" not in runs.done[level].stderr
    assert {path.name for path in runs.cwd.iterdir()} == {"data", "runs"}


@pytest.mark.parametrize("level", SCRIPT)
def test_a_run_folder_holds_its_files_and_each_is_told(runs, level):
    files = files_in(runs.folder[level])
    expected = {"config.json", "metrics.jsonl"} | {f"figures/{name}.png" for name in FIGURES[level]}
    expected |= {"weights.safetensors"} if level in TRAINING else set()
    expected |= {"evaluation.json"} if level == "paper" else set()
    assert expected <= files
    told = told_to_be_written(runs.done[level].stdout)
    assert sorted(told) == sorted(f"runs/{level}/{name}" for name in files)


@pytest.mark.parametrize("level", SCRIPT)
def test_the_figures_are_whole_pngs(runs, level):
    for path in (runs.folder[level] / "figures").iterdir():
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82"), path


@pytest.mark.parametrize("level", SCRIPT)
def test_the_metrics_have_a_row_per_epoch_and_split(runs, level):
    rows = read_rows(runs.folder[level] / "metrics.jsonl")
    expected = {
        "numpy": [(0, "test")],
        "lowlevel": [(1, "train"), (1, "test")],
        "paper": [(1, "train"), (1, "test"), (2, "train"), (2, "test")],
    }
    assert [(row["epoch"], row["split"]) for row in rows] == expected[level]
    for row in rows:
        assert {"epoch", "split", "recon", "kl", "elbo", "seconds"} <= set(row)
        assert row["recon"] > 0 and row["kl"] >= 0 and row["seconds"] >= 0
        # recon and kl are means of float32 numbers; level 3 averages the elbo itself: a few roundings apart.
        assert row["elbo"] == pytest.approx(-(row["recon"] + row["kl"]), rel=4 * EPS)


@pytest.mark.parametrize("level", SCRIPT)
def test_the_config_names_level_and_flags(runs, level):
    config = json.loads((runs.folder[level] / "config.json").read_text())
    assert (config["level"], config["dataset"], config["seed"]) == (level, "mnist", 0)
    assert Path(config["data_dir"]).is_absolute() and Path(config["data_dir"]).name == "data"  # typed as "data"


@pytest.mark.parametrize("level", TRAINING)
def test_trained_weights_are_those_of_the_spec_and_have_learnt(runs, level):
    params = load_weights(runs.folder[level] / "weights.safetensors", latent_dim=Z[level])
    start = VAESpec(Z[level]).init_params(seed=0)
    assert all(not np.array_equal(params[name], start[name]) for name in start)


def test_level_1_measures_what_level_2_measured(runs):
    [row] = read_rows(runs.folder["numpy"] / "metrics.jsonl")
    trained = read_rows(runs.folder["lowlevel"] / "metrics.jsonl")[-1]
    # Same weights, images and noise. The longest sum of the network has 3136 terms, so float32 results of two
    # orders of summation differ by at most 3136 eps of their size.
    for term in ("recon", "kl", "elbo"):
        assert row[term] == pytest.approx(trained[term], rel=3136 * EPS), term


def test_the_evaluation_is_that_of_the_last_epoch(runs):
    evaluation = json.loads((runs.folder["paper"] / "evaluation.json").read_text())
    last = read_rows(runs.folder["paper"] / "metrics.jsonl")[-1]
    for term in ("recon", "kl", "elbo"):
        assert evaluation[term] == pytest.approx(last[term], rel=1e-6), term
    assert evaluation["active_units"] in range(Z["paper"] + 1)


@pytest.mark.parametrize("level", SCRIPT)
def test_the_output_names_the_data_and_the_terms(runs, level):
    out = runs.done[level].stdout
    assert "mnist test: 32 images, grey pixels, Bernoulli likelihood" in out
    assert all(re.search(rf"^ *{term} +-?\d+\.\d+", out, re.MULTILINE) for term in ("recon", "kl", "elbo"))


def test_level_1_shows_the_layers_and_one_image_on_its_way(runs):
    out = runs.done["numpy"].stdout
    assert "1,662,249" in out and "encoder.conv2    (64, 32, 3, 3)" in out
    assert re.search(r"decoder\.deconv2 +\(1, 1, 28, 28\) +-?\d", out)


def small_run(level: str, data: Path, weights: Path) -> list[str]:
    """Flags of a run that takes a second."""
    argv = ["--dataset", "mnist", "--data-dir", str(data)]
    return [*argv, "--epochs", "1"] if level in TRAINING else [*argv, "--weights", str(weights)]


@pytest.mark.parametrize("level", SCRIPT)
def test_a_second_run_moves_the_first_aside(runs, level, monkeypatch, capsys):
    monkeypatch.chdir(runs.cwd)
    first = (runs.folder[level] / "config.json").read_bytes()
    argv = small_run(level, runs.cwd / "data", runs.folder["paper"] / "weights.safetensors")
    assert MODULE[level].main([*argv, "--binarize", "dynamic", "--likelihood", "gaussian"]) == 0
    assert f"moved the earlier run runs/{level} to runs/{level}-1\n" in capsys.readouterr().out
    assert (runs.cwd / "runs" / f"{level}-1" / "config.json").read_bytes() == first
    row = read_rows(runs.folder[level] / "metrics.jsonl")[-1]
    assert (row["binarize"], row["likelihood"]) == ("dynamic", "gaussian")
    if level == "numpy":  # weights with Z = 2, so there is a plane to show
        assert {"figures/latent.png", "figures/manifold.png"} <= files_in(runs.folder[level])


def test_overwrite_replaces_a_run(runs, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    shutil.copy(runs.folder["paper"] / "config.json", tmp_path / "mine")
    (tmp_path / "mine" / "weights.safetensors").write_text("old")
    (tmp_path / "mine" / "my-weights.safetensors").write_text("mine")
    argv = small_run("numpy", runs.cwd / "data", runs.folder["paper"] / "weights.safetensors")
    assert vae_numpy.main([*argv, "--out", "mine", "--overwrite"]) == 0
    assert "weights.safetensors" not in files_in(tmp_path / "mine")
    assert (tmp_path / "mine" / "my-weights.safetensors").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("config", [None, "mine", "{}", '{"level": "paper"}', "[" * 10**5])
def test_overwrite_leaves_what_is_no_run_alone(runs, config, tmp_path, capsys):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "holiday.png").write_text("mine")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    argv = small_run("numpy", runs.cwd / "data", runs.folder["paper"] / "weights.safetensors")
    argv += ["--out", str(tmp_path), "--overwrite"]
    (tmp_path / "checkpoint.safetensors").write_text("mine")
    before = everything_in(tmp_path)
    assert vae_numpy.main(argv) == 2
    assert "--overwrite replaces a run, and this folder holds checkpoint.safetensors" in capsys.readouterr().err
    assert everything_in(tmp_path) == before
    (tmp_path / "checkpoint.safetensors").unlink()
    assert vae_numpy.main(argv) == 0
    assert (tmp_path / "figures" / "holiday.png").read_text() == "mine"


@pytest.mark.parametrize("level", SCRIPT)
def test_the_weights_to_start_from_are_not_overwritten(runs, level, tmp_path, capsys):
    shutil.copytree(runs.folder["paper"], tmp_path / "run")
    before, argv = (
        everything_in(tmp_path),
        small_run(level, runs.cwd / "data", tmp_path / "run" / "weights.safetensors"),
    )
    argv += ["--weights", str(tmp_path / "run" / "weights.safetensors")]
    assert MODULE[level].main([*argv, "--out", str(tmp_path / "run"), "--overwrite"]) == 2
    assert "is of the run that --overwrite would replace" in capsys.readouterr().err
    assert everything_in(tmp_path) == before


def test_weights_of_the_earlier_default_run_are_read_before_it_is_moved(runs, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs.folder["paper"], tmp_path / "runs" / "paper")
    argv = [*small_run("paper", runs.cwd / "data", Path()), "--weights", "runs/paper/weights.safetensors"]
    assert vae_paper.main(argv) == 0
    assert (tmp_path / "runs" / "paper-1" / "weights.safetensors").is_file()


def test_the_pictures_of_a_run_are_drawn_again(runs, monkeypatch, capsys):
    monkeypatch.chdir(runs.cwd)
    folder = max((runs.cwd / "runs").glob("paper*"))
    before = files_in(folder)
    for path in (folder / "figures").iterdir():
        path.unlink()
    assert latent_figures.main([str(folder)]) == 0
    assert files_in(folder) == before
    assert len(told_to_be_written(capsys.readouterr().out)) == len(list((folder / "figures").iterdir()))


# --- level 1 without torch, help ----------------------------------------------------------------------------------


def test_level_1_runs_where_there_is_no_torch(tmp_path):
    save_weights(VAESpec(2).init_params(0), tmp_path / "w.safetensors")
    done = command("-c", WITHOUT_TORCH, SCRIPT["numpy"], "--weights", "w.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "digits test: 2,000 images" in done.stdout


@pytest.mark.parametrize("argv", [[], ["--latent-dim", "2"]], ids=["Z = 20", "Z = 2"])
def test_level_1_shows_shipped_weights_at_once(tmp_path, argv):
    done = command("-c", WITHOUT_TORCH, SCRIPT["numpy"], *argv, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"figures/latent.png", "figures/manifold.png"} <= files_in(tmp_path / "runs" / "numpy")
    assert set(told_to_be_written(done.stdout)) == files_in(tmp_path)


def test_level_1_without_torch_says_what_real_data_need(tmp_path):
    save_weights(VAESpec(2).init_params(0), tmp_path / "w.safetensors")
    argv = ("--weights", "w.safetensors", "--dataset", "mnist", "--data-dir", "data")
    done = command("-c", WITHOUT_TORCH, SCRIPT["numpy"], *argv, cwd=tmp_path)
    assert_refused(done.returncode, done.stderr, "needs torchvision")


@pytest.mark.parametrize("script", ["numpy", "paper"])
def test_help_answers_without_torch(tmp_path, script):
    done = command("-c", WITHOUT_TORCH, SCRIPT[script], "--help", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("usage: ") and done.stderr == ""


SHARED = ("--dataset", "--data-dir", "--latent-dim", "--batch-size", "--seed", "--out", "--overwrite", "--weights")
OPTIONS = {
    "numpy": (*SHARED, "--likelihood", "--binarize"),
    "lowlevel": (*SHARED, "--likelihood", "--binarize", "--epochs", "--lr", "--device"),
    "paper": (*SHARED, "--likelihood", "--binarize", "--epochs", "--lr", "--device", "--model"),
}


@pytest.mark.parametrize("level", SCRIPT)
def test_help_tells_every_flag(level, capsys):
    assert MODULE[level].main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"{flag} " in told or f"{flag}\n" in told for flag in OPTIONS[level])


# --- Ctrl-C -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
@pytest.mark.parametrize("level", TRAINING)
def test_ctrl_c_ends_training_in_one_line_with_whole_files(runs, tmp_path, level):
    # A shell's background job ignores SIGINT and hands that down; with a handler set, a child starts with the default.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    argv = [sys.executable, SCRIPT[level], "--dataset", "mnist", "--data-dir", runs.cwd / "data", "--epochs", "1000000"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(argv, cwd=tmp_path, env=environment(), **pipes) as process:
        signal.signal(signal.SIGINT, handler)
        seen = next((line for line in process.stdout if line.startswith("epoch   2 test")), None)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert seen is not None, err
    assert process.returncode == 130
    assert err.strip() == "interrupted; files already reported are whole."
    whole = {f"runs/{level}/{name}" for name in ("config.json", "metrics.jsonl")}
    checkpoints = {f"runs/paper/checkpoint{which}.safetensors" for which in ("", "-previous")}
    assert files_in(tmp_path) - checkpoints == whole
    assert json.loads((tmp_path / "runs" / level / "config.json").read_text())["level"] == level
    assert len(read_rows(tmp_path / "runs" / level / "metrics.jsonl")) >= 4


def test_ctrl_c_ends_level_1_in_one_line(monkeypatch, tmp_path, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vae_numpy, "choose_weights", interrupted)
    assert vae_numpy.main([]) == 130
    assert capsys.readouterr().err.strip() == "interrupted; files already reported are whole."


# --- bad commands -------------------------------------------------------------------------------------------------


def assert_refused(status: int, stderr: str, *fragments: str) -> None:
    last = stderr.splitlines()[-1]
    assert status == 2 and ": error: " in last and "Traceback" not in stderr, stderr
    for fragment in fragments:
        assert fragment in last, (fragment, last)


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A folder of files that are not what a flag expects, beside good ones: weights with Z = 2, and data/."""
    folder = tmp_path_factory.mktemp("bad")
    write_mnist(folder / "data")
    os.truncate(write_mnist(folder / "damaged") / "train-images-idx3-ubyte", 5000)
    os.truncate(folder / "damaged" / "MNIST" / "raw" / "t10k-images-idx3-ubyte", 5000)

    params = VAESpec(2).init_params(0)
    whole = save_weights(params, folder / "good.safetensors").read_bytes()
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "truncated.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "corrupt.safetensors").write_bytes(whole[:20] + b"\xff" * 20 + whole[40:])
    np.save(folder / "array.npy", params["encoder.fc.bias"])
    torch.save({name: torch.from_numpy(value) for name, value in params.items()}, folder / "torch.pt")
    (folder / "dict.pkl").write_bytes(pickle.dumps({"encoder.fc.bias": [0.0]}))
    save_file({"layer.weight": np.zeros((3, 3), np.float32)}, folder / "foreign.safetensors")
    metadata = {"format": "conv-vae", "version": "1", "latent_dim": "2"}
    save_file({**params, "encoder.mu.bias": np.array([0, np.nan], np.float32)}, folder / "nan.safetensors", metadata)
    save_file({**params, "encoder.fc.bias": np.zeros(9, np.float32)}, folder / "shape.safetensors", metadata)
    save_file({**params, "more": np.zeros(9, np.float32)}, folder / "extra.safetensors", metadata)
    save_file({**params}, folder / "version.safetensors", {**metadata, "version": "2"})
    del params["decoder.fc2.bias"]
    save_file(params, folder / "missing_key.safetensors", metadata)
    (folder / "full").mkdir()
    (folder / "full" / "mine.txt").write_text("mine")
    return folder


def numbers(flag: str, *values: str) -> list[tuple[list[str], str]]:
    return [([f"{flag}={value}"], f"argument {flag}: expected a") for value in values]


def choices(flag: str, *values: str) -> list[tuple[list[str], str]]:
    return [([f"{flag}={value}"], f"argument {flag}: invalid choice: '{value}'") for value in values]


def weights(name: str, fragment: str, *more: str) -> tuple[list[str], str]:
    return ["--weights", f"{{bad}}/{name}", *more], fragment


MNIST = ["--dataset", "mnist", "--data-dir"]
GOOD = ["--weights", "{bad}/good.safetensors", *MNIST, "{bad}/data"]

BAD_EVERYWHERE = [
    *choices("--dataset", "imagenet", "", "nan", "MNIST"),
    *choices("--likelihood", "poisson", "", "nan"),
    *choices("--binarize", "sometimes", "", "0.5"),
    *numbers("--latent-dim", "x", "", "0", "-1", "257", "2.5", "nan", "inf"),
    *numbers("--batch-size", "x", "", "0", "-1", "1000001", "2.5", "nan", "inf"),
    *numbers("--seed", "x", "", "-1", "4294967296", "2.5", "nan", "inf"),
    (["--nope"], "unrecognized arguments: --nope"),
    (["extra"], "unrecognized arguments: extra"),
    (["--data", "x"], "unrecognized arguments: --data x"),
    (["--overwrite=1"], "argument --overwrite: ignored explicit argument '1'"),
    *(
        ([flag], f"argument {flag}: expected one argument")
        for flag in ("--seed", "--weights", "--out", "--data-dir", "--dataset")
    ),
    weights("none.safetensors", "none.safetensors: expected a weights file, found nothing there"),
    weights("full", "full: expected a weights file, found a folder"),
    *(
        weights(name, f"{name}: expected a whole safetensors file")
        for name in (
            "empty.safetensors", "truncated.safetensors", "corrupt.safetensors", "array.npy", "torch.pt", "dict.pkl",
        )
    ),
    weights("foreign.safetensors", "foreign.safetensors: expected metadata format 'conv-vae' version '1'"),
    weights("version.safetensors", "found format 'conv-vae' version '2'"),
    weights("nan.safetensors", "expected finite numbers in key 'encoder.mu.bias'"),
    weights("shape.safetensors", "expected key 'encoder.fc.bias' of shape (256,), found (9,)"),
    weights("extra.safetensors", "found the extra key 'more'"),
    weights("missing_key.safetensors", "expected key 'decoder.fc2.bias', found it missing"),
    weights("good.safetensors", "expected latent_dim 20, found 2; pass --latent-dim 2", "--latent-dim", "20"),
    ([*GOOD, "--out", "{bad}/good.safetensors"], "expected a folder to write to, found a file"),
    ([*GOOD, "--out", "{bad}/good.safetensors/run"], "the folder cannot be made (Not a directory)"),
    ([*GOOD, "--out", "{bad}/full"], "the folder is not empty; choose another, or allow it with --overwrite"),
    ([*GOOD, "--out", "/proc/x"], "--out /proc/x: the folder cannot be made"),
    ([*GOOD[:2], *MNIST, "{bad}/damaged"], "the mnist files there cannot be read"),
    ([*GOOD[:2], *MNIST, "nowhere/data"], "mnist is not in nowhere/data/MNIST/raw and could not be downloaded"),
    ([*GOOD[:2], *MNIST, "{bad}/good.safetensors"], "or use --dataset digits, which needs no network"),
    ([*GOOD[:2], "--dataset", "kmnist", "--data-dir", "{bad}/data"], "kmnist is not in"),
]  # fmt: skip
BAD_IN_TRAINING = [
    *numbers("--epochs", "x", "", "0", "-1", "1000001", "2.5", "nan", "inf"),
    *numbers("--lr", "x", "", "0", "-1", "1001", "nan", "inf", "-inf", "1e400"),
    *((["--device", name], "expected cpu, cuda, cuda:N, mps or auto, got") for name in ("nope", "", "meta", "cuda:-1")),
    (["--device", "cuda"], "--device cuda: torch finds no cuda device(s) here; use --device cpu"),
    (["--device", "cuda:1"], "--device cuda:1: torch finds no cuda device(s) here; use --device cpu"),
    (["--device", "cpu:1"], "--device cpu:1: torch finds 1 cpu device(s) here"),
]
BAD = [
    *((level, *case) for level in SCRIPT for case in BAD_EVERYWHERE),
    *((level, *case) for level in TRAINING for case in BAD_IN_TRAINING),
    *(("numpy", [flag, "1"], f"unrecognized arguments: {flag} 1") for flag in ("--epochs", "--lr", "--device")),
    ("numpy", ["--latent-dim", "7"], "weights are shipped for 2 and 20"),
    ("lowlevel", ["--model", "vae"], "unrecognized arguments: --model vae"),
    *(("paper", *case) for case in choices("--model", "gan", "", "nan")),
]


def case_id(value) -> str | None:
    return " ".join(value).replace("{bad}/", "") if isinstance(value, list) else value if value in SCRIPT else ""


@pytest.mark.parametrize("level, argv, fragment", BAD, ids=case_id)
def test_a_bad_command_is_refused_in_one_line(bad, tmp_path, monkeypatch, capsys, level, argv, fragment):
    if "/proc/x" in argv and not Path("/proc").is_dir():
        pytest.skip("no /proc here, the folder nobody can write to")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VAE_DATA_DIR", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr("urllib.request.urlopen", no_connection)
    before = everything_in(bad)
    status = MODULE[level].main([text.format(bad=bad) for text in argv])
    assert_refused(status, capsys.readouterr().err, fragment)
    assert not list(tmp_path.iterdir()) and everything_in(bad) == before


def no_connection(*_, **__):
    raise urllib.error.URLError("no network in this test")


SUBPROCESS = [
    ("numpy", ["--seed", "nan"], "argument --seed: expected an integer"),
    ("numpy", ["--weights", "{bad}/torch.pt"], "expected a whole safetensors file"),
    ("numpy", [*GOOD[:2], *MNIST, "nowhere"], "or use --dataset digits"),
    ("lowlevel", ["--lr", "nan"], "argument --lr: expected a finite number"),
    ("lowlevel", ["--weights", "{bad}/truncated.safetensors"], "expected a whole safetensors file"),
    ("lowlevel", [*MNIST, "nowhere"], "or use --dataset digits"),
    ("paper", ["--lr", "inf"], "argument --lr: expected a finite number"),
    ("paper", ["--weights", "{bad}/foreign.safetensors"], "expected metadata format 'conv-vae'"),
    ("paper", [*MNIST, "nowhere"], "or use --dataset digits"),
]


@pytest.mark.parametrize("level, argv, fragment", SUBPROCESS, ids=case_id)
def test_a_bad_command_is_refused_when_typed(bad, tmp_path, level, argv, fragment):
    done = command(SCRIPT[level], *(text.format(bad=bad) for text in argv), cwd=tmp_path)
    assert_refused(done.returncode, done.stderr, fragment)
    assert done.stderr.splitlines()[-1].startswith(f"{SCRIPT[level].name}: error: ")
    assert done.stdout == "" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("level", TRAINING)
@pytest.mark.parametrize("batch_size", ["32", "64"], ids=["in training", "after the last step"])
def test_a_loss_that_explodes_is_told_with_a_remedy(bad, tmp_path, monkeypatch, capsys, level, batch_size):
    monkeypatch.chdir(tmp_path)
    argv = [*MNIST, str(bad / "data"), "--epochs", "1", "--batch-size", batch_size, "--lr", "1000"]
    status = MODULE[level].main(argv)
    assert_refused(status, capsys.readouterr().err, "--lr")
    expected = ("config.json", "metrics.jsonl", "checkpoint.safetensors", "checkpoint-previous.safetensors")
    assert files_in(tmp_path) <= {f"runs/{level}/{name}" for name in expected}
    metrics = tmp_path / "runs" / level / "metrics.jsonl"
    assert not metrics.exists() or [row["split"] for row in read_rows(metrics)] == ["train"]


@pytest.mark.parametrize("content", ["missing", "file", "empty", "level 2"])
def test_what_is_no_run_of_level_3_is_not_drawn(tmp_path, capsys, content):
    run = tmp_path / "run"
    if content == "file":
        run.write_text("x")
    elif content != "missing":
        run.mkdir()
    if content == "level 2":
        (run / "config.json").write_text('{"level": "lowlevel"}')
        (run / "metrics.jsonl").write_text("")
    before = everything_in(tmp_path)
    status = latent_figures.main([str(run)])
    assert_refused(status, capsys.readouterr().err, str(run), "paper/vae_paper.py wrote, found none that can be read")
    assert everything_in(tmp_path) == before


def test_every_number_in_the_metrics_is_finite(runs):
    for folder in runs.folder.values():
        for row in read_rows(folder / "metrics.jsonl"):
            assert all(math.isfinite(row[term]) for term in ("recon", "kl", "elbo"))
