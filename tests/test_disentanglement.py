"""The scores of disentanglement on codes whose scores are known; the report, and the probes."""

import math
from unittest import mock

import numpy as np
import pytest

from vae_common import digits, sprites
from vae_common.data import ImageSet
from vae_common.plots import charts
from vae_measures import disentanglement as dis
from vae_measures import probes

F, Z = 5, 7  # the factors of the sprites, and dimensions: never equal, so that a transposed array does not fit
VOTES, POINTS = 200, 4000


@pytest.fixture(scope="module")
def trials() -> dis.Trials:
    return dis.sample_trials(sprites, np.random.default_rng(0), POINTS, VOTES)


def coded(trials: dis.Trials, code) -> dis.Trials:
    """The trials as seen through `code`, a function of factors (N, F), each standardized, that gives codes (N, Z)."""
    mean, std = trials.points.mean(axis=0), trials.points.std(axis=0)
    return dis.Trials(*(code((part.reshape(-1, F) - mean) / std).reshape(*part.shape[:-1], -1) for part in trials))


def scored(trials: dis.Trials, code) -> dict:
    """All scores but explicitness, whose classifiers take longest and which has a test of its own."""
    with mock.patch.object(dis, "explicitness", lambda mu, classes: math.nan):
        return dis.scores(coded(trials, code), trials.points)


ORDER, SIGNS = [3, 0, 4, 1, 2], np.array([2.0, -0.5, 1.0, -3.0, 0.25])


def perfect(v):
    """Each factor alone in a dimension, permuted and scaled, and two dimensions that hold nothing."""
    return np.concatenate([v[:, ORDER] * SIGNS, np.zeros((len(v), Z - F))], axis=1)


def duplicated(v):
    return np.concatenate([v, -2 * v], axis=1)


def rotated(v):
    """pos_x and pos_y, which have the same distribution, turned by 45 degrees."""
    x, y = v[:, 3], v[:, 4]
    return np.concatenate([v[:, :3], np.stack([x + y, x - y], axis=1) / math.sqrt(2), np.zeros((len(v), 2))], axis=1)


def noise(v):
    return np.random.default_rng(len(v)).standard_normal((len(v), Z))


def constant(v):
    return np.ones((len(v), Z))


@pytest.mark.parametrize("drawer", [digits, sprites], ids=["digits", "sprites"])
def test_trials_hold_one_factor_and_vary_the_others(drawer):
    trials = dis.sample_trials(drawer, np.random.default_rng(1), points=10, votes=40)
    count = len(drawer.FACTOR_NAMES)
    fixed = dis.fixed_factors(40, count)
    assert set(fixed[:20]) == set(fixed[20:]) == set(range(count))
    for vote, factor in enumerate(fixed):
        same = trials.pairs[vote, 0] == trials.pairs[vote, 1]  # (L, F)
        assert same[:, factor].all() and not same.all(axis=0)[np.arange(count) != factor].any()
        assert len(np.unique(trials.pairs[vote, 0, :, factor])) > 1  # pairs differ from one another
        distinct = np.array([len(np.unique(column)) for column in trials.groups[vote].T])
        assert (distinct == 1).tolist() == (np.arange(count) == factor).tolist()
    drawer.draw(trials.groups.reshape(-1, count)[:200])  # raises for a vector that cannot be drawn


