"""What exercise 9 asks for, compared with level 3's labels, torch's mixtures and the integral over z."""

from collections.abc import Callable
from dataclasses import dataclass

import conditional_vae
import numpy as np
import torch

from checks.judging import Wrong, agree, agree_on_cases

FORBIDDEN = ("conditional_vae", "vae_paper")  # they hold the answer
PAGE = "09_conditional.md"


def labels(rng, count, classes):
    """Labels (count,) that hold the first class but not the last, if there are two or more to choose from."""
    y = rng.integers(0, max(1, classes - 1), count)
    y[rng.integers(count)] = 0
    return y


def one_hot(y, classes, like) -> np.ndarray:
    return conditional_vae.one_hot(torch.from_numpy(np.asarray(y)), classes, torch.from_numpy(like)).numpy()


def beside(one, other) -> np.ndarray:
    return np.concatenate([one, other], axis=1)


# --- the label beside x and beside z ------------------------------------------------------------------------------


def with_maps(x, y, classes=10):
    return beside(x, maps_of(one_hot(y, classes, x), x))


def maps_of(numbers, x):
    """numbers (B, n) -> constant maps (B, n, H, W)."""
    return np.broadcast_to(numbers[:, :, None, None], (*numbers.shape, *x.shape[2:]))


def classes_of_the_batch(join):
    """The mistake of counting the classes in the batch."""
    return lambda values, y, classes=10: join(values, y, int(y.max()) + 1)


def part_label_maps(work, rng):
    """label_maps: the label beside x"""
    cases = []
    for dtype in (np.float64, np.float32):
        for B, C, H, W, classes in ((5, 1, 4, 6, 3), (3, 2, 5, 3, 4), (1, 1, 7, 7, 5)):
            x = rng.normal(size=(B, C, H, W)).astype(dtype)
            cases.append(dict(x=x, y=labels(rng, B, classes), classes=classes))
    cases.append(dict(x=rng.normal(size=(7, 1, 3, 3)), y=labels(rng, 7, 10)))  # the default
    cases.append(dict(x=rng.normal(size=(2, 1, 3, 3)), y=np.array([3, 1]), classes=4))  # the last class
    mistakes = {
        "As many maps as classes, whichever of them the batch holds: this one lacks the last class.": (
            classes_of_the_batch(with_maps)
        ),
        "The label is one map that holds its number. Class 8 is not twice class 4: give each class a map of its own.": (
            lambda x, y, classes=10: beside(x, maps_of(y[:, None].astype(x.dtype), x)),
            lambda x, y, classes=10: beside(x, maps_of((y[:, None] / classes).astype(x.dtype), x)),
            lambda x, y, classes=10: beside(x, maps_of((y[:, None] / (classes - 1)).astype(x.dtype), x)),
        ),
        "The maps come first and x last; here x is first, as in level 3 (the weights have to know the order).": (
            lambda x, y, classes=10: beside(maps_of(one_hot(y, classes, x), x), x)
        ),
        "x is missing: the maps belong beside it.": lambda x, y, classes=10: maps_of(one_hot(y, classes, x), x),
        "The label is missing: it is forgotten, and nothing will crash.": (
            lambda x, y, classes=10: beside(x, maps_of(0 * one_hot(y, classes, x), x)),
            lambda x, y, classes=10: x,
        ),
        "All images have the label of the first one.": lambda x, y, classes=10: with_maps(x, 0 * y + y[0], classes),
        "A map is 1 at every position, for the convolution to see it wherever it looks; yours is 1 at one place.": (
            at_one_place
        ),
    }
    read = f"{PAGE}#the-maths"
    agree_on_cases("label_maps", work.label_maps, with_maps, cases, mistakes=mistakes, read=read)


def at_one_place(x, y, classes=10):
    maps = np.zeros((len(x), classes, *x.shape[2:]), x.dtype)
    maps[np.arange(len(x)), y, 0, 0] = 1
    return beside(x, maps)


def with_label(z, y, classes=10):
    return beside(z, one_hot(y, classes, z))


