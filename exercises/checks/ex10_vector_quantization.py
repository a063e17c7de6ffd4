"""What exercise 10 asks for, compared with level 3's VQ-VAE, autograd, k-means of scikit-learn and plain loops."""

import itertools
import warnings

import numpy as np
import torch
import vq_vae

from checks.judging import LearnerError, Mismatch, Wrong, agree, agree_on_cases, numbers, show, to_numpy

FORBIDDEN = ("vq_vae", "vae_paper", "sklearn", "scipy")  # they hold the answer
PAGE = "10_vector_quantization.md"


# --- the nearest code ---------------------------------------------------------------------------------------------


def nearest(z_e, codebook):
    """By differences, in float64."""
    apart = z_e.astype(np.float64)[..., None, :] - codebook.astype(np.float64)
    return np.square(apart).sum(axis=-1).argmin(axis=-1)


def expanded(z_e, codebook):
    """||e||^2 - 2 z.e in the arrays' own precision."""
    with np.errstate(all="ignore"):
        return (np.square(codebook).sum(axis=1) - 2 * z_e @ codebook.T).argmin(axis=-1)


def own_differences(z_e, codebook):
    with np.errstate(all="ignore"):
        return np.square(z_e[..., None, :] - codebook).sum(axis=-1).argmin(axis=-1)


def last_of_a_tie(z_e, codebook):
    return len(codebook) - 1 - nearest(z_e, codebook[::-1])


def part_nearest_code(work, rng):
    """nearest_code: which code is it"""
    cases = []
    for shape, K, D in (((5, 4, 3), 7, 3), ((6,), 2, 1), ((1, 3), 1, 2), ((40,), 30, 4)):
        z_e, codebook = rng.normal(size=(*shape, D)), rng.normal(size=(K, D)) * rng.uniform(0.2, 2, (K, 1))
        cases.append(dict(z_e=z_e, codebook=codebook))
        cases.append(dict(z_e=z_e.astype(np.float32), codebook=codebook.astype(np.float32)))
    whole = rng.integers(-2, 3, (50, 2)).astype(float)
    cases.append(dict(z_e=whole, codebook=np.array([[1.0, 0], [0, 1], [-1, 0], [1, 0], [0, -1]])))  # ties, a code twice
    far = (1000 + 0.02 * rng.normal(size=(60, 3))).astype(np.float32), 1000 + 0.02 * rng.normal(size=(20, 3))
    cases.append(dict(z_e=far[0], codebook=far[1].astype(np.float32)))  # all squares are 3e6, in float32 +- 0.2
    large = 60 * rng.normal(size=(40, 64)), 60 * rng.normal(size=(9, 64))  # in float16 the squares are infinite
    cases.append(dict(zip(("z_e", "codebook"), (a.astype(np.float16) for a in large), strict=True)))
    mistakes = {
        "The squares overflow: float16 ends at 65,504. Compute the distances in float64.": (
            lambda z, e: own_differences(z, e) if z.dtype == np.float16 else nearest(z, e),
        ),
        "Right for numbers of ordinary size. In float32 the squares of large ones swallow small distances, and in "
        "float16 they overflow: compute the distances in float64.": (
            expanded,
            lambda z, e: own_differences(z, e) if z.dtype == np.float16 else expanded(z, e),
            lambda z, e: expanded(z, e) if z.dtype != np.float16 else nearest(z, e),
        ),
        "Of codes that are equally near the lowest number is wanted.": last_of_a_tie,
        "That is the farthest code.": lambda z, e: np.square(z.astype(float)[..., None, :] - e).sum(-1).argmax(-1),
        "That is the code of the largest product. A long code wins it without being near: ||e||^2 belongs to the "
        "distance.": lambda z, e: (z.astype(float) @ e.T.astype(float)).argmax(axis=-1),
        "The distance is ||z||^2 - 2 z.e + ||e||^2: the 2 is missing.": (
            lambda z, e: (np.square(e.astype(float)).sum(axis=1) - z.astype(float) @ e.T.astype(float)).argmin(axis=-1)
        ),
        "That is the largest difference or the sum of the differences, not the sum of squares.": (
            lambda z, e: np.abs(z.astype(float)[..., None, :] - e).sum(axis=-1).argmin(axis=-1),
            lambda z, e: np.abs(z.astype(float)[..., None, :] - e).max(axis=-1).argmin(axis=-1),
        ),
    }
    read = f"{PAGE}#the-maths"
    agree_on_cases("nearest_code", work.nearest_code, nearest, cases, mistakes=mistakes, read=read)


# --- straight through, and the loss -------------------------------------------------------------------------------


def tensors(rng, B, T, D, dtype=torch.float64):
    return [torch.from_numpy(rng.normal(size=(B, T, D))).to(dtype).requires_grad_() for _ in range(2)]


def gradient(value, tensor) -> np.ndarray:
    """The derivative of value, a tensor of one number, by tensor; zeros where it does not depend on it."""
    if not value.requires_grad:
        return np.zeros(tuple(tensor.shape))
    (found,) = torch.autograd.grad(value, tensor, retain_graph=True, allow_unused=True)
    return to_numpy(torch.zeros_like(tensor) if found is None else found)


def is_tensor(what, value):
    if not isinstance(value, torch.Tensor):
        raise Mismatch(what, "a tensor, with its gradient", type(value).__name__)
    return value


