"""The benchmark programs run on tiny sizes and judge by their bars; what they measure is left to whoever runs them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vae_lowlevel
import vae_numpy
from vae_common.errors import UsageError
from vae_common.spec import VAESpec

FOLDER = Path(__file__).parent / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """A benchmark as a module, by its name."""
    monkeypatch.syspath_prepend(FOLDER)
    return __import__


def verdicts(out: str) -> list[str]:
    return [line.split()[0] for line in out.splitlines() if line.startswith(("PASS  ", "FAIL  "))]


def test_bars_are_judged_on_the_right_side(benchmark, capsys):
    judged = benchmark("timing").Verdicts()
    judged.judge("a ratio", 1.0, at_most=1.0)
    assert judged.finish() == 0
    capsys.readouterr()
    judged.judge("a ratio", 1.01, at_most=1.0)
    judged.judge("a speed", 1.6, at_least=1.6)
    judged.judge("a speed", 1.59, at_least=1.6)
    judged.judge("what could not be measured", float("nan"), at_most=1.0)
    assert judged.finish() == 1
    assert verdicts(capsys.readouterr().out) == ["PASS", "FAIL", "PASS", "FAIL", "FAIL"]


def test_side_by_side_times_each_call_alone(benchmark, monkeypatch):
    """A clock that each call moves on by its own length: the seconds are those lengths, warm-up not counted."""
    timing, time, calls = benchmark("timing"), [0.0], []

    def take(name, seconds):
        calls.append(name)
        time[0] += seconds

    monkeypatch.setitem(timing.CLOCKS, "wall", lambda: time[0])
    short_and_long = {"short": lambda: take("short", 1.0), "long": lambda: take("long", 3.0)}
    seconds = timing.side_by_side(short_and_long, repeats=5, times=2, warm_up=1)
    np.testing.assert_array_equal(seconds["short"], np.full(5, 1.0))
    np.testing.assert_array_equal(seconds["long"], np.full(5, 3.0))
    assert calls.count("short") == calls.count("long") == 1 + 5 * 2
    rounds = [tuple(calls[2 + 4 * i : 6 + 4 * i]) for i in range(5)]
    assert len(set(rounds)) == 2  # either may come first


def test_level_1_speed(benchmark, monkeypatch, capsys):
    program = benchmark("level1_speed")
    monkeypatch.setattr(program, "BARS", {1: 1e9, 2: 0.0})
    assert program.main(["--repeats", "1", "--images", "130", "--clock", "cpu"]) == 1
    out = capsys.readouterr().out
    assert verdicts(out)[:3] == ["PASS", "FAIL", "PASS"] and len(verdicts(out)) == 5


def test_peak_memory_does_not_grow_with_the_images(benchmark):
    """Chunks of 128 images: three of them hold no more than one, but for what is kept of the chunks before."""
    program = benchmark("level1_speed")
    results = 384 * (2 + 2 * 20) * 4  # recon, kl, mu and logvar in float32, held until they are joined
    last_logits = 128 * 784 * 4  # x_logits has its name until the next chunk's take it
    assert program.peak_memory(384) <= program.peak_memory(128) + (results + last_logits) / 1e6 + 0.05


def test_training_speed(benchmark, digits, monkeypatch, capsys):
    program = benchmark("training_speed")
    monkeypatch.setattr(program, "load_dataset", lambda name, split: digits)
    monkeypatch.setattr(program, "BAR", 1e9)
    monkeypatch.setattr(program, "LEVELS_BAR", 0.0)
    assert program.main(["--repeats", "1", "--images", "32", "--batch-size", "16", "--clock", "cpu"]) == 1
    out = capsys.readouterr().out
    assert verdicts(out) == ["FAIL"] * 5 + ["PASS"] and "products, float32" in out


def test_products_are_those_that_level_1_does(benchmark):
    """Every product of a forward pass of level 1, in order, by the shapes of its operands."""
    program = benchmark("training_speed")
    seen = []

    class Told(np.ndarray):
        def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
            inputs = [np.asarray(operand) for operand in inputs]
            if ufunc is np.matmul:
                seen.append((*inputs[0].shape, inputs[1].shape[1]))
            return getattr(ufunc, method)(*inputs, **kwargs)

    params = {name: value.view(Told) for name, value in VAESpec().init_params(0).items()}
    vae_numpy.forward(params, np.zeros((3, 1, 28, 28), np.float32), np.zeros((3, 20), np.float32))
    assert seen == [program.product(layer, 3) for layer in VAESpec().layers]


def test_the_usual_way_minimises_the_same_loss(benchmark, digits):
    """Its summed loss is the sum of recon and kl of level 2 on the same mu, logvar and logits, in float64."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(digits.images[:3] / 255.0)
    x_logits, mu, logvar = (torch.from_numpy(rng.standard_normal(s)) for s in ((3, 1, 28, 28), (3, 20), (3, 20)))
    expected = sum(vae_lowlevel.elbo_terms(x, x_logits, mu, logvar)).sum()
    found = benchmark("usual_way").neg_elbo(torch.sigmoid(x_logits), x, mu, logvar)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)  # float64; a sigmoid and a log undo each other


def test_time_to_quality(benchmark, digits, monkeypatch, capsys):
    program = benchmark("time_to_quality")
    few = replace(digits, images=digits.images[:40], labels=digits.labels[:40])
    monkeypatch.setattr(program, "load_dataset", lambda name, split, data_dir: few)
    monkeypatch.setattr(program, "QUALITY", 1e9)
    monkeypatch.setattr(program, "BAR", 0.0)
    assert program.main(["--reference-epochs", "1", "--clock", "cpu"]) == 1
    out = capsys.readouterr().out
    assert verdicts(out) == ["PASS", "FAIL"] * len(program.ROUTES) and "reference, 1 epoch" in out
    assert all(f"PASS  {flags}: -elbo" in out for flags in program.ROUTES)


@pytest.mark.slow
def test_growth(benchmark, monkeypatch, capsys, tmp_path):
    """All but the processes: a point is measured in this one, and its numbers are replaced by known powers."""
    program = benchmark("growth")
    point = {"images per step": 4, "latent dimensions": 2, "images in memory": 16}
    assert set(program.measure_point(point, 1, "cpu")) == set(program.measure_shared(1)) == {"seconds", "megabytes"}

    def known(point, steps, clock):
        size = point.get("images per step", 1)
        return {"seconds": size * 1e-3 / point.get("processes", 1), "megabytes": 1.0 * size**2}

    with monkeypatch.context() as patch:
        patch.setattr(program, "in_own_process", known)
        assert program.main(["--sizes", "2", "--clock", "cpu", "--out", str(tmp_path / "growth.png")]) == 1
    out = capsys.readouterr().out
    assert verdicts(out) == ["PASS", "FAIL", "PASS", "PASS", "PASS", "PASS", "PASS"]
    assert "time per step of 2 processes over that of 1, with a core for each: 0.5, bar" in out
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"'latent dimensions': 0.* failed: .*ValueError"):
        program.in_own_process({"latent dimensions": 0}, steps=1, clock="cpu")
