"""L_K, the importance-weighted bounds of log p(x): estimated in bounded memory, and held to their order.

K codes for each test image are drawn from q(z|x), and their weights averaged inside the logarithm. L_K lies between the
elbo and log p(x) and rises with K (Burda, Grosse & Salakhutdinov 2016, theorem 1). -L_K is reported as nll, an upper
bound of -log p(x) that is close for large K.
"""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from vae_common.data import ImageSet, binarize
from vae_common.randomness import generator
from vae_measures.rate_parts import refuse_impossible
from vae_models.iwae import sample_terms
from vae_training import processes

SAMPLES = (1, 5, 50, 500, 5000)  # the K for which L_K is shown, as far as they divide the number of samples drawn
GROUP, DECODED_AT_ONCE, WEIGHTS_AT_ONCE = 100, 2000, 2_000_000  # images, codes, log-weights: they bound the memory
TOLERATED, ROUNDING = 4, 1e-3  # standard errors and nats (float32 sums over 784 pixels) beyond a bound


def log_weights_of(
    model: nn.Module, data: ImageSet, binarization: str, seed: int, samples: int, images: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """log w_k of each test image, or of those with the numbers `images`, (G, K) float64, group by group.

    Each image has a noise stream of its own, so the numbers do not depend on how the work is cut up, and the first k
    samples are the same for any K >= k. At one time there are GROUP images, DECODED_AT_ONCE decoded codes and
    WEIGHTS_AT_ONCE weights at the most, so the memory does not grow with K.
    """
    like, latent_dim = next(model.parameters()), model.spec.latent_dim
    x = binarize(data.images, binarization, generator(seed, "evaluation"))
    images = np.arange(len(x)) if images is None else images
    group = max(1, min(GROUP, WEIGHTS_AT_ONCE // samples))
    for start in range(0, len(images), group):
        index = images[start : start + group]
        streams = [generator(seed, "importance", int(image)) for image in index]
        x_group = torch.from_numpy(x[index]).to(like)
        y = torch.from_numpy(data.labels[index]).to(like.device) if model.conditional else None
        parts, drawn = [], 0
        while drawn < samples:
            count = min(samples - drawn, max(1, DECODED_AT_ONCE // len(index)))
            eps = np.stack([stream.standard_normal((count, latent_dim), dtype=np.float32) for stream in streams])
            with torch.no_grad():
                _, _, log_w = sample_terms(model, x_group, torch.from_numpy(eps).to(like), y)
            parts.append(log_w.double().cpu().numpy())
            drawn += count
        yield np.concatenate(parts, axis=1)


def importance_bounds(log_w: np.ndarray, k: int) -> np.ndarray:
    """log_w (N, K) -> (N,): L_k of each image, the mean over the K // k disjoint sets of k samples."""
    sets = log_w[:, : log_w.shape[1] // k * k].reshape(len(log_w), -1, k)
    return (np.logaddexp.reduce(sets, axis=2) - np.log(k)).mean(axis=1)


def measured_bounds(
    model: nn.Module, data: ImageSet, binarization: str, seed: int, samples: int
) -> dict[int, np.ndarray]:
    """L_K of each test image (N,), for `samples` and the smaller K of SAMPLES. Several processes divide the images."""
    shown = sorted({k for k in SAMPLES if k < samples} | {samples})
    images = np.arange(len(data))[processes.share(len(data))]
    groups = log_weights_of(model, data, binarization, seed, samples, images)
    disable = None if processes.is_writer() else True
    parts = []
    with tqdm(desc="importance weighting", total=len(images), disable=disable, leave=False) as bar:
        for log_w in groups:
            parts.append([importance_bounds(log_w, k) for k in shown])
            bar.update(len(log_w))
    return dict(zip(shown, np.concatenate(processes.gather(parts), axis=1), strict=True))


def check_bounds(bounds: Mapping[int, np.ndarray], elbo: np.ndarray) -> None:
    """Raise EstimateError unless L_1 agrees with the elbo of each image (N,) and L_K does not fall with K.

    Compared image by image, with 4 standard errors of the mean difference.
    """
    gap = bounds[1] - elbo
    refuse_impossible(
        not abs(gap.mean()) <= TOLERATED * error_of(gap) + ROUNDING,  # nan does not agree either
        f"L_1 is {bounds[1].mean():.2f} nats and the elbo {elbo.mean():.2f}, and both estimate the same",
    )
    for low, high in itertools.pairwise(bounds):
        gain = bounds[high] - bounds[low]
        refuse_impossible(
            not gain.mean() >= -TOLERATED * error_of(gain) - ROUNDING,
            f"L_{high} is {bounds[high].mean():.2f} nats and L_{low} {bounds[low].mean():.2f}, and L_K rises with K",
        )


def error_of(values: np.ndarray) -> float:
    """The standard error of the mean of values (N,)."""
    return float(values.std() / len(values) ** 0.5)