def part_straight_through(work, rng):
    """straight_through: forward the code, backward as if it were not there"""
    read = f"{PAGE}#straight-through"
    for shape, dtype in (((3, 5, 2), torch.float64), ((1, 4, 1), torch.float64), ((5, 1, 3), torch.float32)):
        z_e, e = tensors(rng, *shape, dtype)
        inputs = str(dtype).removeprefix("torch.")
        z_q = is_tensor("straight_through(z_e, e)", work.straight_through(z_e, e))
        mistakes = {"That is z_e. Forward, the decoder has to get the code itself.": z_e}
        agree("straight_through(z_e, e): the value", z_q, e, mistakes=mistakes, read=read, inputs=inputs)
        back = torch.from_numpy(rng.normal(size=shape)).to(dtype)  # what comes back to the decoder's input
        value = (z_q * back).sum()
        none = (
            "Nothing comes back to the encoder: the nearest code is a step function of z_e, and its own gradient is 0."
        )
        what = "straight_through(z_e, e): the gradient that comes to z_e"
        agree(what, gradient(value, z_e), back, mistakes={none: 0 * back}, read=read, inputs=inputs)
        reached = "The decoder's gradient reaches the codebook too: detach the code."
        what = "straight_through(z_e, e): the gradient that comes to e (none)"
        agree(what, gradient(value, e), 0 * back, mistakes={reached: back, f"{reached} ": -back}, read=read)


def losses(z_e, e, beta=0.25):
    """||z_e - e||^2 twice, once for each side."""
    return torch.stack([(z_e.detach() - e).square(), beta * (z_e - e.detach()).square()]).sum(dim=(0, 2, 3))


def part_vq_loss(work, rng):
    """vq_loss: each side pulled by its own term"""
    read = f"{PAGE}#the-maths"
    for shape, dtype, beta in (
        ((3, 5, 2), torch.float64, 0.25),
        ((1, 4, 1), torch.float64, 0.7),
        ((5, 1, 3), torch.float32, 3.0),
    ):
        z_e, e = tensors(rng, *shape, dtype)
        with torch.no_grad():
            apart, right = 2 * (z_e - e), losses(z_e, e, beta)
        inputs = str(dtype).removeprefix("torch.")
        loss = is_tensor("vq_loss(z_e, e)", work.vq_loss(z_e, e, *([beta] if beta != 0.25 else [])))
        squared = right / (1 + beta)
        values = {
            "The mean over an image's numbers, where their sum is meant: the sum goes with nats per image.": (
                right / (shape[1] * shape[2])
            ),
            "The mean over an image's positions, where their sum is meant.": right / shape[1],
            "One number for each image: no sum or mean over the batch.": right.sum(),
            "One number for each image: no sum or mean over the batch. ": right.mean(),
            "That is the commitment alone; the codebook's term is missing.": beta * squared,
            "beta belongs to the commitment only: once without, once with.": 2 * beta * squared,
            "beta is missing in front of the commitment.": 2 * squared,
            "That is the codebook's term alone; the commitment is missing.": squared,
        }
        if shape[0] > 1:
            agree(f"vq_loss(z_e, e, beta={beta})", loss, right, mistakes=values, read=read, inputs=inputs)
        agree(f"vq_loss(z_e, e, beta={beta})", loss, right, read=read, inputs=inputs)
        swapped = "The two stop-gradients are exchanged: the codebook's term stops at z_e, the commitment at e."
        unstopped = "Both terms pull on both sides: a stop-gradient (detach) is missing."
        for name, tensor, expected, other in (("z_e", z_e, beta * apart, apart), ("e", e, -apart, -beta * apart)):
            agree(
                f"vq_loss(z_e, e, beta={beta}): the gradient that comes to {name}",
                gradient(loss.sum(), tensor),
                expected,
                mistakes={unstopped: expected + other, swapped: other, f"Nothing comes to {name}.": 0 * expected},
                read=read,
                inputs=inputs,
            )


# --- the same by hand ---------------------------------------------------------------------------------------------


def element(function, index, count, name):
    """One of the `count` arrays that a function returns."""

    def call(*args):
        answer = function(*args)
        if not isinstance(answer, (tuple, list)) or len(answer) != count:
            found = f"{len(answer)} of them" if isinstance(answer, (tuple, list)) else type(answer).__name__
            raise Mismatch(f"{name}(...) returns {count} arrays, in the order of its description.", str(count), found)
        return answer[index]

    return call


def agree_on_each(names, function_name, function, right, cases, mistakes, read):
    """agree_on_cases for each array of a tuple; mistakes: for each, what to say -> a function of the arguments."""
    for index, name in enumerate(names):
        agree_on_cases(
            function_name,
            element(function, index, len(names), function_name),
            element(right, index, len(names), function_name),
            cases,
            mistakes={f"In {name}: {text}": wrong for text, wrong in mistakes[index].items()},
            read=read,
        )


def by_autograd(d_z_q, z_e, codes, codebook, beta=0.25):
    """Through level 3's straight_through and the two terms."""
    z_e, codebook, d_z_q = (torch.tensor(a) for a in (z_e, codebook, d_z_q))
    z_e.requires_grad_(), codebook.requires_grad_()
    e = codebook[torch.tensor(codes)]
    recon = (vq_vae.straight_through(z_e, e) * d_z_q).sum()
    (recon + losses(z_e, e, beta).mean()).backward()
    return z_e.grad.numpy(), codebook.grad.numpy()


