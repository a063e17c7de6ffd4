"""The evaluation of a run: its bounds against exact answers, impossible figures refused, and the command around it."""

import inspect
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import evaluate
import latent_figures
import rate_distortion
import vae_numpy
from conv_vae import ConvVAE
from run_folders import finished_run, spread_codes
from vae_commands import evaluate_run
from vae_common.config import RunConfig
from vae_common.data import ImageSet, binarize, entropy_floor, load_dataset
from vae_common.plots import style
from vae_common.plots.style import save_figure
from vae_common.randomness import generator
from vae_common.spec import VAESpec
from vae_common.weights import load_weights
from vae_measures import disentanglement, importance_bounds, latent_space, probes, rate_parts, sample_quality
from vae_measures.held_out import measure
from vae_measures.rate_parts import EstimateError
from vae_plots.evaluation import importance_bounds as picture
from vae_training import processes
from vae_training.run_files import read_run


@pytest.fixture(scope="module")
def few(digits):
    return ImageSet("digits", "test", digits.images[:7], digits.labels[:7], digits.class_names)


def a_model(latents=3) -> ConvVAE:
    torch.manual_seed(0)
    return ConvVAE(VAESpec(latents))


def log_w(few, samples=12, *images) -> np.ndarray:
    found = importance_bounds.log_weights_of(a_model(), few, "dynamic", 0, samples, *images)
    return np.concatenate(list(found))


@pytest.mark.parametrize(("group", "at_once", "weights"), [(3, 5, 10**6), (7, 9, 25)])
def test_the_answer_does_not_depend_on_the_chunks_or_on_what_else_is_asked(group, at_once, weights, few, monkeypatch):
    """Up to float32 rounding of a sum over pixels: matrix products of other shapes add in another order."""
    whole = log_w(few)
    monkeypatch.setattr(importance_bounds, "GROUP", group)
    monkeypatch.setattr(importance_bounds, "DECODED_AT_ONCE", at_once)
    monkeypatch.setattr(importance_bounds, "WEIGHTS_AT_ONCE", weights)
    np.testing.assert_allclose(log_w(few), whole, rtol=2e-6)
    np.testing.assert_allclose(log_w(few, 5, np.array([6, 2])), whole[[6, 2], :5], rtol=2e-6)


@pytest.mark.parametrize("count", [3, 9])  # of processes; the last leaves two without an image
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


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda b: {1: b[1] + 0.5, 5: b[5]}, "L_1 is .* and both estimate the same"),
        (lambda b: {1: b[1], 5: b[5], 50: b[5] - 0.5}, "L_50 is .* and L_K rises with K"),
        (lambda b: {1: b[1] * math.nan, 5: b[5]}, "L_1 is nan"),
    ],
)
def test_bounds_in_the_wrong_order_are_refused(broken, said):
    draw = np.random.default_rng(0)
    elbo = draw.normal(-100, 10, 200)
    noise = {k: draw.normal(0, 0.5, 200) for k in (1, 5, 50)}
    found = {1: elbo + noise[1], 5: elbo + 1 + noise[5], 50: elbo + 1.02 + noise[50]}
    importance_bounds.check_bounds(found, elbo)
    importance_bounds.check_bounds({1: found[1], 5: found[50] - 1.06}, elbo)  # 0.04 below, with an error of 0.05
    with pytest.raises(EstimateError, match=said):
        importance_bounds.check_bounds(broken(found), elbo)


def measured_few(few):
    model = a_model()
    measured = measure(model, few, "none", 0)
    config = RunConfig(latent_dim=3).settled()
    return evaluate_run.Run(Path("run"), config, model, measured, 5, 100, torch.device("cpu"))


