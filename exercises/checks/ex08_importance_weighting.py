"""What exercise 8 asks for, compared with level 3's bounds, torch, and an integral done by summing."""

import numpy as np
import torch

from checks.judging import agree_on_cases, misweighed
from vae_measures.importance_bounds import importance_bounds
from vae_models import iwae

FORBIDDEN = ("vae_models", "vae_measures", "vae_commands")  # they hold the answer


def samples(rng):
    """Cases {recon, z, mu, logvar} of B images with K codes each."""
    cases = []
    shapes = ((3, 5, 4, np.float64), (1, 7, 2, np.float64), (2, 1, 3, np.float64), (5, 3, 1, np.float32))
    for B, K, Z, dtype in shapes:
        mu, logvar = rng.normal(size=(B, Z)), rng.uniform(-3, 1, (B, Z))
        z = mu[:, None] + np.exp(0.5 * logvar[:, None]) * rng.normal(size=(B, K, Z))
        case = dict(recon=rng.uniform(5, 50, (B, K)), z=z, mu=mu, logvar=logvar)
        cases.append({name: value.astype(dtype) for name, value in case.items()})
    return cases


def right_log_weights(recon, z, mu, logvar):
    """Level 3's, which takes the noise in place of mu."""
    recon, z, mu, logvar = (torch.from_numpy(value).double() for value in (recon, z, mu, logvar))
    eps = (z - mu[:, None]) * torch.exp(-0.5 * logvar[:, None])
    return iwae.log_weights(recon, z, logvar, eps).numpy()


def part_log_weights(work, rng):
    """log_weights: likelihood times prior over proposal"""

    def mistakes(y, recon, z, mu, v):
        gap, var = z - mu[:, None], np.exp(v[:, None])
        log_prior = -0.5 * (z**2).sum(axis=-1)
        squares = 0.5 * (gap**2 / var).sum(axis=-1)
        closed_form = 0.5 * (mu**2 + np.exp(v) - 1 - v).sum(axis=1, keepdims=True)
        widths = {"logvar / 2 in each dimension, as - log q is low where q is narrow": 0.5 * v.sum(axis=1)[:, None]}
        return {
            "recon is -log p(x|z): it is subtracted. Added, it gives the worst codes the largest weights.": y
            + 2 * recon,
            "That is the closed-form KL in place of log q - log p(z). It holds on average over z only; a weight "
            "belongs to one z, so both densities are taken at that z.": -recon - closed_form,
            "The prior is missing.": y - log_prior,
            "The proposal is missing: its log is to be subtracted.": log_prior - recon,
            "The squares are divided by the variance exp(logvar), not by its square or root.": (
                y - squares + 0.5 * (gap**2 / var**2).sum(axis=-1),
                y - squares + 0.5 * (gap**2 / np.sqrt(var)).sum(axis=-1),
            ),
            **misweighed(y, widths),
        }

    agree_on_cases("log_weights", work.log_weights, right_log_weights, samples(rng), mistakes, "the-maths")


def weights(rng):
    """Cases {log_w}: near 0, near -1000 and +1000 where exp fails, dominated by one, and one weight alone."""
    shapes = (((3, 7), 0, 1), ((5, 4), -1000, 3), ((2, 9), 1000, 3), ((3, 6), -5000, 1000), ((1, 6), -3, 1))
    cases = [dict(log_w=level + width * rng.normal(size=shape)) for shape, level, width in shapes]
    cases.append(dict(log_w=rng.normal(size=(3, 5)) + np.array([[0], [-2000], [900]])))
    cases.append(dict(log_w=(-120 + rng.normal(size=(3, 8))).astype(np.float32)))
    return [*cases, dict(log_w=rng.normal(size=(3, 1)))]


def right_bound(log_w):
    return iwae.importance_bound(torch.from_numpy(log_w).double()).numpy()


def part_importance_bound(work, rng):
    """importance_bound: the log of the mean weight"""

    def mistakes(y, log_w):
        return {"The mean of the logs: that is the elbo, L_1. The mean stands inside the log.": log_w.mean(axis=1)}

    agree_on_cases("importance_bound", work.importance_bound, right_bound, weights(rng), mistakes, "the-maths")