def part_vq_gradients(work, rng):
    """vq_gradients: both gradients by hand"""
    cases = []
    for B, T, D, K in ((3, 8, 2, 5), (1, 6, 1, 3), (5, 1, 3, 4)):
        for beta in ({}, {"beta": 0.6}):
            codes = rng.integers(0, K - 1, (B, T))  # the last is never used, another more than once
            codes[0] = codes[0, 0]
            arrays = rng.normal(size=(B, T, D)), rng.normal(size=(B, T, D)), codes, rng.normal(size=(K, D))
            cases.append(dict(zip(("d_z_q", "z_e", "codes", "codebook"), arrays, strict=True)) | beta)

    def parts(d_z_q, z_e, codes, codebook, beta=0.25):
        return d_z_q, by_autograd(0 * d_z_q, z_e, codes, codebook, beta)[0], beta

    def of_z_e(combine):
        return lambda *arguments: combine(*parts(*arguments))

    def overwritten(d_z_q, z_e, codes, codebook, beta=0.25):
        found = np.zeros_like(codebook)
        found[codes] = -2 * (z_e - codebook[codes]) / len(z_e)
        return found

    def d_codebook(factor):
        return lambda *arguments: factor(*arguments) * by_autograd(*arguments)[1]

    def wrong_recon(d_z_q, z_e, codes, codebook, beta=0.25):
        found = by_autograd(d_z_q, z_e, codes, codebook, beta)[1]
        np.add.at(found, codes, d_z_q)
        return found

    mistakes = (
        {
            "the commitment is missing.": of_z_e(lambda d, c, beta: d),
            "the decoder's gradient is missing, which straight-through copies to the encoder.": (
                of_z_e(lambda d, c, beta: c)
            ),
            "beta is missing.": of_z_e(lambda d, c, beta: d + c / beta),
            "the codebook's term pulls along; it stops at z_e.": of_z_e(lambda d, c, beta: d + c + c / beta),
            "the 2 of the square is missing.": of_z_e(lambda d, c, beta: d + c / 2),
            "the sign of the commitment is turned: descending has to bring z_e to its code.": (
                of_z_e(lambda d, c, beta: d - c)
            ),
            "the mean over the batch is missing in the commitment: divide by B (d_z_q holds it already).": (
                lambda *a: by_autograd(a[0] / len(a[0]), *a[1:])[0] * len(a[0])
            ),
            "d_z_q holds the mean over the batch already.": lambda *a: by_autograd(a[0] / len(a[0]), *a[1:])[0],
            "the mean is over images, not over images and positions.": (
                lambda *a: by_autograd(a[0] * a[0].shape[1], *a[1:])[0] / a[0].shape[1]
            ),
        },
        {
            "members of one code are overwritten, not added: np.add.at adds where an index comes twice.": overwritten,
            "the sign is turned: descending has to bring the code to its members.": d_codebook(lambda *a: -1),
            "beta belongs to the commitment, which stops at the code.": d_codebook(lambda *a: (*a, 0.25)[4]),
            "commitment pulls along; it stops at the code.": d_codebook(lambda *a: 1 + (*a, 0.25)[4]),
            "the mean over the batch is missing.": d_codebook(lambda *a: len(a[0])),
            "the mean is over images, not over images and positions.": d_codebook(lambda *a: 1 / a[0].shape[1]),
            "the 2 of the square is missing.": d_codebook(lambda *a: 0.5),
            "the decoder's gradient goes past the codes; straight-through hands it to the encoder alone.": wrong_recon,
        },
    )
    names = ("the derivative by z_e", "the derivative by the codebook")
    read = f"{PAGE}#straight-through"
    agree_on_each(names, "vq_gradients", work.vq_gradients, by_autograd, cases, mistakes, read)


# --- running means ------------------------------------------------------------------------------------------------

CODEBOOK = ("usage", "sums", "the codebook")


def model_of(usage, sums, codebook, **options):
    """Level 3's VQ-VAE with this codebook and these running means."""
    model = vq_vae.VQVAE(*codebook.shape, **options).double()
    for name, value in (("usage", usage), ("sums", sums), ("codebook", codebook)):
        getattr(model, name).copy_(torch.from_numpy(value))
    return model


def updated(model, z_e, codes):
    """usage, sums and codebook after level 3's update; dead codes take the outputs from the first on."""
    B = len(z_e) // 49
    order = torch.arange(49.0 * B).view(B, 7, 7)
    model.update_codes(torch.from_numpy(z_e).view(B, 7, 7, -1), torch.from_numpy(codes).view(B, 7, 7), order)
    return tuple(getattr(model, name).numpy().copy() for name in ("usage", "sums", "codebook"))


def ema(usage, sums, codebook, z_e, codes, decay=0.99):
    return updated(model_of(usage, sums, codebook, decay=decay, dead_below=0.0), z_e, codes)


def states(rng, K, D):
    usage = rng.dirichlet(np.ones(K))
    codebook = rng.normal(size=(K, D))
    return dict(usage=usage, sums=usage[:, None] * codebook, codebook=codebook)


def by_parts(combine):
    """A mistake in one of the running means: combine(old, batch, decay)."""

    def both(usage, sums, codebook, z_e, codes, decay=0.99):
        n = np.bincount(codes, minlength=len(usage)) / len(codes)
        m = ema(0 * usage, 0 * sums, codebook, z_e, codes, 0.0)[1]
        return combine(usage, n, decay, len(codes)), combine(sums, m, decay, len(codes))

    return lambda *a: both(*a)[0], lambda *a: both(*a)[1]


