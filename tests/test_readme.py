"""What the pages say is there: commands and their flags, files, links, functions, and the numbers that are cheap."""

import importlib.util
import re
import shlex
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import conv_vae
import vae_lowlevel
import vae_numpy
import vae_paper
from vae_common import cli
from vae_common.config import RunConfig
from vae_common.data import entropy_floor, load_dataset
from vae_common.errors import UsageError
from vae_common.spec import VAESpec
from vae_measures import loss_conventions
from vae_training import trainer

ROOT = Path(__file__).parents[1]
FOLDERS = ("numpy", "pytorch_lowlevel", "paper", "exercises", "tests")
FRONT, TOUR = ROOT / "README.md", ROOT / "paper" / "README.md"
PAGES = [FRONT, TOUR, ROOT / "tests" / "README.md", *sorted((ROOT / "exercises").glob("*.md"))]
PAGES.append(ROOT / "numpy" / "vae_common" / "pretrained" / "README.md")
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES}
README = TEXT[FRONT]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
RUN = "python3 -m venv .venv && .venv/bin/python -m pip install -e . && .venv/bin/python paper/vae_paper.py"
TEST = "python3 -m venv .venv && .venv/bin/python -m pip install -e '.[test]' && .venv/bin/python -m pytest"


def prose(text: str) -> str:
    return FENCE.sub("", text)


def commands(text: str) -> list[str]:
    """Every line of the shell blocks, every `python ...` in the prose, and every row of flags of paper/vae_paper.py."""
    lines = [line for kind, body in FENCE.findall(text) if kind in ("bash", "sh") for line in body.splitlines()]
    rows = re.findall(r"^\| `(--[^`]*)`", text, re.MULTILINE)
    spans = re.findall(r"`((?:[A-Z_]+=\S+ )*(?:python|torchrun) [^`]*)`", prose(text))
    return [*lines, *spans, *(f"python paper/vae_paper.py {flags}" for flags in rows)]


@cache
def parser_of(script: str):
    """The parser that a script gives to `cli.run`; the command itself is not carried out."""
    spec = importlib.util.spec_from_file_location(Path(script).stem, ROOT / script)
    sys.path.insert(0, str((ROOT / script).parent))  # as Python does for a script
    given = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "run", lambda parser, *_, **__: given.append(parser))
        try:
            spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
            module.main([])
        finally:
            sys.path.pop(0)
    return given[0]


