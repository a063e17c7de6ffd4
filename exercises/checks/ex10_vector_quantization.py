"""What exercise 10 asks for, compared with level 3's VQ-VAE, autograd and plain loops."""

import itertools

import numpy as np
import torch

from checks.judging import Mismatch, agree, agree_on_cases, agree_on_each, gradients, misweighed, numbers, show
from vae_models import vq_vae

FORBIDDEN = ("vae_models", "vae_training", "sklearn", "scipy")  # they hold the answer


def nearest(z_e, codebook):
    """By differences, in float64."""
    apart = z_e.astype(np.float64)[..., None, :] - codebook.astype(np.float64)
    return np.square(apart).sum(axis=-1).argmin(axis=-1)


def decided(z_e, codebook):
    """The rows whose two nearest codes differ by more than float64 rounds squares of 3e6."""
    apart = np.square(z_e.astype(np.float64)[:, None] - codebook.astype(np.float64)).sum(axis=-1)
    first, second = np.sort(apart, axis=1)[:, :2].T
    return z_e[second - first > 1e-7]


def part_nearest_code(work, rng):
    """nearest_code: which code is it"""
    cases = []
    for shape, K, D in (((5, 4, 3), 7, 3), ((6,), 2, 1), ((40,), 30, 4)):
        z_e, codebook = rng.normal(size=(*shape, D)), rng.normal(size=(K, D)) * rng.uniform(0.2, 2, (K, 1))
        cases.append(dict(z_e=z_e, codebook=codebook))
        cases.append(dict(z_e=z_e.astype(np.float32), codebook=codebook.astype(np.float32)))
    twice = rng.normal(size=(4, 1))[[0, 1, 2, 0, 3, 1]]  # equal codes are as near to the last digit, by any formula
    cases.append(dict(z_e=2 * rng.normal(size=(50, 1)), codebook=twice))
    far = [(1000 + 0.02 * rng.normal(size=(N, 3))).astype(np.float32) for N in (60, 20)]
    cases.append(dict(z_e=decided(*far), codebook=far[1]))  # all squares are 3e6, in float32 +- 0.2

    def mistakes(y, z, e):
        wide_z, wide_e = z.astype(np.float64), e.astype(np.float64)
        expanded = (np.square(e).sum(axis=1) - 2 * z @ e.T).argmin(axis=-1)  # in the arrays' own precision
        return {
            "Right for numbers of ordinary size. In float32 the squares of large ones swallow small distances: compute "
            "the distances in float64.": expanded,
            "That is the code of the largest product. A long code wins it without being near: ||e||^2 belongs to the "
            "distance.": (wide_z @ wide_e.T).argmax(axis=-1),
        }

    agree_on_cases("nearest_code", work.nearest_code, nearest, cases, mistakes, "the-maths")


def tensors(rng, B, T, D, dtype=torch.float64):
    return [torch.from_numpy(rng.normal(size=(B, T, D))).to(dtype).requires_grad_() for _ in range(2)]


def part_straight_through(work, rng):
    """straight_through: forward the code, backward as if it were not there"""
    read = "straight-through"
    for shape, dtype in (((3, 5, 2), torch.float64), ((1, 4, 1), torch.float64), ((5, 1, 3), torch.float32)):
        z_e, e = tensors(rng, *shape, dtype)
        z_q, inputs = work.straight_through(z_e, e), str(dtype)
        mistakes = {"That is z_e. Forward, the decoder has to get the code itself.": z_e}
        agree("straight_through(z_e, e): the value", z_q, e, mistakes=mistakes, read=read, inputs=inputs)
        back = torch.from_numpy(rng.normal(size=shape)).to(dtype)  # what comes back to the decoder's input
        value = (z_q * back).sum() if isinstance(z_q, torch.Tensor) else z_q
        to_z_e, to_e = gradients("straight_through(z_e, e)", value, [z_e, e], read)
        none = "The nearest code is a step function of z_e, and its own gradient is 0: nothing comes to the encoder."
        what = "straight_through(z_e, e): the gradient that comes to"
        agree(f"{what} z_e", to_z_e, back, mistakes={none: 0 * back}, read=read, inputs=inputs)
        reached = {"The decoder's gradient reaches the codebook too: detach the code.": (back, -back)}
        agree(f"{what} e (none)", to_e, 0 * back, mistakes=reached, read=read)


def losses(z_e, e, beta=0.25):
    """||z_e - e||^2 twice, once for each side."""
    return torch.stack([(z_e.detach() - e).square(), beta * (z_e - e.detach()).square()]).sum(dim=(0, 2, 3))