def part_label_beside(work, rng):
    """label_beside: the label beside z"""
    cases = []
    for dtype in (np.float64, np.float32):
        for B, Z, classes in ((5, 3, 3), (3, 1, 4), (1, 2, 5)):
            z = rng.normal(size=(B, Z)).astype(dtype)
            cases.append(dict(z=z, y=labels(rng, B, classes), classes=classes))
    cases.append(dict(z=rng.normal(size=(7, 2)), y=labels(rng, 7, 10)))
    cases.append(dict(z=rng.normal(size=(2, 2)), y=np.array([3, 1]), classes=4))
    mistakes = {
        "As many numbers as classes, whichever of them the batch holds: this one lacks the last class.": (
            classes_of_the_batch(with_label)
        ),
        "The label is one number. Class 8 is not twice class 4: give each class a number of its own, 0 or 1.": (
            lambda z, y, classes=10: beside(z, y[:, None].astype(z.dtype)),
            lambda z, y, classes=10: beside(z, (y[:, None] / classes).astype(z.dtype)),
            lambda z, y, classes=10: beside(z, (y[:, None] / (classes - 1)).astype(z.dtype)),
        ),
        "The label comes first and z last; here z is first, as in level 3.": (
            lambda z, y, classes=10: beside(one_hot(y, classes, z), z)
        ),
        "z is missing: the label belongs beside it.": lambda z, y, classes=10: one_hot(y, classes, z),
        "The label is missing: the decoder then draws p(x|z), and nothing is conditional any more.": (
            lambda z, y, classes=10: beside(z, 0 * one_hot(y, classes, z)),
            lambda z, y, classes=10: z,
        ),
    }
    read = f"{PAGE}#the-maths"
    agree_on_cases("label_beside", work.label_beside, with_label, cases, mistakes=mistakes, read=read)


# --- class x style ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decoder:
    """A stand-in for a trained decoder: z (M, Z), y (M,) -> (M, *shape)."""

    shape: tuple
    draw: Callable

    def __repr__(self) -> str:
        return f"a decoder to {('M', *self.shape)}".replace("'", "")

    def __call__(self, z, y):
        z, y = np.asarray(z), np.asarray(y)
        if z.ndim != 2 or y.shape != z.shape[:1] or y.dtype.kind not in "iu":
            raise ValueError(
                f"decode takes z (M, Z) and whole labels y (M,); it got z {z.shape} and y {y.dtype} {y.shape}"
            )
        return self.draw(z, y)


def decoders():
    def number(z, y):
        return np.sin(z).sum(axis=1) + 10.0 * y + y**2 * z[:, 0]

    def image(z, y):
        return number(z, y)[:, None, None] * np.arange(1.0, 7).reshape(2, 3)

    return Decoder((), number), Decoder((2, 3), image)


def grid(decode, z, classes=10):
    return np.stack([[decode(one[None], np.array([label]))[0] for label in range(classes)] for one in z])


def reshaped(decode, z, classes, zs, ys):
    """The grid from one long list of styles and labels."""
    rows = decode(zs, ys)
    return rows.reshape(len(z), classes, *rows.shape[1:])


def part_class_by_style(work, rng):
    """class_by_style: one z a row, one label a column"""
    cases = [
        dict(decode=decode, z=rng.normal(size=shape), classes=classes)
        for decode in decoders()
        for shape, classes in (((4, 3), 5), ((1, 2), 4), ((3, 1), 2))
    ]
    cases.append(dict(decode=decoders()[0], z=rng.normal(size=(2, 3))))
    mistakes = {
        "Rows are styles and columns are classes; yours is the other way round.": (
            lambda decode, z, classes=10: grid(decode, z, classes).swapaxes(0, 1)
        ),
        "The list of styles and that of labels do not run together: np.repeat one of them and np.tile the other.": (
            lambda decode, z, classes=10: reshaped(
                decode, z, classes, np.repeat(z, classes, axis=0), np.repeat(np.arange(classes), len(z))
            ),
            lambda decode, z, classes=10: reshaped(
                decode, z, classes, np.tile(z, (classes, 1)), np.tile(np.arange(classes), len(z))
            ),
            lambda decode, z, classes=10: reshaped(
                decode, z, classes, np.tile(z, (classes, 1)), np.repeat(np.arange(classes), len(z))
            ),
        ),
        "All cells of a column show the same style: each row has a z of its own.": (
            lambda decode, z, classes=10: grid(decode, np.repeat(z[:1], len(z), axis=0), classes)
        ),
        "Labels count from 0.": lambda decode, z, classes=10: grid(decode, z, classes + 1)[:, 1:],
    }
    read = f"{PAGE}#the-maths"
    agree_on_cases("class_by_style", work.class_by_style, grid, cases, mistakes=mistakes, read=read)


