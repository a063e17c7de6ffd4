"""What exercise 14 asks for: the network beside level 3's, layer by layer; the objective beside torch.distributions;
the loop, watched as it runs. When all of that is right, it trains on the drawn digits, is judged by its held-out elbo
and by the doctor, and is kept as a run.
"""

import functools
import inspect
import time
import weakref
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.optim.optimizer import register_optimizer_step_pre_hook

from checks.ex09_conditional import mistaken_terms
from checks.judging import LearnerError, Mismatch, agree, agree_on_each, gradients, values_of
from checks.own_run import keep_run, level_3, measured
from conv_vae import pixel_loss
from vae_common.data import load_dataset
from vae_common.errors import NotFiniteError, UsageError
from vae_common.spec import VAESpec
from vae_doctor.report import examine, first_failure
from vae_doctor.subject import Subject

# They hold the answers.
FORBIDDEN = ("conv_vae", "vae_lowlevel", "vae_models", "vae_training", "vae_measures", "vae_doctor")
EPOCHS, BAR = 3, 140  # on the 12,000 drawn digits; nats of -elbo on the test split

# --- the network --------------------------------------------------------------------------------------------------


def named_as_asked(model, Z):
    """The model, if its parameters have the names and the shapes of the spec."""
    if not isinstance(model, nn.Module):
        raise Mismatch("VAE(latent_dim)", "an nn.Module", type(model).__name__, read="the-maths")
    found, expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}, VAESpec(Z).shapes
    missing, extra = [name for name in expected if name not in found], [name for name in found if name not in expected]
    if missing or extra:
        likely = "The network of README.md has these layers and no others, each with a bias."
        if not found:
            likely = "torch registers what is an attribute, or in an nn.ModuleDict; not what is in a dict or a list."
        elif {name.partition(".")[2] for name in missing} <= set(extra):
            likely = "The layers lie in the model itself; they belong into self.encoder and self.decoder."
        got = "; ".join(f"{what} {', '.join(names[:3])}" for what, names in (("no", missing), ("but", extra)) if names)
        names = "the 18 names of README.md, such as encoder.conv1.weight"
        raise Mismatch("The keys of VAE's state_dict()", names, got, likely, "the-maths")
    for name, shape in expected.items():
        likely = "Numbers in and numbers out have changed places." if found[name][:2] == shape[1::-1] else ""
        if found[name] != shape:
            what = f"{name} of VAE(latent_dim={Z})"
            raise Mismatch(what, f"shape {shape}", f"shape {found[name]}", likely, "the-maths")
    return model


def part_names(work, rng):
    """VAE: the names and sizes of its parameters"""
    named_as_asked(work.VAE(), 20)


@functools.cache
def level_3_of(Z):
    """Level 3's model with the first weights of the spec."""
    return level_3({name: torch.from_numpy(value) for name, value in VAESpec(Z).init_params(seed=0).items()})


def trace(model, answer):
    """{name: [what goes into the layer, what comes out]} while `answer()` runs; and its answer, or its LearnerError."""
    seen, hooks = {}, []

    def into(name, layer, given):
        seen[name] = [value.clone() for value in given[:1]]

    def out(name, layer, given, came):
        seen[name] += [came.clone()] if given else []

    for name, layer in model.named_modules():
        if isinstance(getattr(layer, "weight", None), torch.Tensor):
            hooks.append(layer.register_forward_pre_hook(functools.partial(into, name)))
            hooks.append(layer.register_forward_hook(functools.partial(out, name)))
    try:
        with torch.no_grad():
            return seen, answer()
    except LearnerError as error:
        return seen, error
    finally:
        for hook in hooks:
            hook.remove()