def part_ema_step(work, rng):
    """ema_step: running means"""
    cases = []
    for B, D, K, decay in ((1, 3, 8, {}), (3, 2, 4, {"decay": 0.8}), (1, 1, 70, {"decay": 0.0})):
        z_e, codes = rng.normal(size=(49 * B, D)), rng.integers(0, K - 1, 49 * B)
        cases.append(states(rng, K, D) | dict(z_e=z_e, codes=codes) | decay)
    empty = states(rng, 4, 2)  # never used so far, and not now: nothing to divide by
    empty["usage"][3], empty["sums"][3] = 0, 0
    cases.append(empty | dict(z_e=rng.normal(size=(49, 2)), codes=rng.integers(0, 3, 49)))
    known = {
        "decay belongs to the old value, 1 - decay to the batch.": by_parts(
            lambda old, new, d, N: (1 - d) * old + d * new
        ),
        "sums over the batch where shares are meant: divide by N, or the update depends on the batch's size.": (
            by_parts(lambda old, new, d, N: d * old + (1 - d) * N * new)
        ),
        "the batch comes in at full weight; 1 - decay belongs in front.": by_parts(
            lambda old, new, d, N: d * old + new
        ),
        "the old value is left out: that is the batch's own.": by_parts(lambda old, new, d, N: new),
        "the old value is not weighed with the decay.": by_parts(lambda old, new, d, N: old + (1 - d) * new),
        "nothing has changed.": by_parts(lambda old, new, d, N: old),
    }
    direct = "it moves to the mean of its members in this batch. The step is the ratio of the two running means."
    mistakes = (
        {text: pair[0] for text, pair in known.items()},
        {text: pair[1] for text, pair in known.items()}
        | {
            "the mean of the members where their sum is meant: the division by the usage comes later.": (
                lambda u, s, c, z, k, decay=0.99: decay * s + (1 - decay) * batch_means(c, z, k)
            )
        },
        {
            "a code that was never used has 0 / 0: leave it where it is.": (
                lambda *a: np.where(ema(*a)[0][:, None] > 0, ema(*a)[2], np.nan),
            ),
            "a code without use has moved to 0: leave it where it is.": (
                lambda *a: np.where(ema(*a)[0][:, None] > 0, ema(*a)[2], 0),
            ),
            direct: (lambda u, s, c, z, k, decay=0.99: ema(0 * u, 0 * s, c, z, k, 0.0)[2]),
            "it has not moved: e = sums / usage.": lambda u, s, c, z, k, decay=0.99: c,
            "the running means of before the step are used.": (
                lambda u, s, c, z, k, decay=0.99: np.where(u[:, None] > 0, s / np.where(u > 0, u, 1)[:, None], c)
            ),
            "the usage is smoothed, as in much code; here e = sums / usage, and a code without use stays.": smoothed,
            "it is sums / usage, not the sums.": lambda *a: ema(*a)[1],
        },
    )
    agree_on_each(CODEBOOK, "ema_step", work.ema_step, ema, cases, mistakes, f"{PAGE}#running-means")


def smoothed(*arguments):
    """The codebook with Laplace smoothing of the usage by 1e-5, in the usual form."""
    usage, sums, _ = ema(*arguments)
    return sums / ((usage + 1e-5) / (usage.sum() + len(usage) * 1e-5) * usage.sum())[:, None]


def batch_means(codebook, z_e, codes):
    """The mean of each code's members; a code without any: 0."""
    means = [z_e[codes == k].mean(axis=0) if (codes == k).any() else 0 * row for k, row in enumerate(codebook)]
    return np.array(means)


def part_k_means(work, rng):
    """ema_step with decay 0: a step of k-means"""
    from sklearn.cluster import KMeans

    for N, D, K in ((60, 2, 5), (31, 1, 3)):
        points = rng.normal(size=(N, D))
        centres = points[:K].copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one step is not enough to converge
            fitted = KMeans(K, init=centres, n_init=1, max_iter=1, tol=0, algorithm="lloyd").fit(points)
        codes = nearest(points, centres)
        start = np.full(K, 1 / K), centres / K, centres
        _, _, found = work.ema_step(*start, points, codes, 0.0)
        what = f"the codebook after ema_step of {N} points with decay 0, against one step of scikit-learn's KMeans"
        agree(what, found, fitted.cluster_centers_, read=f"{PAGE}#running-means")


# --- revival ------------------------------------------------------------------------------------------------------


def revived(usage, sums, codebook, outputs, dead_below=0.1):
    model = model_of(usage, sums, codebook, decay=1.0, dead_below=dead_below)
    return updated(model, outputs, np.zeros(len(outputs), int))


