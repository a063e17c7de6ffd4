"""Each level as a user runs it: what a good command writes and prints, and what a bad one says."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import latent_figures
import vae_lowlevel
import vae_numpy
import vae_paper
from messages import assert_refused
from vae_common import cli
from vae_common.errors import DatasetError
from vae_common.spec import VAESpec
from vae_common.weights import load_weights, save_weights

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = {
    "numpy": ROOT / "numpy" / "vae_numpy.py",
    "lowlevel": ROOT / "pytorch_lowlevel" / "vae_lowlevel.py",
    "paper": ROOT / "paper" / "vae_paper.py",
}
COMMANDS = sorted(path.stem for path in (ROOT / "paper").glob("*.py") if "\ndef main(" in path.read_text())
MODULE = {"numpy": vae_numpy, "lowlevel": vae_lowlevel, "paper": vae_paper}
TRAINING = ("lowlevel", "paper")
EPS = float(np.finfo(np.float32).eps)
DRAW = "vae_common.plots.run_pictures.draw"
Z = {"lowlevel": 20, "paper": 2}


def python(*argv, cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(cwd / "cache")}
    return subprocess.run(
        [sys.executable, *map(str, argv)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
    )


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


FIGURES = {"reconstructions", "samples", "traversals", "interpolation", "kl"}
TRAINED = FIGURES | {"losses", "latent", "manifold"}


def name_pictures(folder, measured, pictures, seed):
    """In place of drawing them, which takes seconds each."""
    for picture in pictures:
        path = folder / "figures" / f"{picture.__name__}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_text(picture.__name__)
        print(f"wrote {path}")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, few_drawn):
    """Each level started once from one folder on 150 digits, level 1 on the weights of level 2."""
    cwd, out = tmp_path_factory.mktemp("user"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr("vae_common.data._load_drawn", few_drawn)
        patch.setattr(DRAW, name_pictures)
        patch.setattr("vae_common.plots.style.DPI", 20)
        for level, argv in {
            "lowlevel": ["--epochs", "1"],
            "paper": ["--epochs", "2", "--latent-dim", "2", "--binarize", "dynamic", "--likelihood", "gaussian"],
            "numpy": ["--weights", "runs/lowlevel/weights.safetensors", "--data-dir", "data"],
        }.items():
            capture = tmp_path_factory.mktemp("out") / level
            with capture.open("w") as file, pytest.MonkeyPatch.context() as redirected:
                redirected.setattr(sys, "stdout", file)
                assert MODULE[level].main(argv) == 0
            out[level] = capture.read_text()
    return SimpleNamespace(cwd=cwd, out=out, folder={level: cwd / "runs" / level for level in out})


@pytest.mark.parametrize(
    "level, figures, more, splits",
    [
        ("numpy", FIGURES, set(), ["test"]),
        ("lowlevel", TRAINED, {"weights.safetensors"}, ["train", "test"]),
        ("paper", TRAINED, {"weights.safetensors", "evaluation.json"}, ["train", "test"] * 2),
    ],
)
def test_a_run_leaves_its_files_and_its_numbers_and_tells_them(runs, level, figures, more, splits):
    folder, out = runs.folder[level], runs.out[level]
    assert {"config.json", "metrics.jsonl", *more, *(f"figures/{name}.png" for name in figures)} <= files_in(folder)
    told = re.findall(r"^wrote (.+)$", out, re.MULTILINE)
    assert sorted(told) == sorted(f"runs/{level}/{name}" for name in files_in(folder))
    assert json.loads((folder / "config.json").read_text())["level"] == level

    rows = read_rows(folder / "metrics.jsonl")
    assert [row["split"] for row in rows] == splits
    assert [row["epoch"] for row in rows] == ([0] if level == "numpy" else [1, 1, 2, 2][: len(rows)])
    on = ("digits", "dynamic", "gaussian") if level == "paper" else ("digits", "none", "bernoulli")
    for row in rows:
        assert (row["dataset"], row["binarize"], row["likelihood"]) == on
        assert row["recon"] > 0 and row["kl"] >= 0 and row["seconds"] >= 0
        # recon and kl are means of float32 numbers; level 3 averages the elbo itself: a few roundings apart.
        assert row["elbo"] == pytest.approx(-(row["recon"] + row["kl"]), rel=4 * EPS)
    on = "dynamically binarized pixels, Gaussian" if level == "paper" else "grey pixels, Bernoulli"
    assert f"digits test: 50 images, {on} likelihood" in out
    for term in ("recon", "kl", "elbo"):
        [told] = re.findall(rf"^ +{term} +(-?\d+\.\d+)", out, re.MULTILINE)
        assert float(told) == pytest.approx(rows[-1][term], abs=0.006)
    if level in TRAINING:
        params, start = load_weights(folder / "weights.safetensors", Z[level]), VAESpec(Z[level]).init_params(0)
        assert all(not np.array_equal(params[name], start[name]) for name in start)


def test_level_1_shows_the_layers_and_one_image_on_its_way(runs, digits):
    out = runs.out["numpy"]
    assert "1,662,249" in out and "encoder.conv2    (64, 32, 3, 3)" in out
    assert re.search(r"decoder\.deconv2 +\(1, 1, 28, 28\) +-?\d", out)
    # Same weights, images and noise as level 2 measured; the sums of the network have at most 3136 terms in float32.
    [row], trained = (read_rows(runs.folder[level] / "metrics.jsonl") for level in ("numpy", "lowlevel"))
    for term in ("recon", "kl", "elbo"):
        assert row[term] == pytest.approx(trained[-1][term], rel=3136 * EPS), term
    recon, kl, both = map(float, re.search(r"\nrecon (\S+) \+ kl (\S+) = -elbo (\S+) nats\n", out).groups())
    assert recon + kl == pytest.approx(both, abs=0.016) and f"(a {digits.labels[150]})" in out


def test_weights_of_the_earlier_default_run_are_read_before_it_is_moved(runs, small_digits, monkeypatch, capsys):
    monkeypatch.chdir(runs.cwd)
    monkeypatch.setattr(f"{DRAW}_level_2", lambda *args: None)
    before, rows = (runs.folder["lowlevel"] / "weights.safetensors").read_bytes(), []
    for number, start in enumerate(("paper", "lowlevel"), 1):  # the second begins where the first ended
        assert vae_lowlevel.main(["--weights", f"runs/{start}/weights.safetensors", "--epochs", "1"]) == 0
        assert f"moved the earlier run runs/lowlevel to runs/lowlevel-{number}\n" in capsys.readouterr().out
        rows += read_rows(runs.folder["lowlevel"] / "metrics.jsonl")[:1]
        assert json.loads((runs.folder["lowlevel"] / "config.json").read_text())["latent_dim"] == Z["paper"]
    assert (runs.cwd / "runs" / "lowlevel-1" / "weights.safetensors").read_bytes() == before
    assert rows[1]["recon"] < rows[0]["recon"]


def test_the_pictures_of_a_run_are_drawn_again_of_the_same_numbers(runs, small_digits, monkeypatch):
    drawn = []
    monkeypatch.setattr("vae_commands.draw_again.draw_run", lambda *args: drawn.append(args))
    assert latent_figures.main([str(runs.folder["paper"])]) == 0
    [(folder, measured, rows, config)] = drawn
    assert folder == runs.folder["paper"] and rows == read_rows(folder / "metrics.jsonl")
    assert (config.latent_dim, config.likelihood) == (2, "gaussian")
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert {name: evaluation[name] for name in measured.results()} == measured.results()
    for term in ("recon", "kl", "elbo", "active_units"):
        assert evaluation[term] == pytest.approx(rows[-1][term], rel=1e-6), term


def test_amp_is_left_out_with_a_note_where_the_processor_has_no_bfloat16(
    without_pictures, monkeypatch, tmp_path, capsys
):
    found = {}
    for name, instructions in {"plain": [], "left out": [], "amp": ["avx512_bf16"]}.items():
        has = dict.fromkeys(instructions, True)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has, raising=False)
        argv = ["--epochs", "1", "--architecture", "mlp", "--latent-dim", "2", "--out", str(tmp_path / name)]
        assert vae_paper.main(argv + ["--amp"] * (name != "plain")) == 0
        config = json.loads((tmp_path / name / "config.json").read_text())
        weights = (tmp_path / name / "weights.safetensors").read_bytes()
        found[name] = capsys.readouterr().err, config["amp"], config.get("note"), weights
    reason = "this processor has no bfloat16 instructions, so it would be slower."
    plain, amp = found["plain"][-1], found["amp"][-1]
    note, kept = f"note: --amp is left out: {reason}\n", f"--amp was asked for and left out: {reason}"
    assert found["left out"] == (note, False, kept, plain)
    assert found["amp"] == ("", True, None, amp) and amp != plain


# One process in which torch cannot be imported. The drawn digits' test split has 60 images there.
WITHOUT_TORCH = """
import contextlib, importlib, json, sys
sys.modules["torch"] = sys.modules["torchvision"] = None
from vae_common import digits
from vae_common.plots import charts, style
digits.SPLIT_SIZES["test"], style.DPI = 60, 20
style.settle = charts.settle = lambda figure: figure.set_layout_engine("none") or figure  # which takes longest
for name, *argv in json.loads(sys.argv[1]):
    with open("out", "w") as out, open("err", "w") as err:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = importlib.import_module(name).main(argv)
    print(json.dumps([status, open("out").read(), open("err").read()]))
