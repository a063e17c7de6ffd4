"""Where the nats go: log p(x) by quadrature and in closed form, and several runs side by side."""

import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import evaluate
from conv_vae import ConvVAE
from messages import assert_refused
from run_folders import finished_run, spread_codes
from vae_commands import evaluate_run
from vae_common import config
from vae_common.config import RunConfig
from vae_common.data import load_dataset
from vae_common.spec import VAESpec
from vae_measures import gaps, sample_quality
from vae_measures.gaps import BOUNDS, bounds_of_images, report
from vae_measures.importance_bounds import error_of
from vae_measures.rate_parts import EstimateError
from vae_models.iwae import sample_terms
from vae_models.linear_vae import LinearVAE
from vae_models.mlp import MLPDecoder, MLPEncoder
from vae_plots.several_runs import gaps_of_runs
from vae_training.factory import build_model

LABELS, SLOW = np.zeros(3, int), pytest.mark.slow


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def bent(count: int) -> tuple[ConvVAE, np.ndarray]:
    """A small model whose posteriors are no Gaussians and which its encoder does not know, and images that it draws."""
    torch.manual_seed(2)
    layers = {"hidden": (12,)}
    model = ConvVAE(VAESpec(2), architecture=(partial(MLPEncoder, **layers), partial(MLPDecoder, **layers)))
    model.decoder[0].weight.data.mul_(3)
    model.decoder[2].weight.data.mul_(1.5)
    with torch.no_grad():
        p = model.pixels(torch.randn(count, 2))
    return model, (torch.rand_like(p) < p).float().numpy()


@torch.no_grad()
def log_joint(model: ConvVAE, x: np.ndarray, z: torch.Tensor) -> np.ndarray:
    """log p(x, z) (B, M) of images x at codes z (M, 2), float64."""
    logits = model.decode(z.float()).flatten(1).double()
    x = torch.from_numpy(x).flatten(1).double()
    log_p = x @ logits.T - torch.nn.functional.softplus(logits).sum(dim=1)
    return (log_p - 0.5 * (z**2).sum(dim=1) - math.log(2 * math.pi)).numpy()


def exact_log_p(model: ConvVAE, x: np.ndarray, step: float = 0.1) -> np.ndarray:
    """log p(x) (B,): the rectangle rule on [-6, 6]^2."""
    axis = torch.arange(-6, 6.01, step, dtype=torch.float64)
    return np.logaddexp.reduce(log_joint(model, x, torch.cartesian_prod(axis, axis)), axis=1) + 2 * math.log(step)


def check_against_quadrature(count: int, samples: int) -> dict[str, float]:
    """Of each image the bounds rise to log p(x) by quadrature, but for 5 standard errors of the draws; what each loses
    in the mean."""
    model, x = bent(count)
    draws, measured = [], gaps.Images.measured
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gaps.Images, "measured", lambda *args: draws.append(measured(*args)) or draws[-1])
        found = bounds_of_images(model, x, np.zeros(count, int), samples, rng(), 0)
    log_p, error = exact_log_p(model, x), 5 * draws[-1][2].std(axis=1) / samples**0.5
    for low, high, one, other in (("elbo", "best_gaussian", 0, 1), ("best_gaussian", "richer_q", 1, 2)):
        gain = draws[-1][other] - draws[-1][one]
        assert (found[high] - found[low] >= -5 * gain.std(axis=1) / samples**0.5 - 0.02).all(), (low, high)
    assert (found["richer_q"] <= log_p + error).all() and (found["richer_q"] <= found["log_p"]).all()
    assert (found["log_p"] <= log_p + math.log(20)).all()  # Markov: of weights whose expectation is p(x)
    return {name: float((log_p - bound).mean()) for name, bound in found.items()}


def test_every_bound_of_every_image_beside_quadrature(monkeypatch):
    monkeypatch.setattr(gaps, "STEPS", 20)
    monkeypatch.setattr(gaps, "RATES", {"gaussian": 0.3, "flow": 0.02})
    lost = check_against_quadrature(2, 300)
    assert lost["elbo"] > 20 > lost["best_gaussian"]


@pytest.mark.slow
def test_the_bounds_of_many_images_beside_quadrature():
    """L_K is exact, and the flow brings most of the family gap back."""
    lost = check_against_quadrature(20, 4000)
    assert lost["elbo"] > 20 and lost["best_gaussian"] > 1 and lost["richer_q"] < 0.3 * lost["best_gaussian"]
    assert abs(lost["log_p"]) < 0.05


