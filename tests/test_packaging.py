"""`import numpy` is NumPy from everywhere, no module hides another, and a wheel holds what it should."""

import re
import subprocess
import sys
import zipfile
from importlib.machinery import PathFinder
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path

import pytest

from test_rooms import FILES, imports, room

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("numpy", "pytorch_lowlevel", "paper")
MODULES = sorted(path.stem for source in SOURCES for path in (ROOT / source).glob("*.py"))
PACKAGES = sorted(path.parent for source in SOURCES for path in (ROOT / source).glob("*/__init__.py"))
PACKAGE_NAMES = {package.name for package in PACKAGES}
SHARED = sorted(path.relative_to(package.parent).as_posix() for package in PACKAGES for path in package.rglob("*.py"))
GENERIC = {"models", "utils", "helpers", "common", "data", "train", "test", "tests", "main", "config"}


def python(*argv, cwd: Path) -> str:
    done = subprocess.run([sys.executable, *map(str, argv)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("folder", ["", *SOURCES, "tests"])
@pytest.mark.parametrize("more", [[], [ROOT]], ids=["", "PYTHONPATH"])
def test_import_numpy_finds_the_real_numpy(folder, more):
    """What Python does for `python -c` or a script in that folder: the folder is first on the path."""
    found = PathFinder.find_spec("numpy", [str(path) for path in (ROOT / folder, *more, *sys.path)])
    assert Path(found.origin).name == "__init__.py" and not Path(found.origin).is_relative_to(ROOT / "numpy")


def test_no_module_hides_another():
    assert [source for source in SOURCES if (ROOT / source / "__init__.py").exists()] == []
    roots = [path for source in SOURCES for path in (ROOT / source).iterdir()]
    files = {path.stem: path for path in roots if path.suffix == ".py"}
    files |= {path.name: path / "__init__.py" for path in roots if (path / "__init__.py").exists()}
    assert len(files) == len(MODULES) + len(PACKAGES) and set(files) >= PACKAGE_NAMES
    assert not set(files) & (set(sys.stdlib_module_names) | GENERIC)
    for name, path in files.items():
        found = find_spec(name)
        assert found is not None and Path(found.origin) == path, f"{name} is found at {found and found.origin}"


def test_what_is_imported_is_a_declared_dependency_with_a_lower_bound():
    declared = [text for text in requires("vae-three-levels") if "extra ==" not in text]
    assert all(re.fullmatch(r"[a-z-]+>=[0-9.]+", text) for text in declared)
    names = {text.partition(">=")[0].replace("scikit-learn", "sklearn") for text in declared}
    names.add("PIL")  # pillow, without which matplotlib and torchvision do not install
    imported = {room(used) for module in FILES for used in imports(module)}
    assert imported - set(sys.stdlib_module_names) - {*MODULES, *PACKAGE_NAMES} <= names


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    at_hand = ["--no-build-isolation"] if find_spec("hatchling") else []
    python("-m", "pip", "wheel", "--no-deps", *at_hand, "--wheel-dir", folder, ROOT, cwd=folder)
    [path] = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_the_weights_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = [name for name in file.namelist() if ".dist-info/" not in name]
    explorer, pretrained = ROOT / "paper" / "vae_explorer", ROOT / "numpy" / "vae_common" / "pretrained"
    data = [*explorer.glob("*.html"), *explorer.glob("*.js"), *pretrained.iterdir()]
    shipped = [path.relative_to(ROOT).as_posix().partition("/")[2] for path in data]
    assert sorted(names) == sorted([*(f"{name}.py" for name in MODULES), *SHARED, *shipped])
    assert {f"vae_common/pretrained/digits-z{z}.safetensors" for z in (2, 20)} <= set(shipped)


IMPORTS = """
import importlib, numpy, sys
target, names, *editable = sys.argv[1:]
sys.path[:] = [target, *(path for path in sys.path if path not in editable)]
for name in names.split():
    file = importlib.import_module(name.removesuffix('.__init__')).__file__
    assert file.startswith(target), file
print(numpy.ones(3).sum())
"""


@pytest.mark.slow
def test_the_installed_wheel_imports_without_the_repository(wheel, tmp_path):
    target = tmp_path / "installed"
    python("-m", "pip", "install", "--no-deps", "--no-index", "--target", target, wheel, cwd=tmp_path)
    modules = [*MODULES, *PACKAGE_NAMES, *(name[:-3].replace("/", ".") for name in SHARED)]
    editable = [ROOT / source for source in SOURCES]
    # -I keeps the working directory and PYTHONPATH out; an editable install's folders are taken off the path.
    assert python("-I", "-c", IMPORTS, target, " ".join(modules), *editable, cwd=tmp_path) == "3.0"
