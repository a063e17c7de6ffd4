"""The exercise pages run as written: their Python blocks in order, and each prints what the page shows.

`python tests/test_exercise_pages.py` writes the printed output into the pages anew, for when the shipped weights or a
block have changed. Read the text around it again afterwards.
"""

import contextlib
import io
import os
import re
import tempfile
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[1] / "exercises").glob("[0-9]*.md"))
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def run_page(text: str, name: str) -> list[tuple[str | None, str]]:
    """Run the page's Python blocks in one fresh namespace; (output shown or None, output printed) of each block."""
    namespace, outputs = {"__name__": "page"}, []
    for match in BLOCK.finditer(text):
        kind, body = match.groups()
        if kind == "python":
            line = text.count("\n", 0, match.start(2))
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile("\n" * line + body, name, "exec"), namespace)
            outputs.append((None, printed.getvalue()))
        else:
            outputs[-1] = (body, outputs[-1][1])
    return outputs


def difference(shown: str | None, printed: str) -> str | None:
    """How the output differs from what the page shows, or None.

    Words must be the same. A number may be off by one in its last digit: where the true value lies near a rounding
    boundary, another machine's order of summation can tip it over.
    """
    if shown is None:
        return f"the page does not show what is printed: {printed!r}" if printed else None
    words = [NUMBER.sub("#", text).split() for text in (shown, printed)]
    if words[0] != words[1]:
        return f"shown:\n{shown}printed:\n{printed}"
    for one, other in zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True):
        last_digit = 10.0 ** -len(one.partition(".")[2])
        if abs(float(one) - float(other)) > 1.001 * last_digit:
            return f"shown {one}, printed {other}; the whole output:\n{printed}"
    return None


def test_there_are_pages():
    assert [page.name for page in PAGES][:2] == ["01_latent_space.md", "02_interpolation.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_and_prints_what_it_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outputs = run_page(page.read_text(encoding="utf-8"), page.name)
    assert len(outputs) >= 5
    assert [why for output in outputs if (why := difference(*output))] == []


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("kl 3.70 nats\n", "kl  3.71 nats\n", True),
        ("kl 3.70 nats\n", "kl 3.72 nats\n", False),
        ("kl 3.70 nats\n", "kl 3.70 bits\n", False),
        ("-0.00\n", "0.00\n", True),
        ("36 images\n", "38 images\n", False),
        ("one\n", "one\ntwo\n", False),
        (None, "", True),
        (None, "one\n", False),
    ],
)
def test_a_difference_is_noticed(shown, printed, same):
    assert (difference(shown, printed) is None) == same


def test_an_error_in_a_page_names_its_line():
    with pytest.raises(ZeroDivisionError) as error:
        run_page("# Title\n\n```python\none = 1\n```\n\n```python\none / 0\n```\n", "page.md")
    assert (str(error.traceback[-1].path), error.traceback[-1].lineno + 1) == ("page.md", 8)


def write_outputs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    printed = iter([printed for shown, printed in run_page(text, page.name) if shown is not None])
    new = BLOCK.sub(lambda match: f"```text\n{next(printed)}```" if match[1] == "text" else match[0], text)
    page.write_text(new, encoding="utf-8")
    print(f"{page.name}: {'changed' if new != text else 'as it was'}")


if __name__ == "__main__":
    os.chdir(tempfile.mkdtemp())
    for page in PAGES:
        write_outputs(page)