def linear(columns: np.ndarray) -> tuple[LinearVAE, np.ndarray, np.ndarray, np.ndarray]:
    """The linear VAE with these columns (784, 2), three images x, log p(x), and the posterior's precision (2, 2).

    z|x ~ N(P^-1 W'(x - b) / s2, P^-1) with P = I + W'W / s2; x ~ N(b, W W' + s2 I).
    """
    model, s2 = LinearVAE(VAESpec(2)), 0.5
    model.decoder.mean.weight.data = torch.from_numpy(columns).float()
    model.decoder.log_s2.data.fill_(math.log(s2))
    b = model.decoder.mean.bias.detach().double().numpy()
    x = b + rng().standard_normal((3, 2)) @ columns.T + s2**0.5 * rng().standard_normal((3, 784))
    log_p = torch.distributions.LowRankMultivariateNormal(
        torch.from_numpy(b), torch.from_numpy(columns), torch.full((784,), s2, dtype=torch.float64)
    ).log_prob(torch.from_numpy(x))
    return model, x.reshape(3, 1, 28, 28).astype(np.float32), log_p.numpy(), np.eye(2) + columns.T @ columns / s2


@pytest.mark.slow
@pytest.mark.parametrize("angle", [0, 45])
def test_the_family_gap_of_the_linear_vae(angle, monkeypatch):
    """The best diagonal Gaussian has the variances 1 / P_dd and loses 1/2 (sum_d log P_dd - log det P): nothing where
    the columns of W are orthogonal, as then P is diagonal. near: 5 standard errors of 4,000 draws."""
    monkeypatch.setattr(gaps, "STEPS", 500)
    monkeypatch.setattr(gaps, "RATES", {"gaussian": 0.2, "flow": 0.02})
    near = 0.06
    axes = np.linalg.qr(rng().standard_normal((784, 2)))[0]
    turned = np.array([[1, math.sin(math.radians(angle))], [0, math.cos(math.radians(angle))]])
    model, x, log_p, P = linear(2 * axes @ turned)
    found = bounds_of_images(model, x, LABELS, 4000, rng(), 0)
    gap = 0.5 * (np.log(np.diag(P)).sum() - np.linalg.slogdet(P)[1])
    assert (gap > 0.2) == (angle > 0)
    np.testing.assert_allclose(log_p - found["best_gaussian"], gap, atol=near)
    np.testing.assert_allclose(found["log_p"], log_p, atol=near)
    assert (log_p - found["richer_q"] < 0.3 * gap + near).all() and (found["elbo"] < log_p - 1).all()


@pytest.mark.parametrize(
    "settings",
    [
        dict(model="cvae"),
        dict(prior="mixture"),
        pytest.param(dict(architecture="masked", binarize="dynamic"), marks=SLOW),
    ],
)
def test_the_first_bound_is_the_elbo_of_every_kind_of_model(settings, digits, monkeypatch):
    """With its labels and its own prior: beside the log-weights of the IWAE, at other draws of the same q. An ascent
    that leads nowhere leaves each image what it had."""
    monkeypatch.setattr(gaps, "STEPS", 1)
    monkeypatch.setattr(gaps, "JUDGING", 10)
    monkeypatch.setattr(gaps, "RATES", {"gaussian": 1e3, "flow": 1e3})
    config = RunConfig(latent_dim=3, **settings).settled()
    model, x, y = build_model(config), digits.images[:3].round(-2).astype(np.float32) // 200, digits.labels[:3]
    spread_codes(model)
    found = bounds_of_images(model, x, y, 50, rng(), 0)
    with torch.no_grad():
        eps = torch.from_numpy(np.random.default_rng(1).standard_normal((3, 50, 3), dtype=np.float32))
        _, _, log_w = sample_terms(model, torch.from_numpy(x), eps, torch.from_numpy(y))
    np.testing.assert_allclose(found["elbo"], log_w.mean(dim=1), atol=5 * float(log_w.std(dim=1).max()) * 0.04**0.5)
    for name in ("best_gaussian", "richer_q"):
        np.testing.assert_allclose(found[name], found["elbo"], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("elbo", +5, "L_1 is -9.* and the elbo -.* both estimate the same"),
        ("best_gaussian", -9, "best Gaussian is -106.* nats and elbo -99.* wrong order"),
        ("log_p", -9, "log p.x. is .* and richer q"),
        ("log_p", math.nan, "log p.x. is nan"),
    ],
)
def test_bounds_in_the_wrong_order_are_refused(name, change, said):
    draw = np.random.default_rng(0)
    elbo = draw.normal(-100, 10, 200)
    found = {key: elbo + 2 * k + draw.normal(0, 0.5, 200) for k, key in enumerate(BOUNDS)}
    told = report(found, elbo)
    assert told["amortization_gap"] + told["family_gap"] == pytest.approx(told["log_p"] - told["elbo"])
    gain = found["log_p"] - found["best_gaussian"]
    assert told["family_gap_error"] == pytest.approx(error_of(gain)) and told["family_gap"] == pytest.approx(4, abs=0.2)
    with pytest.raises(EstimateError, match=said):
        report({**found, name: found[name] + change}, elbo)


