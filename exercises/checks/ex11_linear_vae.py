"""What exercise 11 asks for, compared with level 3's closed forms, with Gaussian conditioning, torch and bisection."""

import contextlib

import numpy as np
import torch
from linear_vae import linear_rate_distortion, ppca_log_likelihood
from torch.distributions import MultivariateNormal, kl_divergence

from checks.judging import Mismatch, Wrong, agree, agree_on_cases, close, numbers, to_numpy

FORBIDDEN = ("linear_vae", "rate_distortion", "rate_distortion_figures", "conv_vae")  # they hold the answer
PAGE = "11_linear_vae.md"


def eigenvalues_of(rng, d):
    """Random eigenvalues, largest first, some of them small enough for a density above 1."""
    return np.sort(rng.uniform(0.01, 1, d) ** 2 * rng.uniform(1, 8))[::-1].copy()


def rotation(rng, d):
    return np.linalg.qr(rng.normal(size=(d, d)))[0]


def both(function, name, what):
    """The function, whose answer must be a pair; a pair of arrays or tensors comes out as one of arrays."""

    def call(*args):
        answer = function(*args)
        if not isinstance(answer, (tuple, list)) or len(answer) != 2:
            found = f"{type(answer).__name__}" + (f" of {len(answer)}" if isinstance(answer, (tuple, list)) else "")
            raise Mismatch(f"{name}(...)", f"two things, {what}", found, read=f"{PAGE}#your-task-seven-functions")
        return answer

    return call


# --- the spectrum -------------------------------------------------------------------------------------------------


def covariance(x):
    x = x.astype(np.float64)
    return np.cov(x.T, bias=True).reshape(x.shape[1], x.shape[1])


def right_eigenvalues(x):
    return np.linalg.eigvalsh(covariance(x))[::-1]


def part_spectrum(work, rng):
    """spectrum: how the data's variance is divided among axes"""
    shapes = ((30, 4, np.float64), (7, 3, np.float64), (5, 2, np.float64), (3, 5, np.float64), (25, 3, np.float32))
    cases = [
        dict(x=(rng.normal(size=(N, d)) @ rng.normal(size=(d, d)) + 3 * rng.normal(size=d)).astype(dtype))
        for N, d, dtype in shapes
    ]
    spectrum = both(work.spectrum, "spectrum", "eigenvalues and axes")
    mistakes = {
        "The smallest comes first, as NumPy gives them: turn the order round, of the axes too.": (
            lambda x: right_eigenvalues(x)[::-1]
        ),
        "Divided by N - 1, as np.cov does unless told otherwise. The likelihood's optimum divides by N.": (
            lambda x: right_eigenvalues(x) * len(x) / (len(x) - 1)
        ),
        "The data's mean is not taken off.": lambda x: np.linalg.eigvalsh(x.T.astype(float) @ x / len(x))[::-1],
        "The sum of squares is not divided by N.": lambda x: right_eigenvalues(x) * len(x),
        "Those are standard deviations; the eigenvalues are variances.": (
            lambda x: np.sqrt(np.maximum(right_eigenvalues(x), 0))
        ),
    }
    read = f"{PAGE}#the-maths"
    agree_on_cases(
        "spectrum's eigenvalues", lambda x: spectrum(x)[0], right_eigenvalues, cases, mistakes=mistakes, read=read
    )
    for x in (case["x"] for case in cases):
        judge_axes(x, spectrum(x)[1], read)


def judge_axes(x, axes, read):
    """Axes are known up to a sign, and where eigenvalues are equal up to a rotation: so by what they are for."""
    S, values = covariance(x), np.diag(right_eigenvalues(x))
    what, inputs = f"spectrum's axes of x {x.shape}", str(x.dtype)
    axes = numbers(what, axes, read).astype(np.float64)
    if axes.shape != S.shape:
        agree(what, axes, S, mistakes={}, read=read)
    agree(f"{what}: axes.T @ axes", axes.T @ axes, np.eye(len(S)), read=read, inputs=inputs)
    product, near = axes @ values @ axes.T, 1e-4
    mistakes = {}
    if close(axes.T @ values @ axes, S, near):
        mistakes["The axes are in the rows; they belong into the columns."] = product
    if close(axes[:, ::-1] @ values @ axes[:, ::-1].T, S, near):
        mistakes["The eigenvalues were turned round, but not the columns that belong to them."] = product
    agree(f"{what}: axes @ diag(eigenvalues) @ axes.T", product, S, mistakes=mistakes, read=read, inputs=inputs)


