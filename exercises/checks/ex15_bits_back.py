"""What exercise 15 asks for, compared exactly: pushes with counting, images with a coder of the check's own."""

import functools
import math
import re

import numpy as np

from checks.judging import Given, LearnerError, Mismatch, agree_on_cases, misweighed, values_of

FORBIDDEN = ("constriction", "vae_measures", "vae_commands")  # they hold the answer


def on_top(state, symbol, freqs):
    """The state with the symbol on top."""
    rounds, rest = divmod(state, freqs[symbol])
    return rounds * sum(freqs) + sum(freqs[:symbol]) + rest


def off(state, freqs, late=0):
    """The symbol on top, and the state below it; late=1 is the mistake that a block holds its end."""
    rounds, rest = divmod(state, sum(freqs))
    symbol = next(i for i in range(len(freqs)) if rest < sum(freqs[: i + 1]) + late)
    return symbol, rounds * freqs[symbol] + rest - sum(freqs[:symbol])


def exact(read):
    """Make a part of a function that yields cases (what, got, right, mistakes), `got` to be exactly `right`.

    mistakes: what to say -> the answer that this mistake gives; it is said if it fits every case.
    """

    def as_part(cases):
        @functools.wraps(cases)
        def part(work, rng):
            seen = []
            try:
                for case in cases(work, rng):
                    seen.append(case)  # so that those before an error are known
            except (Mismatch, LearnerError):
                if all(got == right for _, got, right, _ in seen):
                    raise
            for what, got, right, mistakes in seen:
                if got != right:
                    fitting = (text for text in mistakes if all(case[1] == case[3][text] for case in seen))
                    raise Mismatch(what, show(right), show(got), next(fitting, ""), read)

        return part

    return as_part


def show(value):
    """A value as text, the middle of a long number left out."""
    return re.sub(r"\d{25,}", lambda found: f"{found[0][:10]}...{found[0][-10:]}", str(value))


def whole(what, value):
    """The value, where it is a whole number."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    likely = "A division with / makes a float, which keeps 53 bits only; // and % stay whole."
    raise Mismatch(what, "a whole number", repr(value)[:40], likely if isinstance(value, float) else "", "the-maths")


def stacks(rng):
    """Cases (state, freqs): states of a few bits, and of hundreds; totals that are powers of 2, and others."""
    tables = [[3, 1, 4], [1, 1], [5, 2, 2, 7], [1, 6, 1], rng.integers(1, 9, 6).tolist(), [2**31, 2**30, 2**30]]
    for freqs in tables:
        for bits in (0, 1, 3, 5, 9, 40, 300):
            yield int.from_bytes(rng.bytes(40), "big") % 2**bits, freqs


@exact("the-maths")
def part_push(work, rng):
    """push: the symbol's block, again and again"""
    for state, freqs in stacks(rng):
        for symbol, f in enumerate(freqs):
            total, start, right = sum(freqs), sum(freqs[:symbol]), on_top(state, symbol, freqs)
            if state < 20 and total < 100:  # by the definition itself
                ends_in_it = [n for n in range(20 * total) if start <= n % total < start + f]
                right = ends_in_it[state]
            what = f"push({show(state)}, {symbol}, {freqs})"
            mistakes = {
                "The remainder is lost, and with it what was on the stack: + state % f.": right - state % f,
                "The block of a symbol begins where those before it end; its own frequency does not count.": right + f,
                "Where is the symbol? The start of its block is to be added.": right - start,
                "state / f keeps 53 bits: // keeps all of them.": int(state / f) * total + start + state % f,
            }
            yield what, whole(what, work.push(state, symbol, freqs)), right, mistakes


@exact("the-maths")
def part_pop(work, rng):
    """pop: undo the push"""
    for state, freqs in stacks(rng):
        what, rounds = f"pop({show(state)}, {freqs})", state // sum(freqs)
        right = symbol, below = off(state, freqs)
        found = values_of(("symbol", "state"), "pop", work.pop(state, freqs), "the-maths")
        start = sum(freqs[:symbol])
        mistakes = {
            "The symbol is right. The place within the block is remainder - start.": (symbol, below + start),
            "The symbol is right. Each round of the total holds f numbers of its block.": (symbol, rounds),
            "The symbol is right, and is still on the stack.": (symbol, state),
            "The state first, then the symbol: the other way round is asked for.": (below, symbol),
            "The end of a block is the next one's: a block of 3 holds 0, 1 and 2.": off(state, freqs, late=1),
        }
        yield what, tuple(whole(what, value) for value in found), right, mistakes


def models(rng):
    """Cases {state, x, prior, posterior, likelihood} of small models, each table with a total of its own."""
    for cells, pixels, bits in ((2, 1, 60), (5, 4, 200), (3, 6, 90), (7, 3, 400), (4, 5, 30)):
        tables = rng.integers(1, 60, (2**pixels, cells)).tolist()
        ones = rng.integers(1, 99, (cells, pixels, 2)).tolist()
        posterior = Given("a function of x", lambda x, t=tables: t[sum(int(v) << i for i, v in enumerate(x))])
        likelihood = Given("a function of z", lambda z, ones=ones: ones[int(z)])
        state = int.from_bytes(rng.bytes(60), "big") % 2**bits + 2**bits
        x = rng.integers(0, 2, pixels).tolist()
        yield dict(
            state=state, x=x, prior=rng.integers(1, 60, cells).tolist(), posterior=posterior, likelihood=likelihood
        )


