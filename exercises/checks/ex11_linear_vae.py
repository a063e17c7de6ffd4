"""What exercise 11 asks for, compared with level 3's closed forms, with Gaussian conditioning, torch and bisection."""

import numpy as np
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from checks.judging import (
    agree,
    agree_on_cases,
    agree_on_each,
    close,
    misweighed,
    numbers,
    one_array,
    one_of,
    values_of,
)
from vae_models.linear_vae import linear_rate_distortion, ppca_log_likelihood

FORBIDDEN = ("vae_models", "vae_measures", "vae_plots", "conv_vae")  # they hold the answer


def eigenvalues_of(rng, d):
    """Random eigenvalues, largest first, some of them small enough for a density above 1."""
    return np.sort(rng.uniform(0.01, 1, d) ** 2 * rng.uniform(1, 8))[::-1].copy()


def rotation(rng, d):
    return np.linalg.qr(rng.normal(size=(d, d)))[0]


TASK = "your-task-seven-functions"


def covariance(x):
    x = x.astype(np.float64)
    return np.cov(x.T, bias=True).reshape(x.shape[1], x.shape[1])


def right_eigenvalues(x):
    return np.linalg.eigvalsh(covariance(x))[::-1]


def part_spectrum(work, rng):
    """spectrum: how the data's variance is divided among axes"""
    shapes = ((30, 4, np.float64), (7, 3, np.float64), (3, 5, np.float64), (25, 3, np.float32))
    cases = [
        dict(x=(rng.normal(size=(N, d)) @ rng.normal(size=(d, d)) + 3 * rng.normal(size=d)).astype(dtype))
        for N, d, dtype in shapes
    ]
    eigenvalues, axes = (one_of(("eigenvalues", "axes"), "spectrum", work.spectrum, i, TASK) for i in (0, 1))

    def mistakes(y, x):
        return {
            "The smallest comes first, as NumPy gives them: turn the order round, of the axes too.": y[::-1],
            "Divided by N - 1, as np.cov does; the likelihood's optimum divides by N.": y * len(x) / (len(x) - 1),
            "The data's mean is not taken off.": np.linalg.eigvalsh(x.T.astype(float) @ x / len(x))[::-1],
        }

    agree_on_cases("spectrum's eigenvalues", eigenvalues, right_eigenvalues, cases, mistakes, "the-maths")
    for x in (case["x"] for case in cases):
        judge_axes(x, axes(x), "the-maths")


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


def part_best_log_likelihood(work, rng):
    """best_log_likelihood: the number that no training can beat"""
    right = ppca_log_likelihood
    cases = [dict(eigenvalues=eigenvalues_of(rng, d), q=q) for d, q in ((9, 3), (2, 1), (7, 6), (40, 4))]

    def mistakes(y, v, q):
        d, constant = len(v), len(v) * np.log(2 * np.pi)

        def with_s2(s2):
            return -0.5 * (constant + np.log(v[:q]).sum() + (d - q) * np.log(s2) + d)

        return {
            "s2 is the mean of the discarded eigenvalues: their sum divided by d - q.": (
                with_s2(v[q:].sum()),
                with_s2(v[q:].sum() / d),
            ),
            **misweighed(y, {"d ln(2 pi)": -0.5 * constant, "d, as squares are 1 on average": -0.5 * d}),
        }

    agree_on_cases("best_log_likelihood", work.best_log_likelihood, right, cases, mistakes, "the-maths")


