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
from doctor_invariants import INVARIANTS, Exam, Fails, Skip
from doctor_subject import Subject, SubjectError
from scipy import special, stats
from torch.nn import functional as F

import vae_numpy as right
from checks.judging import LearnerError, Mismatch, Wrong, agree, agree_on_cases, numbers, show, to_numpy

FORBIDDEN = (
    *("vae_numpy", "vae_lowlevel", "conv_vae", "beta_vae", "iwae", "vq_vae"),  # they hold the answers
    *("mutual_information", "disentanglement", "doctor", "doctor_invariants", "doctor_subject"),
)
PAGE = "12_bug_hunt.md"
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
    said, read = answers.get(program), f"{PAGE}#the-invariants"
    if said is None or said == "":
        raise Mismatch(f"{where} is not yet written: which invariant does {program} break?", read=f"{PAGE}#symptoms")
    if not isinstance(said, str) or said not in {**INVARIANTS, **OWN}:
        raise Mismatch(where, "the name of an invariant, as the page lists them", repr(said), read=read)
    if said == first_broken(program):
        if instructions(getattr(work.module, program, None)) == instructions(getattr(given(), program)):
            raise Mismatch(f"{program} breaks {said}, as you say. Now mend it: it is still as you got it.")
        return
    likely = "That invariant has nothing against the program as it was given: try it on the starter's."
    if breaks(program, said):
        likely = "It fails as well, but an earlier one does: name the first that fails, later ones may follow from it."
    raise Mismatch(where, "the invariant that fails first", repr(said), likely, read)


def holds(work, program):
    """Raise Mismatch unless the invariant that was broken holds for the learner's program."""
    name = first_broken(program)
    try:
        found = fault(program, functools.partial(work.call, program), name)
    except (SubjectError, AttributeError, TypeError, IndexError, ValueError, LearnerError) as error:
        found = f"it cannot be examined: {error}"
    if found:
        raise Mismatch(f"{program} still breaks {name}: {found}", read=f"{PAGE}#the-invariants")


def one_of(work, program, index, count):
    """The learner's program as a function that answers with one of the `count` values that it returns."""

    def function(*args):
        answer = work.call(program, *args)
        if not isinstance(answer, tuple | list) or len(answer) != count:
            raise Mismatch(f"{program} returns {count} values, as in the starter; yours returns another answer.")
        return answer[index]

    return function


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


def part_sample(work, rng):
    """sample_with_gradient"""
    name = "sample_with_gradient"
    diagnosed(work, name)
    cases = list(posteriors(rng, eps=1, grad_z=2))
    mistakes = {
        "The noise is multiplied by exp(logvar), which is std^2: its spread is right only where std is 1.": (
            lambda mu, logvar, eps, grad: mu + np.exp(logvar) * eps
        ),
        "The noise is not used: z is mu.": lambda mu, logvar, eps, grad: mu,
        "logvar itself is no spread, and may be negative.": lambda mu, logvar, eps, grad: mu + logvar * eps,
    }
    agree_on_cases(f"z of {name}", one_of(work, name, 0, 3), sample, cases, mistakes=mistakes, read=f"{PAGE}#symptoms")
    agree_on_cases(f"dL/dmu of {name}", one_of(work, name, 1, 3), lambda mu, logvar, eps, grad: grad, cases)
    mistakes = {
        "z is right now, but its gradient is still that of the old z: d std / d logvar = std / 2.": (
            lambda mu, logvar, eps, grad: grad * eps * np.exp(logvar),
            lambda mu, logvar, eps, grad: grad * eps * np.exp(logvar / 2),
            lambda mu, logvar, eps, grad: grad * eps * np.exp(logvar) / 2,
        ),
    }
    gradient = one_of(work, name, 2, 3)
    agree_on_cases(f"dL/dlogvar of {name}", gradient, gradient_of_logvar, cases, mistakes=mistakes)
    holds(work, name)


def sample(mu, logvar, eps, grad):
    return right.reparameterize(mu, logvar, eps)


def gradient_of_logvar(mu, logvar, eps, grad):
    logvar = torch.from_numpy(logvar).requires_grad_()
    z = torch.from_numpy(mu) + torch.exp(logvar / 2) * torch.from_numpy(eps)
    return torch.autograd.grad(z, logvar, torch.from_numpy(grad))[0]


def recon(x, x_logits, *_):
    return right.bernoulli_recon(x, x_logits)


def kl(x, x_logits, mu, logvar, *_):
    return right.gaussian_kl(mu, logvar)


def part_training_terms(work, rng):
    """training_terms"""
    name, cases = "training_terms", list(pictures(rng))
    diagnosed(work, name)
    mistakes = {
        "The KL is still negative: its bracket has the wrong sign.": lambda *case: -kl(*case),
        "A clip at 0 makes 0 of every KL: its sign is wrong, not its size.": lambda *case: 0 * kl(*case),
    }
    agree_on_cases(f"recon of {name}", one_of(work, name, 1, 3), recon, cases)
    agree_on_cases(f"kl of {name}", one_of(work, name, 2, 3), kl, cases, mistakes=mistakes)
    mistakes = {
        "The log is right now, and the training is wrong: the loss subtracts a KL that is no longer negative.": (
            lambda *case: recon(*case) - kl(*case)
        ),
        "The KL is missing.": recon,
    }
    loss = one_of(work, name, 0, 3)
    agree_on_cases(f"the loss of {name}", loss, lambda *case: recon(*case) + kl(*case), cases, mistakes=mistakes)
    holds(work, name)


def weighted(x, x_logits, mu, logvar, step, warmup=1000, power=1):
    return recon(x, x_logits) + min(1, step / warmup) ** power * kl(x, x_logits, mu, logvar)