def part_revive(work, rng):
    """revive: dead codes"""
    cases = []
    for B, K, D, dead, more in ((1, 8, 2, 3, {}), (3, 32, 1, 12, {"dead_below": 0.5}), (1, 64, 3, 57, {})):
        below = more.get("dead_below", 0.1)
        usage, where = rng.uniform(1, 2, K) / K, rng.permutation(K)
        usage[where[:dead]] = rng.uniform(0.001, 0.8, dead) * below / K
        usage[where[dead : dead + 2]] = 1.5 * below / K, below / K  # barely alive (K a power of 2: no rounding)
        codebook = rng.normal(size=(K, D))
        outputs = rng.normal(size=(49 * B, D))
        state = dict(usage=usage, sums=usage[:, None] * codebook, codebook=codebook)
        cases.append(state | dict(outputs=outputs) | more)
    alive = states(rng, 4, 2)
    alive["usage"][:], alive["sums"] = 0.25, 0.25 * alive["codebook"]
    cases.append(alive | dict(outputs=rng.normal(size=(49, 2))))

    def dead_of(usage, outputs, dead_below=0.1):
        return np.flatnonzero(usage < dead_below / len(usage))[: len(outputs)]

    def with_dead(index, value):
        def call(u, s, c, o, dead_below=0.1):
            found, dead = (u, s, c)[index].copy(), dead_of(u, o, dead_below)
            found[dead] = value(o[: len(dead)], len(u))
            return found

        return call

    def never_used(index):
        return lambda u, s, c, o, dead_below=0.1: revived(u, s, c, o, 0.0)[index]

    def absolute(u, s, c, o, dead_below=0.1):
        return revived(u, s, c, o, dead_below * len(u))

    few = "the threshold is a part of the even share 1 / K: dead_below / K."
    mistakes = (
        {
            few: lambda *a: absolute(*a)[0],
            "a revived code's usage stays low, so it is dead again in the next step: set it to 1 / K.": (
                lambda u, s, c, o, dead_below=0.1: u
            ),
            "usage is a share: 1 / K, not 1.": with_dead(0, lambda o, K: 1),
        },
        {
            few: lambda *a: absolute(*a)[1],
            "e = sums / usage has to be the new code, or the next step takes it back: sums = usage x code.": (
                lambda u, s, c, o, dead_below=0.1: s,
                with_dead(1, lambda o, K: o),
                with_dead(1, lambda o, K: 0 * o),
            ),
        },
        {
            few: lambda *a: absolute(*a)[2],
            "no dead code has moved.": (lambda u, s, c, o, dead_below=0.1: c, never_used(2)),
        },
    )
    agree_on_each(CODEBOOK, "revive", work.revive, revived, cases, mistakes, f"{PAGE}#dead-codes")


def part_perplexity(work, rng):
    """perplexity: how many codes are at work"""

    def right(codes):
        codes = torch.from_numpy(codes)
        return vq_vae.perplexity(vq_vae.code_shares(codes, int(codes.max()) + 1)).numpy()

    cases = [dict(codes=rng.integers(0, 5, (3, 7, 7)) ** 2), dict(codes=np.full((4, 2), 3))]
    cases += [dict(codes=rng.integers(0, 40, 11)), dict(codes=np.array([[0, 1], [2, 3]]))]

    def entropy(codes):
        return np.log(right(codes))

    mistakes = {
        "That is the entropy; the perplexity is its exponential.": entropy,
        "The sign of the entropy is turned.": lambda codes: np.exp(-entropy(codes)),
        "e to the power of an entropy in bits: take both to base e, or both to base 2.": (
            lambda codes: np.exp(entropy(codes) / np.log(2)),
            lambda codes: 2 ** entropy(codes),
        ),
        "That is the number of codes used. One that has a single position counts for less than one with hundreds.": (
            lambda codes: len(np.unique(codes))
        ),
        "0 ln 0 is nan: leave out the codes that are not used.": (
            lambda codes: right(codes) if len(np.unique(codes)) == codes.max() + 1 else np.nan
        ),
    }
    read = f"{PAGE}#dead-codes"
    # Often log(p + 1e-10) is written, or 1e-8, against 0 ln 0: with 11 codes that changes the entropy by 1e-7.
    agree_on_cases("perplexity", work.perplexity, right, cases, mistakes=mistakes, read=read, rel=1e-6)


# --- a prior over codes -------------------------------------------------------------------------------------------


def markov(codes, count, extra=0.1):
    """By counting one after another."""
    first, pairs = np.full(count, float(extra)), np.full((count, count), float(extra))
    for row in codes:
        first[row[0]] += 1
        for before, after in itertools.pairwise(row):
            pairs[before, after] += 1
    return first / first.sum(), (pairs.T / pairs.sum(axis=1)).T


def part_fit_markov(work, rng):
    """fit_markov: counting what follows what"""
    cases = []
    for N, T, K, extra in (
        (5, 6, 4, {}),
        (1, 9, 3, {"extra": 1}),
        (7, 1, 5, {"extra": 0.5}),
        (3, 4, 2, {"extra": 2.0}),
    ):
        cases.append(dict(codes=rng.integers(0, max(1, K - 1), (N, T)), count=K) | extra)

    def joined(codes, count, extra=0.1):
        return markov(codes.reshape(1, -1), count, extra)[1]

    def columns(codes, count, extra=0.1):
        pairs = pair_counts(codes, count, extra)
        return pairs / pairs.sum(axis=0)

    def overwritten(codes, count, extra=0.1):
        pairs = np.full((count, count), float(extra))
        pairs[codes[:, :-1], codes[:, 1:]] += 1
        return pairs / pairs.sum(axis=1, keepdims=True)

    def pair_counts(codes, count, extra=0.1):
        pairs = np.full((count, count), float(extra))
        np.add.at(pairs, (codes[:, :-1], codes[:, 1:]), 1)
        return pairs

    def plain(codes, count):
        counts = np.bincount(codes, minlength=count)
        return counts / counts.sum()

    mistakes = (
        {
            "these are the shares at all positions; p(c_1) is of the first alone.": (
                lambda codes, count, extra=0.1: markov(codes.reshape(-1, 1), count, extra)[0]
            ),
            "`extra` is missing.": lambda codes, count, extra=0.1: plain(codes[:, 0], count),
            "these are counts: divide by their sum.": (
                lambda codes, count, extra=0.1: np.bincount(codes[:, 0], minlength=count) + extra
            ),
        },
        {
            "the end of an image and the start of the next are counted as neighbours.": joined,
            "each column adds up to 1; each row has to: row i is p( . | i).": columns,
            "rows and columns are exchanged: row i is what comes after i.": (
                lambda codes, count, extra=0.1: markov(codes[:, ::-1], count, extra)[1]
            ),
            "a pair that comes twice counts once: np.add.at adds where an index comes twice.": overwritten,
            "`extra` is missing, and a code that never came before has 0 / 0.": (
                lambda codes, count, extra=0.1: (
                    pair_counts(codes, count, 0) / pair_counts(codes, count, 0).sum(1)[:, None]
                )
            ),
            "these are counts: divide each row by its sum.": pair_counts,
            "all together add up to 1, that is p(c_(t-1), c_t); each row has to: row i is p( . | i).": (
                lambda *a: pair_counts(*a) / pair_counts(*a).sum()
            ),
        },
    )
    names = ("p(c_1)", "the transition")
    agree_on_each(names, "fit_markov", work.fit_markov, markov, cases, mistakes, f"{PAGE}#a-prior-to-sample-from")


