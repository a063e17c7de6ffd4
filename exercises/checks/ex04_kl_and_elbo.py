"""What exercise 4 asks for, compared with level 1's loss and with SciPy's densities."""

import numpy as np
from scipy import stats

import vae_numpy as right
from checks.judging import Wrong, agree_on_cases
from vae_common import data

FORBIDDEN = ("vae_numpy", "vae_lowlevel", "conv_vae", "beta_vae", "vae_common")  # they hold the answer
PAGE = "04_kl_and_elbo.md"
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
    mistakes = {
        "Exactly twice the right one: is the 1/2 missing?": lambda mu, logvar: 2 * kl(mu, logvar),
        "The sign of the bracket is turned: a KL is never below 0.": lambda mu, logvar: -kl(mu, logvar),
        "The sign of the bracket is turned, and its 1/2 is missing.": lambda mu, logvar: -2 * kl(mu, logvar),
        "The mean over the latents; nats add up: sum over Z.": lambda mu, logvar: kl(mu, logvar) / mu.shape[1],
        "One number for the whole batch; each image has its own KL: sum over the last axis only.": lambda mu, logvar: (
            kl(mu, logvar).sum()
        ),
        "The batch's mean; leave that to the caller: sum over the last axis only.": lambda mu, logvar: kl(
            mu, logvar
        ).mean(),
        "The constant -1 of each dimension is missing: gradients agree without it, nats do not.": lambda mu, logvar: (
            kl(mu, logvar) + mu.shape[1] / 2
        ),
        "Right if logvar were the log of std; it is the log of std^2, so std^2 = exp(logvar).": lambda mu, logvar: (
            0.5 * (mu**2 + np.exp(2 * logvar) - 1 - 2 * logvar).sum(axis=1)
        ),
        "std^2 is exp(logvar); yours has exp(logvar / 2), which is std.": lambda mu, logvar: (
            0.5 * (mu**2 + np.exp(logvar / 2) - 1 - logvar).sum(axis=1)
        ),
        "std^2 is exp(logvar) already: do not square it.": lambda mu, logvar: (
            0.5 * (mu**2 + np.exp(2 * logvar) - 1 - logvar).sum(axis=1)
        ),
        "The log of std^2 is logvar itself, not its half.": lambda mu, logvar: (
            0.5 * (mu**2 + np.exp(logvar) - 1 - logvar / 2).sum(axis=1)
        ),
        "mu must be squared.": lambda mu, logvar: 0.5 * (mu + np.exp(logvar) - 1 - logvar).sum(axis=1),
        "That is KL(prior || posterior); the other direction is asked for.": lambda mu, logvar: (
            0.5 * ((1 + mu**2) * np.exp(-logvar) - 1 + logvar).sum(axis=1)
        ),
    }
    cases, read = list(posteriors(rng)), f"{PAGE}#the-maths"
    agree_on_cases("gaussian_kl", work.gaussian_kl, kl, cases, mistakes=mistakes, read=read)


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
    mistakes = {
        "That is the closed form; here the mean over the samples is asked for.": lambda mu, logvar, eps: (
            right.gaussian_kl(mu, logvar)
        ),
        "The sign is turned: it is log q - log p.": lambda mu, logvar, eps: -estimate(mu, logvar, eps),
        "The samples have std^2 where they should have std: z = mu + exp(logvar / 2) eps.": (
            lambda mu, logvar, eps: log_ratio(mu + np.exp(logvar) * eps, mu, np.exp(logvar / 2)).mean(axis=0),
            lambda mu, logvar, eps: from_eps(mu + np.exp(logvar) * eps, logvar, eps),
        ),
        "log q lacks its -log std: the density of a narrow Gaussian is high.": lambda mu, logvar, eps: (
            estimate(mu, logvar, eps) + 0.5 * logvar.sum(axis=1)
        ),
        "The samples add up; take their mean (axis 0).": lambda mu, logvar, eps: len(eps) * estimate(mu, logvar, eps),
        "The mean over the latents; log-densities of independent ones add up.": lambda mu, logvar, eps: (
            estimate(mu, logvar, eps) / mu.shape[1]
        ),
        "log p is taken at mu; it must be taken at the sample z, as log q is.": lambda mu, logvar, eps: from_eps(
            mu, logvar, eps
        ),
        "One constant -1/2 log(2 pi) for each latent is in log q or log p alone; it is in both, or in neither.": (
            lambda mu, logvar, eps: estimate(mu, logvar, eps) - 0.5 * np.log(2 * np.pi) * mu.shape[1]
        ),
    }
    read = f"{PAGE}#two-ways-to-the-kl"
    agree_on_cases("monte_carlo_kl", work.monte_carlo_kl, estimate, cases, mistakes=mistakes, read=read)