def check_command(line: str) -> None:
    """Raises AssertionError unless the command's files exist and its script takes its flags."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    parts = [[]]
    for word in lexer:
        assert not word.endswith(".py") or (ROOT / word).is_file(), f"{line}: there is no {word}"
        if word in ("&&", "||", "|", ";"):
            parts.append([])
        elif parts[-1] or not re.fullmatch(r"[A-Z_]+=.*", word):  # a variable before the command is no part of it
            parts[-1].append(word)
    for program, *arguments in parts:
        if program == "torchrun":
            check_python(line, arguments[[word.endswith(".py") for word in arguments].index(True) :])
        elif re.fullmatch(r"(\.venv/bin/)?python3?", program):
            check_python(line, arguments)


def check_python(line: str, words: list[str]) -> None:
    script, *arguments = words
    if script == "-m":
        assert arguments[0] in ("venv", "pip", "pytest", "ruff"), f"{line}: python -m {arguments[0]}"
        if "-k" in arguments:
            file = next(word for word in arguments if word.endswith(".py"))
            wanted = arguments[arguments.index("-k") + 1]
            assert wanted in (ROOT / file).read_text(encoding="utf-8"), f"{line}: no test is called {wanted}"
        return
    try:
        typed = vars(parser_of(script).parse_args(arguments))
        if script == "paper/vae_paper.py" and "resume" not in typed:
            vae_paper.refuse_contradictions(RunConfig(**typed))
    except (SystemExit, UsageError) as refusal:
        raise AssertionError(f"{line}: {script} refuses these flags: {refusal}") from refusal


def test_the_commands_are_found():
    assert [body for kind, body in FENCE.findall(README) if kind == "bash"] == [f"{RUN}\n", f"{TEST}\n"]
    assert len(commands(README)) >= 20 and len(commands(TEXT[TOUR])) >= 40
    assert "python paper/vae_paper.py --amp --beta 0.5" in commands(TEXT[TOUR])


WRONG = (
    "python paper/vae_papers.py",
    "python paper/vae_paper.py --beta 4 --model ae",
    "OMP_NUM_THREADS=1 python3 -m venv .venv && python numpy/vae_numpy.py --epochs 3",
    "torchrun --standalone --nproc-per-node 2 paper/vae_paper.py --latent 2",
    "python -m pytest tests/test_readme.py -k no_such_" + "test",
)


@pytest.mark.parametrize("command", WRONG)
def test_a_wrong_command_is_noticed(command, capsys):
    with pytest.raises(AssertionError):
        check_command(command)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, text: str) -> list[str]:
    broken = []
    for link in LINK.findall(prose(text)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or ROOT not in target.resolve().parents or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


def missing_files(text: str) -> list[str]:
    """The files of code that a text names, by path or by bare name, and that are nowhere in the project."""
    there = [f"/{path.relative_to(ROOT)}" for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")]
    for others in ("https://", *(loss.where for loss in loss_conventions.PUBLIC)):  # these name files of others
        text = re.sub(re.escape(others) + r"\S*", "", text)
    named = set(re.findall(r"(?<![\w/<])(?:\.\./)*([\w/]+\.(?:py|js))\b", text))
    named = {name for name in named if "my_work" not in name}  # the learner's
    return sorted(name for name in named if not any(path.endswith(f"/{name}") for path in there))


def test_the_front_page_is_short_and_its_map_names_every_folder_and_no_other():
    block = README.split("## The map")[1].split("```")[1]
    found = [path for folder in FOLDERS for path in (ROOT / folder, *(ROOT / folder).rglob("*")) if path.is_dir()]
    names = {path.name for path in found if any(path.glob("*.*")) and "my_work" not in path.parts} - {"__pycache__"}
    assert [name for name in sorted(names) if f"{name}/" not in block] == []
    assert README.count("\n") <= 300
    assert [name for name in re.findall(r"^ *(\w+)/", block, re.MULTILINE) if name not in names] == []


def fragile_maths(text: str) -> list[str]:
    """Inline formulas that GitHub may show as text: Markdown gets to see what stands between the dollars first.

    A backslash before punctuation is eaten, `*` and a `_` after a bracket can start emphasis; displayed formulas
    stand in ```math blocks, where nothing of this happens.
    """
    text = re.sub(r"`[^`\n]*`", "code", prose(text))
    found = [paragraph for paragraph in text.split("\n\n") if paragraph.count("$") % 2]
    for match in re.finditer(r"\$([^$]+)\$", text):
        around = text[match.start() - 1] + text[match.end()]
        if re.search(r"\\[^a-zA-Z ]|[*<>&#\n]|[)}\]]_|^\s|\s$", match[1]) or not re.fullmatch(r"[ \n(][^\w$]", around):
            found.append(match[0])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_links_files_and_formulas_of_a_page_are_right(page):
    for command in commands(TEXT[page]):
        check_command(command)
    assert broken_links(page, TEXT[page]) == [] and missing_files(TEXT[page]) == []
    assert fragile_maths(TEXT[page]) == []


def test_a_broken_link_a_missing_file_and_a_fragile_formula_are_noticed():
    broken = ("nowhere.md", "#no-such-heading", "..", "exercises/01_latent_space.md#none")
    assert broken_links(FRONT, " ".join(f"[text]({link})" for link in broken)) == list(broken)
    assert broken_links(FRONT, "[a](LICENSE) [b](#the-three-levels) [c](https://arxiv.org/abs/1312.6114)") == []
    text = "`paper/vae_paper.py` and spec.py are there, `paper/spec.py` and trunks.py are not."
    assert missing_files(text) == ["paper/spec.py", "trunks.py"]
    for maths in ("a $x", "is $ x$ here", r"is $a\,b$ here", "is $E(x)_q$ here", "is $x$s", "is $a * b$."):
        assert len(fragile_maths(f"{maths} \n")) == 1, maths


def test_the_functions_that_the_derivation_names_exist():
    assert f"{VAESpec().parameters:,} parameters" in README
    lines = re.findall(r"\*In the\s+code:\*(.*?)\n\n", README, re.DOTALL)
    names = {name for line in lines for name in re.findall(r"`([a-z_]+)`", line)} - {"mu", "logvar", "recon", "kl"}
    assert {"encode", "decode", "reparameterize", "elbo_terms", "gaussian_kl", "bernoulli_recon"} <= names
    both = {name for name in names if hasattr(vae_numpy, name) and hasattr(vae_lowlevel, name)}
    assert names - both == {"train_epoch", "train_step"}
    assert hasattr(vae_lowlevel, "train_epoch") and hasattr(trainer, "train_step")
    assert all(hasattr(conv_vae.ConvVAE, name) for name in ("encode", "decode", "reparameterize", "elbo_terms"))


def test_the_table_of_levels_states_the_elbo_that_is_measured_of_the_shipped_weights():
    [stated] = re.findall(r"`python numpy/vae_numpy\.py` \| -elbo ([\d.]+)", README)
    assert f"| {stated} |" in next(row for row in TEXT[PAGES[-1]].splitlines() if "`digits-z20.safetensors`" in row)


def test_the_table_of_betas_is_what_the_command_prints():
    assert f"\n\n{loss_conventions.table()}\n\n" in TEXT[TOUR]
    assert f"$392 \\log \\pi = {392 * np.log(np.pi):.1f}$" in TEXT[TOUR]


def test_the_results_of_the_front_page_are_those_of_the_tour():
    rows = re.findall(r"^\|[^|]*\|([^|]*)\|([^|]*)\|$", README.split("## Results")[1].split("##")[0], re.MULTILINE)
    numbers = [number for row in rows for cell in row for number in re.findall(r"(?<!\d)\d+\.\d+", cell)]
    assert len(numbers) >= 10 and [number for number in numbers if number not in TEXT[TOUR]] == []


def test_the_bernoulli_floors_are_those_stated(digits, request):
    """The entropy of the grey values, and the loss of the split's mean image, in nats per image."""

    def floors(images: np.ndarray) -> tuple[float, float]:
        x = images / 255
        return entropy_floor(x), entropy_floor(x.mean(axis=0, keepdims=True))

    front, tour = (TEXT[page].replace("\n", " ") for page in (FRONT, TOUR))
    entropy, mean_image = floors(digits.images)
    assert f"{entropy:.2f} on that of `digits`" in tour
    assert all(f"{mean_image:.1f} on grey `digits`" in text for text in (front, tour))
    mnist = load_dataset("mnist", "test", request.getfixturevalue("mnist_dir"))
    entropy, mean_image = floors(mnist.images)
    assert f"{entropy:.2f} nats per image on the MNIST test split" in tour
    assert all(f"{mean_image:.1f} on grey MNIST" in text for text in (front, tour))
