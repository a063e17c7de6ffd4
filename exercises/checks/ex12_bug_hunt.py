"""What exercise 12 asks for: each mistake named by the invariant that it breaks, and mended.

The name is tried on the program as it was given: the doctor's invariants on a small VAE that is right but for this
program, four invariants of this exercise on the program alone. The mended numbers are compared with the levels, with
SciPy or with autograd, and the named invariant must hold now.
"""

import functools
import importlib.util
import itertools
import types
from pathlib import Path

import numpy as np
import torch
from scipy import special, stats
from torch.nn import functional as F

import vae_numpy as right
from checks.judging import (
    LearnerError,
    Mismatch,
    agree,
    agree_on_cases,
    agree_on_each,
    gradients,
    numbers,
    show,
    to_numpy,
    values_of,
)
from vae_doctor.invariants import INVARIANTS, Exam, Fails, Skip
from vae_doctor.subject import Subject, SubjectError

# They hold the answers.
FORBIDDEN = ("vae_numpy", "vae_lowlevel", "conv_vae", "vae_models", "vae_measures", "vae_doctor")
STARTER = Path(__file__).parents[1] / "starter" / "ex12_bug_hunt.py"


@functools.cache
def given() -> types.ModuleType:
    """The programs as the learner got them."""
    spec = importlib.util.spec_from_file_location("the_programs_as_given", STARTER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- a small VAE that is right ------------------------------------------------------------------------------------


@functools.cache
def patient() -> tuple[dict, np.ndarray]:
    """encode and decode, linear, of 24 images (24, 1, 28, 28) that they fit; Z = 3."""
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.6, (3, 784))
    images = special.expit(rng.normal(size=(24, 3)) @ weight).reshape(24, 1, 28, 28)
    images = (np.rint(255 * images) / 255).astype(np.float32)  # bytes of a file

    def encode(x):
        mu = special.logit(x.reshape(len(x), 784).astype(np.float64).clip(1e-3, 0.999)) @ np.linalg.pinv(weight)
        return mu, -3 + 0.5 * np.tanh(mu)

    return dict(encode=encode, decode=lambda z: z @ weight), images


class Layers(list):
    """[(weight, bias), ...], which prints as its sizes."""

    ndim = 0  # no array: the layers differ in shape

    def __repr__(self):
        return " -> ".join(str(n) for n in (len(self[0][0]), *(len(bias) for _, bias in self)))


def layers_of(rng, sizes, width=1.0):
    return Layers((rng.normal(0, width, pair), rng.normal(0, width, pair[1])) for pair in itertools.pairwise(sizes))


def decoder(f):
    layers = layers_of(np.random.default_rng(1), (3, 5, 784), 3)
    return dict(decode=lambda z: f(layers, z)[0])


def vector_quantizer(f):
    codes = np.random.default_rng(2).normal(size=(4, 3))
    return dict(elbo_terms=lambda x, x_logits, mu, logvar: f(x, x_logits, mu[:, None], codes))


def penalized(f):
    penalty = f(5.0, 10)

    def elbo_terms(x, x_logits, mu, logvar):
        return right.bernoulli_recon(x, x_logits), penalty(right.gaussian_kl(mu, logvar), False)

    return dict(elbo_terms=elbo_terms)


def of_bytes(f):
    def elbo_terms(x, x_logits, mu, logvar):
        return f(np.rint(255 * x).astype(np.uint8), x_logits), right.gaussian_kl(mu, logvar)

    return dict(elbo_terms=elbo_terms)


TO_THE_DOCTOR = {  # program: what the doctor is given of it
    "sample_with_gradient": lambda f: dict(reparameterize=lambda mu, logvar, eps: f(mu, logvar, eps, eps)[0]),
    "training_terms": lambda f: dict(elbo_terms=lambda *terms: f(*terms)[1:]),
    "warmup_terms": lambda f: dict(elbo_terms=lambda *terms: f(*terms, 250)[1:]),
    "decode": decoder,
    "bytes_recon": of_bytes,
    "evaluate": lambda f: dict(elbo_terms=lambda *terms: f(*terms, 10)),
    "capacity": penalized,
    "mutual_information": lambda f: dict(mutual_information=lambda *terms: f(*terms)),
    "importance_bound": lambda f: dict(importance_bound=lambda log_w: f(log_w)),
    "vq_terms": vector_quantizer,
}