def part_bound_of_groups(work, rng):
    """bound_of_groups: L_k from more than k weights"""
    right = importance_bounds

    def mistakes(y, log_w, k):
        B, K = log_w.shape
        groups = log_w[:, : K // k * k].reshape(B, -1, k)
        return {
            "Only the first k weights were used; the other groups are as good.": right_bound(log_w[:, :k]),
            "That is the bound of all K; the mean over the groups stands outside the log.": right_bound(
                groups.reshape(B, -1)
            ),
        }

    sizes = ((3, 7, 3), (5, 6, 2), (1, 9, 4), (4, 5, 5), (3, 6, 1), (2, 12, 5))
    cases = [dict(log_w=-500 + 3 * rng.normal(size=(B, K)), k=k) for B, K, k in sizes]
    cases.append(dict(log_w=(-90 + rng.normal(size=(3, 8))).astype(np.float32), k=3))
    agree_on_cases("bound_of_groups", work.bound_of_groups, right, cases, mistakes, "the-maths")


def right_size(log_w):
    """1 / sum of the squared shares."""
    log_w = log_w.astype(np.float64)
    share = np.exp(log_w - np.logaddexp.reduce(log_w, axis=1, keepdims=True))
    return 1 / (share**2).sum(axis=1)


def part_effective_sample_size(work, rng):
    """effective_sample_size: from 1 to K"""

    def mistakes(y, log_w):
        w = np.exp(log_w - log_w.max(axis=1, keepdims=True))
        return {"The weights have to add up to 1 for that: divide by the square of their sum.": 1 / (w**2).sum(axis=1)}

    function, read = work.effective_sample_size, "when-to-trust-it"
    agree_on_cases("effective_sample_size", function, right_size, weights(rng), mistakes, read)


def right_share(c, Z):
    """E[w]^2 / E[w^2] for w = N(0, 1) / N(0, c^2) under the latter, by summing over a fine grid; Z independent ones."""
    if c <= 0.5**0.5:
        return 0.0  # p^2 / q does not vanish at infinity
    width = max(1, c, 1 / np.sqrt(2 - 1 / c**2))  # of p, q and p^2 / q; at 12 of them a Gaussian is below 1e-30
    x = np.linspace(-12, 12, 4001) * width
    p, q = np.exp(-0.5 * x**2), np.exp(-0.5 * (x / c) ** 2) / c
    second = np.exp(-(x**2) + 0.5 * (x / c) ** 2) * c  # p^2 / q without the 1 / sqrt(2 pi), which p and q lack too
    return float((p.sum() ** 2 / (second.sum() * q.sum())) ** Z)


def part_expected_share(work, rng):
    """expected_share: what ESS / K tends to"""
    right = right_share

    def mistakes(y, c, Z):
        return {
            "With c^2 <= 1/2 the weights have no finite variance, so the share tends to 0 there; the formula's root of "
            "a negative number is no answer.": y if 2 * c**2 > 1 else np.nan,
            "A q that is a little narrow has a share, too: the integral is finite as long as 2 c^2 > 1.": (
                y if c > 1 else 0.0,
                y if c >= 1 else 0.0,
            ),
            "c is the std of q over the posterior's: a narrow q, c < 1, is the worse one.": right(1 / c, Z),
        }

    cases = [dict(c=float(c), Z=int(Z)) for c, Z in zip(rng.uniform(0.75, 3, 6), (1, 2, 3, 5, 20, 1), strict=True)]
    cases += [dict(c=float(c), Z=2) for c in (*rng.uniform(0.2, 0.7, 2), *rng.uniform(0.72, 0.8, 2), 1.0)]
    # 1e-7: the oracle's grid is exact to rounding, but Z = 20 takes its 20th power
    agree_on_cases("expected_share", work.expected_share, right, cases, mistakes, "when-to-trust-it", rel=1e-7)


def part_log_integral(work, rng):
    """log_integral: log p(x) by summing over a grid"""

    def right(log_joint, cell):
        return torch.logsumexp(torch.from_numpy(log_joint).double(), dim=1).numpy() + np.log(cell)

    def mistakes(y, log_joint, cell):
        return {
            "The area is a factor of the integral: outside exp that is + ln(cell).": right(log_joint, 1) * cell,
            "The mean of the logs; the densities are added, then comes the log.": log_joint.mean(axis=1) + np.log(cell),
        }

    cases = [
        dict(log_joint=level + 20 * rng.normal(size=shape), cell=float(rng.uniform(0.001, 3)))
        for shape, level in (((3, 50), 0), ((1, 20), -900), ((5, 31), 900), ((2, 1), -3))
    ]
    cases.append(dict(log_joint=(-120 + rng.normal(size=(3, 40))).astype(np.float32), cell=0.01))
    agree_on_cases("log_integral", work.log_integral, right, cases, mistakes, "the-exact-answer")


HINTS = (
    "log_weights: log p(z) and log q(z|x) at the z that was drawn, no KL. log 2 pi appears twice, with opposite signs.",
    "log_weights: mu and logvar lack the axis K: mu[:, None] is (B, 1, Z). Sum over the last axis: (B, K).",
    "log_weights: -recon + (eps^2 + logvar - z^2) / 2, summed, where eps^2 is (z - mu)^2 divided by exp(logvar).",
    "importance_bound: the log of a mean of exp, without ever leaving logarithms: take the row's largest out first.",
    "importance_bound: (B, K) -> (B,). Each row has its own largest, keepdims=True; a mean is a sum over K.",
    "importance_bound: np.logaddexp.reduce(log_w, axis=1) - np.log(K)",
    "bound_of_groups: each group of k weights is a row for importance_bound; its answers are averaged, image by image.",
    "bound_of_groups: cut log_w to K // k * k columns and reshape it to (-1, k), rows of k weights of one image each.",
    "bound_of_groups: importance_bound(groups).reshape(B, -1).mean(axis=1)",
    "effective_sample_size: a weighted mean has the variance sum w^2 / (sum w)^2, a plain one of m values 1 / m.",
    "effective_sample_size: dividing a row's weights by its largest changes nothing: exp(log_w - largest), (B, K).",
    "effective_sample_size: w.sum(axis=1) ** 2 / (w**2).sum(axis=1)",
    "expected_share: (E w)^2 / E w^2, where E w^2 / p(x)^2 is the integral of p(z|x)^2 / q, one dimension at a time.",
    "expected_share: a number to the power of Z. The exponent is -(1 - 1 / (2 c^2)) z^2: it must fall on both sides.",
    "expected_share: (sqrt(2 c^2 - 1) / c^2)^Z where 2 c^2 > 1, else 0.",
    "log_integral: a cell adds exp(log_joint) times its area, and the log of the sum is wanted.",
    "log_integral: (B, G) -> (B,): the area is one factor of the whole sum, so its log is added once.",
    "log_integral: np.logaddexp.reduce(log_joint, axis=1) + np.log(cell)",
)
