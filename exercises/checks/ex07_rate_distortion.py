"""What exercise 7 asks for, compared with vae_common's entropy, level 3's mixture and the closed form of Gaussians."""

import numpy as np
from linear_vae import linear_rate_distortion
from mutual_information import log_densities as own_and_mixture

from checks.judging import Wrong, agree_on_cases
from vae_common.data import entropy_floor

FORBIDDEN = ("vae_common", "mutual_information", "rate_distortion", "linear_vae", "evaluate")  # they hold the answer
PAGE = "07_rate_distortion.md"


# --- the two ends -------------------------------------------------------------------------------------------------


def images(rng):
    """Cases {x} of grey images, some pixels 0 or 1 everywhere, some in a few images only."""
    cases = []
    for shape, dtype in (((5, 1, 4, 7), np.float64), ((1, 1, 6, 3), np.float64), ((7, 1, 28, 28), np.float32)):
        x = rng.uniform(0, 1, shape) ** 3
        x[x < 0.05], x[x > 0.9], x[..., 0, :], x[..., 1, 0] = 0, 1, 0, 1
        cases.append(dict(x=x.astype(dtype)))
    return cases


def logs(p, log=np.log):
    """p ln p, as it comes without a thought for 0."""
    with np.errstate(all="ignore"):
        return p * log(p)


# Learners may clip to get rid of 0 ln 0. At 1e-7 that moves a pixel by 2e-6 nats, of some 0.1 that it has on average.
CLIPPED = 5e-5


def part_pixel_entropy(work, rng):
    """pixel_entropy: the floor of D"""
    right = entropy_floor
    mistakes = {
        "A pixel of 0 or 1 has entropy 0, but 0 * log(0) is nan: give the logarithm a 1 where the factor is 0.": (
            lambda x: -(logs(x) + logs(1 - x)).sum() / len(x)
        ),
        "The dark half is missing: (1 - x) ln(1 - x).": lambda x: -np.nan_to_num(logs(x)).sum() / len(x),
        "Nats per image, not per pixel: the pixels are added up.": lambda x: right(x) / x[0].size,
        "The mean over the images is missing; only the pixels are added up.": lambda x: right(x) * len(x),
        "That is in bits: nats want the natural logarithm.": lambda x: right(x) / np.log(2),
        "That is the entropy of the mean image, the next function: here each image has an entropy of its own.": (
            lambda x: right(x.mean(axis=0, keepdims=True))
        ),
    }
    read = f"{PAGE}#the-maths"
    agree_on_cases("pixel_entropy", work.pixel_entropy, right, images(rng), mistakes=mistakes, read=read, rel=CLIPPED)


def part_distortion_without_z(work, rng):
    """distortion_without_z: D where R = 0"""

    def right(x):
        return entropy_floor(x.mean(axis=0, keepdims=True, dtype=np.float64))

    mistakes = {
        "That is the floor, the entropy of each image averaged. A decoder without z has one picture for all: first the "
        "mean image, then its entropy.": entropy_floor,
        "Pixels that are dark in all images are 0 in the mean image too, and 0 * log(0) is nan: pixel_entropy knows.": (
            lambda x: -(logs(x.mean(axis=0)) + logs(1 - x.mean(axis=0))).sum()
        ),
        "A picture of 1/2 everywhere knows nothing; the mean image knows which pixels are lit more often.": (
            lambda x: x[0].size * np.log(2)
        ),
        "The mean over the pixels of each image; the mean image is the mean over the images, axis 0.": (
            lambda x: entropy_floor(x.mean(axis=(2, 3), keepdims=True)),
            lambda x: entropy_floor(x.mean(axis=(1, 2, 3), keepdims=True)),
        ),
        "One grey level for all pixels; the mean over the images leaves each pixel its own.": lambda x: (
            entropy_floor(x.mean(keepdims=True)) * x[0].size
        ),
        "The mean image is one image: do not divide by N again.": lambda x: right(x) / len(x),
        "Divided by N it is a mean already; do not add up over the images.": lambda x: right(x) * len(x),
        "That is the squared error of the mean image; D is in nats, -ln p of pixels that are 0 or 1.": lambda x: (
            ((x - x.mean(axis=0)) ** 2).sum() / len(x)
        ),
        "Nats per image, not per pixel: the pixels are added up.": lambda x: right(x) / x[0].size,
    }
    agree_on_cases(
        "distortion_without_z", work.distortion_without_z, right, images(rng), mistakes=mistakes,
        read=f"{PAGE}#the-maths", rel=CLIPPED,
    )  # fmt: skip


