"""What exercise 7 asks for, compared with vae_common's entropy, level 3's mixture and the closed form of Gaussians."""

import numpy as np

from checks.judging import agree_on_cases, misweighed
from vae_common.data import entropy_floor
from vae_measures.rate_parts import log_densities as own_and_mixture
from vae_models.linear_vae import linear_rate_distortion

FORBIDDEN = ("vae_common", "vae_measures", "vae_models", "vae_commands")  # they hold the answer


def images(rng):
    """Cases {x} of grey images, some pixels 0 or 1 everywhere, some in a few images only."""
    cases = []
    for shape, dtype in (((5, 1, 4, 7), np.float64), ((1, 1, 6, 3), np.float64), ((7, 1, 28, 28), np.float32)):
        x = rng.uniform(0, 1, shape) ** 3
        x[x < 0.05], x[x > 0.9], x[..., 0, :], x[..., 1, 0] = 0, 1, 0, 1
        cases.append(dict(x=x.astype(dtype)))
    return cases


# Learners may clip to get rid of 0 ln 0. At 1e-7 that moves a pixel by 2e-6 nats, of some 0.1 that it has on average.
CLIPPED = 5e-5


def part_pixel_entropy(work, rng):
    """pixel_entropy: the floor of D"""
    right = entropy_floor

    def mistakes(y, x):
        white = -np.nan_to_num(x * np.log(x)).sum() / len(x)
        return {
            "The dark half is missing: (1 - x) ln(1 - x).": white,
            "That is of the mean image; here each image has an entropy of its own.": right(
                x.mean(axis=0, keepdims=True)
            ),
        }

    agree_on_cases("pixel_entropy", work.pixel_entropy, right, images(rng), mistakes, "the-maths", rel=CLIPPED)


def part_distortion_without_z(work, rng):
    """distortion_without_z: D where R = 0"""

    def right(x):
        return entropy_floor(x.mean(axis=0, keepdims=True, dtype=np.float64))

    def mistakes(y, x):
        return {
            "That is the floor, the entropy of each image averaged. A decoder without z has one picture for all: first "
            "the mean image, then its entropy.": entropy_floor(x),
        }

    function = work.distortion_without_z
    agree_on_cases("distortion_without_z", function, right, images(rng), mistakes, "the-maths", rel=CLIPPED)


def posteriors(rng):
    """Cases {z, index, mu, logvar}: overlapping and separate ones, and so many dimensions that exp(log q) overflows."""
    cases = []
    for M, N, Z, width, dtype in (
        (5, 7, 3, 0.0, np.float64),
        (3, 4, 1, -1.0, np.float64),
        (7, 7, 5, -1.0, np.float32),
        (3, 5, 500, -6.0, np.float64),
        (3, 5, 300, 9.0, np.float64),
    ):
        mu, logvar = rng.normal(size=(N, Z)), width + rng.uniform(-1, 1, (N, Z))
        index = rng.integers(0, N, M)
        index[:2] = N - 1, 0  # not all codes from one posterior
        z = mu[index] + np.exp(0.5 * logvar[index]) * rng.normal(size=(M, Z))
        cases.append({"z": z.astype(dtype), "index": index, "mu": mu.astype(dtype), "logvar": logvar.astype(dtype)})
    return cases


def without_index(cases):
    return [{name: value for name, value in case.items() if name != "index"} for case in cases]


def all_densities(z, mu, logvar):
    """Level 3's log q(z_m | x_n), one image after another."""
    columns = [own_and_mixture(z, np.full(len(z), n), mu, logvar, len(mu))[0] for n in range(len(mu))]
    return np.stack(columns, axis=1)


def aggregate(z, mu, logvar):
    return own_and_mixture(z, np.zeros(len(z), int), mu, logvar)[1]


def part_log_densities(work, rng):
    """log_densities: every code under every posterior"""

    def mistakes(y, z, mu, v):
        def with_squares(squares):
            return -0.5 * (squares + v + np.log(2 * np.pi)).sum(axis=-1)

        gap = z[:, None] - mu
        terms = {
            "-logvar / 2, as a narrow Gaussian is high": -0.5 * v.sum(axis=1),
            "-log(2 pi) / 2 in each dimension, inside the sum": -0.5 * z.shape[1] * np.log(2 * np.pi),
        }
        return {
            "The squares are divided by the variance exp(logvar), not by its square or root, nor multiplied.": (
                with_squares(gap**2 * np.exp(-2 * v)),
                with_squares(gap**2 * np.exp(-0.5 * v)),
                with_squares(gap**2 * np.exp(v)),
            ),
            **misweighed(y, terms),
        }

    cases = without_index(posteriors(rng))
    agree_on_cases("log_densities", work.log_densities, all_densities, cases, mistakes, "the-maths")


