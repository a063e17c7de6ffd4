"""An exercise's page as a Jupyter notebook: text and formulas, a cell for each Python block, and one for the answer.

`check.py start` writes it into my_work. Its answer cell begins with the cell magic `%%answer NUMBER` of check.py, which
saves the cell as the exercise's file and checks it: the cell and the file are one answer.
"""

import re

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

# A fold stays whole, with the code that is in it; of the fenced blocks outside of folds only Python becomes a cell.
PIECE = re.compile(r"^<details>.*?^</details>$|^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(#[^)\s]*)?\)")

BEGIN = """\
This notebook is the page [{page}](../{page}). Run its cells in order, with the kernel of the Python in which the
project is installed. Code in a fold is there to be read: to run it, copy it into a cell of your own.

*In Colab* get the project first: run `!git clone ADDRESS` in a cell, with the address of your copy of the project, and
`%pip install -e FOLDER` with the folder that came of it. Then restart the session (in the menu under Runtime)."""
SET_UP = """\
import os
import sys
from pathlib import Path

# Commands and imports of this page start from the project's own folder, here or nearby.
places = [Path.cwd(), *Path.cwd().parents, *Path.cwd().glob("*")]
found = [folder for folder in places if (folder / "exercises" / "check.py").is_file()]
assert found, "The project's folder is not here: see the cell above."
os.chdir(found[0])
sys.path.insert(0, "exercises")
%load_ext check
%load_ext autoreload
%autoreload 2"""
ASK = """\
**Your answer** goes into this cell. Running the cell saves it as `{file}`, where the cells below find it, and checks
it. For a hint run `%run -e exercises/check.py hint {number}`."""


def of_page(page: str, text: str, answer: str) -> NotebookNode:
    """The notebook of the exercise page named `page`, whose Markdown is `text`, with `answer` in the answer cell."""
    number, file = page[:2], f"exercises/my_work/ex{page.removesuffix('.md')}.py"
    title, _, rest = text.partition("\n")
    before, task, after = re.split(r"^(## Your task.*?)(?=^## )", rest, flags=re.MULTILINE | re.DOTALL)
    cells = [new_markdown_cell(f"{title}\n\n{BEGIN.format(page=page)}"), new_code_cell(SET_UP)]
    cells += cells_of(before, page) + cells_of(task, page)
    cells += [new_markdown_cell(ASK.format(file=file, number=number))]
    cells += [new_code_cell(f"%%answer {number}\n{answer.rstrip()}")]
    cells += [*cells_of(after, page), new_code_cell(f"%run -e exercises/check.py {number}")]
    for i, cell in enumerate(cells):
        cell.id = f"cell-{i}"  # not a random one: the same page gives the same file
    notebook = new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.validate(notebook)
    return notebook


def cells_of(text: str, page: str) -> list[NotebookNode]:
    """Markdown -> cells: one for each Python block outside of a fold, and one for all the text between two of them."""
    cells, begin = [], 0
    for piece in PIECE.finditer(text):
        if piece[1] == "python":
            cells += [new_markdown_cell(as_shown(text[begin : piece.start()], page)), new_code_cell(piece[2].rstrip())]
            begin = piece.end()
    cells.append(new_markdown_cell(as_shown(text[begin:], page)))
    return [cell for cell in cells if cell.source]


def as_shown(text: str, page: str) -> str:
    """Markdown of GitHub -> that of a notebook one folder further down: formulas between $$, links from there."""
    pieces = FENCED.split(text)  # every second one is a fenced block
    for i, piece in enumerate(pieces):
        if i % 2 == 0:
            pieces[i] = LINK.sub(lambda link: f"](../{link[1] or page}{link[2] or ''})", piece)
        elif piece.startswith("```math\n"):
            pieces[i] = f"$${piece.removeprefix('```math').removesuffix('```')}$$"
    return "".join(pieces).strip()
