"""The plane of rate R = KL(q(z|x) || p(z)) and distortion D = -E log p(x|z): its exact ends, and one model's place.

What is known for certain about the plane (Alemi et al. 2018, "Fixing a Broken ELBO", sec. 2):

    H - D <= I(x; z) <= R          the code holds at most what it costs, and at least what it saves
    -elbo = R + D >= H             lines of slope -1 hold models of equal elbo
    dD/dR = -beta                  on the frontier, where D + beta R is least; beta = 1 touches the best elbo
    R = 0                          collapse: the best decoder that knows nothing is the mean image
    D = entropy of the pixels      copying: no decoder does better, and N images need no more than ln N nats for it
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from torch import nn

from vae_common.config import RunConfig
from vae_common.data import ImageSet, entropy_floor
from vae_common.randomness import generator
from vae_measures.held_out import measure
from vae_measures.rate_parts import decompose

# --- the exact ends of the plane ----------------------------------------------------------------------------------


def mean_image(x: np.ndarray) -> np.ndarray:
    """Pixels x (N, 1, 28, 28) in [0, 1] -> (1, 28, 28), their mean, one grey level of 255 added to light and to dark.

    So a pixel that is never lit in the N images has a mean above 0, and an image where it is lit a finite distortion.
    """
    return (255 * x.sum(axis=0, dtype=np.float64) + 1) / (255 * len(x) + 2)


def distortion_without_z(x: np.ndarray, mean: np.ndarray, likelihood: str) -> float:
    """D at R = 0: every image of x (N, 1, 28, 28) decoded as `mean` (1, 28, 28), nats per image.

    "bernoulli": sum over pixels of the cross-entropy of x's mean and `mean`, as -log p(x|z) is linear in x; "gaussian":
    the squared error. With `mean` from the training split it is what a factorised decoder that ignores z reaches.
    """
    p = x.mean(axis=0, dtype=np.float64)
    if likelihood == "gaussian":
        return float(((x - mean) ** 2).sum() / len(x))
    return float(-(p * np.log(mean) + (1 - p) * np.log1p(-mean)).sum())


def entropy_of_set(x: np.ndarray) -> float:
    """H, in nats, of: draw one of the images x (N, 1, 28, 28), then each pixel with its grey value as probability.

    ln N where all differ, plus the pixels' own entropy. Exact for pixels of 0 and 1; for grey ones an upper bound, met
    when a binarized image still tells which one it was drawn from.
    """
    counts = np.unique(x.reshape(len(x), -1), axis=0, return_counts=True)[1] / len(x)
    return float(-(counts * np.log(counts)).sum()) + pixel_entropy(x)


def pixel_entropy(x: np.ndarray, at_once: int = 5000) -> float:
    """`entropy_floor` in bounded memory."""
    parts = [x[start : start + at_once] for start in range(0, len(x), at_once)]
    return sum(entropy_floor(part) * len(part) for part in parts) / len(x)


def end_points(x: np.ndarray, mean: np.ndarray, likelihood: str) -> dict[str, float | int | None]:
    """What is known of a split before any training: images N, D without z, the floor of D, H (None for "gaussian")."""
    bernoulli = likelihood == "bernoulli"
    return {
        "images": len(x),
        "without_z": distortion_without_z(x, mean, likelihood),
        "floor": pixel_entropy(x) if bernoulli else 0.0,
        "entropy": entropy_of_set(x) if bernoulli else None,
    }


# --- one model in the plane ---------------------------------------------------------------------------------------


def place(model: nn.Module, splits: Sequence[ImageSet], config: RunConfig, samples: int) -> tuple[dict, dict]:
    """Measure a model on its train and test ImageSets: its entry in results.json, and the end points of both splits.

    Rate and distortion are those of one sampled z per image; I(x; z) is that of the training images and their index.
    Raises EstimateError when an estimate of it is impossible.
    """
    train, test = (measure(model, data, config.binarize, config.seed) for data in splits)
    measurements = {"train": train, "test": test}
    parts = decompose(train.mu, train.logvar, samples, generator(config.seed, "evaluation", 2), train.log_prior_ratio)
    entry = {"beta": config.plain_beta, "active_units": int(test.active.sum())}
    for name, measured in measurements.items():
        rate, distortion = float(measured.kl.mean()), float(measured.recon.mean())
        entry[name] = {"rate": rate, "distortion": distortion, "elbo": -(rate + distortion)}
    mean = mean_image(train.x)
    ends = {name: end_points(measured.x, mean, config.likelihood) for name, measured in measurements.items()}
    return {**entry, **asdict(parts)}, ends