# --- log p(x), the gain, the guess --------------------------------------------------------------------------------


def marginal(log_p):
    wide = torch.from_numpy(log_p).double()
    return (torch.logsumexp(wide, dim=1) - np.log(log_p.shape[1])).numpy()


def tables(rng):
    """Cases {log_p}: like images (far below 0, and far apart), like densities (above 0), and where all is equal."""
    for dtype in (np.float64, np.float32):
        for B, classes, level, spread in ((5, 10, -100, 3), (3, 4, -2000, 40), (7, 3, 1500, 20), (1, 10, 0, 1)):
            yield dict(log_p=(level + spread * rng.normal(size=(B, classes))).astype(dtype))
    yield dict(log_p=np.full((2, 6), -90.0))


def plain(log_p):
    """The log of the mean of p, without taking the highest out."""
    with np.errstate(all="ignore"):
        return np.log(np.exp(log_p).mean(axis=1))


UNDERFLOW = "exp(-1000) is 0 and exp(1000) is infinite: take the largest entry of each row out first."


def of_ten(log_p):
    """What a 10 in place of the number of classes adds to log p(x)."""
    return np.log(log_p.shape[1] / 10)


TEN = "Right for ten classes alone: the number of classes is log_p.shape[1]."


def part_log_p_x(work, rng):
    """log_p_x: the labels averaged out"""
    mistakes = {
        TEN: lambda log_p: marginal(log_p) + of_ten(log_p),
        UNDERFLOW: plain,
        "That is the log of the sum. Each label has p(y) = 1 / classes: the log of the mean.": (
            lambda log_p: marginal(log_p) + np.log(log_p.shape[1])
        ),
        "The mean of the logs is not the log of the mean: average the probabilities.": lambda log_p: log_p.mean(axis=1),
        "That is the largest entry alone: the other labels count too, and p(y) = 1 / classes.": (
            lambda log_p: log_p.max(axis=1),
            lambda log_p: log_p.max(axis=1) - np.log(log_p.shape[1]),
        ),
        "What was taken out of the exponent has to be added again.": lambda log_p: marginal(log_p) - log_p.max(axis=1),
        "The mean runs over the batch; it belongs over the labels, the second axis.": (
            lambda log_p: marginal(np.ascontiguousarray(log_p.T))
        ),
        "Nats: the natural logarithm of 1 / classes.": (
            lambda log_p: marginal(log_p) + np.log(log_p.shape[1]) - np.log2(log_p.shape[1]),
            lambda log_p: marginal(log_p) + np.log(log_p.shape[1]) - np.log10(log_p.shape[1]),
        ),
    }
    read = f"{PAGE}#what-the-label-is-worth"
    agree_on_cases("log_p_x", work.log_p_x, marginal, list(tables(rng)), mistakes=mistakes, read=read)
    x, m, std = rng.normal(size=5), rng.normal(size=4), rng.uniform(0.5, 2)
    parts = torch.distributions.Normal(torch.from_numpy(m), std)
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(torch.ones(4).double()), parts)
    log_p = parts.log_prob(torch.from_numpy(x)[:, None]).numpy()
    agree("log_p_x of a mixture of 4 Gaussians", work.log_p_x(log_p), mixture.log_prob(torch.from_numpy(x)), read=read)


def in_both_precisions(name, function, right, cases, mistakes, read=f"{PAGE}#what-the-label-is-worth"):
    """agree_on_cases, with 1e-3 in float32: there a difference of two numbers near 2000 has an error of 1e-4, and so
    has its exponential; and a square of the mean taken from a mean of squares loses two or three of seven digits.
    """
    for dtype, rel in ((np.float64, None), (np.float32, 1e-3)):
        some = [case for case in cases if case["log_p"].dtype == dtype]
        agree_on_cases(name, function, right, some, mistakes=mistakes, read=read, rel=rel)


