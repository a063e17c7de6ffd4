"""Exercise 14's end: parts that train wait for the others, and a VAE of one's own is kept as a run of level 3."""

import json
import re
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
from test_exercise_pages import place_to_work
from test_exercise_solutions import EXERCISES, source, with_change
from vae_common.errors import NotFiniteError
from vae_measures.held_out import measured_again
from vae_training.run_files import read_run

from checks import judging, own_run  # isort: skip
from checks import ex14_your_own_vae as check  # isort: skip

NAME = "ex14_your_own_vae"


def judged(text: str, folder: Path, check=check) -> judging.Verdict:
    """The whole check of exercise 14 on an answer in `folder`."""
    try:
        return judging.judge(check, text.encode(), source("starter", NAME).encode(), folder / f"{NAME}.py", seed=0)
    finally:
        sys.modules.pop(NAME, None)


def part_first(work, rng):
    """f: is two"""
    judging.agree("f()", work.f(), 2)


def part_last(work, rng):
    """f: takes long"""
    ran.append(1)
    return "so many nats"


ran = []
WAITING = types.SimpleNamespace(part_first=part_first, part_last=part_last, AFTER_OTHERS=(part_last,))


@pytest.mark.parametrize(("answer", "right"), [(2, True), (3, False)])
def test_a_part_that_trains_waits_until_the_others_are_right(answer, right, tmp_path):
    ran.clear()
    found = judged(f"def f():\n    return {answer}\n", tmp_path, WAITING)
    assert (found.passed, bool(ran), "so many nats" in found.text) == (right, right, right)
    assert ("waits     f: takes long" in found.text) != right


@pytest.fixture
def few(digits):
    return replace(digits, images=digits.images[:60], labels=digits.labels[:60], factors=None, factor_names=())


def vae(seed: int) -> torch.nn.Module:
    """Another class than level 3's, with its names: the solution's."""
    module = judging.load(source("solutions", NAME).encode(), EXERCISES / f"{NAME}.py", ())
    torch.manual_seed(seed)
    return module.VAE(2)


def test_what_is_kept_is_a_run_of_level_3_with_the_same_weights(few, tmp_path):
    model = vae(0)
    own_run.keep_run(model, few, few, 3, tmp_path / "own")
    config, loaded, rows = read_run(tmp_path / "own")
    assert (config.dataset, config.latent_dim, config.epochs) == ("digits", 2, 3)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    measured_again(tmp_path / "own", config, loaded, rows, few)
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_an_earlier_run_gives_way_only_to_a_whole_one(few, tmp_path, monkeypatch):
    first, second, folder = vae(1), vae(2), tmp_path / "own"
    own_run.keep_run(first, few, few, 3, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(own_run, "save_model", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError):
            own_run.keep_run(second, few, few, 3, folder)
    with torch.no_grad():
        second.encoder["mu"].bias.fill_(np.nan)
    with pytest.raises(NotFiniteError):
        own_run.keep_run(second, few, few, 3, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    own_run.keep_run(vae(3), few, few, 3, folder)
    assert {path.name: path.read_bytes() for path in (tmp_path / "own-1").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own", "own-1"]
    assert torch.equal(read_run(folder)[1].state_dict()["encoder.mu.bias"], vae(3).state_dict()["encoder.mu.bias"])


def test_a_run_that_cannot_be_written_is_told_in_a_sentence(few, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    for name, value in dict(load_dataset=lambda *_: few, BAR=1e9, examined=lambda *_: 13, keep_run=full).items():
        monkeypatch.setattr(check, name, value)
    found = judged(source("solutions", NAME), tmp_path)
    assert not found.passed and found.text.splitlines()[-1].startswith("Your VAE is right, and could not be written to")


@pytest.mark.slow
def test_the_solution_trains_passes_and_is_kept(tmp_path, capsys):
    found = judged(source("solutions", NAME), tmp_path)
    assert found.passed, found.text
    neg_elbo = float(re.search(r"-elbo ([\d.]+) nats", found.text)[1])
    assert 100 < neg_elbo < check.BAR
    assert evaluate.main([str(tmp_path / "own_vae"), "--only", "codes"]) == 0
    assert abs(json.loads((tmp_path / "own_vae" / "evaluation.json").read_text())["elbo"] + neg_elbo) < 0.06


@pytest.mark.slow
def test_a_loop_that_hardly_learns_is_refused_and_nothing_is_kept(tmp_path):
    found = judged(with_change(NAME, "lr=2e-3", "lr=1e-5"), tmp_path)
    assert not found.passed and f"at most {check.BAR} nats" in found.text and "learning rate" in found.text
    assert not list(tmp_path.iterdir())


def test_the_capstone_plants_one_of_the_eight_common_mistakes(tmp_path):
    page = (EXERCISES / "capstone.md").read_text(encoding="utf-8")
    [block] = [body for body in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "common_mistakes" in body]
    healthy = re.search(r"```python\n(.*?)```", (EXERCISES / "common_mistakes.md").read_text(), re.DOTALL)[1]
    planted = set()
    with place_to_work(tmp_path):
        for number in range(1, 9):
            exec(re.sub(r"number = \d+", f"number = {number}", block), {})
            patient = Path("exercises/my_work/patient.py").read_text()
            [changed] = [line for line in patient.splitlines() if line not in healthy.splitlines()]
            planted.add(changed)
    slips = re.findall(r"^```diff\n-.*\n\+(.*)\n```", (EXERCISES / "common_mistakes.md").read_text(), re.MULTILINE)
    assert planted == set(slips) and len(slips) == 8  # which the doctor finds: see test_common_mistakes.py
