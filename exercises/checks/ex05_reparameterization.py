"""What exercise 5 asks for, compared with PyTorch's autograd, with quadrature and with level 2's whole network."""

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

import vae_lowlevel as lowlevel
from checks.judging import Mismatch, Wrong, agree, agree_on_cases, close, numbers, to_numpy, tolerance
from vae_common.spec import VAESpec

FORBIDDEN = ("vae_numpy", "vae_lowlevel", "conv_vae", "torch")  # they hold the answer, and autograd gives it
PAGE = "05_reparameterization.md"


@dataclass(frozen=True)
class Function:
    """f: z (N, Z) -> (N,), with its derivatives df: z (N, Z) -> (N, Z)."""

    text: str
    f: Callable
    df: Callable | None = None

    def __repr__(self) -> str:
        return self.text


SMOOTH = (
    Function("z^2, summed", lambda z: (z**2).sum(axis=1), lambda z: 2 * z),
    Function("sin z, summed", lambda z: np.sin(z).sum(axis=1), np.cos),
    Function("the product of exp(z / 5)", lambda z: np.exp(z.sum(axis=1) / 5), None),
)
STEPS = Function("round(z)^2, summed", lambda z: (np.round(z) ** 2).sum(axis=1))


@dataclass(frozen=True)
class Given:
    """A function as the learner gets it: it can be called, and says what it is."""

    text: str
    call: Callable

    def __repr__(self) -> str:
        return self.text

    def __call__(self, z):
        return self.call(z)


def posteriors(rng, *shapes):
    """mu, logvar of each shape in float64 and float32, with noise of eps_shape."""
    for dtype in (np.float64, np.float32):
        for shape, eps_shape in shapes:
            mu, eps = 2 * rng.normal(size=shape), rng.normal(size=eps_shape)
            yield {"mu": mu.astype(dtype), "logvar": rng.normal(size=shape).astype(dtype), "eps": eps.astype(dtype)}


SHAPES = (((3,), (7, 3)), ((1,), (5, 1)), ((4,), (1, 4)))


def one_array(function):
    """The function, with a list or tuple that it returns made an array of."""

    def call(*args, **kwargs):
        answer = function(*args, **kwargs)
        if isinstance(answer, (list, tuple)):
            with contextlib.suppress(Exception):  # else it is refused as what it is
                return np.array([to_numpy(row) for row in answer])
        return answer

    return call


def agree_on_rows(work, name, right, cases, mistakes, read):
    """`agree_on_cases` of work's function `name`, whose answers have two rows, by mu and by logvar.

    Says of an answer without a known mistake which row is wrong, and of one that changes from call to call why.
    """
    function = one_array(getattr(work, name))
    mistakes = {
        "The two rows are exchanged: by mu comes first.": lambda *given: right(*given)[::-1],
        "The two are joined into one; np.stack([a, b]) makes of (N, Z) and (N, Z) a (2, N, Z).": (
            lambda *given: np.concatenate(right(*given))
        ),
        "The mean over the draws is taken; what each draw says is asked for.": lambda *given: right(*given).mean(
            axis=1
        ),
        **mistakes,
    }
    try:
        agree_on_cases(name, function, right, cases, mistakes=mistakes, read=read)
    except Mismatch as error:
        if "largest difference" in error.lines["likely"]:
            error.lines["likely"] = (
                changing(function, cases[0]) or one_row(function, right, cases) or error.lines["likely"]
            )
        raise


def changing(function, case) -> str:
    with contextlib.suppress(Mismatch):  # what are no numbers
        first, second = (numbers("", function(*case.values())) for _ in range(2))
        if not np.array_equal(first, second, equal_nan=True):
            return CHANGING
    return ""


