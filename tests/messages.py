"""What a message to the user must be, for tests to assert."""

import contextlib

import pytest


def assert_one_sentence(message: str, *fragments: str) -> None:
    """The message is one sentence, on one line, that holds each of the fragments."""
    assert "\n" not in message and message.endswith(".") and ". " not in message, message
    for fragment in fragments:
        assert fragment in message, (fragment, message)


@contextlib.contextmanager
def one_sentence(kind: type[Exception], *fragments: str):
    """The block raises an error of that kind, whose message is one sentence that holds each of the fragments."""
    with pytest.raises(kind) as error:
        yield
    assert_one_sentence(str(error.value), *fragments)


def assert_refused(status: int, stderr: str, *fragments: str) -> None:
    """A command ended with status 2, and the last line on stderr is an error that holds each of the fragments."""
    last = stderr.splitlines()[-1]
    assert status == 2 and ": error: " in last and "Traceback" not in stderr, stderr
    for fragment in fragments:
        assert fragment in last, (fragment, last)
