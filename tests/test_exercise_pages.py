"""The exercise pages run as written: their Python blocks in order, and each prints what the page shows.

A page runs in a folder of its own that holds a copy of exercises/ with the solutions in my_work, where a learner's
answers are. Shell blocks that show what they print run too. Every page has the same sections.

`python tests/test_exercise_pages.py 03` writes the printed output into that page anew (without a number into all of
them), for when the shipped weights or a block have changed. Read the text around it again afterwards.
"""

import ast
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

EXERCISES = Path(__file__).parents[1] / "exercises"
ROW = re.compile(r"^\| (\d+) \| \[(.*?)\]\((.*?)\) \|", re.MULTILINE)  # of the path, in the README of the exercises
ROWS = ROW.findall((EXERCISES / "README.md").read_text(encoding="utf-8"))
PAGES = [EXERCISES / file for _, _, file in ROWS]
QUICK = ("03_convolution",)  # run by default; the other pages train, or measure, for seconds
SECTIONS = (
    "The maths",
    "Predict",
    "Run",
    "Explain",
    "Your task",
    "What the check looks at",
    "Look closer (optional)",
    "An open end",
)
BLOCK = re.compile(r"(?:^<!-- within ([\d.]+) % -->\n)?^```(python|sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@contextlib.contextmanager
def place_to_work(folder: Path):
    """`folder` as the current one, with exercises/ in it and the solutions in my_work; imports are undone."""
    work = folder / "exercises"
    shutil.copytree(EXERCISES, work, ignore=shutil.ignore_patterns("my_work", "__pycache__"))
    shutil.copytree(EXERCISES / "solutions", work / "my_work", ignore=shutil.ignore_patterns("__pycache__"))
    before, path = os.getcwd(), list(sys.path)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = path
        sys.path_importer_cache.pop("exercises/my_work", None)  # the same name is another folder for the next page
        for name in [name for name in sys.modules if re.match(r"ex\d\d_", name)]:
            del sys.modules[name]


def run_page(text: str, name: str) -> list[tuple[str | None, str, float]]:
    """Run the page's Python blocks in one fresh namespace, and the shell blocks whose output is shown.

    Of each block: the output shown or None, the output printed, and how far in percent its numbers may be apart.
    """
    namespace, outputs, blocks = {"__name__": "page"}, [], list(BLOCK.finditer(text))
    for match, following in zip(blocks, [*blocks[1:], None], strict=True):
        percent, kind, body = match.groups()
        if kind == "python":
            line = text.count("\n", 0, match.start(3))
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile("\n" * line + body, name, "exec"), namespace)
            outputs.append((None, printed.getvalue(), 0.0))
        elif kind == "sh":
            shown = following is not None and following[2] == "text"
            outputs.append((None, run_shell(body) if shown else "", 0.0))
        else:
            outputs[-1] = (body, outputs[-1][1], float(percent or 0))
    return outputs


def run_shell(lines: str) -> str:
    """What `python ...` commands print, one after another, whether they succeed or not."""
    printed = ""
    for line in lines.splitlines():
        words = line.split("#")[0].split()
        assert words[0] == "python", f"{line}: only python commands can be run"
        done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, timeout=600)
        printed += done.stdout + done.stderr
    return printed


def difference(shown: str | None, printed: str, percent: float = 0.0) -> str | None:
    """How the output differs from what the page shows, or None.

    Words must be the same. A number may be off by one in its last digit: where the true value lies near a rounding
    boundary, another machine's order of summation can tip it over. And by `percent`, where the page grants that.
    """
    if shown is None:
        return f"the page does not show what is printed: {printed!r}" if printed else None
    words = [NUMBER.sub("\0", text).split() for text in (shown, printed)]
    if words[0] != words[1]:
        return f"shown:\n{shown}printed:\n{printed}"
    for one, other in zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True):
        last_digit = 10.0 ** -len(one.partition(".")[2])
        if abs(float(one) - float(other)) > 1.001 * last_digit + abs(float(one)) * percent / 100:
            return f"shown {one}, printed {other}; the whole output:\n{printed}"
    return None