CHANGING = "Two calls with the same arguments give two answers: the noise is the argument eps, none is drawn inside."


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
    mistakes = {
        "That is mu + sigma^2 eps: exp(logvar) is the variance, and sigma its root.": (
            lambda mu, logvar, eps: mu + np.exp(logvar) * eps
        ),
        "logvar is taken for sigma; sigma = exp(logvar / 2).": lambda mu, logvar, eps: mu + logvar * eps,
        "sigma is exp(logvar / 2): half of the exponent is the root; twice it is a square.": (
            lambda mu, logvar, eps: mu + np.exp(2 * logvar) * eps
        ),
        "logvar is a logarithm: take exp of its half, not its root (it may be negative).": (
            lambda mu, logvar, eps: mu + np.sqrt(logvar) * eps,
            lambda mu, logvar, eps: mu + np.sqrt(np.abs(logvar)) * eps,
        ),
        "One noise number is shared by all dimensions of an image: z is then a line through mu, not a cloud.": (
            lambda mu, logvar, eps: mu + np.exp(0.5 * logvar) * eps[:, :1]
        ),
        "The noise is missing: that is the mean, not a draw.": lambda mu, logvar, eps: mu + 0 * eps,
        "The noise comes in with a minus. The distribution is the same, but not the numbers.": (
            lambda mu, logvar, eps: mu - np.exp(0.5 * logvar) * eps
        ),
    }
    cases = list(posteriors(rng, ((5, 3), (5, 3)), ((1, 4), (1, 4)), ((3, 1), (3, 1))))
    try:
        agree_on_cases("reparameterize", work.reparameterize, drawn, cases, mistakes=mistakes, read=f"{PAGE}#the-maths")
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
    functions = [Given(f"({one.text})'", one.df) for one in SMOOTH if one.df]
    cases = [dict(df=df, **case) for df in functions for case in posteriors(rng, *SHAPES)]
    cases.append(cases[0] | {"df": Given("a constant slope of 3", lambda z: np.full_like(z, 3))})

    def of_logvar(row):
        return lambda df, mu, logvar, eps: np.stack(
            [df(drawn(mu, logvar, eps)), row(df(drawn(mu, logvar, eps)), np.exp(0.5 * logvar), eps)]
        )

    mistakes = {
        "The second is the derivative by sigma. By logvar there is one more factor: d sigma / d logvar = sigma / 2.": (
            of_logvar(lambda d_z, std, eps: d_z * eps)
        ),
        "The second lacks its 1/2: sigma = exp(logvar / 2).": of_logvar(lambda d_z, std, eps: d_z * std * eps),
        "The second has sigma^2 where sigma belongs: z holds exp(logvar / 2).": of_logvar(
            lambda d_z, std, eps: d_z * 0.5 * std**2 * eps
        ),
        "The second lacks the noise: dz / d logvar = sigma eps / 2.": of_logvar(
            lambda d_z, std, eps: d_z * 0.5 * std + 0 * eps
        ),
        "The second lacks the derivative of f; both rows hold it.": of_logvar(lambda d_z, std, eps: 0.5 * std * eps),
        "The second has z where sigma eps belongs: mu does not change with logvar.": (
            lambda df, mu, logvar, eps: (
                each_draw(df, mu, logvar, eps) + [[[0]], [[0.5]]] * mu * df(drawn(mu, logvar, eps))
            )
        ),
        "The first is multiplied by mu; dz / dmu is 1.": (
            lambda df, mu, logvar, eps: each_draw(df, mu, logvar, eps) * np.stack([mu, np.ones_like(mu)])[:, None]
        ),
        "The derivative of f is taken at mu; it belongs at z, where the draw fell.": (
            lambda df, mu, logvar, eps: each_draw(lambda z: df(np.broadcast_to(mu, z.shape)), mu, logvar, eps)
        ),
        "The derivative of f is taken at the noise; it belongs at z.": (
            lambda df, mu, logvar, eps: each_draw(lambda z: df(eps), mu, logvar, eps)
        ),
    }
    read = f"{PAGE}#the-maths"
    agree_on_rows(work, "pathwise_samples", each_draw, cases, mistakes, read)


def weighted_scores(f, mu, logvar, eps, baseline=0.0):
    """(f - baseline) times the derivatives of log q(z), by autograd of torch's own log-density."""
    z = torch.tensor(drawn(mu, logvar, eps))
    weight = torch.tensor(np.broadcast_to(f(z.numpy()) - baseline, len(eps)).astype(eps.dtype))

    def surrogate(mu, logvar):
        return (weight[:, None] * torch.distributions.Normal(mu, torch.exp(0.5 * logvar)).log_prob(z)).sum()

    return by_autograd(surrogate, *(np.broadcast_to(value, eps.shape).copy() for value in (mu, logvar)))