def part_log_aggregate(work, rng):
    """log_aggregate: the mean of the posteriors"""

    def mistakes(y, z, mu, v):
        log_q, ln_N = all_densities(z, mu, v), np.log(len(mu))
        gap = z[:, None].astype(np.float64) - mu
        per_dimension = -0.5 * (gap**2 * np.exp(-v) + v + np.log(2 * np.pi))  # (M, N, Z)
        return {
            "The weight 1/N was added once for every latent dimension: ln N is taken off Z times instead of once. Sum "
            "over the dimensions first, then weigh.": y - (z.shape[1] - 1) * ln_N,
            "The largest was taken out, and not put back.": y - log_q.max(axis=1),
            "The mean of the logs; the densities are averaged, then comes the log.": log_q.mean(axis=1),
            "That is the product of q(z_j) over the dimensions. A mixture of independent Gaussians is not independent: "
            "sum over the dimensions first, then average over the images.": (
                (np.logaddexp.reduce(per_dimension, axis=1) - ln_N).sum(axis=1)
            ),
        }

    mu, logvar = rng.normal(size=(4, 300)), rng.uniform(-1, 1, (4, 300))
    apart = dict(z=mu * np.array([[1.0], [5.0], [1.0], [-7.0]]), mu=mu, logvar=logvar)
    cases = [*without_index(posteriors(rng)), apart]
    agree_on_cases("log_aggregate", work.log_aggregate, aggregate, cases, mistakes, "what-the-code-holds")


def part_information(work, rng):
    """information: what a code tells about its image, never above ln N"""

    def right(z, index, mu, logvar):
        own, mixture = own_and_mixture(z, index, mu, logvar)
        return own - mixture

    def log_prior(z):
        return -0.5 * (z.astype(np.float64) ** 2 + np.log(2 * np.pi)).sum(axis=1)

    def mistakes(y, z, index, mu, v):
        own, _ = own_and_mixture(z, index, mu, v)
        log_q = all_densities(z, mu, v)
        others = np.where(np.arange(len(mu)) == index[:, None], -np.inf, log_q)
        return {
            "That is the whole rate. I compares with the aggregate q(z), not with the prior.": own - log_prior(z),
            "A code's own posterior belongs to the mixture too: without it I is not bounded by ln N.": (
                own - np.logaddexp.reduce(others, axis=1) + np.log(len(mu) - 1)
            ),
            "Code m was drawn from the posterior index[m], not from m.": right(z, np.arange(len(z)) % len(mu), mu, v),
            "Cut off at 0. Only the mean over many codes tends to an I of at least 0; a single code that fell nearer "
            "to other posteriors has less, and without it the mean is too large.": (np.maximum(y, 0), np.abs(y)),
        }

    mu = 0.5 * rng.normal(size=(4, 3))  # codes nearer to the next posterior than to their own
    astray = dict(z=np.roll(mu, 1, axis=0), index=np.arange(4), mu=mu, logvar=rng.uniform(-0.1, 0.1, (4, 3)))
    cases = [*posteriors(rng), astray]
    agree_on_cases("information", work.information, right, cases, mistakes, "what-the-code-holds")


def sources(rng):
    """Cases {variances, s2, beta}: components above and below the water, all below, none below."""
    some = [dict(variances=rng.uniform(0.1, 5, d), s2=rng.uniform(0.2, 1), beta=rng.uniform(0.5, 4)) for d in (9, 5, 1)]
    for case in some[:2]:
        case["variances"][:2] = case["beta"] * case["s2"] * np.array([0.3, 4.0])  # one below, one above
    high = dict(variances=rng.uniform(2, 5, 4), s2=0.3, beta=rng.uniform(0.5, 4))
    return [*some, high, dict(high, beta=30.0), dict(high, beta=1)]