"""


def test_level_1_and_every_help_need_no_torch(tmp_path):
    save_weights(VAESpec(3).init_params(0), tmp_path / "w.safetensors")
    helped = ["vae_numpy", *COMMANDS]  # level 2 is a file on torch from its first line
    given = [
        ["vae_numpy"],
        ["vae_numpy", "--weights", "w.safetensors", "--dataset", "mnist", "--data-dir", "data"],
        *([name, "--help"] for name in helped),
    ]
    done = python("-c", WITHOUT_TORCH, json.dumps(given), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown, refused, *helps = [json.loads(line) for line in done.stdout.splitlines()]

    status, out, err = shown  # level 1 on the weights that are shipped
    assert (status, err) == (0, "") and "digits test: 60 images" in out
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "runs" / "numpy" / "figures").iterdir()}
    assert set(pictures) == {f"{name}.png" for name in FIGURES | {"latent", "manifold"}}
    for name, content in pictures.items():
        assert content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82"), name
    assert all(f"\nwrote runs/numpy/figures/{name}\n" in out for name in pictures)

    assert_refused(refused[0], refused[2], "needs torchvision")
    for name, (status, out, err) in zip(helped, helps, strict=True):
        assert (status, err) == (0, "") and out.startswith("usage: "), name


def test_ctrl_c_ends_training_in_one_line_with_whole_files(small_digits, monkeypatch, tmp_path, capsys):
    def format_row(row):
        if (row["epoch"], row["split"]) == (2, "test"):
            signal.raise_signal(signal.SIGINT)
        return ""

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "format_row", format_row)
    assert vae_lowlevel.main(["--epochs", "9", "--latent-dim", "2"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted; files already reported are whole."
    assert files_in(tmp_path / "runs" / "lowlevel") == {"config.json", "metrics.jsonl"}
    assert len(read_rows(tmp_path / "runs" / "lowlevel" / "metrics.jsonl")) == 4


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A folder of files that are not what a flag expects, beside good weights with Z = 2."""
    folder = tmp_path_factory.mktemp("bad")
    save_weights(VAESpec(2).init_params(0), folder / "good.safetensors")
    (folder / "full").mkdir()
    (folder / "full" / "mine.txt").write_text("mine")
    return folder