def image_on(state, x, read, write, likelihood, z=None, keep=False, step=-1):
    """The state with the image on top: z popped with `read`, pushed with `write` (None: not at all).

    z: this one, and nothing is popped; keep: what was popped stays; step: 1 pushes the first pixel first.
    """
    if z is None:
        z, below = off(state, read)
        state = state if keep else below
    pairs = [*zip(x, likelihood(z), strict=True)][::step]
    for symbol, freqs in [*pairs, (z, write)]:
        state = state if freqs is None else on_top(state, symbol, freqs)
    return state


@exact("bits-back")
def part_push_image(work, rng):
    """push_image: bits choose z"""
    for case in models(rng):
        state, x, p, posterior, likelihood = case.values()
        q, what = posterior(x), f"push_image({show(state)}, {x}, ...)"

        def wrong(read=q, write=p, state=state, x=x, likelihood=likelihood, **how):
            return image_on(state, x, read, write, likelihood, **how)

        mistakes = {
            "z is popped, but its bits are still there: go on with the state that pop returns.": wrong(keep=True),
            "z is the likeliest one, and no bits come back: pop it, with posterior(x).": wrong(z=int(np.argmax(q))),
            "z comes from the prior, where it has to suit the image: pop it with posterior(x).": wrong(read=p),
            "z is pushed with the posterior; whoever pops does not know x yet, and has the prior only.": wrong(write=q),
            "The pixels lie the other way round: push the last one first.": wrong(step=1),
            "z is not on the stack: push it last, with the prior.": wrong(write=None),
        }
        yield what, whole(what, work.push_image(*case.values())), wrong(), mistakes


@exact("bits-back")
def part_pop_image(work, rng):
    """pop_image: every step undone, from the last to the first"""
    for case in models(rng):
        state, x, p, posterior, likelihood = case.values()
        packed = image_on(state, x, posterior(x), p, likelihood)
        what = f"pop_image({show(packed)}, ...)"
        got = values_of(("x", "state"), "pop_image", work.pop_image(packed, p, posterior, likelihood), "bits-back")
        if not isinstance(got[0], (list, tuple, np.ndarray)):
            raise Mismatch(what, show((x, state)), show(got), "The image first, a list, then the state.", "bits-back")
        pixels = [whole(what, value) for value in got[0]]
        z, kept = off(state, posterior(x))
        mistakes = {
            "The image is right. What chose z has to go back: push z, with posterior(x).": (x, kept),
            "The image is right. z goes back with posterior(x), not with the prior.": (x, on_top(kept, z, p)),
            "The pixels are in order already, as the last was pushed first.": (x[::-1], state),
        }
        yield what, (pixels, whole(what, got[1])), (x, state), mistakes


def part_net_bits(work, rng):
    """net_bits: pushed less popped"""

    def bits(symbol, freqs):
        return math.log2(sum(freqs)) - math.log2(freqs[symbol])

    def terms(x, z, prior, posterior, likelihood):
        pixels = sum(bits(pixel, freqs) for pixel, freqs in zip(x, likelihood(z), strict=True))
        return {
            "the pixels": pixels,
            "z, which is pushed with the prior": bits(z, prior),
            "the bits that come back, those that chose z": -bits(z, posterior(x)),
        }

    def right(*case):
        return sum(terms(*case).values())

    def mistakes(y, *case):
        nats = {"In nats; bits are nats / ln 2, or log2.": y * math.log(2)}
        return nats | misweighed(y, terms(*case))

    cases = []
    for case in models(rng):
        tables = {name: case[name] for name in ("prior", "posterior", "likelihood")}
        cases += [dict(x=case["x"], z=z, **tables) for z in range(len(case["prior"]))]
    agree_on_cases("net_bits", work.net_bits, right, cases, mistakes, "bits-back", rel=1e-9)


HINTS = (
    "push: the whole numbers whose remainder by the total lies in the symbol's block: number them 0, 1, 2, ... Take "
    "the one that has the number `state`.",
    "push: f of them lie in each round of the total: state // f rounds are full, state % f is the place in the next.",
    "push: state // f * sum(freqs) + sum(freqs[:symbol]) + state % f",
    "pop: the remainder by the total lies in one symbol's block, which says the symbol; its place there, the state.",
    "pop: find the symbol by taking frequencies off the remainder, one after another, until it is below the next.",
    "pop: with start = sum(freqs[:symbol]), the state is state // total * freqs[symbol] + state % total - start",
    "push_image: three steps: one pop, many pushes, one push. Nothing is drawn at random: the stack chooses.",
    "push_image: pop returns (z, state), and the pushes go on from that state: state = push(state, ...) each time.",
    "push_image: z, state = pop(state, posterior(x)); the pixels from the last on; then push(state, z, prior)",
    "pop_image: read push_image from its last line to its first, with pop for push and push for pop.",
    "pop_image: x is complete before posterior(x) is needed; each table of likelihood(z) gives one pixel.",
    "pop_image: z, state = pop(state, prior); the pixels in order; then push(state, z, posterior(x))",
    "net_bits: a push of a symbol of frequency f multiplies the state by total / f, a pop divides by that.",
    "net_bits: log2(total / f) for z with the prior, and for each pixel; less that of z with posterior(x).",
    "net_bits: sum(freqs) is the total; every table has its own. math.log2 takes one number.",
)
