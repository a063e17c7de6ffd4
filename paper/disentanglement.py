"""Which latent dimension knows which true factor: `python paper/disentanglement.py RUN` gives a run four scores.

`digits` and `sprites` are drawn from known factors, so one can ask whether each dimension of mu, the posterior mean,
follows one factor and leaves the others alone. The scores disagree, and some are easy: a random projection of the
image gets far above chance. So every score stands beside that of an untrained encoder of the same architecture.

All four are functions of arrays: codes `mu` of images, and what is known of the factors of those images. Images are
drawn afresh, for two of the scores need many that share a factor.

Axes: N images, F factors, Z latent dimensions, V votes, L images or pairs of images in one vote.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from vae_common import cli, figures
from vae_common.data import DRAWN, binarize, generator
from vae_common.measured import PIXELS

POINTS, VOTES, SIZE = 10_000, 800, 64  # images for MIG and DCI; votes for the other two; images or pairs in a vote
BINS = 20  # of a latent dimension, and of a factor that is not discrete
MOST_VALUES = 64  # a factor with more distinct values than this counts as continuous
SILENT = 0.05  # a dimension whose standard deviation over the data is smaller is left out of the FactorVAE score
TREES, LEAF = 10, 20  # of the forests that DCI is read from: their number, and images in a leaf at the least
CHUNK, MOST_DIMENSIONS = 512, 20  # images drawn and encoded at once; dimensions shown in the picture

Encoder = Callable[[np.ndarray], np.ndarray]  # images (B, 1, 28, 28) in [0, 1] -> mu (B, Z)

# --- which images are asked for -----------------------------------------------------------------------------------


class Trials(NamedTuple):
    """What the scores are computed from: the factors of images, the last axis F, or their codes, the last axis Z."""

    points: np.ndarray  # (N, .) independent images
    pairs: np.ndarray  # (V, 2, L, .) pair l of vote v is [v, 0, l] and [v, 1, l], with one factor in common
    groups: np.ndarray  # (V, L, .) L images with one factor in common


def fixed_factors(votes: int, factors: int) -> np.ndarray:
    """Which factor (V,) is held fixed in each vote: all in turn, so that both halves of the votes hold each alike."""
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


def encode_trials(
    encoders: Sequence[Encoder], draw: Encoder, trials: Trials, how: str, rng: np.random.Generator
) -> list[Trials]:
    """The codes that each encoder gives the same images, drawn from the factors in `trials` and binarized `how`."""
    from tqdm import tqdm

    flat = np.concatenate([part.reshape(-1, part.shape[-1]) for part in trials])
    codes = []
    for start in tqdm(range(0, len(flat), CHUNK), "drawing and encoding", disable=None, leave=False):
        x = binarize(draw(flat[start : start + CHUNK]), how, rng)
        codes.append([encode(x) for encode in encoders])
    ends = np.cumsum([part.size // part.shape[-1] for part in trials])[:-1]
    result = []
    for one in zip(*codes, strict=True):
        parts = np.split(np.concatenate(one), ends)
        result.append(Trials(*(p.reshape(*t.shape[:-1], p.shape[-1]) for p, t in zip(parts, trials, strict=True))))
    return result


# --- a classifier's view: which factor was held fixed? ------------------------------------------------------------


def beta_vae_score(pairs: np.ndarray, fixed: np.ndarray) -> float:
    """How often a linear classifier names the factor fixed (V,) that the pairs of codes (V, 2, L, Z) share.

    It sees the mean of |mu1 - mu2| over the L pairs, which is small in the dimensions that follow that factor. Trained
    on the first half of the votes, accuracy in [0, 1] on the second. Dimensions are standardized first, so their units
    do not matter. Chance is 1/F. Higgins et al. 2017, sec. 3.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = np.abs(pairs[:, 0] - pairs[:, 1]).mean(axis=1, dtype=np.float64)  # (V, Z)
    half = len(fixed) // 2
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    return float(classifier.fit(features[:half], fixed[:half]).score(features[half:], fixed[half:]))