@pytest.mark.parametrize("names", [("vae", "ae"), pytest.param(("vq", "ae", "vae"), marks=SLOW)], ids=str)
def test_several_runs_side_by_side(names, small_digits, not_laid_out, monkeypatch, tmp_path, capsys):
    """One classifier judges all; an autoencoder draws from the Gaussian fitted to its codes; each run has its numbers,
    and the table those of each run."""
    kinds = {
        "vae": dict(architecture="mlp", latent_dim=2), "ae": dict(model="ae", architecture="mlp", latent_dim=2, seed=1),
        "vq": dict(model="vqvae", codes=4),
    }  # fmt: skip
    test, trained, classifier_of = load_dataset("digits", "test"), [], sample_quality.classifier_of
    runs = [str(finished_run(tmp_path / name, test, **kinds[name])) for name in names]
    monkeypatch.setattr(sample_quality, "EPOCHS", 1)
    monkeypatch.setattr(sample_quality, "classifier_of", lambda *args: trained.append(1) or classifier_of(*args))
    monkeypatch.setattr(gaps, "STEPS", 2)
    monkeypatch.setattr(gaps, "IMAGES", 5)
    drawn = []
    monkeypatch.setattr(evaluate_run, "save_figure", lambda figure, path: drawn.append(path) or path)
    capsys.readouterr()
    assert evaluate.main([*runs, "--only", "samples", "gaps", "--importance-samples", "20"]) == 0
    printed = capsys.readouterr().out
    assert len(trained) == 1 and printed.count("left out: ") == len(names) - 1
    assert {path.name for path in drawn if "compared" in path.name} == {"compared-gaps.png", "compared-samples.png"}
    assert f"{tmp_path / 'ae'} has no prior: it draws from the Gaussian fitted" in printed
    rows = [line.split() for line in printed.split("who draws best")[1].splitlines() if "%" in line]
    table = {name: numbers for name, *numbers in rows}
    for run in runs:
        found = json.loads((tmp_path / run / "evaluation.json").read_text())
        one = found["sample_quality"]
        assert table[run] == [
            f"{one['recognised_with_confidence']['samples']:.1%}", f"{one['frechet_distance']['samples']:.1f}",
            f"{one['class_kl']:.3f}", f"{one['nearest_training_image']['samples']:.2f}",
        ]  # fmt: skip
        assert ("gaps" in found) == run.endswith("/vae")
    gap = json.loads((tmp_path / "vae" / "evaluation.json").read_text())["gaps"]
    bar = printed.split("-elbo")[1].splitlines()[1].split()
    assert bar[0] == str(tmp_path / "vae") and float(bar[1]) == pytest.approx(-gap["log_p"], abs=0.01)
    assert float(bar[-1]) == pytest.approx(-gap["elbo"], abs=0.01)


def test_runs_of_one_name_are_told_apart_in_the_pictures(not_laid_out):
    found = {"log_p": -3.0, "best_gaussian": -4.0, "elbo": -5.0}
    for runs, names in (("runs/a", "runs/b"), ["a", "b"]), (("a/best", "b/best"), ["a/best", "b/best"]):
        ax = gaps_of_runs(dict.fromkeys(runs, found), "log p(x)", "").axes[0]
        assert [label.get_text() for label in ax.get_yticklabels()] == names


def test_unlike_runs_are_not_set_side_by_side(small_digits, tmp_path, monkeypatch, capsys):
    more = str(tmp_path / "more")
    settings = {"a": {}, "b": dict(binarize="threshold"), "c": dict(likelihood="gaussian")}
    settings["d"] = dict(data_dir=more)
    load = config.load_dataset
    test = load("digits", "test")
    elsewhere = {more: replace(test, images=255 - test.images)}
    small, runs = dict(architecture="mlp", hidden=(4,), latent_dim=2), {}
    for name, own in settings.items():
        measured_on = elsewhere.get(own.get("data_dir"), test)
        runs[name] = str(finished_run(tmp_path / name, measured_on, **small, **own))
    monkeypatch.setattr(config, "load_dataset", lambda *args: elsewhere.get(args[2]) or load(*args))
    for other, only, said in (
        ("b", "samples", "expected --binarize none, as in"),
        ("c", "gaps", "expected --likelihood bernoulli, as in"),
        ("d", "gaps", "its test images are not those of"),
        ("a", "gaps", "named twice"),
        ("b", "bounds", "add --only gaps, or samples"),
    ):
        capsys.readouterr()
        assert_refused(evaluate.main([runs["a"], runs[other], "--only", only]), capsys.readouterr().err, said)