# --- what the code holds ------------------------------------------------------------------------------------------


def posteriors(rng):
    """Cases {z, index, mu, logvar}: overlapping and separate ones, and so many dimensions that exp(log q) overflows."""
    cases = []
    for M, N, Z, width, dtype in (
        (5, 7, 3, 0.0, np.float64),
        (3, 4, 1, -1.0, np.float64),
        (4, 2, 2, -2.0, np.float64),
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


def per_dimension(z, mu, logvar):
    """log q(z_mj | x_n), (M, N, Z)."""
    z, mu, logvar = (value.astype(np.float64) for value in (z, mu, logvar))
    return -0.5 * ((z[:, None] - mu) ** 2 * np.exp(-logvar) + logvar + np.log(2 * np.pi))


def log_mean(log_q, axis=1):
    return np.logaddexp.reduce(log_q, axis=axis) - np.log(log_q.shape[axis])


def quietly(function):
    with np.errstate(all="ignore"):
        return function()


def part_log_densities(work, rng):
    """log_densities: every code under every posterior"""
    right = all_densities

    def with_squares(power):
        return lambda z, mu, v: (
            -0.5 * ((z[:, None] - mu) ** 2 * np.exp(-power * v) + v + np.log(2 * np.pi)).sum(axis=-1)
        )

    mistakes = {
        "exp(logvar) is the variance already: do not square it.": with_squares(2),
        "The squares are divided by the variance exp(logvar), not by the standard deviation.": with_squares(0.5),
        "The squares are divided by the variance: exp(-logvar), with the minus.": with_squares(-1),
        "logvar is the logarithm of the variance: divide by exp(logvar), and add logvar itself.": (
            lambda z, mu, v: quietly(
                lambda: -0.5 * ((z[:, None] - mu) ** 2 / v + np.log(v) + np.log(2 * np.pi)).sum(axis=-1)
            )
        ),
        "The difference of z and mu is to be squared.": lambda z, mu, v: (
            -0.5 * ((z[:, None] - mu) * np.exp(-v) + v + np.log(2 * np.pi)).sum(axis=-1)
        ),
        "log sigma^2 is logvar, whole: the 1/2 in front of the sum is all there is.": lambda z, mu, v: (
            right(z, mu, v) + 0.25 * v.sum(axis=1)
        ),
        "The sign of logvar is turned: a narrow Gaussian is high.": lambda z, mu, v: right(z, mu, v) + v.sum(axis=1),
        "The product of so many densities overflows or becomes 0: add their logarithms instead.": lambda z, mu, v: (
            quietly(lambda: np.log(np.exp(right(z, mu, v))))
        ),
        "The term with logvar is missing: a narrow Gaussian is high.": lambda z, mu, v: (
            right(z, mu, v) + 0.5 * v.sum(axis=1)
        ),
        "log(2 pi) is missing.": lambda z, mu, v: right(z, mu, v) + 0.5 * z.shape[1] * np.log(2 * np.pi),
        "log(2 pi) belongs to every dimension: inside the sum.": lambda z, mu, v: (
            right(z, mu, v) + 0.5 * (z.shape[1] - 1) * np.log(2 * np.pi)
        ),
        "The dimensions are independent, so their logs are added, not averaged.": lambda z, mu, v: (
            right(z, mu, v) / z.shape[1]
        ),
        "The axes are exchanged: codes along the first, images along the second.": lambda z, mu, v: right(z, mu, v).T,
        "That is the logarithm's argument: return log q, as exp(-1000) is 0.": lambda z, mu, v: np.exp(right(z, mu, v)),
    }
    cases, read = without_index(posteriors(rng)), f"{PAGE}#the-maths"
    agree_on_cases("log_densities", work.log_densities, right, cases, mistakes=mistakes, read=read)


def one_gaussian(z, mu, logvar):
    z, mu, logvar = (value.astype(np.float64) for value in (z, mu, logvar))
    variance = np.exp(logvar).mean(axis=0) + mu.var(axis=0)
    return -0.5 * ((z - mu.mean(axis=0)) ** 2 / variance + np.log(2 * np.pi * variance)).sum(axis=1)


def part_log_aggregate(work, rng):
    """log_aggregate: the mean of the posteriors"""
    right = aggregate
    mistakes = {
        "exp(log q) overflows or becomes 0 before the log is taken. Take the largest log q out first (logsumexp).": (
            lambda z, mu, v: np.log(np.exp(all_densities(z, mu, v)).mean(axis=1))
        ),
        "The weight 1/N was added once for every latent dimension: ln N is taken off Z times instead of once. Sum over "
        "the dimensions first, then weigh.": lambda z, mu, v: right(z, mu, v) - (z.shape[1] - 1) * np.log(len(mu)),
        "q(z) is a mean of N densities, and this is their sum: - ln N is missing.": lambda z, mu, v: (
            right(z, mu, v) + np.log(len(mu))
        ),
        "The mean over the codes; the N posteriors are along the other axis.": (
            lambda z, mu, v: log_mean(all_densities(z, mu, v), axis=0),
            lambda z, mu, v: np.logaddexp.reduce(all_densities(z, mu, v), axis=0) - np.log(len(mu)),
        ),
        "ln M, of the codes, is taken off: the mean is over the N posteriors.": lambda z, mu, v: (
            right(z, mu, v) + np.log(len(mu)) - np.log(len(z))
        ),
        "The largest was taken out, and not put back.": lambda z, mu, v: (
            right(z, mu, v) - all_densities(z, mu, v).max(axis=1)
        ),
        "A column (M, 1) and a row (M,) make (M, M): the largest needs keepdims for the difference, not for the sum.": (
            lambda z, mu, v: (
                (right(z, mu, v) - all_densities(z, mu, v).max(axis=1)) + all_densities(z, mu, v).max(axis=1)[:, None]
            )
        ),
        "One Gaussian with the mixture's mean and variance; q(z) has as many humps as there are images.": one_gaussian,
        "The mean of the logs; the densities are averaged, then comes the log.": lambda z, mu, v: all_densities(
            z, mu, v
        ).mean(axis=1),
        "That is the product of q(z_j) over the dimensions. A mixture of independent Gaussians is not independent: sum "
        "over the dimensions first, then average over the images.": lambda z, mu, v: log_mean(
            per_dimension(z, mu, v)
        ).sum(axis=1),
        "The largest of the N stands for the mean of them.": lambda z, mu, v: all_densities(z, mu, v).max(axis=1),
    }
    cases, read = without_index(posteriors(rng)), f"{PAGE}#what-the-code-holds"
    agree_on_cases("log_aggregate", work.log_aggregate, right, cases, mistakes=mistakes, read=read)


def left_out(z, index, mu, logvar):
    """The mixture without the image that the code was drawn from."""
    log_q = all_densities(z, mu, logvar)
    own = log_q[np.arange(len(z)), index]
    log_q[np.arange(len(z)), index] = -np.inf
    with np.errstate(all="ignore"):
        return own - np.logaddexp.reduce(log_q, axis=1) + np.log(len(mu) - 1)


def part_information(work, rng):
    """information: what a code tells about its image, never above ln N"""

    def right(z, index, mu, logvar):
        own, mixture = own_and_mixture(z, index, mu, logvar)
        return own - mixture

    def own_of(z, index, mu, logvar):
        return own_and_mixture(z, index, mu, logvar)[0]

    def log_prior(z):
        return -0.5 * (z.astype(np.float64) ** 2 + np.log(2 * np.pi)).sum(axis=1)

    mistakes = {
        "The sign is turned: the own posterior is the higher one.": lambda *case: -right(*case),
        "That is log q(z|x) - log p(z), the whole rate. I compares with the aggregate q(z), not with the prior.": (
            lambda z, index, mu, v: own_of(z, index, mu, v) - log_prior(z)
        ),
        "That is log q(z) - log p(z), the other part of the rate.": lambda z, index, mu, v: (
            aggregate(z, mu, v) - log_prior(z)
        ),
        "A code's own posterior belongs to the mixture too: without it I is not bounded by ln N.": left_out,
        "Code number m was drawn from the posterior number index[m], not from number m.": lambda z, index, mu, v: right(
            z, np.arange(len(z)) % len(mu), mu, v
        ),
        "[:, index] takes M columns for every code; one for each is [np.arange(M), index].": lambda z, index, mu, v: (
            all_densities(z, mu, v)[:, index] - aggregate(z, mu, v)
        ),
        "q(z) is the mean of all N posteriors, not only of those that codes were drawn from.": (
            lambda z, index, mu, v: own_of(z, index, mu, v) - aggregate(z, mu[index], v[index])
        ),
        "That is log q(z|x) alone, and log q(z) is to be taken off.": own_of,
    }
    cases, read = posteriors(rng), f"{PAGE}#what-the-code-holds"
    agree_on_cases("information", work.information, right, cases, mistakes=mistakes, read=read)


# --- the frontier -------------------------------------------------------------------------------------------------


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

    def before_max(variances, level):
        return 0.5 * np.log(variances / level)

    mistakes = {
        "A component below the water gets a negative rate here; it is left out, and costs 0.": lambda v, s2, beta: (
            before_max(v, beta * s2).sum()
        ),
        "The level of the water is beta s2; beta is missing.": lambda v, s2, beta: right(v, s2, 1),
        "The level of the water is beta s2; s2 is missing.": lambda v, s2, beta: right(v, 1, beta),
        "s2 is the variance already: neither square it nor take its root.": (
            lambda v, s2, beta: right(v, s2**2, beta),
            lambda v, s2, beta: right(v, s2**0.5, beta),
        ),
        "The 0 is for each component that is below the water, not for their sum.": lambda v, s2, beta: max(
            before_max(v, beta * s2).sum(), 0
        ),
        "log(1 + v / level) never gets to 0; below the water the rate is 0: max(v / level, 1).": lambda v, s2, beta: (
            before_max(v + beta * s2, beta * s2).sum()
        ),
        "A larger beta makes the code cheaper: the level is beta times s2, not s2 / beta.": lambda v, s2, beta: right(
            v, s2, 1 / beta
        ),
        "The 1/2 is missing: the logarithm of a standard deviation is half that of the variance.": (
            lambda v, s2, beta: 2 * right(v, s2, beta)
        ),
        "R is the rate itself; beta decides where on the frontier we stand, and is not a factor of R.": (
            lambda v, s2, beta: beta * right(v, s2, beta)
        ),
        "In bits; nats want the natural logarithm.": lambda v, s2, beta: right(v, s2, beta) / np.log(2),
        "Summed over the components, not averaged.": lambda v, s2, beta: right(v, s2, beta) / len(v),
    }
    cases, read = sources(rng), f"{PAGE}#the-frontier"
    agree_on_cases("frontier_rate", work.frontier_rate, right, cases, mistakes=mistakes, read=read)


def part_frontier_distortion(work, rng):
    """frontier_distortion: with R, a frontier of slope -beta"""

    def right(variances, s2, beta):
        error = linear_rate_distortion(np.sort(variances)[::-1], len(variances), s2, beta)[1]
        return 0.5 * error / s2 + constants(variances, s2)

    def constants(variances, s2):
        return 0.5 * len(variances) * np.log(2 * np.pi * s2)

    mistakes = {
        "The constants of the Gaussian are missing: ln(2 pi s2) / 2 for each component.": lambda v, s2, beta: (
            right(v, s2, beta) - constants(v, s2)
        ),
        "ln(2 pi s2) belongs to each component: inside the sum.": lambda v, s2, beta: (
            right(v, s2, beta) - constants(v, s2) + constants([0], s2)
        ),
        "s2 is missing in ln(2 pi s2).": lambda v, s2, beta: right(v, s2, beta) - constants(v, s2) + constants(v, 1),
        "The squared error in nats is error / (2 s2); it is not divided by 2 s2 here.": lambda v, s2, beta: (
            2 * s2 * (right(v, s2, beta) - constants(v, s2)) + constants(v, s2)
        ),
        "The squared error in nats is error / (2 s2); the 1/2 is missing.": lambda v, s2, beta: (
            2 * (right(v, s2, beta) - constants(v, s2)) + constants(v, s2)
        ),
        "The squared error in nats is error / (2 s2); s2 is missing.": lambda v, s2, beta: (
            s2 * (right(v, s2, beta) - constants(v, s2)) + constants(v, s2)
        ),
        "The error is divided by the decoder's variance s2; beta belongs to the level alone.": lambda v, s2, beta: (
            (right(v, s2, beta) - constants(v, s2)) / beta + constants(v, s2)
        ),
        "The decoder's variance is s2, also in the constants; beta belongs to the level alone.": lambda v, s2, beta: (
            right(v, s2, beta) + 0.5 * len(v) * np.log(beta)
        ),
        "The 1/2 stands before the constants as well.": lambda v, s2, beta: right(v, s2, beta) + constants(v, s2),
        "Every error is at the level here; one below the water cannot be larger than its variance.": (
            lambda v, s2, beta: 0.5 * len(v) * beta + constants(v, s2)
        ),
        "A component that is left out of the code still has to be decoded: its error and its constants count.": (
            lambda v, s2, beta: 0.5 * beta * (v > beta * s2).sum() + constants(v[v > beta * s2], s2)
        ),
        "That is D + beta R, what training makes small; D alone is asked for.": lambda v, s2, beta: (
            right(v, s2, beta) + 0.5 * beta * np.log(np.maximum(v / (beta * s2), 1)).sum()
        ),
        "The larger of variance and water was taken. No component can be worse than left out: its error is at most its "
        "variance.": lambda v, s2, beta: 0.5 * np.maximum(v, beta * s2).sum() / s2 + constants(v, s2),
        "A component that is left out is not without error: its error is its whole variance.": lambda v, s2, beta: (
            0.5 * (beta * s2 * (v > beta * s2)).sum() / s2 + constants(v, s2)
        ),
        "The error of a component that is used is the level of the water, beta s2.": lambda v, s2, beta: (
            0.5 * v[v <= beta * s2].sum() / s2 + constants(v, s2)
        ),
        "The level of the water is beta s2; beta is missing.": lambda v, s2, beta: right(v, s2, 1),
    }
    cases, read = sources(rng), f"{PAGE}#the-frontier"
    agree_on_cases("frontier_distortion", work.frontier_distortion, right, cases, mistakes=mistakes, read=read)


PARTS = (
    part_pixel_entropy,
    part_distortion_without_z,
    part_log_densities,
    part_log_aggregate,
    part_information,
    part_frontier_rate,
    part_frontier_distortion,
)

HINTS = (
    "pixel_entropy: -x ln x - (1 - x) ln(1 - x), added up over the pixels, averaged over the images. Where x is 0, "
    "np.log(np.where(x > 0, x, 1)) is 0 as well, and so is the product.",
    "distortion_without_z: D is linear in x, so all that counts of the images is their mean. Which picture gives the "
    "least cross-entropy with the mean image, and what is that least one called? One call of pixel_entropy is enough.",
    "log_densities: z[:, None] is (M, 1, Z) and mu is (N, Z), so z[:, None] - mu is (M, N, Z). Per dimension "
    "-(difference^2 / variance + logvar + log 2 pi) / 2; sum over the last axis.",
    "log_aggregate: the log of a mean of N numbers whose logs you have: np.logaddexp.reduce(log_q, axis=1) - ln N. Or "
    "take the row's largest out, exp, mean, log, and put it back.",
    "information: log_densities(z, mu, logvar)[np.arange(len(z)), index] is each code under its own posterior.",
    "frontier_rate: the water stands at beta * s2. A component of variance v costs ln(v / (beta s2)) / 2 where that is "
    "above 0. np.maximum, with two arguments, takes the larger for each component.",
    "frontier_distortion: -log of a Gaussian with variance s2 is (error / s2 + ln(2 pi s2)) / 2. The error of a "
    "component is the smaller of v and beta s2: np.minimum.",
)

SAFE = "np.log(np.where(p > 0, p, 1))"
MIXTURE = "np.logaddexp.reduce(log_q, axis=1) - np.log(len(mu))"
SQUARES = "* np.exp(-logvar)"
OWN = "[np.arange(len(z)), index]"

WRONG = (
    Wrong("0 log 0", SAFE, "np.log(p)", "0 * log(0) is nan"),
    Wrong("light pixels only", "np.stack([x, 1 - x])", "x", "dark half"),
    Wrong("per pixel", SAFE + ").sum() / len(x)", SAFE + ").sum(axis=0).mean()", "not per pixel"),
    Wrong("bits", SAFE, SAFE.replace("np.log(", "np.log2("), "bits"),
    Wrong("the floor for the ceiling", "x.mean(axis=0, keepdims=True)", "x", "first the mean image"),
    Wrong(
        "dark in every image",
        "return pixel_entropy(x.mean(axis=0, keepdims=True))",
        "mean = x.mean(axis=0)\n    return -(mean * np.log(mean) + (1 - mean) * np.log(1 - mean)).sum()",
        "dark in all images",
    ),
    Wrong("grey everywhere", "x.mean(axis=0, keepdims=True)", "0 * x + 0.5", "knows nothing"),
    Wrong("over the pixels", "x.mean(axis=0, keepdims=True)", "x.mean(axis=(2, 3), keepdims=True)", "axis 0"),
    Wrong("one grey level", "x.mean(axis=0, keepdims=True)", "np.full_like(x, x.mean())", "leaves each pixel its own"),
    Wrong("variance squared", SQUARES, "* np.exp(-2 * logvar)", "do not square"),
    Wrong("std for variance", SQUARES, "* np.exp(-0.5 * logvar)", "not by the standard deviation"),
    Wrong("half a logvar", "squares + logvar + ", "squares + 0.5 * logvar + ", "logvar, whole"),
    Wrong("logvar turned", "squares + logvar + ", "squares - logvar + ", "sign of logvar"),
    Wrong("no square", "(z[:, None] - mu) ** 2", "(z[:, None] - mu)", "to be squared"),
    Wrong(
        "logvar for the variance",
        "(squares + logvar + np.log(2 * np.pi))",
        "((z[:, None] - mu) ** 2 / logvar + np.log(logvar) + np.log(2 * np.pi))",
        "logarithm of the variance",
    ),
    Wrong(
        "a product of densities",
        "return -0.5 * (squares + logvar + np.log(2 * np.pi)).sum(axis=-1)",
        "return np.log(np.exp(-0.5 * (squares + logvar + np.log(2 * np.pi))).prod(axis=-1))",
        "add their logarithms",
    ),
    Wrong("no width", "squares + logvar + ", "squares + ", "narrow Gaussian is high"),
    Wrong(
        "2 pi once", "+ np.log(2 * np.pi)).sum(axis=-1)", ").sum(axis=-1) - 0.5 * np.log(2 * np.pi)", "every dimension"
    ),
    Wrong(
        "axes exchanged",
        "(squares + logvar + np.log(2 * np.pi)).sum(axis=-1)",
        "(squares + logvar + np.log(2 * np.pi)).sum(axis=-1).T",
        "axes are exchanged",
    ),
    Wrong(
        "the weight in every dimension", "- np.log(len(mu))", "- z.shape[1] * np.log(len(mu))", "once for every latent"
    ),
    Wrong("no 1/N", " - np.log(len(mu))", "", "- ln N is missing"),
    Wrong("overflow", MIXTURE, "np.log(np.exp(log_q).mean(axis=1))", "Take the largest"),
    Wrong("mean of logs", MIXTURE, "log_q.mean(axis=1)", "mean of the logs"),
    Wrong("ln M", "- np.log(len(mu))", "- np.log(len(z))", "ln M"),
    Wrong("the largest forgotten", MIXTURE, MIXTURE + " - log_q.max(axis=1)", "not put back"),
    Wrong(
        "a column and a row",
        MIXTURE,
        "(most := log_q.max(axis=1, keepdims=True)) + np.log(np.exp(log_q - most).mean(axis=1))",
        "make (M, M)",
    ),
    Wrong(
        "one Gaussian",
        "log_q = log_densities(z, mu, logvar)\n    return " + MIXTURE,
        "variance = np.exp(logvar).mean(axis=0) + mu.var(axis=0)\n"
        "    return log_densities(z, mu.mean(axis=0, keepdims=True), np.log(variance)[None])[:, 0]",
        "as many humps",
    ),
    Wrong("over the codes, by N", MIXTURE, "np.logaddexp.reduce(log_q, axis=0) - np.log(len(mu))", "over the codes"),
    Wrong("over the codes", MIXTURE, "np.logaddexp.reduce(log_q, axis=0) - np.log(len(z))", "over the codes"),
    Wrong(
        "a product of marginals",
        "log_q = log_densities(z, mu, logvar)\n    return " + MIXTURE,
        "parts = [log_densities(z[:, [d]], mu[:, [d]], logvar[:, [d]]) for d in range(z.shape[1])]\n"
        "    return sum(np.logaddexp.reduce(part, axis=1) - np.log(len(mu)) for part in parts)",
        "is not independent",
    ),
    Wrong(
        "against the prior",
        "own - log_aggregate(z, mu, logvar)",
        "own + 0.5 * (z**2 + np.log(2 * np.pi)).sum(axis=1)",
        "the whole rate",
    ),
    Wrong("the wrong image", OWN, "[np.arange(len(z)), np.arange(len(z)) % len(mu)]", "number index[m]"),
    Wrong("all columns", OWN, "[:, index]", "M columns for every code"),
    Wrong(
        "some of the posteriors",
        "own - log_aggregate(z, mu, logvar)",
        "own - log_aggregate(z, mu[index], logvar[index])",
        "all N posteriors",
    ),
    Wrong(
        "itself left out",
        "return own - log_aggregate(z, mu, logvar)",
        "log_q = log_densities(z, mu, logvar).astype(float)\n    log_q[np.arange(len(z)), index] = -np.inf\n"
        "    return own - np.logaddexp.reduce(log_q, axis=1) + np.log(len(mu) - 1)",
        "belongs to the mixture",
    ),
    Wrong(
        "a negative rate",
        "np.log(np.maximum(variances / (beta * s2), 1))",
        "np.log(variances / (beta * s2))",
        "negative",
    ),
    Wrong(
        "a sum below 0",
        "0.5 * np.log(np.maximum(variances / (beta * s2), 1)).sum()",
        "max(0.5 * np.log(variances / (beta * s2)).sum(), 0)",
        "not for their sum",
    ),
    Wrong("s2 squared", "variances / (beta * s2), 1", "variances / (beta * s2**2), 1", "variance already"),
    Wrong(
        "one plus", "np.log(np.maximum(variances / (beta * s2), 1))", "np.log1p(variances / (beta * s2))", "never gets"
    ),
    Wrong("no s2", "errors / s2 +", "errors +", "s2 is missing"),
    Wrong("beta below the error", "errors / s2 +", "errors / (beta * s2) +", "to the level alone"),
    Wrong("beta in the constants", "np.log(2 * np.pi * s2)", "np.log(2 * np.pi * beta * s2)", "also in the constants"),
    Wrong("half an error", "0.5 * (errors / s2 +", "(0.5 * errors / s2 +", "before the constants"),
    Wrong("all at the level", "np.minimum(variances, beta * s2)", "0 * variances + beta * s2", "Every error"),
    Wrong(
        "only what is coded",
        "    errors = np.minimum(variances, beta * s2)",
        "    errors = np.minimum(variances, beta * s2)[variances > beta * s2]",
        "still has to be decoded",
    ),
    Wrong(
        "with the rate",
        "    return 0.5 * (errors / s2 + np.log(2 * np.pi * s2)).sum()",
        "    D = 0.5 * (errors / s2 + np.log(2 * np.pi * s2)).sum()\n"
        "    return D + beta * frontier_rate(variances, s2, beta)",
        "D alone",
    ),
    Wrong("water upside down", "variances / (beta * s2)", "variances * beta / s2", "not s2 / beta"),
    Wrong("beta times R", "return 0.5 * np.log(np.max", "return beta * 0.5 * np.log(np.max", "not a factor"),
    Wrong("no constants", "errors / s2 + np.log(2 * np.pi * s2)", "errors / s2", "constants of the Gaussian"),
    Wrong("the larger error", "np.minimum", "np.maximum", "at most its"),
    Wrong(
        "the unused are perfect",
        "np.minimum(variances, beta * s2)",
        "beta * s2 * (variances > beta * s2)",
        "whole variance",
    ),
    Wrong("an error without s2", "0.5 * (errors / s2 +", "0.5 * (2 * errors +", "not divided by 2 s2"),
)

EQUIVALENT = {
    "pixel_entropy: 1 -> 2 in return -(p * np.log(np.where(p > 0, p, 1))).sum() / len(x)": (
        "the logarithm stands beside a factor that is 0 there"
    ),
}