def given(log_p, y):
    return log_p[np.arange(len(y)), y].astype(np.float64)


def gain(log_p, y):
    return given(log_p, y) - marginal(log_p)


def by_the_posterior(log_p, y):
    """By the logarithm of p(y|x), in the table's own precision."""
    with np.errstate(all="ignore"):
        p = torch.softmax(torch.from_numpy(log_p), dim=1).numpy()
        return np.log(p)[np.arange(len(y)), y] + np.log(log_p.shape[1])


def part_label_gain(work, rng):
    """label_gain: what the label is worth"""
    cases = [case | dict(y=labels(rng, *case["log_p"].shape)) for case in tables(rng)]
    hopeless = np.array([[-2500, -1500, -1501], [-1400, -2600, -1400]]) + rng.normal(size=(2, 3))
    cases += [dict(log_p=hopeless.astype(dtype), y=np.array([0, 1])) for dtype in (np.float64, np.float32)]
    mistakes = {
        UNDERFLOW: lambda log_p, y: given(log_p, y) - plain(log_p),
        TEN: lambda log_p, y: gain(log_p, y) - of_ten(log_p),
        "Where the label fits badly p(y|x) is so small that it becomes 0, and its logarithm -inf. Subtract log p(x) "
        "from the entry of log_p instead.": by_the_posterior,
        "That is log p(y|x). By Bayes' rule the gain is log p(y|x) - log p(y), and log p(y) = -ln(classes).": (
            lambda log_p, y: gain(log_p, y) - np.log(log_p.shape[1])
        ),
        "The sign is turned: knowing the label, x is on average more probable.": lambda log_p, y: -gain(log_p, y),
        "That is the gain of the label that fits best. Take the true one, even where it fits badly.": (
            lambda log_p, y: log_p.max(axis=1) - marginal(log_p)
        ),
        "log p(x) is the log of a mean over the labels, not the mean of the logs.": (
            lambda log_p, y: given(log_p, y) - log_p.mean(axis=1)
        ),
        "One number for each image, (B,); the mean over them comes later.": lambda log_p, y: gain(log_p, y).mean(),
        "log_p[:, y] takes the columns of all images' labels, (B, B); one entry from each row is wanted.": (
            lambda log_p, y: log_p[:, y] - marginal(log_p)[:, None],
            lambda log_p, y: log_p[:, y] - marginal(log_p),
        ),
    }
    in_both_precisions("label_gain", work.label_gain, gain, cases, mistakes)


def posterior(log_p):
    return torch.softmax(torch.from_numpy(log_p).double(), dim=1).numpy()


def part_label_posterior(work, rng):
    """label_posterior: Bayes' rule"""
    mistakes = {
        TEN: lambda log_p: posterior(log_p) * np.exp(-np.log(10 / log_p.shape[1])),
        UNDERFLOW: lambda log_p: np.exp(log_p) / np.exp(log_p).sum(axis=1, keepdims=True),
        "Each row adds up to the number of classes, not to 1: p(y) = 1 / classes belongs in front.": (
            lambda log_p: posterior(log_p) * log_p.shape[1]
        ),
        "The columns add up to 1; the labels of one image, a row, have to.": (
            lambda log_p: torch.softmax(torch.from_numpy(log_p).double(), dim=0).numpy()
        ),
        "These are the logarithms; p(y|x) itself is asked for.": lambda log_p: np.log(posterior(log_p)),
        "All on the best label is a guess, not the posterior.": (
            lambda log_p: np.eye(log_p.shape[1])[log_p.argmax(axis=1)]
        ),
        "That shares out the logs; the probabilities are meant.": lambda log_p: (
            log_p / log_p.sum(axis=1, keepdims=True)
        ),
    }
    in_both_precisions("label_posterior", work.label_posterior, posterior, list(tables(rng)), mistakes)


# --- the encoder that is not told ---------------------------------------------------------------------------------