def compare_half(work, rng, method, shape, names, mistakes=lambda i, right: {}):
    """Raise Mismatch where VAE's encode or decode differs from level 3's with the same weights: at the first layer of
    which one can be seen, else in what it answers.

    shape: (B, Z) -> that of its argument; mistakes(i, right answers) -> those of `agree` for the answer i.
    """
    for B, Z in ((3, 4), (1, 2)):
        model, ours = named_as_asked(work.VAE(Z), Z), level_3_of(Z)
        model.load_state_dict(ours.state_dict())
        given = torch.from_numpy(rng.random(shape(B, Z), np.float32))
        right, expected = trace(ours, lambda: getattr(ours, method)(given))  # noqa: B023
        found, answer = trace(model, lambda: work.call_method(model, method, given))  # noqa: B023
        for layer in VAESpec(Z).layers:
            if layer.name in right and found.get(layer.name):
                compare_layer(layer, model, ours, found[layer.name], right)
        if isinstance(answer, LearnerError):
            raise answer
        answers, expected = ([answer], [expected]) if len(names) == 1 else (answer, expected)
        for i, value in enumerate(values_of(names, method, answers, "the-maths")):
            what = f"{names[i]} of {method}, of shape {tuple(given.shape)}"
            agree(what, value, expected[i], mistakes=mistakes(i, expected), read="the-maths")


def compare_layer(layer, model, ours, found, right):
    """Raise Mismatch unless into and out of this layer goes what does in level 3's."""
    (given, *came), (expected, answer), mistakes = found, right[layer.name], {}
    before = right.get(layer.reads, [None, None])[1]
    if before is not None and before.numel() == given.numel():
        h = before.relu()
        turned = h.reshape(-1, 7, 7, 64).movedim(3, 1) if layer.name == "decoder.deconv1" else h.movedim(1, -1)
        mistakes = {
            f"The ReLU after {layer.reads} is missing.": before.reshape(given.shape),
            "The numbers are in another order: channels come before height and width in (B, 64, 7, 7), and flatten and "
            "reshape keep that.": turned.reshape(given.shape),
        }
    agree(f"What goes into {layer.name}", given, expected, mistakes=mistakes, read="the-maths")
    for output in came:
        try:
            agree(f"What {layer.name} makes of it", output, answer, read="the-maths")
        except Mismatch as error:
            one, other = model.get_submodule(layer.name), ours.get_submodule(layer.name)
            for name in ("stride", "padding", "output_padding"):
                if (yours := getattr(one, name, None)) != (right := getattr(other, name, None)):
                    error.lines["likely"] = f"Its {name} is {yours}, not {right}."
            raise


def part_encode(work, rng):
    """VAE: encode, layer by layer"""

    names = ("mu", "logvar")

    def mistakes(i, right):
        return {
            f"That is {names[1 - i]}: mu comes first, then logvar.": right[1 - i],
            "The layer's own answer is log sigma^2, not sigma or sigma^2.": ((right[i] / 2).exp(), right[i].exp()),
        }

    compare_half(work, rng, "encode", lambda B, Z: (B, 1, 28, 28), names, mistakes)


def part_decode(work, rng):
    """VAE: decode, layer by layer"""

    compare_half(work, rng, "decode", lambda B, Z: (B, Z), ("x_logits",))


# --- the objective ------------------------------------------------------------------------------------------------


class Answers:
    """A model that answers as it is told: encode with mu and logvar, decode with answer(z). It keeps x and z."""

    def __init__(self, mu, logvar, answer):
        self.mu, self.logvar, self.answer = mu, logvar, answer

    def encode(self, x):
        self.x = x
        return self.mu, self.logvar

    def decode(self, z):
        self.z = z
        return self.answer(z)

    def __call__(self, *args):
        raise TypeError("objective uses model.encode and model.decode, not model(...)")

    def __repr__(self):
        return f"a model with Z = {self.mu.shape[1]}"


