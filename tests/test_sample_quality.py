"""What is said of samples: distances against closed forms, shares against enumeration, copies that were planted."""

import numpy as np
import pytest
import torch

from synthetic_mnist import synthetic_images
from vae_common.data import ImageSet, binarize
from vae_common.evaluation import Evaluation
from vae_measures import sample_quality as sq
from vae_plots.evaluation import nearest_images


def rng(seed=0) -> np.random.Generator:
    return np.random.default_rng(seed)


def images(count: int, seed=0) -> np.ndarray:
    return rng(seed).integers(0, 256, (count, 1, 28, 28), dtype=np.uint8)


def with_moments(mean: np.ndarray, covariance: np.ndarray, count=50, seed=0) -> np.ndarray:
    """Points whose sample mean and covariance are these to rounding."""
    x = rng(seed).normal(size=(count, len(mean)))
    x = (x - x.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(x, rowvar=False)))).T
    return mean + x @ np.linalg.cholesky(covariance).T


def covariance(seed: int, D=3) -> np.ndarray:
    root = rng(seed).normal(size=(D, D))
    return root @ root.T + 0.1 * np.eye(D)


def test_the_distance_of_known_moments():
    """tr (S_a^1/2 S_b S_a^1/2)^1/2 is the sum of the roots of the eigenvalues of S_a S_b, which has the same ones. A
    shift adds its squared length."""
    S_a, S_b = covariance(3), covariance(4)
    exact = np.trace(S_a + S_b) - 2 * np.sqrt(np.linalg.eigvals(S_a @ S_b).real).sum()
    assert exact > 0.1
    a, shift = with_moments(np.ones(3), S_a), np.array([1.0, -2.0, 0.5])
    for b, distance in (
        (with_moments(np.ones(3), S_b, seed=1), exact),
        (with_moments(1 + shift, S_b, seed=1), exact + 5.25),
        (with_moments(1 + shift, S_a, seed=1), 5.25),
    ):
        assert sq.frechet_distance(a, b) == pytest.approx(distance, rel=1e-10, abs=1e-10)
        assert sq.frechet_distance(b, a) == pytest.approx(distance, rel=1e-10, abs=1e-10)
    one = with_moments(np.array([2.0]), np.array([[9.0]]))
    assert sq.frechet_distance(one, with_moments(np.zeros(1), np.eye(1))) == pytest.approx(4 + 4, rel=1e-10)
    few = rng().normal(size=(3, 8)).astype(np.float32)  # fewer images than features
    assert sq.frechet_distance(few, few) == pytest.approx(0, abs=1e-6)  # roots of eigenvalues of 1e-16 instead of 0


def test_classes_by_enumeration():
    guess, reference = np.array([0, 0, 0, 2]), np.array([0, 0, 1, 1, 1, 1])
    np.testing.assert_allclose(sq.class_shares(guess, 4), [3 / 4, 0, 1 / 4, 0])
    p, q = np.array([4 / 8, 1 / 8, 2 / 8, 1 / 8]), np.array([3 / 10, 5 / 10, 1 / 10, 1 / 10])
    assert sq.class_kl(guess, reference, 4) == pytest.approx((p * np.log(p / q)).sum())


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


def a_model(pixels, conditional=False, data: ImageSet | None = None) -> Evaluation:
    """A measured model of Z = 3 whose decoder answers with these pixel means for its M codes."""
    data = data or ImageSet("digits", "test", images(40), np.arange(40) % 10, tuple("0123456789"))
    codes = np.zeros((len(data), 3), np.float32)
    terms = dict(x=None, recon=None, kl=None)  # which samples of the prior do not need
    return Evaluation(
        data, "none", "bernoulli", eps=codes, decode=pixels, mu=codes, logvar=codes, conditional=conditional, **terms
    )


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
def bars() -> tuple[ImageSet, ImageSet]:
    """600 images to train on and 200 to test on: bars in ten places."""
    x, y = synthetic_images(800, seed=0)
    parts = {"train": slice(600), "test": slice(600, 800)}
    labels, names = y.astype(np.int64), tuple("0123456789")
    return tuple(ImageSet("bars", split, x[part, None], labels[part], names) for split, part in parts.items())


@pytest.fixture(scope="module")
def classifier(bars) -> sq.Classifier:
    return sq.train_classifier(bars[0].images, bars[0].labels, 10, seed=0)


def test_the_classifier_is_seeded_and_learns(bars, classifier):
    once, again, other = (
        sq.train_classifier(bars[0].images[:64], bars[0].labels[:64], 10, seed).logits.weight for seed in (0, 0, 4)
    )
    assert torch.equal(once, again) and not torch.equal(once, other)
    seen = sq.look(classifier, bars[1].images)
    assert (seen.guess == bars[1].labels).all()
    assert seen.features.shape == (200, 128)
    expected = classifier(torch.from_numpy(bars[1].images) / 255).softmax(dim=1).detach()
    torch.testing.assert_close(torch.from_numpy(seen.probability), expected)