# --- four invariants of this exercise, which need one program alone -----------------------------------------------


def codes_of(seed):
    """z (5, 3) with a gradient, the order (5, 3) that mixes it, weights (3, 2) of a critic with a gradient."""
    torch_rng = torch.Generator().manual_seed(seed)
    z, weight = (torch.randn(shape, generator=torch_rng, dtype=torch.float64) for shape in ((5, 3), (3, 2)))
    order = torch.stack([torch.randperm(5, generator=torch_rng) for _ in range(3)], dim=1)
    return z.requires_grad_(), order, weight.requires_grad_()


def gradient_paths(f):
    """A loss sends gradients to what it trains, and to nothing else."""
    z, order, weight = codes_of(0)
    _, loss = f(z, order, lambda codes: codes**2 @ weight)
    reached = torch.autograd.grad(loss, z, allow_unused=True)[0]
    if reached is not None and reached.abs().max() > 0:
        raise Fails(f"the critic's loss has a gradient of {reached.abs().max():.3g} in z, which the encoder gets.")


def image_order(f):
    """A number about a set of images does not depend on their order."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 40)
    mu, order = rng.normal(size=(40, 2)) + labels[:, None], rng.permutation(40)
    one, other = to_numpy(f(mu, labels)), to_numpy(f(mu[order], labels[order]))
    if not np.allclose(one, other):
        raise Fails(f"the same images in another order give {show(other)}, not {show(one)}.")


def named_shares(f):
    """Below the point named p of a walk through quantiles lies the share p of the codes."""
    mu = np.random.default_rng(0).normal(1, 0.3, (200, 2))
    below = (mu[:, 1] < to_numpy(f(mu, 1, 7))[:, 1:]).mean(axis=1)
    if not np.abs(below - np.linspace(0.05, 0.95, 7)).max() < 0.01:
        raise Fails(f"below the points named 5 % and 95 % lie {below[0]:.0%} and {below[-1]:.0%} of the codes.")


def can_fail(f):
    """A check finds fault with what is wrong: there is an input that it refuses."""
    if not f(lambda x: (x**2).sum(), lambda x: 3 * x, np.ones(3)) > 0.1:
        raise Fails("a gradient half as large again as the right one shows no error.")


OWN = {
    "gradient-paths": gradient_paths,
    "image-order": image_order,
    "named-shares": named_shares,
    "can-fail": can_fail,
}
ASKED = {  # program: which of them
    "critic_losses": "gradient-paths",
    "label_information": "image-order",
    "quantile_walk": "named-shares",
    "gradient_error": "can-fail",
}

# --- does an invariant hold? --------------------------------------------------------------------------------------


def fault(program, f, invariant):
    """What `invariant` finds wrong with f as `program`, or ""."""
    try:
        if invariant in OWN:
            OWN[invariant](f)
        else:
            INVARIANTS[invariant](examined(program, f))
    except Fails as failure:
        return str(failure)
    except Skip:
        pass
    return ""


def examined(program, f):
    vae, images = patient()
    subject = Subject(program, **{**vae, **TO_THE_DOCTOR[program](f)})
    return Exam.of(subject, images, None, np.random.default_rng(0))


@functools.cache
def first_broken(program):
    """The first invariant, in the doctor's order, that the program breaks as it was given."""
    f = getattr(given(), program)
    names = [ASKED[program]] if program in ASKED else list(INVARIANTS)
    return next(name for name in names if fault(program, f, name))


@functools.cache
def breaks(program, invariant):
    """Whether the program as given breaks that invariant too."""
    if (invariant in OWN) != (program in ASKED) or (program in ASKED and invariant != ASKED[program]):
        return False
    return bool(fault(program, getattr(given(), program), invariant))


def instructions(function):
    """What a function's code is made of, without its place in the file; None for anything else."""

    def of(code):
        inner = tuple(of(value) if isinstance(value, types.CodeType) else repr(value) for value in code.co_consts)
        return code.co_code, code.co_names, code.co_varnames, inner

    return of(function.__code__) if isinstance(function, types.FunctionType) else None


