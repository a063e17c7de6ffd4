"""Exercise 15: an ANS coder of whole numbers, and bits back. See exercises/15_bits_back.md."""

import math  # noqa: F401


def push(state, symbol, freqs):
    """state, a whole number; symbol, an index into the list freqs -> the state with the symbol on top."""
    raise NotImplementedError


def pop(state, freqs):
    """state -> (symbol, the state as it was before push(state, symbol, freqs))."""
    raise NotImplementedError


def push_image(state, x, prior, posterior, likelihood):
    """state, x, a list of pixels 0 and 1 -> the state with the image on top, for what -elbo says.

    prior: the frequencies of z; posterior(x): those of z given x; likelihood(z): for each pixel those of 0 and 1.
    The last pixel is pushed first, so that pop finds them in order.
    """
    raise NotImplementedError


def pop_image(state, prior, posterior, likelihood):
    """state -> (x, the state as it was before push_image(state, x, prior, posterior, likelihood))."""
    raise NotImplementedError


def net_bits(x, z, prior, posterior, likelihood):
    """x, z -> a number: by about how many bits push_image makes the state longer where it pops this z."""
    raise NotImplementedError