def test_report_tells_a_copying_model_from_one_that_draws_one_class(bars, classifier, monkeypatch):
    """And each of its figures is what it is called, recomputed from the images and what the classifier said."""
    (train, test), order = bars, rng().permutation(600)
    x, y = train.images / np.float32(255), train.labels
    trainings, looked, look = [], [], sq.look
    monkeypatch.setattr(sq, "look", lambda *args: looked.append((args[1], look(*args))) or looked[-1][1])
    monkeypatch.setattr(sq, "train_classifier", lambda *args: trainings.append(args) or classifier)

    def copies(z):
        return x[order[: len(z)]]

    def ones(z):
        return x[y == 1][np.arange(len(z)) % 60] * np.float32(0.95)

    found = {}
    for name, decode in (("good", copies), ("poor", ones)):
        looked.clear()
        figures, shown = sq.report(a_model(decode, data=test), train, sq.classifier_of(train, "none", 0), "none", 0)
        found[name] = dict(figures)
        (samples, _), (of_train, _), (noise, _), (of_test, _) = looked
        seen = {key: one for key, (_, one) in zip(("samples", "train", "noise", "test"), looked, strict=True)}
        np.testing.assert_array_equal(samples, np.floor(255 * decode(np.zeros(200)) + 0.5))
        assert {image.tobytes() for image in of_train} <= {image.tobytes() for image in train.images}
        assert noise.std() > 70 and of_test is test.images  # uniform noise has 74
        guess = {key: seen[key].probability.argmax(axis=1) for key in ("test", "samples")}
        share = {key: np.bincount(value, minlength=10) / 200 for key, value in guess.items()}
        assert figures.pop("count") == 200
        assert figures.pop("classifier_accuracy") == (guess["test"] == test.labels).mean()
        assert figures.pop("class_shares") == {key: pytest.approx(value) for key, value in share.items()}
        assert figures.pop("class_kl") == sq.class_kl(guess["samples"], guess["test"], 10)
        confident = {key: (np.sort(one.probability)[:, -1] >= 0.9).mean() for key, one in seen.items()}
        assert figures.pop("recognised_with_confidence") == pytest.approx(confident)
        real = seen["test"].features
        expected = {key: sq.frechet_distance(seen[key].features, real) for key in ("samples", "train", "noise")}
        assert figures.pop("frechet_distance") == pytest.approx(expected, rel=1e-5)  # roots of eigenvalues near 0
        near, near_test = (sq.nearest(samples, some.images)[0] for some in (train, test))
        medians = {"samples": np.median(near), "test": np.median(sq.nearest(test.images, train.images)[0])}
        assert figures.pop("nearest_training_image") == pytest.approx(medians)
        nearer = figures.pop("nearer_to_train")
        assert nearer["share"] == (near < near_test).mean() and nearer["expected"] == 0.75
        assert (nearer["error"], nearer["telling"]) == (shown["copies"].error, shown["copies"].telling)
        assert figures == {}
    assert all(images is train.images and seed == 0 for images, _, _, seed, _ in trainings)

    good, poor = found["good"], found["poor"]
    assert good["nearer_to_train"]["share"] == poor["class_shares"]["samples"][1] == 1
    assert good["nearest_training_image"]["samples"] < 0.15 < 1 < good["nearest_training_image"]["test"]
    assert good["class_kl"] < 0.05 and poor["class_kl"] > 1.5
    near, far = good["frechet_distance"], poor["frechet_distance"]
    assert max(near["samples"], near["train"]) < 0.1 * min(near["noise"], far["samples"])
    assert far["train"] == near["train"]  # the same reference for any model
    assert f"{near['samples']:.1f}" in sq.table(good) and "100.0%, by chance 75.0%" in sq.table(good)


def test_how_often_the_class_asked_for_is_recognised(bars, classifier, monkeypatch):
    """A conditional model that draws the class asked for where z[0] > 0, else the next one."""
    (train, test), right = bars, []
    monkeypatch.setattr(sq, "train_classifier", lambda *args: classifier)
    one_of_each = test.images[[np.flatnonzero(test.labels == k)[0] for k in range(10)]] / np.float32(255)

    def decode(z, y):
        right.extend(z[:, 0] > 0)
        return one_of_each[np.where(z[:, 0] > 0, y, (y + 1) % 10)]

    model, judge = a_model(decode, conditional=True, data=test), sq.classifier_of(train, "none", 0)
    figures, _ = sq.report(model, train, judge, "none", 0)
    assert figures["recognised_as_asked"] == np.mean(right) and 0.3 < np.mean(right) < 0.7
    assert f"recognised as the class asked for         {np.mean(right):9.1%}" in sq.table(figures)


def test_each_sample_stands_above_its_nearest_image():
    train = np.stack([np.full((1, 28, 28), 10 * k, np.uint8) for k in range(20)])
    samples = train[[5, 9, 14]] + np.array([3, 1, 2], np.uint8)[:, None, None, None]
    copies = sq.look_for_copies(samples, train, train[:5])
    figure = nearest_images(samples, train, copies, "Title", "Caption")
    mosaic = figure.axes[0].images[0].get_array()
    shown = (255 * mosaic[14::30, 14::30]).round()
    assert shown.tolist() == [[91, 142, 53], [90, 140, 50], [53, 91, 142], [50, 90, 140]]
