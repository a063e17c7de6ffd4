"""What exercise 6 asks for, compared with level 3's weights and schedules of the KL and with PyTorch's derivatives."""

import itertools

import numpy as np
import torch

from checks.judging import agree, agree_on_cases, gradients, one_array
from vae_measures import loss_conventions
from vae_models.beta_vae import KLWeight

FORBIDDEN = ("vae_models", "vae_measures", "vae_training", "effective_beta", "conv_vae")  # they hold the answer


def loss_of(variance, s2, beta):
    """loss(w, v) of the page's VAE of one pixel and one latent dimension, at std = 1."""

    def loss(w, v):
        error = (1 - w * v) ** 2 * variance + w**2
        return error / (2 * s2) + beta / 2 * v**2 * variance

    return loss


def by_autograd(variance, s2, beta):
    zero = torch.zeros((), dtype=torch.float64)
    rows = torch.autograd.functional.hessian(loss_of(variance, s2, beta), (zero, zero))
    return np.array([[float(value) for value in row] for row in rows])


def part_curvature(work, rng):
    """curvature_at_collapse: the second derivatives where the code says nothing"""

    def mistakes(y, variance, s2, beta):
        (first, mixed), (_, last) = y

        def matrix(first=first, mixed=mixed, last=last):
            return np.array([[first, mixed], [mixed, last]])

        return {
            "The mixed derivative has the other sign: the error falls when w and v grow together.": matrix(
                mixed=-mixed
            ),
            "The mixed derivatives are missing, or twice the right ones: (1 - w v)^2 = 1 - 2 w v + ...": (
                matrix(mixed=0),
                matrix(mixed=2 * mixed),
            ),
            "v is multiplied by x: the variance of x belongs in the last entry.": matrix(last=beta),
        }

    cases = [dict(zip(("variance", "s2", "beta"), np.exp(rng.normal(size=3)).tolist(), strict=True)) for _ in range(4)]
    function = one_array(work.curvature_at_collapse)
    agree_on_cases("curvature_at_collapse", function, by_autograd, cases, mistakes, "the-maths")


def schedule(kind):
    def value(step, ramp, beta=1.0):
        return KLWeight(beta=beta, anneal=kind, ramp=ramp).beta_at(step)

    return value


