"""Who may use whom: every import of the project, read from its source, goes down through the rooms, never up."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE_ROOTS = ("numpy", "pytorch_lowlevel", "paper")
FILES = {
    ".".join(path.relative_to(ROOT / source).with_suffix("").parts).removesuffix(".__init__"): path
    for source in SOURCE_ROOTS
    for path in sorted((ROOT / source).rglob("*.py"))
}
LEVELS = {"vae_numpy", "vae_lowlevel", "conv_vae"}
PACKAGES = {name for name, path in FILES.items() if path.name == "__init__.py" and "." not in name}
COMMANDS = {name for name in FILES if "." not in name} - PACKAGES - LEVELS

# A room and the rooms that it may use besides itself; each may use vae_common.
MEASURING = {"conv_vae", "vae_models", "vae_training", "vae_measures"}
MAY_USE = {
    **{level: set() for level in LEVELS},
    "vae_common": set(),
    "vae_models": {"conv_vae"},
    "vae_training": {"conv_vae", "vae_models"},
    "vae_measures": MEASURING,
    "vae_plots": MEASURING,
    "vae_doctor": MEASURING,
    "vae_explorer": MEASURING,
    "vae_commands": {*MEASURING, "vae_plots", "vae_doctor", "vae_explorer"},
    **{command: PACKAGES | {"conv_vae"} for command in COMMANDS},
}


def room(module: str) -> str:
    return module.split(".")[0]


def imports(module: str, only_at_import: bool = False) -> set[str]:
    """What this module imports: modules, and the module of cli.later(module, function), which imports it when called.

    only_at_import: leave out what is imported within functions.
    """
    found = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports by full name only"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(names & FILES.keys() or {node.module})
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("later") and not only_at_import:
            found.add(node.args[0].value)
        if not (only_at_import and isinstance(node, ast.FunctionDef)):
            for child in ast.iter_child_nodes(node):
                visit(child)

    visit(ast.parse(FILES[module].read_text()))
    return found


def of_the_project(modules: set[str]) -> set[str]:
    return {module for module in modules if room(module) in MAY_USE}


def test_the_rooms_are_all_there_and_every_import_was_read():
    assert {room(module) for module in FILES} == MAY_USE.keys()
    assert len(COMMANDS) >= 7 and "vae_paper" in COMMANDS
    assert {"vae_common.weights_shown", "vae_common.cli"} <= imports("vae_numpy")
    assert "torch" in imports("vae_common.cli") and "torch" not in imports("vae_common.cli", only_at_import=True)
    TopologicalSorter({module: of_the_project(imports(module)) - {module} for module in FILES}).prepare()  # no circle
    assert not [module for module, path in FILES.items() if "pyplot" in path.read_text()]  # figures have no state
    for module in FILES:  # a name that is misspelt in cli.later would be found by whoever runs that line
        assert of_the_project(imports(module)) <= FILES.keys(), module


@pytest.mark.parametrize("name", sorted(MAY_USE))
def test_a_room_uses_only_what_lies_below_it(name):
    allowed = MAY_USE[name] | {name, "vae_common"}
    for module in FILES:
        if room(module) == name:
            above = {used for used in of_the_project(imports(module)) if room(used) not in allowed}
            assert not above, f"{module} uses {sorted(above)}"


def needed_by(modules: set[str]) -> set[str]:
    """Every module that is imported when these are."""
    known, todo = set(), set(modules)
    while todo:
        known |= todo
        todo = {used for module in todo & FILES.keys() for used in imports(module, only_at_import=True)} - known
    return known


MODELS = {"conv_vae", *(module for module in FILES if room(module) == "vae_models")}


def test_models_know_no_processes_command_lines_folders_or_pictures():
    own = set().union(*(imports(module) for module in MODELS))
    standard = {"collections.abc", "dataclasses", "functools", "itertools", "math"}
    assert {name for name in own if room(name) not in {*MAY_USE, "numpy", "torch"}} <= standard
    common = {name for name in own if room(name) == "vae_common"}
    assert common <= {f"vae_common.{name}" for name in ("data", "errors", "evaluation", "spec")}
    needed = {room(name) for name in needed_by(MODELS)}
    assert not needed & {"matplotlib", "PIL", "tqdm", "sklearn", "torchvision", "vae_training"}
    assert not needed_by(MODELS) & {"vae_common.cli", "vae_common.run_folder", "vae_common.plots.style"}


def test_the_ground_floor_needs_no_torch():
    needed = needed_by({"vae_numpy", *(module for module in FILES if room(module) == "vae_common")})
    foreign = {room(name) for name in needed} - sys.stdlib_module_names - MAY_USE.keys()
    assert foreign <= {"numpy", "matplotlib", "PIL", "safetensors"}