def part_score(work, rng):
    """score_samples: from values of f alone"""
    functions = [Given(one.text, one.f) for one in (*SMOOTH, STEPS)]
    cases = [dict(f=f, **case, baseline=1.7) for f in functions for case in posteriors(rng, *SHAPES)]
    cases += [case | {"baseline": rng.normal(size=len(case["eps"])).astype(case["eps"].dtype)} for case in cases[:3]]

    def rows(by_mu, by_logvar):
        def wrong(f, mu, logvar, eps, baseline=0.0):
            value = (f(drawn(mu, logvar, eps)) - baseline)[:, None]
            std = np.exp(0.5 * logvar)
            return np.stack([value * by_mu(std, eps), value * by_logvar(std, eps)])

        return wrong

    def one(std, eps):
        return eps / std

    def two(std, eps):
        return 0.5 * (eps**2 - 1)

    mistakes = {
        "The baseline is not used.": lambda f, mu, logvar, eps, baseline=0.0: weighted_scores(f, mu, logvar, eps),
        "The baseline is added; take it off.": (
            lambda f, mu, logvar, eps, baseline=0.0: weighted_scores(f, mu, logvar, eps, -baseline)
        ),
        "The second lacks its -1. A score has mean 0: E[eps^2] is 1, so eps^2 - 1 it is.": rows(
            one, lambda std, eps: 0.5 * eps**2
        ),
        "The second is the derivative by sigma; by logvar it is times d sigma / d logvar = sigma / 2.": rows(
            one, lambda std, eps: (eps**2 - 1) / std
        ),
        "The second is the derivative by the variance; by logvar it is times the variance.": rows(
            one, lambda std, eps: (eps**2 - 1) / (2 * std**2)
        ),
        "The second lacks its 1/2.": rows(one, lambda std, eps: eps**2 - 1),
        "The first is (z - mu) / sigma^2; with z - mu = sigma eps that is eps / sigma.": rows(
            lambda std, eps: eps / std**2, two
        ),
        "The first is eps times sigma; (z - mu) / sigma^2 is eps / sigma.": rows(lambda std, eps: eps * std, two),
        "The first lacks the division by sigma: (z - mu) / sigma^2 is eps / sigma.": rows(lambda std, eps: eps, two),
        "The second has its sign turned: by logvar it is (eps^2 - 1) / 2.": rows(one, lambda std, eps: -two(std, eps)),
        "In the second the 1/2 belongs to the -1 too: -logvar / 2 gives -1/2.": rows(
            one, lambda std, eps: 0.5 * eps**2 - 1
        ),
        "The second has eps where eps^2 belongs: (z - mu)^2 is sigma^2 eps^2.": rows(
            one, lambda std, eps: 0.5 * (eps - 1)
        ),
        "In the second sigma^2 divides eps^2 once more: (z - mu)^2 / sigma^2 is eps^2 alone.": rows(
            one, lambda std, eps: 0.5 * (eps**2 / std**2 - 1)
        ),
        "The second lacks the value of f; both rows are weighted by it.": (
            lambda f, mu, logvar, eps, baseline=0.0: np.stack(
                [weighted_scores(f, mu, logvar, eps, baseline)[0], two(1, eps)]
            )
        ),
        "The scores alone: each is to be weighted by f - baseline.": (
            lambda f, mu, logvar, eps, baseline=0.0: np.stack([eps / np.exp(0.5 * logvar), two(1, eps)])
        ),
        "The sign is turned: the derivative of log q by mu is +(z - mu) / sigma^2.": (
            lambda f, mu, logvar, eps, baseline=0.0: -weighted_scores(f, mu, logvar, eps, baseline)
        ),
    }
    read = f"{PAGE}#the-maths"
    agree_on_rows(work, "score_samples", weighted_scores, cases, mistakes, read)
    f, mu, logvar, eps, _ = cases[0].values()
    agree(
        "score_samples without a baseline (0)",
        one_array(work.score_samples)(f, mu, logvar, eps),
        weighted_scores(f, mu, logvar, eps),
        read=read,
    )


# --- baselines and variances --------------------------------------------------------------------------------------


def others(values):
    return np.array([np.delete(values, i).mean() for i in range(len(values))], values.dtype)


def part_leave_one_out(work, rng):
    """leave_one_out: a baseline that does not look at its own draw"""
    mistakes = {
        "That is the mean of all, with the draw's own value in it: the gradient comes out too small by 1/N.": (
            lambda values: np.full_like(values, values.mean())
        ),
        "The sum of the others; divide it by their number, N - 1.": lambda values: values.sum() - values,
        "The own value is still in the sum, and the division is by N - 1.": (
            lambda values: np.full_like(values, values.sum() / (len(values) - 1)),
            lambda values: values.sum() / (len(values) - 1),
        ),
        "That is the value less its baseline; asked for is the baseline itself.": (
            lambda values: values - others(values),
            lambda values: others(values) - values,
        ),
        "The sum of all is needed, not the mean: take the own value off it, then divide by N - 1.": (
            lambda values: (values.mean() - values) / (len(values) - 1),
            lambda values: values.mean() - values,
        ),
        "There are N - 1 others: divide their sum by that.": lambda values: (values.sum() - values) / len(values),
        "One number for all draws: each draw leaves out another value.": lambda values: values.mean(),
    }
    sizes = ((7, np.float64), (2, np.float64), (5, np.float32))
    cases = [dict(values=(100 + 9 * rng.normal(size=size)).astype(dtype)) for size, dtype in sizes]
    read = f"{PAGE}#the-maths"
    agree_on_cases("leave_one_out", one_array(work.leave_one_out), others, cases, mistakes=mistakes, read=read)


POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(12)  # exact for polynomials up to eps^23; here they end at eps^6


def variance(draws) -> float:
    mean = WEIGHTS @ draws / WEIGHTS.sum()
    return WEIGHTS @ (draws - mean) ** 2 / WEIGHTS.sum()


def by_quadrature(mu, std, baseline=0.0):
    z = mu + std * POINTS
    return np.array([variance(2 * z), variance((z**2 - baseline) * POINTS / std)])


TERMS = {
    "mu^4": lambda mu, std, b: mu**4,
    "mu^2 std^2": lambda mu, std, b: mu**2 * std**2,
    "std^4": lambda mu, std, b: std**4,
    "b mu^2": lambda mu, std, b: b * mu**2,
    "b std^2": lambda mu, std, b: b * std**2,
    "b^2": lambda mu, std, b: b**2,
}


def wrong_terms(function, cases) -> str:
    """Which number is wrong, and if it is the second, which terms of its product with std^2 are."""
    given = np.array([list(case.values()) for case in cases])
    try:
        answers = [numbers("", function(*row)) for row in given]
    except Mismatch:
        return ""
    if not all(answer.shape == (2,) and np.isfinite(answer).all() for answer in answers):
        return ""
    off = np.array(answers) - [by_quadrature(*row) for row in given]
    first, second = (np.abs(off).max(axis=0) > 1e-6 * np.abs(answers).max(axis=0)).tolist()
    if not second:
        return "The second number is right; look at the first, the variance of 2 mu + 2 std eps." if first else ""
    terms = np.stack([term(*given.T) for term in TERMS.values()], axis=1)
    factors = np.linalg.lstsq(terms, off[:, 1] * given[:, 1] ** 2, rcond=None)[0]
    right = "The first number is right; in the second" if not first else "In the second number"
    names = [name for name, factor in zip(TERMS, factors, strict=True) if abs(factor) > 1e-6]
    if not np.allclose(terms @ factors, off[:, 1] * given[:, 1] ** 2, rtol=1e-6) or len(names) > 3:
        return "" if first else "The first number is right; look at the second."
    return f"{right}, times std^2, the factor of {' and of '.join(names)} is wrong."


def part_square_variances(work, rng):
    """square_variances: both, in closed form"""
    cases = [
        dict(mu=float(2 * rng.normal()), std=float(np.exp(rng.normal())), baseline=float(3 * rng.normal()))
        for _ in range(6)
    ]
    cases += [dict(mu=0.0, std=1.0, baseline=0.0), dict(mu=3.0, std=0.5, baseline=9.0)]

    def score(change):
        return lambda mu, std, baseline=0.0: by_quadrature(mu, std, baseline) + np.array([0, change(mu, std, baseline)])

    mistakes = {
        "The second is the mean of the square; the variance is less by the square of the mean, (2 mu)^2.": score(
            lambda mu, std, baseline: 4 * mu**2
        ),
        "Both are means of squares; the variance is less by the square of the mean, (2 mu)^2.": (
            lambda mu, std, baseline=0.0: by_quadrature(mu, std, baseline) + 4 * mu**2
        ),
        "The baseline is not used.": lambda mu, std, baseline=0.0: by_quadrature(mu, std),
        "In the second, E[z^2 eps^2] is taken for mu^2 + std^2; z^2 and eps^2 are not independent: E[eps^4] is 3.": (
            score(lambda mu, std, baseline: 4 * baseline)
        ),
        "The baseline does not change the mean, whose square is still (2 mu)^2.": score(
            lambda mu, std, baseline: 4 * mu**2 - 4 * (mu**2 - baseline) ** 2
        ),
        "The second lacks the division by std^2.": lambda mu, std, baseline=0.0: np.array(
            [4 * std**2, std**2 * by_quadrature(mu, std, baseline)[1] + 4 * mu**2 * (std**2 - 1)]
        ),
        "The first is the variance of 2 std eps: the 2 and the std are squared.": lambda mu, std, baseline=0.0: (
            by_quadrature(mu, std, baseline) * [1 / (2 * std), 1]
        ),
        "The first is the mean of (2 z)^2; the variance is less by (2 mu)^2: the noise's part of 2 z alone.": (
            lambda mu, std, baseline=0.0: by_quadrature(mu, std, baseline) + np.array([4 * mu**2, 0])
        ),
        "The first is the variance of 2 std eps, and a factor is squared: 2 gives 4.": (
            lambda mu, std, baseline=0.0: by_quadrature(mu, std, baseline) / [2, 1]
        ),
        "Standard deviations; the variances are asked for.": (
            lambda mu, std, baseline=0.0: np.sqrt(by_quadrature(mu, std, baseline))
        ),
        "The mean of the score's estimate is 2 mu, the derivative, not the mean of f.": (
            score(lambda mu, std, baseline: 4 * mu**2 - (mu**2 + std**2) ** 2),
            score(lambda mu, std, baseline: 4 * mu**2 - (mu**2 + std**2 - baseline) ** 2),
        ),
        "The mean 2 mu is to be squared before it is taken off.": (
            score(lambda mu, std, baseline: 4 * mu**2 - 2 * mu),
            score(lambda mu, std, baseline: 2 * mu**2),
        ),
        "The baseline is added; it is taken off: z^2 - b.": lambda mu, std, baseline=0.0: by_quadrature(
            mu, std, -baseline
        ),
        "The two are exchanged: pathwise comes first.": lambda mu, std, baseline=0.0: by_quadrature(mu, std, baseline)[
            ::-1
        ],
    }
    read = f"{PAGE}#two-variances-in-closed-form"
    function = one_array(work.square_variances)
    try:
        agree_on_cases("square_variances", function, by_quadrature, cases, mistakes=mistakes, read=read)
    except Mismatch as error:
        if "largest difference" in error.lines["likely"]:
            error.lines["likely"] = wrong_terms(function, cases) or error.lines["likely"]
        raise
    mu, std = cases[0]["mu"], cases[0]["std"]
    what = f"square_variances(mu={mu}, std={std}) without a baseline (0)"
    agree(what, one_array(work.square_variances)(mu, std), by_quadrature(mu, std), read=read)


