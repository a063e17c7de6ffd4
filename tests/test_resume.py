"""A resumed run is the run that was never interrupted, number by number."""

import errno
import json
import os
import signal

import checkpoints
import numpy as np
import pytest
import torch
import trainer
from checkpoints import load_checkpoint
from paper_run import build_model, read_config

import vae_paper
from vae_common.weights import read_safetensors


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr("latent_figures.draw_run", lambda *args: None)


FLAGS = ["--epochs", "3", "--batch-size", "32", "--binarize", "dynamic"]


def interrupt_at(monkeypatch, step, number=signal.SIGINT):
    """Ctrl-C, or another signal, during the step that ends as number `step`, counted from 1."""
    original = trainer.train_step

    def train_step(state, *args):
        values = original(state, *args)
        if state.step == step:
            signal.raise_signal(number)
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


@pytest.mark.parametrize(
    "flag",
    [["--lr", "1e-4"], ["--epochs", "4"], ["--epochs", "10"], ["--seed", "0"], ["--out", "elsewhere"], ["--overwrite"]],
)  # 10 and 0 are the defaults: typed, they are no less a wish
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


# --- what is kept on disk -----------------------------------------------------------------------------------------


def weights_of(folder) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


@pytest.fixture
def ended(small_digits, monkeypatch, tmp_path, capsys):
    """A run of three epochs, and the same run that SIGTERM ended after step 12, with two checkpoints: steps 10, 12."""
    flags = [*FLAGS, "--trunk", "mlp", "--latent-dim", "2"]
    assert vae_paper.main([*flags, "--out", str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patched:
        interrupt_at(patched, 12, signal.SIGTERM)
        assert vae_paper.main([*flags, "--out", str(tmp_path / "run")]) == 143
    assert f"interrupted after step 12; go on with --resume {tmp_path / 'run'}" in capsys.readouterr().err
    return tmp_path / "run"


def test_sigterm_finishes_the_step_and_says_how_to_go_on(ended):
    assert torch.load(ended / "checkpoint.pt", weights_only=True)["step"] == 12
    assert torch.load(ended / "checkpoint-previous.pt", weights_only=True)["step"] == 10
    assert vae_paper.main(["--resume", str(ended)]) == 0
    assert weights_of(ended) == weights_of(ended.with_name("whole"))


def flip(file, at):
    whole = bytearray(file.read_bytes())
    whole[at] ^= 16
    file.write_bytes(whole)


DAMAGES = {
    "empty": lambda file: file.write_bytes(b""),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 8192 * 4096]),
    "a bit of a weight": lambda file: flip(file, file.stat().st_size // 3),
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(damage, ended, capsys):
    DAMAGES[damage](ended / "checkpoint.pt")
    capsys.readouterr()
    assert vae_paper.main(["--resume", str(ended)]) == 0
    said = capsys.readouterr()
    assert said.err.count("checkpoint.pt is damaged") == 1 and len(said.err.splitlines()) == 1
    assert f"resuming {ended} after 10 steps" in said.out
    assert weights_of(ended) == weights_of(ended.with_name("whole"))
    assert without_seconds(ended) == without_seconds(ended.with_name("whole"))


def test_two_damaged_checkpoints_are_refused(ended, capsys):
    for name in ("checkpoint.pt", "checkpoint-previous.pt"):
        DAMAGES["truncated"](ended / name)
    capsys.readouterr()
    assert vae_paper.main(["--resume", str(ended)]) == 2
    said = capsys.readouterr().err
    assert "checkpoint.pt: expected the checkpoint of this run" in said and len(said.splitlines()) == 1


def state_of(folder):
    config = read_config(folder)
    return trainer.RunState.start(build_model(config, 5), trainer.Settings(config.epochs, config.batch_size))


@pytest.mark.slow  # a few hundred files are written and read
def test_truncated_at_every_4_kib(ended, capsys):
    whole = (ended / "checkpoint.pt").read_bytes()
    state = state_of(ended)
    for length in range(0, len(whole), 4096):
        (ended / "checkpoint.pt").unlink()
        (ended / "checkpoint.pt").write_bytes(whole[:length])
        assert load_checkpoint(state, ended / "checkpoint.pt").step == 10
        assert capsys.readouterr().err.count("is damaged") == 1
    assert load_checkpoint(state, ended / "checkpoint.pt").step == 10  # it was replaced by the previous one
    assert capsys.readouterr().err == ""
    print(f"{len(range(0, len(whole), 4096))} truncated checkpoints, all told")


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_a_whole_checkpoint(call, small_digits, monkeypatch, tmp_path, capsys):
    """The disk is full from the second checkpoint on, or fails at that moment; once there is room, the run goes on."""
    flags, run = [*FLAGS, "--trunk", "mlp", "--latent-dim", "3"], tmp_path / "run"
    assert vae_paper.main([*flags, "--out", str(tmp_path / "whole")]) == 0

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    original, saved = checkpoints.save_checkpoint, []
    with monkeypatch.context() as patched:

        def save(state, path):
            saved.append(state.step)
            if len(saved) == 2 and call == "write":
                patched.setattr("builtins.open", lambda path, mode="r", *args: Full() if "w" in mode else None)
            elif len(saved) == 2:
                patched.setattr(os, call, full)
            original(state, path)

        class Full:
            __enter__ = lambda self: self  # noqa: E731
            __exit__ = lambda self, *args: None  # noqa: E731
            write = full

        patched.setattr(checkpoints, "save_checkpoint", save)
        assert vae_paper.main([*flags, "--out", str(run)]) == 2
    said = capsys.readouterr().err
    assert "No space left on device" in said and "checkpoint" in said and len(said.splitlines()) == 1
    assert not list(run.glob(".*.tmp"))
    assert torch.load(run / "checkpoint.pt", weights_only=True)["step"] == 5
    assert vae_paper.main(["--resume", str(run)]) == 0
    assert weights_of(run) == weights_of(tmp_path / "whole")
