"""The evaluation of a run: its bounds against exact answers, impossible figures refused, and the command around it."""

import json
import math
import os
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import evaluate
import vae_paper
from conv_vae import ConvVAE
from vae_common import cli
from vae_common.data import ImageSet, entropy_floor
from vae_common.spec import VAESpec
from vae_measures import disentanglement
from vae_measures import rate_parts as mutual_information
from vae_measures.rate_parts import EstimateError
from vae_plots.evaluation import importance_bounds as picture
from vae_training import processes
from vae_training.factory import build_model, build_prior, measure, save_model

CONFIG = Namespace(seed=0, binarize="dynamic", likelihood="bernoulli")


@pytest.fixture(scope="module")
def few(digits):
    return ImageSet("digits", "test", digits.images[:7], digits.labels[:7], digits.class_names)


def a_model(latents=3) -> ConvVAE:
    torch.manual_seed(0)
    return ConvVAE(VAESpec(latents))


def log_w(few, samples=12, *images) -> np.ndarray:
    return np.concatenate(list(evaluate.log_weights_of(a_model(), few, CONFIG, samples, *images)))


# --- bounds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "at_once", "weights"), [(1, 1, 10**6), (3, 5, 10**6), (7, 1000, 10**6), (7, 9, 25)])
def test_the_answer_does_not_depend_on_the_chunks(group, at_once, weights, few, monkeypatch):
    """Up to float32 rounding of a sum over pixels: matrix products of other shapes add in another order."""
    whole = log_w(few)
    monkeypatch.setattr(evaluate, "GROUP", group)
    monkeypatch.setattr(evaluate, "DECODED_AT_ONCE", at_once)
    monkeypatch.setattr(evaluate, "WEIGHTS_AT_ONCE", weights)
    np.testing.assert_allclose(log_w(few), whole, rtol=2e-6)


def test_more_samples_begin_with_the_same_ones(few):
    np.testing.assert_allclose(log_w(few, 5), log_w(few, 12)[:, :5], rtol=2e-6)


def test_some_of_the_images_have_the_weights_that_they_have_among_all(few):
    np.testing.assert_allclose(log_w(few, 5, np.array([6, 2])), log_w(few, 5)[[6, 2]], rtol=2e-6)


