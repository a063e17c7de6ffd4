"""Rate and distortion: every estimate against an exact answer, the ends of the plane, the sweep, the command."""

import json
import math
import shutil
import signal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.distributions import Normal

import evaluate
import rate_distortion
from run_folders import finished_run
from vae_commands import evaluate_run, rate_distortion_runs
from vae_common.config import SweepConfig
from vae_common.data import binarize, load_dataset
from vae_common.run_folder import make_run_folder
from vae_common.weights import read_safetensors
from vae_measures import rate_distortion_plane as plane
from vae_measures import rate_parts
from vae_measures.rate_parts import EstimateError, decompose, log_densities, log_marginals
from vae_models.linear_vae import linear_rate_distortion
from vae_plots.rate_distortion import rate_distortion_plane
from vae_training import trainer

FOUR = 4  # standard errors


def rng(seed=0) -> np.random.Generator:
    return np.random.default_rng(seed)


def posteriors(images: int, latents: int, seed=0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping, of unequal widths, and correlated over the images."""
    draw = rng(seed)
    mu = draw.normal(size=(images, latents)) @ (np.eye(latents) + 0.7)
    return mu, draw.uniform(-3, 0.5, size=(images, latents))


@pytest.mark.parametrize("at_once", [1, 100, 10**6])
def test_densities_match_torch_distributions(at_once):
    mu, logvar = posteriors(30, 4)
    z, index = mu + np.exp(0.5 * logvar) * rng().normal(size=mu.shape), np.arange(30)
    own, mixture = log_densities(z, index, mu, logvar, at_once)
    parts = Normal(torch.from_numpy(mu), torch.from_numpy(np.exp(0.5 * logvar))).log_prob(torch.from_numpy(z)[:, None])
    joint = parts.sum(dim=2)  # (M, N)
    np.testing.assert_allclose(own, joint.diag(), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(mixture, torch.logsumexp(joint, dim=1) - math.log(30), rtol=1e-10, atol=1e-10)
    marginals = torch.logsumexp(parts, dim=1) - math.log(30)
    np.testing.assert_allclose(log_marginals(z, index, mu, logvar), marginals, rtol=1e-10, atol=1e-10)


def test_float32_posteriors_as_narrow_as_a_training_makes_them():
    """std of 1e-3, as small beta gives: the same as in the plain form (z - mu)^2 / std^2."""
    mu, logvar = (value.astype(np.float32) for value in posteriors(20, 5))
    logvar = logvar - np.float32(12)
    z = mu + np.exp(0.5 * logvar.astype(float)) * rng().normal(size=mu.shape)
    plain = -0.5 * ((z - mu) ** 2 * np.exp(-logvar.astype(float)) + logvar + math.log(2 * math.pi)).sum(axis=1)
    np.testing.assert_allclose(log_densities(z, np.arange(20), mu, logvar)[0], plain, atol=rate_parts.ROUNDING)


def by_quadrature(mu, logvar, side=801, reach=9.0) -> dict[str, float]:
    """The parts of the rate of N posteriors with Z = 1 or 2, by summing over a grid: smooth densities that vanish at
    its edge, for which the rectangle rule is exact to rounding."""
    axis = np.linspace(-reach, reach, side)
    step, std = axis[1] - axis[0], np.exp(0.5 * logvar)
    each = np.exp(-0.5 * ((axis[:, None, None] - mu) / std) ** 2) / (std * math.sqrt(2 * math.pi))  # (side, N, Z)
    prior = np.exp(-0.5 * axis**2) / math.sqrt(2 * math.pi)
    if mu.shape[1] == 1:
        q_x, p, product, cell = each[:, :, 0].T, prior, each[:, :, 0].mean(axis=1), step
    else:
        q_x = np.einsum("in,jn->nij", each[:, :, 0], each[:, :, 1])
        p, cell = np.outer(prior, prior), step**2
        product = np.outer(each[:, :, 0].mean(axis=1), each[:, :, 1].mean(axis=1))
    q = q_x.mean(axis=0)

    def kl(a, b):
        return float((a * (np.log(a + 1e-300) - np.log(b + 1e-300))).sum() * cell)

    information = float(np.mean([kl(one, q) for one in q_x]))
    return {"information": information, "aggregate_kl": kl(q, p), "total_correlation": kl(q, product),
            "dimension_kl": kl(product, p)}  # fmt: skip


@pytest.mark.parametrize("latents", [1, 2])
def test_the_parts_of_a_few_images_by_quadrature(latents):
    mu, logvar = posteriors(5, latents, seed=1)
    exact, parts = by_quadrature(mu, logvar), decompose(mu, logvar, 20_000, rng())
    for name, value in exact.items():
        estimate = getattr(parts, name)
        assert abs(estimate.value - value) <= FOUR * estimate.error + 1e-6, name
        assert estimate.error < 0.05  # else the comparison says nothing
    assert exact["information"] + exact["aggregate_kl"] == pytest.approx(parts.rate, rel=1e-6)
    assert 0.5 < exact["information"] < math.log(5) - 0.1 and exact["aggregate_kl"] > 0.3  # far from every bound


def test_islands_by_enumeration():
    """Images on three islands of 2, 3 and 5: a code tells the island and no more, and either coordinate says it, so I
    and the total correlation are the islands' entropy. Codes drawn from every image equally often make it exact."""
    mu, share = 500.0 * np.repeat([0, 1, 2], [2, 3, 5])[:, None] * [1, -1], np.array([0.2, 0.3, 0.5])
    parts = decompose(mu, np.zeros((10, 2)), 40, rng())
    for part in (parts.information, parts.total_correlation):
        assert part.value == pytest.approx(-(share * np.log(share)).sum(), abs=1e-9)


@given(arrays(float, (7, 3), elements=st.floats(-6, 6)), arrays(float, (7, 3), elements=st.floats(-8, 2)))
def test_bounds_hold_for_any_posteriors(mu, logvar):
    index = np.arange(60) % 7
    z = mu[index] + np.exp(0.5 * logvar[index]) * rng().normal(size=(60, 3))
    own, mixture = log_densities(z, index, mu, logvar)
    assert (own - mixture).max() <= math.log(7) + 1e-9  # not only on average: of every code
    parts = decompose(mu, logvar, 700, rng())
    assert -FOUR * parts.information.error - 1e-6 <= parts.information.value <= math.log(7) + 1e-9
    assert parts.information.value + parts.aggregate_kl.value == pytest.approx(parts.rate, rel=1e-12, abs=1e-12)


def weight_per_dimension(z, index, mu, logvar):
    """log q(z) with the 1/N of the mixture in every dimension: it makes 3 ln N too much of I."""
    own, mixture = log_densities(z, index, mu, logvar)
    return own, mixture - (z.shape[1] - 1) * math.log(len(mu))


def sum_of_marginals(z, index, mu, logvar):
    """log q(z) as if the dimensions were independent given the set: too small where they are not."""
    own, mixture = log_densities(z, index, mu, logvar)
    return own, log_marginals(z, index, mu, logvar).sum(axis=1) if z.shape[1] > 1 else mixture


def twice_the_std(z, index, mu, logvar):
    """Codes drawn with the wrong width, as exp(logvar) for a std makes them: the rate no longer adds up."""
    return log_densities(z, index, mu, logvar + 2 * math.log(2))


NOT_FINITE = np.array([[0.0, math.nan], *[[0.0, 0.0]] * 99])


@pytest.mark.parametrize(
    ("wrong", "codes", "name"),
    [
        (weight_per_dimension, posteriors(100, 4), "I(x; z) was estimated as 1"),
        (weight_per_dimension, np.zeros((2, 100, 4)), "I(x; z) was estimated as 13.82"),
        (sum_of_marginals, (np.arange(50.0)[:, None] * [9, 9, 9], np.zeros((50, 3))), "I(x; z)"),
        (twice_the_std, posteriors(100, 4), "sampled rate"),
        (log_densities, (NOT_FINITE, np.zeros((100, 2))), "I(x; z)"),
    ],
)
def test_an_estimate_that_cannot_be_is_refused(wrong, codes, name, monkeypatch):
    monkeypatch.setattr(rate_parts, "log_densities", wrong)
    with pytest.raises(EstimateError, match="which cannot be") as error:
        decompose(*codes, 400, rng())
    assert str(error.value).startswith(name) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("how", ["none", "threshold"])
def test_distortion_without_z_is_the_loss_of_a_constant_decoder(how, digits):
    x = binarize(digits.images[:200], how)
    mean = plane.mean_image(x)
    np.testing.assert_allclose(mean, x.mean(axis=0), atol=1 / 255 / 200)
    logits = torch.from_numpy(np.log(mean / (1 - mean))).expand(200, 1, 28, 28)
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(x).double(), reduction="none")
    expected = bce.sum(dim=(1, 2, 3)).mean().item()
    assert plane.distortion_without_z(x, mean, "bernoulli") == pytest.approx(expected, rel=1e-9)
    squared = ((x - mean) ** 2).sum(axis=(1, 2, 3)).mean()
    assert plane.distortion_without_z(x, mean, "gaussian") == pytest.approx(squared, rel=1e-9)
    dark, lit = np.zeros((9, 1, 1, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)  # a pixel never lit in training
    assert plane.distortion_without_z(lit, plane.mean_image(dark), "bernoulli") == pytest.approx(math.log(255 * 9 + 2))


def test_entropy_of_a_set_by_enumeration():
    """Images of three pixels and all eight ways to binarize them; met by pixels of 0 and 1, an upper bound for grey."""
    black_and_white = np.array([[0, 0, 1], [0, 0, 1], [1, 0, 1], [1, 1, 1]], np.float32).reshape(4, 1, 1, 3)
    grey = np.array([[0.1, 0.9, 0.2], [0.8, 0.3, 0.7]], np.float32).reshape(2, 1, 1, 3)
    both = np.concatenate([black_and_white, grey])
    assert plane.pixel_entropy(both, at_once=4) == pytest.approx(plane.pixel_entropy(both), rel=1e-12)
    outcomes = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, 8).T
    for x, exact in ((black_and_white, True), (grey, False)):
        p = np.where(outcomes[None], x.reshape(-1, 1, 3), 1 - x.reshape(-1, 1, 3)).prod(axis=2).mean(axis=0)
        entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
        found = plane.entropy_of_set(x)
        assert found == pytest.approx(entropy, rel=1e-6) if exact else entropy < found < entropy + math.log(2)


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0, 9.0])
def test_the_frontier_of_the_linear_beta_vae_has_slope_minus_beta(beta):
    """D = squared error / 2 s2, up to a constant; the relative error of a central difference of step h is O(h^2)."""
    eigenvalues, s2, h = np.array([5, 2.5, 1.2, *[0.3] * 5]), 0.4, 1e-4
    (R0, error0, _), (R1, error1, _) = (linear_rate_distortion(eigenvalues, 3, s2, beta * f) for f in (1 - h, 1 + h))
    assert R1 < R0
    assert (error1 - error0) / (2 * s2) / (R1 - R0) == pytest.approx(-beta, rel=10 * h**2)