def chains(rng):
    """Cases {codes, first, transition}: unlike rows, a matrix that is not symmetric."""
    for N, T, K in ((5, 6, 4), (1, 3, 2), (3, 1, 5), (2, 49, 7)):
        first, transition = rng.dirichlet(np.ones(K)), rng.dirichlet(np.ones(K), K)
        yield dict(codes=rng.integers(0, K, (N, T)), first=first, transition=transition)


def nats(codes, first, transition):
    """By torch's categorical distribution, position after position."""
    codes, first, transition = (torch.from_numpy(a) for a in (codes, first, transition))
    total = -torch.distributions.Categorical(first).log_prob(codes[:, 0])
    for t in range(1, codes.shape[1]):
        total = total - torch.distributions.Categorical(transition[codes[:, t - 1]]).log_prob(codes[:, t])
    return total.numpy()


def part_markov_nats(work, rng):
    """markov_nats: what a code costs"""
    mistakes = {
        "The sign: -ln p is a cost, and positive.": lambda codes, first, transition: -nats(codes, first, transition),
        "p(c_1) is missing.": lambda codes, first, transition: (
            nats(codes, np.ones_like(first), transition) - np.log(len(first))
        ),
        "p(c_1) is taken as even.": lambda codes, first, transition: nats(codes, np.ones_like(first), transition),
        "Rows and columns of the transition are exchanged: [before, after].": (
            lambda codes, first, transition: (
                -np.log(first[codes[:, 0]]) - np.log(transition[codes[:, 1:], codes[:, :-1]]).sum(axis=1)
            )
        ),
        "That is in bits.": lambda codes, first, transition: nats(codes, first, transition) / np.log(2),
        "The mean over the positions, where their sum is meant.": (
            lambda codes, first, transition: nats(codes, first, transition) / codes.shape[1]
        ),
        "One number for each image, (N,).": (
            lambda codes, first, transition: nats(codes, first, transition).sum(),
            lambda codes, first, transition: nats(codes, first, transition).mean(),
        ),
        "Every position has p(c_1), as if the one before said nothing.": (
            lambda codes, first, transition: -np.log(first[codes]).sum(axis=1)
        ),
    }
    read = f"{PAGE}#a-prior-to-sample-from"
    agree_on_cases("markov_nats", work.markov_nats, nats, list(chains(rng)), mistakes=mistakes, read=read)


def drawn(uniforms, first, transition, side="right", after=lambda transition, code: transition[code]):
    """By searching the cumulative sums, image after image."""
    codes = np.zeros(uniforms.shape, int)
    for row, drawn_from in zip(codes, uniforms, strict=True):
        p = first
        for t, number in enumerate(drawn_from):
            row[t] = min(np.searchsorted(np.cumsum(p), number, side=side), len(p) - 1)
            p = after(transition, row[t])
    return codes


def part_sample_markov(work, rng):
    """sample_markov: drawing codes"""
    cases = []
    for chain in chains(rng):
        uniforms = rng.random(chain.pop("codes").shape)
        cases.append(dict(uniforms=uniforms) | chain)
    sparse = np.array([[0, 0.5, 0, 0.5], [0, 0, 0.25, 0.75], [0.5, 0, 0.25, 0.25], [0.25, 0.5, 0, 0.25]])
    cases.append(dict(uniforms=rng.choice([0, 0.3, 0.5, 0.9], (6, 5)), first=sparse[0], transition=sparse))
    mistakes = {
        "Codes of probability 0 are drawn where a uniform lies on a boundary: before <= u < with its own.": (
            lambda *a: drawn(*a, side="left")
        ),
        "The column of the code before is taken; its row is p( . | code).": (
            lambda *a: drawn(*a, after=lambda transition, code: transition[:, code])
        ),
        "Every position is drawn from p(c_1), as if the one before said nothing.": (
            lambda u, first, transition: drawn(u, first, np.repeat(first[None], len(first), axis=0))
        ),
        "The first uniform is used for all positions.": lambda u, *a: drawn(
            np.repeat(u[:, :1], u.shape[1], axis=1), *a
        ),
        "That is the most probable code every time, not a draw.": (
            lambda u, first, transition: greedy(u, first, transition)
        ),
    }
    read = f"{PAGE}#a-prior-to-sample-from"
    agree_on_cases("sample_markov", work.sample_markov, drawn, cases, mistakes=mistakes, read=read)
    codes = numbers("sample_markov(...)", work.sample_markov(*cases[0].values()), read)
    if codes.dtype.kind not in "iu":
        raise Mismatch("sample_markov(...)", "codes as int, for they choose rows", show(codes), read=read)
    almost = np.full((3, 3), (1 - 1e-9) / 3)
    rest = (
        "Rows may add up to a hair less than 1, and the uniform may lie above: the last code takes the rest, at every "
        "position, before it chooses the next row."
    )
    what = "sample_markov(uniforms of 1 - 1e-12, rows that add up to 1 - 1e-9)"
    try:
        codes = work.sample_markov(np.full((2, 3), 1 - 1e-12), almost[0], almost)
    except LearnerError as error:
        if isinstance(error.__cause__, IndexError):
            raise Mismatch(what, "the code 2 everywhere", f"IndexError: {error.__cause__}", rest, read) from error
        raise
    agree(what, codes, np.full((2, 3), 2), mistakes={rest: np.full((2, 3), 3)}, read=read)