# --- the reconstruction -------------------------------------------------------------------------------------------


def by_sigmoid(x, x_logits):
    with np.errstate(all="ignore"):
        s = 1 / (1 + np.exp(-x_logits))
        return -(x * np.log(s) + (1 - x) * np.log(1 - s)).sum(axis=(1, 2, 3))


def by_clamp(least):
    def recon(x, x_logits):
        with np.errstate(all="ignore"):
            s = (1 / (1 + np.exp(-x_logits))).clip(least, 1 - least)
            return -(x * np.log(s) + (1 - x) * np.log(1 - s)).sum(axis=(1, 2, 3))

    return recon


def by_sum(least):
    def recon(x, x_logits):
        with np.errstate(all="ignore"):
            s = 1 / (1 + np.exp(-x_logits))
            return -(x * np.log(s + least) + (1 - x) * np.log(1 - s + least)).sum(axis=(1, 2, 3))

    return recon


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
    mistakes = {
        "The mean over the pixels; nats add up: sum over channels, height and width.": lambda x, l: (
            recon(x, l) / x[0].size
        ),
        "One number for the whole batch; each image has its own.": lambda x, l: recon(x, l).sum(),
        "The batch's mean; leave that to the caller.": lambda x, l: recon(x, l).mean(),
        "The sign is turned: this is -log p, what a wrong pixel costs.": lambda x, l: -recon(x, l),
        "Black and white are exchanged: x belongs to the probability sigmoid(l).": lambda x, l: recon(x, -l),
        "Only x log s: a black pixel says something too, (1 - x) log(1 - s).": lambda x, l: (
            x * np.logaddexp(0, -l)
        ).sum(axis=(1, 2, 3)),
        SATURATED: by_sigmoid,
        "An exp overflows where the logit is large on one side: the form with |l| is for both signs.": (
            lambda x, l: (l - l * x + np.log(1 + np.exp(-l))).sum(axis=(1, 2, 3)),
            lambda x, l: (np.log(1 + np.exp(l)) - l * x).sum(axis=(1, 2, 3)),
        ),
        CLAMPED: tuple(form(10.0**-n) for n in range(3, 17) for form in (by_clamp, by_sum)),
    }
    cases, read = list(pictures(rng)), f"{PAGE}#logits"
    agree_on_cases("bernoulli_recon", work.bernoulli_recon, recon, cases, mistakes=mistakes, read=read)


# --- the sum ------------------------------------------------------------------------------------------------------


def bound(x, x_logits, mu, logvar):
    return -(right.bernoulli_recon(x, x_logits) + right.gaussian_kl(mu, logvar))