@pytest.mark.parametrize(
    ("term", "values", "said"),
    [
        ("recon", [20.0] * 7, "recon is 20.00 nats on digits test, 7 images, grey pixels, and no decoder goes"),
        ("kl", [5.0] * 6 + [-0.01], "kl is -0.0100 nats for an image"),
        ("recon", [500.0] * 6 + [math.inf], "recon is not finite"),
        ("kl", [5.0] * 6 + [math.nan], "kl is nan"),
    ],
)
def test_impossible_terms_are_refused(term, values, said, few):
    subject = measured_few(few)
    text, found = evaluate_run.terms(subject)
    floor = entropy_floor(subject.measured.x)
    assert found["entropy_floor"] == floor and f"below {floor:.2f} on grey pixels, their own entropy" in text
    with pytest.raises(EstimateError, match=said):
        evaluate_run.terms(replace(subject, measured=replace(subject.measured, **{term: np.array(values)})))


def a_run(folder: Path, **settings) -> Path:
    """A run of one epoch that changed nothing, on conftest's small_digits."""
    change = spread_codes if settings.get("model") != "vqvae" else lambda model: None
    return finished_run(folder, load_dataset("digits", "test"), change, **settings)


@pytest.fixture(autouse=True)
def no_pictures(not_laid_out, monkeypatch):
    """Drawing takes longer than measuring: one test does it."""
    monkeypatch.setattr(evaluate_run, "save_figure", lambda figure, path: path)


@pytest.fixture
def quick(small_digits, monkeypatch):
    """Fewer drawings than a measurement needs, enough for the command to be seen."""
    monkeypatch.setattr(disentanglement, "SIZE", 2)
    monkeypatch.setattr(disentanglement, "TREES", 1)
    monkeypatch.setattr(disentanglement, "explicitness", lambda mu, classes: 0.5)  # hundreds of classifiers
    monkeypatch.setattr(disentanglement.report, "__defaults__", (200, 100))
    monkeypatch.setattr(sample_quality, "EPOCHS", 1)
    monkeypatch.setattr(latent_space, "LINES", 5)
    monkeypatch.setattr(latent_space, "POINTS", 40)


def evaluation_of(run: Path) -> dict:
    return json.loads((run / "evaluation.json").read_text())


def row_of(head: str, printed: str) -> list[float]:
    """The numbers with a decimal point in the line of a table that begins so."""
    line = next(line for line in printed.splitlines() if line.strip().startswith(head))
    return [float(number) for number in re.findall(r"-?\d+\.\d+", line)]


def test_each_part_of_the_rate_has_its_row_and_each_split_its_column(few, small_digits, monkeypatch):
    made_up = [
        rate_parts.Decomposition(n, 9, n, *(rate_parts.Estimate(n + k, k / 4) for k in range(5))) for n in (7, 50)
    ]
    monkeypatch.setattr(evaluate_run, "decompose", lambda *args: made_up.pop(0))
    text, _ = evaluate_run.codes(measured_few(few))
    assert row_of("rate R", text) == [7, 50]
    for k, head in enumerate(("I(x; z)", "KL(q(z) || p(z))", "total correlation")):
        assert row_of(head, text) == [7 + k, k / 4, 50 + k, k / 4]


