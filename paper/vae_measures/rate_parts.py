"""How many nats of an image its code holds: I(x; z), KL(q(z) || p(z)) and total correlation, by Monte Carlo.

For a stated set of N images the aggregate posterior is a mixture that can be evaluated exactly,
q(z) = 1/N sum_n q(z|x_n). With an image n drawn from the set and z from q(z|x_n), the rate splits into

    R = E[ log q(z|x_n)/p(z) ] = E[ log q(z|x_n)/q(z) ] + E[ log q(z)/p(z) ] = I(n; z) + KL(q(z) || p(z))

(Hoffman & Johnson 2016, "ELBO surgery": the index-code mutual information), and the second part once more into

    KL(q(z) || p(z)) = KL(q(z) || prod_d q(z_d)) + sum_d KL(q(z_d) || p(z_d))       Chen et al. 2018

As n is one of N, 0 <= I(n; z) <= ln N: a set of 60,000 images cannot show more than 11.0 nats, however sharp the codes.
What the encoder tells about images in general is at least I(n; z) and at most R.

Axes: N images of the set, M sampled codes, Z latent.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vae_common.errors import UsageError

ENTRIES_AT_ONCE = 4_000_000  # log-densities in memory at one time (32 MB, and twice that while they are summed)
TOLERATED = 4  # standard errors by which an estimate may lie outside its bounds
ROUNDING = 1e-6  # nats: 1 / std^2 of up to 1e9 times float64's 1e-16


class EstimateError(UsageError):
    """An estimate that is impossible; the message is one sentence."""


def refuse_impossible(is_so: bool, what: str) -> None:
    """Raise EstimateError where `what` is the case."""
    if is_so:
        raise EstimateError(f"{what}; so the weights, the data or the code that measures are broken.")


# --- densities ----------------------------------------------------------------------------------------------------


def log_densities(
    z: np.ndarray, index: np.ndarray, mu: np.ndarray, logvar: np.ndarray, at_once: int = ENTRIES_AT_ONCE
) -> tuple[np.ndarray, np.ndarray]:
    """log q(z|x_index) and log q(z) = log 1/N sum_n q(z|x_n) of each code, (M,) each, float64.

    z (M, Z); index (M,): the image that each z was drawn from; mu, logvar (N, Z): the posteriors of all images of the
    set. The sum over the latent dimensions comes before the exponential. Memory is bounded by `at_once` entries, or N.
    """
    z, mu, logvar = (value.astype(np.float64) for value in (z, mu, logvar))
    precision = np.exp(-logvar)
    slopes = np.concatenate([-0.5 * precision, mu * precision], axis=1).T  # (2 Z, N), against z^2 and z
    constants = -0.5 * (mu**2 * precision + logvar + math.log(2 * math.pi)).sum(axis=1)
    own, mixture = np.empty(len(z)), np.empty(len(z))
    rows = max(1, at_once // len(mu))
    for start in range(0, len(z), rows):
        part = slice(start, start + rows)
        log_q = np.concatenate([z[part] ** 2, z[part]], axis=1) @ slopes  # (rows, N): log q(z_m|x_n)
        log_q += constants
        own[part] = log_q[np.arange(len(log_q)), index[part]]
        log_q -= own[part, None]  # its own image is in the sum, so the log-ratio is ln N at the most
        mixture[part] = own[part] + _log_mean_exp(log_q)
    return own, mixture


def _log_mean_exp(log_q: np.ndarray) -> np.ndarray:
    """(M, N) -> (M,); overwrites log_q."""
    peak = log_q.max(axis=1)
    log_q -= peak[:, None]
    return peak + np.log(np.exp(log_q, out=log_q).mean(axis=1))


def log_marginals(z: np.ndarray, index: np.ndarray, mu: np.ndarray, logvar: np.ndarray) -> np.ndarray:
    """log q(z_d) of each code in each dimension (M, Z): the same mixture, one dimension at a time."""
    dims = range(z.shape[1])
    return np.stack([log_densities(z[:, [d]], index, mu[:, [d]], logvar[:, [d]])[1] for d in dims], axis=1)


# --- estimates ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A mean over M samples, in nats, and its standard error."""

    value: float
    error: float

    @classmethod
    def of(cls, samples: np.ndarray) -> "Estimate":
        """The estimate from samples (M,), in nats."""
        return cls(float(samples.mean()), float(samples.std(ddof=1) / len(samples) ** 0.5))

    def __str__(self) -> str:
        return f"{self.value:.2f} +- {self.error:.2f}"