def greedy(uniforms, first, transition):
    rows = np.zeros(uniforms.shape, int)
    for row in rows:
        p = first
        for t in range(len(row)):
            row[t] = p.argmax()
            p = transition[row[t]]
    return rows


PARTS = (
    part_nearest_code,
    part_straight_through,
    part_vq_loss,
    part_vq_gradients,
    part_ema_step,
    part_k_means,
    part_revive,
    part_perplexity,
    part_fit_markov,
    part_markov_nats,
    part_sample_markov,
)

HINTS = (
    "nearest_code: ||z - e||^2 = ||z||^2 - 2 z.e + ||e||^2, and the first is the same for every code. z_e @ codebook.T "
    "has all products at once. Turn both into float64 first: squares of large numbers swallow small differences.",
    "straight_through and vq_loss: t.detach() has the value of t and no gradient. z_e + something detached has the "
    "gradient of z_e; which something makes the value that of e? In the loss each square occurs twice, one side "
    "detached each time.",
    "vq_gradients: the derivative of (z - e)^2 by z is 2 (z - e), by e it is -2 (z - e). To z_e come d_z_q and the "
    "commitment, to a code those of all its members: np.add.at(d_codebook, codes, rows) adds row by row.",
    "ema_step: np.eye(K)[codes] is one-hot (N, K); its mean over N is the shares, its transpose times z_e / N the sums."
    " Divide only where usage > 0, and write into a copy of the codebook.",
    "revive: np.flatnonzero(usage < dead_below / K)[: len(outputs)]. Afterwards usage is 1 / K there and sums / usage "
    "is the new code.",
    "perplexity: np.unique(codes, return_counts=True)[1] counts the codes that occur, and only these; a code that does "
    "not occur adds 0 to the entropy, and log 0 must not be taken.",
    "fit_markov: codes[:, :-1] are the codes before, codes[:, 1:] those after; np.add.at(pairs, (before, after), 1).",
    "markov_nats: the logarithms of the entries that fit_markov counts up, transition[before, after], and of first.",
    "sample_markov: a loop over positions. p (N, K).cumsum(axis=1) <= uniforms[:, t, None] is true for every code that "
    "lies wholly before the uniform; count them. Then p = transition[codes[:, t]].",
)

DISTANCE = "np.square(codebook).sum(axis=1) - 2 * z_e @ codebook.T"
WIDE = "    z_e, codebook = z_e.astype(np.float64), codebook.astype(np.float64)\n"
LOSS = "((z_e.detach() - e).square() + beta * (z_e - e.detach()).square()).sum(dim=(1, 2))"
ALIVE = "codebook[alive] = sums[alive] / usage[alive, None]"
PAIRS = "np.add.at(pairs, (codes[:, :-1], codes[:, 1:]), 1)"
CLIP = "before.clip(max=len(first) - 1)"