def part_elbo(work, rng):
    """elbo: in nats, for each image"""
    cases = []
    for picture in pictures(rng):
        mu, logvar = rng.normal(size=(2, len(picture["x"]), int(rng.integers(1, 9)))).astype(picture["x"].dtype)
        cases.append(dict(**picture, mu=mu, logvar=logvar))
    mistakes = {
        "That is the loss; the ELBO is minus that, and below log p(x).": lambda *args: -bound(*args),
        "The KL is added; it is a price, and lowers the bound.": lambda x, l, mu, logvar: (
            right.gaussian_kl(mu, logvar) - right.bernoulli_recon(x, l)
        ),
        "The KL is missing.": lambda x, l, mu, logvar: -right.bernoulli_recon(x, l),
        "The batch's mean; leave that to the caller.": lambda *args: bound(*args).mean(),
        "Bits; leave the log 2 out for nats.": lambda *args: bound(*args) / np.log(2),
    }
    agree_on_cases("elbo", work.elbo, bound, cases, mistakes=mistakes, read=f"{PAGE}#the-maths")


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
    mistakes = {
        "0 log 0 is 0 here, but NaN to NumPy: take the log only of what is above 0 (np.where).": (
            careless(True, True),
            careless(True, False),
            careless(False, True),
        ),
        "That has one half only: a pixel of grey x is white with probability x and black with 1 - x.": lambda x: (
            -(x * np.log(np.where(x > 0, x, 1))).sum(axis=(1, 2, 3))
        ),
        "A small number put in against 0 log 0 moves the answer: take the log only of what is above 0.": tuple(
            nudged(black * 10.0**-n, white * 10.0**-n)
            for n in range(3, 13)
            for black, white in ((1, 1), (1, 0), (0, 1))
        ),
        "Bits; take the natural log for nats.": lambda x: floor(x) / np.log(2),
        "The sign is turned: an entropy is not below 0.": lambda x: -floor(x),
        "The mean over the pixels; nats add up.": lambda x: floor(x) / x[0].size,
        "The batch's mean; each image has its own floor.": lambda x: floor(x).mean(),
    }
    agree_on_cases("entropy_floor", work.entropy_floor, floor, cases, mistakes=mistakes, read=f"{PAGE}#the-floor")


def nudged(black: float, white: float):
    """The entropy with a small number added inside one log or both."""

    def entropy(x):
        first, second = x * np.log(x + black), (1 - x) * np.log(1 - x + white)
        return -(np.nan_to_num(first) + np.nan_to_num(second)).sum(axis=(1, 2, 3))

    return entropy


def careless(black: bool, white: bool):
    """The entropy with 0 log 0 = NaN where a pixel is black, where it is white, or both."""

    def entropy(x):
        with np.errstate(all="ignore"):
            first, second = x * np.log(x), (1 - x) * np.log(1 - x)
        first, second = (first if black else np.nan_to_num(first)), (second if white else np.nan_to_num(second))
        return -(first + second).sum(axis=(1, 2, 3))

    return entropy


PARTS = (part_gaussian_kl, part_monte_carlo_kl, part_bernoulli_recon, part_elbo, part_entropy_floor)

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

KL = "0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum(axis=-1)"
BCE = "np.maximum(x_logits, 0) - x_logits * x + np.log1p(np.exp(-np.abs(x_logits)))"
SIGMOID = "-(x * np.log({s}) + (1 - x) * np.log(1 - {s}))"
ADDED = SIGMOID.replace("})", "} + {least})").replace("{s}", "(1 / (1 + np.exp(-x_logits)))")
RECON_SUM = "bce.sum(axis=(1, 2, 3))"

