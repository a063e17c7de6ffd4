"""What README.md and the exercise pages quote is there: commands, flags, files, links, functions, numbers."""

import argparse
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

import conv_vae
import vae_lowlevel
import vae_numpy
from vae_common.data import load_dataset
from vae_common.spec import VAESpec
from vae_training import trainer

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "exercises").glob("*.md"))]
ids = [str(page.relative_to(ROOT)) for page in PAGES]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
RUN = "python3 -m venv .venv && .venv/bin/python -m pip install -e . && .venv/bin/python paper/vae_paper.py"
TEST = "python3 -m venv .venv && .venv/bin/python -m pip install -e '.[test]' && .venv/bin/python -m pytest"


def prose(text: str) -> str:
    return FENCE.sub("", text)


def commands(text: str) -> list[str]:
    """Every line of the shell blocks, and every `python ...` in the prose."""
    lines = [line for kind, body in FENCE.findall(text) if kind in ("bash", "sh") for line in body.splitlines()]
    return [*lines, *re.findall(r"`((?:[A-Z_]+=\S+ )*python [^`]*)`", prose(text))]


def check_command(line: str) -> None:
    """Raises AssertionError unless the command's files exist and its scripts' own parsers accept its flags."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words, parts = list(lexer), [[]]
    for word in words:
        if word in ("&&", "||", "|", ";"):
            parts.append([])
        else:
            parts[-1].append(word)
    for part in parts:
        while part and re.fullmatch(r"[A-Z_]+=.*", part[0]):
            part.pop(0)
        for word in part:
            assert not word.endswith(".py") or (ROOT / word).is_file(), f"{line}: there is no {word}"
        if re.fullmatch(r"(\.venv/bin/)?python3?", part[0]) and len(part) > 1:
            check_python(line, part[1:])
        if part[0] == "torchrun":
            check_python(line, part[next(i for i, word in enumerate(part) if word.endswith(".py")) :])


def check_python(line: str, arguments: list[str]) -> None:
    if arguments[0] == "-m":
        assert arguments[1] in ("venv", "pip", "pytest", "ruff"), f"{line}: python -m {arguments[1]}"
        return
    assert arguments[0].endswith(".py"), f"{line}: {arguments[0]} is no script"
    spec = importlib.util.spec_from_file_location(Path(arguments[0]).stem, ROOT / arguments[0])
    sys.path.insert(0, str((ROOT / arguments[0]).parent))  # as Python does for a script
    try:
        spec.loader.exec_module(script := importlib.util.module_from_spec(spec))
    finally:
        sys.path.pop(0)
    if not hasattr(script, "build_parser"):
        assert not arguments[1:], f"{line}: {arguments[0]} has no build_parser() to check its flags with"
        return
    parser: argparse.ArgumentParser = script.build_parser()
    try:
        parser.parse_args(arguments[1:])
    except SystemExit as stop:
        raise AssertionError(f"{line}: {arguments[0]} refuses these flags") from stop


# --- commands -----------------------------------------------------------------------------------------------------


def test_the_two_commands_stand_in_a_block_of_one_line_each():
    assert [body for kind, body in FENCE.findall(README) if kind == "bash"] == [f"{RUN}\n", f"{TEST}\n"]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_quoted_commands_name_files_and_flags_that_exist(page):
    for command in commands(page.read_text(encoding="utf-8")):
        check_command(command)


def test_the_commands_are_found():
    found = commands(README)
    assert len(found) >= 15
    for script in ("numpy/vae_numpy.py", "pytorch_lowlevel/vae_lowlevel.py", "paper/vae_paper.py"):
        assert sum(script in command for command in found) >= 2


@pytest.mark.parametrize(
    "command",
    [
        "python paper/vae_papers.py",
        "python paper/vae_paper.py --latent 2",
        "python paper/vae_paper.py --dataset mnits",
        "python3 -m venv .venv && python numpy/vae_numpy.py --epochs 3",
        "OMP_NUM_THREADS=1 python pytorch_lowlevel/vae_lowlevel.py --epochs 0",
        "diff -y numpy/vae_numpy.py numpy/vae_lowlevel.py | less",
        "python tests/compare_levels.py --no-such-flag",
        "torchrun --standalone --nproc-per-node 2 paper/vae_paper.py --latent 2",
    ],
)
def test_a_wrong_command_is_noticed(command, capsys):
    with pytest.raises(AssertionError):
        check_command(command)


# --- links, anchors, placeholders ---------------------------------------------------------------------------------


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


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_pictures_and_anchors_resolve(page):
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


def test_a_broken_link_is_noticed():
    page = ROOT / "README.md"
    broken = ("nowhere.md", "gallery/none.png", "#no-such-heading", "..", "exercises/01_latent_space.md#none")
    assert broken_links(page, " ".join(f"[text]({link})" for link in broken)) == list(broken)
    assert broken_links(page, "[a](LICENSE) [b](#the-three-levels) [c](https://arxiv.org/abs/1312.6114)") == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_no_placeholder_is_left(page):
    assert re.findall(r"\{\{[A-Z0-9_]*\}\}", page.read_text(encoding="utf-8")) == []


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


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_inline_maths_is_robust(page):
    assert fragile_maths(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "maths", ["a $x", "is $ x$ here", r"is $a\,b$ here", "is $E(x)_q$ here", "is $x$s", "is $a * b$."]
)
def test_fragile_maths_is_noticed(maths):
    assert len(fragile_maths(f"{maths} \n")) == 1


# --- what the text says of the code -------------------------------------------------------------------------------


def test_the_functions_that_the_derivation_names_exist():
    lines = re.findall(r"\*In the code:\*(.*?)\n\n", README, re.DOTALL)
    names = {name for line in lines for name in re.findall(r"`([a-z_]+)`", line)} - {"mu", "logvar", "recon", "kl"}
    assert {"encode", "decode", "reparameterize", "elbo_terms", "gaussian_kl", "bernoulli_recon"} <= names
    both = [name for name in names if hasattr(vae_numpy, name) and hasattr(vae_lowlevel, name)]
    assert names - set(both) == {"train_epoch", "train_step"}
    assert hasattr(vae_lowlevel, "train_epoch") and hasattr(trainer, "train_step")
    for name in ("encode", "decode", "reparameterize", "elbo_terms"):
        assert hasattr(conv_vae.ConvVAE, name)


def test_the_constants_that_the_text_states():
    assert f"{VAESpec().parameters:,} parameters" in README
    assert f"$392 \\log \\pi = {392 * np.log(np.pi):.1f}$" in README


def bernoulli_floors(images: np.ndarray) -> tuple[float, float]:
    """The entropy of the grey values, and the loss of the split's mean image, in nats per image."""
    x = images.reshape(len(images), -1) / 255

    def cross_entropy(p):
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(x > 0, x * np.log(p), 0) + np.where(x < 1, (1 - x) * np.log1p(-p), 0)
        return -terms.sum(axis=1).mean()

    return cross_entropy(x), cross_entropy(x.mean(axis=0))


def test_the_floors_of_digits_are_those_stated(digits):
    entropy, mean_image = bernoulli_floors(digits.images)
    assert f"{entropy:.2f} on that of `digits`" in README
    assert f"{mean_image:.1f} on grey `digits`" in README


def test_the_floors_of_mnist_are_those_stated(mnist_dir):
    entropy, mean_image = bernoulli_floors(load_dataset("mnist", "test", mnist_dir).images)
    assert f"{entropy:.2f} nats per image on the\nMNIST test split" in README
    assert f"{mean_image:.1f} on grey MNIST" in README