def integral(log_p, mu, var):
    """min over q of sum_y p(y|x) KL(q || p_y) = -log of the integral of prod_y p_y(z)^p(y|x), one dimension at a time.

    By the trapezoidal rule over 24 standard deviations around the middle, which for a Gaussian is exact in float64.
    """
    p, mu = posterior(log_p), mu.astype(np.float64)
    middle, std = (p[:, :, None] * mu).sum(axis=1), np.sqrt(var.astype(np.float64))  # (B, Z), (Z,)
    z = middle[..., None] + std[:, None] * np.linspace(-12, 12, 481)  # (B, Z, 481)
    scaled = (z[:, None] - mu[..., None]) / std[:, None]  # (B, classes, Z, 481)
    log_density = -0.5 * scaled**2 - np.log(std[:, None] * np.sqrt(2 * np.pi))
    exponent = (p[:, :, None, None] * log_density).sum(axis=1)  # (B, Z, 481)
    highest = exponent.max(axis=2)
    area = np.exp(exponent - highest[..., None]).sum(axis=2) * 24 / 480 * std
    return -(highest + np.log(area)).sum(axis=1)


def weighed(log_p, mu, var, p=None, mean=None, square=lambda d, var: d**2 / var):
    """The closed form, with other weights, another middle or another distance."""
    p = posterior(log_p)[:, :, None] if p is None else p
    mean = (p * mu).sum(axis=1, keepdims=True) if mean is None else mean
    return 0.5 * (p * square(mu - mean, var)).sum(axis=(1, 2))


def part_blind_encoder(work, rng):
    """blind_encoder_cost: the label is missing in the encoder"""
    cases = []
    for dtype in (np.float64, np.float32):
        for B, classes, Z in ((5, 4, 3), (3, 10, 1), (1, 2, 2), (3, 3, 1)):
            arrays = rng.normal(size=(B, classes)) - 100, 2 * rng.normal(size=(B, classes, Z)), rng.uniform(0.2, 3, Z)
            cases.append(dict(zip(("log_p", "mu", "var"), (a.astype(dtype) for a in arrays), strict=True)))
    even = np.ones((1, 1, 1))
    mistakes = {
        "The 1/2 is missing.": lambda log_p, mu, var: 2 * weighed(log_p, mu, var),
        "var is the variance: it divides the square as it is, not squared and not as its root.": (
            lambda log_p, mu, var: weighed(log_p, mu, var, square=lambda d, v: d**2 / v**2),
            lambda log_p, mu, var: weighed(log_p, mu, var, square=lambda d, v: d**2 / np.sqrt(v)),
        ),
        "The squares are not divided by the variance.": (
            lambda log_p, mu, var: weighed(log_p, mu, var, square=lambda d, v: d**2)
        ),
        "The labels count by p(y|x), which x makes unequal, not all alike.": (
            lambda log_p, mu, var: weighed(log_p, mu, var, p=even / mu.shape[1])
        ),
        "The weights are p(y|x), which add up to 1; yours are p(x|y).": (
            lambda log_p, mu, var: weighed(log_p, mu, var, p=np.exp(log_p.astype(float))[:, :, None])
        ),
        "The middle is the mean with the weights p(y|x), not the plain mean.": (
            lambda log_p, mu, var: weighed(log_p, mu, var, mean=mu.mean(axis=1, keepdims=True))
        ),
        "The squares of the labels count by p(y|x) too, not only the middle.": (
            lambda log_p, mu, var: weighed(
                log_p, mu, var, even / mu.shape[1], (posterior(log_p)[:, :, None] * mu).sum(axis=1, keepdims=True)
            )
        ),
        "Sum over the dimensions of z, do not average them.": (
            lambda log_p, mu, var: weighed(log_p, mu, var) / mu.shape[2]
        ),
        "That is sum_y p(y|x) mu_y^2; the square of the middle has to come off.": (
            lambda log_p, mu, var: weighed(log_p, mu, var, mean=0)
        ),
    }
    read = f"{PAGE}#the-forgotten-label"
    in_both_precisions("blind_encoder_cost", work.blind_encoder_cost, integral, cases, mistakes, read)


