"""What is said of samples: distances against closed forms, shares against enumeration, copies that were planted."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from synthetic_mnist import synthetic_images
from vae_common.data import ImageSet, binarize
from vae_measures import sample_quality as sq
from vae_plots.evaluation import classes_of_samples, nearest_images


def rng(seed=0) -> np.random.Generator:
    return np.random.default_rng(seed)


def images(count: int, seed=0) -> np.ndarray:
    return rng(seed).integers(0, 256, (count, 1, 28, 28), dtype=np.uint8)


# --- the Frechet distance ------------------------------------------------------------------------------------------


def with_moments(mean: np.ndarray, covariance: np.ndarray, count=50, seed=0) -> np.ndarray:
    """Points whose sample mean and covariance are these to rounding."""
    x = rng(seed).normal(size=(count, len(mean)))
    x = (x - x.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(x, rowvar=False)))).T
    return mean + x @ np.linalg.cholesky(covariance).T


def covariance(seed: int, D=3) -> np.ndarray:
    root = rng(seed).normal(size=(D, D))
    return root @ root.T + 0.1 * np.eye(D)


def test_equal_moments_have_no_distance():
    a, b = (with_moments(np.ones(3), covariance(1), seed=seed) for seed in (0, 1))
    assert not np.allclose(a, b)
    assert sq.frechet_distance(a, b) == pytest.approx(0, abs=1e-10)


def test_a_shift_has_its_squared_length():
    shift = np.array([1.0, -2.0, 0.5])
    a, b = with_moments(np.zeros(3), covariance(1)), with_moments(shift, covariance(1), seed=1)
    assert sq.frechet_distance(a, b) == pytest.approx(5.25, rel=1e-10)


def test_commuting_covariances_have_the_distance_of_their_standard_deviations():
    axes, _ = np.linalg.qr(rng(2).normal(size=(3, 3)))
    one, other = np.array([4.0, 1.0, 9.0]), np.array([1.0, 16.0, 9.0])
    a, b = (with_moments(np.zeros(3), axes @ np.diag(values) @ axes.T, seed=7) for values in (one, other))
    assert sq.frechet_distance(a, b) == pytest.approx(((one**0.5 - other**0.5) ** 2).sum(), rel=1e-10)  # 1 + 9


def test_any_covariances_by_the_eigenvalues_of_their_product():
    """tr (S_a^1/2 S_b S_a^1/2)^1/2 is the sum of the roots of the eigenvalues of S_a S_b, which has the same ones."""
    S_a, S_b = covariance(3), covariance(4)
    exact = np.trace(S_a + S_b) - 2 * np.sqrt(np.linalg.eigvals(S_a @ S_b).real).sum()
    a, b = with_moments(np.zeros(3), S_a), with_moments(np.zeros(3), S_b, seed=1)
    assert exact > 0.1
    assert sq.frechet_distance(a, b) == pytest.approx(exact, rel=1e-10)
    assert sq.frechet_distance(b, a) == pytest.approx(exact, rel=1e-10)


def test_one_feature_and_fewer_images_than_features():
    one = with_moments(np.array([2.0]), np.array([[9.0]]))
    assert sq.frechet_distance(one, with_moments(np.zeros(1), np.eye(1))) == pytest.approx(4 + 4, rel=1e-10)
    few = rng().normal(size=(3, 8)).astype(np.float32)
    assert sq.frechet_distance(few, few) == pytest.approx(0, abs=1e-6)  # roots of eigenvalues of 1e-16 instead of 0


# --- classes -------------------------------------------------------------------------------------------------------


def test_classes_by_enumeration():
    guess, reference = np.array([0, 0, 0, 2]), np.array([0, 0, 1, 1, 1, 1])
    np.testing.assert_allclose(sq.class_shares(guess, 4), [3 / 4, 0, 1 / 4, 0])
    assert sq.entropy(sq.class_shares(guess, 4)) == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    p, q = [4 / 8, 1 / 8, 2 / 8, 1 / 8], [3 / 10, 5 / 10, 1 / 10, 1 / 10]
    assert sq.class_kl(guess, reference, 4) == pytest.approx(
        sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    )


@given(arrays(int, 30, elements=st.integers(0, 3)), arrays(int, 20, elements=st.integers(0, 3)))
def test_shares_are_within_their_bounds(guess, reference):
    assert sq.class_shares(guess, 4).sum() == pytest.approx(1)
    assert -1e-12 <= sq.entropy(sq.class_shares(guess, 4)) <= math.log(4) + 1e-12
    assert sq.class_kl(guess, reference, 4) >= -1e-12
    assert sq.class_kl(guess, guess, 4) == pytest.approx(0, abs=1e-12)


# --- copies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 50, 10_000])
def test_nearest_against_brute_force(at_once):
    some, among = images(7), images(40, seed=1)
    some[3], some[5] = among[39], among[0]  # planted copies, in the last chunk and in the first
    distance, index = sq.nearest(some, among, at_once)
    every = np.linalg.norm((some[:, None] / 255 - among / 255).reshape(7, 40, -1), axis=2)
    np.testing.assert_array_equal(index, every.argmin(axis=1))
    np.testing.assert_allclose(distance, every.min(axis=1), rtol=1e-5, atol=1e-6)  # float32, sums of 784 terms
    assert index[3] == 39 and index[5] == 0 and distance[3] == distance[5] == 0


def test_a_model_that_has_learnt_images_by_heart_is_caught(digits):
    train, test = digits.images[:400], digits.images[400:600]
    by_heart = train[rng().integers(400, size=200)]
    found = sq.look_for_copies(by_heart, train, test)
    assert found.suspicious and found.telling and found.nearer_to_train == 1 and (found.distance == 0).all()
    assert np.median(found.of_test) > 1
    honest = sq.look_for_copies(digits.images[600:800], train, test)
    assert not honest.suspicious and honest.expected == pytest.approx(2 / 3)
    assert honest.nearer_to_train == pytest.approx(2 / 3, abs=4 * honest.error)
    blurred = sq.look_for_copies((digits.images[600:800] * 0.6).astype(np.uint8), train, test)
    assert np.median(blurred.distance) < np.median(honest.distance) and not blurred.suspicious


def test_the_error_of_the_share_is_that_of_dealing_the_images_out_anew(digits):
    """Samples that crowd around few images: the share over 300 random splits, without replacement (2/3 of 300)."""
    pool, draw = digits.images[:300], rng()
    samples = pool[:8][draw.integers(8, size=100)] // 2
    shares, errors = [], []
    for _ in range(300):
        order = draw.permutation(300)
        found = sq.look_for_copies(samples, pool[order[:200]], pool[order[200:]])
        shares.append(found.nearer_to_train)
        errors.append(found.error)
    assert np.mean(shares) == pytest.approx(2 / 3, abs=4 * np.std(shares) / 300**0.5)
    assert np.mean(errors) == pytest.approx(np.std(shares), rel=0.15)  # the std of 300 draws is known to 4%
    assert np.mean(errors) > 2 * (2 / 9 / 100) ** 0.5  # far above that of samples that each have an image of their own
    assert not found.telling  # 2/3 and four standard errors are more than all


# --- samples and the classifier ------------------------------------------------------------------------------------


def a_model(pixels, conditional=False, latents=3):
    """What `report` needs of a measured model whose decoder answers with these pixel means for its M codes."""
    data = ImageSet("digits", "test", images(40), np.arange(40) % 10, tuple("0123456789"))
    return SimpleNamespace(data=data, mu=np.zeros((40, latents)), decode=pixels, conditional=conditional)


def test_samples_are_drawn_as_the_data_are():
    seen = []

    def decode(z, *labels):
        seen.append((z, *labels))
        return np.full((len(z), 1, 28, 28), 0.3, np.float32)

    grey, none = sq.prior_samples(a_model(decode), 1100, "none", rng())
    assert none is None and (grey == 77).all() and grey.shape == (1100, 1, 28, 28)  # 0.3 in float32 is above
    z = np.concatenate([one[0] for one in seen])
    assert z.shape == (1100, 3) and abs(z.mean()) < 4 / 3300**0.5 and abs(z.std() - 1) < 4 / 6600**0.5
    seen.clear()
    binary, labels = sq.prior_samples(a_model(decode, conditional=True), 600, "threshold", rng())
    assert set(np.unique(binary)) == {0, 255}
    assert (binary == 255).mean() == pytest.approx(0.3, abs=4 * (0.21 / binary.size) ** 0.5)
    np.testing.assert_array_equal(labels, np.concatenate([one[1] for one in seen]))


@pytest.mark.parametrize("how", ["none", "threshold", "dynamic"])
def test_images_are_binarized_alike_in_parts(how):
    some = images(5003)
    whole = binarize(some, how, rng(5))
    np.testing.assert_array_equal(sq.as_seen(some, how, rng(5)), np.round(255 * whole))


@pytest.fixture(scope="module")
def bars() -> tuple[np.ndarray, np.ndarray]:
    x, y = synthetic_images(800, seed=0)
    return x[:, None], y.astype(np.int64)


def test_the_classifier_is_seeded_and_learns(bars):
    x, y = bars
    one, other = (sq.train_classifier(x[:600], y[:600], 10, seed=3) for _ in range(2))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    seen = sq.look(one, x[600:])
    assert (seen.guess == y[600:]).mean() == 1  # bars in ten places
    assert seen.features.shape == (200, 128)
    expected = one(torch.from_numpy(x[600:]) / 255).softmax(dim=1).detach()
    torch.testing.assert_close(torch.from_numpy(seen.probability), expected)
    assert seen.surely == pytest.approx((expected.max(dim=1).values >= 0.9).double().mean().item())


def test_report_tells_a_copying_model_from_one_that_draws_one_class(bars):
    x, y = bars
    train, test = (
        ImageSet("bars", "", x[part], y[part], tuple("0123456789")) for part in (slice(600), slice(600, 800))
    )
    order = rng().permutation(600)

    def copies(z):
        return x[order[: len(z)]] / np.float32(255)

    def ones(z):
        return x[:600][y[:600] == 1][np.arange(len(z)) % 60] / np.float32(255) * np.float32(0.95)

    models = (SimpleNamespace(data=test, mu=np.zeros((200, 2)), decode=decode) for decode in (copies, ones))
    (good, arrays_), (poor, _) = (sq.report(model, train, "none", 0) for model in models)
    assert arrays_["copies"].suspicious and good["nearer_to_train"]["share"] == 1
    assert good["nearest_training_image"]["samples"] < 0.15 < 1 < good["nearest_training_image"]["test"]
    assert good["classifier_accuracy"] == 1
    assert good["class_entropy"]["samples"] > 2.2 and good["class_kl"] < 0.05
    assert poor["class_entropy"]["samples"] == 0 and poor["class_shares"]["samples"][1] == 1
    assert poor["class_kl"] > 1.5 > 10 * good["class_kl"]
    distance = good["frechet_distance"]
    assert max(distance["samples"], distance["train"]) < 0.1 * min(
        distance["noise"], poor["frechet_distance"]["samples"]
    )
    assert poor["frechet_distance"]["train"] == distance["train"]  # the same reference for any model
    lines = sq.table(good)
    assert f"{distance['samples']:.1f}" in lines and "100.0%, by chance 75.0%" in lines


# --- pictures ------------------------------------------------------------------------------------------------------


def test_the_bars_have_the_heights_of_the_shares():
    shares = {"test": np.array([0.5, 0.25, 0.25]), "samples": np.array([1.0, 0, 0])}
    ax = classes_of_samples(shares, ("a", "b", "c"), "Title").axes[0]
    assert [bar.get_height() for bar in ax.patches] == [0.5, 0.25, 0.25, 1, 0, 0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["all alike", "test", "samples"]


def test_each_sample_stands_above_its_nearest_image():
    train = np.stack([np.full((1, 28, 28), 10 * k, np.uint8) for k in range(20)])
    samples = train[[5, 9, 14]] + np.array([3, 1, 2], np.uint8)[:, None, None, None]
    copies = sq.look_for_copies(samples, train, train[:5])
    figure = nearest_images(samples, train, copies, "Title", "Caption")
    mosaic = figure.axes[0].images[0].get_array()
    shown = (255 * mosaic[14::30, 14::30]).round()
    assert shown.tolist() == [[91, 142, 53], [90, 140, 50], [53, 91, 142], [50, 90, 140]]