def steps(rng):
    """Cases {step, ramp, beta}: the start, inside, at the end and beyond of ramps of many lengths."""
    for ramp in (7, 2, 10, int(rng.integers(20, 500)), 1):
        for step in (0, 1, ramp // 2, ramp - 1, ramp, ramp + 1, 2 * ramp - 1, 2 * ramp, 2 * ramp + 1, 5 * ramp + 1):
            yield dict(step=step, ramp=ramp, beta=float(rng.uniform(0.5, 8)))


def part_cyclical(work, rng):
    """cyclical_beta: a ramp, again and again"""
    right, ramped = schedule("cyclical"), schedule("linear")

    def mistakes(y, step, ramp, beta=1.0):
        return {
            "It does not stay at `beta`: after a ramp come as many steps at the top.": ramped(step % ramp, ramp, beta),
            "The cycle is 2 ramp long; `ramp` is its rising half.": ramped(2 * (step % ramp), ramp, beta),
            "It never starts again: the step counts from the beginning of its cycle.": ramped(step, ramp, beta),
            "At step 0 it is 0: steps count from 0, so that is step / ramp and not (step + 1) / ramp.": (
                right(step + 1, ramp, beta),
                beta * min(1, (step % (2 * ramp) + 1) / ramp),
            ),
        }

    # Where a cycle begins, (step / ramp) % 2 may round to just under 2: those steps come below, with ramps that do not
    cases = [case for case in steps(rng) if case["step"] % (2 * case["ramp"]) or case["step"] == 0]
    agree_on_cases("cyclical_beta", work.cyclical_beta, right, [*cases, dict(step=13, ramp=4)], mistakes, "the-maths")
    top = "Step 2 ramp is the first of the next cycle, as step 0 was of its own; the last at the top is 2 ramp - 1."
    for ramp, cycles in itertools.product((1, 4, 8), (1, 3)):
        step = cycles * 2 * ramp
        got, what = work.cyclical_beta(step, ramp, 2.0), f"cyclical_beta({step}, {ramp}, 2.0), where a cycle begins"
        agree(what, got, 0.0, mistakes={top: 2.0}, read="the-maths")


def price(kl, floor):
    """What level 3 adds to recon."""
    return KLWeight(free_bits=floor).penalty(kl.mean(dim=0), 0)


def batches(rng):
    """KLs (B, Z) and a floor such that some dimensions are below and some above it, single images on both sides."""
    for B, Z, dtype in ((7, 4, torch.float64), (5, 3, torch.float32), (1, 6, torch.float64), (4, 1, torch.float64)):
        kl = torch.from_numpy(rng.exponential(np.exp(rng.normal(size=Z)), size=(B, Z)))
        kl[:, 0] *= 0.4 / kl[:, 0].mean()  # below
        kl[:, -1] *= (0.9 if Z > 1 else 0.2) / kl[:, -1].mean()  # above, unless it is the only one
        yield dict(kl=kl.to(dtype), floor=0.6)
    yield dict(kl=torch.from_numpy(rng.exponential(size=(3, 5))), floor=0.0)


def part_free_bits(work, rng):
    """free_bits: the price"""

    def mistakes(y, kl, floor):
        mean = kl.mean(dim=0)
        return {
            "The max is taken for each image, before the mean. It comes after: the floor is held against the batch's "
            "mean.": kl.clamp(min=floor).mean(dim=0).sum(),
            "The floor is held against the sum over the dimensions; each dimension has its own.": mean.sum().clamp(
                min=floor
            ),
            "The sum over the batch; prices are per image, so take its mean.": kl.sum(dim=0).clamp(min=floor).sum(),
        }

    agree_on_cases("free_bits", work.free_bits, price, batches(rng), mistakes, "the-maths")


def part_free_bits_gradient(work, rng):
    """free_bits: what its gradient leaves alone"""
    for case in batches(rng):
        kl, floor = case["kl"].requires_grad_(), case["floor"]
        paid, what = work.free_bits(kl, floor), f"the gradient of free_bits by kl {tuple(kl.shape)}, floor={floor}"
        (got,) = gradients(what, paid, [kl], "the-maths")
        (right,) = torch.autograd.grad(price(kl, floor), kl)
        paying = {
            "A dimension below the floor pays a constant, so it has no gradient.": torch.full_like(kl, 1 / len(kl))
        }
        agree(what, got, right, mistakes=paying, read="the-maths", inputs=str(kl.dtype))


def count(mu, threshold=0.01):
    return int((np.asarray(mu, np.float64).var(axis=0) > threshold).sum())


def means(rng):
    """Posterior means whose variances lie on both sides of 0.01, with offsets, and no variance near the threshold."""
    for N, Z, dtype in ((50, 40, np.float64), (40, 25, np.float32), (60, 1, np.float64), (30, 60, np.float64)):
        std = rng.choice([0.0, 0.03, 0.07, 0.08, 0.13, 0.2, 0.5, 1.0], size=Z)
        mu = rng.normal(size=(N, Z))
        mu = (mu - mu.mean(axis=0)) / mu.std(axis=0) * std + 3 * rng.normal(size=Z)
        yield dict(mu=mu.astype(dtype), threshold=0.01)
    yield dict(mu=mu)
    yield dict(mu=mu, threshold=0.02)
    yield dict(mu=mu * rng.choice([0.0, 1.0], size=Z), threshold=0.0)  # a variance of exactly 0 is not above 0


def part_active_units(work, rng):
    """active_units: which dimensions say something about the image"""

    def mistakes(y, mu, threshold=0.01):
        def above(measure):
            return (measure > threshold).sum()

        return {
            "A standard deviation is compared; the threshold is a variance.": above(mu.std(axis=0)),
            "The variance runs over the images, for each dimension.": above(mu.var(axis=1)),
            "A dimension whose mean is far from 0, but the same for every image, says nothing: that is mean(mu^2), and "
            "not the variance.": above((mu**2).mean(axis=0)),
        }

    agree_on_cases("active_units", work.active_units, count, means(rng), mistakes, "the-maths")
    mu = np.array([[0.11], [0.09]]) * np.where(np.arange(50) % 2, 1.0, -1.0)  # variances of 0.012 and 0.008
    agree("active_units(mu (50, 2)) with threshold left out (0.01)", work.active_units(mu.T), 1, read="the-maths")


def of_the_project(kl_weight, recon="sum", kl="sum", pixels=784, latent_dim=20):
    convention = loss_conventions.LossConvention(recon_over_pixels=recon, kl_over_latents=kl, kl_weight=kl_weight)
    return loss_conventions.effective_beta(convention, pixels=pixels, latent_dim=latent_dim)


def part_effective_beta(work, rng):
    """effective_beta: what another loss amounts to"""
    cases = [
        dict(kl_weight=float(np.exp(3 * rng.normal())), recon=recon, kl=kl, pixels=int(P), latent_dim=int(Z))
        for recon in ("sum", "mean")
        for kl in ("sum", "mean")
        for P, Z in ((784, 20), (12288, 128), rng.integers(30, 5000, size=2))
    ]

    cases += [dict(kl_weight=2.0), dict(kl_weight=2.0, recon="mean"), dict(kl_weight=2.0, recon="sum", kl="mean")]

    def mistakes(y, kl_weight, recon="sum", kl="sum", pixels=784, latent_dim=20):
        P, Z = pixels if recon == "mean" else 1, latent_dim if kl == "mean" else 1
        return {
            "The mean over pixels divides recon; multiply the whole loss by `pixels` to undo that, and look at the "
            "KL.": kl_weight / P / Z,
            "A mean over the latent dimensions makes the KL cheaper, not dearer.": kl_weight * P * Z,
        }

    agree_on_cases("effective_beta", work.effective_beta, of_the_project, cases, mistakes, "mean-for-sum")


HINTS = (
    "curvature_at_collapse: put sigma = 1 into the loss, write (1 - w v)^2 as 1 - 2 w v + w^2 v^2, and keep what has "
    "two factors out of w and v: w^2, w v, v^2.",
    "curvature_at_collapse: (2, 2), symmetric. A term a w^2 has second derivative 2 a; c w v has mixed derivative c.",
    "curvature_at_collapse: [[1 / s2, -variance / s2], [-variance / s2, ?]], and the last one comes from the KL.",
    "cyclical_beta: how far in its own cycle is the step? From there on it is one ramp, held at its top.",
    "cyclical_beta: a number. A cycle is 2 ramp long, and % counts from its beginning; min holds what has risen to 1.",
    "cyclical_beta: beta * min(1, step % (2 * ramp) / ramp)",
    "free_bits: a dimension pays its mean KL or the floor, whichever is more. The floor has no gradient.",
    "free_bits: three of torch's operations in this order: mean over the batch, floor, sum: (B, Z) -> (Z,) -> ().",
    "free_bits: kl.mean(dim=0).clamp(min=floor).sum()",
    "active_units: a dimension says something about the image if its mean differs from image to image.",
    "active_units: the variance of each column of mu, over the images, (Z,); count those above the threshold.",
    "active_units: int((mu.var(axis=0) > threshold).sum())",
    "effective_beta: multiply the loss by whatever makes recon a sum, which changes no direction. What stands before "
    "the KL then?",
    "effective_beta: write it as recon_sum / P + kl_weight * kl_sum / Z; leave out P or Z where there is no mean.",
    "effective_beta: kl_weight, times pixels if recon is a mean, divided by latent_dim if kl is one.",
)
