"""The evaluation of a run: its bounds against exact answers, impossible figures refused, and the command around it."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import LogisticRegression

import evaluate
import vae_numpy
from conv_vae import ConvVAE
from run_folders import finished_run, spread_codes
from test_rate_distortion import FOUR, by_quadrature
from vae_commands import evaluate_run
from vae_common.config import RunConfig
from vae_common.data import ImageSet, binarize, entropy_floor, load_dataset
from vae_common.plots.style import save_figure
from vae_common.randomness import generator
from vae_common.spec import VAESpec
from vae_common.weights import load_weights
from vae_measures import disentanglement, importance_bounds, rate_parts, sample_quality
from vae_measures.held_out import measure
from vae_measures.rate_parts import EstimateError
from vae_plots.evaluation import importance_bounds as picture
from vae_training import processes


@pytest.fixture(scope="module")
def few(digits):
    return ImageSet("digits", "test", digits.images[:7], digits.labels[:7], digits.class_names)


def a_model(latents=3) -> ConvVAE:
    torch.manual_seed(0)
    return ConvVAE(VAESpec(latents))


def log_w(few, samples=12, *images) -> np.ndarray:
    found = importance_bounds.log_weights_of(a_model(), few, "dynamic", 0, samples, *images)
    return np.concatenate(list(found))


# --- bounds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "at_once", "weights"), [(1, 1, 10**6), (3, 5, 10**6), (7, 1000, 10**6), (7, 9, 25)])
def test_the_answer_does_not_depend_on_the_chunks(group, at_once, weights, few, monkeypatch):
    """Up to float32 rounding of a sum over pixels: matrix products of other shapes add in another order."""
    whole = log_w(few)
    monkeypatch.setattr(importance_bounds, "GROUP", group)
    monkeypatch.setattr(importance_bounds, "DECODED_AT_ONCE", at_once)
    monkeypatch.setattr(importance_bounds, "WEIGHTS_AT_ONCE", weights)
    np.testing.assert_allclose(log_w(few), whole, rtol=2e-6)


def test_more_samples_begin_with_the_same_ones(few):
    np.testing.assert_allclose(log_w(few, 5), log_w(few, 12)[:, :5], rtol=2e-6)


def test_some_of_the_images_have_the_weights_that_they_have_among_all(few):
    np.testing.assert_allclose(log_w(few, 5, np.array([6, 2])), log_w(few, 5)[[6, 2]], rtol=2e-6)


@pytest.mark.parametrize("count", [2, 3, 9])  # of processes; the last leaves two without an image
def test_processes_that_divide_the_images_find_what_one_finds(count, few, monkeypatch):
    """In this process one after the other: each computes its share, and the shares are put together in order."""
    whole = importance_bounds.measured_bounds(a_model(), few, "dynamic", 0, 6)
    found = []
    for rank in range(count):
        monkeypatch.setattr(processes, "share", lambda n, rank=rank: slice(rank * n // count, (rank + 1) * n // count))
        monkeypatch.setattr(processes, "gather", lambda parts: found.extend(parts) or found or [[np.zeros(0)] * 3])
        divided = importance_bounds.measured_bounds(a_model(), few, "dynamic", 0, 6)
    assert list(divided) == list(whole) == [1, 5, 6]
    for k in whole:
        np.testing.assert_allclose(divided[k], whole[k], rtol=1e-6)


@given(arrays(float, (3, 12), elements=st.floats(-50, 50)))
def test_importance_bounds_against_the_definition(values):
    """L_4 over three disjoint sets of four samples, in the plain form that may overflow elsewhere."""
    expected = np.log(np.exp(values).reshape(3, 3, 4).mean(axis=2)).mean(axis=1)
    np.testing.assert_allclose(importance_bounds.importance_bounds(values, 4), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        importance_bounds.importance_bounds(values, 1), values.mean(axis=1), rtol=1e-12, atol=1e-12
    )


def test_the_bounds_close_in_on_log_p_by_quadrature(few):
    """Z = 1: log p(x) = log of the integral of p(x|z) N(z; 0, 1), by the rectangle rule on a fine grid. The posterior
    of an untrained model is near the prior, so 500 draws leave little: the delta method's var(w) / 2K of it."""
    model, z = a_model(1), torch.linspace(-8, 8, 801)[:, None]
    x = torch.from_numpy(binarize(few.images, "dynamic", generator(0, "evaluation")))
    with torch.no_grad():
        logits = model.decode(z).double()  # (801, 1, 28, 28)
        log_joint = (x[:, None] * logits - torch.nn.functional.softplus(logits)).sum(dim=(2, 3, 4))  # (7, 801)
    log_joint = log_joint - 0.5 * z[:, 0] ** 2 - 0.5 * math.log(2 * math.pi)
    exact = (torch.logsumexp(log_joint, dim=1) + math.log(16 / 800)).numpy()
    weights = np.concatenate(list(importance_bounds.log_weights_of(model, few, "dynamic", 0, 500)))
    bounds = {k: importance_bounds.importance_bounds(weights, k) for k in (1, 5, 500)}
    ratio = np.exp(weights - exact[:, None])  # mean 1
    error = ratio.std(axis=1) / 500**0.5
    assert (abs(bounds[500] - exact) <= 4 * error + error**2 + 1e-3).all()  # 1e-3: float32, 784 terms
    assert error.max() < 0.1 and bounds[1].mean() < bounds[5].mean() < exact.mean()


