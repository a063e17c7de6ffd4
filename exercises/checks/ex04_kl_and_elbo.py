"""What exercise 4 asks for, compared with level 1's loss, SciPy's densities and PyTorch's KL."""

import numpy as np
import torch
from scipy import stats
from torch.distributions import Normal, kl_divergence

import vae_numpy as right
from checks.judging import agree_on_cases, misweighed
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


def pairs(rng):
    """Cases {mu, logvar, mu_p, logvar_p}: p for each image, one p for all, and numbers."""
    for case in posteriors(rng):
        mu_p, logvar_p = 2 * rng.normal(size=(2, *case["mu"].shape)).astype(case["mu"].dtype)
        yield {**case, "mu_p": mu_p, "logvar_p": logvar_p}
        yield {**case, "mu_p": mu_p[0], "logvar_p": logvar_p[0]}
    yield {**case, "mu_p": 0.7, "logvar_p": -1.3}


def with_noise(rng, cases):
    """The cases with eps (K, B, Z) as their third argument, K from 1 on."""
    for K, case in enumerate(cases, start=1):
        eps = rng.normal(size=(K, *case["mu"].shape)).astype(case["mu"].dtype)
        yield dict(mu=case["mu"], logvar=case["logvar"], eps=eps, **dict(list(case.items())[2:]))


def sampled(mu, logvar, eps, mu_p=0.0, logvar_p=0.0):
    """The mean of log q - log p over the draws."""
    std, std_p = np.exp(logvar / 2), np.exp(np.float64(logvar_p) / 2)
    z = mu + std * eps
    return (stats.norm.logpdf(z, mu, std) - stats.norm.logpdf(z, mu_p, std_p)).sum(axis=-1).mean(axis=0)


def part_monte_carlo_kl(work, rng):
    """monte_carlo_kl: from samples, against the prior"""

    def mistakes(y, mu, logvar, eps):
        too_wide = mu + np.exp(logvar) * eps
        terms = {
            "-log std in log q, as a narrow Gaussian is high": -0.5 * logvar.sum(axis=1),
            "-1/2 log(2 pi) of each latent, which is in both or in neither": 0.5 * np.log(2 * np.pi) * mu.shape[1],
        }
        return {
            "That is the closed form; here the mean over the samples is asked for.": right.gaussian_kl(mu, logvar),
            "The samples have std^2 where they should have std: z = mu + exp(logvar / 2) eps.": (
                0.5 * (too_wide**2 - eps**2 - logvar).sum(axis=-1).mean(axis=0)  # with eps for (z - mu) / std
            ),
            **misweighed(y, terms),
        }

    cases = with_noise(rng, posteriors(rng))
    agree_on_cases("monte_carlo_kl", work.monte_carlo_kl, sampled, cases, mistakes, "stage-1-by-sampling")


def part_monte_carlo_kl_between_two(work, rng):
    """monte_carlo_kl: between any two Gaussians"""

    def mistakes(y, mu, logvar, eps, mu_p, logvar_p):
        return {
            "p is still the prior: mu_p and logvar_p are not used.": sampled(mu, logvar, eps),
            **misweighed(y, {"-log std_p in log p": 0.5 * (np.zeros_like(mu) + logvar_p).sum(axis=1)}),
        }

    cases = with_noise(rng, pairs(rng))
    agree_on_cases("monte_carlo_kl", work.monte_carlo_kl, sampled, cases, mistakes, "stage-1-by-sampling")


def part_gaussian_kl(work, rng):
    """gaussian_kl: the closed form, against the prior"""

    def mistakes(y, mu, logvar):
        terms = {
            "the constant -1 of each dimension, without which gradients agree and nats do not": -mu.shape[1] / 2,
            "-logvar / 2, as a narrow posterior costs more": -0.5 * logvar.sum(axis=1),
        }

        def bracket(var):
            return 0.5 * (mu**2 + var - 1 - logvar).sum(axis=1)

        return {
            "std^2 is exp(logvar); yours has exp(logvar / 2), which is std.": bracket(np.exp(logvar / 2)),
            "std^2 is exp(logvar) already: do not square it.": bracket(np.exp(2 * logvar)),
            "That is KL(prior || posterior); the other direction is asked for.": (
                0.5 * ((1 + mu**2) * np.exp(-logvar) - 1 + logvar).sum(axis=1)
            ),
            **misweighed(y, terms),
        }

    read = "stage-2-the-integral"
    agree_on_cases("gaussian_kl", work.gaussian_kl, right.gaussian_kl, posteriors(rng), mistakes, read)


def between(mu, logvar, mu_p, logvar_p):
    """By torch.distributions, summed over the latents."""
    q, p = (
        Normal(torch.as_tensor(np.float64(mean)), torch.as_tensor(np.exp(np.float64(logvar) / 2)))
        for mean, logvar in ((mu, logvar), (mu_p, logvar_p))
    )
    return kl_divergence(q, p).sum(dim=-1).numpy()


