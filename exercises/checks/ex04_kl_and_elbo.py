"""What exercise 4 asks for, compared with level 1's loss and with SciPy's densities."""

import numpy as np
from scipy import stats

import vae_numpy as right
from checks.judging import agree_on_cases
from vae_common import data

FORBIDDEN = ("vae_numpy", "vae_lowlevel", "conv_vae", "vae_models", "vae_common")  # they hold the answer
DTYPES = (np.float64, np.float32)


def posteriors(rng):
    """Cases {mu, logvar}: some batches, Z = 1, the prior itself, posteriors wide, narrow and far away."""
    for dtype in DTYPES:
        for B, Z, width in ((5, 3, 1), (1, 7, 2), (4, 1, 1), (3, 20, 4)):
            mu, logvar = width * rng.normal(size=(2, B, Z)).astype(dtype)
            yield dict(mu=mu, logvar=logvar)
    yield dict(mu=np.zeros((2, 3)), logvar=np.zeros((2, 3)))


def pictures(rng):
    """Cases {x, x_logits}: grey and black-and-white pixels; logits so large that the sigmoid rounds to 0 or 1."""
    for dtype in DTYPES:
        for shape, size in (((5, 1, 4, 3), 1), ((1, 1, 6, 5), 3), ((3, 1, 28, 28), 2), ((2, 1, 3, 3), 200)):
            x = rng.random(size=shape)
            x = x if size != 3 else (x > 0.5) * 1.0
            yield dict(x=x.astype(dtype), x_logits=(size * rng.normal(size=shape)).astype(dtype))
    wrong_side = np.array([0.0, 1.0, 0.0, 1.0]).reshape(1, 1, 2, 2)
    yield dict(x=wrong_side, x_logits=np.array([80.0, -90.0, 700.0, -750.0]).reshape(1, 1, 2, 2))


# --- the KL -------------------------------------------------------------------------------------------------------


def part_gaussian_kl(work, rng):
    """gaussian_kl: the closed form"""
    kl = right.gaussian_kl

    def mistakes(y, mu, logvar):
        return {
            "Exactly twice the right one: is the 1/2 missing?": 2 * y,
            "The sign of the bracket is turned: a KL is never below 0.": -y,
            "The sign of the bracket is turned, and its 1/2 is missing.": -2 * y,
            "The mean over the latents; nats add up: sum over Z.": y / mu.shape[1],
            "One number for the whole batch; each image has its own KL: sum over the last axis only.": y.sum(),
            "The batch's mean; leave that to the caller: sum over the last axis only.": y.mean(),
            "The constant -1 of each dimension is missing: gradients agree without it, nats do not.": (
                y + mu.shape[1] / 2
            ),
            "Right if logvar were the log of std; it is the log of std^2, so std^2 = exp(logvar).": (
                0.5 * (mu**2 + np.exp(2 * logvar) - 1 - 2 * logvar).sum(axis=1)
            ),
            "std^2 is exp(logvar); yours has exp(logvar / 2), which is std.": (
                0.5 * (mu**2 + np.exp(logvar / 2) - 1 - logvar).sum(axis=1)
            ),
            "std^2 is exp(logvar) already: do not square it.": (
                0.5 * (mu**2 + np.exp(2 * logvar) - 1 - logvar).sum(axis=1)
            ),
            "The log of std^2 is logvar itself, not its half.": (
                0.5 * (mu**2 + np.exp(logvar) - 1 - logvar / 2).sum(axis=1)
            ),
            "log2 gives bits: the natural logarithm of std^2, which is logvar itself, gives nats.": (
                0.5 * (mu**2 + np.exp(logvar) - 1 - logvar / np.log(2)).sum(axis=1)
            ),
            "mu must be squared.": 0.5 * (mu + np.exp(logvar) - 1 - logvar).sum(axis=1),
            "That is KL(prior || posterior); the other direction is asked for.": (
                0.5 * ((1 + mu**2) * np.exp(-logvar) - 1 + logvar).sum(axis=1)
            ),
        }

    agree_on_cases("gaussian_kl", work.gaussian_kl, kl, posteriors(rng), mistakes, "the-maths")


def log_ratio(z, mu, std):
    """log q(z|x) - log p(z), summed over the latents."""
    return (stats.norm.logpdf(z, mu, std) - stats.norm.logpdf(z)).sum(axis=-1)


def estimate(mu, logvar, eps):
    std = np.exp(logvar / 2)
    return log_ratio(mu + std * eps, mu, std).mean(axis=0)