def part_warmup_terms(work, rng):
    """warmup_terms"""
    name, steps = "warmup_terms", iter((0, 1, 7, 3, 20, 11, 10, 5))
    diagnosed(work, name)
    cases = list(pictures(rng, step=lambda: next(steps), warmup=lambda: int(rng.integers(8, 13))))
    cases += [dict(case, step=int(rng.integers(400, 1001))) for case in pictures(rng)]  # the default
    mistakes = {
        "The KL in the log still has its weight: it starts at 0 whatever the model does.": (
            lambda x, x_logits, mu, logvar, step, warmup=1000: min(1, step / warmup) * right.gaussian_kl(mu, logvar)
        ),
    }
    agree_on_cases(f"recon of {name}", one_of(work, name, 1, 3), recon, cases)
    agree_on_cases(f"kl of {name}", one_of(work, name, 2, 3), kl, cases, mistakes=mistakes)
    mistakes = {
        "The log is right now, but nothing warms up any more: the objective keeps its weight.": (
            lambda *case: recon(*case) + kl(*case)
        ),
        "The weight is at recon; the KL is what warms up.": lambda x, x_logits, mu, logvar, step, warmup=1000: (
            min(1, step / warmup) * recon(x, x_logits) + right.gaussian_kl(mu, logvar)
        ),
        "The weight is in the objective twice.": functools.partial(weighted, power=2),
    }
    agree_on_cases(f"the objective of {name}", one_of(work, name, 0, 3), weighted, cases, mistakes=mistakes)
    holds(work, name)


def through(layers, z, last=lambda h: h):
    for weight, bias in layers[:-1]:
        z = special.expit(z @ weight + bias)
    return last(z @ layers[-1][0] + layers[-1][1])


def inverse_of_sigmoid(layers, z):
    with np.errstate(all="ignore"):
        x_mean = special.expit(through(layers, z))
        return np.log(x_mean) - np.log(1 - x_mean)


def part_decode(work, rng):
    """decode"""
    name, cases = "decode", []
    diagnosed(work, name)
    for B, sizes in ((5, (3, 4, 6)), (1, (1, 2, 5, 7)), (3, (2, 5))):
        layers = layers_of(rng, sizes)
        layers[-1][1][:2] = 60, -60  # sure of white, of black: 1 - sigmoid(60) is 0 in float64
        cases.append(dict(layers=layers, z=rng.normal(size=(B, sizes[0]))))
    twice, once = functools.partial(through, last=special.expit), special.expit
    mistakes = {
        "Still probabilities, from 0 to 1: the loss takes the sigmoid once more.": twice,
        "The sigmoid is gone from the layers before as well; without it they are one linear map.": linear,
        "The logarithm of a probability is not its logit: it is never above 0.": lambda layers, z: special.log_expit(
            through(layers, z)
        ),
        "A sigmoid and then its inverse: a probability that is rounded to 1 has the logit inf. Leave both out.": (
            inverse_of_sigmoid
        ),
    }
    logits = one_of(work, name, 0, 2)
    agree_on_cases(f"x_logits of {name}", logits, through, cases, mistakes=mistakes, read=f"{PAGE}#symptoms")
    mistakes = {
        "The picture has no sigmoid now: it is x_logits.": through,
        "The picture has its sigmoid twice: grey on grey.": lambda layers, z: once(twice(layers, z)),
    }
    agree_on_cases(f"x_mean of {name}", one_of(work, name, 1, 2), twice, cases, mistakes=mistakes)
    holds(work, name)


def linear(layers, z):
    for weight, bias in layers:
        z = z @ weight + bias
    return z