# --- the VAE ------------------------------------------------------------------------------------------------------


def chained(d_z, mu, logvar, eps, recon=1.0, kl=1.0):
    """The derivatives of recon * recon + kl * kl by mu and logvar, when those of recon by z are d_z."""
    d_z, eps = torch.tensor(d_z), torch.tensor(eps)

    def neg_elbo(mu, logvar):
        terms = (d_z * lowlevel.reparameterize(mu, logvar, eps)).sum(), lowlevel.gaussian_kl(mu, logvar).mean()
        return recon * terms[0] + kl * terms[1]

    return by_autograd(neg_elbo, mu, logvar)


def part_elbo_gradients(work, rng):
    """elbo_gradients: by hand, for any derivative by z"""
    cases = []
    for case in posteriors(rng, ((5, 3), (5, 3)), ((1, 4), (1, 4)), ((3, 1), (3, 1))):
        cases.append(dict(d_z=rng.normal(size=case["mu"].shape).astype(case["mu"].dtype), **case))

    def of_logvar(d_logvar):
        return lambda d_z, mu, logvar, eps: np.stack(
            [chained(d_z, mu, logvar, eps)[0], d_logvar(d_z, np.exp(0.5 * logvar), eps, len(mu))]
        )

    def of_mu(more):
        return lambda d_z, mu, logvar, eps: chained(d_z, mu, logvar, eps) + np.stack([more(mu, len(mu)), 0 * mu])

    mistakes = {
        "The KL is missing.": lambda *given: chained(*given, kl=0),
        "The path through z is missing: that is the KL alone.": lambda *given: chained(*given, recon=0),
        "The KL is summed over the batch; d_z is of the mean over the batch, so the KL's part is divided by B too.": (
            lambda *given: chained(*given, kl=len(given[1]))
        ),
        "d_z is divided by B a second time: it already is the derivative of the batch's mean.": (
            lambda *given: chained(*given, recon=1 / len(given[1]))
        ),
        "The KL lacks its 1/2: its derivatives are mu and (exp(logvar) - 1) / 2.": lambda *given: chained(*given, kl=2),
        "The sign of the KL is turned: in neg_elbo it is added.": lambda *given: chained(*given, kl=-1),
        "In the derivative by logvar, the KL's -1 is missing; it comes from -logvar and holds sigma at 1.": of_logvar(
            lambda d_z, std, eps, B: d_z * 0.5 * std * eps + 0.5 * std**2 / B
        ),
        "The derivative by logvar lacks the noise: dz / d logvar = sigma eps / 2.": of_logvar(
            lambda d_z, std, eps, B: d_z * 0.5 * std + 0.5 * (std**2 - 1) / B
        ),
        "The derivative by logvar lacks the 1/2 of dz / d logvar = sigma eps / 2.": of_logvar(
            lambda d_z, std, eps, B: d_z * std * eps + 0.5 * (std**2 - 1) / B
        ),
        "In the derivative by logvar, dz / d logvar has sigma^2 where sigma belongs.": of_logvar(
            lambda d_z, std, eps, B: d_z * 0.5 * std**2 * eps + 0.5 * (std**2 - 1) / B
        ),
        "That is the derivative by sigma; by logvar it is times sigma / 2.": of_logvar(
            lambda d_z, std, eps, B: d_z * eps + (std - 1 / std) / B
        ),
        "The KL's derivative by mu lacks its 1/B.": of_mu(lambda mu, B: mu * (B - 1) / B),
        "The KL's derivative by logvar lacks its 1/B.": of_logvar(
            lambda d_z, std, eps, B: d_z * 0.5 * std * eps + 0.5 * (std**2 - 1)
        ),
        "The KL's derivative by mu has a 1/2 too many: mu^2 / 2 gives mu.": of_mu(lambda mu, B: -0.5 * mu / B),
        "The KL's derivative by mu is twice too large: mu^2 / 2 gives mu.": of_mu(lambda mu, B: mu / B),
        "By mu that is the KL's own term, mu^2 / 2; its derivative is mu.": of_mu(lambda mu, B: (mu**2 / 2 - mu) / B),
        "The KL's parts are divided by all B Z numbers; the mean is over the batch alone.": lambda *given: chained(
            *given, kl=1 / given[1].shape[1]
        ),
        "In the KL's derivative by logvar, exp(logvar) is sigma^2, not sigma.": of_logvar(
            lambda d_z, std, eps, B: d_z * 0.5 * std * eps + 0.5 * (std - 1) / B
        ),
        "In the KL's derivative by logvar the sign is turned: it is (exp(logvar) - 1) / 2.": of_logvar(
            lambda d_z, std, eps, B: d_z * 0.5 * std * eps - 0.5 * (std**2 - 1) / B
        ),
        "By logvar, d_z goes through dz / d logvar = sigma eps / 2; by mu alone that is 1.": of_logvar(
            lambda d_z, std, eps, B: d_z + 0.5 * (std**2 - 1) / B
        ),
        "The derivative by logvar lacks the path through z.": of_logvar(
            lambda d_z, std, eps, B: 0 * d_z + 0.5 * (std**2 - 1) / B
        ),
    }
    read = f"{PAGE}#the-vaes-own-gradient"
    agree_on_rows(work, "elbo_gradients", chained, cases, mistakes, read)


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
        read=f"{PAGE}#the-vaes-own-gradient",
    )