GOOD = ["--weights", "{bad}/good.safetensors"]
BAD = {  # by levels; the bounds of each kind of value and each kind of damage have tests of their own
    ("numpy", "lowlevel", "paper"): [
        (["--dataset=imagenet"], "argument --dataset: invalid choice: 'imagenet'"),
        (["--latent-dim=0"], "argument --latent-dim: expected an integer from 1 to 256, got '0'"),
        (["--seed=-1"], "argument --seed: expected an integer from 0 to 4294967295, got '-1'"),
        (["--data", "x"], "unrecognized arguments: --data x"),
        ([*GOOD, "--latent-dim", "20"], "expected latent_dim 20, found 2; pass --latent-dim 2"),
        ([*GOOD, "--out", "{bad}/good.safetensors"], "expected a folder to write to, found a file"),
        ([*GOOD, "--out", "{bad}/full"], "the folder is not empty; choose another, or allow it with --overwrite"),
        ([*GOOD, "--dataset", "kmnist", "--data-dir", "there"], "kmnist is not in there"),
    ],
    ("lowlevel", "paper"): [
        (["--epochs=0"], "argument --epochs: expected an integer from 1 to 1000000, got '0'"),
        (["--device", "cuda"], "--device cuda: torch finds no cuda device(s) here; use --device cpu"),
    ],
    ("numpy",): [
        (["--epochs", "1"], "unrecognized arguments: --epochs 1"),
    ],
    ("lowlevel",): [(["--model", "vae"], "unrecognized arguments: --model vae")],
    ("paper",): [(["--model=gan"], "argument --model: invalid choice: 'gan'")],
}
CASES = [(level, *case) for levels, cases in BAD.items() for level in levels for case in cases]


