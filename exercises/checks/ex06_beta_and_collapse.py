"""What exercise 6 asks for, compared with level 3's prices for the KL and with PyTorch's derivatives."""

import contextlib
import math

import numpy as np
import torch
from beta_vae import KLPrice

import effective_beta as calculator
from checks.judging import Mismatch, Wrong, agree, agree_on_cases

FORBIDDEN = ("beta_vae", "effective_beta", "conv_vae", "vae_paper", "linear_vae")  # they hold the answer
PAGE = "06_beta_and_collapse.md"


# --- the smallest VAE ---------------------------------------------------------------------------------------------


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

    def entries(*factors):
        return lambda *given: by_autograd(*given) * np.array(factors).reshape(2, 2)

    def with_entry(i, value):
        def wrong(variance, s2, beta):
            matrix = by_autograd(variance, s2, beta)
            matrix.flat[i] = value(variance, s2, beta)
            return matrix

        return wrong

    mistakes = {
        "Beta is missing in the last entry: v^2 occurs in the KL, beta times.": with_entry(3, lambda l, s2, beta: l),
        "The mixed derivative has the other sign: the error falls when w and v grow together.": entries(1, -1, -1, 1),
        "The mixed derivatives are missing: (1 - w v)^2 = 1 - 2 w v + ...": entries(1, 0, 0, 1),
        "The mixed derivative is twice the right one: the 2 of the square goes with the 1/2 before it.": entries(
            1, 2, 2, 1
        ),
        "The first entry is not 0: w^2 stands in the loss, times the noise std^2 = 1.": entries(0, 1, 1, 1),
        "Those are the coefficients of w^2 and v^2; a second derivative of w^2 is 2.": entries(0.5, 1, 1, 0.5),
        "Rows and columns are (w, v) in this order.": lambda *given: by_autograd(*given)[::-1, ::-1],
        "The first entry is the noise of z, std^2 = 1, over s2; the variance of x does not enter.": with_entry(
            0, lambda variance, s2, beta: variance / s2
        ),
        "v is multiplied by x: the variance of x belongs into the last entry.": with_entry(
            3, lambda variance, s2, beta: beta
        ),
    }
    cases = [dict(zip(("variance", "s2", "beta"), np.exp(rng.normal(size=3)).tolist(), strict=True)) for _ in range(4)]
    read = f"{PAGE}#the-maths"

    def answer(*given):
        rows = work.curvature_at_collapse(*given)
        with contextlib.suppress(ValueError, TypeError):  # else it is refused as what it is
            return np.array([[float(value) for value in row] for row in rows]) if isinstance(rows, list) else rows
        return rows

    agree_on_cases("curvature_at_collapse", answer, by_autograd, cases, mistakes=mistakes, read=read)


# --- schedules ----------------------------------------------------------------------------------------------------


def schedule(kind):
    def value(step, ramp, beta=1.0):
        return KLPrice(beta=beta, anneal=kind, ramp=ramp).beta_at(step)

    return value