def terms(model, x, eps, sample=lambda mu, std, eps: mu + std * eps):
    """recon, kl (B,) and loss, as they should be; or with another way to sample."""
    mu, logvar = model.encode(x)
    std = torch.exp(logvar / 2)
    recon = pixel_loss(x, model.decode(sample(mu, std, eps)), "bernoulli")
    posterior = Normal(mu, std, validate_args=False)  # its std may be 0 or infinite, where a loop goes astray
    kl = kl_divergence(posterior, Normal(torch.zeros_like(mu), torch.ones_like(mu))).sum(dim=1)
    return recon, kl, (recon + kl).mean()


TERMS = ("recon", "kl", "loss")


def objective_cases(rng, *sizes):
    """Arguments of objective for each (B, Z), in float64: a model whose decoder is linear, images, noise."""
    for B, Z in sizes:
        mu, logvar, eps, weight = (torch.from_numpy(rng.normal(size=n)) for n in ((B, Z), (B, Z), (B, Z), (Z, 784)))
        model = Answers(mu, logvar, lambda z, weight=weight: (z @ weight).reshape(-1, 1, 28, 28))
        yield dict(model=model, x=torch.from_numpy(rng.random((B, 1, 28, 28))), eps=eps)


def part_objective(work, rng):
    """objective: recon, kl and the loss, of given noise"""
    cases = list(objective_cases(rng, (5, 3), (1, 2)))

    def mistakes(exact, model, x, eps):
        exact = [value.numpy() for value in exact]
        return mistaken_terms(exact, x, model.mu, model.logvar, eps, model.decode)

    work.objective(*cases[0].values())
    x, given = cases[0]["x"], getattr(cases[0]["model"], "x", None)
    if isinstance(given, torch.Tensor) and not (given.shape == x.shape and torch.allclose(given.to(x), x)):
        likely = "x is in [0, 1] already: the encoder takes the image as it is."
        raise Mismatch("What objective gives to model.encode", "x itself", "something else", likely, "the-maths")
    agree_on_each(TERMS, "objective", work.objective, terms, cases, mistakes, "the-maths", (1, 0, 2))


def part_gradient(work, rng):
    """objective: the gradient of its loss"""
    model, x, eps = next(objective_cases(rng, (5, 3))).values()
    weight = torch.from_numpy(rng.normal(size=(3, 784)))
    leaves = [leaf.requires_grad_() for leaf in (model.mu, model.logvar, weight)]
    model.answer = lambda z: (z @ weight).reshape(-1, 1, 28, 28)

    def gradient(loss):
        return torch.cat([one.flatten() for one in gradients("the loss of objective", loss, leaves, "the-maths")])

    def sampled(sample):
        return gradient(terms(model, x, eps, sample)[2])

    loss = values_of(TERMS, "objective", work.objective(model, x, eps))[2]
    found = gradient(loss)
    recon, kl, right = terms(model, x, eps)
    mistakes = {
        "z is detached, or made without a gradient: the encoder learns from the KL alone.": (
            sampled(lambda mu, std, eps: (mu + std * eps).detach())
        ),
        "std is detached in z: how sure to be is not learnt.": sampled(lambda mu, std, eps: mu + std.detach() * eps),
        "kl sends no gradient.": gradient(recon.mean()),
        "recon sends no gradient.": gradient(kl.mean()),
    }
    what = "The gradient of objective's loss by mu, logvar and the decoder's weights, in a row"
    agree(what, found, gradient(right), mistakes=mistakes, read="the-maths")


# --- the loop -----------------------------------------------------------------------------------------------------


class SmallVAE(nn.Module):
    """A model for train to be tried on: linear, Z = 8."""

    def __init__(self):
        super().__init__()
        self.latent_dim, self.encoder, self.decoder = 8, nn.Linear(784, 16), nn.Linear(8, 784)

    def encode(self, x):
        return self.encoder(x.flatten(1)).chunk(2, dim=1)

    def decode(self, z):
        return self.decoder(z).reshape(-1, 1, 28, 28)