@pytest.mark.parametrize("level, argv, said", CASES, ids=[f"{level} {' '.join(argv)}" for level, argv, _ in CASES])
def test_a_bad_command_is_refused_in_one_line(bad, small_digits, tmp_path, monkeypatch, capsys, level, argv, said):
    def not_there(name, split, folder, classes):
        raise DatasetError(f"{name} is not in {folder}.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vae_common.data.load_downloaded", not_there)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    before = set(bad.rglob("*"))
    assert_refused(MODULE[level].main([text.format(bad=bad) for text in argv]), capsys.readouterr().err, said)
    assert not list(tmp_path.iterdir()) and set(bad.rglob("*")) == before


def test_a_bad_command_is_refused_when_typed(tmp_path):
    done = python(SCRIPT["paper"], "--seed", "nan", cwd=tmp_path)
    assert_refused(done.returncode, done.stderr, "vae_paper.py: error: argument --seed: expected an integer")
    assert done.stdout == "" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("level, batch_size", [("lowlevel", "32"), ("lowlevel", "150"), ("paper", "150")])
def test_a_loss_that_explodes_is_told_with_a_remedy(level, batch_size, small_digits, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    argv = ["--epochs", "1", "--batch-size", batch_size, "--lr", "1000", "--latent-dim", "2"]
    status = MODULE[level].main(argv)
    after = "on the test split in epoch 1; train with a smaller --lr or start from other weights."
    assert_refused(status, capsys.readouterr().err, after if batch_size == "150" else "try a smaller --lr than 1000.")
    assert "weights.safetensors" not in files_in(tmp_path / "runs" / level)


def test_ctrl_c_while_a_command_imports_is_one_line():
    """As the signal would come during `import torch` at the top of a file: while a module is imported."""
    code = "import sys; sys.argv[0] = sys.argv[1]\nimport vae_common\nraise {}"
    for program, error, lines in (
        (ROOT / "pytorch_lowlevel" / "vae_lowlevel.py", "KeyboardInterrupt", ["", "interrupted; nothing had begun."]),
        (ROOT / "elsewhere.py", "KeyboardInterrupt", None),
        (ROOT / "pytorch_lowlevel" / "vae_lowlevel.py", "ValueError", None),
    ):
        done = subprocess.run([sys.executable, "-c", code.format(error), program], capture_output=True, text=True)
        assert done.returncode != 0
        assert done.stderr.splitlines() == lines if lines else "Traceback" in done.stderr