def headings(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^## (.*)$", text, re.MULTILINE)


# --- every symbol is defined before its use -----------------------------------------------------------------------

MATH = re.compile(r"^```math\n(.*?)^```$|\$([^$]+)\$", re.MULTILINE | re.DOTALL)
# What TeX writes with letters and is no symbol: words, layout, functions and relations.
NO_SYMBOL = re.compile(
    r"\\(?:mathrm|mathtt|text|operatorname|begin|end)\{[^}]*\}|\\(?:left|right|big|Big|bigg|Bigg)[lr]?(?![A-Za-z])|\\[^A-Za-z]|"
    r"\\(?:log|ln|exp|frac|tfrac|sqrt|sum|int|prod|max|min|arccos|sin|cos|det|cdot|quad|qquad|mathbb|mathcal|mathbf|bar|"
    r"hat|tilde|le|ge|lt|gt|ne|ll|gg|approx|sim|mid|partial|infty|in|to|times|odot|pm|langle|rangle|Vert|lVert|rVert|"
    r"cdots|ldots|dots|top|Rightarrow|Longrightarrow|nabla|circ|lfloor|rfloor|bmod|arg|lvert|rvert|leftarrow)(?![A-Za-z])"
)


def symbols(formula: str) -> list[str]:
    """The letters and Greek macros of a formula, in their order; d is the differential."""
    return [s for s in re.findall(r"\\?[A-Za-z]+", NO_SYMBOL.sub(" ", formula)) for s in (s if s[0] != "\\" else [s])]


def undefined(text: str, known: set[str]) -> list[str]:
    """Symbols of a page that are used before the text says what they are.

    A symbol is defined where an inline formula begins with it, as in "a kernel of side $k$" or "with $s = 1/2$", or
    where one on a line of its own is an equation for it: no later than at the end of the paragraph of its first use, or
    of the paragraph below if that is a formula on a line of its own.
    """
    blank = lambda block: block[0] if block[1] == "math" else re.sub(".", " ", block[0])  # noqa: E731
    text = re.sub(r"^```(\w*)\n.*?^```$", blank, text, flags=re.MULTILINE | re.DOTALL)
    last, defined, first = {}, {}, {}
    for match in MATH.finditer(text):
        own_line, found = match[1] is not None, symbols(match[1] or match[2])
        below = re.compile(r"(\s*```math.*?```)*\s*" if own_line else "", re.DOTALL).match(text, match.end()).end()
        for symbol in found:
            last.setdefault(symbol, text.find("\n\n", below) % (len(text) + 1))
            first.setdefault(symbol, f"{symbol} in line {text.count(chr(10), 0, match.start()) + 1}: {match[0]}")
        pieces = re.split(r"\\qquad|\\quad|\n", match[1]) if own_line else [match[2]]
        for begin in [symbols(piece)[:1] for piece in pieces if "=" in piece or not own_line]:
            defined.setdefault(*begin, match.start()) if begin else None
    return [first[s] for s in first if s not in known and defined.get(s, len(text)) > last[s]]


def notation() -> set[str]:
    """The symbols that the exercises' README explains for all pages."""
    table = (EXERCISES / "README.md").read_text(encoding="utf-8").split("## Notation")[1].split("##")[0]
    return {symbol for formula in re.findall(r"\$([^$]+)\$", table) for symbol in symbols(formula)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_symbol_is_defined_before_its_use(page):
    assert undefined(page.read_text(encoding="utf-8"), notation() | {"d"}) == []


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("A kernel of side $k$ and\na stride $s = 2$ give $k - s$.\n", []),
        ("The size is $k - s$.\n\nThe stride is $s$.\n", ["s"]),
        ("```math\na + \\frac{\\lambda}{2}\n```\n\nwhere $a$ is one, $\\lambda$ two.\n", []),
        ("```math\na + \\frac{\\lambda}{2}\n```\n\nwhere $a$ is one.\n\n$\\lambda$ is two.\n", ["\\lambda"]),
        ("With $x$ and $\\log \\mathtt{kl}$.\n\n```python\nf'$w$'\n```\n", []),
    ],
)
def test_a_symbol_without_a_definition_is_noticed(text, missing):
    assert [found.split(" in line")[0] for found in undefined(text, {"x"})] == missing