def diagnosed(work, program):
    """Raise Mismatch unless DIAGNOSIS names the invariant that the program broke as it was given."""
    answers, where = getattr(work.module, "DIAGNOSIS", None), f'DIAGNOSIS["{program}"]'
    if not isinstance(answers, dict):
        raise Mismatch("There is no dictionary DIAGNOSIS in your file: keep it as the starter has it.")
    said = answers.get(program)
    if said is None or said == "":
        raise Mismatch(f"{where} is not yet written: which invariant does {program} break?", read="symptoms")
    if not isinstance(said, str) or said not in {**INVARIANTS, **OWN}:
        raise Mismatch(where, "the name of an invariant, as the page lists them", repr(said), read="the-invariants")
    if said == first_broken(program):
        if instructions(getattr(work.module, program, None)) == instructions(getattr(given(), program)):
            found = f"On a small model, {fault(program, getattr(given(), program), said)}"
            raise Mismatch(
                f"{program} breaks {said}, as you say. Now mend it: it is still as you got it.", mistake=found
            )
        return
    likely = "That invariant has nothing against the program as it was given: try it on the starter's."
    if breaks(program, said):
        likely = "It fails as well, but an earlier one does: name the first that fails, later ones may follow from it."
    raise Mismatch(where, "the invariant that fails first", repr(said), likely, "the-invariants")


def holds(work, program):
    """Raise Mismatch unless the invariant that was broken holds for the learner's program."""
    name = first_broken(program)
    try:
        found = fault(program, functools.partial(work.call, program), name)
    except (SubjectError, AttributeError, TypeError, IndexError, ValueError, LearnerError) as error:
        found = f"it cannot be examined: {error}"
    if found:
        raise Mismatch(f"{program} still breaks {name}: {found}", read="the-invariants")


def program(compare):
    """The part of a program, whose name is the docstring: diagnosed, compared as `compare` does, then examined."""

    @functools.wraps(compare)
    def part(work, rng):
        diagnosed(work, compare.__doc__)
        compare(work, rng)
        holds(work, compare.__doc__)

    return part


# --- the programs -------------------------------------------------------------------------------------------------


def posteriors(rng, **more):
    """Cases {mu, logvar} and what `more` draws of their shape: odd batches, B = 1, Z = 1, wide and far ones."""
    for dtype in (np.float64, np.float32):
        for B, Z, width in ((5, 3, 1), (1, 4, 2), (7, 1, 1), (3, 9, 2)):
            yield {
                name: (size * rng.normal(size=(B, Z))).astype(dtype)
                for name, size in (("mu", width), ("logvar", width), *more.items())
            }


def pictures(rng, **more):
    """Cases {x, x_logits, mu, logvar}, grey, with logits up to hundreds, and `more` to each."""
    for case in posteriors(rng):
        shape, dtype = (len(case["mu"]), 1, 4, 3), case["mu"].dtype
        size = 100 if len(case["mu"]) == 3 else 2
        x = dict(x=rng.random(shape).astype(dtype), x_logits=(size * rng.normal(size=shape)).astype(dtype))
        yield dict(x, **case, **{name: draw() for name, draw in more.items()})


@program
def part_sample(work, rng):
    """sample_with_gradient"""

    def sample(mu, logvar, eps, grad):
        leaf = torch.from_numpy(logvar).requires_grad_()
        z = torch.from_numpy(mu) + torch.exp(leaf / 2) * torch.from_numpy(eps)
        (d_logvar,) = torch.autograd.grad(z, leaf, torch.from_numpy(grad))
        return right.reparameterize(mu, logvar, eps), grad, d_logvar

    def mistakes(y, mu, logvar, eps, grad):
        std = np.exp(logvar / 2)
        of_old = "z is right now, but its gradient is still that of the old z: d std / d logvar = std / 2."
        return {}, {}, {of_old: (grad * eps * std**2, grad * eps * std, grad * eps * std**2 / 2)}

    names, cases = ("z", "dL/dmu", "dL/dlogvar"), posteriors(rng, eps=1, grad_z=2)
    agree_on_each(names, "sample_with_gradient", work.sample_with_gradient, sample, cases, mistakes, "symptoms")