def entry(beta, rate, distortion, information) -> dict:
    point = {"rate": rate, "distortion": distortion, "elbo": -(rate + distortion)}
    test = {**point, "distortion": distortion + 3, "elbo": point["elbo"] - 3}
    information, aggregate_kl = ({"value": value, "error": 0.1} for value in (information, rate - information))
    return dict(beta=beta, train=point, test=test, active_units=3, information=information, aggregate_kl=aggregate_kl)


ENDS = {split: {"images": 1000, "without_z": 200.0, "floor": 45.0, "entropy": 51.9} for split in ("train", "test")}


def test_the_picture_holds_the_points_the_slopes_and_the_bounds(not_laid_out):
    figure = rate_distortion_plane([entry(None, 20.0, 75.0, 6.0)], ENDS, "a title")
    assert "this run" in [text.get_text() for text in figure.axes[0].texts]
    models = [entry(0.1, 40.0, 60.0, 6.5), entry(1.0, 20.0, 75.0, 6.0), entry(10.0, 2.0, 160.0, 1.5)]
    figure = rate_distortion_plane(models, ENDS, "a title")
    plane, below = figure.axes
    lines = [np.array(line.get_xydata(), float) for line in plane.lines]
    train = np.array([[model["train"]["rate"], model["train"]["distortion"]] for model in models])
    assert any(np.array_equal(line, train) for line in lines)
    assert any(np.array_equal(line, train + np.array([0, 3])) for line in lines)
    slopes = {round((y1 - y0) / (x1 - x0), 6) for (x0, y0), (x1, y1) in (line for line in lines if len(line) == 2)}
    assert {-0.1, -1.0, -10.0} <= slopes
    assert "R + D = 98.0: -elbo of beta 1, test" in [text.get_text() for text in plane.get_legend().get_texts()]
    assert [bar.get_height() for bar in below.patches] == pytest.approx([6.5, 6, 1.5, 33.5, 14, 0.5])
    tops = [bar.get_y() + bar.get_height() for bar in below.patches[3:]]
    assert tops == pytest.approx([40, 20, 2])  # I(x; z) and KL(q(z) || p(z)) on one another are R


