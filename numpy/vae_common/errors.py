"""What a user can cause: each error's message is one sentence, which a command prints before it exits with status 2."""

import math
from collections.abc import Mapping


class UserError(Exception):
    """The base of them all, so that a command can tell them from mistakes in the code."""


class UsageError(UserError):
    """A command that cannot be carried out as it was typed."""


class NotFiniteError(UserError):
    """A term of the objective became NaN or infinite; the message names the term, the step, and what to try."""


class WeightsError(UserError):
    """A weights file that cannot be used; the message names file, key, what was expected, what was found, a remedy."""


class DatasetError(UserError):
    """Data that cannot be had or read; the message says what to do."""


def check_finite(terms: Mapping[str, float], when: str, lr: float | None = None) -> None:
    """Raise NotFiniteError, naming the first of `terms` that is NaN or infinite."""
    for name, value in terms.items():
        if not math.isfinite(value):
            remedy = "train with a smaller --lr or start from other weights"
            if lr is not None:
                remedy = f"try a smaller --lr than {lr:g}"
            raise NotFiniteError(f"{name} became {value} {when}; {remedy}.")