def test_there_are_pages():
    assert [page.name for page in PAGES][:2] == ["01_latent_space.md", "02_interpolation.md"]
    numbers = [int(page.name[:2]) for page in PAGES]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=page.stem, marks=() if page.stem in QUICK else pytest.mark.slow) for page in PAGES],
)
def test_a_page_runs_and_prints_what_it_shows(page, tmp_path):
    with place_to_work(tmp_path):
        outputs = run_page(page.read_text(encoding="utf-8"), page.name)
    assert len(outputs) >= 3
    assert [why for output in outputs if (why := difference(*output))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_the_common_sections(page):
    found = headings(page)
    assert [section for section in SECTIONS if not any(heading.startswith(section) for heading in found)] == []
    assert found[0] == SECTIONS[0]
    assert found[-1] == SECTIONS[-1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_its_files_and_folds_its_answers(page):
    text, number = page.read_text(encoding="utf-8"), page.name[:2]
    assert re.match(rf"# {int(number)}\. \S", text)
    for command in (f"check.py start {number}", f"check.py {number}", f"check.py hint {number}"):
        assert f"python exercises/{command}" in text
    assert text.count("<details>") == text.count("</details>") >= 3
    assert re.search(r"\bminutes|\bhour", text.split("##")[0])


# --- what is transcribed, derived and invented --------------------------------------------------------------------

MARK = re.compile(r"`(\w+)(?:\([^`]*\))?` \*(transcribe|derive|invent)\*")


def functions(page: Path) -> dict[str, bool]:
    """Each function or class of the page's starter -> whether it is still to be written; others are given."""
    tree = ast.parse((EXERCISES / "starter" / f"ex{page.stem}.py").read_text(encoding="utf-8"))
    nodes = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return {node.name: "raise NotImplementedError" in ast.unparse(node) for node in nodes}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_function_is_marked_once(page):
    """As `name(arguments)` *derive* where the task names it."""
    asked, marked = functions(page), [name for name, _ in MARK.findall(page.read_text(encoding="utf-8"))]
    assert sorted(set(marked)) == sorted(marked)
    assert {name for name, to_write in asked.items() if to_write} <= set(marked) <= set(asked)


def test_at_most_a_third_is_transcribed():
    marks = [mark for page in PAGES for _, mark in MARK.findall(page.read_text(encoding="utf-8"))]
    assert marks.count("transcribe") <= len(marks) / 3


def test_the_end_of_a_page_leads_to_its_neighbours():
    ends = [page.read_text(encoding="utf-8").split("\n\n")[-1] for page in PAGES]
    titles = [page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for page in PAGES]
    for i, end in enumerate(ends):
        links = dict(re.findall(r"(Next|Back):\s+(\[\d.*?\]\(.*?\))", end))
        neighbours = {"Back": i - 1, "Next": i + 1}
        right = {way: f"[{titles[n]}]({PAGES[n].name})" for way, n in neighbours.items() if 0 <= n < len(PAGES)}
        assert links == {way: right.get(way) for way in links}
        assert "Back" in links or i == 0


def test_the_readme_of_the_exercises_lists_every_page():
    pages = sorted(EXERCISES.glob("[0-9][0-9]_*.md"))
    titles = {page.name: page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for page in pages}
    assert {file: f"{number}. {title}" for number, title, file in ROWS} == titles


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


def test_a_page_may_grant_a_wider_band():
    text = "```python\nprint(104.0)\n```\n\n<!-- within 5 % -->\n```text\n100.0\n```\n"
    assert [difference(*output) for output in run_page(text, "page.md")] == [None]
    assert difference(*run_page(text.replace("within 5 %", "within 3 %"), "page.md")[0])


def test_shell_blocks_that_show_their_output_are_run():
    shown = "```sh\npython --version\npython -c print(1+1)  # two\n```\n\n```text\n2\n```\n"
    [(_, printed, _)] = run_page(shown, "page.md")
    assert printed.splitlines()[-1] == "2"
    assert run_page("```sh\npython no_such_file.py\n```\n", "page.md") == [(None, "", 0.0)]


def test_an_error_in_a_page_names_its_line():
    with pytest.raises(ZeroDivisionError) as error:
        run_page("# Title\n\n```python\none = 1\n```\n\n```python\none / 0\n```\n", "page.md")
    assert (str(error.traceback[-1].path), error.traceback[-1].lineno + 1) == ("page.md", 8)


def write_outputs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, place_to_work(Path(folder)):
        printed = iter([printed for shown, printed, _ in run_page(text, page.name) if shown is not None])

    def renewed(match: re.Match) -> str:
        return match[0].removesuffix(f"{match[3]}```") + f"{next(printed)}```" if match[2] == "text" else match[0]

    new = BLOCK.sub(renewed, text)
    page.write_text(new, encoding="utf-8")
    print(f"{page.name}: {'changed' if new != text else 'as it was'}")


if __name__ == "__main__":
    for page in PAGES:
        if not sys.argv[1:] or page.name[:2] in sys.argv[1:]:
            write_outputs(page)