@dataclass(frozen=True)
class Decomposition:
    """What the rate of N images is made of, from M samples, in nats.

    rate: KL(q(z|x) || p(z)), mean over all N images, exact for N(0, I); information: I(n; z); aggregate_kl:
    KL(q(z) || p(z)), what I leaves of the rate; total_correlation: KL(q(z) || prod_d q(z_d)); dimension_kl:
    sum_d KL(q(z_d) || N(0, 1)); residual: the mean of log q(z|x)/N(z; 0, I) less the closed form of the same images,
    which is 0 but for sampling.
    """

    images: int
    samples: int
    rate: float
    information: Estimate
    aggregate_kl: Estimate
    total_correlation: Estimate
    dimension_kl: Estimate
    residual: Estimate

    def check(self) -> "Decomposition":
        """Itself; raises EstimateError when an estimate lies outside its bounds by more than 4 standard errors."""
        for name, estimate, low, high in (  # that I <= R is that KL(q(z) || p(z)) >= 0
            ("I(x; z)", self.information, 0, math.log(self.images)),
            ("KL(q(z) || p(z))", self.aggregate_kl, 0, self.rate),
            ("the total correlation", self.total_correlation, 0, math.inf),
            ("sum_d KL(q(z_d) || N(0, 1))", self.dimension_kl, 0, math.inf),
            ("sampled rate - closed-form rate", self.residual, 0, 0),
        ):
            allowed = TOLERATED * estimate.error + ROUNDING
            if not low - allowed <= estimate.value <= high + allowed:  # nan is outside too
                raise EstimateError(
                    f"{name} was estimated as {estimate} nats on {self.images:,} images, which cannot be: it lies from "
                    f"{low:.2f} to {high:.2f}, so either the posteriors or the estimator are broken."
                )
        return self


def kl_noise(
    mu: np.ndarray,
    logvar: np.ndarray,
    rng: np.random.Generator,
    log_prior_ratio: Callable[[np.ndarray], np.ndarray] | None = None,
) -> tuple[float, float]:
    """How far an image's KL at one z lies from its mean over z, as standard deviations over all N images, in nats.

    Of log q(z|x) - log p(z), and of the closed form to N(0, I) less log_prior_ratio(z) (`decompose`), which is what
    models are trained on; 0 for N(0, I). From two z of each image.
    """
    eps = rng.standard_normal((2, *mu.shape))
    z = mu + np.exp(0.5 * logvar) * eps  # (2, N, Z)
    ratio = (
        np.zeros(z.shape[:2]) if log_prior_ratio is None else np.stack([log_prior_ratio(one) for one in z.astype("f")])
    )
    sampled = 0.5 * (z**2 - eps**2).sum(axis=2) - ratio  # log q - log p, but for what is the same at both
    return tuple(float(np.sqrt(np.square(one[0] - one[1]).mean() / 2)) for one in (sampled, ratio))


def decompose(
    mu: np.ndarray,
    logvar: np.ndarray,
    samples: int,
    rng: np.random.Generator,
    log_prior_ratio: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Decomposition:
    """Estimate the parts of the rate of a set of images from its posteriors mu, logvar (N, Z), with `samples` codes.

    Each code is drawn from an image of the set, every image equally often as far as that goes. log_prior_ratio: of a
    learned prior, codes (M, Z) -> log p(z) - log N(z; 0, I) (M,). Raises EstimateError rather than return what is
    impossible.
    """
    repeats = -(-samples // len(mu))
    index = np.concatenate([rng.permutation(len(mu)) for _ in range(repeats)])[:samples]
    mu, logvar = mu.astype(np.float64), logvar.astype(np.float64)
    z = mu[index] + np.exp(0.5 * logvar[index]) * rng.standard_normal((samples, mu.shape[1]))
    kl = 0.5 * (mu**2 + np.expm1(logvar) - logvar).sum(axis=1)  # (N,)

    log_prior = -0.5 * (z**2 + math.log(2 * math.pi))  # (M, Z)
    own, mixture = log_densities(z, index, mu, logvar)
    marginals = log_marginals(z, index, mu, logvar)
    ratio = np.zeros(samples) if log_prior_ratio is None else log_prior_ratio(z.astype(np.float32)).astype(np.float64)
    information, rate = Estimate.of(own - mixture), float(kl.mean() - ratio.mean())
    return Decomposition(
        images=len(mu),
        samples=samples,
        rate=rate,
        information=information,
        aggregate_kl=Estimate(rate - information.value, Estimate.of(own - mixture + ratio).error),
        total_correlation=Estimate.of(mixture - marginals.sum(axis=1)),
        dimension_kl=Estimate.of((marginals - log_prior).sum(axis=1)),
        residual=Estimate.of(own - log_prior.sum(axis=1) - kl[index]),
    ).check()