# --- the best model -----------------------------------------------------------------------------------------------


def part_best_log_likelihood(work, rng):
    """best_log_likelihood: the number that no training can beat"""
    right = ppca_log_likelihood
    cases = [dict(eigenvalues=eigenvalues_of(rng, d), q=q) for d, q in ((9, 3), (2, 1), (7, 6), (40, 4), (6, 1))]

    def with_s2(s2_of):
        def wrong(v, q):
            d, s2 = len(v), s2_of(v, q)
            return -0.5 * (d * np.log(2 * np.pi) + np.log(v[:q]).sum() + (d - q) * np.log(s2) + d)

        return wrong

    mistakes = {
        "s2 is the mean of the discarded eigenvalues; their sum was taken.": with_s2(lambda v, q: v[q:].sum()),
        "s2 is the mean of the discarded eigenvalues: divided by d - q, as they are d - q, not by d.": with_s2(
            lambda v, q: v[q:].sum() / len(v)
        ),
        "s2 is the mean of all discarded eigenvalues, not the largest of them.": with_s2(lambda v, q: v[q]),
        "s2 is the mean of the discarded eigenvalues, not of all.": with_s2(lambda v, q: v.mean()),
        "q is one off: the q largest are kept, the others discarded.": (
            lambda v, q: right(v, q - 1),
            lambda v, q: right(v, q + 1) if q + 1 < len(v) else np.nan,
        ),
        "ln s2 counts for each of the d - q discarded axes.": lambda v, q: (
            right(v, q) + 0.5 * (len(v) - q - 1) * np.log(v[q:].mean())
        ),
        "ln s2 counts for the d - q discarded axes; the kept ones have their own variances.": lambda v, q: (
            right(v, q) - 0.5 * q * np.log(v[q:].mean())
        ),
        "The discarded eigenvalues were given a logarithm each. The model has one s2 for all of them.": lambda v, q: (
            -0.5 * (len(v) * np.log(2 * np.pi) + np.log(v).sum() + len(v))
        ),
        "The last term, d, is missing: the mean of the squares in the exponent is 1 for each axis.": lambda v, q: (
            right(v, q) + 0.5 * len(v)
        ),
        "d ln(2 pi) is missing.": lambda v, q: right(v, q) + 0.5 * len(v) * np.log(2 * np.pi),
        "That is -log p(x), the loss; the log-likelihood has the other sign.": lambda v, q: -right(v, q),
        "The 1/2 is missing.": lambda v, q: 2 * right(v, q),
        "Nats per image, not per pixel.": lambda v, q: right(v, q) / len(v),
        "That is in bits: nats want the natural logarithm.": lambda v, q: right(v, q) / np.log(2),
    }
    read = f"{PAGE}#the-maths"
    agree_on_cases("best_log_likelihood", work.best_log_likelihood, right, cases, mistakes=mistakes, read=read)


