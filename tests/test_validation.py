"""--validation: the last training images are held out, never trained on, and measured instead of the test split."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import vae_lowlevel
import vae_numpy
import vae_paper
from messages import one_sentence
from vae_commands import train_run
from vae_commands.evaluate_run import Run
from vae_common import data as common_data
from vae_common.config import RunConfig
from vae_common.data import load_dataset
from vae_common.errors import UsageError
from vae_common.weights import load_weights, read_safetensors
from vae_common.weights_shown import evaluate_weights
from vae_training.run_files import read_run

TRAINED, HELD_OUT = 90, 60  # of the 150 images of `small_digits`
FLAGS = ["--epochs", "2", "--batch-size", "32", "--latent-dim", "3", "--binarize", "dynamic"]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(train_run, "draw_run", lambda *args: None)
    monkeypatch.setattr("vae_common.plots.run_pictures.draw_level_2", lambda *args: None)


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("level", [vae_lowlevel, vae_paper])
def test_the_last_images_are_held_out_and_measured(level, small_digits, tmp_path, monkeypatch):
    out = tmp_path / "run"
    assert level.main([*FLAGS, "--validation", str(HELD_OUT), "--out", str(out)]) == 0
    train, test = (load_dataset("digits", split) for split in ("train", "test"))

    rows, config = rows_of(out), RunConfig(binarize="dynamic").settled()
    each = [(epoch, split) for epoch in (1, 2) for split in ("train", "validation")]
    assert [(row["epoch"], row["split"]) for row in rows] == [*each, (2, "test")]
    params = load_weights(out / "weights.safetensors")
    held_out = replace(train, images=train.images[TRAINED:], labels=train.labels[TRAINED:])
    for row, images in zip(rows[-2:], (held_out, test), strict=True):
        oracle = evaluate_weights(params, vae_numpy.measure, vae_numpy.pixels, images, config)
        # float32, of which level 1 adds up the terms in another order than torch
        assert (row["recon"], row["kl"]) == pytest.approx((oracle.recon.mean(), oracle.kl.mean()), rel=1e-4)

    with monkeypatch.context() as patch:
        load = common_data._load_drawn
        patch.setattr(common_data, "_load_drawn", lambda *args: tuple(part[:TRAINED] for part in load(*args)))
        assert level.main([*FLAGS, "--out", str(tmp_path / "without")]) == 0
    found, expected = (read_safetensors(folder / "weights.safetensors")[1] for folder in (out, tmp_path / "without"))
    assert all((found[name] == expected[name]).all() for name in expected)
    trained = [(row["recon"], row["kl"]) for row in rows if row["split"] == "train"]
    assert trained == [(row["recon"], row["kl"]) for row in rows_of(tmp_path / "without") if row["split"] == "train"]


def test_what_a_run_with_validation_was_trained_on_is_known_later(small_digits, tmp_path):
    out = tmp_path / "run"
    assert vae_paper.main([*FLAGS, "--architecture", "mlp", "--validation", str(HELD_OUT), "--out", str(out)]) == 0
    config, model, rows = read_run(out)
    assert len(Run(out, config, model, None, 0, 0, None).train) == TRAINED
    (out / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))  # killed before the end
    with one_sentence(UsageError, "expected a finished run", "go on with paper/vae_paper.py --resume"):
        read_run(out)
    assert vae_paper.main(["--resume", str(out)]) == 0
    assert [{**row, "seconds": 0} for row in rows_of(out)] == [{**row, "seconds": 0} for row in rows]


@pytest.mark.parametrize("level", [vae_lowlevel, vae_paper])
def test_too_many_are_refused_before_a_run_is_made(level, small_digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert level.main(["--validation", "150"]) == 2
    assert "--validation 150: digits has 150 training images, so 149 is the most." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