def test_the_tables_hold_what_was_measured():
    models = [entry(None, 20.0, 75.0, 6.0), entry(4.0, 2.5, 160.0, 1.5)]
    for model in models:
        model["total_correlation"] = {"value": 0.5, "error": 0.25}
    rows = [line.replace("+-", "").split() for line in rate_distortion_runs.table(models).splitlines()[2:]]
    assert rows == [
        ["-", *["20.00", "75.00", "20.00", "78.00", "98.00", "3", "6.00", "0.10", "14.00", "0.10", "0.50", "0.25"]],
        ["4", *["2.50", "160.00", "2.50", "163.00", "165.50", "3", "1.50", "0.10", "1.00", "0.10", "0.50", "0.25"]],
    ]
    known = rate_distortion_runs.known(ENDS, SweepConfig().settled())
    for words in ("train, N = 1,000", "D = 200.00 at R = 0", "D >= 45.00", "<= ln N = 6.91", "R + D >= H = 51.90"):
        assert words in known


SWEEP = ["--epochs", "1", "--batch-size", "32", "--latent-dim", "3", "--samples", "100", "--sweep"]


@pytest.fixture(scope="module")
def swept(few_drawn, tmp_path_factory):
    """A finished sweep over 4, 0.5 and 1 on few digits, and the biases that training began with, model by model.

    For tests to look at: one that writes takes a copy."""
    folder, starts, start = tmp_path_factory.mktemp("sweep") / "whole", [], trainer.RunState.start

    def noted_start(model, config):
        starts.append(model.encoder.mu.bias.detach().clone())
        return start(model, config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_common.data._load_drawn", few_drawn)
        patch.setattr("vae_common.plots.style.DPI", 20)
        patch.setattr(trainer.RunState, "start", noted_start)
        assert rate_distortion.main([*SWEEP, "4", "0.5", "1", "--out", str(folder)]) == 0
    return folder, starts


@pytest.fixture
def no_pictures(not_laid_out, monkeypatch):
    """Drawing takes longer than measuring: `swept` does it."""
    monkeypatch.setattr(rate_distortion_runs, "save_figure", lambda figure, path: path)
    monkeypatch.setattr(evaluate_run, "save_figure", lambda figure, path: path)


def weights_of(run):
    return read_safetensors(run / "weights.safetensors")[1]


def interrupt_in_step(monkeypatch, number):
    """Ctrl-C during the step with this number, counted over the whole sweep from 1."""
    original, steps = trainer.train_step, []

    def train_step(state, *args):
        steps.append(state.step)
        values = original(state, *args)
        if len(steps) == number:
            signal.raise_signal(signal.SIGINT)
        return values

    monkeypatch.setattr(trainer, "train_step", train_step)


def test_a_sweep_interrupted_and_resumed_equals_an_uninterrupted_one(
    swept, small_digits, no_pictures, monkeypatch, tmp_path, capsys
):
    """Interrupted in the first beta, of 3 epochs of 5 steps, and in the second."""
    (whole, _), broken = swept, tmp_path / "broken"
    for step, argv in ((3, [*SWEEP, "4", "0.5", "1", "--out", str(broken)]), (17, ["--resume", str(broken)])):
        with monkeypatch.context() as patched:
            interrupt_in_step(patched, step)
            assert rate_distortion.main(argv) == 130
        assert f"interrupted; go on with --resume {broken}" in capsys.readouterr().err
    assert rate_distortion.main(["--resume", str(broken)]) == 0
    printed = capsys.readouterr().out
    assert "beta 1, 1 epoch, from the weights of" in printed and "rate_distortion_plane.png" in printed
    results = [json.loads((folder / "results.json").read_text()) for folder in (whole, broken)]
    assert results[0] == results[1]
    assert [model["beta"] for model in results[0]["models"]] == [0.5, 1, 4]
    for beta in ("0.5", "1", "4"):
        first, second = (weights_of(folder / f"beta-{beta}") for folder in (whole, broken))
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])