def part_best_decoder(work, rng):
    """best_decoder: which W, and how long its columns"""
    best_decoder = both(work.best_decoder, "best_decoder", "W and s2")
    for d, q in ((6, 2), (2, 1), (9, 8)):
        v, axes = eigenvalues_of(rng, d), rotation(rng, d)
        W, s2 = best_decoder(v, axes, q)
        what, read = f"best_decoder(eigenvalues ({d},), axes ({d}, {d}), q={q})", f"{PAGE}#the-maths"
        s2_mistakes = {
            "Their sum was taken, not the mean.": v[q:].sum(),
            "They are d - q numbers, not d.": v[q:].sum() / d,
            "That is the largest of the discarded ones, not their mean.": v[q],
        }
        agree(f"{what}: s2, the mean of the discarded", s2, v[q:].mean(), mistakes=s2_mistakes, read=read)
        s2 = float(numbers(what, s2))
        right = axes[:, :q] * np.sqrt(v[:q] - s2)
        mistakes = {
            "sqrt(l_i) long, a column claims the whole variance of its axis; s2 of it is the noise's already.": (
                axes[:, :q] * np.sqrt(v[:q])
            ),
            "The root is missing: W enters the covariance as W W^T.": axes[:, :q] * (v[:q] - s2),
            "The columns have length 1: that is PCA's basis. Here the lengths say how much each latent explains.": (
                axes[:, :q]
            ),
            "The axes' rows were taken; axis i is column i.": axes[:q].T * np.sqrt(v[:q] - s2),
            "s2 is added; what the noise explains already is taken off.": axes[:, :q] * np.sqrt(v[:q] + s2),
            "The eigenvalue itself as length: that is a variance, and a length is the root of one.": axes[:, :q]
            * v[:q],
        }
        got = numbers(f"{what}: W", W, read)
        if got.shape == right.shape:  # a column and its negative are the same axis
            signs = np.where((got * right).sum(axis=0) < 0, -1, 1)
            mistakes = {text: signs * np.where((value * right).sum(axis=0) < 0, -1, 1) * value
                        for text, value in mistakes.items()}  # fmt: skip
            right = signs * right
            if close(got @ got.T, right @ right.T, 1e-9):
                turned = (
                    "The same log p(x), but W is turned or in another order: column i is axis i, the largest first."
                )
                mistakes = {turned: got}
        agree(f"{what}: W", W, right, mistakes=mistakes, read=read)


# --- the posterior ------------------------------------------------------------------------------------------------


def conditioned(x, W, b, s2):
    """Of the joint Gaussian of x and z, given x: with the d x d covariance of x, the long way."""
    x, W, b = (value.astype(np.float64) for value in (x, W, b))
    gain = np.linalg.solve(W @ W.T + s2 * np.eye(len(W)), W)  # (d, q)
    return (x - b) @ gain, np.eye(W.shape[1]) - W.T @ gain


def models(rng):
    """Cases {x, W, b, s2} whose columns stand at no right angles."""
    cases = []
    for N, d, q, dtype in ((5, 6, 3, np.float64), (1, 4, 1, np.float64), (3, 7, 2, np.float32), (2, 3, 3, np.float64)):
        x, W, b = rng.normal(size=(N, d)), rng.normal(size=(d, q)), rng.normal(size=d)
        arrays = dict(x=2 * x, W=W, b=b)
        cases.append({n: a.astype(dtype) for n, a in arrays.items()} | {"s2": float(rng.uniform(0.2, 2))})
    return cases


def part_exact_posterior(work, rng):
    """exact_posterior: what the best encoder has to compute"""
    posterior = both(work.exact_posterior, "exact_posterior", "means and a covariance")

    def precision(W, s2):
        return np.eye(W.shape[1]) + W.T @ W / s2

    def pick(index, function):
        return lambda *case: function(*case)[index]

    variances = {
        "That is the precision; the covariance is its inverse.": lambda x, W, b, s2: precision(W, s2),
        "The prior's I is missing: without it, that is least squares.": lambda x, W, b, s2: np.linalg.pinv(
            W.T @ W / s2
        ),
        "W^T W is divided by s2: the noisier the pixels, the less they tell.": (
            lambda x, W, b, s2: np.linalg.inv(precision(W, 1)),
            lambda x, W, b, s2: np.linalg.inv(precision(W, 1 / s2)),
        ),
        "The inverse of W^T W + s2 I lacks a factor s2: that matrix is s2 times the precision.": lambda x, W, b, s2: (
            conditioned(x, W, b, s2)[1] / s2
        ),
        "One over each entry is not the inverse of a matrix.": lambda x, W, b, s2: 1 / precision(W, s2),
        "Only the diagonal of W^T W was used. It is a diagonal matrix for the best W, but not for any W.": (
            lambda x, W, b, s2: np.diag(1 / np.diag(precision(W, s2)))
        ),
        "The off-diagonal part was dropped: the latents are not independent given x, unless the columns of W are at "
        "right angles.": lambda x, W, b, s2: np.diag(np.diag(conditioned(x, W, b, s2)[1])),
    }
    means = {
        "b is not taken off x.": lambda x, W, b, s2: conditioned(x, W, 0 * b, s2)[0],
        "b is added; it is taken off.": lambda x, W, b, s2: conditioned(x, W, -b, s2)[0],
        "The mean of x was taken off; b is an argument, and need not be that.": lambda x, W, b, s2: conditioned(
            x, W, x.mean(axis=0), s2
        )[0],
        "The means lack 1 / s2.": lambda x, W, b, s2: conditioned(x, W, b, s2)[0] * s2,
        "The covariance is missing in the means: they are (x - b) W / s2 times the covariance.": (
            lambda x, W, b, s2: (x - b) @ W / s2,
            lambda x, W, b, s2: (x - b) @ W,
        ),
        "That is least squares, the shortest way onto the plane of W. The prior draws the means nearer to 0.": (
            lambda x, W, b, s2: (x - b) @ np.linalg.pinv(W).T
        ),
        "Only the diagonal of W^T W was used. It is a diagonal matrix for the best W, but not for any W.": (
            lambda x, W, b, s2: (x - b) @ W / s2 / np.diag(precision(W, s2))
        ),
    }
    cases, read = models(rng), f"{PAGE}#the-encoder-that-it-wants"
    for index, name, mistakes in ((1, "covariance", variances), (0, "means", means)):
        agree_on_cases(
            f"exact_posterior's {name}",
            pick(index, posterior),
            pick(index, conditioned),
            cases,
            mistakes=mistakes,
            read=read,
        )