@pytest.mark.parametrize("count", [2, 3, 9])  # of processes; the last leaves two without an image
def test_processes_that_divide_the_images_find_what_one_finds(count, few, monkeypatch):
    """In this process one after the other: each computes its share, and the shares are put together in order."""
    whole = evaluate.measured_bounds(a_model(), few, CONFIG, 6)
    found = []
    for rank in range(count):
        monkeypatch.setattr(processes, "share", lambda n, rank=rank: slice(rank * n // count, (rank + 1) * n // count))
        monkeypatch.setattr(processes, "gather", lambda parts: found.extend(parts) or found or [[np.zeros(0)] * 3])
        divided = evaluate.measured_bounds(a_model(), few, CONFIG, 6)
    assert list(divided) == list(whole) == [1, 5, 6]
    for k in whole:
        np.testing.assert_allclose(divided[k], whole[k], rtol=1e-6)


@given(arrays(float, (3, 12), elements=st.floats(-50, 50)))
def test_importance_bounds_against_the_definition(values):
    """L_4 over three disjoint sets of four samples, in the plain form that may overflow elsewhere."""
    expected = np.log(np.exp(values).reshape(3, 3, 4).mean(axis=2)).mean(axis=1)
    np.testing.assert_allclose(evaluate.importance_bounds(values, 4), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(evaluate.importance_bounds(values, 1), values.mean(axis=1), rtol=1e-12, atol=1e-12)


def test_the_bounds_close_in_on_log_p_by_quadrature(few):
    """Z = 1: log p(x) = log of the integral of p(x|z) N(z; 0, 1), by the rectangle rule on a fine grid. The posterior
    of an untrained model is near the prior, so 500 draws leave little: the delta method's var(w) / 2K of it."""
    from vae_common.data import binarize
    from vae_common.randomness import generator

    model, z = a_model(1), torch.linspace(-8, 8, 801)[:, None]
    x = torch.from_numpy(binarize(few.images, "dynamic", generator(0, "evaluation")))
    with torch.no_grad():
        logits = model.decode(z).double()  # (801, 1, 28, 28)
        log_joint = (x[:, None] * logits - torch.nn.functional.softplus(logits)).sum(dim=(2, 3, 4))  # (7, 801)
    log_joint = log_joint - 0.5 * z[:, 0] ** 2 - 0.5 * math.log(2 * math.pi)
    exact = (torch.logsumexp(log_joint, dim=1) + math.log(16 / 800)).numpy()
    weights = np.concatenate(list(evaluate.log_weights_of(model, few, CONFIG, 500)))
    bounds = {k: evaluate.importance_bounds(weights, k) for k in (1, 5, 500)}
    ratio = np.exp(weights - exact[:, None])  # mean 1
    error = ratio.std(axis=1) / 500**0.5
    assert (abs(bounds[500] - exact) <= 4 * error + error**2 + 1e-3).all()  # 1e-3: float32, 784 terms
    assert error.max() < 0.1 and bounds[1].mean() < bounds[5].mean() < exact.mean()


def test_memory_does_not_grow_with_the_number_of_samples():
    """4 images: the peak after K = 600, then after K = 5,000 (20,000 codes; decoded at once they would take 1 GB)."""
    code = """if True:
        import resource
        import numpy as np
        from argparse import Namespace
        import evaluate
        from conv_vae import ConvVAE
        from vae_common.data import ImageSet
        from vae_common.spec import VAESpec
        few = ImageSet("digits", "test", np.zeros((4, 1, 28, 28), np.uint8), np.zeros(4, int), ("0",))
        model, config = ConvVAE(VAESpec(20)), Namespace(seed=0, binarize="none", likelihood="bernoulli")
        for K in (600, 5000):
            for log_w in evaluate.log_weights_of(model, few, config, K):
                assert log_w.shape == (4, K)
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"""
    here = Path(evaluate.__file__).parent
    result = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes here
    small, large = (int(line) * unit / 2**20 for line in result.stdout.split())
    print(f"peak {small:.0f} MB at K = 600, {large:.0f} MB at K = 5,000")
    assert large - small < 100


# --- what cannot be ------------------------------------------------------------------------------------------------


def rising(images=200) -> tuple[dict[int, np.ndarray], np.ndarray]:
    draw = np.random.default_rng(0)
    elbo = draw.normal(-100, 10, images)
    noise = {k: draw.normal(0, 0.5, images) for k in (1, 5, 50)}
    return {1: elbo + noise[1], 5: elbo + 1 + noise[5], 50: elbo + 1.02 + noise[50]}, elbo


def test_bounds_that_hold_within_their_error_pass():
    found, elbo = rising()
    evaluate.check_bounds(found, elbo)
    evaluate.check_bounds({1: found[1], 5: found[50] - 1.06}, elbo)  # 0.04 below, with a standard error of 0.05


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
        evaluate.check_bounds(broken(found), elbo)


def measured_few(few):
    config = Namespace(seed=0, binarize="none", likelihood="bernoulli", dataset="digits", data_dir=None)
    measured = measure(a_model(), few, config)
    return evaluate.Run(Path("run"), config, None, measured, 5, "cpu")


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
    text, found = evaluate.terms(subject)
    floor = entropy_floor(subject.measured.x)
    assert found["entropy_floor"] == floor and f"below {floor:.2f} on grey pixels, their own entropy" in text
    with pytest.raises(EstimateError, match=said):
        evaluate.terms(replace(subject, measured=replace(subject.measured, **change)))


# --- the command ---------------------------------------------------------------------------------------------------


def a_run(folder: Path, *flags: str) -> Path:
    """A run folder as vae_paper.py leaves it, of one epoch that changed nothing; its data: conftest's small_digits."""
    from vae_common.data import load_dataset

    args = vae_paper.build_parser().parse_args(["--epochs", "1", "--out", str(folder), *flags])
    vae_paper.fill_in(args)
    cli.make_run_folder(args, "paper")
    model = build_model(args)
    if hasattr(model, "kl_terms"):
        with torch.no_grad():
            model.encoder.mu.weight.mul_(10)
    save_model(model, args.model, folder / "weights.safetensors")
    row = measure(model, load_dataset("digits", "test"), args).row(1, args, 0.0)
    cli.write_metrics(folder / "metrics.jsonl", [row])
    if args.model == "vqvae":
        save_model(build_prior(args, model), "prior", folder / "prior-weights.safetensors")
    return folder


@pytest.fixture
def quick(small_digits, monkeypatch):
    """Fewer drawings than a measurement needs, enough for the command to be seen."""
    monkeypatch.setattr(evaluate, "VOTES", 32)
    monkeypatch.setattr(disentanglement, "SIZE", 4)
    monkeypatch.setattr(disentanglement.report, "__defaults__", (200, 32))
    monkeypatch.setattr("sample_quality.EPOCHS", 1)


def evaluation_of(run: Path) -> dict:
    return json.loads((run / "evaluation.json").read_text())


def test_evaluate_prints_and_writes_every_section(quick, tmp_path, capsys):
    run = a_run(tmp_path / "run", "--latent-dim", "2")
    assert evaluate.main([str(run), "--importance-samples", "50"]) == 0
    printed, found = capsys.readouterr().out, evaluation_of(run)
    assert {"elbo", "recon", "kl", "nll", "active_units", "entropy_floor"} <= set(found)
    recorded = json.loads((run / "metrics.jsonl").read_text())
    assert found["elbo"] == pytest.approx(recorded["elbo"], rel=1e-6)
    bounds = found["importance_bounds"]
    assert list(bounds) == ["1", "5", "50"]
    assert bounds["1"] < bounds["5"] < bounds["50"] == -found["nll"]
    assert f"{bounds['50']:.2f} ({found['nll_error']:.2f})" in next(
        line for line in printed.splitlines() if "L_50 " in line
    )
    codes = found["information"]["train"]
    assert codes["images"] == 150 and 0 < codes["information"]["value"] <= math.log(150) + 1e-6
    assert found["information"]["test"]["rate"] == pytest.approx(found["kl"], rel=1e-5)
    assert set(found["probes"]["accuracy"]) == {"mu", "mu, untrained", "PCA, 2", "pixels, 784"}
    assert {"trained", "untrained"} < set(found["disentanglement"])
    assert found["sample_quality"]["count"] == 50
    for head in ("bounds  ", "codes  ", "probes  ", "factors ", "samples "):
        line = next(line for line in printed.splitlines() if line.startswith(head))
        assert "grey pixels" in line
    for name in ("importance-bounds", "factors", "sample-classes", "nearest"):
        assert f"wrote {run / 'figures' / f'{name}.png'}" in printed and (run / "figures" / f"{name}.png").exists()


def test_one_section_leaves_the_others_as_they_were(small_digits, tmp_path, capsys):
    run = a_run(tmp_path / "run")
    (run / "evaluation.json").write_text(json.dumps({"probes": "kept", "nll": 1, "elbo": 1, "label_gain": 2}))
    assert evaluate.main([str(run), "--only", "bounds", "--importance-samples", "3"]) == 0
    found = evaluation_of(run)
    assert found["probes"] == "kept" and found["label_gain"] == 2 and found["nll"] > 100 and found["elbo"] < -100
    assert "codes  " not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "constant"),
    [
        (["--likelihood", "gaussian"], 392 * math.log(math.pi)),  # a plain squared error lacks it
        (["--likelihood", "gaussian", "--trunk", "linear"], 0),  # a whole density
        (["--binarize", "threshold"], 0),
        ([], 0),
    ],
)
def test_the_bounds_say_of_what(flags, constant, small_digits, tmp_path, capsys):
    """-log N(x; x_hat, 1/2) of 784 pixels is the squared error and 784/2 ln(2 pi / 2), so -log p(x) has that too."""
    run = a_run(tmp_path / "run", *flags)
    assert evaluate.main([str(run), "--only", "bounds", "--importance-samples", "3"]) == 0
    printed, nll = capsys.readouterr().out, evaluation_of(run)["nll"]
    assert (f"lower bounds of log p(x) + {constant:.2f}, nats" in printed) == bool(constant)
    assert f"at most {nll + constant:.2f}, as recon leaves" in printed if constant else "is at most this" in printed
    assert ("grey pixels have no likelihood" in printed) == (flags == [])


@pytest.mark.parametrize(
    ("flags", "without", "with_"),
    [
        (["--model", "ae"], {"bounds", "codes", "samples"}, {"probes", "factors"}),
        (["--model", "cvae"], {"probes", "factors"}, {"bounds", "codes", "samples"}),
        (["--model", "vqvae", "--codes", "16"], {"bounds", "codes", "probes", "factors"}, {"samples"}),
        (["--trunk", "mlp", "--binarize", "dynamic"], set(), {"bounds", "codes", "probes"}),
        (["--trunk", "linear", "--likelihood", "gaussian"], set(), {"bounds", "codes", "samples"}),
    ],
    ids=["ae", "cvae", "vqvae", "mlp", "linear"],
)
def test_other_models_get_the_sections_that_make_sense(flags, without, with_, quick, tmp_path, capsys):
    run = a_run(tmp_path / "run", *flags)
    assert evaluate.main([str(run), "--importance-samples", "3", "--only", *(without | with_)]) == 0
    printed, found = capsys.readouterr().out, evaluation_of(run)
    for name in evaluate.SECTIONS:
        assert (f"\n{name:9}left out: " in printed) == (name in without), name
        for key in evaluate.KEYS[name]:
            assert (key in found) == (name in with_), key
    assert ("recognised as the class asked for" in printed) == ("cvae" in flags)
    assert ("the true -log p(x) given its label is at most" in printed) == ("cvae" in flags)
    assert "dynamically" in printed or "grey" in printed


def test_an_impossible_estimate_is_an_error_and_no_number(quick, tmp_path, monkeypatch, capsys):
    """A log-weight that is too large by 100: every section but this one is reported."""
    run = a_run(tmp_path / "run", "--latent-dim", "2")
    original = evaluate.log_weights_of
    monkeypatch.setattr(evaluate, "log_weights_of", lambda *args: (w + 100 for w in original(*args)))
    (run / "evaluation.json").write_text(json.dumps({"nll": 1.0}))
    assert evaluate.main([str(run), "--only", "bounds", "codes", "--importance-samples", "3"]) == 1
    out, err = capsys.readouterr()
    assert "nll" not in evaluation_of(run) and "information" in evaluation_of(run)
    assert "L_1" not in out and "codes  " in out
    assert err.startswith("impossible: L_1 is ") and len(err.splitlines()) == 1 and "\033" not in err


def test_impossible_is_red_on_a_terminal_only(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    evaluate.impossible("I is 69.")
    assert capsys.readouterr().err == "\033[31mimpossible: I is 69.\033[0m\n"


def test_information_above_its_bound_is_refused(quick, tmp_path, monkeypatch, capsys):
    """ln N of 150 images is 5.0; the code's own density, too large by 9 nats."""
    run = a_run(tmp_path / "run", "--latent-dim", "2")
    original = mutual_information.log_densities

    def wrong(*args):
        own, mixture = original(*args)
        return own + 9, mixture

    monkeypatch.setattr(mutual_information, "log_densities", wrong)
    assert evaluate.main([str(run), "--only", "codes"]) == 1
    assert "impossible: I(x; z) was estimated as" in capsys.readouterr().err
    assert "information" not in evaluation_of(run)


def truncate(run: Path, name: str, count: int) -> None:
    (run / name).write_bytes((run / name).read_bytes()[:-count])


def change_config(run: Path, **values) -> None:
    config = json.loads((run / "config.json").read_text())
    config.update(values)
    (run / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value != "gone"}))


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda run: truncate(run, "config.json", 30), "expected the settings of a run"),
        (lambda run: truncate(run, "metrics.jsonl", 9), "expected the metrics of a finished run"),
        (lambda run: truncate(run, "weights.safetensors", 1000), "weights.safetensors"),
        (lambda run: (run / "weights.safetensors").unlink(), "weights.safetensors"),
        (lambda run: (run / "metrics.jsonl").write_text(""), "found the metrics of 0 of 1 epochs"),
        (lambda run: (run / "metrics.jsonl").write_text("[1]\n"), "that this version of paper/vae_paper.py wrote"),
        (lambda run: change_config(run, epochs=3), "found the metrics of 1 of 3 epochs"),
        (lambda run: change_config(run, level="numpy"), "it is a run of level 'numpy'"),
        (lambda run: change_config(run, beta="gone"), "that this version of paper/vae_paper.py wrote"),
        (lambda run: change_config(run, binarize="gone"), "that this version of paper/vae_paper.py wrote"),
        (lambda run: change_config(run, dataset="mnist"), "the weights or the data are not those of the run"),
        (lambda run: change_config(run, latent_dim="two"), "that this version of paper/vae_paper.py wrote"),
        (lambda run: change_config(run, latent_dim=3), "weights.safetensors"),
        (lambda run: change_config(run, binarize="threshold"), "the weights or the data are not those of the run"),
    ],
)  # fmt: skip
def test_a_wrong_run_is_refused_in_one_line(break_it, said, small_digits, tmp_path, capsys):
    run = a_run(tmp_path / "run", "--latent-dim", "2")
    break_it(run)
    capsys.readouterr()
    assert evaluate.main([str(run), "--only", "bounds", "--importance-samples", "2"]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
    assert not (run / "evaluation.json").exists()


def test_other_data_than_the_run_s_are_refused(small_digits, digits, tmp_path, monkeypatch, capsys):
    run = a_run(tmp_path / "run", "--latent-dim", "2")
    other = ImageSet("digits", "test", 255 - digits.images[:50], digits.labels[:50], digits.class_names)
    monkeypatch.setattr("vae_common.data.load_dataset", lambda *args: other)
    assert evaluate.main([str(run)]) == 2
    assert "the weights or the data are not those of the run" in capsys.readouterr().err


def test_a_missing_run_and_a_file_are_refused(tmp_path, capsys):
    for run, said in ((tmp_path / "nothing", "expected the settings of a run"), ("mine.py", "give --doctor with it")):
        assert evaluate.main([str(run)]) == 2
        error = capsys.readouterr().err
        assert said in error and len(error.splitlines()) == 1


def test_the_doctor_is_called(small_digits, monkeypatch, tmp_path, capsys):
    called = []
    monkeypatch.setattr("doctor.diagnose", lambda target, data_dir: called.append((target, data_dir)) or 1)
    assert evaluate.main(["mine.py", "--doctor", "--data-dir", "there"]) == 1
    assert called == [("mine.py", "there")]


def test_the_doctor_does_not_choose_sections(capsys):
    assert evaluate.main(["mine.py", "--doctor", "--only", "bounds"]) == 2
    assert "--only chooses among the measurements" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path):
    """torchrun with two processes on 2,000 digits, K = 5, an untrained model: the same figures to 1e-6."""
    run, here = a_run(tmp_path / "run", "--latent-dim", "2"), Path(evaluate.__file__)
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
