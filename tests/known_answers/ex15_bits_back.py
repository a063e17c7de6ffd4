"""Answers to exercise 15 whose verdict is known; see test_exercise_solutions.py."""

PUSH = "state // f * sum(freqs) + start + state % f"
POP = "state // sum(freqs) * freqs[symbol] + rest"
CHOOSE = "z, state = pop(state, posterior(x))"
PIXELS = "list(zip(x, likelihood(z), strict=True))[::-1]"
LAST = "return push(state, z, prior)"
NET = "return pushed - math.log2(sum(posterior(x)) / posterior(x)[z])"

WRONG = (
    (PUSH, "state // f * sum(freqs) + start", "The remainder is lost"),
    (PUSH, f"{PUSH} + f", "its own frequency does not count"),
    (PUSH, "state // f * sum(freqs) + state % f", "Where is the symbol"),
    (PUSH, "int(state / f) * sum(freqs) + start + state % f", "expected"),
    (PUSH, "state / f * sum(freqs) + start", "keeps 53 bits only"),
    (POP, f"{POP} + sum(freqs[:symbol])", "remainder - start"),
    (POP, "state // sum(freqs)", "holds f numbers of its block"),
    (f"return symbol, {POP}", "return symbol, state", "still on the stack"),
    (f"return symbol, {POP}", f"return {POP}, symbol", "the other way round"),
    ("while rest >= freqs[symbol]:", "while rest > freqs[symbol]:", "a block of 3 holds 0, 1 and 2"),
    (CHOOSE, "z, _ = pop(state, posterior(x))", "still there"),
    (CHOOSE, "z = posterior(x).index(max(posterior(x)))", "no bits come back"),
    (CHOOSE, "z, state = pop(state, prior)", "has to suit the image"),
    (PIXELS, PIXELS.replace("[::-1]", ""), "push the last one first"),
    (LAST, "return push(state, z, posterior(x))", "has the prior only"),
    (LAST, "return state", "push it last"),
    ("return x, push(state, z, posterior(x))", "return x, state", "has to go back"),
    ("return x, push(state, z, posterior(x))", "return x, push(state, z, prior)", "not with the prior"),
    ("return x, push(state, z, posterior(x))", "return x[::-1], push(state, z, posterior(x))", "in order already"),
    (NET, "return pushed", "A term is missing: the bits that come back"),
    (NET, NET.replace("pushed -", "pushed +"), "A term has its sign turned: the bits that come b"),
    (NET, f"return ({NET[7:]}) * math.log(2)", "In nats"),
    (NET, f"return -({NET[7:]})", "The sign is turned"),
    ("[(z, prior), *zip(x, likelihood(z), strict=True)]", "[(z, prior)]", "A term is missing: the pixels."),
    (
        "[(z, prior), *zip(x, likelihood(z), strict=True)]",
        "zip(x, likelihood(z), strict=True)",
        "A term is missing: z",
    ),
)

ALSO_RIGHT = (
    (PUSH, "divmod(state, f)[0] * sum(freqs) + start + divmod(state, f)[1]"),
    ("return x, push(state", "return tuple(x), push(state"),
)

EQUIVALENT = {}