def test_evaluate_prints_and_writes_every_section_and_each_key_is_right(quick, digits, monkeypatch, tmp_path, capsys):
    """Each key against its definition written out with level 1; of the scores, whom they are given to judge.

    The scores of disentanglement, of probes and of samples have tests with known answers in files of their own."""
    run = a_run(tmp_path / "run", latent_dim=2)
    recorded = json.loads((run / "metrics.jsonl").read_text())
    (run / "evaluation.json").write_text(json.dumps({"label_gain": 2, "nll": 1}))
    asked, score = [], disentanglement.report
    monkeypatch.setattr(disentanglement, "report", lambda *args, **kw: asked.append(args) or score(*args, **kw))
    monkeypatch.setattr(evaluate_run, "save_figure", save_figure)
    monkeypatch.setattr(style, "DPI", 20)
    capsys.readouterr()
    assert evaluate.main([str(run), "--importance-samples", "50", "--votes", "100"]) == 0
    found = evaluation_of(run)
    assert found.pop("label_gain") == 2 and found["elbo"] == pytest.approx(recorded["elbo"], rel=1e-6)
    printed = capsys.readouterr().out

    params, initial = load_weights(run / "weights.safetensors"), VAESpec(2).init_params(0)
    x_train, x = (digits.images[part] / np.float32(255) for part in (slice(150), slice(150, 200)))
    on = dict(dataset="digits", binarize="none", likelihood="bernoulli", images=50)
    assert {key: found.pop(key) for key in on} == on

    eps = generator(0, "evaluation").standard_normal((50, 2), dtype=np.float32)
    x_logits, mu, logvar = vae_numpy.forward(params, x, eps)
    recon, kl = vae_numpy.elbo_terms(x, x_logits, mu, logvar)
    kl_per_dim = 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).mean(axis=0)
    assert found.pop("entropy_floor") == pytest.approx(entropy_floor(x), rel=1e-5)
    for key, expected in {"recon": recon.mean(), "kl": kl.mean(), "elbo": -(recon + kl).mean()}.items():
        assert found.pop(key) == pytest.approx(expected, rel=1e-5), key
    assert found.pop("kl_per_dim") == pytest.approx(kl_per_dim, rel=1e-4, abs=1e-6)
    assert found.pop("active_units") == (mu.var(axis=0) > 0.01).sum() > 0

    L = importance_bounds.measured_bounds(read_run(run)[1], load_dataset("digits", "test"), "none", 0, 50)
    assert found.pop("importance_samples") == 50
    assert found.pop("importance_bounds") == pytest.approx({str(K): bound.mean() for K, bound in L.items()}, rel=1e-5)
    nll, error = found.pop("nll"), found.pop("nll_error")
    assert nll == pytest.approx(-L[50].mean(), rel=1e-5)
    assert error == pytest.approx(L[50].std() / 50**0.5, rel=1e-3)
    assert f"nll     {nll:9.2f} ({error:.2f})" in printed

    gain = L[50] - L[1]
    assert row_of("L_50 ", printed) == pytest.approx([-nll, error, gain.mean(), gain.std() / 50**0.5], abs=0.0051)

    codes = found.pop("information")
    first, second = np.argsort(-kl_per_dim)
    shown = [line.split()[:4] for line in printed.split("variance of mu\n")[1].splitlines()[:2]]
    each = np.stack([range(2), kl_per_dim, np.exp(logvar / 2).mean(axis=0), mu.var(axis=0)], axis=1)
    np.testing.assert_allclose(np.array(shown, float), each[[first, second]], rtol=0, atol=0.00051)

    assert codes.pop("posterior_std") == pytest.approx(np.exp(logvar / 2).mean(axis=0), rel=1e-5)
    assert codes.pop("mu_variance") == pytest.approx(mu.var(axis=0), rel=1e-4)
    for split, images in (("train", x_train), ("test", x)):
        parts = codes.pop(split)
        posterior = vae_numpy.encode(params, images)
        assert (parts.pop("images"), parts.pop("samples")) == (len(images), 2000)
        rate, names = (
            parts.pop("rate"),
            {"information", "aggregate_kl", "total_correlation", "dimension_kl", "residual"},
        )
        assert rate == pytest.approx(vae_numpy.gaussian_kl(*posterior).mean(), rel=1e-5) and parts.keys() == names
        assert parts["information"]["value"] + parts["aggregate_kl"]["value"] == pytest.approx(rate, rel=1e-9)
    noise, variance = codes.pop("kl_noise"), (np.expm1(logvar) ** 2 / 2 + mu**2 * np.exp(logvar)).sum(axis=1)
    assert noise == {"trained_on": 0, "sampled": pytest.approx(variance.mean() ** 0.5, rel=0.4)}  # of 50 pairs
    assert not codes

    probed, sets = found.pop("probes"), [load_dataset("digits", split) for split in ("train", "test")]
    encoders = (lambda x, weights=weights: vae_numpy.encode(weights, x)[0] for weights in (params, initial))
    expected = probes.probe(*encoders, *sets, "none", 0)
    assert (
        probed.pop("images") == 150 and probed.keys() == {"accuracy"} and probed["accuracy"].keys() == expected.keys()
    )
    for name, shares in expected.items():
        assert probed["accuracy"][name] == pytest.approx(shares, abs=0.021), name  # an image on the border, in float32

    factors = found.pop("disentanglement")
    assert factors.pop("votes") == 100 and set(factors) == {"trained", "untrained", "mig_by_choice"}
    [(drawer, asked_of, binarization, _)] = asked
    assert drawer.__name__.endswith("digits") and binarization == "none"
    for encode, weights in ((asked_of["trained"], params), (asked_of["untrained"], initial)):
        np.testing.assert_allclose(encode(x), vae_numpy.encode(weights, x)[0], rtol=0, atol=1e-5)
    trained, untrained = factors["trained"], factors["untrained"]
    assert f"{trained['MIG']:11.3f}{untrained['MIG']:11.3f}" in printed
    assert np.shape(trained["information"]) == np.shape(untrained["information"]) == (16, 2)
    mu_train, classes = vae_numpy.encode(params, x_train)[0], disentanglement.as_classes(digits.factors[:150])
    expected = disentanglement.mig(disentanglement.information(mu_train, classes))
    assert factors["mig_by_choice"]["mu in 20 bins"] == pytest.approx(expected, abs=1e-3)
    assert f"mu in 20 bins {expected:.3f}, in 10 " in printed

    assert found.pop("sample_quality")["count"] == 50
    space = found.pop("latent_space")
    assert f"over the mean    {space['jump']:6.2f} ({space['jump_error']:.2f})" in printed and not found
    for head in ("bounds  ", "codes  ", "probes  ", "factors ", "samples ", "space "):
        assert re.search(f"^{head}.*grey pixels", printed, re.M), head
    for name in ("importance-bounds", "factors", "sample-classes", "nearest"):
        assert f"wrote {run / 'figures' / f'{name}.png'}" in printed and (run / "figures" / f"{name}.png").exists()


