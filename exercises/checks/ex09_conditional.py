"""What exercise 9 asks for, compared with level 3's labels, torch's mixtures and the integral over z."""

import numpy as np
import torch

from checks.judging import Given, agree, agree_on_cases
from vae_models import conditional_vae

FORBIDDEN = ("vae_models", "vae_training")  # they hold the answer


def labels(rng, count, classes):
    """Labels (count,) that hold the first class but not the last, if there are two or more to choose from."""
    y = rng.integers(0, max(1, classes - 1), count)
    y[rng.integers(count)] = 0
    return y


def one_hot(y, classes, like) -> np.ndarray:
    """The labels (B,) as numbers of 0 and 1 (B, classes), or beside images as constant maps (B, classes, H, W)."""
    return spread(conditional_vae.one_hot(torch.from_numpy(y), classes, torch.from_numpy(like)).numpy(), like)


def spread(numbers, like) -> np.ndarray:
    """numbers (B, n) -> (B, n), or beside images constant maps (B, n, H, W)."""
    sides = like.shape[2:]
    return np.broadcast_to(numbers.reshape(*numbers.shape, *[1 for _ in sides]), (*numbers.shape, *sides))


def beside(one, other) -> np.ndarray:
    return np.concatenate([one, other], axis=1)


def with_label(x, y, classes=10):
    return beside(x, one_hot(y, classes, x))


def with_number(x, y, classes):
    """The label as one number, in three ways."""
    return tuple(beside(x, spread((y[:, None] / most).astype(x.dtype), x)) for most in (1, classes, classes - 1))


# --- the label beside x and beside z ------------------------------------------------------------------------------


def part_label_maps(work, rng):
    """label_maps: the label beside x"""
    cases = []
    for dtype in (np.float64, np.float32):
        for B, C, H, W, classes in ((5, 1, 4, 6, 3), (3, 2, 5, 3, 4), (1, 1, 7, 7, 5)):
            x = rng.normal(size=(B, C, H, W)).astype(dtype)
            cases.append(dict(x=x, y=labels(rng, B, classes), classes=classes))
    cases.append(dict(x=rng.normal(size=(7, 1, 3, 3)), y=labels(rng, 7, 10)))  # the default
    cases.append(dict(x=rng.normal(size=(2, 1, 3, 3)), y=np.array([3, 1]), classes=4))  # the last class

    def mistakes(exact, x, y, classes=10):
        hot, at_one_place = one_hot(y, classes, x), np.zeros((len(x), classes, *x.shape[2:]), x.dtype)
        at_one_place[np.arange(len(x)), y, 0, 0] = 1
        return {
            "As many maps as classes, whichever of them the batch holds: this one lacks the last class.": (
                with_label(x, y, y.max() + 1)
            ),
            "The label is one map that holds its number. Class 8 is not twice class 4: give each class a map of its "
            "own.": with_number(x, y, classes),
            "The maps come first and x last; here x is first, as in level 3 (the weights have to know the order).": (
                beside(hot, x)
            ),
            "x is missing: the maps belong beside it.": hot,
            "The label is missing: it is forgotten, and nothing will crash.": (beside(x, 0 * hot), x),
            "All images have the label of the first one.": with_label(x, 0 * y + y[0], classes),
            "A map is 1 at every position, for the convolution to see it wherever it looks; yours is 1 at one place.": (
                beside(x, at_one_place)
            ),
        }

    agree_on_cases("label_maps", work.label_maps, with_label, cases, mistakes, "the-maths")


def part_label_beside(work, rng):
    """label_beside: the label beside z"""
    cases = []
    for dtype in (np.float64, np.float32):
        for B, Z, classes in ((5, 3, 3), (3, 1, 4), (1, 2, 5)):
            z = rng.normal(size=(B, Z)).astype(dtype)
            cases.append(dict(z=z, y=labels(rng, B, classes), classes=classes))
    cases.append(dict(z=rng.normal(size=(7, 2)), y=labels(rng, 7, 10)))
    cases.append(dict(z=rng.normal(size=(2, 2)), y=np.array([3, 1]), classes=4))

    def mistakes(exact, z, y, classes=10):
        hot = one_hot(y, classes, z)
        return {
            "As many numbers as classes, whichever of them the batch holds: this one lacks the last class.": (
                with_label(z, y, y.max() + 1)
            ),
            "The label is one number. Class 8 is not twice class 4: give each class a number of its own, 0 or 1.": (
                with_number(z, y, classes)
            ),
            "The label comes first and z last; here z is first, as in level 3.": beside(hot, z),
            "z is missing: the label belongs beside it.": hot,
            "The label is missing: the decoder then draws p(x|z), and nothing is conditional any more.": (
                beside(z, 0 * hot),
                z,
            ),
        }

    agree_on_cases("label_beside", work.label_beside, with_label, cases, mistakes, "the-maths")


