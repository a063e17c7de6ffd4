"""Two properties that make a latent space useful, measured: continuity and completeness.

Continuity: codes that lie close together decode to images that look alike. Walk in even steps along the straight line
between two test codes: the image should change evenly, without jumps and without detours.

Completeness: wherever the model would draw a code, the decoded image shows something. A classifier says whether it
does (sample_quality.py). An autoencoder has no prior to draw from, so it is also asked at codes from the Gaussian that
fits its own codes best, and halfway between two of them.

Axes: M lines, T steps, N codes, Z latent dimensions.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vae_common.evaluation import Evaluation, chunks
from vae_common.randomness import generator
from vae_measures.sample_quality import CONFIDENT, Classifier, as_data, look

LINES, STEPS, POINTS = 200, 50, 1000
Decode = Callable[[np.ndarray], np.ndarray]


class Continuity(NamedTuple):
    """Of each line, both (M,): the largest change of the image in one step over the mean change, and the length of the
    way through the space of images over the distance of its ends. At least 1; for a linear decoder both are 1."""

    jump: np.ndarray
    detour: np.ndarray


def continuity(decode: Decode, starts: np.ndarray, ends: np.ndarray, steps: int = STEPS) -> Continuity:
    """Walk the straight lines from `starts` to `ends` (M, Z) in `steps` even steps; decode: z (N, Z) -> pixel means.

    Changes are Euclidean distances over the pixels. A line whose image never changes is even: 1 and 1.
    """
    t = np.linspace(0, 1, steps + 1, dtype=np.float32)[:, None]
    found = []
    for start, end in zip(starts, ends, strict=True):
        x = decode(start + t * (end - start)).reshape(steps + 1, -1).astype(np.float64)
        change = np.linalg.norm(np.diff(x, axis=0), axis=1)  # (T,)
        length, straight = change.sum(), np.linalg.norm(x[-1] - x[0])
        found.append((change.max() * steps / length, length / straight) if straight > 0 else (1.0, 1.0))
    return Continuity(*np.array(found).T)


def draw_codes(measured: Evaluation, pairs: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Where completeness is asked for: name -> codes (N, Z). pairs (N, 2): numbers of test images.

    "codes": at test codes; "midway": halfway between two; "fitted": drawn from the Gaussian with the mean and the
    covariance of q(z), which is the mean of q(z|x) over the test images; "prior": drawn from the prior, or from N(0, I)
    where there is none.
    """
    mu, count = measured.mu, len(pairs)
    mean, covariance = moments(mu, measured.std)
    drawn = {
        "codes": mu[pairs[:, 0]],
        "midway": (mu[pairs[:, 0]] + mu[pairs[:, 1]]) / 2,
        "fitted": rng.multivariate_normal(mean, covariance, count, method="eigh"),
        "prior": measured.as_prior(rng.standard_normal((count, mu.shape[1])), rng),
    }
    return {name: z.astype(np.float32) for name, z in drawn.items()}


def moments(mu: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (Z,) and covariance (Z, Z) of q(z), the mean of the posteriors mu, std (N, Z)."""
    return mu.mean(axis=0), np.cov(mu, rowvar=False).reshape(mu.shape[1], -1) + np.diag((std**2).mean(axis=0))


def fitted_codes(mu: np.ndarray, std: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Draws of the Gaussian fitted to codes, in the place of those of a prior: Evaluation.prior_codes."""
    mean, covariance = moments(mu, std)
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    return lambda eps, u: (mean + eps @ root).astype(np.float32)


def report(measured: Evaluation, classifier: Classifier, seed: int) -> dict:
    """Continuity, mean and standard error over the lines, and completeness, the share of points recognised with
    confidence, of an evaluated model whose codes are vectors."""
    rng = generator(seed, "evaluation", 4)
    pairs = np.array([rng.choice(len(measured.mu), 2, replace=False) for _ in range(POINTS)])
    figures = {}
    for name, values in continuity(measured.decode, *measured.mu[pairs[:LINES]].swapaxes(0, 1))._asdict().items():
        figures |= {name: float(values.mean()), f"{name}_error": float(values.std() / len(values) ** 0.5)}
    recognised = {"test": look(classifier, (255 * measured.x + 0.5).astype(np.uint8)).confident}
    for name, z in draw_codes(measured, pairs, rng).items():
        means = (measured.decode(z[chunk]) for chunk in chunks(len(z), 500))
        images = np.concatenate([as_data(part, measured.binarize, rng) for part in means])
        recognised[name] = look(classifier, images).confident
    return {**figures, "recognised": recognised}


def table(found: dict, has_prior: bool) -> str:
    """The report as lines."""
    recognised = found["recognised"]
    jump, detour = (f"{found[name]:6.2f} ({found[f'{name}_error']:.2f})" for name in ("jump", "detour"))
    lines = [
        f"  continuity: {LINES} straight lines between two test codes, in {STEPS} steps; an even change has 1 and 1",
        f"    largest change of the image in one step, over the mean    {jump}",
        f"    length of its way, over the distance of its ends          {detour}",
        f"  completeness: the share recognised with p >= {CONFIDENT}; of test images {recognised['test']:.1%}",
    ]
    places = {
        "codes": "decoded at test codes",
        "midway": "halfway between two test codes",
        "fitted": "drawn from the Gaussian fitted to its codes",
        "prior": "drawn from the prior" if has_prior else "drawn from N(0, I), which is no prior of this model",
    }
    return "\n".join(lines + [f"    {text:57}{recognised[name]:7.1%}" for name, text in places.items()])