def part_frontier_rate(work, rng):
    """frontier_rate: only what is above the water costs"""

    def right(variances, s2, beta):
        return linear_rate_distortion(np.sort(variances)[::-1], len(variances), s2, beta)[0]

    def mistakes(y, v, s2, beta):
        each = 0.5 * np.log(v / (beta * s2))
        return {
            "A component below the water gets a negative rate here; it is left out, and costs 0.": each.sum(),
            "The 0 is for each component that is below the water, not for their sum.": max(each.sum(), 0),
        }

    agree_on_cases("frontier_rate", work.frontier_rate, right, sources(rng), mistakes, "the-frontier")


def part_frontier_distortion(work, rng):
    """frontier_distortion: with R, a frontier of slope -beta"""

    def right(variances, s2, beta):
        error = linear_rate_distortion(np.sort(variances)[::-1], len(variances), s2, beta)[1]
        return 0.5 * error / s2 + constants(variances, s2)

    def constants(variances, s2):
        return 0.5 * len(variances) * np.log(2 * np.pi * s2)

    def mistakes(y, v, s2, beta):
        level, all_constants = beta * s2, constants(v, s2)
        error = y - all_constants
        return {
            "Each component has the constants of the Gaussian, ln(2 pi s2) / 2: inside the sum.": (
                error,
                error + constants([0], s2),
            ),
            "The squared error in nats is error / (2 s2), with the 1/2 and with s2.": (
                2 * error + all_constants,
                s2 * error + all_constants,
                2 * s2 * error + all_constants,
            ),
            "The error of a component left out is its whole variance.": 0.5 * beta * (v > level).sum() + all_constants,
        }

    agree_on_cases("frontier_distortion", work.frontier_distortion, right, sources(rng), mistakes, "the-frontier")


HINTS = (
    "pixel_entropy: a sum over the pixels, a mean over the images. A pixel of 0 or 1 adds nothing.",
    "pixel_entropy: a number. Where x is 0, np.log(np.where(x > 0, x, 1)) is 0 as well, and so is the product.",
    "pixel_entropy: with p one after the other x and 1 - x: -(p * np.log(np.where(p > 0, p, 1))).sum() / len(x)",
    "distortion_without_z: of the images only their mean counts, and a cross-entropy is least where the two agree.",
    "distortion_without_z: the mean image keeps its axis, (1, 1, H, W). What is its cross-entropy with itself called?",
    "distortion_without_z: pixel_entropy(x.mean(axis=0, keepdims=True))",
    "log_densities: per dimension a difference, squared and divided by the variance, and two terms without z.",
    "log_densities: z[:, None] is (M, 1, Z) and mu is (N, Z), so z[:, None] - mu is (M, N, Z). Sum over the last axis.",
    "log_densities: -0.5 * (difference**2 * np.exp(-logvar) + logvar + np.log(2 * np.pi)), summed.",
    "log_aggregate: exp(a - m) exp(m) = exp(a), for any m. With m the largest of a row, the largest exp is 1.",
    "log_aggregate: a row (N,) for each code -> one number; m is (M, 1), by keepdims=True. A mean is a sum / N.",
    "log_aggregate: np.logaddexp.reduce(log_q, axis=1) - np.log(N), log_q being your log_densities.",
    "information: p(n | z) = q(z | x_n) (1 / N) / q(z). Divide it by 1 / N, and take the logarithm.",
    "information: (M,): each code under its own posterior, less its aggregate: row m, column index[m].",
    "information: log_densities(z, mu, logvar)[np.arange(len(z)), index] - log_aggregate(z, mu, logvar)",
    "frontier_rate: set the derivative by e to 0: the water stands at beta s2. What lies below it costs nothing.",
    "frontier_rate: a number, a sum over the components of half a logarithm, which is 0 for those below the water.",
    "frontier_rate: 0.5 * np.log(np.maximum(variances / (beta * s2), 1)).sum()",
    "frontier_distortion: -log of a Gaussian with variance s2 is (error / s2 + ln(2 pi s2)) / 2.",
    "frontier_distortion: a component's error is the water's level, or its variance if that is less; all have the ln.",
    "frontier_distortion: 0.5 * (np.minimum(variances, beta * s2) / s2 + np.log(2 * np.pi * s2)).sum()",
)
