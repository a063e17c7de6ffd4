"""What exercise 5 asks for, compared with PyTorch's autograd, with quadrature and with level 2's whole network."""

import functools
from collections.abc import Callable

import numpy as np
import torch

import vae_lowlevel as lowlevel
from checks.judging import Given, agree, agree_on_cases, agree_on_each, misweighed, numbers, one_array
from vae_common.spec import VAESpec

FORBIDDEN = ("vae_numpy", "vae_lowlevel", "conv_vae", "torch")  # they hold the answer, and autograd gives it


VALUES = (  # z (N, Z) -> (N,)
    Given("z^2, summed", lambda z: (z**2).sum(axis=1)),
    Given("sin z, summed", lambda z: np.sin(z).sum(axis=1)),
    Given("the product of exp(z / 5)", lambda z: np.exp(z.sum(axis=1) / 5)),
    Given("round(z)^2, summed", lambda z: (np.round(z) ** 2).sum(axis=1)),
)
SLOPES = Given("(z^2, summed)'", lambda z: 2 * z), Given("(sin z, summed)'", np.cos)  # z (N, Z) -> (N, Z)


def posteriors(rng, *shapes):
    """mu, logvar of each shape in float64 and float32, with noise of eps_shape."""
    for dtype in (np.float64, np.float32):
        for shape, eps_shape in shapes:
            mu, eps = 2 * rng.normal(size=shape), rng.normal(size=eps_shape)
            yield {"mu": mu.astype(dtype), "logvar": rng.normal(size=shape).astype(dtype), "eps": eps.astype(dtype)}


SHAPES = (((3,), (7, 3)), ((1,), (5, 1)), ((4,), (1, 4)))


ROWS = ("the row by mu", "the row by logvar")


def two(work, name: str) -> Callable:
    """work's function of this name, with its answer, an array of two rows or of two numbers, as a tuple."""
    function = one_array(getattr(work, name))
    return lambda *args: tuple(numbers(f"{name}(...)", function(*args)))


def by_autograd(loss: Callable, mu, logvar) -> np.ndarray:
    """The derivatives of loss(mu, logvar), a tensor of one number, by both -> (2, ...)."""
    leaves = [torch.tensor(value, requires_grad=True) for value in (mu, logvar)]
    loss(*leaves).backward()
    return np.stack([leaf.grad.numpy() for leaf in leaves])


def drawn(mu, logvar, eps):
    return lowlevel.reparameterize(*map(torch.tensor, (mu, logvar, eps))).numpy()


def part_reparameterize(work, rng):
    """reparameterize: the draw as a function of mu, logvar and noise"""

    def mistakes(y, mu, logvar, eps):
        return {
            "logvar is a logarithm: take exp of its half, not its root (it may be negative).": (
                mu + logvar * eps,
                mu + np.sqrt(logvar) * eps,
                mu + np.sqrt(np.abs(logvar)) * eps,
            ),
            "One noise number is shared by all dimensions of an image.": mu + np.exp(0.5 * logvar) * eps[:, :1],
            "The noise is missing: that is the mean, not a draw.": mu,
        }

    cases = posteriors(rng, ((5, 3), (5, 3)), ((1, 4), (1, 4)), ((3, 1), (3, 1)))
    agree_on_cases("reparameterize", work.reparameterize, drawn, cases, mistakes, "the-maths")


def each_draw(df, mu, logvar, eps):
    """The pathwise derivatives of every draw, by autograd through level 2's reparameterize."""
    d_z = torch.tensor(df(drawn(mu, logvar, eps)))
    wide = [np.broadcast_to(value, eps.shape).copy() for value in (mu, logvar)]  # a copy for each draw
    return tuple(by_autograd(lambda *q: (d_z * lowlevel.reparameterize(*q, torch.tensor(eps))).sum(), *wide))


def part_pathwise(work, rng):
    """pathwise_samples: along the path through z"""
    cases = [dict(df=df, **case) for df in SLOPES for case in posteriors(rng, *SHAPES)]
    cases.append(cases[0] | {"df": Given("a constant slope of 3", lambda z: np.full_like(z, 3))})

    def mistakes(y, df, mu, logvar, eps):
        at_mu = each_draw(lambda z: df(np.broadcast_to(mu, z.shape)), mu, logvar, eps)
        early = "The derivative of f is taken at mu; it belongs at z, where the draw fell."
        by_sigma = "That is the derivative by sigma. By logvar it is times d sigma / d logvar = sigma / 2."
        squared = "sigma^2 stands where sigma belongs: z holds exp(logvar / 2)."
        std = np.exp(0.5 * logvar)
        return {early: at_mu[0]}, {early: at_mu[1], by_sigma: y[0] * eps, squared: (std * y[1], 2 * std * y[1])}

    agree_on_each(ROWS, "pathwise_samples", two(work, "pathwise_samples"), each_draw, cases, mistakes, "the-maths")