def library_gap(W, s2):
    """KL(q || p(z|x)) of the best diagonal q, by torch.distributions."""
    precision = torch.eye(W.shape[1], dtype=torch.float64) + torch.tensor(W).double().T @ torch.tensor(W).double() / s2
    zero = torch.zeros(len(precision), dtype=torch.float64)
    q = MultivariateNormal(zero, scale_tril=torch.diag(torch.diag(precision) ** -0.5))
    return kl_divergence(q, MultivariateNormal(zero, precision_matrix=precision)).item()


def part_diagonal_gap(work, rng):
    """diagonal_gap: what a rotation of W costs the ELBO"""
    cases = [
        dict(W=rng.normal(size=shape) * scale, s2=float(rng.uniform(0.3, 2)))
        for shape, scale in (((6, 3), 1), ((4, 2), 1), ((80, 60), 300), ((3, 4), 1))
    ]

    def of(formula):
        def wrong(W, s2):
            precision = np.eye(W.shape[1]) + W.T @ W / s2
            return formula(precision, np.linalg.inv(precision))

        return wrong

    def log_det(matrix):
        return np.linalg.slogdet(matrix)[1]

    def log_diagonal(matrix):
        return np.log(np.diag(matrix)).sum()

    mistakes = {
        "The determinant is too large for a float: np.linalg.slogdet gives its logarithm.": of(
            lambda P, S: 0.5 * (log_diagonal(P) - np.log(np.linalg.det(P)))
        ),
        "The determinant of the covariance is too small for a float: np.linalg.slogdet gives its logarithm.": of(
            lambda P, S: 0.5 * (log_diagonal(P) + np.log(np.linalg.det(S)))
        ),
        "The q with the variances of the exact posterior is not the best one: that has 1 over the diagonal of the "
        "precision.": (
            of(lambda P, S: 0.5 * (log_diagonal(S) - log_det(S))),
            of(lambda P, S: 0.5 * ((np.diag(P) * np.diag(S)).sum() - len(P) - log_det(P) - log_diagonal(S))),
        ),
        "The sign is turned: a KL is at least 0.": of(lambda P, S: 0.5 * (log_det(P) - log_diagonal(P))),
        "The 1/2 is missing.": of(lambda P, S: log_diagonal(P) - log_det(P)),
        "The I of the prior is missing in the precision.": lambda W, s2: (
            0.5 * (log_diagonal(W.T @ W / s2) - log_det(W.T @ W / s2))
        ),
        "W^T W is divided by s2.": lambda W, s2: library_gap(W, 1),
        "The trace in place of the determinant.": of(lambda P, S: 0.5 * (log_diagonal(P) - np.log(np.trace(P)))),
    }
    read = f"{PAGE}#why-the-axes-align"
    agree_on_cases("diagonal_gap", work.diagonal_gap, library_gap, cases, mistakes=mistakes, read=read)
    straight, s2 = rotation(rng, 5)[:, :3] * rng.uniform(1, 3, 3), 0.5
    what = "1 + diagonal_gap(W, s2) of a W whose columns stand at right angles"
    agree(what, 1 + numbers(what, work.diagonal_gap(straight, s2), read), 1.0, read=read)


