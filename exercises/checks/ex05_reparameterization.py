"""What exercise 5 asks for, compared with PyTorch's autograd, with quadrature and with level 2's whole network."""

import contextlib
import functools
from collections.abc import Callable

import numpy as np
import torch

import vae_lowlevel as lowlevel
from checks.judging import Given, Mismatch, agree, agree_on_cases, close, numbers, one_array, tolerance
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


def agree_on_rows(work, name, right, cases, mistakes, read):
    """`agree_on_cases` of work's function `name`, whose answers have two rows, by mu and by logvar.

    Says of an answer without a known mistake which row is wrong, and of one that changes from call to call why.
    """
    function = one_array(getattr(work, name))

    def of_rows(y, *given):
        return {
            "The two are joined into one; np.stack([a, b]) makes of (N, Z) and (N, Z) a (2, N, Z).": np.concatenate(y),
            **mistakes(y, *given),
        }

    try:
        agree_on_cases(name, function, right, cases, of_rows, read)
    except Mismatch as error:
        if "largest difference" in error.lines["likely"]:
            said = changing(function, cases[0]) or one_row(function, right, cases)
            error.lines["likely"] = said or error.lines["likely"]
        raise


CHANGING = "Two calls with the same arguments give two answers: the noise is the argument eps, none is drawn inside."


def changing(function, case) -> str:
    with contextlib.suppress(Mismatch):  # what are no numbers
        first, second = (numbers("", function(*case.values())) for _ in range(2))
        if not np.array_equal(first, second, equal_nan=True):
            return CHANGING
    return ""


def one_row(function, right, cases) -> str:
    """Which of the two rows is wrong, if one is right in all cases."""
    rights = []
    for case in cases:
        try:
            got, expected = numbers("", function(*case.values())), right(*case.values())
        except Mismatch:
            return ""
        if got.shape != expected.shape:
            return ""
        rel = tolerance(got, str(case["mu"].dtype))
        rights.append([close(got[row], expected[row], rel) for row in (0, 1)])
    by_mu, by_logvar = np.all(rights, axis=0)
    if by_mu == by_logvar:
        return ""
    return f"The row by {'mu' if by_mu else 'logvar'} is right; look at the one by {'logvar' if by_mu else 'mu'}."


def by_autograd(loss: Callable, mu, logvar) -> np.ndarray:
    """The derivatives of loss(mu, logvar), a tensor of one number, by both -> (2, ...)."""
    leaves = [torch.tensor(value, requires_grad=True) for value in (mu, logvar)]
    loss(*leaves).backward()
    return np.stack([leaf.grad.numpy() for leaf in leaves])


# --- reparameterize -----------------------------------------------------------------------------------------------


def drawn(mu, logvar, eps):
    return lowlevel.reparameterize(*map(torch.tensor, (mu, logvar, eps))).numpy()


def part_reparameterize(work, rng):
    """reparameterize: the draw as a function of mu, logvar and noise"""

    def mistakes(y, mu, logvar, eps):
        std = np.exp(0.5 * logvar)
        return {
            "That is mu + sigma^2 eps: exp(logvar) is the variance, and sigma its root.": mu + std**2 * eps,
            "logvar is taken for sigma; sigma = exp(logvar / 2).": mu + logvar * eps,
            "logvar is a logarithm: take exp of its half, not its root (it may be negative).": (
                mu + np.sqrt(logvar) * eps,
                mu + np.sqrt(np.abs(logvar)) * eps,
            ),
            "One noise number is shared by all dimensions of an image: z is then a line through mu, not a cloud.": (
                mu + std * eps[:, :1]
            ),
            "The noise is missing: that is the mean, not a draw.": mu + 0 * eps,
        }

    cases = list(posteriors(rng, ((5, 3), (5, 3)), ((1, 4), (1, 4)), ((3, 1), (3, 1))))
    try:
        agree_on_cases("reparameterize", work.reparameterize, drawn, cases, mistakes, "the-maths")
    except Mismatch as error:
        error.lines["likely"] = changing(work.reparameterize, cases[0]) or error.lines["likely"]
        raise


# --- the two estimators -------------------------------------------------------------------------------------------


def each_draw(df, mu, logvar, eps):
    """The pathwise derivatives of every draw, by autograd through level 2's reparameterize."""
    d_z = torch.tensor(df(drawn(mu, logvar, eps)))
    wide = [np.broadcast_to(value, eps.shape).copy() for value in (mu, logvar)]  # a copy for each draw
    return by_autograd(lambda *q: (d_z * lowlevel.reparameterize(*q, torch.tensor(eps))).sum(), *wide)