def weighted_scores(f, mu, logvar, eps, baseline=0.0):
    """(f - baseline) times the derivatives of log q(z), by autograd of torch's own log-density."""
    z = torch.tensor(drawn(mu, logvar, eps))
    weight = torch.tensor(np.broadcast_to(f(z.numpy()) - baseline, len(eps)).astype(eps.dtype))

    def surrogate(mu, logvar):
        return (weight[:, None] * torch.distributions.Normal(mu, torch.exp(0.5 * logvar)).log_prob(z)).sum()

    return tuple(by_autograd(surrogate, *(np.broadcast_to(value, eps.shape).copy() for value in (mu, logvar))))


def part_score(work, rng):
    """score_samples: from values of f alone"""
    cases = [dict(f=f, **case, baseline=1.7) for f in VALUES for case in posteriors(rng, *SHAPES)]
    cases += [case | {"baseline": rng.normal(size=len(case["eps"])).astype(case["eps"].dtype)} for case in cases[:3]]
    cases.append({key: value for key, value in cases[0].items() if key != "baseline"})

    def mistakes(y, f, mu, logvar, eps, baseline=0.0):
        std, value = np.exp(0.5 * logvar), (f(drawn(mu, logvar, eps)) - baseline)[:, None]
        return (
            {"(z - mu) / sigma^2 is eps / sigma, as z - mu = sigma eps.": (value * eps / std**2, value * eps)},
            {
                "The -1 is missing. A score has mean 0: E[eps^2] is 1, so eps^2 - 1 it is.": value * 0.5 * eps**2,
                "That is the derivative by sigma; by logvar it is times sigma / 2.": value * (eps**2 - 1) / std,
            },
        )

    agree_on_each(ROWS, "score_samples", two(work, "score_samples"), weighted_scores, cases, mistakes, "the-maths")


def others(values):
    return np.array([np.delete(values, i).mean() for i in range(len(values))], values.dtype)


def part_leave_one_out(work, rng):
    """leave_one_out: a baseline that does not look at its own draw"""

    def mistakes(y, values):
        return {
            "That is the mean of all, with the draw's own value in it.": np.full_like(values, values.mean()),
            "There are N - 1 others: divide their sum by that.": (
                values.sum() - values,
                (values.sum() - values) / len(values),
            ),
        }

    sizes = ((7, np.float64), (2, np.float64), (5, np.float32))
    cases = [dict(values=(100 + 9 * rng.normal(size=size)).astype(dtype)) for size, dtype in sizes]
    agree_on_cases("leave_one_out", one_array(work.leave_one_out), others, cases, mistakes, "the-maths")


POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(12)  # exact for polynomials up to eps^23; here they end at eps^6


def variance(draws) -> float:
    mean = WEIGHTS @ draws / WEIGHTS.sum()
    return WEIGHTS @ (draws - mean) ** 2 / WEIGHTS.sum()


def by_quadrature(mu, std, baseline=0.0):
    z = mu + std * POINTS
    return variance(2 * z), variance((z**2 - baseline) * POINTS / std)


def part_square_variances(work, rng):
    """square_variances: both, in closed form"""
    cases = [
        dict(mu=float(2 * rng.normal()), std=float(np.exp(rng.normal())), baseline=float(3 * rng.normal()))
        for _ in range(6)
    ]
    cases.append(dict(mu=3.0, std=0.5))

    def mistakes(y, mu, std, baseline=0.0):
        square = y[1] + 4 * mu**2  # the mean of the estimate's square
        of_square = "That is the mean of the square; the variance is less by the square of the mean, (2 mu)^2."
        return (
            {of_square: y[0] + 4 * mu**2, "2 and std are squared in the variance of 2 std eps.": (2 * std, 2 * std**2)},
            {
                of_square: square,
                "E[z^2 eps^2] is not mu^2 + std^2: z^2 and eps^2 are not independent.": y[1] + 4 * baseline,
                "The division by std^2 is missing.": std**2 * square - 4 * mu**2,
            },
        )

    names, read = ("the pathwise one", "the score's"), "two-variances-in-closed-form"
    agree_on_each(names, "square_variances", two(work, "square_variances"), by_quadrature, cases, mistakes, read)


def chained(d_z, mu, logvar, eps, recon=1.0, kl=1.0):
    """The derivatives of recon * recon + kl * kl by mu and logvar, when those of recon by z are d_z."""

    def neg_elbo(mu, logvar):
        path = (torch.tensor(d_z) * lowlevel.reparameterize(mu, logvar, torch.tensor(eps))).sum()
        return recon * path + kl * lowlevel.gaussian_kl(mu, logvar).mean()

    return tuple(by_autograd(neg_elbo, mu, logvar))


