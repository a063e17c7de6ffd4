"""Exercise 15: an ANS coder of whole numbers, and bits back. See exercises/15_bits_back.md."""

import math


def push(state, symbol, freqs):
    """state, a whole number; symbol, an index into the list freqs -> the state with the symbol on top."""
    f, start = freqs[symbol], sum(freqs[:symbol])
    return state // f * sum(freqs) + start + state % f


def pop(state, freqs):
    """state -> (symbol, the state as it was before push(state, symbol, freqs))."""
    rest, symbol = state % sum(freqs), 0
    while rest >= freqs[symbol]:
        rest -= freqs[symbol]
        symbol += 1
    return symbol, state // sum(freqs) * freqs[symbol] + rest


def push_image(state, x, prior, posterior, likelihood):
    """state, x, a list of pixels 0 and 1 -> the state with the image on top, for what -elbo says.

    prior: the frequencies of z; posterior(x): those of z given x; likelihood(z): for each pixel those of 0 and 1.
    The last pixel is pushed first, so that pop finds them in order.
    """
    z, state = pop(state, posterior(x))
    for pixel, freqs in list(zip(x, likelihood(z), strict=True))[::-1]:
        state = push(state, pixel, freqs)
    return push(state, z, prior)


def pop_image(state, prior, posterior, likelihood):
    """state -> (x, the state as it was before push_image(state, x, prior, posterior, likelihood))."""
    z, state = pop(state, prior)
    x = []
    for freqs in likelihood(z):
        pixel, state = pop(state, freqs)
        x.append(pixel)
    return x, push(state, z, posterior(x))


def net_bits(x, z, prior, posterior, likelihood):
    """x, z -> a number: by about how many bits push_image makes the state longer where it pops this z."""
    symbols = [(z, prior), *zip(x, likelihood(z), strict=True)]
    pushed = sum(math.log2(sum(freqs) / freqs[symbol]) for symbol, freqs in symbols)
    return pushed - math.log2(sum(posterior(x)) / posterior(x)[z])