def from_eps(z, logvar, eps):
    """The estimate with log q written in eps, which stands for (z - mu) / std whatever z is."""
    return 0.5 * (z**2 - eps**2 - logvar).sum(axis=-1).mean(axis=0)


def part_monte_carlo_kl(work, rng):
    """monte_carlo_kl: the same from samples"""
    cases = [
        dict(case, eps=rng.normal(size=(K, *case["mu"].shape)).astype(case["mu"].dtype))
        for case, K in zip(posteriors(rng), (6, 1, 5, 4, 3, 2, 7, 4, 3), strict=True)
    ]

    def mistakes(y, mu, logvar, eps):
        return {
            "That is the closed form; here the mean over the samples is asked for.": right.gaussian_kl(mu, logvar),
            "The sign is turned: it is log q - log p.": -y,
            "The samples have std^2 where they should have std: z = mu + exp(logvar / 2) eps.": (
                log_ratio(mu + np.exp(logvar) * eps, mu, np.exp(logvar / 2)).mean(axis=0),
                from_eps(mu + np.exp(logvar) * eps, logvar, eps),
            ),
            "log q lacks its -log std: the density of a narrow Gaussian is high.": y + 0.5 * logvar.sum(axis=1),
            "The samples add up; take their mean (axis 0).": len(eps) * y,
            "The mean over the latents; log-densities of independent ones add up.": y / mu.shape[1],
            "log p is taken at mu; it must be taken at the sample z, as log q is.": from_eps(mu, logvar, eps),
            "One constant -1/2 log(2 pi) for each latent is in log q or log p alone; it is in both, or in neither.": (
                y - 0.5 * np.log(2 * np.pi) * mu.shape[1]
            ),
        }

    agree_on_cases("monte_carlo_kl", work.monte_carlo_kl, estimate, cases, mistakes, "two-ways-to-the-kl")


# --- the reconstruction -------------------------------------------------------------------------------------------


SATURATED = (
    "log(sigmoid(l)) is not finite, or no longer right, where the sigmoid rounds to 0 or 1: work on the logit itself. "
    "max(l, 0) - l x + log(1 + exp(-|l|)) never does."
)
CLAMPED = (
    "The sigmoid is clamped before the log, or a small number added to it: a pixel that is surely wrong costs too "
    "little, and has no gradient. Work on the logit itself."
)


def part_bernoulli_recon(work, rng):
    """bernoulli_recon: on logits, finite for every one"""
    recon = right.bernoulli_recon

    def mistakes(y, x, l):
        s = 1 / (1 + np.exp(-l))
        smallest = [10.0**-n for n in range(3, 17)]

        def of(white, black):
            return -(x * np.log(white) + (1 - x) * np.log(black)).sum(axis=(1, 2, 3))

        return {
            "The mean over the pixels; nats add up: sum over channels, height and width.": y / x[0].size,
            "One number for the whole batch; each image has its own.": y.sum(),
            "The batch's mean; leave that to the caller.": y.mean(),
            "The sign is turned: this is -log p, what a wrong pixel costs.": -y,
            "Black and white are exchanged: x belongs to the probability sigmoid(l).": recon(x, -l),
            "Only x log s: a black pixel says something too, (1 - x) log(1 - s).": (
                (x * np.logaddexp(0, -l)).sum(axis=(1, 2, 3))
            ),
            "log2 gives bits, and max(l, 0) - l x is in nats: take the natural logarithm.": (
                (np.maximum(l, 0) - l * x + np.log2(1 + np.exp(-np.abs(l)))).sum(axis=(1, 2, 3))
            ),
            SATURATED: of(s, 1 - s),
            "An exp overflows where the logit is large on one side: the form with |l| is for both signs.": (
                (l - l * x + np.log(1 + np.exp(-l))).sum(axis=(1, 2, 3)),
                (np.log(1 + np.exp(l)) - l * x).sum(axis=(1, 2, 3)),
            ),
            CLAMPED: (
                *(of(s.clip(least, 1 - least), 1 - s.clip(least, 1 - least)) for least in smallest),
                *(of(s + least, 1 - s + least) for least in smallest),
            ),
        }

    agree_on_cases("bernoulli_recon", work.bernoulli_recon, recon, pictures(rng), mistakes, "logits")


# --- the sum ------------------------------------------------------------------------------------------------------