WRONG = (
    Wrong("no 1/2", KL, KL.removeprefix("0.5 * "), "is the 1/2 missing"),
    Wrong("bracket turned, no 1/2", KL, "(1 + logvar - mu**2 - np.exp(logvar)).sum(axis=-1)", "turned, and its"),
    Wrong("the negative of the KL", KL, f"-{KL}", "never below 0"),
    Wrong("mean over the latents", KL, KL.replace("sum", "mean"), "sum over Z"),
    Wrong("mean over the batch", KL, KL.replace("axis=-1)", "axis=-1).mean()"), "leave that to the caller"),
    Wrong("no constant", KL, KL.replace(" - 1", ""), "constant -1"),
    Wrong(
        "logvar as log std",
        KL,
        KL.replace("exp(logvar)", "exp(2 * logvar)").replace("- logvar", "- 2 * logvar"),
        "log of std^2, so",
    ),
    Wrong("std for its square", KL, KL.replace("exp(logvar)", "exp(0.5 * logvar)"), "which is std"),
    Wrong("std^4", KL, KL.replace("exp(logvar)", "exp(2 * logvar)"), "do not square"),
    Wrong("the other direction", KL, "0.5 * ((1 + mu**2) * np.exp(-logvar) - 1 + logvar).sum(axis=-1)", "direction"),
    Wrong("std^2 as the sample's std", "z = mu + np.exp(0.5 * logvar)", "z = mu + np.exp(logvar)", "z = mu + exp"),
    Wrong("log q without log std", "(eps**2 + logvar)", "(eps**2)", "lacks its -log std"),
    Wrong("log p at the mean", "(z**2)", "(mu**2)", "at the sample z"),
    Wrong("samples added up", "(log_q - log_p).mean(axis=0)", "(log_q - log_p).sum(axis=0)", "take their mean"),
    Wrong("the closed form again", "(log_q - log_p).mean(axis=0)", "gaussian_kl(mu, logvar)", "mean over the samples"),
    Wrong("log of the sigmoid", BCE, SIGMOID.format(s="(1 / (1 + np.exp(-x_logits)))"), "rounds to 0 or 1"),
    Wrong("for one sign", BCE, "x_logits - x_logits * x + np.log1p(np.exp(-x_logits))", "for both signs"),
    Wrong("for the other sign", BCE, "np.log(1 + np.exp(x_logits)) - x_logits * x", "for both signs"),
    Wrong(
        "a clamped sigmoid",
        BCE,
        SIGMOID.format(s="(1 / (1 + np.exp(-x_logits))).clip(1e-7, 1 - 1e-7)"),
        "clamped before the log",
    ),
    *(
        Wrong(f"{least} in the logs", BCE, ADDED.format(least=least), "number added to it")
        for least in ("1e-7", "1e-8", "1e-10")
    ),
    Wrong("mean over the pixels", RECON_SUM, "bce.mean(axis=(1, 2, 3))", "sum over channels"),
    Wrong("sum over the batch", RECON_SUM, "bce.sum()", "each image has its own"),
    Wrong("half the cross-entropy", BCE, "x * np.logaddexp(0, -x_logits)", "says something too"),
    Wrong("black for white", BCE, BCE.replace("- x_logits * x", "- x_logits * (1 - x)"), "exchanged"),
    Wrong(
        "the loss",
        "-bernoulli_recon(x, x_logits) - gaussian_kl",
        "bernoulli_recon(x, x_logits) + gaussian_kl",
        "That is the loss",
    ),
    Wrong(
        "a KL added",
        "-bernoulli_recon(x, x_logits) - gaussian_kl",
        "-bernoulli_recon(x, x_logits) + gaussian_kl",
        "lowers the bound",
    ),
    Wrong("0 log 0", "np.where(x > 0, x, 1)", "x", "0 log 0"),
    Wrong("a small number", "np.where(x > 0, x, 1)", "x + 1e-8", "moves the answer"),
    Wrong("half an entropy", " - (1 - x) * np.log(np.where(x < 1, 1 - x, 1))", "", "one half only"),
)

SURPRISE = "surprise = -x * np.log(np.where(x > 0, x, 1)) - (1 - x) * np.log(np.where(x < 1, 1 - x, 1))"
EQUIVALENT = {
    f"gaussian_kl: -1 -> 1 in return {KL}": "of two axes the last is axis 1",
    f"entropy_floor: 1 -> 2 in {SURPRISE}": "the number inside the log is multiplied by 0",
    f"entropy_floor: 1 -> 2 in {SURPRISE} #5": "the number inside the log is multiplied by 0",
}

ALSO_RIGHT = (
    Wrong("with expm1", "np.exp(logvar) - 1 -", "np.expm1(logvar) -"),
    Wrong("with logaddexp", BCE, "np.logaddexp(0, x_logits) - x_logits * x"),
    Wrong(
        "with torch",
        "    bce = " + BCE,
        "    import torch\n    import torch.nn.functional as F\n    pair = torch.tensor(x_logits), torch.tensor(x)\n"
        '    bce = F.binary_cross_entropy_with_logits(*pair, reduction="none")',
    ),
    Wrong("densities in full", "-0.5 * (eps**2 + logvar)", "-0.5 * ((z - mu) ** 2 / np.exp(logvar) + logvar)"),
    Wrong(
        "in float32",
        "-bernoulli_recon(x, x_logits) - gaussian_kl(mu, logvar)",
        "np.float32(-bernoulli_recon(x, x_logits) - gaussian_kl(mu, logvar))",
    ),
    Wrong("by nan_to_num", "np.log(np.where(x > 0, x, 1))", "np.nan_to_num(np.log(x), neginf=0)"),
)