def part_gaussian_kl_between_two(work, rng):
    """gaussian_kl: between any two Gaussians"""

    def mistakes(y, mu, logvar, mu_p, logvar_p):
        square, zeros, var_p = (mu - mu_p) ** 2, np.zeros_like(mu), np.exp(np.float64(logvar_p))
        return {
            "p is still the prior: mu_p and logvar_p are not used.": right.gaussian_kl(mu, logvar),
            "That is KL(p || q); the other direction is asked for.": between(
                mu_p + zeros, logvar_p + zeros, mu, logvar
            ),
            "The distance of the means counts in units of std_p.": y + 0.5 * (square - square / var_p).sum(axis=1),
            **misweighed(y, {"log std_p = logvar_p / 2": 0.5 * (zeros + logvar_p).sum(axis=1)}),
        }

    agree_on_cases("gaussian_kl", work.gaussian_kl, between, pairs(rng), mistakes, "stage-2-the-integral")


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
            "Black and white are exchanged: x belongs to the probability sigmoid(l).": recon(x, -l),
            "Only x log s: a black pixel says something too.": (x * np.logaddexp(0, -l)).sum(axis=(1, 2, 3)),
            "log(sigmoid(l)) or exp(l) is not finite, or no longer right, where the logit is large: work on the logit "
            "itself, in a form for both signs.": (
                of(s, 1 - s),
                (l - l * x + np.log(1 + np.exp(-l))).sum(axis=(1, 2, 3)),
                (np.log(1 + np.exp(l)) - l * x).sum(axis=(1, 2, 3)),
            ),
            CLAMPED: (
                *(of(s.clip(least, 1 - least), 1 - s.clip(least, 1 - least)) for least in smallest),
                *(of(s + least, 1 - s + least) for least in smallest),
            ),
        }

    agree_on_cases("bernoulli_recon", work.bernoulli_recon, recon, pictures(rng), mistakes, "logits")


def bound(x, x_logits, mu, logvar):
    return -(right.bernoulli_recon(x, x_logits) + right.gaussian_kl(mu, logvar))


def part_elbo(work, rng):
    """elbo: in nats, for each image"""
    cases = []
    for picture in pictures(rng):
        mu, logvar = rng.normal(size=(2, len(picture["x"]), int(rng.integers(1, 9)))).astype(picture["x"].dtype)
        cases.append(dict(**picture, mu=mu, logvar=logvar))

    def mistakes(y, x, l, mu, logvar):
        return misweighed(
            y, {"the KL, which lowers the bound": -right.gaussian_kl(mu, logvar), "recon": -right.bernoulli_recon(x, l)}
        )

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

        white, black = np.nan_to_num(x * np.log(x)), np.nan_to_num((1 - x) * np.log(1 - x))
        near_0 = [10.0**-n for n in range(3, 13)]
        clipped = [x.clip(least, 1 - least) for least in near_0[:5]]
        return {
            "That has one half only: a pixel of grey x is white with probability x and black with 1 - x.": of(white, 0),
            "A small number put in against 0 log 0 moves the answer: take the log only of what is above 0.": (
                *(of(x * np.log(x + least), (1 - x) * np.log(1 - x + least)) for least in near_0),
                *(of(x * np.log(x + least), black) for least in near_0),
                *(of(s * np.log(s), (1 - s) * np.log(1 - s)) for s in clipped),
            ),
            "That takes x for the logit. The best s is a probability.": right.bernoulli_recon(x, x),
        }

    agree_on_cases("entropy_floor", work.entropy_floor, floor, cases, mistakes, "the-floor")


HINTS = (
    "monte_carlo_kl: draw from q, look both densities up at each draw, and take the mean of log q - log p.",
    "monte_carlo_kl: z = mu + exp(logvar / 2) eps is (K, B, Z), and so are both log-densities. Sum over the last axis, "
    "mean over axis 0.",
    "monte_carlo_kl: with (z - mu) / std = eps, log q is -1/2 (eps^2 + logvar) and log p is -1/2 ((z - mu_p)^2 / "
    "exp(logvar_p) + logvar_p), both up to the same constant.",
    "gaussian_kl: put z = mu + std eps into both log-densities. Their difference is c0 + c1 eps + c2 eps^2, and its "
    "mean c0 + c2.",
    "gaussian_kl: c0 holds what has no eps, two logarithms and the squared distance of the means over std_p^2; c2 what "
    "multiplies eps^2, from log q and from log p. Both are (B, Z): sum over the last axis.",
    "gaussian_kl: c0 = (logvar_p - logvar + (mu - mu_p)^2 / exp(logvar_p)) / 2, c2 = (exp(logvar - logvar_p) - 1) / 2.",
    "bernoulli_recon: write -log s and -log(1 - s) in l, by s = 1 / (1 + exp(-l)); their difference is simple.",
    "bernoulli_recon: l - l x + log(1 + exp(-l)) is right, entry by entry. For l < 0 that exp overflows: put "
    "log(1 + exp(-l)) = -l + log(1 + exp(l)) there, and see what the two signs have in common. Sum over all axes but "
    "the first.",
    "bernoulli_recon: np.maximum(l, 0) - l * x + np.log1p(np.exp(-np.abs(l)))",
    "elbo: it is to become large, and recon and kl are costs.",
    "elbo: two of your own functions, each (B,).",
    "elbo: -bernoulli_recon(x, x_logits) - gaussian_kl(mu, logvar)",
    "entropy_floor: where is the derivative of -x log s - (1 - x) log(1 - s) by s equal to 0?",
    "entropy_floor: put s = x in, pixel by pixel, and sum over all axes but the first. For x = 0 and x = 1 that is 0, "
    "but NumPy answers NaN to 0 log 0.",
    "entropy_floor: -x * np.log(np.where(x > 0, x, 1)), and the same with 1 - x in place of x.",
)