@pytest.mark.parametrize(
    ("settings", "constant"),
    [
        (dict(likelihood="gaussian"), 392 * math.log(math.pi)),  # a plain squared error lacks it
        (dict(likelihood="gaussian", architecture="linear"), 0),  # a whole density
        (dict(), 0),
    ],
    ids=["gaussian", "linear", "grey"],
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
        (dict(model="ae"), {"bounds", "codes", "samples"}, {"probes", "factors", "space"}),
        (dict(model="cvae"), {"probes", "factors", "space"}, {"bounds", "codes", "samples"}),
        (dict(model="vqvae", codes=16), {"bounds", "codes", "probes", "factors", "space"}, {"samples"}),
        (dict(architecture="mlp", binarize="dynamic"), set(), {"bounds", "codes", "probes"}),
        (dict(architecture="linear", likelihood="gaussian"), set(), {"bounds", "codes", "samples", "space"}),
        (dict(architecture="masked", binarize="dynamic"), {"space"}, {"bounds"}),
    ],
    ids=["ae", "cvae", "vqvae", "mlp", "linear", "masked"],
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


def log_weights_100_too_large(monkeypatch) -> None:
    original = importance_bounds.log_weights_of
    monkeypatch.setattr(importance_bounds, "log_weights_of", lambda *args: (w + 100 for w in original(*args)))


def own_density_9_nats_too_large(monkeypatch) -> None:
    """ln N of 150 images is 5.0."""
    original = rate_parts.log_densities
    monkeypatch.setattr(rate_parts, "log_densities", lambda *args: (original(*args)[0] + 9, original(*args)[1]))