def test_memory_does_not_grow_with_the_number_of_samples(digits, monkeypatch):
    """What is decoded at one time, and how many weights there are, is bounded: for 250 images and for K = 30,000."""
    decoded = []

    def sample_terms(model, x, eps, y):
        decoded.append(eps.shape[:2])
        return None, None, torch.zeros(eps.shape[:2])

    monkeypatch.setattr(importance_bounds, "sample_terms", sample_terms)
    for images, samples in ((250, 600), (80, 30_000)):
        data = ImageSet("digits", "test", digits.images[:images], digits.labels[:images], digits.class_names)
        groups = [log_w.shape for log_w in importance_bounds.log_weights_of(a_model(), data, "none", 0, samples)]
        assert sum(size for size, _ in groups) == images and {K for _, K in groups} == {samples}
        assert max(size for size, _ in groups) <= 100 and max(size * K for size, K in groups) <= 2_000_000
    assert max(size * count for size, count in decoded) <= 2000


# --- what cannot be ------------------------------------------------------------------------------------------------


def rising(images=200) -> tuple[dict[int, np.ndarray], np.ndarray]:
    draw = np.random.default_rng(0)
    elbo = draw.normal(-100, 10, images)
    noise = {k: draw.normal(0, 0.5, images) for k in (1, 5, 50)}
    return {1: elbo + noise[1], 5: elbo + 1 + noise[5], 50: elbo + 1.02 + noise[50]}, elbo


def test_bounds_that_hold_within_their_error_pass():
    found, elbo = rising()
    importance_bounds.check_bounds(found, elbo)
    importance_bounds.check_bounds(
        {1: found[1], 5: found[50] - 1.06}, elbo
    )  # 0.04 below, with a standard error of 0.05


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda b: {1: b[1] + 0.5, 5: b[5]}, "L_1 is .* and both estimate the same"),
        (lambda b: {1: b[1] - 0.5, 5: b[5]}, "L_1 is .* and both estimate the same"),
        (lambda b: {1: b[1], 5: b[5], 50: b[5] - 0.5}, "L_50 is .* and L_K rises with K"),
        (lambda b: {1: b[1] * math.nan, 5: b[5]}, "L_1 is nan"),
    ],
)
def test_bounds_in_the_wrong_order_are_refused(broken, said):
    found, elbo = rising()
    with pytest.raises(EstimateError, match=said):
        importance_bounds.check_bounds(broken(found), elbo)


