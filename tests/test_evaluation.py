"""What a run reports of a model: every number of a row, an evaluation.json and a summary, recomputed from its terms."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import vae_lowlevel
from messages import assert_one_sentence
from vae_common import evaluation
from vae_common.config import RunConfig
from vae_common.data import ImageSet, binarize
from vae_common.errors import NotFiniteError
from vae_common.randomness import generator
from vae_common.spec import VAESpec
from vae_training.factory import build_model
from vae_training.trainer import RunState, train

EPS = float(np.finfo(np.float32).eps)
ON = ("epoch", "split", "dataset", "binarize", "likelihood")
CONFIG = RunConfig(latent_dim=3, batch_size=64, epochs=2, seed=5, binarize="dynamic").settled()


def first(data: ImageSet, start: int, stop: int) -> ImageSet:
    part = slice(start, stop)
    return replace(data, images=data.images[part], labels=data.labels[part], factors=data.factors[part])


def measured_with(mu, logvar, recon=None, kl=None, name="digits") -> evaluation.Evaluation:
    """An evaluation with these posteriors, of images that do not matter."""
    mu, logvar = (np.asarray(value, np.float32) for value in np.broadcast_arrays(mu, logvar))
    images = ImageSet(name, "test", np.zeros((len(mu), 1, 28, 28), np.uint8), np.zeros(len(mu), int), ("0",))
    recon, kl = (np.zeros(len(mu)) if value is None else np.array(value) for value in (recon, kl))
    x = np.zeros(images.images.shape, np.float32)
    return evaluation.Evaluation(images, "none", "bernoulli", x, np.ones_like(mu), None, recon, kl, mu, logvar)


@pytest.mark.parametrize("how", ["none", "dynamic"])
def test_each_image_is_measured_once_with_its_own_seeded_noise(digits, how):
    data, seen = first(digits, 0, 23), []

    def terms(x, eps):
        seen.append(len(x))
        return x.sum(axis=(1, 2, 3)), (eps**2).sum(axis=1), 2 * eps, eps - 1

    config = RunConfig(seed=9, binarize=how, likelihood="gaussian")
    measured = evaluation.evaluate(terms, None, data, 4, config, batch_size=10)
    rng = generator(9, "evaluation")
    x = binarize(data.images, how, rng)
    eps = rng.standard_normal((23, 4), dtype=np.float32)
    assert seen == [10, 10, 3]
    found = measured.x, measured.eps, measured.recon, measured.kl, measured.mu, measured.logvar
    expected = x, eps, x.sum(axis=(1, 2, 3)), (eps**2).sum(axis=1), 2 * eps, eps - 1
    assert all(map(np.array_equal, found, expected))
    np.testing.assert_allclose(measured.z, 2 * eps + np.exp((eps - 1) / 2) * eps, rtol=4 * EPS)
    assert measured.on == {"dataset": "digits", "binarize": how, "likelihood": "gaussian"}


def test_active_units_are_those_whose_mean_has_a_variance_above_one_hundredth():
    variances = np.array([0.0, 0.0099, 0.0101, 0.5])
    mu = 7 + np.sqrt(variances) * np.array([[1], [-1], [1], [-1]])  # the variance is about the mean, not about 0
    measured = measured_with(mu, 0.0)
    assert measured.active.tolist() == [False, False, True, True]
    assert measured.row(1, 0.0)["active_units"] == measured.results()["active_units"] == 2


def test_kl_per_dim_is_the_mean_over_the_images_of_each_dimension():
    rng = np.random.default_rng(0)
    mu, logvar = rng.normal(size=(2, 5, 3)).astype(np.float32)
    each = [(m**2 + math.exp(v) - 1 - v) / 2 for m, v in zip(mu.flat, logvar.flat, strict=True)]
    expected = np.reshape(each, (5, 3)).mean(axis=0)
    measured = measured_with(mu, logvar)
    np.testing.assert_allclose(measured.kl_per_dim, expected, rtol=10 * EPS)
    assert measured.results()["kl_per_dim"] == pytest.approx(expected, rel=10 * EPS)
    assert measured.row(1, 0.0)["kl_per_dim"] == [round(kl, 4) for kl in measured.kl_per_dim.tolist()]


@pytest.mark.parametrize(
    "spread, said",
    [
        ([0, 0, 0], "warning: posterior collapse:"),
        ([0, 2, 0], "note: 2 of 3 latent dimensions are inactive, dimensions 0, 2: "),
        ([2, 0.3, 2], "all 3 latent dimensions are active, but 1 of them hold less than 0.1 nats each, dimension 1."),
        ([2, 2, 2], "all 3 latent dimensions are active."),
    ],
)
def test_what_is_said_of_unused_dimensions(spread, said):
    assert measured_with(np.array([spread, np.negative(spread)]), 0.0).collapse().startswith(said)


def test_the_numbers_of_an_evaluation_are_means_over_its_images():
    measured = measured_with(np.zeros((4, 2)), [[0.0, 2 * math.log(0.5)]] * 4, recon=[1, 2, 3, 6], kl=[1, 0, 1, 0])
    assert measured.results() == {
        "dataset": "digits", "binarize": "none", "likelihood": "bernoulli", "images": 4, "recon": 3.0, "kl": 0.5,
        "elbo": -3.5, "active_units": 0, "kl_per_dim": measured.kl_per_dim.tolist(),
    }  # fmt: skip
    row = dict(epoch=7, split="test", recon=3.0, kl=0.5, elbo=-3.5, seconds=1.235, dataset="digits")
    assert measured.row(7, 1.23456).items() >= row.items()
    # The standard deviation of 2, 2, 4, 6 is sqrt(11 / 4); of 4 images the mean's standard error is half of it.
    assert measured.summary() == (
        "digits test: 4 images, grey pixels, Bernoulli likelihood, one sampled z each, nats per image\n"
        "  recon     3.00\n  kl        0.50\n  elbo     -3.50  (standard error 0.83)\n"
        "  std of q(z|x): smallest dimension 0.500, largest 1.000 (the prior's is 1)"
    )


@pytest.mark.parametrize("term, value", [("recon", math.nan), ("kl", math.inf)])
def test_a_row_that_is_not_finite_names_its_term(term, value):
    terms = {"recon": 1.0, "kl": 1.0, term: value}
    with pytest.raises(NotFiniteError) as error:
        evaluation.metrics_row(3, "test", **terms, on={}, seconds=0.0)
    remedy = "train with a smaller --lr or start from other weights"
    assert_one_sentence(str(error.value), f"{term} became {value} on the test split in epoch 3", remedy)


@pytest.fixture(scope="module")
def trained(digits):
    """Level 2 trained on 150 images, in batches of 64, 64 and 22; its parameters, its rows, the sets."""
    data, test = first(digits, 0, 150), first(digits, 150, 190)
    params = vae_lowlevel.to_tensors(VAESpec(3).init_params(0))
    return params, list(vae_lowlevel.train(params, data, test, CONFIG)), data, test


def test_a_train_row_of_level_2_is_the_mean_over_the_images(trained):
    _, rows, data, _ = trained
    params = vae_lowlevel.to_tensors(VAESpec(3).init_params(0))
    optimizer = torch.optim.Adam(params.values(), lr=CONFIG.lr, fused=True)
    for epoch in (1, 2):
        steps = list(vae_lowlevel.train_epoch(params, optimizer, data.images, epoch, CONFIG))
        row = rows[2 * (epoch - 1)]
        assert (row["epoch"], row["split"], row["binarize"]) == (epoch, "train", "dynamic")
        for name, parts in zip(("recon", "kl"), zip(*steps, strict=True), strict=True):
            assert [len(part) for part in parts] == [64, 64, 22]
            every_image = torch.cat(parts).double()
            # Each batch's mean is a float32 sum of at most 64 terms.
            assert row[name] == pytest.approx(every_image.mean().item(), rel=64 * EPS)
            of_batches = torch.stack([part.double().mean() for part in parts]).mean().item()
            assert abs(row[name] - of_batches) > 1000 * EPS * abs(of_batches)  # the two are not the same here
        assert row["elbo"] == -(row["recon"] + row["kl"])


def test_level_3_reports_the_same_training(trained):
    _, rows, data, _ = trained
    model = build_model(replace(CONFIG, seed=0))
    state = RunState.start(model, CONFIG)
    for _ in train(state, data, CONFIG, lambda epoch: {"epoch": epoch, "split": "test"}):
        pass
    for row, other in zip(state.rows[::2], rows[::2], strict=True):
        assert [row[name] for name in ON] == [other[name] for name in ON]
        for name in ("recon", "kl", "elbo"):
            # Three and six steps apart in float32; what differs is the order of sums of at most 3136 terms.
            assert row[name] == pytest.approx(other[name], rel=3136 * EPS), name
        assert row["loss"] == pytest.approx(-row["elbo"], rel=1e-9)