def test_a_model_of_a_sweep_is_a_run_of_its_own_that_began_with_the_weights_of_the_beta_before(
    swept, small_digits, no_pictures, tmp_path
):
    """The other commands read it, and find the numbers that the sweep found."""
    folder, starts = swept
    for start, before in zip(starts[1:], ("0.5", "1"), strict=True):
        np.testing.assert_array_equal(start, weights_of(folder / f"beta-{before}")["encoder.mu.bias"])
    run = shutil.copytree(folder / "beta-4", tmp_path / "run")
    [model] = [one for one in json.loads((folder / "results.json").read_text())["models"] if one["beta"] == 4]
    assert evaluate.main([str(run), "--importance-samples", "2", "--only", "bounds"]) == 0
    measured = json.loads((run / "evaluation.json").read_text())
    assert measured["elbo"] == pytest.approx(model["test"]["elbo"], rel=1e-6)
    assert measured["active_units"] == model["active_units"]
    assert rate_distortion.main([str(run), "--samples", "100"]) == 0
    assert json.loads((run / "rate_distortion.json").read_text())["models"] == [model]
    assert (folder / "figures" / "rate_distortion_plane.png").exists()


def test_several_runs_have_one_table_and_one_picture(small_digits, monkeypatch, tmp_path, capsys):
    drawn = []
    monkeypatch.setattr(rate_distortion_runs, "save_figure", lambda figure, path: drawn.append((figure, path)) or path)
    shared, kinds = (
        dict(binarize="dynamic", latent_dim=2),
        {"plain": {"capacity": 5.0}, "masked": {"architecture": "masked"}},
    )
    runs = [
        finished_run(tmp_path / name, load_dataset("digits", "test"), **own, **shared) for name, own in kinds.items()
    ]
    assert rate_distortion.main([*map(str, runs), "--samples", "50"]) == 0
    table = capsys.readouterr().out
    [(figure, path)] = drawn
    assert path == runs[0] / "figures" / "rate_distortion_runs.png"
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert {"plain", "masked"} <= set(shown) and any("auto-decoding limit" in text for text in shown)
    assert len(set(figure.axes[0].lines[0].get_ydata())) == 2  # two models, two distortions
    for run, beta in zip(runs, (None, 1), strict=True):
        [model] = json.loads((run / "rate_distortion.json").read_text())["models"]
        assert model["beta"] == beta  # another objective has no slope
        [line] = [line for line in table.splitlines() if line.split()[:1] == [run.name]]
        told = [float(number) for number in line.split()[1:6]]
        found = [model[split][key] for split in ("train", "test") for key in ("rate", "distortion")]
        assert told == pytest.approx([*found, -model["test"]["elbo"]], abs=0.006)
    grey = finished_run(tmp_path / "grey", latent_dim=2)
    assert rate_distortion.main([str(runs[0]), str(grey)]) == 2
    assert "grey: expected --binarize dynamic, as in" in capsys.readouterr().err