PARTS = (
    part_label_maps,
    part_label_beside,
    part_class_by_style,
    part_log_p_x,
    part_label_gain,
    part_label_posterior,
    part_blind_encoder,
)

HINTS = (
    "label_maps: start from zeros of (B, classes, H, W). maps[i, y_i] is a whole map; np.arange(B) and y together "
    "choose one for each image.",
    "label_beside: np.eye(classes) holds all labels, one a row.",
    "class_by_style: decode takes many z at once, and one label for each. For one label, np.full(len(z), label) gives "
    "a column of the grid; np.stack(columns, axis=1) puts them side by side.",
    "log_p_x: log(mean(exp(a))) = m + log(mean(exp(a - m))) for any m. With m the largest entry of the row "
    "(keepdims=True) the largest exponential is 1.",
    "label_gain: log_p[np.arange(len(y)), y] takes one entry from each row.",
    "label_posterior: p(y|x) is p(x|y) / p(x) times p(y); you have both logarithms.",
    "blind_encoder_cost: p = label_posterior(log_p)[:, :, None] fits beside mu (B, classes, Z). The middle is "
    "(p * mu).sum(axis=1, keepdims=True). Then half the sum over classes and dimensions of p (mu - middle)^2 / var.",
)

MAPS = """    maps = np.zeros((B, classes, H, W), x.dtype)
    maps[np.arange(B), y] = 1
"""
BESIDE = "np.concatenate([z, np.eye(classes, dtype=z.dtype)[y]], axis=1)"
GRID = "np.stack([decode(z, np.full(len(z), label)) for label in range(classes)], axis=1)"
MARGINAL = "highest[:, 0] + np.log(np.exp(log_p - highest).mean(axis=1))"
GAIN = "log_p[np.arange(len(y)), y] - log_p_x(log_p)"
POSTERIOR = "np.exp(log_p - log_p_x(log_p)[:, None]) / log_p.shape[1]"
COST = "0.5 * (p * (mu - mean) ** 2 / var).sum(axis=(1, 2))"
NUMBER = "    maps = np.broadcast_to(y[:, None, None, None].astype(x.dtype), (B, 1, H, W))\n"