# --- class x style ------------------------------------------------------------------------------------------------


def to_numbers(z, y):
    """A stand-in for a trained decoder: z (M, Z), y (M,) -> (M,)."""
    z, y = np.asarray(z), np.asarray(y)
    if z.ndim != 2 or y.shape != z.shape[:1] or y.dtype.kind not in "iu":
        raise ValueError(f"decode takes z (M, Z) and whole labels y (M,); it got z {z.shape} and y {y.dtype} {y.shape}")
    return np.sin(z).sum(axis=1) + 10.0 * y + y**2 * z[:, 0]


def to_images(z, y):
    return to_numbers(z, y)[:, None, None] * np.arange(1.0, 7).reshape(2, 3)


DECODERS = Given("a decoder to (M,)", to_numbers), Given("a decoder to (M, 2, 3)", to_images)


def grid(decode, z, classes=10):
    return np.stack([[decode(one[None], np.array([label]))[0] for label in range(classes)] for one in z])


def part_class_by_style(work, rng):
    """class_by_style: one z a row, one label a column"""
    cases = [
        dict(decode=decode, z=rng.normal(size=shape), classes=classes)
        for decode in DECODERS
        for shape, classes in (((4, 3), 5), ((1, 2), 4), ((3, 1), 2))
    ]
    cases.append(dict(decode=DECODERS[0], z=rng.normal(size=(2, 3))))

    def mistakes(y, decode, z, classes=10):
        def reshaped(zs, ys):
            return decode(zs, ys).reshape(y.shape)

        by_repeat, by_tile = np.repeat(z, classes, axis=0), np.tile(z, (classes, 1))
        label_by_repeat, label_by_tile = np.repeat(np.arange(classes), len(z)), np.tile(np.arange(classes), len(z))
        return {
            "Rows are styles and columns are classes; yours is the other way round.": y.swapaxes(0, 1),
            "The list of styles and that of labels do not run together: np.repeat one of them and np.tile the other.": (
                reshaped(by_repeat, label_by_repeat),
                reshaped(by_tile, label_by_tile),
                reshaped(by_tile, label_by_repeat),
            ),
            "All cells of a column show the same style: each row has a z of its own.": (
                grid(decode, np.repeat(z[:1], len(z), axis=0), classes)
            ),
            "Labels count from 0.": grid(decode, z, classes + 1)[:, 1:],
        }

    agree_on_cases("class_by_style", work.class_by_style, grid, cases, mistakes, "the-maths")


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
    return np.log(np.exp(log_p).mean(axis=1))


UNDERFLOW = "exp(-1000) is 0 and exp(1000) is infinite: take the largest entry of each row out first."


TEN = "Right for ten classes alone: the number of classes is log_p.shape[1]."


def part_log_p_x(work, rng):
    """log_p_x: the labels averaged out"""

    def mistakes(y, log_p):
        classes, highest = log_p.shape[1], log_p.max(axis=1)
        return {
            TEN: y + np.log(classes / 10),
            UNDERFLOW: plain(log_p),
            "That is the log of the sum. Each label has p(y) = 1 / classes: the log of the mean.": y + np.log(classes),
            "The mean of the logs is not the log of the mean: average the probabilities.": log_p.mean(axis=1),
            "That is the largest entry alone: the other labels count too, and p(y) = 1 / classes.": (
                highest,
                highest - np.log(classes),
            ),
            "What was taken out of the exponent has to be added again.": y - highest,
            "The mean runs over the batch; it belongs over the labels, the second axis.": (
                marginal(np.ascontiguousarray(log_p.T))
            ),
            "Nats: the natural logarithm of 1 / classes.": (
                y + np.log(classes) - np.log2(classes),
                y + np.log(classes) - np.log10(classes),
            ),
        }

    agree_on_cases("log_p_x", work.log_p_x, marginal, tables(rng), mistakes, "what-the-label-is-worth")
    x, m, std = rng.normal(size=5), rng.normal(size=4), rng.uniform(0.5, 2)
    parts = torch.distributions.Normal(torch.from_numpy(m), std)
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(torch.ones(4).double()), parts)
    log_p = parts.log_prob(torch.from_numpy(x)[:, None]).numpy()
    right, read = mixture.log_prob(torch.from_numpy(x)), "what-the-label-is-worth"
    agree("log_p_x of a mixture of 4 Gaussians", work.log_p_x(log_p), right, read=read)


def in_both_precisions(name, function, right, cases, mistakes, read="what-the-label-is-worth"):
    """agree_on_cases, with 1e-3 in float32: there a difference of two numbers near 2000 has an error of 1e-4, and so
    has its exponential; and a square of the mean taken from a mean of squares loses two or three of seven digits.
    """
    cases = list(cases)
    for dtype, rel in ((np.float64, None), (np.float32, 1e-3)):
        some = [case for case in cases if case["log_p"].dtype == dtype]
        agree_on_cases(name, function, right, some, mistakes, read, rel=rel)