class Mark(torch.autograd.Function):
    """The identity, whose nodes tell how many graphs are still in memory."""

    alive: ClassVar = weakref.WeakSet()

    @staticmethod
    def forward(ctx, loss):
        Mark.alive.add(ctx)
        return loss.view_as(loss)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def watch(work, model, images, *how):
    """Run the learner's train with our objective in place of theirs: (what it returned, its batches).

    Of each batch: x, eps, training; graphs, how many are in memory; right, the gradient of its loss (P,), and seen, the
    one that the optimizer found.
    """
    batches, parameters = [], list(model.parameters())

    def objective(model, x, eps):
        recon, kl, loss = terms(model, x, eps)
        if not loss.requires_grad:  # somebody measures
            return recon, kl, loss
        right = torch.cat([one.flatten() for one in torch.autograd.grad(loss, parameters, retain_graph=True)])
        marked, seen = Mark.apply(loss), dict(x=x.detach().clone(), eps=eps.clone(), training=model.training)
        batches.append(dict(**seen, graphs=len(Mark.alive), right=right, seen=None))
        return recon, kl, marked

    def step(optimizer, *given):
        found = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
        if batches:
            batches[-1]["seen"] = torch.cat([one.flatten() for one in found])

    Mark.alive.clear()
    hook, theirs = register_optimizer_step_pre_hook(step), vars(work.module).get("objective")
    work.module.objective = objective
    try:
        return work.train(model, images, *how), batches
    finally:
        hook.remove()
        work.module.objective = theirs


def expect(holds, what, expected, got, likely):
    if not holds:
        what = f"train of 12 images, 2 epochs, batch_size 5: {what}"
        raise Mismatch(what, str(expected), str(got), likely, "the-loop")


def part_loop(work, rng):
    """train: what each step is given, and what it does"""
    torch.manual_seed(int(rng.integers(2**31)))
    model, images = SmallVAE().eval(), rng.integers(0, 256, (12, 1, 28, 28)).astype(np.uint8)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    returned, batches = watch(work, model, images, 2, 5)
    batches_are_right(batches, images)
    steps, likely = sum(one["seen"] is not None for one in batches), "optimizer.step() belongs once into each batch."
    expect(steps == len(batches), "steps of an optimizer of torch.optim", len(batches), steps, likely)
    likely = "backward() comes after zero_grad() and before step()."
    expect(all(one["seen"].any() for one in batches), "the gradient at a step", "that of its batch", "none", likely)
    still = [name for name, value in model.named_parameters() if torch.equal(before[name], value)]
    likely = "The optimizer needs all of model.parameters(), and a learning rate above 0."
    expect(not still, "the weights afterwards", "others than before", f"as before: {', '.join(still[:3])}", likely)
    gradients_are_right(batches)
    graphs = max(one["graphs"] for one in batches)
    likely = "A loss that is kept or added up keeps its whole graph; take loss.item()."
    expect(graphs <= 3, "graphs in memory", "one or two", graphs, likely)
    expect(returned is model, "what it returns", "the model that it was given", type(returned).__name__, "return model")
    default = getattr(inspect.signature(work.module.train).parameters.get("batch_size"), "default", None)
    expect(default == 64, "batch_size where none is given", 64, default, "Keep the signature of the starter.")