WRONG = (
    Wrong("own precision", WIDE, "", "float64"),
    Wrong("largest product", DISTANCE, "-z_e @ codebook.T", "largest product"),
    Wrong("no 2", DISTANCE, DISTANCE.replace("2 * ", ""), "2 is missing"),
    Wrong(
        "the last of a tie",
        f"({DISTANCE}).argmin(axis=-1)",
        f"len(codebook) - 1 - ({DISTANCE})[..., ::-1].argmin(-1)",
        "lowest",
    ),
    Wrong("no gradient", "z_e + (e - z_e).detach()", "e.detach()", "Nothing comes back"),
    Wrong("the code with its gradient", "z_e + (e - z_e).detach()", "z_e + e - z_e.detach()", "reaches the codebook"),
    Wrong("z_e itself", "z_e + (e - z_e).detach()", "z_e", "code itself"),
    Wrong("no stop", LOSS, "((1 + beta) * (z_e - e).square()).sum(dim=(1, 2))", "pull on both"),
    Wrong(
        "stops exchanged",
        LOSS,
        "((z_e - e.detach()).square() + beta * (z_e.detach() - e).square()).sum(dim=(1, 2))",
        "exchanged",
    ),
    Wrong("mean for sum", LOSS, LOSS.replace(".sum(dim", ".mean(dim"), "mean over an image's numbers"),
    Wrong("sum over the batch", LOSS, LOSS.replace("dim=(1, 2)", ""), "no sum or mean over the batch"),
    Wrong("no commitment", LOSS, "(z_e.detach() - e).square().sum(dim=(1, 2))", "commitment is missing"),
    Wrong("members overwritten", "np.add.at(d_codebook, codes, -apart)", "d_codebook[codes] += -apart", "np.add.at"),
    Wrong("no batch mean", "2 * (z_e - codebook[codes]) / len(z_e)", "2 * (z_e - codebook[codes])", "divide by B"),
    Wrong("codes pushed away", "codes, -apart", "codes, apart", "bring the code"),
    Wrong("commitment alone", "d_z_q + beta * apart", "beta * apart", "straight-through copies"),
    Wrong("beta forgotten", "d_z_q + beta * apart", "d_z_q + apart", "beta is missing"),
    Wrong("decay turned", "decay * usage + (1 - decay) * m", "(1 - decay) * usage + decay * m", "belongs to the old"),
    Wrong("sums of the batch", "members.T @ z_e / len(z_e)", "members.T @ z_e", "divide by N"),
    Wrong("division by nothing", ALIVE, "codebook = sums / usage[:, None]", "0 / 0"),
    Wrong(
        "to the batch's means",
        ALIVE,
        "n = members.sum(axis=0)\n    codebook[n > 0] = (members.T @ z_e)[n > 0] / n[n > 0, None]",
        "ratio",
    ),
    Wrong(
        "smoothed",
        ALIVE,
        "codebook = sums / ((usage + 1e-5) / (usage.sum() + len(usage) * 1e-5) * usage.sum())[:, None]",
        "smoothed",
    ),
    Wrong("in place", "    codebook = codebook.copy()\n", "", "changes an array"),
    Wrong("absolute threshold", "dead_below / len(usage)", "dead_below", "dead_below / K"),
    Wrong("usage stays", "    usage[dead] = 1 / len(usage)\n", "", "dead again"),
    Wrong("sums stay", "    sums[dead] = outputs[: len(dead)] / len(usage)\n", "", "takes it back"),
    Wrong("not moved", "    codebook[dead] = outputs[: len(dead)]\n", "", "has moved"),
    Wrong("entropy", "np.exp(-(share * np.log(share)).sum())", "-(share * np.log(share)).sum()", "exponential"),
    Wrong("bits", "np.log(share)", "np.log2(share)", "bits"),
    Wrong("codes used", "np.exp(-(share * np.log(share)).sum())", "len(share)", "number of codes used"),
    Wrong(
        "nan",
        "np.unique(codes, return_counts=True)[1] / codes.size",
        "np.bincount(codes.ravel()) / codes.size",
        "0 ln 0",
    ),
    Wrong(
        "over the edge",
        PAIRS,
        "flat = codes.ravel()\n    np.add.at(pairs, (flat[:-1], flat[1:]), 1)",
        "next are counted",
    ),
    Wrong("pairs overwritten", PAIRS, "pairs[codes[:, :-1], codes[:, 1:]] += 1", "np.add.at"),
    Wrong("columns", "pairs.sum(axis=1, keepdims=True)", "pairs.sum(axis=0, keepdims=True)", "each column"),
    Wrong("after and before", "(codes[:, :-1], codes[:, 1:]), 1", "(codes[:, 1:], codes[:, :-1]), 1", "exchanged"),
    Wrong("all positions", "np.bincount(codes[:, 0], m", "np.bincount(codes.ravel(), m", "first alone"),
    Wrong("no first", "-np.log(first[codes[:, 0]]) - np", "-np", "p(c_1) is missing"),
    Wrong(
        "transposed", "transition[codes[:, :-1], codes[:, 1:]]", "transition[codes[:, 1:], codes[:, :-1]]", "exchanged"
    ),
    Wrong("mean of positions", "codes[:, 1:]]).sum(axis=1)", "codes[:, 1:]]).sum() / len(codes)", "expected"),
    Wrong("independent draws", "p = transition[codes[:, t]]", "p = first[None]", "said nothing"),
    Wrong("columns of the transition", "p = transition[codes[:, t]]", "p = transition.T[codes[:, t]]", "its row"),
    Wrong("boundaries", "<= uniforms", "< uniforms", "probability 0"),
    Wrong("one too many", CLIP, "before", "the last code takes the rest"),
)

EQUIVALENT = {
    "sample_markov: np.zeros -> np.ones in codes, p = np.zeros(uniforms.shape, int), first[None]": (
        "every entry is written before it is read"
    ),
}

ALSO_RIGHT = (
    Wrong(
        "differences",
        f"return ({DISTANCE}).argmin(axis=-1)",
        "return np.linalg.norm(z_e[..., None, :] - codebook, axis=-1).argmin(axis=-1)",
    ),
    Wrong("less the detached rest", "z_e + (e - z_e).detach()", "e.detach() + z_e - z_e.detach()"),
    Wrong(
        "mse_loss",
        f"return {LOSS}",
        "from torch.nn.functional import mse_loss\n\n    terms = mse_loss(e, z_e.detach(), reduction='none'), "
        "mse_loss(z_e, e.detach(), reduction='none')\n    return (terms[0] + beta * terms[1]).flatten(1).sum(1)",
    ),
    Wrong(
        "one-hot for the codes",
        "    np.add.at(d_codebook, codes, -apart)\n",
        "    hot = np.eye(len(codebook))[codes]\n    d_codebook = -np.einsum('btk,btd->kd', hot, apart)\n",
    ),
    Wrong("a small number in the logarithm", "np.log(share)", "np.log(share + 1e-8)"),
    Wrong("entropy of all shares", "-(share * np.log(share)).sum()", "(share * np.log(1 / share)).sum()"),
)
