"""Which latent dimension follows which true factor: scores of disentanglement, of arrays.

`digits` and `sprites` are drawn from known factors, so one can ask whether each dimension of mu, the posterior mean,
follows one factor and leaves the others alone. The scores disagree, and some are easy: a random projection of the
image gets far above chance. So every score is shown beside that of an untrained encoder of the same architecture.

All are functions of arrays: codes `mu` of images, and what is known about their factors. The images are drawn
afresh, since two of the scores need many that share a factor.

Axes: N images, F factors, Z latent dimensions, V votes, L images or pairs of images in one vote.
"""

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from vae_common.data import binarize
from vae_measures.rate_parts import log_marginals

POINTS, VOTES, SIZE = 10_000, 800, 64  # images for MIG and DCI; votes for the other two; images or pairs in a vote
BINS = 20  # of a latent dimension, and of a factor that is not discrete
MOST_VALUES = 64  # a factor with more distinct values than this counts as continuous
SILENT = 0.05  # a dimension whose standard deviation over the data is smaller is left out of the FactorVAE score
DENSITIES = 2000  # codes at which the densities of a MIG without bins are taken
TREES, LEAF = 10, 20  # of the forests that DCI is read from: their number, and images in a leaf at the least
CHUNK = 512  # images drawn and encoded at once

Encoder = Callable[[np.ndarray], np.ndarray]  # images (B, 1, 28, 28) in [0, 1] -> mu (B, Z)

# --- which images are asked for -----------------------------------------------------------------------------------


class Trials(NamedTuple):
    """What the scores are computed from: the factors of images, the last axis F, or their codes, the last axis Z."""

    points: np.ndarray  # (N, .) independent images
    pairs: np.ndarray  # (V, 2, L, .) pair l of vote v is [v, 0, l] and [v, 1, l], with one factor in common
    groups: np.ndarray  # (V, L, .) L images with one factor in common


def fixed_factors(votes: int, factors: int) -> np.ndarray:
    """Which factor (V,) is held fixed in each vote: in turn, so both halves of the votes hold each equally often."""
    return np.arange(votes) % factors


def sample_trials(drawer: ModuleType, rng: np.random.Generator, points: int = POINTS, votes: int = VOTES) -> Trials:
    """Factor vectors as `drawer`, digits or sprites, samples them, with the fixed factor of each vote overwritten."""

    def sample(*shape: int) -> np.ndarray:
        return drawer.sample_factors(int(np.prod(shape)), int(rng.integers(2**32))).reshape(*shape, -1)

    pairs, groups = sample(votes, 2, SIZE), sample(votes, SIZE)
    vote, fixed = np.arange(votes), fixed_factors(votes, pairs.shape[-1])
    pairs[vote, 1, :, fixed] = pairs[vote, 0, :, fixed]  # each pair has a value of its own
    groups[vote, :, fixed] = groups[vote, :1, fixed]  # all L images have the value of the first
    return Trials(sample(points), pairs, groups)


def codes_of(
    encoders: Sequence[Encoder], draw: Callable, factors: np.ndarray, binarization: str, rng: np.random.Generator
) -> list[np.ndarray]:
    """The codes (..., Z) that each encoder gives the same images, drawn from factors (..., F) and binarized."""
    flat, codes = factors.reshape(-1, factors.shape[-1]), []
    for start in tqdm(range(0, len(flat), CHUNK), "drawing and encoding", disable=None, leave=False):
        x = binarize(draw(flat[start : start + CHUNK]), binarization, rng)
        codes.append([encode(x) for encode in encoders])
    return [np.concatenate(one).reshape(*factors.shape[:-1], -1) for one in zip(*codes, strict=True)]


# --- a classifier's view: which factor was held fixed? ------------------------------------------------------------