def part_vq_loss(work, rng):
    """vq_loss: each side pulled by its own term"""
    for shape, dtype, beta in (
        ((3, 5, 2), torch.float64, 0.25),
        ((1, 4, 1), torch.float64, 0.7),
        ((5, 1, 3), torch.float32, 3.0),
    ):
        z_e, e = tensors(rng, *shape, dtype)
        what, inputs = f"vq_loss(z_e, e, beta={beta})", str(dtype)
        with torch.no_grad():
            apart, right = 2 * (z_e - e), losses(z_e, e, beta)
        loss = work.vq_loss(z_e, e, *([beta] if beta != 0.25 else []))
        squared = right / (1 + beta)
        values = {
            "The mean over an image's numbers, where their sum is meant.": right / (shape[1] * shape[2]),
            "beta belongs to the commitment only: once without, once with.": (2 * beta * squared, 2 * squared),
        }
        agree(what, loss, right, mistakes=values, read="the-maths", inputs=inputs)
        swapped = "The two stop-gradients are exchanged: the codebook's term stops at z_e, the commitment at e."
        unstopped = "Both terms pull on both sides: a stop-gradient (detach) is missing."
        total = loss.sum() if isinstance(loss, torch.Tensor) else loss
        found = gradients(what, total, [z_e, e], "the-maths")
        for name, got, exact, other in (("z_e", found[0], beta * apart, apart), ("e", found[1], -apart, -beta * apart)):
            mistakes = {unstopped: exact + other, swapped: other}
            came = f"{what}: the gradient that comes to {name}"
            agree(came, got, exact, mistakes=mistakes, read="the-maths", inputs=inputs)


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

    def mistakes(y, d_z_q, z_e, codes, codebook, beta=0.25):
        B, commitment, d_codebook = len(z_e), y[0] - d_z_q, y[1]
        overwritten, past = np.zeros_like(codebook), d_codebook.copy()
        overwritten[codes] = -2 * (z_e - codebook[codes]) / B
        np.add.at(past, codes, d_z_q)
        of_z_e = {
            "The codebook's term pulls along; it stops at z_e.": d_z_q + commitment + commitment / beta,
            "The commitment's beta is missing, or its mean over the batch (d_z_q holds its own already).": (
                d_z_q + commitment / beta,
                d_z_q + B * commitment,
            ),
        }
        terms = {"the commitment": commitment, "the decoder's gradient, which straight-through copies": d_z_q}
        of_codebook = {
            "Members of one code are overwritten, not added: np.add.at adds where an index comes twice.": overwritten,
            "The decoder's gradient goes past the codes; straight-through hands it to the encoder alone.": past,
        }
        return of_z_e | misweighed(y[0], terms), of_codebook

    names = ("the derivative by z_e", "the derivative by the codebook")
    agree_on_each(names, "vq_gradients", work.vq_gradients, by_autograd, cases, mistakes, "straight-through")


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


def part_ema_step(work, rng):
    """ema_step: running means"""
    cases = []
    for B, D, K, decay in ((1, 3, 8, {}), (3, 2, 4, {"decay": 0.8}), (1, 1, 70, {"decay": 0.0})):
        z_e, codes = rng.normal(size=(49 * B, D)), rng.integers(0, K - 1, 49 * B)
        cases.append(states(rng, K, D) | dict(z_e=z_e, codes=codes) | decay)
    empty = states(rng, 4, 2)  # never used so far, and not now: nothing to divide by
    empty["usage"][3], empty["sums"][3] = 0, 0
    cases.append(empty | dict(z_e=rng.normal(size=(49, 2)), codes=rng.integers(0, 3, 49)))

    def mistakes(y, usage, sums, codebook, z_e, codes, decay=0.99):
        N, used, members = len(codes), y[0][:, None] > 0, np.eye(len(usage))[codes]
        counts, added = members.sum(axis=0), members.T @ z_e
        means = added / np.maximum(counts, 1)[:, None]

        def averages(old, total):
            new = total / N
            return {
                "decay belongs to the old value, 1 - decay to the batch.": (1 - decay) * old + decay * new,
                "Sums over the batch where shares are meant: divide by N.": decay * old + (1 - decay) * total,
            }

        mean_for_sum = "The mean of the members where their sum is meant: the division by the usage comes later."
        smooth = (y[0] + 1e-5) / (y[0].sum() + len(usage) * 1e-5) * y[0].sum()  # Laplace's, in the usual form
        return (
            averages(usage, counts),
            {**averages(sums, added), mean_for_sum: decay * sums + (1 - decay) * means},
            {
                "A code that was never used has 0 / 0: leave it where it is.": (
                    np.where(used, y[2], np.nan),
                    np.where(used, y[2], 0),
                ),
                "The usage is smoothed, as in much code; here e = sums / usage.": y[1] / smooth[:, None],
            },
        )

    agree_on_each(CODEBOOK, "ema_step", work.ema_step, ema, cases, mistakes, "running-means")


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

    def mistakes(y, usage, sums, codebook, outputs, dead_below=0.1):
        K = len(usage)
        dead = np.flatnonzero(usage < dead_below / K)[: len(outputs)]
        new, absolute = outputs[: len(dead)], revived(usage, sums, codebook, outputs, dead_below * K)
        few = "The threshold is a part of the even share 1 / K: dead_below / K."

        codes_alone = sums.copy()
        codes_alone[dead] = new
        return (
            {
                few: absolute[0],
                "A revived code's usage stays low, so it is dead again in the next step: set it to 1 / K.": usage,
            },
            {
                few: absolute[1],
                "e = sums / usage has to be the new code, or the next step takes it back: sums = usage x code.": (
                    sums,
                    codes_alone,
                ),
            },
            {few: absolute[2], "No dead code has moved.": codebook},
        )

    agree_on_each(CODEBOOK, "revive", work.revive, revived, cases, mistakes, "dead-codes")