def test_codes_keep_the_place_of_their_factors():
    """An encoder that reads two numbers off the image: every axis of the trials must come back in its place."""
    factors = np.arange(3 * 2 * 300 * F, dtype=float).reshape(3, 2, 300, F)  # more than one chunk

    def draw(f):
        return (f[:, :1, None, None] // F % 256).astype(np.uint8).repeat(28, axis=2).repeat(28, axis=3)

    encoders = [lambda x: x[:, 0, :2, 0], lambda x: -x[:, 0, :3, 0]]
    one, other = dis.codes_of(encoders, draw, factors, "none", np.random.default_rng(0))
    expected = (factors[..., 0] // F % 256).astype(np.float32) / np.float32(255)
    assert one.shape == (3, 2, 300, 2) and other.shape == (3, 2, 300, 3)
    np.testing.assert_array_equal(one[..., 1], expected)
    np.testing.assert_array_equal(other[..., 2], -expected)


def test_mutual_information_by_enumeration():
    """p = [[3, 1], [1, 3], [0, 4]] / 12: I = H(a) + H(b) - H(a, b), written out."""
    counts = np.array([[3, 1], [1, 3], [0, 4]])
    a, b = (index.repeat(counts.ravel()) for index in np.indices(counts.shape).reshape(2, -1))
    exact = math.log(3) - (4 / 12 * math.log(4 / 12) + 8 / 12 * math.log(8 / 12))
    exact += 2 * (3 / 12 * math.log(3 / 12) + 1 / 12 * math.log(1 / 12)) + 4 / 12 * math.log(4 / 12)
    assert dis.mutual_information(a, b) == pytest.approx(exact, rel=1e-12)
    assert dis.mutual_information(b, a) == pytest.approx(exact, rel=1e-12)


def test_bins_are_equal_and_hold_their_ends():
    values = np.array([[0.0, 7.0], [0.5, 7.0], [0.95, 7.0], [1.0, 7.0], [0.049, 7.0], [0.051, 7.0]])
    assert dis.in_bins(values).T.tolist() == [[0, 10, 19, 19, 0, 1], [0] * 6]


def test_continuous_factors_are_binned_and_discrete_ones_kept():
    for drawer, counts in ((digits, [10] + [20] * 15), (sprites, [3, 6, 40, 32, 32])):
        classes = dis.as_classes(drawer.sample_factors(10_000, 3))
        assert [len(np.unique(column)) for column in classes.T] == counts
        entropies = [dis.mutual_information(column, column) for column in classes.T]
        assert entropies == pytest.approx(np.log(counts), abs=0.005)  # bias -(count - 1) / 2N, at most -0.002


def test_perfect_code_has_full_scores(trials):
    """With 10,000 points each value of a factor is in more than 20 images of the half that forests are grown on, so
    every leaf is pure and no tree ever looks at another dimension."""
    codes, fixed = coded(trials, perfect), dis.fixed_factors(VOTES, F)
    assert dis.beta_vae_score(codes.pairs, fixed) == 1
    assert dis.factor_vae_score(codes.groups, fixed, codes.points.std(axis=0)) == 1
    factors = sprites.sample_factors(10_000, 2)
    assert dis.dci(perfect(factors), dis.as_classes(factors)) == pytest.approx((1, 1, 1), abs=1e-12)


def test_a_copy_of_each_dimension_makes_the_mig_zero(trials):
    """The others do not mind for which of the two dimensions, except completeness: ln 2 of ln 2F is lost."""
    found = scored(trials, duplicated)
    assert found["MIG"] < 0.01  # not 0: the copy counts down, so that edges of bins fall elsewhere
    assert dis.mig(dis.information(np.tile(trials.points, 2), dis.as_classes(trials.points))) == 0
    assert found["beta-VAE score"] == found["FactorVAE score"] == 1
    assert found["DCI disentanglement"] == pytest.approx(1, abs=0.005)  # a few leaves hold two of 40 orientations
    # Each of ten trees picks one of the two at each split, so shares are not exactly equal.
    assert found["DCI completeness"] == pytest.approx(1 - math.log(2) / math.log(2 * F), abs=0.02)


def test_rotated_code(trials):
    """Two of five factors mixed: a linear or a majority vote can only guess which of the two was fixed, 4/5 in all.

    The two dimensions have the same mutual information with each: their gap is 0. DCI loses ln 2 of ln F for them,
    and ln 2 of ln Z in completeness.
    """
    found, plain = scored(trials, rotated), scored(trials, perfect)
    error = math.sqrt(0.25 / (VOTES / 2 * 2 / 5)) * 2 / 5  # of VOTES / 2 votes two fifths are coin tosses
    assert found["beta-VAE score"] == pytest.approx(0.8, abs=3 * error)
    assert found["FactorVAE score"] == pytest.approx(0.8, abs=3 * error)
    share = np.array(found["information"])
    assert np.abs(share[3:, 3] - share[3:, 4]).max() < 0.02
    gaps = np.diff(np.sort(np.array(plain["information"]), axis=1), axis=1)[:, -1]
    assert found["MIG"] == pytest.approx(gaps[:3].sum() / F, abs=0.02) and found["MIG"] < plain["MIG"] - 0.3
    # The trees stop at 20 images in a leaf, before they have looked at both dimensions as much: 0.05.
    assert found["DCI disentanglement"] == pytest.approx(3 / 5 + 2 / 5 * (1 - math.log(2) / math.log(F)), abs=0.05)
    assert found["DCI completeness"] == pytest.approx(3 / 5 + 2 / 5 * (1 - math.log(2) / math.log(Z)), abs=0.05)


def test_sap_counts_what_the_best_dimension_has_over_the_second(trials):
    """Alone in its dimension, a shape is told without error where the others guess one of three, and R^2 is 1 where
    theirs is 0. Turned by 45 degrees, two dimensions have half of the variance of each position."""

    def sap_of(code):
        return dis.sap(coded(trials, code).points, trials.points)

    guess = np.bincount(trials.points[POINTS // 2 :, 0].astype(int)).max() / (POINTS / 2)
    error = 2 / POINTS**0.5  # of R^2 = 0, far more than its mean of 1 / N
    assert sap_of(perfect) == pytest.approx((4 + 1 - guess) / F, abs=error)
    assert sap_of(rotated) == pytest.approx((2 + 1 - guess) / F, abs=error)
    assert sap_of(duplicated) == pytest.approx(0, abs=1e-12)
    late = trials.points.copy()
    late[POINTS // 2 :, 0] = (late[POINTS // 2 :, 0] + 1) % 3  # what was learnt is wrong in the second half
    assert dis.sap(late, trials.points) == pytest.approx(4 / F, abs=error)
    assert sap_of(constant) == 0


def test_explicitness_does_not_mind_the_axes(trials):
    classes = dis.as_classes(trials.points)[:1000]

    def explicitness_of(code):
        return dis.explicitness(coded(trials, code).points[:1000], classes)

    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((F, F)))
    plain, turned = explicitness_of(lambda v: v), explicitness_of(lambda v: v @ turn)
    assert plain > 0.8 and turned == pytest.approx(plain, abs=0.01)  # the probe's penalty is no rotation's
    assert explicitness_of(constant) == 0
    assert explicitness_of(noise) == pytest.approx(0, abs=0.1)  # of 500 images, 15 of a position


def test_information_without_bins_against_quadrature():
    """Forty posteriors in one dimension, half of them of each value of a factor: I(v; z) by a sum over a grid."""
    rng = np.random.default_rng(0)
    classes = np.arange(40)[:, None] % 2
    mu, logvar = rng.normal(size=(40, 1)) + 1.5 * classes, rng.uniform(-2, 0, (40, 1))
    grid = np.linspace(-9, 10, 4001)
    each = np.exp(-0.5 * (grid - mu) ** 2 / np.exp(logvar)) / np.sqrt(2 * np.pi * np.exp(logvar))
    q = each.mean(axis=0)
    given = [each[classes[:, 0] == value].mean(axis=0) for value in (0, 1)]
    exact = sum(0.5 * (p * np.log(p / q)).sum() for p in given) * (grid[1] - grid[0]) / math.log(2)
    repeats = 300
    z = mu + np.exp(0.5 * logvar) * rng.standard_normal((repeats, 40, 1))
    found = [dis.information_without_bins(mu, logvar, one, classes)[0, 0] for one in z]
    assert np.mean(found) == pytest.approx(exact, abs=4 * np.std(found) / repeats**0.5)


def test_mig_of_independent_factors_and_of_one_with_a_copy():
    """Factors of 3, 4 and 5 values in every combination: exactly independent, and fewer than the bins. With wide gaps
    between the codes of different values and narrow posteriors, bins and densities tell the same."""
    factors = np.tile(np.indices((3, 4, 5)).reshape(3, -1).T, (10, 1)).astype(float)
    mu = np.concatenate([0.1 - 3 * factors[:, [2, 0, 1]], np.ones((600, 1))], axis=1)
    assert dis.mig(dis.information(mu, dis.as_classes(factors))) == pytest.approx(1, abs=1e-12)
    mu = np.concatenate([factors, 1e-3 * factors[:, :1]], axis=1)
    found = dis.mig_by_choice(mu, np.full_like(mu, -12.0), factors, np.random.default_rng(0))
    assert found.pop("without unused dimensions") == pytest.approx(1, abs=1e-12)  # the copy hardly varies
    assert found.pop("samples of q(z|x) in 20") > 0.7  # where the noise is wider than the copy
    assert found.pop("densities of q(z|x)") > 0.7
    assert found == pytest.approx(dict.fromkeys(("mu in 20 bins", "in 10", "in 100"), 2 / 3), abs=1e-12)


@pytest.mark.parametrize("code", [constant, noise])
def test_useless_codes_score_at_chance(trials, code):
    found = scored(trials, code)
    # 1/F with 100 votes: three standard errors; exactly 1/F where every vote is answered alike.
    error = 0 if code is constant else 3 * math.sqrt(0.16 / (VOTES / 2))
    assert found["beta-VAE score"] == pytest.approx(1 / F, abs=error)
    assert found["FactorVAE score"] == pytest.approx(1 / F, abs=error)
    for name in ("MIG", "DCI disentanglement", "DCI completeness"):
        assert 0 <= found[name] <= (0 if code is constant else 0.02), name
    chance = np.mean([1 / 3, 1 / 6, 1 / 40, 1 / 32, 1 / 32])
    assert found["DCI informativeness"] == pytest.approx(chance, abs=0.02)


def test_one_dimension_is_enough_for_all_scores(trials):
    """Z = 1: the scale alone. It is told apart from the rest, and no other gap is there to subtract."""
    found = scored(trials, lambda v: v[:, 1:2])
    assert found["MIG"] == pytest.approx(1 / F, abs=0.01)
    assert found["FactorVAE score"] == 1 / F
    assert found["DCI completeness"] == 1


def test_a_dimension_that_hardly_varies_is_left_out(trials):
    """A dimension of std 0.049 that is constant in every group would win all votes; at 0.051 it does."""
    codes = coded(trials, perfect)
    groups = np.concatenate([np.zeros((VOTES, dis.SIZE, 1)), codes.groups], axis=2)
    for first, expected in ((0.049, 1), (0.051, 1 / F)):
        std = np.concatenate([[first], codes.points.std(axis=0)])
        assert dis.factor_vae_score(groups, dis.fixed_factors(VOTES, F), std) == expected


def centre_and_ink(x):
    """What an encoder of three dimensions might learn."""
    x, pixel = x[:, 0].astype(np.float64), np.arange(28.0)
    ink = x.sum(axis=(1, 2))
    across, down = (x.sum(axis=1) @ pixel) / ink, (x.sum(axis=2) @ pixel) / ink
    return np.stack([across, down, np.sqrt(ink)], axis=1)


def test_report_holds_the_untrained_encoder_beside_the_trained():
    """Both see the same images, and the unit of the untrained one, 1e-4 here, does not silence its dimensions."""
    encoders = {"trained": centre_and_ink, "untrained": lambda x: 1e-4 * centre_and_ink(x)[:, ::-1]}
    found = dis.report(sprites, encoders, "none", np.random.default_rng(0), points=1000, votes=60)
    assert list(found) == ["trained", "untrained"]
    for name in ("beta-VAE score", "FactorVAE score", "MIG"):
        assert found["untrained"][name] == pytest.approx(found["trained"][name], abs=0.04), name
    for name, places in (("trained", [2, 0, 1]), ("untrained", [0, 2, 1])):
        share = np.array(found[name]["information"])
        assert share.shape == (F, 3) and share.argmax(axis=1)[[1, 3, 4]].tolist() == places
    lines = dis.table(found).splitlines()
    assert lines[0].split() == ["trained", "untrained"] and len(lines) == 9
    assert lines[1].split()[-2:] == [f"{one['beta-VAE score']:.3f}" for one in found.values()]


def test_matrix_is_drawn_with_factors_down_and_dimensions_across():
    share = np.zeros((F, 25))
    share[1, 22] = 0.75
    figure = charts.factor_matrices({"trained": share, "untrained": share / 2}, sprites.FACTOR_NAMES, "Title")
    left, right, _ = figure.axes
    shown = left.images[0].get_array()
    row, column = np.unravel_index(shown.argmax(), shown.shape)
    assert left.get_yticklabels()[row].get_text() == "scale" and left.get_xticklabels()[column].get_text() == "22"
    assert right.images[0].get_array().max() == 0.375
    for wrong in (share.T, share * 2, share - 1):
        with pytest.raises(ValueError, match="trained: expected"):
            charts.factor_matrices({"trained": wrong}, sprites.FACTOR_NAMES, "Title")


def test_probes_on_codes_with_known_accuracy():
    """Ten clusters far apart are told without error; labels that the codes do not know are guessed."""
    rng = np.random.default_rng(0)
    labels, test_labels = np.arange(600) % 10, np.arange(300) % 10
    centres = 100 * rng.standard_normal((10, 4))
    codes, test_codes = (centres[y] + rng.standard_normal((len(y), 4)) for y in (labels, test_labels))
    assert probes.accuracies(codes, labels, test_codes, test_labels) == {"linear": 1, "neighbours": 1}
    useless = probes.accuracies(rng.standard_normal((600, 4)), labels, test_codes * 0, test_labels)
    assert useless == pytest.approx({"linear": 0.1, "neighbours": 0.1}, abs=1e-12)  # one answer for all
    rings = np.stack([np.cos(codes[:, 0]), np.sin(codes[:, 0])], axis=1) * (1 + np.arange(600) % 2)[:, None]
    found = probes.accuracies(rings[:400], labels[:400] % 2, rings[400:], labels[400:] % 2)
    assert found["neighbours"] > 0.95 and found["linear"] < 0.65  # a ring around a ring is not linear


def test_probe_sets_codes_beside_pca_and_pixels(digits):
    train = ImageSet("digits", "train", digits.images[:600], digits.labels[:600], digits.class_names)
    test = ImageSet("digits", "test", digits.images[600:900], digits.labels[600:900], digits.class_names)

    def by_heart(known):
        """An encoder that says the class of the images it knows, and nothing of others."""
        table = {(image / np.float32(255)).tobytes(): y for image, y in zip(known.images, known.labels, strict=True)}
        return lambda x: np.eye(11)[[table.get(image.tobytes(), 10) for image in x]][:, :10]

    found = probes.probe(by_heart(digits), by_heart(train), train, test, "none", 0)
    assert list(found) == ["mu", "mu, untrained", "PCA, 10", "pixels, 784"]
    assert found["mu"] == {"linear": 1, "neighbours": 1}
    assert max(found["mu, untrained"].values()) < 0.2 < 0.6 < min(found["PCA, 10"].values())
    assert found["pixels, 784"]["linear"] > 0.75
    assert "  mu                       1.000         1.000" in probes.table(found)