def beta_vae_score(pairs: np.ndarray, fixed: np.ndarray) -> float:
    """How often a linear classifier names the factor fixed (V,) that the pairs of codes (V, 2, L, Z) share.

    It sees the mean of |mu1 - mu2| over the L pairs, which is small in the dimensions that follow that factor. Trained
    on the first half of the votes, accuracy in [0, 1] on the second. Dimensions are standardized first, so their units
    do not matter. Chance is 1/F. Higgins et al. 2017.
    """
    features = np.abs(pairs[:, 0] - pairs[:, 1]).mean(axis=1, dtype=np.float64)  # (V, Z)
    half = len(fixed) // 2
    classifier = linear_probe(max_iter=5000).fit(features[:half], fixed[:half])
    return float(classifier.score(features[half:], fixed[half:]))


def linear_probe(**settings):
    """Logistic regression of standardized columns."""
    return make_pipeline(StandardScaler(), LogisticRegression(**settings))


def factor_vae_score(groups: np.ndarray, fixed: np.ndarray, std: np.ndarray) -> float:
    """How often the dimension that varies least tells which factor fixed (V,) the codes of a group (V, L, Z) share.

    Variances are divided by those of all data, std (Z,) squared, and the dimension with the least casts the vote:
    for the factor that was fixed most often when it did so in the first half of the votes. Accuracy in [0, 1] on the
    second half. Dimensions of std < 0.05 take no part: the prior's is 1, so they are unused. Chance is 1/F.
    Kim & Mnih 2018.
    """
    heard = std >= SILENT
    variance = groups.var(axis=1, ddof=1, dtype=np.float64) / np.where(heard, std, 1) ** 2  # (V, Z)
    least = np.where(heard, variance, np.inf).argmin(axis=1)
    half = len(fixed) // 2
    votes = np.zeros((len(std), fixed.max() + 1), int)
    np.add.at(votes, (least[:half], fixed[:half]), 1)
    return float((votes.argmax(axis=1)[least[half:]] == fixed[half:]).mean())


# --- the view of information theory -------------------------------------------------------------------------------


