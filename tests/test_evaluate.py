"""Importance-weighted evaluation against exact answers, and the command line around it."""

import json
from argparse import Namespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import evaluate
import vae_paper
from conv_vae import ConvVAE
from vae_common.data import ImageSet
from vae_common.spec import VAESpec

CONFIG = Namespace(seed=0, binarize="dynamic", likelihood="bernoulli")


@pytest.fixture(scope="module")
def few(digits):
    return ImageSet("digits", "test", digits.images[:7], digits.labels[:7], digits.class_names)


def log_w(few, samples=12) -> np.ndarray:
    import torch

    torch.manual_seed(0)
    return np.concatenate(list(evaluate.log_weights_of(ConvVAE(VAESpec(3)), few, CONFIG, samples)))


@pytest.mark.parametrize(("group", "at_once"), [(1, 1), (3, 5), (7, 1000)])
def test_the_answer_does_not_depend_on_the_chunks(group, at_once, few, monkeypatch):
    """Up to float32 rounding of a sum over pixels: matrix products of other shapes add in another order."""
    whole = log_w(few)
    monkeypatch.setattr(evaluate, "GROUP", group)
    monkeypatch.setattr(evaluate, "DECODED_AT_ONCE", at_once)
    np.testing.assert_allclose(log_w(few), whole, rtol=2e-6)


def test_more_samples_begin_with_the_same_ones(few):
    np.testing.assert_allclose(log_w(few, 5), log_w(few, 12)[:, :5], rtol=2e-6)


@given(arrays(float, (3, 12), elements=st.floats(-50, 50)))
def test_importance_bounds_against_the_definition(values):
    """L_4 over three disjoint sets of four samples, in the plain form that may overflow elsewhere."""
    expected = np.log(np.exp(values).reshape(3, 3, 4).mean(axis=2)).mean(axis=1)
    np.testing.assert_allclose(evaluate.importance_bounds(values, 4), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(evaluate.importance_bounds(values, 1), values.mean(axis=1), rtol=1e-12, atol=1e-12)


def test_evaluate_measures_a_run(few, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("vae_common.data.load_dataset", lambda *args: few)
    monkeypatch.setattr("latent_figures.draw_run", lambda *args: None)
    run = str(tmp_path / "run")
    assert vae_paper.main(["--epochs", "1", "--latent-dim", "2", "--out", run]) == 0
    trained = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert evaluate.main([run, "--importance-samples", "50"]) == 0
    measured = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert {"elbo", "recon", "kl", "nll", "active_units"} <= set(measured)
    assert measured["elbo"] == pytest.approx(trained["elbo"], rel=1e-6)
    bounds = measured["importance_bounds"]
    assert bounds["1"] < bounds["5"] < bounds["50"] == -measured["nll"]
    assert "L_50" in capsys.readouterr().out


def test_evaluate_refuses_what_it_cannot_measure(few, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("vae_common.data.load_dataset", lambda *args: few)
    monkeypatch.setattr("latent_figures.draw_run", lambda *args: None)
    assert vae_paper.main(["--model", "ae", "--epochs", "1", "--out", str(tmp_path / "ae")]) == 0
    capsys.readouterr()
    for run, reason in [("ae", "an autoencoder has no likelihood"), ("nothing", "expected the settings of a run")]:
        assert evaluate.main([str(tmp_path / run)]) == 2
        error = capsys.readouterr().err
        assert reason in error and len(error.splitlines()) == 1