def part_pathwise(work, rng):
    """pathwise_samples: along the path through z"""
    cases = [dict(df=df, **case) for df in SLOPES for case in posteriors(rng, *SHAPES)]
    cases.append(cases[0] | {"df": Given("a constant slope of 3", lambda z: np.full_like(z, 3))})

    def mistakes(y, df, mu, logvar, eps):
        std, d_z = np.exp(0.5 * logvar), y[0]

        def of_logvar(row):
            return np.stack([d_z, row])

        return {
            "The second is the derivative by sigma. By logvar there is one more factor: d sigma / d logvar = sigma / "
            "2.": of_logvar(d_z * eps),
            "The second lacks its 1/2: sigma = exp(logvar / 2).": of_logvar(2 * y[1]),
            "The second has sigma^2 where sigma belongs: z holds exp(logvar / 2).": of_logvar(std * y[1]),
            "The derivative of f is taken at mu; it belongs at z, where the draw fell.": (
                each_draw(lambda z: df(np.broadcast_to(mu, z.shape)), mu, logvar, eps)
            ),
        }

    agree_on_rows(work, "pathwise_samples", each_draw, cases, mistakes, "the-maths")


def weighted_scores(f, mu, logvar, eps, baseline=0.0):
    """(f - baseline) times the derivatives of log q(z), by autograd of torch's own log-density."""
    z = torch.tensor(drawn(mu, logvar, eps))
    weight = torch.tensor(np.broadcast_to(f(z.numpy()) - baseline, len(eps)).astype(eps.dtype))

    def surrogate(mu, logvar):
        return (weight[:, None] * torch.distributions.Normal(mu, torch.exp(0.5 * logvar)).log_prob(z)).sum()

    return by_autograd(surrogate, *(np.broadcast_to(value, eps.shape).copy() for value in (mu, logvar)))


def part_score(work, rng):
    """score_samples: from values of f alone"""
    cases = [dict(f=f, **case, baseline=1.7) for f in VALUES for case in posteriors(rng, *SHAPES)]
    cases += [case | {"baseline": rng.normal(size=len(case["eps"])).astype(case["eps"].dtype)} for case in cases[:3]]

    def mistakes(y, f, mu, logvar, eps, baseline=0.0):
        std, value = np.exp(0.5 * logvar), (f(drawn(mu, logvar, eps)) - baseline)[:, None]

        def of_mu(score):
            return np.stack([value * score, y[1]])

        def of_logvar(score):
            return np.stack([y[0], value * score])

        return {
            "The baseline is not used.": weighted_scores(f, mu, logvar, eps),
            "The second lacks its -1. A score has mean 0: E[eps^2] is 1, so eps^2 - 1 it is.": of_logvar(0.5 * eps**2),
            "The second is the derivative by sigma; by logvar it is times d sigma / d logvar = sigma / 2.": (
                of_logvar((eps**2 - 1) / std)
            ),
            "The second lacks its 1/2.": of_logvar(eps**2 - 1),
            "The first is (z - mu) / sigma^2; with z - mu = sigma eps that is eps / sigma.": of_mu(eps / std**2),
            "The first lacks the division by sigma: (z - mu) / sigma^2 is eps / sigma.": of_mu(eps),
        }

    agree_on_rows(work, "score_samples", weighted_scores, cases, mistakes, "the-maths")
    f, mu, logvar, eps, _ = cases[0].values()
    got, right = one_array(work.score_samples)(f, mu, logvar, eps), weighted_scores(f, mu, logvar, eps)
    agree("score_samples without a baseline (0)", got, right, read="the-maths")


# --- baselines and variances --------------------------------------------------------------------------------------


def others(values):
    return np.array([np.delete(values, i).mean() for i in range(len(values))], values.dtype)