def measured_few(few):
    model = a_model()
    measured = measure(model, few, "none", 0)
    return evaluate_run.Run(
        Path("run"), RunConfig(latent_dim=3).settled(), model, measured, 5, 100, torch.device("cpu")
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            dict(recon=np.full(7, 20.0)),
            "recon is 20.00 nats on digits test, 7 images, grey pixels, and no decoder goes",
        ),
        (dict(kl=np.array([5.0] * 6 + [-0.01])), "kl is -0.0100 nats for an image"),
        (dict(recon=np.array([500.0] * 6 + [math.inf])), "recon is not finite"),
        (dict(kl=np.array([5.0] * 6 + [math.nan])), "kl is nan"),
    ],
)
def test_impossible_terms_are_refused(change, said, few):
    subject = measured_few(few)
    text, found = evaluate_run.terms(subject)
    floor = entropy_floor(subject.measured.x)
    assert found["entropy_floor"] == floor and f"below {floor:.2f} on grey pixels, their own entropy" in text
    with pytest.raises(EstimateError, match=said):
        evaluate_run.terms(replace(subject, measured=replace(subject.measured, **change)))


# --- the command ---------------------------------------------------------------------------------------------------


def a_run(folder: Path, **settings) -> Path:
    """A run of one epoch that changed nothing, on conftest's small_digits."""
    change = spread_codes if settings.get("model") != "vqvae" else lambda model: None
    return finished_run(folder, load_dataset("digits", "test"), change, **settings)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing takes longer than measuring: one test does it."""
    monkeypatch.setattr(evaluate_run, "save_figure", lambda figure, path: path)


@pytest.fixture
def quick(small_digits, monkeypatch):
    """Fewer drawings than a measurement needs, enough for the command to be seen."""
    monkeypatch.setattr(disentanglement, "SIZE", 2)
    monkeypatch.setattr(disentanglement, "TREES", 1)
    monkeypatch.setattr(disentanglement.report, "__defaults__", (200, 100))
    monkeypatch.setattr(sample_quality, "EPOCHS", 1)


def evaluation_of(run: Path) -> dict:
    return json.loads((run / "evaluation.json").read_text())


def spy(monkeypatch, module, name: str) -> list[tuple]:
    """The positional arguments of each call of a function, which does what it did."""
    calls, original = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args, **kwargs: calls.append(args) or original(*args, **kwargs))
    return calls


@pytest.fixture
def evaluated(quick, monkeypatch, tmp_path, capsys) -> tuple[Path, str, dict, list[tuple]]:
    """A run of Z = 2 with all sections: its folder, what was printed, evaluation.json, how the factors were asked."""
    run = a_run(tmp_path / "run", latent_dim=2)
    recorded = json.loads((run / "metrics.jsonl").read_text())
    (run / "evaluation.json").write_text(json.dumps({"label_gain": 2, "nll": 1}))
    asked = spy(monkeypatch, disentanglement, "report")
    monkeypatch.setattr(evaluate_run, "save_figure", save_figure)
    capsys.readouterr()
    assert evaluate.main([str(run), "--importance-samples", "50", "--votes", "100"]) == 0
    found = evaluation_of(run)
    assert found.pop("label_gain") == 2 and found["elbo"] == pytest.approx(recorded["elbo"], rel=1e-6)
    return run, capsys.readouterr().out, found, asked


def test_evaluate_prints_and_writes_every_section_and_each_key_is_right(evaluated, digits):
    """Each key against its definition written out with level 1; of the scores, whom they are given to judge.

    The scores of disentanglement and of samples have tests with known answers in files of their own."""
    run, printed, found, asked = evaluated
    params, initial = load_weights(run / "weights.safetensors"), VAESpec(2).init_params(0)
    x_train, x = (digits.images[part] / np.float32(255) for part in (slice(150), slice(150, 200)))
    y_train, y = digits.labels[:150], digits.labels[150:200]
    assert {key: found.pop(key) for key in ("dataset", "binarize", "likelihood", "images")} == {
        "dataset": "digits", "binarize": "none", "likelihood": "bernoulli", "images": 50,
    }  # fmt: skip

    eps = generator(0, "evaluation").standard_normal((50, 2), dtype=np.float32)
    x_logits, mu, logvar = vae_numpy.forward(params, x, eps)
    recon, kl = vae_numpy.elbo_terms(x, x_logits, mu, logvar)
    kl_per_dim = 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).mean(axis=0)
    p = x.astype(float).clip(1e-300, 1 - 1e-16)
    floor = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum() / 50
    terms = {"recon": recon.mean(), "kl": kl.mean(), "elbo": -(recon + kl).mean(), "entropy_floor": floor}
    for key, expected in terms.items():
        assert found.pop(key) == pytest.approx(expected, rel=1e-5), key
    assert found.pop("kl_per_dim") == pytest.approx(kl_per_dim, rel=1e-4, abs=1e-6)
    assert found.pop("active_units") == (mu.var(axis=0) > 0.01).sum() > 0

    draws = [generator(0, "importance", image).standard_normal((50, 2), dtype=np.float32) for image in range(50)]
    w = np.array([log_weights(params, one, mean, lv, e) for one, mean, lv, e in zip(x, mu, logvar, draws, strict=True)])
    L = {K: np.logaddexp.reduce(w.reshape(50, -1, K), axis=2).mean(axis=1) - math.log(K) for K in (1, 5, 50)}
    assert found.pop("importance_samples") == 50
    assert found.pop("importance_bounds") == pytest.approx({str(K): bound.mean() for K, bound in L.items()}, rel=1e-5)
    assert L[1].mean() < L[5].mean() < L[50].mean()
    nll, error = found.pop("nll"), found.pop("nll_error")
    assert nll == pytest.approx(-L[50].mean(), rel=1e-5)
    assert error == pytest.approx(L[50].std() / 50**0.5, rel=1e-3)
    assert f"nll     {nll:9.2f} ({error:.2f})" in printed

    codes = found.pop("information")
    assert codes.pop("posterior_std") == pytest.approx(np.exp(logvar / 2).mean(axis=0), rel=1e-5)
    assert codes.pop("mu_variance") == pytest.approx(mu.var(axis=0), rel=1e-4)
    for split, images in (("train", x_train), ("test", x)):
        parts = codes.pop(split)
        posterior = [value.astype(float) for value in vae_numpy.encode(params, images)]
        assert (parts.pop("images"), parts.pop("samples")) == (len(images), 2000)
        rate = parts.pop("rate")
        assert rate == pytest.approx(vae_numpy.gaussian_kl(*posterior).mean(), rel=1e-5)
        exact = {**by_quadrature(*posterior, side=161), "residual": 0.0}
        assert parts.keys() == exact.keys()
        for name, part in parts.items():
            assert part["value"] == pytest.approx(exact[name], abs=FOUR * part["error"] + 1e-6), name
        assert parts["information"]["value"] + parts["aggregate_kl"]["value"] == pytest.approx(rate, rel=1e-9)
    assert not codes

    probed = found.pop("probes")
    assert probed.pop("images") == 150
    flat, flat_test = x_train.reshape(150, -1).astype(float), x.reshape(50, -1).astype(float)
    axes = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)[2][:2].T
    views = {
        "mu": (vae_numpy.encode(params, x_train)[0], mu),
        "mu, untrained": (vae_numpy.encode(initial, x_train)[0], vae_numpy.encode(initial, x)[0]),
        "PCA, 2": (flat @ axes, flat_test @ axes),
        "pixels, 784": (flat, flat_test),
    }
    accuracy = probed.pop("accuracy")
    assert accuracy.keys() == views.keys() and not probed
    for name, (of_train, of_test) in views.items():
        expected = {"linear": linear(of_train, y_train, of_test, y), "neighbours": five(of_train, y_train, of_test, y)}
        assert accuracy[name] == pytest.approx(expected, abs=0.021), name  # an image on the border, in float32

    factors = found.pop("disentanglement")
    assert factors.pop("votes") == 100 and set(factors) == {"trained", "untrained"}
    [(drawer, trained, untrained, binarization, _)] = asked
    assert drawer.__name__.endswith("digits") and binarization == "none"
    for encode, weights in ((trained, params), (untrained, initial)):
        np.testing.assert_allclose(encode(x), vae_numpy.encode(weights, x)[0], rtol=0, atol=1e-5)
    trained, untrained = factors["trained"], factors["untrained"]
    assert f"{trained['MIG']:11.3f}{untrained['MIG']:11.3f}" in printed
    assert np.shape(trained["information"]) == np.shape(untrained["information"]) == (16, 2)

    assert found.pop("sample_quality")["count"] == 50 and not found
    for head in ("bounds  ", "codes  ", "probes  ", "factors ", "samples "):
        line = next(line for line in printed.splitlines() if line.startswith(head))
        assert "grey pixels" in line
    for name in ("importance-bounds", "factors", "sample-classes", "nearest"):
        assert f"wrote {run / 'figures' / f'{name}.png'}" in printed and (run / "figures" / f"{name}.png").exists()


def log_weights(params, x, mu, logvar, eps) -> np.ndarray:
    """log p(x|z) + log p(z) - log q(z|x) of one image at z = mu + std eps, eps (K, Z); each density with its 2 pi."""
    z = mu + np.exp(logvar / 2) * eps
    recon = vae_numpy.bernoulli_recon(np.broadcast_to(x, (len(z), 1, 28, 28)), vae_numpy.decode(params, z))
    log_prior = -0.5 * (z**2 + math.log(2 * math.pi)).sum(axis=1)
    log_posterior = -0.5 * ((z - mu) ** 2 / np.exp(logvar) + logvar + math.log(2 * math.pi)).sum(axis=1)
    return -recon + log_prior - log_posterior


def linear(codes, labels, test_codes, test_labels) -> float:
    """Accuracy of logistic regression on codes whose widest column has a standard deviation of 1."""
    mean, unit = codes.mean(axis=0), codes.std(axis=0).max()
    model = LogisticRegression(max_iter=5000).fit((codes - mean) / unit, labels)
    return model.score((test_codes - mean) / unit, test_labels)


def five(codes, labels, test_codes, test_labels) -> float:
    """Accuracy of the vote of the five nearest neighbours; of classes with as many votes the first wins."""
    nearest = np.linalg.norm(test_codes[:, None] - codes, axis=2).argsort(axis=1)[:, :5]
    return np.mean([np.bincount(labels[five]).argmax() == y for five, y in zip(nearest, test_labels, strict=True)])


def test_one_section_leaves_the_others_as_they_were(small_digits, tmp_path, capsys):
    run = a_run(tmp_path / "run")
    (run / "evaluation.json").write_text(json.dumps({"probes": "kept", "nll": 1, "elbo": 1, "label_gain": 2}))
    assert evaluate.main([str(run), "--only", "bounds", "--importance-samples", "3"]) == 0
    found = evaluation_of(run)
    assert found["probes"] == "kept" and found["label_gain"] == 2 and found["nll"] > 100 and found["elbo"] < -100
    assert "codes  " not in capsys.readouterr().out


def test_500_samples_and_320_votes_are_the_defaults(monkeypatch, small_digits, tmp_path):
    asked = []
    monkeypatch.setattr(evaluate_run, "report", lambda subject, sections: asked.append((subject, list(sections))) or 0)
    monkeypatch.setattr(evaluate_run, "measured_bounds", lambda *args: asked.append(args[-1]))
    run = a_run(tmp_path / "run", latent_dim=2)
    assert evaluate.main([str(run)]) == 0
    assert evaluate.main([str(run), "--votes", "800", "--only", "factors", "codes"]) == 0
    samples, (first, every), (second, chosen) = asked
    assert (samples, first.importance_samples, first.votes, second.votes) == (500, 500, 320, 800)
    assert every == ["bounds", "codes", "probes", "factors", "samples"] and chosen == ["codes", "factors"]


@pytest.mark.parametrize(
    ("settings", "constant"),
    [
        (dict(likelihood="gaussian"), 392 * math.log(math.pi)),  # a plain squared error lacks it
        (dict(likelihood="gaussian", architecture="linear"), 0),  # a whole density
        (dict(binarize="threshold"), 0),
        (dict(), 0),
    ],
    ids=["gaussian", "linear", "threshold", "grey"],
)
def test_the_bounds_say_of_what(settings, constant, small_digits, tmp_path, capsys):
    """-log N(x; x_hat, 1/2) of 784 pixels is the squared error and 784/2 ln(2 pi / 2), so -log p(x) has that too."""
    run = a_run(tmp_path / "run", **settings)
    assert evaluate.main([str(run), "--only", "bounds", "--importance-samples", "3"]) == 0
    printed, nll = capsys.readouterr().out, evaluation_of(run)["nll"]
    assert (f"lower bounds of log p(x) + {constant:.2f}, nats" in printed) == bool(constant)
    assert f"at most {nll + constant:.2f}, as recon leaves" in printed if constant else "is at most this" in printed
    assert ("grey pixels have no likelihood" in printed) == (settings == {})


@pytest.mark.parametrize(
    ("settings", "without", "with_"),
    [
        (dict(model="ae"), {"bounds", "codes", "samples"}, {"probes", "factors"}),
        (dict(model="cvae"), {"probes", "factors"}, {"bounds", "codes", "samples"}),
        (dict(model="vqvae", codes=16), {"bounds", "codes", "probes", "factors"}, {"samples"}),
        (dict(architecture="mlp", binarize="dynamic"), set(), {"bounds", "codes", "probes"}),
        (dict(architecture="linear", likelihood="gaussian"), set(), {"bounds", "codes", "samples"}),
    ],
    ids=["ae", "cvae", "vqvae", "mlp", "linear"],
)
def test_other_models_get_the_sections_that_make_sense(settings, without, with_, quick, tmp_path, capsys):
    run, keys = a_run(tmp_path / "run", latent_dim=3, **settings), evaluate_run.KEYS
    argv = [str(run), "--importance-samples", "3", "--votes", "100", "--only", *(without | with_)]
    assert evaluate.main(argv) == 0
    printed, found = capsys.readouterr().out, evaluation_of(run)
    assert list(keys) == list(evaluate_run.SECTIONS) == list(evaluate.SECTIONS)
    for name in evaluate.SECTIONS:
        assert (f"\n{name:9}left out: " in printed) == (name in without), name
        for key in keys[name]:
            assert (key in found) == (name in with_), key
    conditional = settings.get("model") == "cvae"
    assert ("recognised as the class asked for" in printed) == conditional
    assert ("the true -log p(x) given its label is at most" in printed) == conditional
    assert ("dynamically binarized" if "binarize" in settings else "grey pixels") in printed


def test_nobody_knows_the_factors_of_downloaded_data(few):
    subject = measured_few(few)
    assert all(evaluate_run.left_out(name, subject) is None for name in evaluate.SECTIONS)
    subject = replace(subject, config=replace(subject.config, dataset="mnist"))
    assert evaluate_run.left_out("factors", subject) == "nobody knows the true factors of mnist"
    assert evaluate_run.left_out("probes", subject) is None


def test_an_impossible_estimate_is_an_error_and_no_number(quick, tmp_path, monkeypatch, capsys):
    """A log-weight that is too large by 100: every section but this one is reported."""
    run = a_run(tmp_path / "run", latent_dim=2)
    original = importance_bounds.log_weights_of
    monkeypatch.setattr(importance_bounds, "log_weights_of", lambda *args: (w + 100 for w in original(*args)))
    (run / "evaluation.json").write_text(json.dumps({"nll": 1.0}))
    assert evaluate.main([str(run), "--only", "bounds", "codes", "--importance-samples", "3"]) == 1
    out, err = capsys.readouterr()
    assert "nll" not in evaluation_of(run) and "information" in evaluation_of(run)
    assert "L_1" not in out and "codes  " in out
    assert err.startswith("impossible: L_1 is ") and len(err.splitlines()) == 1 and "\033" not in err


def test_impossible_is_red_on_a_terminal_only(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    evaluate_run.impossible("I is 69.")
    assert capsys.readouterr().err == "\033[31mimpossible: I is 69.\033[0m\n"


def test_information_above_its_bound_is_refused(small_digits, tmp_path, monkeypatch, capsys):
    """ln N of 150 images is 5.0; the code's own density, too large by 9 nats."""
    run = a_run(tmp_path / "run", latent_dim=2)
    original = rate_parts.log_densities

    def wrong(*args):
        own, mixture = original(*args)
        return own + 9, mixture

    monkeypatch.setattr(rate_parts, "log_densities", wrong)
    assert evaluate.main([str(run), "--only", "codes"]) == 1
    assert "impossible: I(x; z) was estimated as" in capsys.readouterr().err
    assert "information" not in evaluation_of(run)