KL_FIRST = (1, 2, 0)


@program
def part_training_terms(work, rng):
    """training_terms"""

    def terms(x, x_logits, mu, logvar):
        recon, kl = right.bernoulli_recon(x, x_logits), right.gaussian_kl(mu, logvar)
        return recon + kl, recon, kl

    def mistakes(y, x, x_logits, mu, logvar):
        _, recon, kl = y
        log_alone = (
            "The log is right now, and the training is wrong: the loss subtracts a KL that is no longer negative."
        )
        return {log_alone: recon - kl}, {}, {"A clip at 0 hides every KL: its sign is wrong, not its size.": 0 * kl}

    names = "the loss", "recon", "kl"
    agree_on_each(names, "training_terms", work.training_terms, terms, pictures(rng), mistakes, "symptoms", KL_FIRST)


@program
def part_warmup_terms(work, rng):
    """warmup_terms"""
    steps = iter((0, 1, 7, 3, 20, 11, 10, 5))
    cases = list(pictures(rng, step=lambda: next(steps), warmup=lambda: int(rng.integers(8, 13))))
    cases += [dict(case, step=int(rng.integers(400, 1001))) for case in pictures(rng)]  # the default

    def terms(x, x_logits, mu, logvar, step, warmup=1000):
        recon, kl = right.bernoulli_recon(x, x_logits), right.gaussian_kl(mu, logvar)
        return recon + min(1, step / warmup) * kl, recon, kl

    def mistakes(y, x, x_logits, mu, logvar, step, warmup=1000):
        (_, recon, kl), weight = y, min(1, step / warmup)
        no_warmup = "The log is right now, but nothing warms up any more: the objective keeps its weight."
        weighted = "The KL in the log still has its weight: it starts at 0 whatever the model does."
        return {no_warmup: recon + kl}, {}, {weighted: weight * kl}

    names = "the objective", "recon", "kl"
    agree_on_each(names, "warmup_terms", work.warmup_terms, terms, cases, mistakes, "symptoms", KL_FIRST)


@program
def part_decode(work, rng):
    """decode"""
    cases = []
    for B, sizes in ((5, (3, 4, 6)), (1, (1, 2, 5, 7)), (3, (2, 5))):
        layers = layers_of(rng, sizes)
        layers[-1][1][:2] = 60, -60  # sure of white, of black: 1 - sigmoid(60) is 0 in float64
        cases.append(dict(layers=layers, z=rng.normal(size=(B, sizes[0]))))

    def decode(layers, z, between=special.expit):
        *hidden, (last, last_bias) = layers
        for weight, bias in hidden:
            z = between(z @ weight + bias)
        x_logits = z @ last + last_bias
        return x_logits, special.expit(x_logits)

    def mistakes(y, layers, z):
        _, x_mean = y
        still = "Still probabilities, from 0 to 1: the loss takes the sigmoid once more."
        linear = "The sigmoid is gone from the layers before as well; without it they are one linear map."
        return {still: x_mean, linear: decode(layers, z, between=lambda h: h)[0]}, {}

    agree_on_each(("x_logits", "x_mean"), "decode", work.decode, decode, cases, mistakes, "symptoms")


@program
def part_bytes_recon(work, rng):
    """bytes_recon"""
    cases = []
    for dtype, B in ((np.float64, 5), (np.float32, 3), (np.float64, 1)):
        pixels = rng.integers(0, 256, (B, 1, 4, 5)).astype(np.uint8)
        pixels.flat[:2] = 0, 255
        cases.append(dict(pixels=pixels, x_logits=rng.normal(0, 2, pixels.shape).astype(dtype)))

    def recon(pixels, x_logits):
        return right.bernoulli_recon(pixels.astype(x_logits.dtype) / 255, x_logits)

    def mistakes(y, pixels, x_logits):
        x = pixels.astype(x_logits.dtype)

        def of(x):
            return right.bernoulli_recon(x, x_logits)

        return {
            "The pixels still run from 0 to 255: a Bernoulli's x lies in [0, 1].": of(x),
            "Clipped to [0, 1] the floor holds, but every pixel that is not black is white.": of(x.clip(0, 1)),
        }

    # 5e-5: some logits are float32, whatever the answer is
    agree_on_cases("bytes_recon", work.bytes_recon, recon, cases, mistakes, "symptoms", rel=5e-5)