def given(log_p, y):
    return log_p[np.arange(len(y)), y].astype(np.float64)


def gain(log_p, y):
    return given(log_p, y) - marginal(log_p)


def part_label_gain(work, rng):
    """label_gain: what the label is worth"""
    cases = [case | dict(y=labels(rng, *case["log_p"].shape)) for case in tables(rng)]
    hopeless = np.array([[-2500, -1500, -1501], [-1400, -2600, -1400]]) + rng.normal(size=(2, 3))
    cases += [dict(log_p=hopeless.astype(dtype), y=np.array([0, 1])) for dtype in (np.float64, np.float32)]

    def mistakes(exact, log_p, y):
        classes, own, log_p_x = log_p.shape[1], given(log_p, y), marginal(log_p)
        p = torch.softmax(torch.from_numpy(log_p), dim=1).numpy()  # in the table's own precision
        return {
            UNDERFLOW: own - plain(log_p),
            TEN: exact - np.log(classes / 10),
            "Where the label fits badly p(y|x) is so small that it becomes 0, and its logarithm -inf. Subtract log "
            "p(x) from the entry of log_p instead.": np.log(p)[np.arange(len(y)), y] + np.log(classes),
            "That is log p(y|x). By Bayes' rule the gain is log p(y|x) - log p(y), and log p(y) = -ln(classes).": (
                exact - np.log(classes)
            ),
            "The sign is turned: knowing the label, x is on average more probable.": -exact,
            "That is the gain of the label that fits best. Take the true one, even where it fits badly.": (
                log_p.max(axis=1) - log_p_x
            ),
            "log p(x) is the log of a mean over the labels, not the mean of the logs.": own - log_p.mean(axis=1),
            "One number for each image, (B,); the mean over them comes later.": exact.mean(),
            "log_p[:, y] takes the columns of all images' labels, (B, B); one entry from each row is wanted.": (
                log_p[:, y] - log_p_x[:, None],
                log_p[:, y] - log_p_x,
            ),
        }

    in_both_precisions("label_gain", work.label_gain, gain, cases, mistakes)


def posterior(log_p):
    return torch.softmax(torch.from_numpy(log_p).double(), dim=1).numpy()


def part_label_posterior(work, rng):
    """label_posterior: Bayes' rule"""

    def mistakes(y, log_p):
        return {
            TEN: y * log_p.shape[1] / 10,
            UNDERFLOW: np.exp(log_p) / np.exp(log_p).sum(axis=1, keepdims=True),
            "Each row adds up to the number of classes, not to 1: p(y) = 1 / classes belongs in front.": (
                y * log_p.shape[1]
            ),
            "The columns add up to 1; the labels of one image, a row, have to.": (
                torch.softmax(torch.from_numpy(log_p).double(), dim=0).numpy()
            ),
            "These are the logarithms; p(y|x) itself is asked for.": np.log(y),
            "All on the best label is a guess, not the posterior.": np.eye(log_p.shape[1])[log_p.argmax(axis=1)],
            "That shares out the logs; the probabilities are meant.": log_p / log_p.sum(axis=1, keepdims=True),
        }

    in_both_precisions("label_posterior", work.label_posterior, posterior, tables(rng), mistakes)


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

    def mistakes(y, log_p, mu, var):
        even, middle = (
            np.full((1, 1, 1), 1 / mu.shape[1]),
            (posterior(log_p)[:, :, None] * mu).sum(axis=1, keepdims=True),
        )
        return {
            "The 1/2 is missing.": 2 * y,
            "var is the variance: it divides the square as it is, not squared and not as its root.": (
                weighed(log_p, mu, var, square=lambda d, v: d**2 / v**2),
                weighed(log_p, mu, var, square=lambda d, v: d**2 / np.sqrt(v)),
            ),
            "The squares are not divided by the variance.": weighed(log_p, mu, var, square=lambda d, v: d**2),
            "The labels count by p(y|x), which x makes unequal, not all alike.": weighed(log_p, mu, var, p=even),
            "The weights are p(y|x), which add up to 1; yours are p(x|y).": (
                weighed(log_p, mu, var, p=np.exp(log_p.astype(float))[:, :, None])
            ),
            "The middle is the mean with the weights p(y|x), not the plain mean.": (
                weighed(log_p, mu, var, mean=mu.mean(axis=1, keepdims=True))
            ),
            "The squares of the labels count by p(y|x) too, not only the middle.": (
                weighed(log_p, mu, var, even, middle)
            ),
            "Sum over the dimensions of z, do not average them.": y / mu.shape[2],
            "That is sum_y p(y|x) mu_y^2; the square of the middle has to come off.": weighed(log_p, mu, var, mean=0),
        }

    in_both_precisions("blind_encoder_cost", work.blind_encoder_cost, integral, cases, mistakes, "the-forgotten-label")


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