@pytest.mark.parametrize(
    ("broken", "lost", "kept", "said"),
    [
        (log_weights_100_too_large, "nll", "information", "L_1 is "),
        (own_density_9_nats_too_large, "information", "nll", "I(x; z) was estimated as"),
    ],
)
def test_an_impossible_estimate_is_an_error_and_no_number(
    broken, lost, kept, said, small_digits, tmp_path, monkeypatch, capsys
):
    """Every section but this one is reported."""
    run = a_run(tmp_path / "run", latent_dim=2)
    broken(monkeypatch)
    (run / "evaluation.json").write_text(json.dumps({lost: 1.0, "probes": "kept", "label_gain": 2}))
    capsys.readouterr()
    assert evaluate.main([str(run), "--only", "bounds", "codes", "--importance-samples", "3"]) == 1
    out, err = capsys.readouterr()
    found = evaluation_of(run)
    assert (found["probes"], found["label_gain"]) == ("kept", 2)  # sections that were not asked for stay as they were
    assert lost not in found and kept in found and said not in out and "probes  " not in out
    assert err.startswith(f"impossible: {said}") and len(err.splitlines()) == 1 and "\033" not in err


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("config.json", '"level": "paper"', '"level": ', "expected the settings of a run"),
        ("config.json", '"latent_dim": 2', '"latent_dim": 3', "weights.safetensors"),
        ("config.json", '"epochs": 1', '"epochs": 3', "found the metrics of 1 of 3 epochs"),
        ("metrics.jsonl", '"digits"', '"mnist"', "are not those of the run"),
    ],
)
def test_a_wrong_run_is_refused_in_one_line(name, old, new, said, small_digits, tmp_path, told):
    run = a_run(tmp_path / "run", latent_dim=2)
    text = (run / name).read_text()
    assert old in text
    (run / name).write_text(text.replace(old, new))
    assert said in told(evaluate.main, [str(run), "--only", "bounds", "--importance-samples", "2"])
    assert not (run / "evaluation.json").exists()


def test_other_data_than_the_run_s_are_refused(small_digits, digits, tmp_path, monkeypatch, told):
    run = a_run(tmp_path / "run", latent_dim=2)
    other = digits.factors[:50], 255 - digits.images[:50]
    monkeypatch.setattr("vae_common.data._load_drawn", lambda *args: other)
    for command in (evaluate, latent_figures, rate_distortion):
        assert "the weights or the data are not those of the run" in told(command.main, [str(run)])
    assert not (run / "figures").exists()


def test_unlike_runs_are_not_compared(small_digits, tmp_path, told):
    settings = {"ae": dict(model="ae"), "vae": {}, "binary": dict(binarize="threshold"), "wide": dict(latent_dim=3)}
    each = (finished_run(tmp_path / name, **{"latent_dim": 2, **one}) for name, one in settings.items())
    ae, vae, binary, wide = map(str, each)
    for run, against, said in (
        (vae, vae, "expected a run of --model ae, found --model vae"),
        (ae, ae, "expected a run of --model vae, found --model ae"),
        (ae, binary, "expected --binarize none, as in"),
        (ae, wide, "expected --latent-dim 2, as in"),
        (ae, "nothing", "expected the settings of a run"),
    ):
        assert said in told(evaluate.main, [run, "--against", against])


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path, digits):
    """torchrun with two processes on 2,000 digits, K = 5, an untrained model: the same figures to 1e-6."""
    run, found = finished_run(tmp_path / "run", digits, latent_dim=2), []
    command = [evaluate.__file__, str(run), "--only", "bounds", "--importance-samples", "5", "--device", "cpu"]
    for launch in ([], ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]):
        result = subprocess.run([sys.executable, *launch, *command], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("nll") == 1
        found.append(evaluation_of(run))
    one, two = found
    assert one.keys() == two.keys()
    for key in ("elbo", "recon", "kl", "nll", "nll_error", "importance_bounds"):
        assert two[key] == pytest.approx(one[key], rel=1e-6), key


def test_the_picture_holds_the_bounds_and_what_they_gain():
    ax = picture([1, 5, 50], np.array([-100.0, -98.5, -97.0]), np.array([0.0, 0.1, 0.2]), -100.1, "Title").axes[0]
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[1, -100], [5, -98.5], [50, -97]])
    assert [text.get_text() for text in ax.texts] == ["-100.00", "-98.50 (+1.50)", "-97.00 (+3.00)"]


def test_the_defaults_are_those_that_help_states():
    stated = dict(re.findall(r"--([a-z-]+) \w+\s[^(]*?\(default\s+(\d+)\)", evaluate.build_parser().format_help()))
    defaults = inspect.signature(evaluate_run.evaluate_run).parameters
    for name in ("importance-samples", "votes"):
        assert defaults[name.replace("-", "_")].default == int(stated[name])