def bound(x, x_logits, mu, logvar):
    return -(right.bernoulli_recon(x, x_logits) + right.gaussian_kl(mu, logvar))


def part_elbo(work, rng):
    """elbo: in nats, for each image"""
    cases = []
    for picture in pictures(rng):
        mu, logvar = rng.normal(size=(2, len(picture["x"]), int(rng.integers(1, 9)))).astype(picture["x"].dtype)
        cases.append(dict(**picture, mu=mu, logvar=logvar))

    def mistakes(y, x, l, mu, logvar):
        return {
            "That is the loss; the ELBO is minus that, and below log p(x).": -y,
            "The KL is added; it is a price, and lowers the bound.": (
                right.gaussian_kl(mu, logvar) - right.bernoulli_recon(x, l)
            ),
            "The KL is missing.": -right.bernoulli_recon(x, l),
            "The batch's mean; leave that to the caller.": y.mean(),
            "Bits; leave the log 2 out for nats.": y / np.log(2),
        }

    agree_on_cases("elbo", work.elbo, bound, cases, mistakes, "the-maths")


def floor(x):
    return np.array([data.entropy_floor(x[i : i + 1]) for i in range(len(x))])


def part_entropy_floor(work, rng):
    """entropy_floor: what grey pixels cost at the least"""
    cases = []
    for dtype in DTYPES:
        for shape in ((3, 1, 4, 5), (1, 1, 28, 28), (5, 1, 1, 1)):
            x = rng.random(size=shape).astype(dtype)
            cases += [dict(x=x), dict(x=np.where(x > 0.7, 1, np.where(x < 0.4, 0, x)))]
    cases.append(dict(x=(rng.random(size=(3, 1, 4, 4)) > 0.5).astype(np.float64)))

    def mistakes(y, x):
        def of(white, black):
            return -(white + black).sum(axis=(1, 2, 3))

        white, black = x * np.log(x), (1 - x) * np.log(1 - x)
        half = np.nan_to_num(white), np.nan_to_num(black)
        return {
            "0 log 0 is 0 here, but NaN to NumPy: take the log only of what is above 0 (np.where).": (
                of(white, black),
                of(white, half[1]),
                of(half[0], black),
            ),
            "That has one half only: a pixel of grey x is white with probability x and black with 1 - x.": (
                of(half[0], 0)
            ),
            "A small number put in against 0 log 0 moves the answer: take the log only of what is above 0.": (
                tuple(
                    of(np.nan_to_num(x * np.log(x + near_0)), np.nan_to_num((1 - x) * np.log(1 - x + near_1)))
                    for n in range(3, 13)
                    for near_0, near_1 in ((10.0**-n, 10.0**-n), (10.0**-n, 0), (0, 10.0**-n))
                )
            ),
            "Bits; take the natural log for nats.": y / np.log(2),
            "The sign is turned: an entropy is not below 0.": -y,
            "The mean over the pixels; nats add up.": y / x[0].size,
            "The batch's mean; each image has its own floor.": y.mean(),
        }

    agree_on_cases("entropy_floor", work.entropy_floor, floor, cases, mistakes, "the-floor")


HINTS = (
    "gaussian_kl: write the formula of the page down symbol by symbol. std^2 is exp(logvar), log std^2 is logvar "
    "itself. Sum over the last axis, and over no other.",
    "monte_carlo_kl: z = mu + exp(logvar / 2) eps has shape (K, B, Z). With (z - mu) / std = eps, the log-density of q "
    "is -1/2 sum(eps^2 + logvar), and of p -1/2 sum(z^2), both up to the same constant. Mean over axis 0.",
    "bernoulli_recon: with s = sigmoid(l), -log s = log(1 + exp(-l)) and -log(1 - s) = l + log(1 + exp(-l)). Put both "
    "into -x log s - (1 - x) log(1 - s): what is left is l - l x + log(1 + exp(-l)). For l < 0 that exp overflows; "
    "write log(1 + exp(-l)) = -l + log(1 + exp(l)) there.",
    "bernoulli_recon: in one line for both signs, np.maximum(l, 0) - l * x + np.log1p(np.exp(-np.abs(l))).",
    "elbo: two calls of your own functions. It is to become large, and recon and kl are costs.",
    "entropy_floor: bernoulli_recon with the best logit of each pixel, sigmoid(l) = x: the entropy -x log x - (1 - x) "
    "log(1 - x). For x = 0 and x = 1 it is 0: np.where(x > 0, x, 1) inside the log.",
)
