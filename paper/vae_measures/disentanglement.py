"""Which latent dimension follows which true factor: four scores of disentanglement, of arrays.

`digits` and `sprites` are drawn from known factors, so one can ask whether each dimension of mu, the posterior mean,
follows one factor and leaves the others alone. The scores disagree, and some are easy: a random projection of the
image gets far above chance. So every score is shown beside that of an untrained encoder of the same architecture.

All four are functions of arrays: codes `mu` of images, and what is known about their factors. The images are
drawn afresh, since two of the scores need many that share a factor.

Axes: N images, F factors, Z latent dimensions, V votes, L images or pairs of images in one vote.
"""

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from vae_common.data import binarize

POINTS, VOTES, SIZE = 10_000, 800, 64  # images for MIG and DCI; votes for the other two; images or pairs in a vote
BINS = 20  # of a latent dimension, and of a factor that is not discrete
MOST_VALUES = 64  # a factor with more distinct values than this counts as continuous
SILENT = 0.05  # a dimension whose standard deviation over the data is smaller is left out of the FactorVAE score
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
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    return float(classifier.fit(features[:half], fixed[:half]).score(features[half:], fixed[half:]))


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


def information(mu: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The share (F, Z) of each factor's entropy that each dimension tells: I(factor; mu in 20 bins) / H(factor)."""
    binned = in_bins(mu)
    return np.array([[mutual_information(v, z) / mutual_information(v, v) for z in binned.T] for v in classes.T])


def mig(share: np.ndarray) -> float:
    """Mutual information gap in [0, 1]: the largest share (F, Z) in a row less the second, mean over the rows.

    `share` is what `information` returns. 1 when one dimension alone tells each factor; with copies of those dimensions
    beside them it is 0. Chen et al. 2018.
    """
    ranked = np.sort(np.pad(share, ((0, 0), (1, 0))), axis=1)  # the column of zeros is for Z = 1
    return float((ranked[:, -1] - ranked[:, -2]).mean())


# --- the view of regression ---------------------------------------------------------------------------------------


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
        "information": share.tolist(),
    }


def report(
    drawer: ModuleType,
    trained: Encoder,
    untrained: Encoder,
    binarization: str,
    rng: np.random.Generator,
    points: int = POINTS,
    votes: int = VOTES,
) -> dict[str, dict]:
    """The scores of both encoders, by name, on the same freshly drawn images.

    Nothing has set the unit of the untrained one's codes, so they are scaled to a largest std of 1, as a prior would.
    """
    trials = sample_trials(drawer, rng, points, votes)
    codes = [codes_of([trained, untrained], drawer.draw, part, binarization, rng) for part in trials]
    learnt, chance = (Trials(*parts) for parts in zip(*codes, strict=True))
    unit = max(chance.points.std(axis=0).max(), 1e-12)
    chance = Trials(*(part / unit for part in chance))
    return {"trained": scores(learnt, trials.points), "untrained": scores(chance, trials.points)}


def table(found: Mapping[str, Mapping]) -> str:
    """The report as lines: one for each score, one column for each encoder."""
    lines = [" " * 22 + "".join(f"{encoder:>11}" for encoder in found)]
    for name in (name for name in found["trained"] if name != "information"):
        lines.append(f"  {name:20}" + "".join(f"{one[name]:11.3f}" for one in found.values()))
    return "\n".join(lines)
