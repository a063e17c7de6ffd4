"""A resumed run is the run that was never interrupted, number by number."""

import errno
import json
import os
import shutil
import signal
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import vae_paper
from vae_commands import train_run
from vae_common.config import RunConfig
from vae_common.errors import UsageError
from vae_common.spec import VAESpec
from vae_common.weights import read_safetensors, save_weights
from vae_training import trainer
from vae_training.checkpoints import load_checkpoint, previous, save_checkpoint
from vae_training.factory import build_model
from vae_training.trainer import RunState

FLAGS = ["--epochs", "2", "--batch-size", "32", "--binarize", "dynamic"]  # of 5 steps each
SMALL = [*FLAGS, "--architecture", "mlp", "--latent-dim", "2"]


def interrupt_at(monkeypatch, step: int, number: int = signal.SIGINT, model: str = "Module") -> None:
    """Ctrl-C, or another signal, during the step that ends as number `step`, from 1, of a model of that class."""
    original = trainer.train_step

    def train_step(state, *args):
        values = original(state, *args)
        if state.step == step and model in [kind.__name__ for kind in type(state.model).__mro__]:
            signal.raise_signal(number)
        return values

    monkeypatch.setattr(trainer, "train_step", train_step)


def without_seconds(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def content(path: Path) -> object:
    """What two runs with the same settings have in common: all but seconds that were measured, and where they lie."""
    if path.suffix == ".json":
        row = json.loads(path.read_text())
        return {name: value for name, value in row.items() if name not in ("seconds", "out", "overwrite", "resume")}
    if path.suffix == ".jsonl":
        return without_seconds([json.loads(line) for line in path.read_text().splitlines()])
    if "checkpoint" in path.name:
        metadata, arrays = read_safetensors(path)
        rest = json.loads(metadata["state"])
        return {**rest, "rows": without_seconds(rest["rows"])}, {name: one.tobytes() for name, one in arrays.items()}
    return path.read_bytes()


def assert_same_run(found: Path, expected: Path, but: str = "nothing") -> None:
    """The same files with the same content, but for those with `but` in their names."""
    names, others = (
        {str(path.relative_to(run)) for path in run.rglob("*.*") if but not in path.name} for run in (found, expected)
    )
    assert names == others
    for name in names:
        assert content(found / name) == content(expected / name), name


def step_of(path: Path) -> int:
    return json.loads(read_safetensors(path)[0]["state"])["step"]


MODELS = {
    "vae": ["--latent-dim", "3"],
    "beta": ["--beta", "4", "--anneal", "cyclical"],
    "capacity": ["--capacity", "5"],
    "free bits": ["--free-bits", "0.5"],
    "iwae": ["--importance-samples", "3"],
    "many samples": ["--mc-samples", "2"],
    "mlp": ["--architecture", "mlp"],
    "linear": ["--architecture", "linear", "--likelihood", "gaussian"],
    "masked": ["--architecture", "masked", "--binarize", "dynamic", "--free-nats", "5"],
    "cvae": ["--model", "cvae"],
    "ae": ["--model", "ae"],
    "vqvae": ["--model", "vqvae", "--codes", "16"],
}
MLP = ["--architecture", "mlp"]
CASES = [
    pytest.param(MLP, 3, id="within an epoch"),
    pytest.param([*MODELS["beta"], *MLP], 8, id="within the last epoch, which the objective knows"),
    pytest.param([*MODELS["ae"], *MLP], 5, id="at its end, with weights that have no gradient"),
    *(pytest.param(flags, 8, id=name, marks=pytest.mark.slow) for name, flags in MODELS.items()),
]


@pytest.mark.parametrize(("flags", "step"), CASES)
def test_interrupted_and_resumed_equals_uninterrupted(flags, step, trained, monkeypatch, tmp_path, capsys):
    broken, flags = tmp_path / "broken", [*FLAGS, *flags]
    whole = trained(*flags)
    with monkeypatch.context() as patched:
        interrupt_at(patched, step)
        assert vae_paper.main([*flags, "--out", str(broken)]) == 130
    assert f"interrupted after step {step}; go on with --resume {broken}" in capsys.readouterr().err
    assert not (broken / "weights.safetensors").exists()
    assert vae_paper.main(["--resume", str(broken)]) == 0
    assert_same_run(broken, whole, but="previous")


@pytest.mark.parametrize("step", [4, pytest.param(5, marks=pytest.mark.slow)])
def test_interrupted_in_the_second_phase(step, trained, monkeypatch, tmp_path, capsys):
    """The prior of a VQ-VAE is trained after it; the run goes on where it was, without training the first again."""
    broken, flags = tmp_path / "broken", [*FLAGS, *MODELS["vqvae"], "--epochs", "1", "--prior-epochs", "1"]
    whole = trained(*flags)
    with monkeypatch.context() as patched:
        interrupt_at(patched, step, model="CodePrior")
        assert vae_paper.main([*flags, "--out", str(broken)]) == 130
    capsys.readouterr()
    assert vae_paper.main(["--resume", str(broken)]) == 0
    said = capsys.readouterr().out
    assert f"resuming {broken} after 5 steps" in said and f"resuming {broken} after {step} steps" in said
    assert_same_run(broken, whole, but="previous")


def test_a_run_that_ended_before_its_first_checkpoint_starts_again(trained, monkeypatch, tmp_path, capsys):
    """It is killed, so nothing is written; what it had done is done again from the same weights, those of --weights."""
    weights = save_weights(VAESpec(3).init_params(seed=1), tmp_path / "weights")
    flags = ["--epochs", "1", "--weights", str(weights)]
    whole = trained(*flags)
    with monkeypatch.context() as patched:

        def die(*args):
            raise RuntimeError("killed")

        patched.setattr(trainer, "train_step", die)
        with pytest.raises(RuntimeError, match="killed"):
            vae_paper.main([*flags, "--out", str(tmp_path / "broken")])
    assert vae_paper.main(["--resume", str(tmp_path / "broken")]) == 0
    assert f"resuming {tmp_path / 'broken'} after 0 steps" in capsys.readouterr().out
    assert_same_run(tmp_path / "broken", whole)


def test_a_run_killed_after_its_last_checkpoint_and_before_its_metrics(trained, tmp_path):
    broken = shutil.copytree(trained(*SMALL), tmp_path / "broken")
    metrics = broken / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:-2]))
    assert vae_paper.main(["--resume", str(broken)]) == 0
    assert_same_run(broken, trained(*SMALL))


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(trained, monkeypatch, tmp_path, capsys):
    """SIGTERM ends a run after step 7; it goes on from there, or from the end of the first epoch."""
    ended = tmp_path / "ended"
    with monkeypatch.context() as patched:
        interrupt_at(patched, 7, signal.SIGTERM)
        assert vae_paper.main([*SMALL, "--out", str(ended)]) == 143
    assert f"interrupted after step 7; go on with --resume {ended}" in capsys.readouterr().err
    for step in (7, 5):
        run = shutil.copytree(ended, tmp_path / str(step))
        path = run / "checkpoint.safetensors"
        assert (step_of(path), step_of(previous(path))) == (7, 5)
        if step == 5:
            path.write_bytes(flipped(path.read_bytes(), path.stat().st_size // 3))
        assert vae_paper.main(["--resume", str(run)]) == 0
        said = capsys.readouterr()
        assert f"resuming {run} after {step} steps" in said.out
        assert said.err.startswith(f"note: {path} is damaged (") if step == 5 else said.err == ""
        assert_same_run(run, trained(*SMALL), but="previous")


def test_a_finished_run_that_is_resumed_stays_as_it_is(trained, small_digits, tmp_path, capsys):
    """Nothing is trained, and what evaluate.py added to evaluation.json is kept; other threads are told."""
    run = shutil.copytree(trained(*SMALL), tmp_path / "run")
    found, config = (json.loads((run / name).read_text()) for name in ("evaluation.json", "config.json"))
    (run / "evaluation.json").write_text(json.dumps({**found, "nll": 1.5, "recon": 0}))
    (run / "config.json").write_text(json.dumps({**config, "threads": config["threads"] + 2}))
    assert vae_paper.main(["--resume", str(run)]) == 0
    assert capsys.readouterr().err.startswith("note: this run began with")
    assert json.loads((run / "evaluation.json").read_text()) == {**found, "nll": 1.5}
    (run / "config.json").write_text(json.dumps(config))
    assert_same_run(run, trained(*SMALL), but="evaluation.json")


@pytest.fixture
def finished(trained, tmp_path) -> Path:
    """A run of one epoch, so that it has no earlier checkpoint."""
    return shutil.copytree(trained(*SMALL, "--epochs", "1"), tmp_path / "run")


def test_resume_keeps_the_settings_of_the_run(finished, told):
    """10 and 0 are the defaults: typed, they are no less a wish."""
    for flag in ("--lr 1e-4", "--epochs 4", "--epochs 10", "--seed 0", "--out elsewhere", "--overwrite"):
        said = told(vae_paper.main, ["--resume", str(finished), *flag.split()])
        assert f"{flag.split()[0]} cannot be given with --resume" in said


@pytest.fixture
def resuming(told):
    return lambda run: told(vae_paper.main, ["--resume", str(run)])


def test_resume_without_what_a_run_needs_is_refused(finished, resuming):
    assert "config.json: expected the settings of a run" in resuming(finished / "nothing")
    another, path = RunConfig(latent_dim=2).settled(), finished / "checkpoint.safetensors"
    save_checkpoint(RunState.start(build_model(another), another), path)
    previous(path).unlink()
    assert "found none that can be read (Error(s) in loading state_dict" in resuming(finished)
    path.unlink()
    assert "checkpoint.safetensors: expected the checkpoint of this run" in resuming(finished)


def test_a_term_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(
    without_pictures, monkeypatch, tmp_path, told
):
    original = trainer.train_step

    def train_step(state, *args):
        if state.step == 7:
            with torch.no_grad():
                state.model.encoder.logvar.bias += 500.0  # exp(logvar) overflows
        return original(state, *args)

    monkeypatch.setattr(trainer, "train_step", train_step)
    said = told(vae_paper.main, [*SMALL, "--out", str(tmp_path / "run")])
    assert "recon became nan at step 7; try a smaller --lr than 0.002" in said
    _, arrays = read_safetensors(tmp_path / "run" / "checkpoint.safetensors")
    assert step_of(tmp_path / "run" / "checkpoint.safetensors") == 5
    assert all(np.isfinite(array).all() for array in arrays.values())


class Tiny(nn.Module):
    """Weights of which one has a gradient, and buffers of the dtypes that a model may have, with no axes too."""

    objective = None

    def __init__(self, value: float = 0.0):
        super().__init__()
        self.moved, self.idle = nn.Parameter(torch.tensor([value, 2.0])), nn.Parameter(torch.tensor(value))
        for dtype in (torch.float16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool):
            self.register_buffer(str(dtype).removeprefix("torch."), torch.tensor(1.7 * value, dtype=dtype))


def tiny_state(steps: int = 0) -> RunState:
    """The state of a run after so many steps, with numbers that are not easily written in decimals."""
    state = RunState.start(Tiny(steps / 3), RunConfig())
    for step in range(steps):
        state.model.moved.grad = torch.tensor([0.1, -3.0]) / (step + 1)
        state.optimizer.step()
    state.step, state.sums = steps, {"recon": 0.1 + 0.2, "kl": 5e-324, "loss": -0.0} if steps else {}
    state.rows = [{"epoch": 1, "seconds": 1 / 3, "elbo": -1.7976931348623157e308, "of": 'ü"\\'}] * (steps > 1)
    return state


def tensors_of(state: RunState) -> dict[str, torch.Tensor]:
    adam = state.optimizer.state_dict()["state"]
    return state.model.state_dict() | {f"{n} {name}": value for n in adam for name, value in adam[n].items()}


def assert_same_state(found: RunState, expected: RunState) -> None:
    assert repr((found.step, found.sums, found.rows)) == repr((expected.step, expected.sums, expected.rows))
    one, two = tensors_of(found), tensors_of(expected)
    assert one.keys() == two.keys() and len(two) == (11 if expected.step else 8)
    for name, value in two.items():
        assert (one[name].dtype, one[name].shape) == (value.dtype, value.shape), name
        assert one[name].numpy().tobytes() == value.numpy().tobytes(), name


def flipped(whole: bytes, at: int) -> bytes:
    """With one bit of the byte at `at` flipped."""
    changed = bytearray(whole)
    changed[at] ^= 1 << at % 8
    return bytes(changed)


def test_all_of_the_last_two_states_comes_back_and_what_is_on_the_disk_is_never_written_to(tmp_path):
    path, states = tmp_path / "a.safetensors", [tiny_state(steps) for steps in range(4)]
    for number, state in enumerate(states):
        links = [(file, tmp_path / f"{number} {file.name}", file.read_bytes()) for file in tmp_path.glob("a*")]
        for file, link, _ in links:
            os.link(file, link)
        save_checkpoint(state, path)
        assert all(link.read_bytes() == whole for _, link, whole in links)
        read = load_checkpoint(tiny_state(2), path)
        assert_same_state(read, state)
        save_checkpoint(read, tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == path.read_bytes()
        if number:
            assert_same_state(load_checkpoint(tiny_state(), previous(path)), states[number - 1])


def test_a_flipped_bit_in_any_byte_and_any_cut_is_noticed(tmp_path):
    path, state = tmp_path / "a.safetensors", tiny_state()
    save_checkpoint(tiny_state(3), path)
    whole = path.read_bytes()
    damages = [flipped(whole, at) for at in range(len(whole))] + [whole[:at] for at in range(0, len(whole), 16)]
    for damaged in damages:
        path.unlink()  # to write a new file is faster than to write over one
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match=r"a\.safetensors: expected the checkpoint of this run"):
            load_checkpoint(state, path)
    print(f"{len(damages):,} damaged checkpoints, all told")


def test_a_damaged_or_missing_file_is_replaced_by_the_one_before_it(tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    for damage in (lambda: path.write_bytes(flipped(path.read_bytes(), -1)), path.unlink):
        for steps in (2, 3):
            save_checkpoint(tiny_state(steps), path)
        damage()
        assert_same_state(load_checkpoint(tiny_state(), path), tiny_state(2))
        said = capsys.readouterr().err
        assert said.startswith(f"note: {path} is damaged (") and said.count("\n") == 1
        assert said.endswith("); going on from the checkpoint before it.\n")
        assert_same_state(load_checkpoint(tiny_state(), path), tiny_state(2))
        assert capsys.readouterr().err == ""


def test_a_file_that_may_not_be_read_is_not_taken_for_damaged(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    for steps in (2, 3):
        save_checkpoint(tiny_state(steps), path)
    whole = path.read_bytes()

    def refuse(*args):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patched, pytest.raises(PermissionError):
        patched.setattr(Path, "open", refuse)
        load_checkpoint(tiny_state(), path)
    assert path.read_bytes() == whole


def full(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("number", [1, 2])  # of the copy of the earlier checkpoint, and of the new one
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_refuses_leaves_a_whole_checkpoint(call, number, tmp_path, monkeypatch):
    path, original, taken = tmp_path / "a.safetensors", getattr(os, call), []
    save_checkpoint(tiny_state(1), path)

    def refuse(*args):
        of_a_folder = call == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)
        taken.extend([] if of_a_folder else [call])
        return full() if len(taken) == number else original(*args)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left on device"):
        patched.setattr(os, call, refuse)
        save_checkpoint(tiny_state(2), path)
    assert not list(tmp_path.glob(".*.tmp"))
    assert_same_state(load_checkpoint(tiny_state(), path), tiny_state(1))


def test_a_run_on_a_full_disk_is_told_and_goes_on_when_there_is_room(trained, monkeypatch, tmp_path, told):
    original, run = train_run.save_checkpoint, tmp_path / "run"
    with monkeypatch.context() as patched:

        def save(state, path):
            if state.step == 10:
                patched.setattr(os, "fsync", full)
            original(state, path)

        patched.setattr(train_run, "save_checkpoint", save)
        said = told(vae_paper.main, [*SMALL, "--out", str(run)])
    assert "No space left on device" in said and "checkpoint" in said
    assert not list(run.glob(".*.tmp")) and step_of(run / "checkpoint.safetensors") == 5
    assert vae_paper.main(["--resume", str(run)]) == 0
    assert_same_run(run, trained(*SMALL))


def test_a_folder_that_may_not_be_written_to_is_told_before_training(trained, tmp_path, monkeypatch, capsys):
    run = shutil.copytree(trained(*SMALL), tmp_path / "run")
    monkeypatch.setattr(os, "access", lambda path, mode: not (path == run and mode & os.W_OK))
    monkeypatch.setattr(train_run, "fit", lambda *args: pytest.fail("trained"))
    assert vae_paper.main(["--resume", str(run)]) == 2
    assert f"{run}: this folder, or its disk, is read-only" in capsys.readouterr().err
