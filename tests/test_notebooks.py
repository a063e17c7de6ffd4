"""The exercises' notebooks are valid and hold all of their pages; executed, they print what the pages show.

A notebook is executed in a kernel of its own, from exercises/my_work of a copy of the exercises, with the solution in
its answer cell. tests/test_exercise_check.py has how it is written, and how its answer cell is saved.
"""

import os
import re
from pathlib import Path

import nbclient
import nbformat
import pytest

from test_exercise_pages import BLOCK, EXERCISES, PAGES, difference, place_to_work
from test_exercise_solutions import source  # which puts exercises/ on the path
from test_readme import LINK, anchors, prose

import as_notebook  # isort: skip

FOLD = re.compile(r"^<details>.*?^</details>$", re.MULTILINE | re.DOTALL)


def notebook_of(page: Path, kind: str = "starter") -> nbformat.NotebookNode:
    return as_notebook.of_page(page.name, page.read_text(encoding="utf-8"), source(kind, f"ex{page.stem}"))


def texts(notebook, kind: str) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_notebook_is_its_page(page):
    text, notebook, answer = page.read_text(encoding="utf-8"), notebook_of(page), source("starter", f"ex{page.stem}")
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    set_up, *code, last = texts(notebook, "code")
    code.remove(f"%%answer {page.name[:2]}\n{answer.rstrip()}")
    assert "chdir" in set_up and last == f"%run -e exercises/check.py {page.name[:2]}"
    assert code == [m[3].rstrip() for m in BLOCK.finditer(FOLD.sub("", text)) if m[2] == "python"]
    shown = "\n\n".join(texts(notebook, "markdown"))
    assert len(FOLD.findall(shown)) == len(FOLD.findall(text)) >= 3
    assert "```math" not in shown and shown.count("$$") == 2 * text.count("```math\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_from_the_notebooks_folder_to_where_they_lead_from_the_page(page):
    work = EXERCISES / "my_work"  # it need not be there
    links = [link for link in LINK.findall(prose("\n\n".join(texts(notebook_of(page), "markdown")))) if ":" not in link]
    assert len(links) >= 2
    for name, _, anchor in (link.partition("#") for link in links):
        target = Path(os.path.normpath(work / name))
        assert target.exists() and (not anchor or anchor in anchors(target)), f"{name}#{anchor}"


def executed(page: Path, folder: Path) -> list[tuple[str, str]]:
    """Every code cell of the page's notebook, and what it printed. Raises CellExecutionError."""
    notebook, place = notebook_of(page, "solutions"), folder / "exercises" / "my_work"
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": place}})
    client.execute()
    return [
        (cell.source, "".join(output.get("text", "") for output in cell.outputs))
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def shown_by(text: str) -> dict[str, tuple[str | None, float]]:
    """Each Python block of a page -> the output that the page shows for it, and the band that it grants."""
    found, blocks = {}, list(BLOCK.finditer(text))
    for match, following in zip(blocks, [*blocks[1:], None], strict=True):
        if match[2] == "python":
            follows = following is not None and following[2] == "text"
            found[match[3].rstrip()] = (following[3], float(following[1] or 0)) if follows else (None, 0.0)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_notebook_runs_and_prints_what_its_page_shows(page, tmp_path):
    shown = shown_by(page.read_text(encoding="utf-8"))
    with place_to_work(tmp_path):
        (_, begin), *cells = executed(page, tmp_path)
    own = [printed for code, printed in cells if code not in shown]
    assert begin == "" and len(own) == 2
    assert all(printed.startswith(f"[pass] {page.name[:2]} ") for printed in own)
    pairs = [(shown[code], printed) for code, printed in cells if code in shown]
    assert [why for (text, percent), printed in pairs if (why := difference(text, printed, percent))] == []
