"""Every random choice as a function of the seed and of where it is used, so resuming needs no generator's state."""

from collections.abc import Iterator

import numpy as np

PURPOSES = ("order", "noise", "binarize", "evaluation", "figures", "importance")


def generator(seed: int, purpose: str, step: int = 0) -> np.random.Generator:
    """The random stream for one purpose, one of PURPOSES, at one step; two levels with one seed draw the same."""
    return np.random.default_rng([seed, PURPOSES.index(purpose), step])


def batches(count: int, batch_size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Index arrays of one epoch in the order fixed by (seed, epoch); the last batch holds the remainder."""
    order = generator(seed, "order", epoch).permutation(count)
    for start in range(0, count, batch_size):
        yield order[start : start + batch_size]