def test_overwrite_removes_the_models_of_the_earlier_sweep_and_nothing_else(swept, small_digits, no_pictures, tmp_path):
    out = shutil.copytree(swept[0], tmp_path / "sweep")
    (out / "beta-0.5" / "notes.txt").write_text("mine")
    (out / "beta-mine").mkdir()
    (out / "beta-mine" / "config.json").write_text("{}")
    assert rate_distortion.main([*SWEEP, "2", "--out", str(out)]) == 2  # without --overwrite nothing is touched
    assert (out / "beta-4" / "weights.safetensors").exists()
    assert rate_distortion.main([*SWEEP, "2", "--first-epochs", "1", "--out", str(out), "--overwrite"]) == 0
    assert sorted(path.name for path in out.glob("beta-*")) == ["beta-0.5", "beta-2", "beta-mine"]
    assert [path.name for path in (out / "beta-0.5").iterdir()] == ["notes.txt"]
    assert (out / "beta-mine" / "config.json").exists() and (out / "beta-2" / "weights.safetensors").exists()
    assert len((out / "beta-2" / "metrics.jsonl").read_text().splitlines()) == 2  # train and test, of one epoch


def test_an_impossible_estimate_ends_the_command_in_one_line(small_digits, monkeypatch, tmp_path, told):
    run = finished_run(tmp_path / "run", load_dataset("digits", "test"), latent_dim=2)
    monkeypatch.setattr(
        rate_parts, "log_densities", lambda *args: (log_densities(*args)[0], log_densities(*args)[1] - 20.0)
    )
    assert "I(x; z) was estimated as" in told(rate_distortion.main, [str(run), "--samples", "50"])
    assert not (run / "rate_distortion.json").exists()


def test_runs_that_have_no_place_in_the_plane(tmp_path, told):
    for settings in (dict(model="ae"), dict(architecture="linear", likelihood="gaussian")):
        run = finished_run(tmp_path / "-".join(settings), latent_dim=2, **settings)
        assert "the plane is for --model vae" in told(rate_distortion.main, [str(run)])


@pytest.mark.parametrize(
    ("file", "text", "wanted"),
    [
        ("config.json", '{"level": "paper"}', "it is a run of level 'paper'"),
        ("results.json", "{", "expected the results of a sweep to go on with"),
        ("results.json", '{"models": [{"beta": 7.0}]}', "its betas are others than those of config.json"),
    ],
)
def test_a_sweep_that_is_none_is_not_resumed(file, text, wanted, tmp_path, told):
    folder = make_run_folder(SweepConfig(sweep=(1.0,), out=str(tmp_path / "sweep")).settled(), "rate_distortion")
    (folder / file).write_text(text)
    assert wanted in told(rate_distortion.main, ["--resume", str(folder)])