def part_bytes_recon(work, rng):
    """bytes_recon"""
    name, cases = "bytes_recon", []
    diagnosed(work, name)
    for dtype, B in ((np.float64, 5), (np.float32, 3), (np.float64, 1)):
        pixels = rng.integers(0, 256, (B, 1, 4, 5)).astype(np.uint8)
        pixels.flat[:2] = 0, 255
        cases.append(dict(pixels=pixels, x_logits=rng.normal(0, 2, pixels.shape).astype(dtype)))

    def of(change, after=1):
        return lambda pixels, x_logits: right.bernoulli_recon(change(pixels.astype(x_logits.dtype)), x_logits) / after

    mistakes = {
        "The pixels still run from 0 to 255: a Bernoulli's x lies in [0, 1].": of(lambda x: x),
        "White is 255, so that is what to divide by: with 256 no pixel is white.": of(lambda x: x / 256),
        "Clipped to [0, 1] every pixel that is not black is white: the floor holds, and the images are others.": (
            of(lambda x: x.clip(0, 1))
        ),
        "The threshold makes other images: grey is asked for.": (of(lambda x: x > 127), of(lambda x: np.rint(x / 255))),
        "Whole-number division makes 0 of every grey: / instead of //.": of(lambda x: x // 255),
        "The mistake is in the pixels; recon divided by 255 is still of pixels outside [0, 1].": of(lambda x: x, 255),
    }
    answer = functools.partial(work.call, name)
    # 5e-5: some logits are float32, whatever the answer is
    agree_on_cases(name, answer, of(lambda x: x / 255), cases, mistakes=mistakes, read=f"{PAGE}#symptoms", rel=5e-5)
    holds(work, name)


def part_evaluate(work, rng):
    """evaluate"""
    name, cases = "evaluate", []
    diagnosed(work, name)
    for B, batch in ((7, 3), (6, 2), (1, 5), (5, 5), (26, None), (55, None)):
        mu, logvar = rng.normal(size=(2, B, 2))
        x, x_logits = rng.random((B, 1, 3, 3)), 2 * rng.normal(size=(B, 1, 3, 3))
        cases.append(dict(x=x, x_logits=x_logits, mu=mu, logvar=logvar, **({"batch": batch} if batch else {})))
    agree_on_cases(f"recon of {name}", one_of(work, name, 0, 2), mean(recon), cases, mistakes=parts_of(recon))
    agree_on_cases(f"kl of {name}", one_of(work, name, 1, 2), mean(kl), cases, mistakes=parts_of(kl))
    holds(work, name)


def mean(term):
    return lambda x, x_logits, mu, logvar, batch=25: term(x, x_logits, mu, logvar).mean()


def parts_of(term):
    def cut(combine):
        def function(x, x_logits, mu, logvar, batch=25):
            values = term(x, x_logits, mu, logvar)
            return combine(values, [values[i : i + batch] for i in range(0, len(values), batch)], batch)

        return function

    return {
        "Only the first batch is seen: the loop ends in its first round.": cut(lambda v, b, n: b[0].sum() / len(v)),
        "The mean of the first batch is not the test set's: the other images count too.": cut(
            lambda v, b, n: b[0].mean()
        ),
        "The mean of the batches' means gives the images of a short last batch more weight.": cut(
            lambda v, b, n: np.mean([part.mean() for part in b])
        ),
        "The sum is divided by the number of batches; these are means over the images.": cut(
            lambda v, b, n: v.sum() / len(b)
        ),
        "The last batch is not full, and dividing by full ones counts too many images.": cut(
            lambda v, b, n: v.sum() / (n * len(b))
        ),
        "Every batch holds all images: the sum has each of them several times.": cut(
            lambda v, b, n: v.sum() * len(b) / len(v)
        ),
        "The sum over all images is divided by the size of a batch, not by their number.": cut(
            lambda v, b, n: v.sum() / n
        ),
        "The last, shorter batch is left out.": cut(
            lambda v, b, n: np.sum([part.sum() for part in b if len(part) == n]) / len(v)
        ),
        "A sum over the batches' means, divided by the images: a batch is counted as one image.": cut(
            lambda v, b, n: np.sum([part.mean() for part in b]) / len(v)
        ),
    }


def part_capacity(work, rng):
    """capacity"""
    name = "capacity"
    diagnosed(work, name)
    for most, steps in ((float(rng.uniform(3, 30)), 4), (float(rng.uniform(3, 30)), 7)):
        training = [False, True, True, False, False, *[bool(n) for n in rng.integers(0, 2, 9)], True, True, False, True]
        kls = [rng.uniform(0, 30, 5) for _ in training]
        answer = types.SimpleNamespace(penalty=work.call(name, most, steps))
        came = np.stack([penalty(work, answer, *call) for call in zip(kls, training, strict=True)])

        def penalties(count, late=0, of=np.abs, kls=kls, training=training, most=most, steps=steps):
            n, rows = 0, []
            for kl, now in zip(kls, training, strict=True):
                n += count(now)
                rows.append(of(kl - most * min(1, (n - late * now) / steps)))
            return np.stack(rows)

        exact = penalties(lambda now: now)
        mistakes = {
            "The counter still advances in validation.": penalties(lambda now: 1),
            "C never grows now: training has to advance the counter.": penalties(lambda now: 0),
            "The first training step has C = 0 here: in training step n it is most n / steps, counted from 1.": (
                penalties(lambda now: now, late=1)
            ),
            "A KL below C is to be penalised too: |kl - C|.": penalties(lambda now: now, of=lambda gap: gap),
            "Only a KL above C is penalised; one below C is, too: |kl - C|.": penalties(
                lambda now: now, of=lambda gap: np.maximum(gap, 0)
            ),
            "The counter advances in validation, and in training it does not.": penalties(lambda now: not now),
            "Validation must have a C too, the one that training has reached.": np.where(
                np.array(training)[:, None], exact, 0
            ),
            "In validation C is 0; it is the one that training has reached.": np.where(
                np.array(training)[:, None], exact, kls
            ),
            "In validation C is the largest; it is the one that training has reached.": np.where(
                np.array(training)[:, None], exact, np.abs(np.array(kls) - most)
            ),
        }
        what = f"penalty(kl (5,), training) of capacity({most:.3g}, {steps}), {len(kls)} calls in a row"
        agree(what, came, exact, mistakes=mistakes, read=f"{PAGE}#symptoms")
    holds(work, name)


def penalty(work, answer, kl, training):
    found = numbers("penalty(kl, training)", work.call_method(answer, "penalty", kl, training))
    if found.shape != kl.shape:
        raise Mismatch("penalty(kl, training)", f"shape {kl.shape}, as kl has it", f"shape {found.shape}")
    return found


def information(z, mu, logvar):
    """log q(z_i|x_i) and log q(z_i|x_n) (N, N)."""
    return stats.norm.logpdf(z[:, None], mu, np.exp(logvar / 2)).sum(axis=2)


def index_information(z, mu, logvar):
    log_q = information(z, mu, logvar)
    return (log_q.diagonal() - special.logsumexp(log_q, axis=1) + np.log(len(z))).mean()


def other_axis(z, mu, logvar):
    log_q = information(z, mu, logvar)
    return (log_q.diagonal() - special.logsumexp(log_q, axis=0) + np.log(len(z))).mean()


def part_mutual_information(work, rng):
    """mutual_information"""
    name, cases = "mutual_information", []
    diagnosed(work, name)
    for N, Z, narrow in ((7, 3, 1), (12, 1, 0), (5, 5, 1), (9, 2, -1)):
        mu, logvar = rng.normal(size=(N, Z)), narrow + rng.normal(size=(N, Z))
        cases.append(dict(z=mu + np.exp(logvar / 2) * rng.normal(size=(N, Z)), mu=mu, logvar=logvar))
    exact = index_information

    def too_often(z, mu, logvar):
        return exact(z, mu, logvar) + (z.shape[1] - 1) * np.log(len(z))

    mistakes = {
        "ln N is still subtracted once for each latent; an image has one weight 1/N, however many latents it has.": (
            too_often
        ),
        "A clip at ln N hides what is wrong: below the bound the number is as wrong as before.": (
            lambda z, *q: min(too_often(z, *q), np.log(len(z)))
        ),
        "Divided by Z the number is smaller, and still wrong.": lambda z, *q: too_often(z, *q) / z.shape[1],
        "The weight 1/N of the mixture is missing: too small by ln N.": lambda z, *q: exact(z, *q) - np.log(len(z)),
        "ln N has the wrong sign: a mean is smaller than the sum.": lambda z, *q: exact(z, *q) - 2 * np.log(len(z)),
        "The mixture is taken over the codes: it is one over the N posteriors, for each code.": other_axis,
        "A sum over the images; the mean is meant.": lambda z, *q: exact(z, *q) * len(z),
    }
    # 1e-8: log q of a code far out is some hundred nats, and differs by rounding between the ways to write it
    answer = functools.partial(work.call, name)
    agree_on_cases(name, answer, exact, cases, mistakes=mistakes, read=f"{PAGE}#symptoms", rel=1e-8)
    holds(work, name)


def bound(log_w):
    return special.logsumexp(log_w, axis=1) - np.log(log_w.shape[1])


def part_importance_bound(work, rng):
    """importance_bound"""
    name, cases = "importance_bound", []
    diagnosed(work, name)
    for dtype in (np.float64, np.float32):
        for B, K, level, width in ((5, 7, -90, 3), (3, 1, -90, 3), (4, 3, -2000, 40), (1, 5, 800, 5)):
            cases.append(dict(log_w=(level + width * rng.normal(size=(B, K))).astype(dtype)))
    mistakes = {
        "Still the wrong way round: the worst sample has the largest weight.": lambda log_w: -bound(-log_w),
        "The sign of the whole is turned, and the worst samples still have the largest weights.": (
            lambda log_w: bound(-log_w)
        ),
        "The mean of the logarithms is the ELBO for every K: in the right order, and not L_K.": (
            lambda log_w: log_w.mean(axis=1)
        ),
        "The best sample alone is above L_K, and for many samples above log p(x).": lambda log_w: log_w.max(axis=1),
        "The sum of the weights is not divided by K: too large by ln K.": (
            lambda log_w: bound(log_w) + np.log(log_w.shape[1])
        ),
        "exp(log_w) is 0 or infinite here: take the largest out before the exponential.": careless_bound,
    }
    answer = functools.partial(work.call, name)
    agree_on_cases(name, answer, bound, cases, mistakes=mistakes, read=f"{PAGE}#symptoms")
    holds(work, name)


def careless_bound(log_w):
    with np.errstate(all="ignore"):
        return np.log(np.exp(log_w).mean(axis=1))


def quantized(h, codes):
    """The squared distance of each vector of h (B, L, D) to its nearest code: (B, L)."""
    return ((h[:, :, None] - codes) ** 2).sum(axis=3).min(axis=2)


def part_vq_terms(work, rng):
    """vq_terms"""
    name, cases = "vq_terms", []
    diagnosed(work, name)
    for B, L, D, K, commitment in ((5, 3, 2, 4, 0.7), (1, 2, 3, 5, 0.1), (3, 4, 1, 2, None), (4, 1, 2, 3, None)):
        x, x_out = rng.normal(size=(2, B, 1, 3, 2))
        case = dict(x=x, x_out=x_out, h=rng.normal(size=(B, L, D)), codes=rng.normal(size=(K, D)))
        cases.append(dict(case, **({"commitment": commitment} if commitment else {})))

    def squares(x, x_out, *_):
        return ((x - x_out) ** 2).sum() / len(x)

    def both(x, x_out, h, codes, commitment=0.25):
        return (1 + commitment) * quantized(h, codes).sum() / len(x)

    mistakes = {
        "Now recon grows with the batch as well: a loss with twice the images is twice as large.": (
            lambda x, *more: squares(x, *more) * len(x)
        )
    }
    agree_on_cases(f"recon of {name}", one_of(work, name, 0, 2), squares, cases, mistakes=mistakes)
    mistakes = {
        "It is still a sum over the batch: with twice the images it weighs twice as much beside recon.": (
            lambda x, *more: both(x, *more) * len(x)
        ),
        "The mean over positions and channels too: free of the batch's size now, but recon is a sum over an image.": (
            lambda x, x_out, h, *more: both(x, x_out, h, *more) / (h.shape[1] * h.shape[2]),
            lambda x, x_out, h, *more: both(x, x_out, h, *more) / h.shape[1],
        ),
        "Only one of the two parts is divided by the batch.": (
            lambda x, x_out, h, codes, c=0.25: quantized(h, codes).sum() * (1 / len(x) + c),
            lambda x, x_out, h, codes, c=0.25: quantized(h, codes).sum() * (1 + c / len(x)),
        ),
        "The commitment is missing.": lambda x, x_out, h, codes, c=0.25: both(x, x_out, h, codes, 0),
    }
    agree_on_cases(f"vq of {name}", one_of(work, name, 1, 2), both, cases, mistakes=mistakes, read=f"{PAGE}#symptoms")
    holds(work, name)


def part_critic_losses(work, rng):
    """critic_losses"""
    name = "critic_losses"
    diagnosed(work, name)
    for _ in range(3):
        z, order, weight = codes_of(int(rng.integers(2**31)))
        bias = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        found = losses(z, order, weight, bias, lambda *args: [one_of(work, name, i, 2)(*args) for i in (0, 1)])
        exact = losses(z, order, weight, bias, separated)
        read = f"{PAGE}#symptoms"
        for i, what in enumerate(("tc", "the critic's loss")):
            agree(f"{what} of {name}", found[i], exact[i], read=read)
        mistake = {"The encoder gets no gradient of tc any more: tc needs z itself, undetached.": np.zeros((5, 3))}
        agree("d tc / dz, which trains the encoder", found[2], exact[2], mistakes=mistake, read=read)
        mistake = {
            "The critic's loss still reaches the encoder, through the critic's answer to z; the encoder learns to "
            "betray itself.": losses(z, order, weight, bias, attached)[3],
            "It reaches the encoder through the mixed codes now.": losses(z, order, weight, bias, mixed_attached)[3],
            "It reaches the encoder through z and through the mixed codes.": losses(z, order, weight, bias, neither)[3],
        }
        agree("d loss / dz, which must not train the encoder", found[3], exact[3], mistakes=mistake, read=read)
        for i, what in ((4, "weights"), (5, "bias")):
            lost = {
                "The critic learns from the mixed codes alone: z is to be detached, not the critic's answer to it.": (
                    losses(z, order, weight, bias, answer_detached)[i]
                ),
                "The critic does not learn at all: detach what it is given, not what it answers.": 0 * exact[i],
            }
            agree(f"d loss / d {what}, which trains the critic", found[i], exact[i], mistakes=lost, read=read)
    holds(work, name)


def losses(z, order, weight, bias, function):
    """tc, loss, d tc / dz, d loss / dz, d loss / dweight, d loss / dbias of `function`; no path counts as 0."""
    tc, loss = function(z, order, lambda codes: codes**2 @ weight + codes[:, :1] * weight[0] + bias)
    for value in (tc, loss):
        if not torch.is_tensor(value) or value.ndim:
            raise Mismatch("critic_losses returns two tensors of one number each, as in the starter.")
    return (tc, loss, *gradients(tc, (z,)), *gradients(loss, (z, weight, bias)))


def gradients(value, inputs):
    if not value.requires_grad:
        return tuple(torch.zeros_like(tensor) for tensor in inputs)
    found = torch.autograd.grad(value, inputs, retain_graph=True, allow_unused=True)
    return tuple(torch.zeros_like(t) if g is None else g for t, g in zip(inputs, found, strict=True))


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


separated = critics(torch.detach, torch.detach)
attached = critics(same, torch.detach)
mixed_attached = critics(torch.detach, same)
neither = critics(same, same)
answer_detached = critics(same, torch.detach, torch.detach)


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


def part_label_information(work, rng):
    """label_information"""
    name, cases = "label_information", []
    diagnosed(work, name)
    for N, Z, classes, bins in ((37, 3, 4, 5), (50, 1, 2, 3), (41, 4, 3, None), (23, 2, 5, None)):
        labels = rng.integers(0, classes, N)
        mu = rng.normal(size=(N, Z)) + labels[:, None] * rng.random(Z)
        cases.append(dict(mu=mu, labels=labels, **({"bins": bins} if bins else {})))

    def rows(shape):
        """The codes read anew in rows of another shape, as a wrong way to take columns."""
        return lambda mu, labels, bins=8: told(np.stack(shape(mu), axis=1), labels, bins)

    mistakes = {
        "reshape and view read the numbers row by row and cut them anew: such a row holds codes of all latents.": (
            rows(lambda mu: mu.reshape(mu.shape[1], -1)),
            rows(lambda mu: mu.reshape(mu.shape[1], -1, order="F")),
        ),
        "The labels' entropy divides it; nats are asked for.": lambda mu, labels, bins=8: (
            told(mu, labels, bins) / entropy(labels)
        ),
        "The codes are sorted, and the labels are not: pairs are lost.": (
            lambda mu, labels, bins=8: told(np.sort(mu, axis=0), labels, bins)
        ),
        "The labels are sorted: they no longer belong to their codes.": (
            lambda mu, labels, bins=8: told(mu, np.sort(labels), bins)
        ),
    }
    answer = functools.partial(work.call, name)
    agree_on_cases(name, answer, told, cases, mistakes=mistakes, read=f"{PAGE}#symptoms")
    holds(work, name)


def walk(mu, dim, steps=7):
    z = np.tile(mu.mean(axis=0), (steps, 1))
    z[:, dim] = [np.quantile(mu[:, dim], share) for share in np.linspace(0.05, 0.95, steps)]
    return z


def other_walk(points):
    """The walk with `points` (codes of the dimension, steps) -> (steps,)."""

    def function(mu, dim, steps=7):
        z = walk(mu, dim, steps)
        z[:, dim] = points(mu[:, dim], steps)
        return z

    return function


def all_latents(mu, dim, steps=7):
    return other_walk(lambda codes, steps: np.quantile(mu, shares(steps)))(mu, dim, steps)


def shares(steps):
    return np.linspace(0.05, 0.95, steps)


def part_quantile_walk(work, rng):
    """quantile_walk"""
    name, cases = "quantile_walk", []
    diagnosed(work, name)
    for N, Z, dim, steps in ((41, 3, 1, 5), (30, 1, 0, 9), (57, 4, -1, None), (23, 2, 0, None)):
        mu = rng.normal(size=Z) + rng.gamma(1.5, size=(N, Z))  # skewed, and not around 0
        cases.append(dict(mu=mu, dim=dim, **({"steps": steps} if steps else {})))
    mistakes = {
        "These are quantiles of the prior N(0, 1), wherever the codes are.": (
            other_walk(lambda codes, steps: stats.norm.ppf(shares(steps)))
        ),
        "Quantiles of a Gaussian with the codes' mean and spread: the codes need not be Gaussian.": (
            other_walk(lambda codes, steps: stats.norm.ppf(shares(steps), codes.mean(), codes.std())),
            other_walk(lambda codes, steps: stats.norm.ppf(shares(steps), codes.mean(), codes.std(ddof=1))),
        ),
        "The prior's walk, moved to the codes' mean: the codes have a spread of their own.": (
            other_walk(lambda codes, steps: stats.norm.ppf(shares(steps)) + codes.mean())
        ),
        "The ends are right; in between these are equal steps of the code, not of the share.": (
            other_walk(lambda codes, steps: np.linspace(*np.quantile(codes, (0.05, 0.95)), steps))
        ),
        "The prior's walk, times the codes' spread: the codes have a mean of their own.": (
            other_walk(lambda codes, steps: stats.norm.ppf(shares(steps)) * codes.std())
        ),
        "Those are the quantiles of all latents together; dim alone is asked for.": all_latents,
        "np.percentile counts from 0 to 100: 0.95 is less than one per cent there.": (
            other_walk(lambda codes, steps: np.percentile(codes, shares(steps)))
        ),
        "From the smallest to the largest code in equal steps: these are no shares.": (
            other_walk(lambda codes, steps: np.linspace(codes.min(), codes.max(), steps))
        ),
        "Still symmetric around 0.": other_walk(
            lambda codes, steps: np.quantile(np.abs(codes), 0.9) * np.linspace(-1, 1, steps)
        ),
    }
    answer = functools.partial(work.call, name)
    agree_on_cases(name, answer, walk, cases, mistakes=mistakes, read=f"{PAGE}#symptoms")
    holds(work, name)


def part_gradient_error(work, rng):
    """gradient_error"""
    name, read = "gradient_error", f"{PAGE}#symptoms"
    diagnosed(work, name)
    for shape, more in (((3, 2), ()), ((5,), (1e-3,)), ((1, 1), ()), ((2, 1, 3), (1e-4,))):
        x, a = rng.normal(size=(2, *shape))
        step = more[0] if more else 1e-5

        def loss(x, a=a):
            return (a * np.exp(x)).sum()

        def slope(x, a=a):
            return a * np.exp(x)

        def ask(gradient, loss=loss, x=x, more=more):
            return work.call(name, loss, gradient, x, *more)

        central, forward = slope(x) * np.sinh(step) / step, slope(x) * np.expm1(step) / step
        one_wrong = slope(x)
        one_wrong.flat[-1] += rng.choice((-1, 1)) * rng.uniform(1, 2)
        tried = {
            "a gradient with one wrong entry": one_wrong,
            "half of the gradient": slope(x) / 2,
            "a gradient of zeros": 0 * x,
            "a gradient with the sign turned": -slope(x),
        }
        for what, wrong in tried.items():
            error = np.abs(central - wrong)
            mistakes = {
                "No error, whatever gradient it is given: np.asarray makes no copy, so the differences are written "
                "into the gradient itself, which is then compared with itself.": 0.0,
                "Of the largest error; here it is the mean one.": error.mean() / np.abs(central).max(),
                "A difference to one side; central is loss(x + h) - loss(x - h), over 2 step.": (
                    np.abs(forward - wrong).max() / np.abs(forward).max()
                ),
                "Compared with the gradient on trial; if that is wrong, so is the scale.": scaled(error, wrong),
            }
            # 1e-6: the differences are of numbers near 1 to 10, rounded to 1e-15, and divided by 2e-5
            agree(f"{name} of {what}", ask(lambda x, w=wrong: w.copy()), error.max() / np.abs(central).max(),
                  mistakes=mistakes, read=read, rel=1e-6)  # fmt: skip
        found = ask(slope)
        if not 0 <= float(found) < 1e-4:
            likely = "The right gradient must have hardly any: are the differences central, and divided by 2 step?"
            raise Mismatch(f"{name} of the right gradient", "an error near 0", show(found), likely, read)
    holds(work, name)


def scaled(error, by):
    with np.errstate(all="ignore"):
        return error.max() / np.abs(by).max()


PARTS = (
    part_sample,
    part_training_terms,
    part_warmup_terms,
    part_decode,
    part_bytes_recon,
    part_evaluate,
    part_capacity,
    part_mutual_information,
    part_importance_bound,
    part_vq_terms,
    part_critic_losses,
    part_label_information,
    part_quantile_walk,
    part_gradient_error,
)

HINTS = (
    "Before any line of code: which number in the program's row of the table cannot be, for any correct program? The "
    "invariant that forbids it is the name. Ask the doctor, as the page's task shows.",
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

ADVANCE = "        if training:\n            step += 1\n"
MIXTURE = "mixture = np.logaddexp.reduce(log_q - np.log(N), axis=1)"
BOUND = "    return most[:, 0] + np.log(mean)"
RECON_SUM = "        recon += recon_of(x[part], x_logits[part]).sum()"
KL_SUM = "        kl += kl_of(mu[part], logvar[part]).sum()"
WALK = "np.quantile(mu[:, dim], shares)"
CODEBOOK = "codebook = ((h - nearest) ** 2).sum() / len(x)"
LOSS = "F.cross_entropy(critic(z.detach()), labels)"
LAYERS = "    for weight, bias in layers[:-1]:"

WRONG = (
    Wrong("not the name", '"sample_with_gradient": "sampling"', '"sample_with_gradient": "bound-order"', "nothing aga"),
    Wrong(
        "a later name", '"training_terms": "kl-not-negative"', '"training_terms": "kl-monte-carlo"', "an earlier one"
    ),
    Wrong("no such name", '"decode": "logits"', '"decode": "sigmoid twice"', "the name of an invariant"),
    Wrong("no name", '"importance_bound": "bound-order"', '"importance_bound": ""', "not yet written"),
    Wrong("named, not mended", "        if training:\n            step += 1\n", "        step += 1\n", "as you got it"),
    Wrong("std is std^2", "std = np.exp(0.5 * logvar)", "std = np.exp(logvar)", "which is std^2"),
    Wrong("the gradient of before", "eps * 0.5 * std", "eps * std", "its gradient is still"),
    Wrong("the old gradient in full", "eps * 0.5 * std", "eps * np.exp(logvar)", "its gradient is still"),
    Wrong("z made quiet", "z = mu + std * eps", "z = mu", "noise is not used"),
    Wrong(
        "a clip at 0",
        "    return recon + kl, recon, kl",
        "    return recon + kl, recon, np.maximum(-kl, 0)",
        "A clip at 0",
    ),
    Wrong("the KL below 0", "kl = -0.5 *", "kl = 0.5 *", "bracket has the wrong sign"),
    Wrong(
        "the log mended, the loss broken", "return recon + kl, recon, kl", "return recon - kl, recon, kl", "subtracts"
    ),
    Wrong(
        "a weighted log",
        "    kl = kl_of(mu, logvar)\n    return recon + weight * kl,",
        "    kl = kl_of(mu, logvar) * weight\n    return recon + kl,",
        "still has its weight",
    ),
    Wrong("recon warms up", "return recon + weight * kl,", "return weight * recon + kl,", "weight is at recon"),
    Wrong("no warm-up at all", "return recon + weight * kl,", "return recon + kl,", "nothing warms up"),
    Wrong("warmed up twice", "return recon + weight * kl,", "return recon + weight * weight * kl,", "twice"),
    Wrong(
        "a sigmoid in every layer",
        "x_logits = h @ weight + bias",
        "x_logits = 1 / (1 + np.exp(-(h @ weight + bias)))",
        "once more",
    ),
    Wrong(
        "a logarithm in the last layer",
        "x_logits = h @ weight + bias",
        "x_logits = -np.log(1 + np.exp(-(h @ weight + bias)))",
        "is not its logit",
    ),
    Wrong(
        "the inverse of the sigmoid",
        "x_logits = h @ weight + bias",
        "p = 1 / (1 + np.exp(-(h @ weight + bias)))\n    x_logits = np.log(p) - np.log(1 - p)",
        "Leave both out",
    ),
    Wrong(
        "no sigmoid in any layer",
        "h = 1 / (1 + np.exp(-(h @ weight + bias)))",
        "h = h @ weight + bias",
        "one linear map",
    ),
    Wrong(
        "a picture of logits", "return x_logits, 1 / (1 + np.exp(-x_logits))", "return x_logits, x_logits", "no sigm"
    ),
    Wrong("bytes", "pixels.astype(x_logits.dtype) / 255", "np.float64(pixels)", "run from 0 to 255"),
    Wrong("whole numbers", "pixels.astype(x_logits.dtype) / 255", "pixels // 255", "instead of //"),
    Wrong("256", "/ 255", "/ 256", "with 256"),
    Wrong("a clip", ".astype(x_logits.dtype) / 255", ".astype(x_logits.dtype).clip(0, 1)", "Clipped"),
    Wrong("a threshold", "pixels.astype(x_logits.dtype) / 255", "(pixels > 127) * 1.0", "threshold"),
    Wrong("the loop left", f"{KL_SUM}\n    return", f"{KL_SUM}\n        break\n    return", "first round"),
    Wrong(
        "a mean of means",
        f"{RECON_SUM}\n{KL_SUM}\n    return recon / len(x), kl / len(x)",
        f"{RECON_SUM.replace('sum', 'mean')}\n{KL_SUM.replace('sum', 'mean')}\n"
        "    n = -(-len(x) // batch)\n    return recon / n, kl / n",
        "batches' means",
    ),
    Wrong("divided twice", KL_SUM, KL_SUM.replace("sum", "mean"), "counted as one image"),
    Wrong("all images in every batch", "part = slice(start, start + batch)", "part = slice(None)", "several times"),
    Wrong("over the batch", "recon / len(x), kl / len(x)", "recon / batch, kl / batch", "size of a batch"),
    Wrong("the first batch alone", "range(0, len(x), batch)", "range(0, len(x) - batch + 1, batch)", "left out"),
    Wrong("a counter of calls", ADVANCE, "        step = step + 1\n", "still advances"),
    Wrong("no counter", ADVANCE, "", "never grows"),
    Wrong(
        "from 0",
        f"{ADVANCE}        return np.abs(kl - most * min(1, step / steps))",
        f"        C = most * min(1, step / steps)\n{ADVANCE}        return np.abs(kl - C)",
        "counted from 1",
    ),
    Wrong(
        "a signed penalty", "np.abs(kl - most * min(1, step / steps))", "kl - most * min(1, step / steps)", "below C"
    ),
    Wrong(
        "one side",
        "np.abs(kl - most * min(1, step / steps))",
        "np.maximum(kl - most * min(1, step / steps), 0)",
        "Only a KL above C",
    ),
    Wrong("the wrong branch", "if training:", "if not training:", "in training it does not"),
    Wrong(
        "no capacity in validation",
        "        return np.abs(kl - most *",
        "        return np.abs(kl - training * most *",
        "In validation C is 0",
    ),
    Wrong(
        "a weight for each latent",
        MIXTURE,
        MIXTURE.replace("np.log(N)", "mu.shape[1] * np.log(N)"),
        "once for each latent",
    ),
    Wrong(
        "clipped at ln N",
        f"    {MIXTURE}\n    return (own - mixture).mean()",
        "    mixture = np.logaddexp.reduce(log_q - mu.shape[1] * np.log(N), axis=1)\n"
        "    return min((own - mixture).mean(), np.log(N))",
        "A clip at ln N",
    ),
    Wrong("ln N added", MIXTURE, MIXTURE.replace("- np.log(N)", "+ np.log(N)"), "the wrong sign"),
    Wrong("over the codes", MIXTURE, MIXTURE.replace("axis=1", "axis=0"), "over the codes"),
    Wrong("no weight", MIXTURE, MIXTURE.replace(" - np.log(N)", ""), "too small by ln N"),
    Wrong(
        "the worst sample first",
        "    most = log_w",
        "    log_w = -log_w\n    most = log_w",
        "the worst samples still have",
    ),
    Wrong(
        "still the worst", BOUND, "    return -np.logaddexp.reduce(-log_w, axis=1) + np.log(log_w.shape[1])", "Still"
    ),
    Wrong("the ELBO for L_K", BOUND, "    return log_w.mean(axis=1)", "for every K"),
    Wrong("the best sample", BOUND, "    return most[:, 0]", "above log p(x)"),
    Wrong("not divided by K", "np.exp(log_w - most).mean(", "np.exp(log_w - most).sum(", "ln K"),
    Wrong("an underflow", BOUND, "    return np.log(np.exp(log_w).mean(axis=1))", "take the largest out"),
    Wrong("a sum over the batch", CODEBOOK, "codebook = np.sum((h - nearest) ** 2)", "a sum over the batch"),
    Wrong("a mean over everything", CODEBOOK, "codebook = ((h - nearest) ** 2).mean()", "positions and channels"),
    Wrong("both summed", "((x - x_out) ** 2).sum() / len(x)", "((x - x_out) ** 2).sum()", "grows with the batch"),
    Wrong("the critic's answer to z", LOSS, "F.cross_entropy(critic(z), labels)", "betray"),
    Wrong("the answer detached", LOSS, "F.cross_entropy(joint.detach(), labels)", "the mixed codes alone"),
    Wrong("z detached for all", "joint = critic(z)", "joint = critic(z.detach())", "no gradient of tc"),
    Wrong("a view", "enumerate(mu.T)", "enumerate(mu.reshape(Z, -1))", "row by row"),
    Wrong("a view in the other order", "enumerate(mu.T)", 'enumerate(mu.reshape(Z, N, order="F"))', "row by row"),
    Wrong("sorted codes", "enumerate(mu.T)", "enumerate(np.sort(mu.T))", "pairs are lost"),
    Wrong(
        "quantiles of the prior",
        WALK,
        "[__import__('statistics').NormalDist().inv_cdf(share) for share in shares]",
        "of the prior",
    ),
    Wrong(
        "quantiles of a Gaussian",
        WALK,
        "[__import__('statistics').NormalDist(mu[:, dim].mean(), mu[:, dim].std()).inv_cdf(p) for p in shares]",
        "need not be Gaussian",
    ),
    Wrong("all latents", WALK, "np.quantile(mu, shares)", "all latents together"),
    Wrong("per cent", WALK, "np.percentile(mu[:, dim], shares)", "from 0 to 100"),
    Wrong("end to end", WALK, "np.linspace(mu[:, dim].min(), mu[:, dim].max(), steps)", "no shares"),
    Wrong("equal steps", WALK, "np.linspace(*np.quantile(mu[:, dim], (0.05, 0.95)), steps)", "The ends are right"),
    Wrong("no copy", "np.zeros_like(analytic)", "np.asanyarray(analytic)", "makes no copy"),
    Wrong("to one side", "(loss(x + h) - loss(x - h)) / (2 * step)", "(loss(x + h) - loss(x)) / step", "to one side"),
    Wrong("the scale on trial", "/ np.abs(numeric).max()", "/ np.abs(analytic).max()", "so is the scale"),
)

CUT = "any number of images at a time leads to the same sums"
EQUIVALENT = {
    "evaluate: 25 -> 26 in def evaluate(x, x_logits, mu, logvar, batch=25):": CUT,
    "evaluate: 25 -> 24 in def evaluate(x, x_logits, mu, logvar, batch=25):": CUT,
    "evaluate: 0.0 -> 0.0 in recon = kl = 0.0": "no change at all: the mutant doubles a 0",
    "evaluate: 0.0 -> 0.0 in recon = kl = 0.0 #2": "no change at all",
    "importance_bound: 0 -> -1 in return most[:, 0] + np.log(mean)": "an axis of length 1",
    "vq_terms: ((h[:, :, None] - codes) ** 2).sum -> ((h[:, :, None] - codes) ** 2).mean in distance = ((h[:, :, None] "
    "- codes) ** 2).sum(axis=3)  # (B, L, K)": "the nearest code is the same for the mean over its channels",
    "label_information: np.zeros -> np.ones in nats = np.zeros(Z)": "every entry is written over",
    "label_information: 1 -> 2 in joint = np.zeros((bins, labels.max() + 1))": "a class without images says nothing",
    "gradient_error: 1e-05 -> 2e-05 in def gradient_error(loss, gradient, x, step=1e-5):": (
        "of two steps that are small enough neither is to be seen in the number"
    ),
}

ALSO_RIGHT = (
    Wrong("the square root", "std = np.exp(0.5 * logvar)", "std = np.sqrt(np.exp(logvar))"),
    Wrong(
        "the sign in the loss",
        "kl = -0.5 * (1 + logvar - mu**2 - np.exp(logvar)).sum(axis=1)\n    return recon + kl, recon, kl",
        "kl = 0.5 * (1 + logvar - mu**2 - np.exp(logvar)).sum(axis=1)\n    return recon - kl, recon, -kl",
    ),
    Wrong("bytes in float64", "pixels.astype(x_logits.dtype) / 255", "pixels / 255"),
    Wrong("without batches", "range(0, len(x), batch)", "(batch := len(x) + 1, 0)[1:]"),
    Wrong(
        "images one by one",
        "    for start in range(0, len(x), batch):\n        part = slice(start, start + batch)\n",
        "    for start in range(len(x)):\n        part = [start]\n",
    ),
    Wrong("a counter by arithmetic", ADVANCE, "        step += int(training)\n"),
    Wrong("subtracted afterwards", MIXTURE, "mixture = np.logaddexp.reduce(log_q, axis=1) - np.log(N)"),
    Wrong("without the largest", BOUND, "    return np.logaddexp.reduce(log_w, axis=1) - np.log(log_w.shape[1])"),
    Wrong("a mean over images", CODEBOOK, "codebook = ((h - nearest) ** 2).sum(axis=(1, 2)).mean()"),
    Wrong("mixed, then detached", "critic(z.detach().gather(0, order))", "critic(z.gather(0, order).detach())"),
    Wrong("column by column", "enumerate(mu.T)", 'enumerate(mu.ravel(order="F").reshape(Z, N))'),
    Wrong(
        "torch for the bound",
        "    return most[:, 0] + np.log(mean)",
        "    log_w = torch.from_numpy(log_w)\n    return torch.logsumexp(log_w, 1) - np.log(log_w.shape[1])",
    ),
    Wrong(
        "torch for the walk",
        "    z[:, dim] = np.quantile(mu[:, dim], shares)\n    return z",
        "    z = torch.from_numpy(z)\n    z[:, dim] = torch.quantile(torch.from_numpy(mu)[:, dim], torch.from_numpy("
        "shares))\n    return z",
    ),
    Wrong("a copy", "np.zeros_like(analytic)", "np.array(analytic)"),
)
