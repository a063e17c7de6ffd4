"""What exercise 9 asks for, compared with level 3's conditional VAE, torch's mixtures and the integral over z."""

import functools

import numpy as np
import torch

from checks.judging import agree, agree_on_cases, agree_on_each, gradients, misweighed, values_of
from conv_vae import pixel_loss
from vae_common.spec import VAESpec
from vae_models.conditional_vae import ConditionalVAE

FORBIDDEN = ("vae_models", "vae_training", "vae_lowlevel", "conv_vae")  # they hold the answer


class Params(dict):
    """name -> tensor, which an error message shows in a few words."""

    def __repr__(self) -> str:
        return f"{len(self)} weights, Z = {len(self['encoder.mu.bias'])}"


def labels(rng, count, classes):
    """Labels (count,) that hold the first class but not the last, if there are two or more to choose from."""
    y = rng.integers(0, max(1, classes - 1), count)
    y[rng.integers(count)] = 0
    return y


def model_of(params, classes) -> ConditionalVAE:
    """Level 3's model with these weights, until the next is asked for."""
    model = without_weights(len(params["encoder.mu.bias"]), classes)
    model.load_state_dict(params, assign=True)
    return model


@functools.cache
def without_weights(Z, classes) -> ConditionalVAE:
    with torch.device("meta"):  # nothing is drawn
        return ConditionalVAE(VAESpec(Z), classes=classes)