def batches_are_right(batches, images):
    """Raise Mismatch unless the loop's batches are those of two epochs, and their noise is new and normal."""
    likely = "For each batch call objective(model, x, eps), and minimise its third value."
    expect(batches, "calls of objective", 6, "none with a gradient", likely)
    x = torch.cat([one["x"] for one in batches]).double().flatten(1).numpy() * 255
    known = {image.tobytes(): i for i, image in enumerate(images)}
    order = [known.get(np.rint(one).clip(0, 255).astype(np.uint8).tobytes(), -1) for one in x]
    likely = "The bytes are 0 to 255: divide by 255, once, and do nothing else to them."
    same = min(order) >= 0 and np.abs(x - np.rint(x)).max() < 1e-3
    expect(same, "x", "images / 255", f"other numbers, up to {x.max() / 255:.4g}", likely)
    sizes = [len(one["x"]) for one in batches]
    likely = "Is a loop missing, or ended by an early return? Each of the `epochs` epochs takes all images."
    if sizes == [5] * 4:
        likely = "The last batch of an epoch has 2 images, and is left out here."
    expect(len(order) == 24, "images in 2 epochs", 24, len(order), likely)
    first, second, numbers = order[:12], order[12:], list(range(12))
    likely = "Batches are drawn with replacement; take a permutation of all images, and cut it."
    got = f"{len(set(numbers) - set(first))} images never"
    expect(sorted(first) == sorted(second) == numbers, "each epoch", "every image once", got, likely)
    expect(sizes == [5, 5, 2] * 2, "sizes of the batches", [5, 5, 2] * 2, sizes, "batch_size says them.")
    likely = "torch.randperm, for each epoch anew."
    expect(first not in (numbers, numbers[::-1]), "the order", "at random", "that of the file", likely)
    expect(first != second, "the order", "another in each epoch", "the same in both", likely)
    expect(all(one["training"] for one in batches), "the model", "in train mode", "in eval mode", "model.train()")

    noise = [one["eps"] for one in batches]
    shapes = {tuple(one.shape) for one in noise}
    likely = "Every image and every dimension has noise of its own."
    expect(shapes == {(5, 8), (2, 8)}, "shapes of eps, Z = 8", "(5, 8) and (2, 8)", shapes, likely)
    repeated = any(torch.equal(one[:2], other[:2]) for one, other in pairwise(noise))
    expect(not repeated, "eps", "new in each batch", "the same again", "Draw it within the loop.")
    shared = any(torch.equal(one[0], one[1]) for one in noise)
    expect(not shared, "eps", "another row for each image", "one row for several", likely)
    drawn = torch.cat(noise).double()  # 192 numbers; five standard errors of their mean and their variance
    mean, var = drawn.mean().item(), drawn.var().item()
    normal = abs(mean) < 5 * 192**-0.5 and abs(var - 1) < 5 * (2 / 192) ** 0.5
    likely = "torch.randn draws from N(0, I); torch.rand does not."
    expect(normal, "eps", "mean 0, variance 1", f"mean {mean:.2f}, variance {var:.2f}", likely)


def off(one, other) -> float:
    """How far the direction of a vector is from another's: 0 to 2. Clipping a gradient to a length leaves it."""
    return (nn.functional.normalize(one, dim=0) - nn.functional.normalize(other, dim=0)).norm().item()


def gradients_are_right(batches):
    """Raise Mismatch unless each step finds the gradient of its batch's loss, of any length."""
    total = 0
    for i, one in enumerate(batches, 1):
        seen, right, total = one["seen"], one["right"], total + one["right"]
        likely, got = "Minimise the third value of objective, and nothing else.", "another direction"
        if i > 1 and off(seen, total) < 1e-3:
            likely, got = "zero_grad() is missing in the loop.", f"the sum over all {i} batches so far"
        elif off(seen, -right) < 1e-3:
            likely, got = "The sign is turned: the loss is to fall.", "its negative"
        expect(off(seen, right) < 1e-3, f"the gradient at step {i}", "that of the batch's loss", got, likely)


# --- the whole: it trains, and is kept ----------------------------------------------------------------------------