PARTS = (
    part_reparameterize,
    part_pathwise,
    part_score,
    part_leave_one_out,
    part_square_variances,
    part_elbo_gradients,
    part_network,
)

HINTS = (
    "reparameterize: sigma is the root of exp(logvar), and a root is half of the exponent.",
    "pathwise_samples: make z with your first function, d_z = df(z). By the chain rule the rows are d_z dz/dmu and "
    "d_z dz/dlogvar; differentiate mu + exp(logvar / 2) eps by each. np.stack([a, b]) puts them together.",
    "score_samples: write log q(z) = -(z - mu)^2 / (2 exp(logvar)) - logvar / 2 + const, differentiate it with z held "
    "fixed, then put z - mu = sigma eps in: eps / sigma and (eps^2 - 1) / 2. The values are (N,): [:, None] makes them "
    "fit (N, Z).",
    "leave_one_out: the sum of the others is the whole sum less the own value. No loop.",
    "square_variances: the score's draw is (z^2 - b) eps / sigma with mean 2 mu. Square it, put z = mu + sigma eps in, "
    "multiply out. What is odd in eps has mean 0; E[eps^2], E[eps^4], E[eps^6] are 1, 3, 15.",
    "square_variances: E[z^4 eps^2] = mu^4 + 18 mu^2 sigma^2 + 15 sigma^4 and E[z^2 eps^2] = mu^2 + 3 sigma^2.",
    "elbo_gradients: two sums of two terms. From recon: d_z and d_z sigma eps / 2. From the KL: mu and "
    "(exp(logvar) - 1) / 2, each divided by B, since neg_elbo is a mean over the batch.",
)

DRAW = "return mu + np.exp(0.5 * logvar) * eps"
PATH = "np.stack([d_z, d_z * 0.5 * np.exp(0.5 * logvar) * eps])"
SECOND = "value * 0.5 * (eps**2 - 1)"
FIRST = "value * eps / np.exp(0.5 * logvar)"
SQUARE = "square / std**2 - 4 * mu**2"
BY_LOGVAR = "d_logvar = d_z * 0.5 * np.exp(0.5 * logvar) * eps + 0.5 * (np.exp(logvar) - 1) / len(mu)"
BY_MU = "d_mu = d_z + mu / len(mu)"
BOTH = f"{BY_MU}\n    {BY_LOGVAR}"