def part_best_decoder(work, rng):
    """best_decoder: which W, and how long its columns"""
    for d, q in ((6, 2), (2, 1), (9, 8)):
        v, axes = eigenvalues_of(rng, d), rotation(rng, d)
        W, s2 = values_of(("W", "s2"), "best_decoder", work.best_decoder(v, axes, q), TASK)
        what = f"best_decoder(eigenvalues ({d},), axes ({d}, {d}), q={q})"
        s2_mistakes = {"They are d - q numbers: divide their sum by that.": (v[q:].sum(), v[q:].sum() / d)}
        agree(f"{what}: s2, the mean of the discarded", s2, v[q:].mean(), mistakes=s2_mistakes, read="the-maths")
        s2 = float(numbers(what, s2))
        kept, basis = v[:q], axes[:, :q]
        right = basis * np.sqrt(kept - s2)
        mistakes = {
            "A column claims the whole variance of its axis; s2 of it is the noise's already.": basis * np.sqrt(kept),
            "The columns have length 1: that is PCA's basis. The lengths say how much each latent explains.": basis,
        }
        got = numbers(f"{what}: W", W, "the-maths")
        if got.shape == right.shape:  # a column and its negative are the same axis
            signs = np.where((got * right).sum(axis=0) < 0, -1, 1)
            mistakes = {text: signs * np.where((value * right).sum(axis=0) < 0, -1, 1) * value
                        for text, value in mistakes.items()}  # fmt: skip
            right = signs * right
            if close(got @ got.T, right @ right.T, 1e-9):
                other = "The same log p(x), but W is turned or in another order: column i is axis i, the largest first."
                mistakes = {other: got}
        agree(f"{what}: W", W, right, mistakes=mistakes, read="the-maths")


def conditioned(x, W, b, s2):
    """Of the joint Gaussian of x and z, given x: with the d x d covariance of x, the long way."""
    x, W, b = (value.astype(np.float64) for value in (x, W, b))
    gain = np.linalg.solve(W @ W.T + s2 * np.eye(len(W)), W)  # (d, q)
    return (x - b) @ gain, np.eye(W.shape[1]) - W.T @ gain


def models(rng):
    """Cases {x, W, b, s2} whose columns stand at no right angles."""
    cases = []
    for N, d, q, dtype in ((5, 6, 3, np.float64), (1, 4, 1, np.float64), (3, 7, 2, np.float32)):
        x, W, b = rng.normal(size=(N, d)), rng.normal(size=(d, q)), rng.normal(size=d)
        arrays = dict(x=2 * x, W=W, b=b)
        cases.append({n: a.astype(dtype) for n, a in arrays.items()} | {"s2": float(rng.uniform(0.2, 2))})
    return cases


def part_exact_posterior(work, rng):
    """exact_posterior: what the best encoder has to compute"""

    def mistakes(y, x, W, b, s2):
        square, projected, covariance = W.T @ W, (x - b) @ W, y[1]
        prior, diagonal = np.eye(len(square)), np.diag(np.diag(square))
        precision = prior + square / s2
        only = "Only the diagonal of W^T W was used. It is a diagonal matrix for the best W, but not for any W."
        least_squares = "The prior's I is missing: that is least squares; the prior draws the means nearer to 0."
        return (
            {
                least_squares: (x - b) @ np.linalg.pinv(W).T,
                only: projected / s2 @ np.linalg.inv(prior + diagonal / s2),
            },
            {
                "That is the precision; the covariance is its inverse.": precision,
                least_squares: np.linalg.pinv(square / s2),
                only: np.linalg.inv(prior + diagonal / s2),
                "The off-diagonal part was dropped: the latents are not independent given x, unless the columns of W "
                "are at right angles.": np.diag(np.diag(covariance)),
            },
        )

    names, read = ("means", "covariance"), "the-encoder-that-it-wants"
    agree_on_each(names, "exact_posterior", work.exact_posterior, conditioned, models(rng), mistakes, read, (1, 0))


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

    def mistakes(y, W, s2):
        bare = W.T @ W / s2
        P = np.eye(len(bare)) + bare
        S = np.linalg.inv(P)

        def log_det(matrix):
            return np.linalg.slogdet(matrix)[1]

        def log_diagonal(matrix):
            return np.log(np.diag(matrix)).sum()

        return {
            "The q with the variances of the exact posterior is not the best one: that has 1 over the diagonal of the "
            "precision.": (
                0.5 * (log_diagonal(S) - log_det(S)),
                0.5 * ((np.diag(P) * np.diag(S)).sum() - len(P) - log_det(P) - log_diagonal(S)),
            ),
        }

    agree_on_cases("diagonal_gap", work.diagonal_gap, library_gap, cases, mistakes, "why-the-axes-align")
    straight, s2 = rotation(rng, 5)[:, :3] * rng.uniform(1, 3, 3), 0.5
    what, read = "1 + diagonal_gap(W, s2) of a W whose columns stand at right angles", "why-the-axes-align"
    agree(what, 1 + numbers(what, work.diagonal_gap(straight, s2), read), 1.0, read=read)


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

    def mistakes(y, v, q, s2, beta):
        level, kept, lost = beta * s2, v[:q], v[q:].sum()

        def change(rate=y[0], error=y[1], active=y[2]):
            return np.array([rate, error, active])

        return {
            "There are only q latents, for the q largest, however large the others are.": right_water(
                v, len(v), s2, beta
            ),
            "A unit below the water is switched off, and costs 0.": change(rate=0.5 * np.log(kept / level).sum()),
            "The squared error of the d - q discarded axes is missing.": change(error=np.minimum(kept, level).sum()),
            "What is switched off or discarded is not without error: it loses its whole variance.": (
                change(error=(level * (kept > level)).sum() + lost),
                change(error=np.minimum(v, level).sum()),
            ),
        }

    function, read = one_array(work.water_filling), "beta-is-a-water-level"
    agree_on_cases("water_filling", function, right_water, sources(rng), mistakes, read)


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

    def mistakes(y, v, q, beta):
        return {
            "All q units were taken for active. Those whose eigenvalue is below beta s2 are off: their variance "
            "belongs to what is unexplained.": v[q:].sum() / (len(v) - beta * q) if beta * q != len(v) else np.inf,
        }

    # An iteration that ends when nothing moves any more leaves about 1e-8.
    agree_on_cases("learned_s2", work.learned_s2, bisected, cases, mistakes, "beta-is-a-water-level", rel=1e-7)