def steps(rng):
    """Cases {step, ramp, beta}: the start, inside, at the end and beyond of ramps of many lengths."""
    for ramp in (1, 2, 7, 10, int(rng.integers(20, 500))):
        for step in (0, 1, ramp // 2, ramp - 1, ramp, ramp + 1, 2 * ramp - 1, 2 * ramp, 2 * ramp + 1, 5 * ramp + 1):
            yield dict(step=step, ramp=ramp, beta=float(rng.uniform(0.5, 8)))


LATE = "At step 0 it is {}: steps count from 0, so that is step / ramp and not (step + 1) / ramp."


def part_linear(work, rng):
    """linear_beta: a ramp"""
    right, cases, read = schedule("linear"), list(steps(rng)), f"{PAGE}#the-maths"
    mistakes = {
        "It goes on growing after `ramp` steps; there it should stay.": lambda step, ramp, beta=1.0: beta * step / ramp,
        "The ramp ends at 1, not at `beta`.": lambda step, ramp, beta=1.0: min(1.0, step / ramp),
        "It is held at 1 where it should be held at `beta`.": lambda step, ramp, beta=1.0: min(1.0, beta * step / ramp),
        LATE.format("0"): lambda step, ramp, beta=1.0: right(step + 1, ramp, beta),
        "It falls from `beta` to 0; it should rise.": lambda step, ramp, beta=1.0: beta - right(step, ramp, beta),
        "Whole steps only: // rounds down, / divides.": lambda step, ramp, beta=1.0: beta * min(1, step // ramp),
    }
    agree_on_cases("linear_beta", work.linear_beta, right, cases, mistakes=mistakes, read=read)
    agree("linear_beta(3, 6) with beta left out (1)", work.linear_beta(3, 6), 0.5, read=read)


def part_sigmoid(work, rng):
    """sigmoid_beta: a smooth step"""
    right, read = schedule("sigmoid"), f"{PAGE}#the-maths"
    cases = [*steps(rng), dict(step=0, ramp=100, beta=2.0), dict(step=100_000, ramp=100, beta=2.0)]

    def curve(exponent):
        def value(step, ramp, beta=1.0):
            return beta / (1 + math.exp(min(700.0, exponent(step, ramp))))

        return value

    mistakes = {
        "The sign in the exponent is turned: it falls.": curve(lambda step, ramp: 12 * (step / ramp - 0.5)),
        "The middle of the curve is at step 0; it belongs at ramp / 2.": curve(lambda step, ramp: -12 * step / ramp),
        "The middle of the curve is at `ramp`; it belongs at ramp / 2.": curve(
            lambda step, ramp: -12 * (step / ramp - 1)
        ),
        "The 12 is missing: over the ramp the curve should go from 0.25 % to 99.75 %.": curve(
            lambda step, ramp: -(step / ramp - 0.5)
        ),
        "`beta` is not used.": lambda step, ramp, beta=1.0: right(step, ramp, 1.0),
        LATE.format("0.25 % of beta"): lambda step, ramp, beta=1.0: right(step + 1, ramp, beta),
    }
    agree_on_cases("sigmoid_beta", work.sigmoid_beta, right, cases, mistakes=mistakes, read=read)
    agree("sigmoid_beta(2, 4) with beta left out (1)", work.sigmoid_beta(2, 4), 0.5, read=read)


def part_cyclical(work, rng):
    """cyclical_beta: again and again"""
    right, ramped, read = schedule("cyclical"), schedule("linear"), f"{PAGE}#the-maths"
    mistakes = {
        "It does not stay at `beta`: after a ramp come as many steps at the top.": (
            lambda step, ramp, beta=1.0: ramped(step % ramp, ramp, beta)
        ),
        "The cycle is `ramp` long; that is its rising half, and the cycle is 2 ramp.": (
            lambda step, ramp, beta=1.0: ramped(2 * (step % ramp), ramp, beta)
        ),
        "It never starts again: the step counts from the beginning of its cycle.": ramped,
        "It comes down as slowly as it goes up; after the steps at the top it starts from 0 at once.": (
            lambda step, ramp, beta=1.0: beta * (1 - abs(1 - step / ramp % 2))
        ),
        "The ramp ends at 1, not at `beta`.": lambda step, ramp, beta=1.0: right(step, ramp, 1.0),
        LATE.format("0"): lambda step, ramp, beta=1.0: right(step + 1, ramp, beta),
    }
    # Where a cycle begins, (step / ramp) % 2 may round to just under 2: those steps come below, with ramps that do not
    cases = [case for case in steps(rng) if case["step"] % (2 * case["ramp"]) or case["step"] == 0]
    agree_on_cases("cyclical_beta", work.cyclical_beta, right, cases, mistakes=mistakes, read=read)
    for ramp in (1, 4, 8):
        got = work.cyclical_beta(6 * ramp, ramp, 2.0)
        agree(f"cyclical_beta({6 * ramp}, {ramp}, 2.0), where a cycle begins", got, 0.0, read=read)
    agree("cyclical_beta(13, 4) with beta left out (1)", work.cyclical_beta(13, 4), 1.0, read=read)


# --- free bits ----------------------------------------------------------------------------------------------------


def price(kl, floor):
    """What level 3 adds to recon."""
    return KLPrice(free_bits=floor)(kl.mean(dim=0), 0)


def batches(rng):
    """KLs (B, Z) and a floor such that some dimensions are below and some above it, single images on both sides."""
    for B, Z, dtype in ((7, 4, torch.float64), (5, 3, torch.float32), (1, 6, torch.float64), (4, 1, torch.float64)):
        kl = torch.from_numpy(rng.exponential(np.exp(rng.normal(size=Z)), size=(B, Z)))
        kl[:, 0] *= 0.4 / kl[:, 0].mean()  # below
        kl[:, -1] *= (0.9 if Z > 1 else 0.2) / kl[:, -1].mean()  # above, unless it is the only one
        yield dict(kl=kl.to(dtype), floor=0.6)
    yield dict(kl=torch.from_numpy(rng.exponential(size=(3, 5))), floor=0.0)


FREE_MISTAKES = {
    "The max is taken for each image, before the mean. It comes after: the floor is held against the batch's mean.": (
        lambda kl, floor: kl.clamp(min=floor).mean(dim=0).sum()
    ),
    "The floor is held against the sum over the dimensions; each dimension has its own.": (
        lambda kl, floor: kl.mean(dim=0).sum().clamp(min=floor)
    ),
    "The max is taken of each image's sum, before the mean.": lambda kl, floor: kl.sum(dim=1).clamp(min=floor).mean(),
    "The floor is taken off: max(0, kl - floor). It is the price that is held, max(floor, kl).": (
        lambda kl, floor: (kl.mean(dim=0) - floor).clamp(min=0).sum()
    ),
    "That is min, a ceiling; a floor is a max.": lambda kl, floor: kl.mean(dim=0).clamp(max=floor).sum(),
    "The mean over the dimensions; KLs of dimensions add up.": lambda kl, floor: price(kl, floor) / kl.shape[1],
    "The sum over the batch; prices are per image, so take its mean.": (
        lambda kl, floor: kl.sum(dim=0).clamp(min=floor).sum()
    ),
    "The floor is not used.": lambda kl, floor: kl.mean(dim=0).sum(),
    "Dimensions under the floor are left out; they cost the floor.": lambda kl, floor: (
        kl.mean(dim=0) * (kl.mean(dim=0) > floor)
    ).sum(),
}


def part_free_bits(work, rng):
    """free_bits: the price"""
    read = f"{PAGE}#the-maths"
    agree_on_cases("free_bits", work.free_bits, price, list(batches(rng)), mistakes=FREE_MISTAKES, read=read)


def part_free_bits_gradient(work, rng):
    """free_bits: what its gradient leaves alone"""
    for case in batches(rng):
        kl, floor = case["kl"].requires_grad_(), case["floor"]
        paid, what = work.free_bits(kl, floor), f"the gradient of free_bits by kl {tuple(kl.shape)}, floor={floor}"
        if not getattr(paid, "requires_grad", False):
            raise Mismatch(
                what,
                expected="a tensor that backward() can start from",
                got=type(paid).__name__,
                mistake="NumPy, .item(), .detach() or float() cuts the path; use torch's operations.",
                read=f"{PAGE}#the-maths",
            )
        (right,) = torch.autograd.grad(price(kl, floor), kl)
        (got,) = torch.autograd.grad(paid, kl, allow_unused=True)
        got = torch.zeros_like(kl) if got is None else got
        agree(what, got, right, read=f"{PAGE}#the-maths", inputs=str(kl.dtype))


# --- active units -------------------------------------------------------------------------------------------------


def count(mu, threshold=0.01):
    return int((np.asarray(mu, np.float64).var(axis=0) > threshold).sum())


def means(rng):
    """Posterior means whose variances lie on both sides of 0.01, with offsets, and no variance near the threshold."""
    for N, Z, dtype in ((50, 40, np.float64), (40, 25, np.float32), (60, 1, np.float64), (30, 60, np.float64)):
        std = rng.choice([0.0, 0.03, 0.07, 0.08, 0.13, 0.2, 0.5, 1.0], size=Z)
        mu = rng.normal(size=(N, Z))
        mu = (mu - mu.mean(axis=0)) / mu.std(axis=0) * std + 3 * rng.normal(size=Z)
        yield dict(mu=mu.astype(dtype), threshold=0.01)
    yield dict(mu=mu, threshold=0.02)
    yield dict(mu=mu * rng.choice([0.0, 1.0], size=Z), threshold=0.0)  # a variance of exactly 0 is not above 0


def part_active_units(work, rng):
    """active_units: which dimensions say something about the image"""

    def above(measure):
        return lambda mu, threshold=0.01: int((measure(mu) > threshold).sum())

    mistakes = {
        "A standard deviation is compared; the threshold is a variance.": above(lambda mu: mu.std(axis=0)),
        "The variance runs over the dimensions of an image; it runs over the images, for each dimension.": above(
            lambda mu: mu.var(axis=1)
        ),
        "A dimension whose mean is far from 0, but the same for every image, says nothing: that is mean(mu^2), and not "
        "the variance.": above(lambda mu: (mu**2).mean(axis=0)),
        "A dimension whose mean is far from 0, but the same for every image, says nothing: that is |mean of mu|.": (
            above(lambda mu: np.abs(mu.mean(axis=0)))
        ),
        "Those are the inactive ones.": lambda mu, threshold=0.01: mu.shape[1] - count(mu, threshold),
        "The threshold is not used.": lambda mu, threshold=0.01: count(mu),
        "One variance of all numbers together; each dimension has its own.": above(lambda mu: mu.var()),
        "That is the share of the active ones; their number is asked.": lambda mu, threshold=0.01: (
            count(mu, threshold) / mu.shape[1]
        ),
    }
    cases, read = list(means(rng)), f"{PAGE}#the-maths"
    agree_on_cases("active_units", work.active_units, count, cases, mistakes=mistakes, read=read)
    for N in (50, 51):
        mu = np.array([0.13, 0.07])[:, None] * np.where(np.arange(N) % 2, 1.0, -1.0)  # variances of 0.017 and 0.005
        agree(f"active_units(mu {(N, 2)}) with threshold left out (0.01)", work.active_units(mu.T), 1, read=read)


# --- the beta of other losses -------------------------------------------------------------------------------------


def of_the_project(kl_weight, recon="sum", kl="sum", pixels=784, latent_dim=20):
    convention = calculator.LossConvention(recon_over_pixels=recon, kl_over_latents=kl, kl_weight=kl_weight)
    return calculator.effective_beta(convention, pixels=pixels, latent_dim=latent_dim)


def part_effective_beta(work, rng):
    """effective_beta: what another loss amounts to"""
    cases = [
        dict(kl_weight=float(np.exp(3 * rng.normal())), recon=recon, kl=kl, pixels=int(P), latent_dim=int(Z))
        for recon in ("sum", "mean")
        for kl in ("sum", "mean")
        for P, Z in ((784, 20), (12288, 128), rng.integers(30, 5000, size=2))
    ]

    def factors(of_recon, of_kl):
        def wrong(kl_weight, recon="sum", kl="sum", pixels=784, latent_dim=20):
            on = of_recon(pixels) if recon == "mean" else 1
            return kl_weight * on * (of_kl(latent_dim) if kl == "mean" else 1)

        return wrong

    mistakes = {
        "The mean over pixels divides recon; multiply the whole loss by `pixels` to undo that, and look at the KL.": (
            factors(lambda P: 1 / P, lambda Z: 1 / Z)
        ),
        "A mean over the latent dimensions makes the KL cheaper, not dearer.": factors(lambda P: P, lambda Z: Z),
        "Both ways round: a mean of recon makes beta larger, a mean of the KL smaller.": factors(
            lambda P: 1 / P, lambda Z: Z
        ),
        "recon is not looked at.": factors(lambda P: 1, lambda Z: 1 / Z),
        "kl is not looked at.": factors(lambda P: P, lambda Z: 1),
        "kl_weight is not used.": lambda kl_weight, *rest: of_the_project(1.0, *rest),
        "That is 1 / beta: beta is the weight of the KL when recon has weight 1.": lambda *given: (
            1 / of_the_project(*given)
        ),
    }
    read = f"{PAGE}#mean-for-sum"
    agree_on_cases("effective_beta", work.effective_beta, of_the_project, cases, mistakes=mistakes, read=read)
    for given in ({}, {"recon": "mean"}, {"kl": "mean"}):
        what = f"effective_beta(2.0{''.join(f', {key}={value!r}' for key, value in given.items())}), the rest left out"
        agree(what, work.effective_beta(2.0, **given), of_the_project(2.0, **given), read=read)


PARTS = (
    part_curvature,
    part_linear,
    part_sigmoid,
    part_cyclical,
    part_free_bits,
    part_free_bits_gradient,
    part_active_units,
    part_effective_beta,
)

HINTS = (
    "curvature_at_collapse: put sigma = 1 into the loss, write (1 - w v)^2 as 1 - 2 w v + w^2 v^2, and keep what has "
    "two factors out of w and v: w^2, w v, v^2. A term a w^2 has second derivative 2 a; a term c w v has mixed "
    "derivative c.",
    "curvature_at_collapse: [[1 / s2, -variance / s2], [-variance / s2, ?]], and the last one comes from the KL.",
    "linear_beta: the smaller of 1 and step / ramp, times beta.",
    "cyclical_beta: linear_beta, with the step counted from the beginning of its cycle: step % (2 * ramp).",
    "sigmoid_beta: the docstring's formula as it stands. At step = ramp / 2 it is half of beta, at 0 a little above 0.",
    "free_bits: three operations in this order: mean over the batch (dim=0), clamp(min=floor), sum. torch's own, so "
    "that gradients pass.",
    "active_units: the variance of each column of mu, over the images; count those above the threshold. bool arrays "
    "have a .sum().",
    "effective_beta: write the loss as recon_sum / P + kl_weight * kl_sum / Z (leave out what is not a mean) and "
    "multiply it by P, which changes no direction. What stands before kl_sum then?",
)

MIXED = "[[1 / s2, -variance / s2], [-variance / s2, beta * variance]]"
RAMP = "beta * min(1, step / ramp)"
CURVE = "beta / (1 + math.exp(-12 * (step / ramp - 0.5)))"
CYCLE = "linear_beta(step % (2 * ramp), ramp, beta)"
FREE = "kl.mean(dim=0).clamp(min=floor).sum()"
ACTIVE = "int((mu.var(axis=0) > threshold).sum())"
EFFECTIVE = '(pixels if recon == "mean" else 1) / (latent_dim if kl == "mean" else 1)'

WRONG = (
    Wrong("curvature without beta", "beta * variance]]", "variance]]", "Beta is missing"),
    Wrong("curvature of a maximum", MIXED, MIXED.replace("-variance", "variance"), "other sign"),
    Wrong("no mixed derivative", MIXED, "[[1 / s2, 0], [0, beta * variance]]", "mixed derivatives are missing"),
    Wrong("no noise", MIXED, MIXED.replace("1 / s2", "0"), "is not 0"),
    Wrong("twice the mixed one", MIXED, MIXED.replace("-variance", "-2 * variance"), "is twice"),
    Wrong("coefficients", MIXED, "[[0.5 / s2, -variance / s2], [-variance / s2, beta * variance / 2]]", "coefficients"),
    Wrong("v before w", MIXED, "[[beta * variance, -variance / s2], [-variance / s2, 1 / s2]]", "in this order"),
    Wrong("a ramp without end", RAMP, "beta * step / ramp", "goes on growing"),
    Wrong("a ramp to 1", RAMP, "min(1, step / ramp)", "ends at 1"),
    Wrong("held at 1", RAMP, "min(1, beta * step / ramp)", "held at 1"),
    Wrong("steps from 1", RAMP, "beta * min(1, (step + 1) / ramp)", "count from 0"),
    Wrong("whole ramps", RAMP, "beta * min(1, step // ramp)", "rounds down"),
    Wrong("a falling curve", CURVE, CURVE.replace("-12", "12"), "it falls"),
    Wrong("middle at 0", CURVE, CURVE.replace(" - 0.5", ""), "at step 0"),
    Wrong("middle at the end", CURVE, CURVE.replace("0.5", "1"), "at `ramp`"),
    Wrong("no 12", CURVE, CURVE.replace("-12 * ", "-"), "12 is missing"),
    Wrong("no time at the top", CYCLE, "linear_beta(step % ramp, ramp, beta)", "as many steps"),
    Wrong("half a cycle", CYCLE, "linear_beta(2 * (step % ramp), ramp, beta)", "rising half"),
    Wrong("one cycle", CYCLE, "linear_beta(step, ramp, beta)", "never starts again"),
    Wrong("up and down", CYCLE, "beta * (1 - abs(1 - step / ramp % 2))", "comes down"),
    Wrong("max before the mean", FREE, "kl.clamp(min=floor).mean(dim=0).sum()", "comes after"),
    Wrong("one floor for all", FREE, "kl.mean(dim=0).sum().clamp(min=floor)", "against the sum"),
    Wrong("floor taken off", FREE, "(kl.mean(dim=0) - floor).clamp(min=0).sum()", "taken off"),
    Wrong("a ceiling", FREE, "kl.mean(dim=0).clamp(max=floor).sum()", "ceiling"),
    Wrong("mean over dimensions", FREE, "kl.mean(dim=0).clamp(min=floor).mean()", "add up"),
    Wrong("sum over the batch", FREE, "kl.sum(dim=0).clamp(min=floor).sum()", "prices are per image"),
    Wrong("no path back", FREE, "kl.detach().mean(dim=0).clamp(min=floor).sum()", "cuts the path"),
    Wrong("a number", FREE, f"float({FREE})", "cuts the path"),
    Wrong(
        "a gradient under the floor",
        FREE,
        "sum(k if k > floor else floor + k - k.detach() for k in kl.mean(0))",
        "The largest difference",
    ),
    Wrong("std for variance", ACTIVE, "int((mu.std(axis=0) > threshold).sum())", "standard deviation"),
    Wrong("over the dimensions", ACTIVE, "int((mu.var(axis=1) > threshold).sum())", "over the images"),
    Wrong("second moment", ACTIVE, "int(((mu**2).mean(axis=0) > threshold).sum())", "mean(mu^2)"),
    Wrong("inactive units", ACTIVE, "int((mu.var(axis=0) <= threshold).sum())", "inactive"),
    Wrong("threshold forgotten", ACTIVE, "int((mu.var(axis=0) > 0.01).sum())", "not used"),
    Wrong("divided by the pixels", EFFECTIVE, EFFECTIVE.replace("(pixels if", "(1 / pixels if"), "multiply the whole"),
    Wrong("times the latents", EFFECTIVE, EFFECTIVE.replace("(latent_dim if", "(1 / latent_dim if"), "cheaper"),
    Wrong("recon ignored", EFFECTIVE, '1 / (latent_dim if kl == "mean" else 1)', "recon is not looked at"),
    Wrong("KL ignored", EFFECTIVE, '(pixels if recon == "mean" else 1)', "kl is not looked at"),
)