def part_elbo_gradients(work, rng):
    """elbo_gradients: by hand, for any derivative by z"""
    cases = []
    for case in posteriors(rng, ((5, 3), (5, 3)), ((1, 4), (1, 4)), ((3, 1), (3, 1))):
        cases.append(dict(d_z=rng.normal(size=case["mu"].shape).astype(case["mu"].dtype), **case))

    def mistakes(y, d_z, mu, logvar, eps):
        path, kl = chained(d_z, mu, logvar, eps, kl=0), chained(d_z, mu, logvar, eps, recon=0)
        std, B = np.exp(0.5 * logvar), len(mu)
        once_for_each = {
            "The KL is summed over the batch; d_z is of the mean over the batch, so the KL's part is divided by B "
            "too.": [path[i] + B * kl[i] for i in (0, 1)],
            "d_z is divided by B a second time: it is of the mean already.": [path[i] / B + kl[i] for i in (0, 1)],
        }
        terms = [{"the KL's part": kl[i], "the path through z": path[i]} for i in (0, 1)]
        terms[1]["the KL's -1, which comes from -logvar and holds sigma at 1"] = -0.5 / B
        by_sigma = "That is the derivative by sigma; by logvar it is times sigma / 2."
        known = [{text: way[i] for text, way in once_for_each.items()} | misweighed(y[i], terms[i]) for i in (0, 1)]
        return known[0], known[1] | {by_sigma: d_z * eps + (std - 1 / std) / B}

    function, read = two(work, "elbo_gradients"), "the-vaes-own-gradient"
    agree_on_each(ROWS, "elbo_gradients", function, chained, cases, mistakes, read)


@functools.lru_cache(maxsize=2)
def network(latent_dim: int) -> dict[str, torch.Tensor]:
    params = VAESpec(latent_dim).init_params(0)
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in params.items()}


def part_network(work, rng):
    """elbo_gradients in the whole VAE, against level 2's backward()"""
    params, x = network(3), torch.tensor(rng.random((5, 1, 28, 28)))
    mu, logvar = (torch.tensor(rng.normal(size=(5, 3)), requires_grad=True) for _ in range(2))
    eps = torch.tensor(rng.normal(size=(5, 3)))
    z = lowlevel.reparameterize(mu, logvar, eps)
    z.retain_grad()
    recon, kl = lowlevel.elbo_terms(x, lowlevel.decode(params, z), mu, logvar)
    (recon + kl).mean().backward()
    arrays = (value.detach().numpy() for value in (z.grad, mu, logvar, eps))
    agree(
        "elbo_gradients with d_z from the decoder of level 2 (B = 5, Z = 3)",
        one_array(work.elbo_gradients)(*arrays),
        np.stack([mu.grad.numpy(), logvar.grad.numpy()]),
        read="the-vaes-own-gradient",
    )


HINTS = (
    "reparameterize: noise of variance 1, stretched to a standard deviation of sigma and moved to mu.",
    "reparameterize: entry by entry (B, Z). sigma is the root of exp(logvar), and a root is half of the exponent.",
    "reparameterize: mu + np.exp(0.5 * logvar) * eps",
    "pathwise_samples: the chain rule: f changes by df(z) times what z changes by. Make z with your first function.",
    "pathwise_samples: two rows (N, Z), d_z dz/dmu and d_z dz/dlogvar; np.stack puts them together, (2, N, Z).",
    "pathwise_samples: the derivative of mu + exp(logvar / 2) eps by mu is 1, by logvar exp(logvar / 2) eps / 2.",
    "score_samples: differentiate log q(z) by mu and by logvar with z held fixed, then put z - mu = sigma eps in.",
    "score_samples: the values less the baseline are (N,): [:, None] makes them fit (N, Z). Two rows, as before.",
    "score_samples: the derivatives are eps / sigma by mu and (eps^2 - 1) / 2 by logvar.",
    "leave_one_out: what is the sum of the others, if you have the sum of all?",
    "leave_one_out: values.sum() is one number, values are (N,): no loop and no matrix.",
    "leave_one_out: (values.sum() - values) / (len(values) - 1)",
    "square_variances: the score's draw is (z^2 - b) eps / sigma with mean 2 mu. Square it, put z = mu + sigma eps in, "
    "multiply out. What is odd in eps has mean 0; E[eps^2], E[eps^4], E[eps^6] are 1, 3, 15.",
    "square_variances: two numbers. The score's is E[z^4 eps^2] - 2 b E[z^2 eps^2] + b^2, over sigma^2, less (2 mu)^2.",
    "square_variances: E[z^4 eps^2] = mu^4 + 18 mu^2 sigma^2 + 15 sigma^4 and E[z^2 eps^2] = mu^2 + 3 sigma^2. The "
    "pathwise one is 4 sigma^2.",
    "elbo_gradients: mu and logvar each act twice, through z on recon and directly on the KL. Two shares, added.",
    "elbo_gradients: rows (B, Z). d_z holds its 1/B already; the KL's derivatives need theirs.",
    "elbo_gradients: from recon d_z and d_z sigma eps / 2; from the KL mu / B and (exp(logvar) - 1) / (2 B).",
)