@program
def part_evaluate(work, rng):
    """evaluate"""
    cases = []
    for B, batch in ((7, 3), (6, 2), (1, 5), (5, 5), (26, None), (55, None)):
        mu, logvar = rng.normal(size=(2, B, 2))
        x, x_logits = rng.random((B, 1, 3, 3)), 2 * rng.normal(size=(B, 1, 3, 3))
        cases.append(dict(x=x, x_logits=x_logits, mu=mu, logvar=logvar, **({"batch": batch} if batch else {})))

    def evaluate(x, x_logits, mu, logvar, batch=25):
        return right.bernoulli_recon(x, x_logits).mean(), right.gaussian_kl(mu, logvar).mean()

    def of_term(values, batch):
        N, parts = len(values), [values[i : i + batch] for i in range(0, len(values), batch)]
        return {
            "Only the first batch is seen: the loop ends in its first round.": parts[0].sum() / N,
            "The mean of means gives the images of a short last batch more weight.": np.mean(
                [part.mean() for part in parts]
            ),
            "The last, shorter batch is left out.": values[: N // batch * batch].sum() / N,
        }

    def mistakes(y, x, x_logits, mu, logvar, batch=25):
        return of_term(right.bernoulli_recon(x, x_logits), batch), of_term(right.gaussian_kl(mu, logvar), batch)

    agree_on_each(("recon", "kl"), "evaluate", work.evaluate, evaluate, cases, mistakes, "symptoms")


@program
def part_capacity(work, rng):
    """capacity"""
    for most, steps in ((float(rng.uniform(3, 30)), 4), (float(rng.uniform(3, 30)), 7)):
        training = [False, True, True, False, False, *[bool(n) for n in rng.integers(0, 2, 9)], True, True, False, True]
        kls = [rng.uniform(0, 30, 5) for _ in training]
        answer = types.SimpleNamespace(penalty=work.capacity(most, steps))
        came = np.stack([penalty(work, answer, *call) for call in zip(kls, training, strict=True)])
        now = np.array(training)[:, None]

        def penalties(counted, late=0, of=np.abs, kls=kls, most=most, steps=steps):
            return of(kls - most * np.minimum(1, (np.cumsum(counted, axis=0) - late) / steps))

        exact = penalties(now)
        mistakes = {
            "The counter still advances in validation.": penalties(now | True),
            "C never grows now: training has to advance the counter.": penalties(now & False),
            "The first training step has C = 0 here; step n has most n / steps, from 1 on.": penalties(now, late=now),
            "A KL below C is penalised as well: |kl - C|.": penalties(now, of=lambda gap: np.maximum(gap, 0)),
        }
        what = f"penalty(kl (5,), training) of capacity({most:.3g}, {steps}), {len(kls)} calls in a row"
        agree(what, came, exact, mistakes=mistakes, read="symptoms")


def penalty(work, answer, kl, training):
    found = numbers("penalty(kl, training)", work.call_method(answer, "penalty", kl, training))
    if found.shape != kl.shape:
        raise Mismatch("penalty(kl, training)", f"shape {kl.shape}, as kl has it", f"shape {found.shape}")
    return found


@program
def part_mutual_information(work, rng):
    """mutual_information"""
    cases = []
    for N, Z, narrow in ((7, 3, 1), (12, 1, 0), (5, 5, 1), (9, 2, -1)):
        mu, logvar = rng.normal(size=(N, Z)), narrow + rng.normal(size=(N, Z))
        cases.append(dict(z=mu + np.exp(logvar / 2) * rng.normal(size=(N, Z)), mu=mu, logvar=logvar))

    def information(z, mu, logvar, axis=1):
        log_q = stats.norm.logpdf(z[:, None], mu, np.exp(logvar / 2)).sum(axis=2)  # of z_i under q(z|x_n): (N, N)
        return (log_q.diagonal() - special.logsumexp(log_q, axis=axis) + np.log(len(z))).mean()

    def mistakes(y, z, mu, logvar):
        Z, ln_N = z.shape[1], np.log(len(z))
        too_often = y + (Z - 1) * ln_N
        return {
            "ln N is still subtracted once for each latent; an image has one weight 1/N, however many latents it "
            "has.": too_often,
            "A clip at ln N hides what is wrong: below the bound the number is as wrong as before.": min(
                too_often, ln_N
            ),
            "The mixture is one over the N posteriors, for each code.": information(z, mu, logvar, axis=0),
        }

    # 1e-8: log q of a code far out is some hundred nats, and differs by rounding between the ways to write it
    agree_on_cases("mutual_information", work.mutual_information, information, cases, mistakes, "symptoms", rel=1e-8)


@program
def part_importance_bound(work, rng):
    """importance_bound"""
    cases = []
    for dtype in (np.float64, np.float32):
        for B, K, level, width in ((5, 7, -90, 3), (3, 1, -90, 3), (4, 3, -2000, 40), (1, 5, 800, 5)):
            cases.append(dict(log_w=(level + width * rng.normal(size=(B, K))).astype(dtype)))

    def bound(log_w):
        return special.logsumexp(log_w, axis=1) - np.log(log_w.shape[1])

    def mistakes(y, log_w):
        return {
            "Still the wrong way round: the worst sample has the largest weight.": -bound(-log_w),
            "The mean of the logarithms is the ELBO for every K: in the right order, and not L_K.": log_w.mean(axis=1),
        }

    agree_on_cases("importance_bound", work.importance_bound, bound, cases, mistakes, "symptoms")


@program
def part_vq_terms(work, rng):
    """vq_terms"""
    cases = []
    for B, L, D, K, commitment in ((5, 3, 2, 4, 0.7), (1, 2, 3, 5, 0.1), (3, 4, 1, 2, None), (4, 1, 2, 3, None)):
        x, x_out = rng.normal(size=(2, B, 1, 3, 2))
        case = dict(x=x, x_out=x_out, h=rng.normal(size=(B, L, D)), codes=rng.normal(size=(K, D)))
        cases.append(dict(case, **({"commitment": commitment} if commitment else {})))

    def terms(x, x_out, h, codes, commitment=0.25):
        to_nearest = ((h[:, :, None] - codes) ** 2).sum(axis=3).min(axis=2)  # (B, L)
        return ((x - x_out) ** 2).sum() / len(x), (1 + commitment) * to_nearest.sum() / len(x)

    def mistakes(y, x, x_out, h, codes, commitment=0.25):
        (recon, vq), (B, L, D) = y, h.shape
        summed = "It is a sum over the batch: with twice the images it is twice as large."
        averaged = "The mean over positions and channels too, where recon is a sum over an image."
        return {summed: recon * B}, {summed: vq * B, averaged: (vq / (L * D), vq / L)}

    agree_on_each(("recon", "vq"), "vq_terms", work.vq_terms, terms, cases, mistakes, "symptoms")


@program
def part_critic_losses(work, rng):
    """critic_losses"""
    names, name = ("tc", "the critic's loss"), "critic_losses"
    for _ in range(3):
        z, order, weight = codes_of(int(rng.integers(2**31)))
        bias = torch.zeros(2, dtype=torch.float64, requires_grad=True)

        def of(function, z=z, order=order, weight=weight, bias=bias):
            return losses(z, order, weight, bias, function)

        found = of(lambda *given: values_of(names, name, work.critic_losses(*given)))
        exact, changed = of(critics(torch.detach, torch.detach)), of(critics(same, torch.detach))
        asked = {
            "tc": {},
            "the critic's loss": {},
            "d tc / dz, which trains the encoder": {
                "The encoder gets no gradient of tc any more: tc needs z itself, undetached.": np.zeros((5, 3)),
            },
            "d loss / dz, which must not train the encoder": {
                "The critic's loss still reaches the encoder, through the critic's answer to z; the encoder learns to "
                "betray itself.": changed[3],
                "It reaches the encoder through the mixed codes.": (
                    of(critics(torch.detach, same))[3],
                    of(critics(same, same))[3],
                ),
            },
            "d loss / d weights, which trains the critic": {
                "The critic learns from the mixed codes alone: z is to be detached, not the critic's answer to it.": (
                    of(critics(same, torch.detach, torch.detach))[4]
                ),
            },
            "d loss / d bias, which trains the critic": {},
        }
        for (what, mistakes), got, expected in zip(asked.items(), found, exact, strict=True):
            agree(f"{what}, of {name}", got, expected, mistakes=mistakes, read="symptoms")


def losses(z, order, weight, bias, function):
    """tc, loss, d tc / dz, d loss / dz, d loss / dweight, d loss / dbias of `function`."""
    tc, loss = function(z, order, lambda codes: codes**2 @ weight + codes[:, :1] * weight[0] + bias)
    for value in (tc, loss):
        if not torch.is_tensor(value) or value.ndim:
            raise Mismatch("critic_losses returns two tensors of one number each, as in the starter.")
    of_tc, of_loss = (gradients(what, value, (z, weight, bias)) for what, value in (("tc", tc), ("the loss", loss)))
    return (tc, loss, of_tc[0], *of_loss)


def critics(for_z, for_mixed, after=lambda answer: answer):
    """critic_losses with z changed by `for_z` and `for_mixed` on its two ways to the critic, its answer by `after`."""

    def function(z, order, critic):
        joint, labels = critic(z), torch.zeros(len(z), dtype=torch.long)
        loss = F.cross_entropy(after(critic(for_z(z))), labels)
        loss = loss + F.cross_entropy(critic(for_mixed(z).gather(0, order)), labels + 1)
        return (joint[:, 0] - joint[:, 1]).mean(), loss / 2

    return function


def same(z):
    return z


def entropy(*columns):
    """Of the rows' frequencies, in nats."""
    _, counts = np.unique(np.stack(columns), axis=1, return_counts=True)
    return stats.entropy(counts)


def told(codes, labels, bins=8):
    """I = H(bin) + H(label) - H(bin, label), for each column of codes (N, Z)."""
    columns = []
    for column in codes.T:
        place = (np.quantile(column, np.arange(1, bins) / bins)[:, None] < column).sum(axis=0)
        columns.append(entropy(place) + entropy(labels) - entropy(place, labels))
    return np.array(columns)


@program
def part_label_information(work, rng):
    """label_information"""
    cases = []
    for N, Z, classes, bins in ((37, 3, 4, 5), (50, 1, 2, 3), (41, 4, 3, None), (23, 2, 5, None)):
        labels = rng.integers(0, classes, N)
        mu = rng.normal(size=(N, Z)) + labels[:, None] * rng.random(Z)
        cases.append(dict(mu=mu, labels=labels, **({"bins": bins} if bins else {})))

    def mistakes(y, mu, labels, bins=8):
        Z = mu.shape[1]
        return {
            "reshape and view read the numbers row by row and cut them anew: such a row holds codes of all latents.": (
                told(mu.reshape(Z, -1).T, labels, bins),
                told(mu.reshape(Z, -1, order="F").T, labels, bins),
            ),
            "The codes are sorted, and the labels are not: pairs are lost.": told(np.sort(mu, axis=0), labels, bins),
        }

    agree_on_cases("label_information", work.label_information, told, cases, mistakes, "symptoms")


@program
def part_quantile_walk(work, rng):
    """quantile_walk"""
    cases = []
    for N, Z, dim, steps in ((41, 3, 1, 5), (30, 1, 0, 9), (57, 4, -1, None), (23, 2, 0, None)):
        mu = rng.normal(size=Z) + rng.gamma(1.5, size=(N, Z))  # skewed, and not around 0
        cases.append(dict(mu=mu, dim=dim, **({"steps": steps} if steps else {})))

    def walk(mu, dim, steps=7):
        z = np.tile(mu.mean(axis=0), (steps, 1))
        z[:, dim] = [np.quantile(mu[:, dim], share) for share in np.linspace(0.05, 0.95, steps)]
        return z

    def mistakes(y, mu, dim, steps=7):
        codes, shares = mu[:, dim], np.linspace(0.05, 0.95, steps)
        mean, std, prior = codes.mean(), codes.std(), stats.norm.ppf(shares)

        def through(points):
            z = y.copy()
            z[:, dim] = points
            return z

        return {
            "These are quantiles of the prior N(0, 1), wherever the codes are.": through(prior),
            "Quantiles of a Gaussian with the codes' mean and spread: the codes need not be Gaussian.": (
                through(mean + std * prior),
                through(mean + codes.std(ddof=1) * prior),
            ),
        }

    agree_on_cases("quantile_walk", work.quantile_walk, walk, cases, mistakes, "symptoms")


@program
def part_gradient_error(work, rng):
    """gradient_error"""
    for shape, more in (((3, 2), ()), ((5,), (1e-3,)), ((1, 1), ()), ((2, 1, 3), (1e-4,))):
        x, a = rng.normal(size=(2, *shape))
        step = more[0] if more else 1e-5

        def loss(x, a=a):
            return (a * np.exp(x)).sum()

        def slope(x, a=a):
            return a * np.exp(x)

        def ask(gradient, loss=loss, x=x, more=more):
            return work.gradient_error(loss, gradient, x, *more)

        central, forward = slope(x) * np.sinh(step) / step, slope(x) * np.expm1(step) / step
        one_wrong = slope(x)
        one_wrong.flat[-1] += rng.choice((-1, 1)) * rng.uniform(1, 2)
        for what, wrong in (("a gradient with one wrong entry", one_wrong), ("half of the gradient", slope(x) / 2)):
            error, largest = np.abs(central - wrong), np.abs(central).max()
            mistakes = {
                "No error, whatever gradient it is given: np.asarray makes no copy, so the differences are written "
                "into the gradient itself, which is then compared with itself.": 0.0,
                "A difference to one side; central is loss(x + h) - loss(x - h), over 2 step.": (
                    np.abs(forward - wrong).max() / np.abs(forward).max()
                ),
            }
            # 1e-6: the differences are of numbers near 1 to 10, rounded to 1e-15, and divided by 2e-5
            got, exact = ask(lambda x, w=wrong: w.copy()), error.max() / largest
            agree(f"gradient_error of {what}", got, exact, mistakes=mistakes, read="symptoms", rel=1e-6)
        found = ask(slope)
        if not 0 <= float(found) < 1e-4:
            likely = "The right gradient must have hardly any: are the differences central, and divided by 2 step?"
            raise Mismatch("gradient_error of the right gradient", "an error near 0", show(found), likely, "symptoms")


HINTS = (
    "Before any line of code: which number in the program's row of the table cannot be, for any correct program? The "
    "invariant that forbids it is the name, unless an earlier one is broken too. Ask the doctor, as the task shows.",
    "sample_with_gradient: what is the spread of z where logvar is 2? A gradient check compares two things of the same "
    "program; both may be of the wrong one. After the mend the gradient has to follow: d std / d logvar = std / 2.",
    "training_terms: two signs cancel in the loss, so training is right. Turn both, or neither.",
    "warmup_terms: the weight belongs to what is minimised. What is logged is compared with other runs: no weight.",
    "decode: print x_logits.min() and max(). Which layer should have no sigmoid?",
    "bytes_recon: print x.max().",
    "evaluate: after how many images does it answer? Then mind the last batch: sum over images, divide once by their "
    "number.",
    "capacity: which calls may change what the next call answers?",
    "mutual_information: 1/N is the weight of an image, of which there is one per row (N, N), not one per latent.",
    "importance_bound: with the log-weights -100 and -1, which of the two should decide? exp(-log_w) says another.",
    "vq_terms: give it every image twice. recon stays, and vq?",
    "critic_losses: follow z to the loss. There are two ways to the critic; the one to tc must stay open, the one to "
    "the loss must be cut before the critic, not after.",
    "label_information: np.arange(6).reshape(3, 2), then .T and .reshape(2, 3) of it.",
    "quantile_walk: quantiles of which distribution?",
    "gradient_error: np.asarray(a) is a, if that is an array.",
)