# --- beta ---------------------------------------------------------------------------------------------------------


def right_water(eigenvalues, q, s2, beta):
    return np.array(linear_rate_distortion(eigenvalues, q, s2, beta), dtype=float)


def sources(rng):
    """Cases {eigenvalues, q, s2, beta}: levels below all kept and a discarded eigenvalue, among, above, at one."""
    cases = []
    for d, q in ((9, 4), (5, 1), (12, 11)):
        v = eigenvalues_of(rng, d)
        for level in (0.9 * v[q], v[: q + 1].mean(), 1.1 * v[0]):
            beta = float(rng.uniform(0.3, 6))
            cases.append(dict(eigenvalues=v, q=q, s2=level / beta, beta=beta))
    cases.append(dict(eigenvalues=np.array([4.0, 2.0, 1.0]), q=2, s2=0.5, beta=4))  # one exactly at the level
    return cases


def part_water_filling(work, rng):
    """water_filling: what beta leaves of the code"""

    def call(*case):
        answer = work.water_filling(*case)
        if isinstance(answer, (tuple, list)):
            with contextlib.suppress(Exception):  # else it is refused as what it is
                return np.array([to_numpy(n) for n in answer], float)
        return answer

    def change(index, value_of):
        def wrong(v, q, s2, beta):
            answer = right_water(v, q, s2, beta)
            answer[index] = value_of(answer, v, q, s2, beta)
            return answer

        return wrong

    mistakes = {
        "The level of the water is beta s2; beta is missing.": lambda v, q, s2, beta: right_water(v, q, s2, 1),
        "The level of the water is beta s2; s2 is missing.": lambda v, q, s2, beta: right_water(v, q, 1, beta),
        "A larger beta makes the code cheaper: the level is beta times s2, not s2 / beta.": lambda v, q, s2, beta: (
            right_water(v, q, s2, 1 / beta)
        ),
        "There are only q latents: what is not among the q largest cannot be told, however large it is.": (
            lambda v, q, s2, beta: right_water(v, len(v), s2, beta)
        ),
        "A unit below the water gets a negative rate here; it is switched off, and costs 0.": change(
            0, lambda a, v, q, s2, beta: 0.5 * np.log(v[:q] / (beta * s2)).sum()
        ),
        "The rate lacks its 1/2.": change(0, lambda a, *case: 2 * a[0]),
        "The rate is in bits: nats want the natural logarithm.": change(0, lambda a, *case: a[0] / np.log(2)),
        "The squared error of the d - q discarded axes is missing.": change(
            1, lambda a, v, q, s2, beta: np.minimum(v[:q], beta * s2).sum()
        ),
        "A discarded axis loses its whole variance, not the level of the water.": change(
            1, lambda a, v, q, s2, beta: np.minimum(v, beta * s2).sum()
        ),
        "A unit that is switched off is not without error: it loses its whole variance.": change(
            1, lambda a, v, q, s2, beta: (beta * s2 * (v[:q] > beta * s2)).sum() + v[q:].sum()
        ),
        "The larger of eigenvalue and level was taken; nothing errs by more than its variance.": change(
            1, lambda a, v, q, s2, beta: np.maximum(v[:q], beta * s2).sum() + v[q:].sum()
        ),
        "The active units are told without error here. They too lose something: the level of the water, each.": change(
            1, lambda a, v, q, s2, beta: v[:q][v[:q] <= beta * s2].sum() + v[q:].sum()
        ),
        "The squared error itself is asked for, not recon: without 1 / (2 s2).": change(
            1, lambda a, v, q, s2, beta: a[1] / (2 * s2)
        ),
        "A unit exactly at the level is not active: its rate is 0.": change(
            2, lambda a, v, q, s2, beta: (v[:q] >= beta * s2).sum()
        ),
        "Only the first q can be active.": change(2, lambda a, v, q, s2, beta: (v > beta * s2).sum()),
        "The units below the water were counted; the active ones are above it.": change(
            2, lambda a, v, q, s2, beta: (v[:q] < beta * s2).sum()
        ),
    }
    read = f"{PAGE}#beta-is-a-water-level"
    agree_on_cases("water_filling", call, right_water, sources(rng), mistakes=mistakes, read=read)