def part_digits(work, rng):
    """train: three epochs on the drawn digits"""
    data, test = (load_dataset("digits", split) for split in ("train", "test"))
    torch.manual_seed(int(rng.integers(2**31)))
    model, start = work.VAE(20), time.perf_counter()
    work.train(model, data.images, EPOCHS)
    seconds, what = time.perf_counter() - start, f"-elbo on the test split after {EPOCHS} epochs"
    try:
        neg_elbo = -measured(model, test).results()["elbo"]
    except NotFiniteError as error:
        raise Mismatch(what, f"at most {BAR} nats", str(error), "Try a smaller learning rate.", "the-loop") from error
    if neg_elbo > BAR:
        likely = "The loop is right, and learns slowly: try another learning rate. Adam takes about 1e-3."
        raise Mismatch(what, f"at most {BAR} nats", f"{neg_elbo:.1f} nats", likely, "the-loop")
    holding, folder = examined(work, model, test), Path(work.module.__file__).with_name("own_vae")
    try:
        keep_run(model, data, test, EPOCHS, folder, seconds)
    except (OSError, UsageError) as error:
        raise Mismatch(f"Your VAE is right, and could not be written to {folder}: {error}") from error
    return f"-elbo {neg_elbo:.1f} nats on the test split; {holding} of the doctor's invariants hold; wrote own_vae"


AFTER_OTHERS = (part_digits,)


def examined(work, model, test) -> int:
    """How many invariants of the doctor hold for the learner's own functions, of 500 test images. Raises Mismatch."""

    def elbo_terms(x, x_logits, mu, logvar):
        return work.objective(Answers(mu, logvar, lambda z: x_logits), x, torch.zeros_like(mu))[:2]

    def reparameterize(mu, logvar, eps):
        blank = torch.zeros(len(mu), 1, 28, 28)
        work.objective(given := Answers(mu, logvar, lambda z: blank), blank, eps)
        return given.z

    own = dict(encode=model.encode, decode=model.decode, elbo_terms=elbo_terms, reparameterize=reparameterize)
    try:
        found = examine(Subject("your VAE", **own, model=model, arrays=torch.from_numpy), test.images[:500] / 255)
    except UsageError as error:
        raise Mismatch(f"The doctor cannot examine your VAE: {error}") from error
    if worst := first_failure(found):
        raise Mismatch(f"The doctor on your trained VAE: {worst.name} fails. {worst.sentence}", read="the-maths")
    return sum(one.status == "ok" for one in found)


HINTS = (
    "VAE: begin with the table of README.md, and say what goes into each of the nine layers and what comes out. Two "
    "nn.Module classes, or two nn.ModuleDict, called self.encoder and self.decoder, give the names.",
    "VAE: the sizes are 1, 32, 64 channels and 28, 14, 7 pixels; 64 * 7 * 7 = 3136 numbers meet the linear layers. "
    "Every convolution has a kernel of 3, stride 2 and padding 1, a transposed one also output_padding 1.",
    'VAE: nn.ModuleDict({"conv1": nn.Conv2d(1, 32, 3, stride=2, padding=1), ...}), used as self.encoder["conv1"](x). '
    "In encode h.flatten(1) stands before fc, in decode h.reshape(-1, 64, 7, 7) after fc2.",
    "objective: encode, make z from eps as in exercise 5, decode, and add the two terms of exercise 4.",
    "objective: mu, logvar, eps and z are (B, Z), x_logits and x (B, 1, 28, 28), recon and kl (B,): sum over all axes "
    "but the first. Only the loss takes a mean.",
    'objective: F.binary_cross_entropy_with_logits(x_logits, x, reduction="none") keeps all pixels; '
    ".sum(dim=(1, 2, 3)) adds up those of an image.",
    "train: an optimizer before the loops; a loop over the epochs; in it one over the batches. Say of each line in the "
    "inner loop what it needs from the one before.",
    "train: images / 255 as float32 is x; a permutation of range(N), cut into pieces of batch_size, is an epoch; each "
    "piece has noise (len(piece), Z) of its own.",
    "train: for index in torch.randperm(len(x)).split(batch_size), take x[index] and torch.randn(len(index), "
    "model.latent_dim); then objective, zero_grad(), backward(), step().",
)