def in_bins(values: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Columns of values (N, K) -> the number (N, K) of the bin, of `bins` equal ones between its least and largest."""
    low, high = values.min(axis=0), values.max(axis=0)
    share = (values.astype(np.float64) - low) / np.where(high > low, high - low, 1)
    return np.minimum((bins * share).astype(int), bins - 1)


def as_classes(factors: np.ndarray) -> np.ndarray:
    """Factors (N, F) -> whole numbers (N, F): a discrete factor keeps its values, a continuous one is put in 20 bins.

    All of the sprites and the digits' class are discrete. The others are uniform, so their bins are equally probable
    and their entropy is close to ln 20, whatever their unit.
    """
    columns = []
    for column, binned in zip(factors.T, in_bins(factors).T, strict=True):
        values, index = np.unique(column, return_inverse=True)
        columns.append(index if len(values) <= MOST_VALUES else binned)
    return np.stack(columns, axis=1)


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """I(a; b) = sum p(a, b) ln[p(a, b) / (p(a) p(b))] >= 0 in nats, of the frequencies of whole numbers a, b (N,).

    It is at most the smaller entropy, and I(a; a) is the entropy of a. Of independent samples it is not 0, but about
    (values of a - 1)(values of b - 1) / 2N.
    """
    counts = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(counts, (a, b), 1)
    joint = counts / len(a)
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
    some = joint > 0
    return max(0.0, float((joint[some] * np.log(joint[some] / apart[some])).sum()))


def information(mu: np.ndarray, classes: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The share (F, Z) of each factor's entropy that each dimension tells: I(factor; mu in bins) / H(factor)."""
    binned = in_bins(mu, bins)
    return np.array([[mutual_information(v, z) / mutual_information(v, v) for z in binned.T] for v in classes.T])


def mig(share: np.ndarray) -> float:
    """Mutual information gap in [0, 1]: the largest share (F, Z) in a row less the second, mean over the rows.

    `share` is what `information` returns. 1 when one dimension alone tells each factor; with copies of those dimensions
    beside them it is 0. Chen et al. 2018.
    """
    return float(gaps(share).mean())


def gaps(values: np.ndarray) -> np.ndarray:
    """The largest of each row of values (F, Z) >= 0 less the second: (F,); what is not there counts as 0."""
    ranked = np.sort(np.pad(values, ((0, 0), (2, 0))), axis=1)
    return ranked[:, -1] - ranked[:, -2]


def information_without_bins(mu: np.ndarray, logvar: np.ndarray, z: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The share (F, Z) of each factor's entropy that a sample of each dimension tells, from the densities of q(z|x).

    I(v; z_d) is the mean of log q(z_d|v) - log q(z_d), where both are means of the posteriors mu, logvar (N, Z) of
    images, of those with the value v or of all; taken at the first 2,000 of their samples z (N, Z). Chen et al. 2018.
    """
    of, shares = np.arange(min(len(z), DENSITIES)), []
    log_q = log_marginals(z[of], of, mu, logvar)
    for column in classes.T:
        given = np.empty_like(log_q)
        for value in np.unique(column[of]):
            like, here = np.flatnonzero(column == value), np.flatnonzero(column[of] == value)
            given[here] = log_marginals(z[here], np.searchsorted(like, here), mu[like], logvar[like])
        shares.append((given - log_q).mean(axis=0) / mutual_information(column, column))
    return np.clip(shares, 0, 1)


def mig_by_choice(mu: np.ndarray, logvar: np.ndarray, factors: np.ndarray, rng: np.random.Generator) -> dict:
    """The MIG of posteriors mu, logvar (N, Z) of images of these factors (N, F), as different publications take it.

    The first is the one of `scores`.
    """
    classes, used = as_classes(factors), mu.std(axis=0, dtype=np.float64) >= SILENT
    z = mu + np.exp(0.5 * logvar) * rng.standard_normal(mu.shape)
    shares = {
        f"mu in {BINS} bins": information(mu, classes),
        "in 10": information(mu, classes, 10),
        "in 100": information(mu, classes, 100),
        "without unused dimensions": information(mu[:, used], classes),
        f"samples of q(z|x) in {BINS}": information(z, classes),
        "densities of q(z|x)": information_without_bins(mu, logvar, z, classes),
    }
    return {name: mig(share) for name, share in shares.items()}


# --- the view of regression ---------------------------------------------------------------------------------------


def sap(mu: np.ndarray, factors: np.ndarray) -> float:
    """Separated attribute predictability in [0, 1]: how much better the best dimension of mu (N, Z) predicts a factor
    than the second, mean over factors (N, F).

    By the R^2 of a line; for the first factor, the class or the shape, whose values have no order, by the accuracy of
    a linear classifier on the second half of the images. A dimension that does not vary predicts nothing. Kumar,
    Sattigeri & Balakrishnan 2018.
    """
    half, columns = len(mu) // 2, StandardScaler().fit_transform(mu.astype(np.float64))
    predicts = (StandardScaler().fit_transform(factors).T @ columns / len(mu)) ** 2  # (F, Z)
    for dim, varies in enumerate(varying(mu)):
        probe = linear_probe().fit(columns[:half, [dim]], factors[:half, 0])
        predicts[0, dim] = probe.score(columns[half:, [dim]], factors[half:, 0]) if varies else 0
    return float(gaps(predicts).mean())


def varying(mu: np.ndarray) -> np.ndarray:
    """Which dimensions of mu (N, Z) vary at all: (Z,)."""
    return mu.std(axis=0, dtype=np.float64) > 1e-6


def explicitness(mu: np.ndarray, classes: np.ndarray) -> float:
    """How well a linear probe of all of mu (N, Z) tells each value of each factor from the others, in classes (N, F).

    2 AUC - 1 on the second half of the images, mean over values and factors: 0 at chance, 1 without error. Ridgeway &
    Mozer 2018. It does not ask on which axes the factors lie.
    """
    mu, half, by_factor = mu[:, varying(mu)], len(mu) // 2, []
    if mu.shape[1] == 0:
        return 0.0
    for target in classes.T:
        probe = linear_probe(tol=1e-3).fit(mu[:half], target[:half])
        columns = zip(probe.classes_, probe.predict_proba(mu[half:]).T, strict=True)
        areas = [roc_auc_score(target[half:] == value, p) for value, p in columns if value in target[half:]]
        by_factor.append(2 * np.mean(areas) - 1)
    return float(np.mean(by_factor))


def dci(mu: np.ndarray, classes: np.ndarray) -> tuple[float, float, float]:
    """Disentanglement, completeness and informativeness, each in [0, 1], of codes (N, Z) and classes (N, F).

    A random forest predicts each factor from mu; its importances R (F, Z) say what it looked at. Disentanglement: how
    much the columns of R are about one factor, weighted by their sums. Completeness: how much the rows are about one
    dimension. Informativeness: accuracy on the second half of the images, mean over the factors. Eastwood & Williams
    2018; their forests are regressors. Figures from other estimators, as boosted trees, are not comparable.
    """
    half, importances, accuracies = len(mu) // 2, [], []
    for target in classes.T:
        forest = RandomForestClassifier(TREES, min_samples_leaf=LEAF, max_features=None, random_state=0)
        forest.fit(mu[:half], target[:half])
        importances.append(forest.feature_importances_)
        accuracies.append(forest.score(mu[half:], target[half:]))
    R = np.array(importances)  # (F, Z)
    weights = R.sum(axis=0) / max(R.sum(), 1e-12)
    disentanglement, completeness = weights @ one_sidedness(R.T), one_sidedness(R).mean()
    return float(disentanglement), float(completeness), float(np.mean(accuracies))


def one_sidedness(weights: np.ndarray) -> np.ndarray:
    """1 - H(row) / ln K for each row (M,) of weights (M, K) >= 0: 1 when one holds all, 0 when equal or all zero."""
    total = weights.sum(axis=1, keepdims=True)
    p = weights / np.where(total > 0, total, 1)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1)
    return np.where(total[:, 0] > 0, 1 - entropy / max(np.log(weights.shape[1]), 1e-12), 0)


# --- the report ---------------------------------------------------------------------------------------------------


def scores(codes: Trials, factors: np.ndarray) -> dict[str, float | list]:
    """All scores of codes, whose points have these factors (N, F), and the (F, Z) matrix of `information`."""
    fixed, classes = fixed_factors(len(codes.groups), factors.shape[1]), as_classes(factors)
    share = information(codes.points, classes)
    disentanglement, completeness, informativeness = dci(codes.points, classes)
    return {
        "beta-VAE score": beta_vae_score(codes.pairs, fixed),
        "FactorVAE score": factor_vae_score(codes.groups, fixed, codes.points.std(axis=0, dtype=np.float64)),
        "MIG": mig(share),
        "DCI disentanglement": disentanglement,
        "DCI completeness": completeness,
        "DCI informativeness": informativeness,
        "SAP": sap(codes.points, factors),
        "explicitness": explicitness(codes.points, classes),
        "information": share.tolist(),
    }


def report(
    drawer: ModuleType,
    encoders: Mapping[str, Encoder],
    binarization: str,
    rng: np.random.Generator,
    points: int = POINTS,
    votes: int = VOTES,
) -> dict[str, dict]:
    """The scores of each encoder, by name, all on the same freshly drawn images.

    Nothing has set the unit of codes that are not "trained": they are taken `in_units`.
    """
    trials = sample_trials(drawer, rng, points, votes)
    codes = zip(
        *[codes_of(list(encoders.values()), drawer.draw, part, binarization, rng) for part in trials], strict=True
    )
    by_name = {name: Trials(*parts) for name, parts in zip(encoders, codes, strict=True)}
    return {name: scores(of if name == "trained" else in_units(of), trials.points) for name, of in by_name.items()}


def in_units(codes: Trials) -> Trials:
    """The codes scaled to a largest std of 1, as a prior would have done."""
    unit = max(codes.points.std(axis=0).max(), 1e-12)
    return Trials(*(part / unit for part in codes))


def table(found: Mapping[str, Mapping]) -> str:
    """The report as lines: one for each score, one column for each encoder."""
    lines = [" " * 22 + "".join(f"{encoder:>11}" for encoder in found)]
    for name in (name for name in found["trained"] if name != "information"):
        lines.append(f"  {name:20}" + "".join(f"{one[name]:11.3f}" for one in found.values()))
    return "\n".join(lines)