def part_perplexity(work, rng):
    """perplexity: how many codes are at work"""

    def right(codes):
        codes = torch.from_numpy(codes)
        return vq_vae.perplexity(vq_vae.code_shares(codes, int(codes.max()) + 1)).numpy()

    cases = [dict(codes=rng.integers(0, 5, (3, 7, 7)) ** 2), dict(codes=np.full((4, 2), 3))]
    cases += [dict(codes=rng.integers(0, 40, 11)), dict(codes=np.array([[0, 1], [2, 3]]))]

    def mistakes(y, codes):
        return {"That is the number of codes used; a code of one position counts for less.": len(np.unique(codes))}

    # Often log(p + 1e-10) is written, or 1e-8, against 0 ln 0: with 11 codes that changes the entropy by 1e-7.
    agree_on_cases("perplexity", work.perplexity, right, cases, mistakes, "dead-codes", rel=1e-6)


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
    cases = []  # the first with so many pairs that no table is symmetric by chance
    for N, T, K, extra in ((9, 12, 5, {}), (1, 9, 3, {"extra": 1}), (7, 1, 5, {"extra": 0.5})):
        cases.append(dict(codes=rng.integers(0, max(1, K - 1), (N, T)), count=K) | extra)

    def mistakes(y, codes, count, extra=0.1):
        before, after = codes[:, :-1], codes[:, 1:]
        pairs, once = np.full((2, count, count), float(extra))
        np.add.at(pairs, (before, after), 1)
        once[before, after] += 1
        one_row = markov(codes.reshape(1, -1), count, extra)[1]
        return {}, {
            "The end of an image and the start of the next are counted as a pair.": one_row,
            "Each column adds up to 1; each row has to: row i is p( . | i).": pairs / pairs.sum(axis=0),
            "Rows and columns are exchanged: row i is what comes after i.": markov(codes[:, ::-1], count, extra)[1],
            "A pair that comes twice counts once: use np.add.at.": once / once.sum(axis=1, keepdims=True),
        }

    names = ("p(c_1)", "the transition")
    agree_on_each(names, "fit_markov", work.fit_markov, markov, cases, mistakes, "a-prior-to-sample-from")


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

    def mistakes(y, codes, first, transition):
        even = nats(codes, np.ones_like(first), transition)
        return {
            "p(c_1) is taken as even, or missing.": (even, even - np.log(len(first))),
            "Rows and columns of the transition are exchanged: [before, after].": (
                -np.log(first[codes[:, 0]]) - np.log(transition[codes[:, 1:], codes[:, :-1]]).sum(axis=1)
            ),
            "Every position has p(c_1), as if the one before said nothing.": -np.log(first[codes]).sum(axis=1),
        }

    agree_on_cases("markov_nats", work.markov_nats, nats, chains(rng), mistakes, "a-prior-to-sample-from")


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

    def mistakes(y, u, first, transition):
        return {
            "Codes of probability 0 are drawn where a uniform lies on a boundary: before <= u < with its own.": (
                drawn(u, first, transition, side="left")
            ),
            "The column of the code before is taken; its row is p( . | code).": (
                drawn(u, first, transition, after=lambda transition, code: transition[:, code])
            ),
            "Every position is drawn from p(c_1), as if the one before said nothing.": (
                drawn(u, first, np.repeat(first[None], len(first), axis=0))
            ),
        }

    read = "a-prior-to-sample-from"
    agree_on_cases("sample_markov", work.sample_markov, drawn, cases, mistakes, read)
    codes = numbers("sample_markov(...)", work.sample_markov(*cases[0].values()), read)
    if codes.dtype.kind not in "iu":
        raise Mismatch("sample_markov(...)", "codes as int, for they choose rows", show(codes), read=read)
    almost = np.full((3, 3), (1 - 1e-9) / 3)
    rest = (
        "Rows may add up to a hair less than 1, and the uniform may lie above: the last code takes the rest, at every "
        "position, before it chooses the next row."
    )
    what = "sample_markov(uniforms of 1 - 1e-12, rows that add up to 1 - 1e-9)"
    codes = work.sample_markov(np.full((2, 3), 1 - 1e-12), almost[0], almost)
    agree(what, codes, np.full((2, 3), 2), mistakes={rest: np.full((2, 3), 3)}, read=read)