def part_leave_one_out(work, rng):
    """leave_one_out: a baseline that does not look at its own draw"""

    def mistakes(y, values):
        return {
            "That is the mean of all, with the draw's own value in it: the gradient comes out too small by 1/N.": (
                np.full_like(values, values.mean())
            ),
            "The sum of the others; divide it by their number, N - 1.": values.sum() - values,
            "The own value is still in the sum, and the division is by N - 1.": (
                np.full_like(values, values.sum() / (len(values) - 1)),
                values.sum() / (len(values) - 1),
            ),
            "That is the value less its baseline; asked for is the baseline itself.": (values - y, y - values),
            "There are N - 1 others: divide their sum by that.": (values.sum() - values) / len(values),
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
    return np.array([variance(2 * z), variance((z**2 - baseline) * POINTS / std)])


def part_square_variances(work, rng):
    """square_variances: both, in closed form"""
    cases = [
        dict(mu=float(2 * rng.normal()), std=float(np.exp(rng.normal())), baseline=float(3 * rng.normal()))
        for _ in range(6)
    ]
    cases += [dict(mu=0.0, std=1.0, baseline=0.0), dict(mu=3.0, std=0.5, baseline=9.0)]

    def mistakes(y, mu, std, baseline=0.0):
        def second(change):
            return y + np.array([0, change])

        return {
            "The second is the mean of the square; the variance is less by the square of the mean, (2 mu)^2.": (
                second(4 * mu**2)
            ),
            "Both are means of squares; the variance is less by the square of the mean, (2 mu)^2.": y + 4 * mu**2,
            "The baseline is not used.": by_quadrature(mu, std),
            "In the second, E[z^2 eps^2] is taken for mu^2 + std^2; z^2 and eps^2 are not independent: E[eps^4] is "
            "3.": second(4 * baseline),
            "The second lacks the division by std^2.": np.array([y[0], std**2 * y[1] + 4 * mu**2 * (std**2 - 1)]),
            "The first is the variance of 2 std eps: the 2 and the std are squared.": y * [1 / (2 * std), 1],
            "Standard deviations; the variances are asked for.": np.sqrt(y),
            "The mean of the score's estimate is 2 mu, the derivative, not the mean of f.": (
                second(4 * mu**2 - (mu**2 + std**2) ** 2),
                second(4 * mu**2 - (mu**2 + std**2 - baseline) ** 2),
            ),
            "The two are exchanged: pathwise comes first.": y[::-1],
        }

    function = one_array(work.square_variances)
    agree_on_cases("square_variances", function, by_quadrature, cases, mistakes, "two-variances-in-closed-form")
    mu, std = cases[0]["mu"], cases[0]["std"]
    what = f"square_variances(mu={mu}, std={std}) without a baseline (0)"
    agree(what, function(mu, std), by_quadrature(mu, std), read="two-variances-in-closed-form")


# --- the VAE ------------------------------------------------------------------------------------------------------


def chained(d_z, mu, logvar, eps, recon=1.0, kl=1.0):
    """The derivatives of recon * recon + kl * kl by mu and logvar, when those of recon by z are d_z."""

    def neg_elbo(mu, logvar):
        path = (torch.tensor(d_z) * lowlevel.reparameterize(mu, logvar, torch.tensor(eps))).sum()
        return recon * path + kl * lowlevel.gaussian_kl(mu, logvar).mean()

    return by_autograd(neg_elbo, mu, logvar)


def part_elbo_gradients(work, rng):
    """elbo_gradients: by hand, for any derivative by z"""
    cases = []
    for case in posteriors(rng, ((5, 3), (5, 3)), ((1, 4), (1, 4)), ((3, 1), (3, 1))):
        cases.append(dict(d_z=rng.normal(size=case["mu"].shape).astype(case["mu"].dtype), **case))

    def mistakes(y, d_z, mu, logvar, eps):
        path, kl = chained(d_z, mu, logvar, eps, kl=0), chained(d_z, mu, logvar, eps, recon=0)
        std, B = np.exp(0.5 * logvar), len(mu)

        def of_logvar(row):
            return np.stack([y[0], row])

        return {
            "The KL is missing.": path,
            "The path through z is missing: that is the KL alone.": kl,
            "The KL is summed over the batch; d_z is of the mean over the batch, so the KL's part is divided by B "
            "too.": path + B * kl,
            "d_z is divided by B a second time: it already is the derivative of the batch's mean.": path / B + kl,
            "The KL lacks its 1/2: its derivatives are mu and (exp(logvar) - 1) / 2.": path + 2 * kl,
            "In the derivative by logvar, the KL's -1 is missing; it comes from -logvar and holds sigma at 1.": (
                of_logvar(path[1] + 0.5 * std**2 / B)
            ),
            "The derivative by logvar lacks the noise: dz / d logvar = sigma eps / 2.": of_logvar(
                0.5 * d_z * std + kl[1]
            ),
            "The derivative by logvar lacks the 1/2 of dz / d logvar = sigma eps / 2.": of_logvar(2 * path[1] + kl[1]),
            "That is the derivative by sigma; by logvar it is times sigma / 2.": of_logvar(
                d_z * eps + (std - 1 / std) / B
            ),
        }

    agree_on_rows(work, "elbo_gradients", chained, cases, mistakes, "the-vaes-own-gradient")


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