# --- what is refused -----------------------------------------------------------------------------------------------


def truncate(name: str, count: int) -> Callable[[Path], object]:
    return lambda run: (run / name).write_bytes((run / name).read_bytes()[:-count])


def set_in_config(name: str, value) -> Callable[[Path], object]:
    """Give a setting in config.json another value; "gone" takes it away."""

    def change(run: Path) -> None:
        config = {**json.loads((run / "config.json").read_text()), name: value}
        config = {key: value for key, value in config.items() if value != "gone"}
        (run / "config.json").write_text(json.dumps(config))

    return change


def of_other_data(run: Path) -> None:
    """The same recon, said to be on MNIST."""
    path = run / "metrics.jsonl"
    path.write_text(path.read_text().replace('"digits"', '"mnist"'))


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (truncate("config.json", 30), "expected the settings of a run"),
        (truncate("metrics.jsonl", 9), "expected the metrics of a finished run"),
        (truncate("weights.safetensors", 1000), "weights.safetensors"),
        (lambda run: (run / "weights.safetensors").unlink(), "weights.safetensors"),
        (lambda run: (run / "metrics.jsonl").write_text(""), "found the metrics of 0 of 1 epochs"),
        (lambda run: (run / "metrics.jsonl").write_text("[1]\n"), "that this version of the project wrote"),
        (set_in_config("epochs", 3), "found the metrics of 1 of 3 epochs"),
        (set_in_config("level", "numpy"), "it is a run of level 'numpy'"),
        (set_in_config("beta", "gone"), "that this version of the project wrote"),
        (set_in_config("binarize", "gone"), "that this version of the project wrote"),
        (set_in_config("latent_dim", "two"), "that this version of the project wrote"),
        (set_in_config("latent_dim", 3), "weights.safetensors"),
        (of_other_data, "the weights or the data are not those of the run"),
        (set_in_config("binarize", "threshold"), "the weights or the data are not those of the run"),
    ],
)  # fmt: skip
def test_a_wrong_run_is_refused_in_one_line(break_it, said, small_digits, tmp_path, capsys):
    run = a_run(tmp_path / "run", latent_dim=2)
    break_it(run)
    capsys.readouterr()
    assert evaluate.main([str(run), "--only", "bounds", "--importance-samples", "2"]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
    assert not (run / "evaluation.json").exists()


def test_other_data_than_the_run_s_are_refused(small_digits, digits, tmp_path, monkeypatch, capsys):
    run = a_run(tmp_path / "run", latent_dim=2)
    other = digits.factors[:50], 255 - digits.images[:50]
    monkeypatch.setattr("vae_common.data._load_drawn", lambda *args: other)
    assert evaluate.main([str(run)]) == 2
    assert "the weights or the data are not those of the run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("nothing", "expected the settings of a run"),
        ("mine.py", "mine.py: a .py file can only be examined; give --doctor with it"),
        ("RUN --doctor --against VAE", "--doctor examines one run, and --against compares two; give one of them"),
        ("RUN --doctor --only bounds", "--only has no meaning with --doctor"),
        ("RUN --doctor --votes 200", "--votes has no meaning with --doctor"),
        ("RUN --doctor --importance-samples 5", "--importance-samples has no meaning with --doctor"),
        ("RUN --doctor --device cpu", "--device has no meaning with --doctor"),
        ("AE --against VAE --only probes", "--only has no meaning with --against"),
        ("AE --against VAE --votes 200", "--votes has no meaning with --against"),
        ("AE --against VAE --images 60", "--images has no meaning with a run, whose own settings hold"),
        ("RUN --dataset sprites", "--dataset has no meaning with a run, whose own settings hold"),
        ("RUN --binarize none", "--binarize has no meaning with a run"),
        ("RUN --seed 1", "--seed has no meaning with a run"),
        ("RUN --votes 99", "expected an integer from 100 to 1000000, got '99'"),
        ("RUN --only everything", "invalid choice: 'everything'"),
        ("RUN --doctor --images 49", "expected an integer from 50 to 10000, got '49'"),
        ("RUN --importance-samples 0", "expected an integer from 1 to 1000000, got '0'"),
        ("RUN --device tpu", "--device: expected cpu"),
    ],
)
def test_what_has_no_part_in_it_is_refused_in_one_sentence(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert evaluate.main(argv.split()) == 2
    error = capsys.readouterr().err
    assert said in error.splitlines()[-1] and "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_unlike_runs_are_not_compared(small_digits, tmp_path, capsys):
    settings = {"ae": dict(model="ae"), "vae": {}, "binary": dict(binarize="threshold"), "wide": dict(latent_dim=3)}
    ae, vae, binary, wide = (
        str(finished_run(tmp_path / name, **{"latent_dim": 2, **one})) for name, one in settings.items()
    )
    for run, against, said in (
        (vae, vae, "expected a run of --model ae, found --model vae"),
        (ae, ae, "expected a run of --model vae, found --model ae"),
        (ae, binary, "expected --binarize none, as in"),
        (ae, wide, "expected --latent-dim 2, as in"),
        (ae, "nothing", "expected the settings of a run"),
    ):
        capsys.readouterr()
        assert evaluate.main([run, "--against", against]) == 2
        error = capsys.readouterr().err
        assert said in error and len(error.splitlines()) == 1


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path, digits):
    """torchrun with two processes on 2,000 digits, K = 5, an untrained model: the same figures to 1e-6."""
    run, here = finished_run(tmp_path / "run", digits, latent_dim=2), Path(evaluate.__file__)
    command = [str(here), str(run), "--only", "bounds", "--importance-samples", "5", "--device", "cpu"]
    found = []
    for launch in ([], ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        result = subprocess.run([sys.executable, *launch, *command], capture_output=True, text=True, env=environment)
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("nll") == 1
        found.append(evaluation_of(run))
    one, two = found
    assert one.keys() == two.keys()
    for key in ("elbo", "recon", "kl", "nll", "nll_error"):
        assert two[key] == pytest.approx(one[key], rel=1e-6), key
    assert two["importance_bounds"] == pytest.approx(one["importance_bounds"], rel=1e-6)


# --- the picture ---------------------------------------------------------------------------------------------------


def test_the_picture_holds_the_bounds_and_what_they_gain():
    figure = picture([1, 5, 50], np.array([-100.0, -98.5, -97.0]), np.array([0.0, 0.1, 0.2]), -100.1, "Title")
    ax = figure.axes[0]
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[1, -100], [5, -98.5], [50, -97]])
    assert [text.get_text() for text in ax.texts] == ["-100.00", "-98.50 (+1.50)", "-97.00 (+3.00)"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "5", "50"]
    assert ax.get_ylim()[0] < -100.1 and ax.get_xscale() == "log"