HINTS = (
    "nearest_code: ||z - e||^2 = ||z||^2 - 2 z.e + ||e||^2, and the first is the same for every code.",
    "nearest_code: z_e @ codebook.T has all products at once, (..., K); argmin over the last axis.",
    "nearest_code: ((e**2).sum(axis=1) - 2 * z @ e.T).argmin(axis=-1), both made float64 first: large squares "
    "swallow small differences.",
    "straight_through: t.detach() has the value of t and no gradient. Add to z_e something that has no gradient.",
    "straight_through: (B, T, D), as z_e; which something makes the value that of e?",
    "straight_through: z_e + (e - z_e).detach()",
    "vq_loss: sg is .detach(): each square occurs twice, one side detached each time.",
    "vq_loss: sums over positions and dimensions, one number for each image: .sum(dim=(1, 2)).",
    "vq_loss: ((z_e.detach() - e) ** 2 + beta * (z_e - e.detach()) ** 2).sum(dim=(1, 2))",
    "vq_gradients: the derivative of (z - e)^2 by z is 2 (z - e), by e it is -2 (z - e). d_z_q goes through.",
    "vq_gradients: (B, T, D) and (K, D). The squares are means over the B images; d_z_q has its 1/B already.",
    "vq_gradients: d_z_q + 2 * beta / B * (z_e - e); np.add.at(d_codebook, codes, 2 / B * (e - z_e)) adds row by row.",
    "ema_step: the share of members of each code and the sum of its members, divided by N; the old ones fade by decay.",
    "ema_step: np.eye(K)[codes] is one-hot (N, K); its mean over N is the shares, its transpose @ z_e / N the sums.",
    "ema_step: decay * usage + (1 - decay) * shares. Divide only where usage > 0, into a copy of the codebook.",
    "revive: which codes are dead? The first of them gets the first output, as far as there are outputs.",
    "revive: np.flatnonzero(usage < dead_below / K)[: len(outputs)]: at most as many as there are outputs.",
    "revive: afterwards usage is 1 / K there, the code is the output, and sums is the code times usage. On copies.",
    "perplexity: K codes, all alike, have the entropy ln K. Turn that round.",
    "perplexity: np.unique(codes, return_counts=True)[1] counts the codes that occur, and only these: no log 0.",
    "perplexity: np.exp(-(p * np.log(p)).sum()), p being the counts over their sum.",
    "fit_markov: count first codes and pairs of neighbours, add `extra`, divide each row by its sum.",
    "fit_markov: codes[:, :-1] are the codes before, codes[:, 1:] those after: a table of pairs (K, K); first is (K,).",
    "fit_markov: np.add.at(pairs, (before, after), 1), pairs being a table that begins with `extra` everywhere.",
    "markov_nats: what is the probability of a row of codes? The first one's, times each step's.",
    "markov_nats: transition[before, after] is (N, T - 1), first[codes[:, 0]] is (N,). Logarithms add up.",
    "markov_nats: -np.log(first[codes[:, 0]]) - np.log(transition[codes[:, :-1], codes[:, 1:]]).sum(axis=1)",
    "sample_markov: lay the probabilities end to end on [0, 1): code k has the stretch between two running sums.",
    "sample_markov: a loop over positions. p (N, K).cumsum(axis=1) <= uniforms[:, t, None] is true for every code that "
    "lies wholly before the uniform; count them.",
    "sample_markov: codes[:, t] = np.minimum(that count, K - 1), then p = transition[codes[:, t]].",
)