def bisected(eigenvalues, q, beta):
    """Where s2 is the squared error per pixel: the left side starts below the right one and ends above it."""
    low, high = 0.0, eigenvalues.sum()
    for _ in range(100):
        s2 = (low + high) / 2
        short = s2 * len(eigenvalues) < right_water(eigenvalues, q, s2, beta)[1]
        low, high = (s2, high) if short else (low, s2)
    return high


def part_learned_s2(work, rng):
    """learned_s2: the level moves with what it drowns"""
    v = eigenvalues_of(rng, 20)
    cases = [dict(eigenvalues=v, q=4, beta=beta) for beta in (1, 0.25, 1.5, 2.5)]
    steep = np.r_[9.0, 5.0, 0.4, 0.3, rng.uniform(0.05, 0.2, 26)]
    steep = np.sort(steep)[::-1] * rng.uniform(0.5, 2)
    cases += [
        dict(eigenvalues=steep, q=q, beta=beta) for q, beta in ((1, 4.0), (3, 4.0), (4, 6.0), (3, 28.0), (4, 400))
    ]
    cases.append(dict(eigenvalues=np.array([3.0, 1.0]), q=1, beta=1.0))

    def rest(v, q):
        return v[q:].sum()

    mistakes = {
        "That is the s2 of beta = 1. A larger beta leaves more unexplained, and s2 takes that up.": lambda v, q, beta: (
            v[q:].mean()
        ),
        "All q units were taken for active. Those whose eigenvalue is below beta s2 are off: their variance belongs to "
        "what is unexplained, and only the active ones are counted against d.": lambda v, q, beta: (
            rest(v, q) / (len(v) - beta * q) if beta * q != len(v) else np.inf
        ),
        "The error of the active units is missing: each leaves beta s2.": lambda v, q, beta: rest(v, q) / len(v),
        "That is the error of all pixels; s2 is that of one: divide by d.": lambda v, q, beta: (
            bisected(v, q, beta) * len(v)
        ),
        "The active units lie above beta s2, not above s2: beta is missing in their number.": lambda v, q, beta: next(
            s2
            for k in range(q, -1, -1)
            if (s2 := v[k:].sum() / (len(v) - beta * k) if beta * k != len(v) else -1) > 0 and (k == 0 or v[k - 1] > s2)
        ),
        "That is the level, beta s2.": lambda v, q, beta: beta * bisected(v, q, beta),
        "With beta k >= d there is no solution with k active units; those k have to be left out.": lambda v, q, beta: (
            min(v[k:].sum() / (len(v) - beta * k) for k in range(q + 1) if beta * k != len(v))
        ),
        "All q latents may be active: k runs from 0 to q, q included.": lambda v, q, beta: min(
            v[k:].sum() / (len(v) - beta * k) for k in range(q) if beta * k < len(v)
        ),
    }
    # An iteration that ends when nothing moves any more leaves about 1e-8.
    agree_on_cases(
        "learned_s2",
        work.learned_s2,
        bisected,
        cases,
        mistakes=mistakes,
        read=f"{PAGE}#beta-is-a-water-level",
        rel=1e-7,
    )


PARTS = (
    part_spectrum,
    part_best_log_likelihood,
    part_best_decoder,
    part_exact_posterior,
    part_diagonal_gap,
    part_water_filling,
    part_learned_s2,
)

HINTS = (
    "spectrum: take the mean off, build the (d, d) covariance, and give it to np.linalg.eigh. That sorts from the "
    "smallest: [::-1] turns the eigenvalues round, [:, ::-1] the columns.",
    "best_log_likelihood: the formula for the best log p(x), with s2 = eigenvalues[q:].mean().",
    "best_decoder: a column of W is an axis times a number. Along axis i the model's variance is that number squared "
    "plus s2, and it has to be l_i.",
    "exact_posterior: the precision is np.eye(q) + W.T @ W / s2; its inverse is the covariance, for every x. The means "
    "are (x - b) @ W / s2 times the covariance.",
    "diagonal_gap: np.linalg.slogdet(precision)[1] is the logarithm of the determinant, np.diag gives the diagonal.",
    "water_filling: with level = beta * s2 and kept = eigenvalues[:q], np.maximum and np.minimum do all at once. "
    "Return np.array([rate, error, active]).",
    "learned_s2: if k units are active, d s2 = k beta s2 + what the others leave. Solve for s2, for each k from 0 to "
    "q. The smallest with beta k < d is it. (Or start anywhere and set, often, s2 to the squared error over d.)",
)