WRONG = (
    Wrong("sigma squared", DRAW, "return mu + np.exp(logvar) * eps", "sigma its root"),
    Wrong("logvar for sigma", DRAW, "return mu + logvar * eps", "taken for sigma"),
    Wrong("shared noise", DRAW, "return mu + np.exp(0.5 * logvar) * eps[:, :1]", "shared by all dimensions"),
    Wrong("no noise", DRAW, "return mu + 0 * eps", "noise is missing"),
    Wrong("minus the noise", DRAW, "return mu - np.exp(0.5 * logvar) * eps", "with a minus"),
    Wrong("own noise", DRAW, "return mu + np.exp(0.5 * logvar) * np.random.normal(size=eps.shape)", "drawn inside"),
    Wrong("exp of twice logvar", DRAW, "return mu + np.exp(2 * logvar) * eps", "half of the exponent"),
    Wrong("root of logvar", DRAW, "return mu + np.sqrt(logvar) * eps", "take exp of its half"),
    Wrong("in place", DRAW, "mu += np.exp(0.5 * logvar) * eps\n    return mu", "in place"),
    Wrong("mean over draws", f"return {PATH}", f"return {PATH}.mean(axis=1)", "mean over the draws"),
    Wrong("joined", PATH, PATH.replace("stack", "concatenate"), "np.stack"),
    Wrong("rows exchanged", PATH, f"{PATH}[::-1]", "exchanged"),
    Wrong(
        "pathwise without f'", PATH, "np.stack([d_z, 0.5 * np.exp(0.5 * logvar) * eps])", "lacks the derivative of f"
    ),
    Wrong(
        "pathwise with z", PATH, "np.stack([d_z, d_z * 0.5 * reparameterize(mu, logvar, eps)])", "mu does not change"
    ),
    Wrong("times mu", PATH, PATH.replace("[d_z,", "[d_z * mu,"), "dz / dmu is 1"),
    Wrong("an unknown factor", PATH, PATH.replace("0.5 * np", "0.3 * np"), "The row by mu is right"),
    Wrong("pathwise by sigma", PATH, "np.stack([d_z, d_z * eps])", "derivative by sigma"),
    Wrong("pathwise without 1/2", PATH, "np.stack([d_z, d_z * np.exp(0.5 * logvar) * eps])", "lacks its 1/2"),
    Wrong("pathwise with sigma^2", PATH, "np.stack([d_z, d_z * 0.5 * np.exp(logvar) * eps])", "sigma^2 where"),
    Wrong("pathwise at the mean", "df(reparameterize(mu, logvar, eps))", "df(mu + 0 * eps)", "at mu"),
    Wrong("pathwise at the noise", "df(reparameterize(mu, logvar, eps))", "df(eps)", "at the noise"),
    Wrong("no baseline", " - baseline)[:, None]", ")[:, None]", "baseline is not used"),
    Wrong("baseline added", " - baseline)[:, None]", " + baseline)[:, None]", "take it off"),
    Wrong("no -1", SECOND, "value * 0.5 * eps**2", "mean 0"),
    Wrong("score by sigma", SECOND, "value * (eps**2 - 1) / np.exp(0.5 * logvar)", "derivative by sigma"),
    Wrong("score by the variance", SECOND, "value * 0.5 * (eps**2 - 1) / np.exp(logvar)", "by the variance"),
    Wrong("eps over sigma^2", FIRST, "value * eps / np.exp(logvar)", "eps / sigma"),
    Wrong("eps times sigma", FIRST, "value * eps * np.exp(0.5 * logvar)", "times sigma"),
    Wrong("the score's sign", FIRST, "-value * eps / np.exp(0.5 * logvar)", "The row by logvar is right"),
    Wrong("the second's sign", SECOND, "value * 0.5 * (1 - eps**2)", "its sign turned"),
    Wrong("half of eps^2 alone", SECOND, "value * (0.5 * eps**2 - 1)", "1/2 belongs"),
    Wrong("eps not squared", SECOND, "value * 0.5 * (eps - 1)", "eps^2 belongs"),
    Wrong("sigma^2 twice", SECOND, "value * 0.5 * (eps**2 / np.exp(logvar) - 1)", "once more"),
    Wrong("half of it not weighted", SECOND, "0.5 * (eps**2 - 1)", "lacks the value of f"),
    Wrong(
        "everything negative",
        "    return np.stack([value *",
        "    value = -value\n    return np.stack([value *",
        "sign is turned",
    ),
    Wrong("mean of all", "(values.sum() - values) / (len(values) - 1)", "values.mean() + 0 * values", "own value"),
    Wrong("N others", "(len(values) - 1)", "len(values)", "N - 1 others"),
    Wrong("sum of others", " / (len(values) - 1)", "", "divide it by their number"),
    Wrong("own value kept", "(values.sum() - values)", "(values.sum() + 0 * values)", "still in the sum"),
    Wrong("value less baseline", "return (values.sum()", "return values - (values.sum()", "baseline itself"),
    Wrong("mean for sum", "(values.sum() - values)", "(values.mean() - values)", "not the mean"),
    Wrong("mean square of 2 z", "path = 4 * std**2", "path = 4 * mu**2 + 4 * std**2", "the noise's part"),
    Wrong("2 not squared", "path = 4 * std**2", "path = 2 * std**2", "2 gives 4"),
    Wrong("no std in the first", "path = 4 * std**2", "path = 4.0", "look at the first"),
    Wrong("standard deviations", f"np.array([path, {SQUARE}])", f"np.sqrt([path, {SQUARE}])", "Standard deviations"),
    Wrong("the mean of f", SQUARE, "square / std**2 - (mu**2 + std**2) ** 2", "not the mean of f"),
    Wrong("mean not squared", SQUARE, "square / std**2 - 2 * mu", "to be squared"),
    Wrong("baseline put on", "- 2 * baseline", "+ 2 * baseline", "baseline is added"),
    Wrong("a cross term lost", "18 * mu**2", "12 * mu**2", "the factor of mu^2 std^2 is wrong"),
    Wrong("eps^6 taken for eps^4", "15 * std**4", "3 * std**4", "the factor of std^4 is wrong"),
    Wrong("mean of squares", SQUARE, "square / std**2", "mean of the square"),
    Wrong("moments as if independent", "3 * std**2)", "std**2)", "not independent"),
    Wrong("no division", SQUARE, "square - 4 * mu**2", "division by std^2"),
    Wrong("baseline off the variance", " - 2 * baseline * (mu**2 + 3 * std**2) + baseline**2", "", "not used"),
    Wrong("variance of std eps", "4 * std**2\n", "2 * std\n", "are squared"),
    Wrong("1/B by logvar alone", BY_MU, "d_mu = d_z + mu", "by mu lacks its 1/B"),
    Wrong("1/B by mu alone", BY_LOGVAR, BY_LOGVAR.replace(" / len(mu)", ""), "by logvar lacks its 1/B"),
    Wrong("half of mu", BY_MU, "d_mu = d_z + 0.5 * mu / len(mu)", "1/2 too many"),
    Wrong("the KL for its derivative", BY_MU, "d_mu = d_z + mu**2 / 2 / len(mu)", "own term"),
    Wrong("divided by B Z", BOTH, BOTH.replace("len(mu)", "mu.size"), "all B Z numbers"),
    Wrong("sigma in the KL", BY_LOGVAR, BY_LOGVAR.replace("np.exp(logvar)", "np.exp(0.5 * logvar)"), "not sigma"),
    Wrong("1 - exp", BY_LOGVAR, BY_LOGVAR.replace("(np.exp(logvar) - 1)", "(1 - np.exp(logvar))"), "sign is turned"),
    Wrong(
        "d_z as it is", BY_LOGVAR, BY_LOGVAR.replace("d_z * 0.5 * np.exp(0.5 * logvar) * eps", "d_z"), "goes through"
    ),
    Wrong("d_z changed", BY_MU, "d_z += mu / len(mu)\n    d_mu = d_z", "in place"),
    Wrong("KL summed over the batch", BOTH, BOTH.replace(" / len(mu)", ""), "summed over the batch"),
    Wrong("no KL", BOTH, BOTH.replace(" + mu / len(mu)", "").split(" + 0.5 * (np")[0], "KL is missing"),
    Wrong("d_z divided twice", BOTH, f"d_z = d_z / len(mu)\n    {BOTH}", "second time"),
    Wrong("KL by logvar without -1", BY_LOGVAR, BY_LOGVAR.replace("(np.exp(logvar) - 1)", "np.exp(logvar)"), "-1 is"),
    Wrong("no noise on the path", BY_LOGVAR, BY_LOGVAR.replace(" * eps", ""), "lacks the noise"),
    Wrong("no 1/2 on the path", BY_LOGVAR, BY_LOGVAR.replace("d_z * 0.5 *", "d_z *"), "lacks the 1/2"),
    Wrong(
        "by sigma",
        BY_LOGVAR,
        "std = np.exp(0.5 * logvar)\n    d_logvar = d_z * eps + (std - 1 / std) / len(mu)",
        "times sigma / 2",
    ),
)