WRONG = (
    Wrong("the label as a number", MAPS, NUMBER, "not twice"),
    Wrong("classes of the batch", MAPS, f"    classes = y.max() + 1\n{MAPS}", "lacks the last class"),
    Wrong("maps first", "np.concatenate([x, maps], axis=1)", "np.concatenate([maps, x], axis=1)", "x is first"),
    Wrong("one place", "maps[np.arange(B), y] = 1", "maps[np.arange(B), y, 0, 0] = 1", "every position"),
    Wrong("all maps", "maps[np.arange(B), y] = 1", "maps[:, y] = 1", "expected"),
    Wrong("the encoder forgets", "np.concatenate([x, maps], axis=1)", "x", "forgotten"),
    Wrong("the decoder forgets", BESIDE, "z", "nothing is conditional"),
    Wrong("a number beside z", BESIDE, "np.concatenate([z, y[:, None].astype(z.dtype)], axis=1)", "one number"),
    Wrong(
        "the label first",
        BESIDE,
        BESIDE.replace("z, np.eye(classes, dtype=z.dtype)[y]", "np.eye(classes)[y], z"),
        "z is first",
    ),
    Wrong("classes a row", GRID, GRID.replace("axis=1", "axis=0"), "other way round"),
    Wrong("labels from 1", GRID, GRID.replace("label))", "label + 1))"), "from 0"),
    Wrong(
        "repeat and repeat",
        f"return {GRID}",
        "flat = decode(np.repeat(z, classes, axis=0), np.repeat(np.arange(classes), len(z)))\n"
        "    return flat.reshape(len(z), classes, *flat.shape[1:])",
        "np.tile",
    ),
    Wrong(
        "one-hot labels for decode",
        GRID,
        GRID.replace("np.full(len(z), label)", "np.eye(classes)[[label] * len(z)]"),
        "whole labels",
    ),
    Wrong("no maximum", MARGINAL, "np.log(np.exp(log_p).mean(axis=1))", "exp(-1000) is 0"),
    Wrong("sum for mean", MARGINAL, MARGINAL.replace("mean", "sum"), "log of the sum"),
    Wrong("ten classes", MARGINAL, MARGINAL.replace("mean(axis=1))", "sum(axis=1) / 10)"), "ten classes alone"),
    Wrong("mean of the logs", MARGINAL, "log_p.mean(axis=1)", "mean of the logs"),
    Wrong("the best label alone", MARGINAL, "highest[:, 0]", "largest entry alone"),
    Wrong("the maximum not added", MARGINAL, MARGINAL.replace("highest[:, 0] + ", ""), "added again"),
    Wrong("log p(y|x)", GAIN, f"{GAIN} - np.log(log_p.shape[1])", "log p(y|x) - log p(y)"),
    Wrong("underflow", GAIN, "np.log(label_posterior(log_p)[np.arange(len(y)), y] * log_p.shape[1])", "becomes 0"),
    Wrong("ln 10", GAIN, f"{GAIN} + np.log(10 / log_p.shape[1])", "ten classes alone"),
    Wrong("gain of the best", GAIN, "log_p.max(axis=1) - log_p_x(log_p)", "fits best"),
    Wrong("turned", GAIN, "log_p_x(log_p) - log_p[np.arange(len(y)), y]", "sign"),
    Wrong("columns of all labels", GAIN, "log_p[:, y] - log_p_x(log_p)[:, None]", "(B, B)"),
    Wrong("mean over the batch", GAIN, f"({GAIN}).mean()", "comes later"),
    Wrong("no prior", POSTERIOR, POSTERIOR.replace(" / log_p.shape[1]", ""), "1 / classes"),
    Wrong(
        "columns",
        POSTERIOR,
        "np.exp(log_p - log_p.max(axis=0)) / np.exp(log_p - log_p.max(axis=0)).sum(axis=0)",
        "columns",
    ),
    Wrong(
        "softmax without maximum",
        POSTERIOR,
        "np.exp(log_p) / np.exp(log_p).sum(axis=1, keepdims=True)",
        "exp(-1000) is 0",
    ),
    Wrong("no half", COST, COST.replace("0.5 * ", ""), "1/2"),
    Wrong("variance squared", COST, COST.replace("/ var", "/ var**2"), "not squared"),
    Wrong("plain middle", "(p * mu).sum(axis=1, keepdims=True)", "mu.mean(axis=1, keepdims=True)", "plain mean"),
    Wrong("all labels alike", "label_posterior(log_p)[:, :, None]", "1 / log_p.shape[1]", "not all alike"),
    Wrong("weights p(x|y)", "label_posterior(log_p)[:, :, None]", "np.exp(log_p)[:, :, None]", "yours are p(x|y)"),
    Wrong("mean over z", COST, f"{COST} / mu.shape[2]", "do not average"),
)

EQUIVALENT = {
    f"log_p_x: 0 -> -1 in return {MARGINAL}": "`highest` has one column, which is the first and the last",
}

ALSO_RIGHT = (
    Wrong(
        "torch for the labels",
        MAPS,
        "    import torch\n\n    hot = torch.nn.functional.one_hot(torch.from_numpy(y), classes)[:, :, None, None]\n"
        "    maps = hot.expand(-1, -1, H, W).numpy()\n",
    ),
    Wrong(
        "repeat and tile",
        f"return {GRID}",
        "flat = decode(np.repeat(z, classes, axis=0), np.tile(np.arange(classes), len(z)))\n"
        "    return flat.reshape(len(z), classes, *flat.shape[1:])",
    ),
    Wrong("logaddexp", MARGINAL, "np.logaddexp.reduce(log_p, axis=1) - np.log(log_p.shape[1])"),
    Wrong(
        "softmax", POSTERIOR, "(lambda e: e / e.sum(axis=1, keepdims=True))(np.exp(log_p - log_p.max(axis=1)[:, None]))"
    ),
    Wrong(
        "mean of squares less square of the mean",
        COST,
        "0.5 * (((p * mu**2).sum(axis=1) - mean[:, 0]**2) / var).sum(axis=1)",
    ),
)
