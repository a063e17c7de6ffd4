"""A resumed run is the run that was never interrupted, number by number."""

import json
import signal

import numpy as np
import pytest
import torch

import trainer
import vae_paper
from vae_common.weights import read_safetensors


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr("latent_figures.draw_run", lambda *args: None)


FLAGS = ["--epochs", "3", "--batch-size", "32", "--binarize", "dynamic"]


def interrupt_at(monkeypatch, step):
    """Ctrl-C during the step that ends as number `step`, counted from 1."""
    original = trainer.train_step

    def train_step(state, *args):
        values = original(state, *args)
        if state.step == step:
            signal.raise_signal(signal.SIGINT)
        return values

    monkeypatch.setattr(trainer, "train_step", train_step)


def without_seconds(folder) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


MODELS = {
    "vae": ["--latent-dim", "3"],
    "beta": ["--beta", "4", "--anneal", "cyclical"],
    "capacity": ["--capacity", "5"],
    "free bits": ["--free-bits", "0.5"],
    "iwae": ["--importance-samples", "3"],
    "many samples": ["--mc-samples", "2"],
    "mlp": ["--trunk", "mlp"],
    "linear": ["--trunk", "linear", "--likelihood", "gaussian"],
    "cvae": ["--model", "cvae"],
    "ae": ["--model", "ae"],
    "vqvae": ["--model", "vqvae", "--codes", "16"],
}


@pytest.mark.parametrize(
    ("model", "step"),
    [("vae", 3), ("vae", 5), *((model, 8) for model in MODELS)],  # within an epoch, at its end, within the second
)
def test_interrupted_and_resumed_equals_uninterrupted(model, step, small_digits, monkeypatch, tmp_path, capsys):
    whole, broken, flags = tmp_path / "whole", tmp_path / "broken", [*FLAGS, *MODELS[model]]
    assert vae_paper.main([*flags, "--out", str(whole)]) == 0
    with monkeypatch.context() as patched:
        interrupt_at(patched, step)
        assert vae_paper.main([*flags, "--out", str(broken)]) == 130
    assert f"interrupted after step {step}; go on with --resume {broken}" in capsys.readouterr().err
    assert not (broken / "weights.safetensors").exists()
    assert vae_paper.main(["--resume", str(broken)]) == 0
    expected, found = (read_safetensors(folder / "weights.safetensors")[1] for folder in (whole, broken))
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    assert without_seconds(broken) == without_seconds(whole)


@pytest.mark.parametrize("step", [4, 5])
def test_interrupted_in_the_second_phase(step, small_digits, monkeypatch, tmp_path):
    """The prior of a VQ-VAE is trained after it; the run goes on where it was, without training the first again."""
    whole, broken, flags = tmp_path / "whole", tmp_path / "broken", [*FLAGS, *MODELS["vqvae"], "--prior-epochs", "2"]
    assert vae_paper.main([*flags, "--out", str(whole)]) == 0
    original, taken = trainer.train_step, []
    with monkeypatch.context() as patched:

        def train_step(state, *args):
            values = original(state, *args)
            taken.append(state.step)
            if len(taken) == 15 + step:
                signal.raise_signal(signal.SIGINT)
            return values

        patched.setattr(trainer, "train_step", train_step)
        assert vae_paper.main([*flags, "--out", str(broken)]) == 130
        assert len(taken) == 15 + step
        assert vae_paper.main(["--resume", str(broken)]) == 0
        assert len(taken) == 15 + 10
    for name in ("weights.safetensors", "prior-weights.safetensors"):
        expected, found = (read_safetensors(folder / name)[1] for folder in (whole, broken))
        for key in expected:
            np.testing.assert_array_equal(found[key], expected[key])


@pytest.mark.parametrize("flag", [["--lr", "1e-4"], ["--epochs", "4"], ["--out", "elsewhere"], ["--overwrite"]])
def test_resume_keeps_the_settings_of_the_run(flag, small_digits, tmp_path, capsys):
    assert vae_paper.main(["--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    assert vae_paper.main(["--resume", str(tmp_path / "run"), *flag]) == 2
    assert f"{flag[0]} cannot be given with --resume" in capsys.readouterr().err


def test_resume_without_a_checkpoint_is_refused(tmp_path, capsys):
    assert vae_paper.main(["--resume", str(tmp_path / "nothing")]) == 2
    assert "config.json: expected the settings of a run" in capsys.readouterr().err


def test_a_run_that_ended_before_its_first_checkpoint_starts_again(small_digits, monkeypatch, tmp_path, capsys):
    """It is killed, so nothing is written; what it had done is done again from the same weights, those of --weights."""
    flags = [*FLAGS, "--latent-dim", "3"]
    assert vae_paper.main([*flags, "--epochs", "1", "--seed", "1", "--out", str(tmp_path / "first")]) == 0
    flags = [*flags, "--weights", str(tmp_path / "first" / "weights.safetensors")]
    assert vae_paper.main([*flags, "--out", str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patched:

        def die(*args):
            raise RuntimeError("killed")

        patched.setattr(trainer, "train_step", die)
        with pytest.raises(RuntimeError, match="killed"):
            vae_paper.main([*flags, "--out", str(tmp_path / "broken")])
    assert vae_paper.main(["--resume", str(tmp_path / "broken")]) == 0
    assert f"resuming {tmp_path / 'broken'} after 0 steps" in capsys.readouterr().out
    expected, found = (read_safetensors(tmp_path / run / "weights.safetensors")[1] for run in ("whole", "broken"))
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_a_finished_run_without_its_checkpoint_is_refused(small_digits, tmp_path, capsys):
    assert vae_paper.main(["--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    (tmp_path / "run" / "checkpoint.pt").unlink()
    assert vae_paper.main(["--resume", str(tmp_path / "run")]) == 2
    assert "checkpoint.pt: expected the checkpoint of this run" in capsys.readouterr().err


def test_a_checkpoint_runs_no_code(small_digits, tmp_path, capsys):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    assert vae_paper.main(["--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    torch.save({"model": Bomb()}, tmp_path / "run" / "checkpoint.pt")
    assert vae_paper.main(["--resume", str(tmp_path / "run")]) == 2
    assert "checkpoint.pt: expected the checkpoint of this run" in capsys.readouterr().err
    assert not (tmp_path / "exploded").exists()


def test_a_term_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(small_digits, monkeypatch, tmp_path, capsys):
    original = trainer.train_step

    def train_step(state, *args):
        if state.step == 7:
            with torch.no_grad():
                state.model.encoder.logvar.bias += 500.0  # exp(logvar) overflows
        return original(state, *args)

    monkeypatch.setattr(trainer, "train_step", train_step)
    assert vae_paper.main([*FLAGS, "--out", str(tmp_path / "run")]) == 2
    assert "recon became nan at step 7; try a smaller --lr than 0.002" in capsys.readouterr().err
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 5 and all(torch.isfinite(value).all() for value in saved["model"].values())