TURN = "return eigenvalues[::-1], axes[:, ::-1]"
LIKELY = "d * np.log(2 * np.pi) + np.log(eigenvalues[:q]).sum() + (d - q) * np.log(s2) + d"
KEPT = "d, s2 = len(eigenvalues), eigenvalues[q:].mean()"
COLUMNS = "axes[:, :q] * np.sqrt(eigenvalues[:q] - s2)"
INVERSE = "np.linalg.inv(np.eye(W.shape[1]) + W.T @ W / s2)"
MEANS = "(x - b) @ W @ covariance / s2"
GAP = "0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])"
RATE = "0.5 * np.log(np.maximum(kept / level, 1)).sum()"
ERROR = "np.minimum(kept, level).sum() + eigenvalues[q:].sum()"
LEVEL = "level, kept = beta * s2, eigenvalues[:q]"
SMALLEST = "min(eigenvalues[k:].sum() / (d - beta * k) for k in range(q + 1) if beta * k < d)"

WRONG = (
    Wrong("smallest first", TURN, "return eigenvalues, axes", "smallest comes first"),
    Wrong("N - 1", "centred / len(x)", "centred / max(len(x) - 1, 1)", "N - 1"),
    Wrong("not centred", "x - x.mean(axis=0)", "x", "mean is not taken off"),
    Wrong(
        "standard deviations", TURN, "return np.maximum(eigenvalues[::-1], 0) ** 0.5, axes[:, ::-1]", "are variances"
    ),
    Wrong("axes not turned round", TURN, "return eigenvalues[::-1], axes", "not the columns"),
    Wrong("axes in rows", TURN, "return eigenvalues[::-1], axes[:, ::-1].T", "in the rows"),
    Wrong("eigenvalues alone", TURN, "return eigenvalues[::-1]", "two things"),
    Wrong("sum of the discarded", KEPT, KEPT.replace("mean", "sum"), "sum was taken"),
    Wrong("s2 over d", KEPT, KEPT.replace(".mean()", ".sum() / len(eigenvalues)"), "not by d"),
    Wrong("the largest discarded", KEPT, KEPT.replace("[q:].mean()", "[q]"), "not the largest"),
    Wrong("one kept too few", KEPT, f"q = q - 1\n    {KEPT}", "q is one off"),
    Wrong("ln s2 once", LIKELY, LIKELY.replace("(d - q) * ", ""), "each of the d - q"),
    Wrong("the whole spectrum", LIKELY, "d * np.log(2 * np.pi) + np.log(eigenvalues).sum() + d", "one s2 for all"),
    Wrong("no d", LIKELY, LIKELY.removesuffix(" + d"), "last term"),
    Wrong("no 2 pi", LIKELY, LIKELY.replace("d * np.log(2 * np.pi) + ", ""), "ln(2 pi) is missing"),
    Wrong("the loss", "return -0.5 * (d", "return 0.5 * (d", "other sign"),
    Wrong("noise counted twice", COLUMNS, "axes[:, :q] * np.sqrt(eigenvalues[:q])", "noise's already"),
    Wrong("no root", COLUMNS, "axes[:, :q] * (eigenvalues[:q] - s2)", "root is missing"),
    Wrong("PCA's basis", COLUMNS, "axes[:, :q]", "PCA's basis"),
    Wrong("rows of the axes", COLUMNS, "axes[:q].T * np.sqrt(eigenvalues[:q] - s2)", "axis i is column i"),
    Wrong("smallest column first", COLUMNS, f"({COLUMNS})[:, ::-1]", "in another order"),
    Wrong("b forgotten", "(x - b) @ W", "x @ W", "b is not taken off"),
    Wrong("the mean of x for b", "(x - b) @ W", "(x - x.mean(axis=0)) @ W", "need not be that"),
    Wrong("no prior", INVERSE, "np.linalg.pinv(W.T @ W / s2)", "prior's I"),
    Wrong(
        "the precision",
        f"{INVERSE}\n    return {MEANS}, covariance",
        f"{INVERSE}\n    return {MEANS}, np.linalg.inv(covariance)",
        "is its inverse",
    ),
    Wrong("the M of the book alone", INVERSE, "np.linalg.inv(s2 * np.eye(W.shape[1]) + W.T @ W)", "a factor s2"),
    Wrong("no s2", INVERSE, "np.linalg.inv(np.eye(W.shape[1]) + W.T @ W)", "divided by s2"),
    Wrong(
        "a diagonal posterior", INVERSE, "np.diag(1 / np.diag(np.eye(W.shape[1]) + W.T @ W / s2))", "Only the diagonal"
    ),
    Wrong("means without s2", MEANS, "(x - b) @ W @ covariance", "lack 1 / s2"),
    Wrong("means by least squares", MEANS, "(x - b) @ np.linalg.pinv(W).T", "least squares"),
    Wrong("overflow", GAP, "0.5 * (np.log(np.diag(precision)).sum() - np.log(np.linalg.det(precision)))", "slogdet"),
    Wrong(
        "marginal variances",
        GAP,
        "0.5 * (np.log(np.diag(np.linalg.inv(precision))).sum() + np.linalg.slogdet(precision)[1])",
        "exact posterior is not the best",
    ),
    Wrong("gap below 0", GAP, f"-{GAP}", "at least 0"),
    Wrong("twice the gap", GAP, GAP.removeprefix("0.5 * "), "1/2 is missing"),
    Wrong("no beta", LEVEL, LEVEL.replace("beta * s2", "s2"), "beta is missing"),
    Wrong("beta upside down", LEVEL, LEVEL.replace("beta * s2", "s2 / beta"), "not s2 / beta"),
    Wrong("negative rate", RATE, "0.5 * np.log(kept / level).sum()", "negative rate"),
    Wrong("the discarded forgotten", ERROR, "np.minimum(kept, level).sum()", "axes is missing"),
    Wrong("more latents than there are", LEVEL, LEVEL.replace("[:q]", "") + "\n    q = len(kept)", "only q latents"),
    Wrong("the discarded in the water", ERROR, "np.minimum(eigenvalues, level).sum()", "not the level of the water"),
    Wrong("the unused are perfect", ERROR, "(level * (kept > level)).sum() + eigenvalues[q:].sum()", "without error"),
    Wrong("all eigenvalues active", "(kept > level).sum()", "(eigenvalues > level).sum()", "first q"),
    Wrong("at the level", "(kept > level).sum()", "(kept >= level).sum()", "exactly at the level"),
    Wrong("s2 of beta 1", SMALLEST, "eigenvalues[q:].mean()", "s2 of beta = 1"),
    Wrong("all units active", SMALLEST, "eigenvalues[q:].sum() / (d - beta * q)", "for active"),
    Wrong("impossible numbers of units", SMALLEST, SMALLEST.replace(" if beta * k < d", ""), "left out"),
    Wrong("k below q", SMALLEST, SMALLEST.replace("range(q + 1)", "range(q)"), "q included"),
    Wrong("active without error", SMALLEST, "eigenvalues[q:].sum() / d", "each leaves beta s2"),
)

EQUIVALENT = {
    f"learned_s2: beta * k < d -> beta * k <= d in return {SMALLEST}": (
        "where beta k = d the quotient is infinite, and never the smallest"
    ),
}

ALSO_RIGHT = (
    Wrong(
        "by singular values",
        "eigenvalues, axes = np.linalg.eigh(centred.T @ centred / len(x))\n    " + TURN,
        "_, stretch, axes = np.linalg.svd(centred.astype(float), full_matrices=True)\n"
        "    return np.append(stretch, np.zeros(x.shape[1] - len(stretch))) ** 2 / len(x), axes.T",
    ),
    Wrong(
        "by iteration",
        f"return {SMALLEST}",
        "s2 = 1.0\n    for _ in range(1000):\n        s2 = water_filling(eigenvalues, q, s2, beta)[1] / d\n"
        "    return s2",
    ),
    Wrong(
        "the other way through d x d",
        f"covariance = {INVERSE}\n    return {MEANS}, covariance",
        "gain = np.linalg.inv(W @ W.T + s2 * np.eye(len(W))) @ W\n    return (x - b) @ gain, "
        "np.eye(W.shape[1]) - W.T @ gain",
    ),
)