HINTS = (
    "spectrum: take the mean off, build the covariance, divided by N, and take it apart.",
    "spectrum: (d, d) goes into np.linalg.eigh, which sorts from the smallest; d eigenvalues and (d, d) columns.",
    "spectrum: [::-1] turns the eigenvalues round, [:, ::-1] the columns of the axes.",
    "best_log_likelihood: the cloud's variances are l_i on the kept axes, s2 on the others; det is their product.",
    "best_log_likelihood: a number. The trace adds up to d: q times 1, and the sum of the others over their mean.",
    "best_log_likelihood: -0.5 * (d * np.log(2 * np.pi) + np.log(kept).sum() + (d - q) * np.log(s2) + d)",
    "best_decoder: a column of W is an axis times a number, whose square and s2 together are l_i.",
    "best_decoder: axes[:, :q] is (d, q); one number for each column multiplies it.",
    "best_decoder: s2 = eigenvalues[q:].mean(); axes[:, :q] * np.sqrt(eigenvalues[:q] - s2), s2",
    "exact_posterior: of second order in z are -|W z|^2 / 2 s2 and -|z|^2 / 2; of first order z' W' (x - b) / s2.",
    "exact_posterior: the precision is (q, q), its inverse the covariance, for every x; the means are (N, q).",
    "exact_posterior: covariance = inv(np.eye(q) + W.T @ W / s2), the means are (x - b) @ W / s2 @ covariance.",
    "diagonal_gap: differentiate D_ii P_ii - ln D_ii by D_ii. What is left when the best D is put in?",
    "diagonal_gap: np.linalg.slogdet(precision)[1] is the logarithm of the determinant, np.diag gives the diagonal.",
    "diagonal_gap: 0.5 * (np.log(np.diag(P)).sum() - np.linalg.slogdet(P)[1])",
    "water_filling: an axis above the water costs ln(l / level) / 2 and has the level for its error; one below, or not "
    "told at all, costs nothing and has its variance.",
    "water_filling: with kept = eigenvalues[:q], np.maximum and np.minimum do all at once. An array of three numbers.",
    "water_filling: the error is np.minimum(kept, level).sum() + eigenvalues[q:].sum(); active (kept > level).sum().",
    "learned_s2: the best s2 is error / d. With k active, d s2 = k beta s2 + what the others leave. Solve for s2.",
    "learned_s2: a number: the smallest of the solutions for k from 0 to q, of those with beta k < d.",
    "learned_s2: min(eigenvalues[k:].sum() / (d - k * beta) for k in range(q + 1) if k * beta < d)",
)