def model_cases(rng, of_z=False):
    """Arguments of the model's functions: images or codes, labels, weights with which all is of the size of 1.

    In float32, in which torch is quick. The weights repeat 9,973 numbers, which is quicker than drawing 1.6 million.
    """
    for B, Z, classes in ((4, 2, 10), (1, 3, 4)):
        params = Params()
        for name, like in without_weights(Z, classes).state_dict().items():
            some = torch.from_numpy(rng.standard_normal(9973, np.float32))
            some *= 0.3 if like.ndim == 1 else (2 / like[0].numel()) ** 0.5
            params[name] = some.repeat(like.numel() // 9973 + 1)[: like.numel()].view(like.shape)
        x, z = rng.uniform(size=(B, 1, 28, 28)).astype(np.float32), rng.standard_normal((B, Z), np.float32)
        first = dict(z=torch.from_numpy(z)) if of_z else dict(x=torch.from_numpy(x))
        by_default = {} if classes == 10 else dict(classes=classes)
        yield dict(params=params, **first, y=torch.from_numpy(labels(rng, B, classes)), **by_default)


def hot_of(y, classes):
    return torch.nn.functional.one_hot(y, classes)


def part_encode(work, rng):
    """encode: q(z|x, y)"""

    def right(params, x, y, classes=10):
        with torch.no_grad():
            return [value.numpy() for value in model_of(params, classes).encode(x, y)]

    def mistakes(exact, params, x, y, classes=10):
        model = model_of(params, classes)
        maps = hot_of(y, classes)[:, :, None, None].expand(-1, -1, 28, 28).to(x)
        number = y[:, None, None, None].to(x)

        def encoded(*both):
            with torch.no_grad():
                return [value.numpy() for value in model.encoder(torch.cat(both, dim=1))]

        wrong = {
            "The label is missing: it is forgotten, and nothing will crash.": [encoded(x, 0 * maps)],
            "The maps come first and x last; here x is first, as in level 3.": [encoded(maps, x)],
            "The maps hold the label's number. Class 8 is not twice class 4: 1 for its own class, 0 for the others.": (
                [encoded(x, number.expand(maps.shape)), encoded(x, number * maps)]
            ),
        }
        return [{text: tuple(way[i] for way in ways) for text, ways in wrong.items()} for i in range(2)]

    agree_on_each(("mu", "logvar"), "encode", work.encode, right, model_cases(rng), mistakes, "the-maths")


def part_decode(work, rng):
    """decode: p(x|z, y)"""

    def decoded(model, *both):
        with torch.no_grad():
            return model.decoder(torch.cat(both, dim=1)).numpy()

    def right(params, z, y, classes=10):
        return decoded(model_of(params, classes), z, hot_of(y, classes).to(z))

    def mistakes(exact, params, z, y, classes=10):
        model, hot = model_of(params, classes), hot_of(y, classes).to(z)
        number = y[:, None].to(z)
        return {
            "The label is missing: the decoder then draws p(x|z).": decoded(model, z, 0 * hot),
            "The label comes first and z last; here z is first, as in level 3.": decoded(model, hot, z),
            "The label's number goes in. Class 8 is not twice class 4: 1 for its own class, 0 for the others.": (
                decoded(model, z, number.expand(hot.shape)),
                decoded(model, z, number * hot),
            ),
        }

    cases = list(model_cases(rng, of_z=True))
    agree_on_cases("decode", work.decode, right, cases, mistakes, "the-maths")


def with_noise(rng, params, x, y, **classes):
    """The arguments of the objective, from those of encode."""
    eps = rng.standard_normal((len(x), len(params["encoder.mu.bias"])), np.float32)
    return dict(params=params, x=x, y=y, eps=torch.from_numpy(eps), **classes)


def mistaken_terms(exact, x, mu, logvar, eps, decode):
    """recon (B,), kl (B,) and loss as an objective with a known mistake has them, where `exact` is right: for each of
    the three {what to say: the answer that it gives}. decode: z -> x_logits.
    """
    (recon, kl, loss), std = exact, torch.exp(0.5 * logvar)

    def recon_of(z):
        return pixel_loss(x, decode(z), "bernoulli").numpy()

    p = torch.sigmoid(decode(mu + std * eps))
    bracket = (mu**2 + logvar.exp() - logvar).sum(dim=1).numpy() / 2
    of_recon = {
        "std is exp(logvar / 2); exp(logvar) is the variance.": recon_of(mu + std**2 * eps),
        "That is decoded from mu: the noise is not used.": recon_of(mu),
        "Each latent dimension has noise of its own; yours share one number.": recon_of(mu + std * eps[:, :1]),
        "That is the squared error; the pixels' likelihood is Bernoulli.": ((x - p) ** 2).sum(dim=(1, 2, 3)).numpy(),
        "A sigmoid too many: the loss takes logits.": pixel_loss(x, p, "bernoulli").numpy(),
    }
    of_kl = {
        "The constant -1 of each dimension was dropped.": (bracket, 2 * bracket),
        "logvar is log std^2, not log std.": (mu**2 + (2 * logvar).exp() - 1 - 2 * logvar).sum(dim=1).numpy() / 2,
    }
    of_loss = {
        "recon is counted as a mean over the pixels in the loss, which is a beta of 784.": (recon / 784 + kl).mean(),
        **misweighed(loss, {"recon": recon.mean(), "the KL": kl.mean()}),
    }
    return of_recon, of_kl, of_loss


def part_objective(work, rng):
    """objective: recon, kl and the loss"""
    names = ("recon", "kl", "loss")

    def right(params, x, y, eps, classes=10):
        with torch.no_grad():
            measured = model_of(params, classes).evaluate(x, y, eps)
        recon, kl = measured["recon"].numpy(), measured["kl"].numpy()
        return recon, kl, (recon + kl).mean()

    def mistakes(exact, params, x, y, eps, classes=10):
        model = model_of(params, classes)
        with torch.no_grad():
            mu, logvar = model.encode(x, y)
            return mistaken_terms(exact, x, mu, logvar, eps, lambda z: model.decode(z, y))

    cases = [with_noise(rng, **case) for case in model_cases(rng)]
    agree_on_each(names, "objective", work.objective, right, cases, mistakes, "the-maths", (1, 0, 2))


def part_gradients(work, rng):
    """objective: its gradient reaches every weight"""
    params, *given = with_noise(rng, **next(model_cases(rng))).values()
    own = Params({name: value.clone().requires_grad_() for name, value in params.items()})
    model = model_of(params, 10)
    model.objective(*given, 0)["loss"].backward()
    loss = values_of(("recon", "kl", "loss"), "objective", work.objective(own, *given))[2]
    found = gradients("the loss of objective", loss, list(own.values()), "the-maths")
    for (name, _), got in zip(own.items(), found, strict=True):
        if got.numel() < 10**5:  # that of a large layer's bias tells as much
            agree(f"the gradient of objective's loss by {name}", got, model.get_parameter(name).grad, read="the-maths")


def marginal(log_p):
    wide = torch.from_numpy(log_p).double()
    return (torch.logsumexp(wide, dim=1) - np.log(log_p.shape[1])).numpy()


def tables(rng):
    """Cases {log_p}: like images (far below 0, and far apart), like densities (above 0), and where all is equal.

    Not near 0, where log p(x) has lost digits that float32 had.
    """
    for dtype in (np.float64, np.float32):
        for B, classes, level, spread in ((5, 10, -100, 3), (3, 4, -2000, 40), (7, 3, 1500, 20), (1, 10, 5, 1)):
            yield dict(log_p=(level + spread * rng.normal(size=(B, classes))).astype(dtype))
    yield dict(log_p=np.full((2, 6), -90.0))


def part_log_p_x(work, rng):
    """log_p_x: the labels averaged out"""

    def mistakes(y, log_p):
        return {
            "The mean of the logs is not the log of the mean: average the probabilities.": log_p.mean(axis=1),
        }

    agree_on_cases("log_p_x", work.log_p_x, marginal, tables(rng), mistakes, "what-the-label-is-worth")


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
        mean_of_logs = given(log_p, y) - log_p.mean(axis=1)
        return {"log p(x) is the log of a mean over the labels, not the mean of the logs.": mean_of_logs}

    in_both_precisions("label_gain", work.label_gain, gain, cases, mistakes)


def posterior(log_p):
    return torch.softmax(torch.from_numpy(log_p).double(), dim=1).numpy()


def part_label_posterior(work, rng):
    """label_posterior: Bayes' rule"""

    def mistakes(y, log_p):
        return {
            "The columns add up to 1; the labels of one image, a row, have to.": (
                torch.softmax(torch.from_numpy(log_p).double(), dim=0).numpy()
            ),
        }

    in_both_precisions("label_posterior", work.label_posterior, posterior, tables(rng), mistakes)


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
        even = np.full((1, 1, 1), 1 / mu.shape[1])
        return {
            "var is the variance: it divides the square as it is, not squared and not as its root.": (
                weighed(log_p, mu, var, square=lambda d, v: d**2 / v**2),
                weighed(log_p, mu, var, square=lambda d, v: d**2 / np.sqrt(v)),
            ),
            "The labels count by p(y|x), which x makes unequal, not all alike.": weighed(log_p, mu, var, p=even),
            "The middle is the mean with the weights p(y|x), not the plain mean.": (
                weighed(log_p, mu, var, mean=mu.mean(axis=1, keepdims=True))
            ),
            "That is sum_y p(y|x) mu_y^2; the square of the middle has to come off.": weighed(log_p, mu, var, mean=0),
        }

    in_both_precisions("blind_encoder_cost", work.blind_encoder_cost, integral, cases, mistakes, "the-forgotten-label")


HINTS = (
    "encode: make the label maps of the image's size, set them beside x, and run the spec's encoder.",
    "encode: F.one_hot(y, classes) is (B, classes), of whole numbers; .to(x) gives it the dtype of x. With "
    "[:, :, None, None].expand(-1, -1, 28, 28) it is maps; torch.cat([x, maps], dim=1) is (B, 1 + classes, 28, 28).",
    "encode: then the layers of README.md in order, each as F.conv2d(h, weight, bias, stride=2, padding=1) or "
    "F.linear; a ReLU after all but the last two, which both read the same h.",
    "decode: the label beside z, and the spec's decoder; its last layer gives logits, without ReLU or sigmoid.",
    "decode: torch.cat([z, F.one_hot(y, classes).to(z)], dim=1) is (B, Z + classes); reshape to (-1, 64, 7, 7).",
    "decode: linear, linear, reshape, two F.conv_transpose2d with stride=2, padding=1, output_padding=1.",
    "objective: encode, draw, decode with the same y; then exercise 4's two terms.",
    "objective: z = mu + exp(logvar / 2) eps. recon and kl are (B,), sums over pixels or Z; the loss is a number.",
    "objective: F.binary_cross_entropy_with_logits(x_logits, x, reduction='none') keeps all pixels; the kl is "
    "1/2 sum(mu^2 + exp(logvar) - 1 - logvar).",
    "log_p_x: labels are equally likely, so p(x) is the mean of p(x|y). You have logarithms, and want one.",
    "log_p_x: (B, classes) -> (B,). With m the largest of each row, keepdims=True, the largest exp(a - m) is 1.",
    "log_p_x: np.logaddexp.reduce(log_p, axis=1) - np.log(log_p.shape[1])",
    "label_gain: log p(x|y) at the true label, less log p(x).",
    "label_gain: one entry from each row, (B,): two index arrays, the rows' numbers and the labels.",
    "label_gain: log_p[np.arange(len(y)), y] - log_p_x(log_p)",
    "label_posterior: p(y|x) is p(x|y) p(y) / p(x); you have both logarithms.",
    "label_posterior: (B, classes), each row adding up to 1: log_p_x(log_p)[:, None] fits beside log_p.",
    "label_posterior: np.exp(log_p - log_p_x(log_p)[:, None]) / log_p.shape[1]",
    "blind_encoder_cost: with s = v the first three terms vanish. The best m is a mean of the labels' means.",
    "blind_encoder_cost: p = label_posterior(log_p)[:, :, None] fits beside mu (B, classes, Z); the answer is (B,).",
    "blind_encoder_cost: middle = (p * mu).sum(axis=1, keepdims=True), then (p * (mu - middle)**2 / var).sum over both "
    "axes, halved.",
)