def factor_vae_score(groups: np.ndarray, fixed: np.ndarray, std: np.ndarray) -> float:
    """How often the dimension that varies least tells the factor fixed (V,) that the L codes of a vote (V, L, Z) share.

    Variances are divided by those of all data, std (Z,) squared. Each dimension stands for the factor it was least
    varied by most often in the first half of the votes; accuracy in [0, 1] on the second. Dimensions of std < 0.05 take
    no part. Chance is 1/F. Kim & Mnih 2018, sec. 2 and appendix B.
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
    return np.array(
        [[mutual_information(v, z) / mutual_information(v, v) for z in binned.T] for v in classes.T]
    )  # (F, Z)


def mig(share: np.ndarray) -> float:
    """Mutual information gap in [0, 1]: of information(...) (F, Z) the largest in a row less the second, mean over rows.

    Chen et al. 2018, sec. 4.1: 1 when each factor is told by one dimension alone; a copy of that dimension makes it 0.
    """
    ranked = np.sort(np.pad(share, ((0, 0), (1, 0))), axis=1)  # the column of zeros is for Z = 1
    return float((ranked[:, -1] - ranked[:, -2]).mean())


# --- the view of regression ---------------------------------------------------------------------------------------


def dci(mu: np.ndarray, classes: np.ndarray) -> tuple[float, float, float]:
    """Disentanglement, completeness and informativeness, each in [0, 1], of codes (N, Z) and classes (N, F).

    A random forest predicts each factor from mu; its importances R (F, Z) say what it looked at. Disentanglement: how
    much the columns of R are about one factor, weighted by their sums. Completeness: how much the rows are about one
    dimension. Informativeness: accuracy on the second half, mean over the factors. Eastwood & Williams 2018, sec. 2;
    they use random forests too, but as regressors. Other estimators give other figures.
    """
    from sklearn.ensemble import RandomForestClassifier

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
    encoders: Mapping[str, Encoder],
    how: str,
    rng: np.random.Generator,
    points: int = POINTS,
    votes: int = VOTES,
) -> dict[str, dict]:
    """The scores of each encoder, by its name, all on the same freshly drawn images."""
    trials = sample_trials(drawer, rng, points, votes)
    codes = encode_trials(list(encoders.values()), drawer.draw, trials, how, rng)
    return {name: scores(one, trials.points) for name, one in zip(encoders, codes, strict=True)}


def table(found: Mapping[str, Mapping]) -> str:
    """The report as lines: one for each score, one column for each encoder."""
    names = [name for name in next(iter(found.values())) if name != "information"]
    lines = [" " * 22 + "".join(f"{encoder:>11}" for encoder in found)]
    return "\n".join(
        lines + [f"  {name:20}" + "".join(f"{one[name]:11.3f}" for one in found.values()) for name in names]
    )


@figures._styled
def factor_matrices(
    shares: Mapping[str, np.ndarray], factor_names: Sequence[str], title: str, caption: str | None = None
) -> Figure:
    """Factors against dimensions: matrices (F, Z) with entries in [0, 1], side by side, each under its name.

    Of more than 20 dimensions those with the largest entry are shown.
    """
    fig = figures._figure(title, caption, height=1.5 + 0.27 * len(factor_names))
    axes = fig.subplots(1, len(shares), sharey=True, squeeze=False)[0]
    for ax, (name, share) in zip(axes, shares.items(), strict=True):
        share = figures._array(name, share, len(factor_names), None)
        dims = np.sort(np.argsort(-share.max(axis=0), kind="stable")[:MOST_DIMENSIONS])
        image = ax.imshow(share[:, dims], cmap="Blues", vmin=0, vmax=1, aspect="auto")
        ax.set_xticks(np.arange(len(dims)), dims, size=9 if len(dims) <= 10 else 7)
        ax.set(title=name, xlabel="dimension of mu")
        ax.tick_params(length=0)
    axes[0].set_yticks(np.arange(len(factor_names)), factor_names)
    fig.colorbar(image, ax=list(axes), label="I / H(factor)", fraction=0.05, pad=0.02)
    return figures._settle(fig)


# --- command line -------------------------------------------------------------------------------------------------


def encoders_of(run: str, config: argparse.Namespace, device: str) -> dict[str, Encoder]:
    """The run's encoder and one of its architecture with seeded initial weights, as functions of arrays.

    Raises UsageError for a model that does not encode an image alone as a vector.
    """
    import torch

    from paper_run import build_model, read_run

    if config.model not in ("vae", "ae"):
        raise cli.UsageError(f"{run}: expected a run of --model vae or ae, found {config.model}; name one of those.")

    def encoder(model) -> Encoder:
        model.to(cli.torch_device(device), torch.float32).eval()
        like = next(model.parameters())

        @torch.no_grad()
        def encode(x: np.ndarray) -> np.ndarray:
            return model.encode(torch.from_numpy(x).to(like))[0].cpu().numpy()

        return encode

    return {"trained": encoder(read_run(run)[1]), "untrained": encoder(build_model(config))}


def run(args: argparse.Namespace) -> None:
    from paper_run import read_config

    config, folder = read_config(args.run), Path(args.run)
    if config.dataset not in DRAWN:
        known = " or ".join(DRAWN)
        raise cli.UsageError(f"{folder}: nobody knows the factors of {config.dataset}; name a run on {known}.")
    drawer, encoders = DRAWN[config.dataset], encoders_of(args.run, config, args.device)
    found = report(drawer, encoders, config.binarize, generator(config.seed, "evaluation", 2), votes=args.votes)
    print(
        f"{config.dataset}, drawn afresh: {POINTS:,} images, {args.votes:,} votes of {SIZE}, {PIXELS[config.binarize]}; "
        f"{len(drawer.FACTOR_NAMES)} factors, {config.latent_dim} latent dimensions\n{table(found)}\n"
        f"  by chance the first two are {1 / len(drawer.FACTOR_NAMES):.3f}"
    )
    about = {"dataset": config.dataset, "binarize": config.binarize, "points": POINTS, "votes": args.votes}
    cli.write_json(folder / "disentanglement.json", {**about, "factors": drawer.FACTOR_NAMES, **found})
    figure = factor_matrices(
        {name: np.array(one["information"]) for name, one in found.items()}, drawer.FACTOR_NAMES,
        f"What each dimension of mu tells of each factor of {config.dataset}",
        "The share of the factor's entropy that a dimension alone tells. Disentangled: one dark cell in a row, alone in "
        "its column. A pale row is a factor that no dimension tells, or that several tell only together.",
    )  # fmt: skip
    print(f"wrote {figures.save_figure(figure, folder / 'figures' / 'factors.png')}")


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser("Score how well latent dimensions follow the true factors of a run's data.", "--device")
    parser.add_argument("run", metavar="RUN", help="a run folder written by paper/vae_paper.py on digits or sprites")
    parser.add_argument(
        "--votes", type=cli.whole(100, 10**6), default=VOTES, metavar="V", help=f"votes of {SIZE} (default {VOTES})"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
