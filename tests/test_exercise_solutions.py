"""Every exercise's check: refuses the starter, accepts the solution, names the mistakes it knows, catches mutants.

Checks run in this process, which is quick; tests/test_exercise_check.py runs them as a learner does. Parts that train,
those in a check's AFTER_OTHERS, are left out; tests/test_own_run.py has them. An answer that
differs from the solution in one function is given the parts about that function alone, and the whole check only if they
do not tell. A mutant is the solution with one small change: another operator, a constant one off, a mean for a sum, a
sign. Nearly all must be refused. known_answers/<exercise>.py holds

- WRONG: plausible wrong answers, as (old, new, says): the solution with `old` replaced by `new`, and a part of what
  must be said of it;
- ALSO_RIGHT: other right answers, as (old, new);
- EQUIVALENT: the mutants that make no difference, each with the reason.
"""

import ast
import collections
import copy
import functools
import importlib.util
import re
import signal
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

EXERCISES = Path(__file__).parents[1] / "exercises"
if str(EXERCISES) not in sys.path:
    sys.path.insert(0, str(EXERCISES))

from checks.judging import Verdict, function_of, imports, judge, parts  # noqa: E402

NAMES = sorted(path.stem for path in (EXERCISES / "checks").glob("ex*.py"))
SECONDS = 20  # of the processor, where a learner's code is given as many of the clock; a mutant may loop for ever


def source(kind: str, name: str) -> str:
    return (EXERCISES / kind / f"{name}.py").read_text(encoding="utf-8")


def known(name: str, table: str):
    return getattr(importlib.import_module(f"known_answers.{name}"), table, ())


def with_change(name: str, old: str, new: str) -> str:
    """The solution of an exercise, with `new` in place of `old`."""
    solution = source("solutions", name)
    assert solution.count(old) == 1, f"`{old}` is {solution.count(old)} times in the solution of {name}, not once"
    return solution.replace(old, new)


@functools.cache
def sections(page: str) -> set[str]:
    """The sections of a page, as links name them."""
    headings = re.findall(r"^#+ (.*)$", (EXERCISES / page).read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


class TimeIsUp(BaseException):
    pass


def definitions(text: str) -> set[str]:
    return set(re.split(r"^(?=def |class )", text, flags=re.MULTILINE))


@functools.cache
def definitions_of_the_solution(name: str) -> tuple[set[str], set[str]]:
    """As they are written, and as `mutants` writes them."""
    text = source("solutions", name)
    return definitions(text), definitions(ast.unparse(ast.parse(text)))


def changed_functions(name: str, text: str) -> set[str]:
    """The functions that `text` has and the solution has not."""
    new = min((definitions(text) - old for old in definitions_of_the_solution(name)), key=len)
    return set(re.findall(r"^(?:def|class) (\w+)", "".join(new), re.MULTILINE))


def check_of(name: str) -> types.SimpleNamespace:
    """The check of an exercise, without the parts that train."""
    check = dict(vars(importlib.import_module(f"checks.{name}")))
    slow = check.get("AFTER_OTHERS", ())
    return types.SimpleNamespace(**{key: value for key, value in check.items() if value not in slow or not slow})


def only(check: types.SimpleNamespace, functions: set[str]) -> types.SimpleNamespace:
    """The check with only its parts about these functions, or all of them where there are none; same numbers drawn."""

    def skipped(part):
        return functools.update_wrapper(lambda work, rng: None, part)

    about = {part for part in parts(check) if function_of(part) in functions} or set(parts(check))
    named = {part.__name__: part if part in about else skipped(part) for part in parts(check)}
    return types.SimpleNamespace(FORBIDDEN=getattr(check, "FORBIDDEN", ()), **named)


def narrow_verdict(name: str, text: str, seed: int = 0) -> Verdict:
    """The verdict of the parts about what `text` changes of the solution."""
    return verdict(name, text, seed, only(check_of(name), changed_functions(name, text)))


def verdict(name: str, text: str, seed: int = 0, check: object = None) -> Verdict:
    """The verdict of `check`, by default that of the exercise, on `text`, in this process."""

    def stop(*_):
        raise TimeIsUp

    alarm = hasattr(signal, "SIGPROF") and threading.current_thread() is threading.main_thread()
    if alarm:
        before = signal.signal(signal.SIGPROF, stop)
        signal.setitimer(signal.ITIMER_PROF, SECONDS, 1)  # and once a second, if a later part loops too
    path = EXERCISES / "my_work" / f"{name}.py"
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # a learner sees them; a wrong answer may well cause some
            found = judge(check or check_of(name), text.encode(), source("starter", name).encode(), path, seed)
            assert "The check itself failed" not in found.text, found.text
            linked = re.findall(r"exercises/(\S+\.md)#(\S+)", found.text)
            assert [link for link in linked if link[1] not in sections(link[0])] == []
            return found
    except TimeIsUp:
        return Verdict(False, "time is up")
    finally:
        sys.modules.pop(name, None)
        if alarm:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)


# --- starters, solutions, known mistakes --------------------------------------------------------------------------


def test_there_are_exercises():
    assert {"ex03_convolution", "ex04_kl_and_elbo"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_exercise_is_complete(name):
    check = check_of(name)
    for path in (f"starter/{name}.py", f"solutions/{name}.py", f"{name[2:]}.md"):
        assert (EXERCISES / path).is_file(), path
    assert len(known(name, "WRONG")) >= 5
    tree = ast.parse(source("starter", name))
    functions = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    asked = {function_of(part) for part in parts(check)}
    assert asked <= functions
    about = {word for hint in check.HINTS for word in re.findall(r"\w+", hint.split(":")[0])}
    assert asked - about == set()
    assert len(set(known(name, "WRONG"))) == len(known(name, "WRONG"))


@pytest.mark.parametrize("name", NAMES)
def test_where_the_answer_stands_is_forbidden(name):
    """What a check compares with may not be imported by an answer; and what is forbidden is there, by that name."""
    forbidden = set(getattr(check_of(name), "FORBIDDEN", ()))
    assert [module for module in forbidden if importlib.util.find_spec(module) is None] == []
    used = {module for _, module in imports(ast.parse(source("checks", name)))}
    assert used & {"vae_lowlevel", "conv_vae", "vae_models", "vae_measures", "vae_doctor"} <= forbidden


@pytest.mark.parametrize("name", NAMES)
def test_the_starter_is_refused(name):
    starter = source("starter", name)
    untouched = verdict(name, starter)
    assert (untouched.passed, untouched.tried) == (False, False)
    assert "untouched starter" in untouched.text
    touched = verdict(name, f"{starter}\n\nbegun = True\n")
    assert (touched.passed, touched.tried) == (False, True)
    assert "not yet written" in touched.text


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_passes(name):
    found = verdict(name, source("solutions", name))
    assert found.passed, found.text
    assert found.text.count("right") >= len(parts(check_of(name)))


@pytest.mark.parametrize("name", NAMES)
def test_solution_and_starter_have_the_same_functions_with_the_same_docstrings(name):
    def functions(kind):
        tree = ast.parse(source(kind, name))
        nodes = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        arguments = [ast.unparse(node.args) if isinstance(node, ast.FunctionDef) else "" for node in nodes]
        return {node.name: (ast.get_docstring(node), given) for node, given in zip(nodes, arguments, strict=True)}

    asked, answered = functions("starter"), functions("solutions")
    assert {name: answered.get(name) for name in asked} == asked


def not_refused(name: str, seed: int) -> list[str]:
    """The known wrong answers that pass, or whose mistake is not named."""
    found = []
    for old, new, says in known(name, "WRONG"):
        answer = with_change(name, old, new)
        told = narrow_verdict(name, answer, seed)
        if told.passed:
            told = verdict(name, answer, seed)
        if told.passed or says not in told.text:
            found.append(f"{new}, seed {seed}, not said: {says}\n{told.text}")
    return found


@pytest.mark.parametrize("seeds", [range(1), pytest.param(range(1, 21), marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_wrong_answers_are_refused_and_their_mistakes_named(name, seeds):
    assert [told for seed in seeds for told in not_refused(name, seed)] == []


def also_right(name: str) -> list[str]:
    return [with_change(name, old, new) for old, new in known(name, "ALSO_RIGHT")]


@pytest.mark.parametrize("name", NAMES)
def test_other_right_answers_pass(name):
    verdicts = [narrow_verdict(name, answer) for answer in also_right(name)]
    assert [found.text for found in verdicts if not found.passed] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_other_right_answers_pass_every_part_on_three_draws(name):
    verdicts = [verdict(name, answer, seed) for answer in also_right(name) for seed in range(3)]
    assert [found.text for found in verdicts if not found.passed] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_solution_passes_on_a_hundred_draws(name):
    solution = source("solutions", name)
    assert [seed for seed in range(100, 200) if not verdict(name, solution, seed).passed] == []


# --- mutants ------------------------------------------------------------------------------------------------------

OPERATORS = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
}
PAIRS = ("sum mean", "max min", "maximum minimum", "argmax argmin", "log1p log", "expm1 exp", "sqrt square", "sin cos",
         "zeros ones", "any all", "var std")  # fmt: skip
NAMES_LIKE = {one: other for pair in map(str.split, PAIRS) for one, other in (pair, pair[::-1])}


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """The node with one small change, for each change there is."""
    if isinstance(node, (ast.BinOp, ast.AugAssign)):
        for operator in OPERATORS.get(type(node.op), ()):
            yield changed(node, op=operator())
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for operator in OPERATORS.get(type(node.ops[0]), ()):
            yield changed(node, ops=[operator()])
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node.operand
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        for value in (node.value + 1, node.value - 1) if isinstance(node.value, int) else (2 * node.value, 0.0):
            yield changed(node, value=value)
    elif isinstance(node, ast.Attribute) and node.attr in NAMES_LIKE:
        yield changed(node, attr=NAMES_LIKE[node.attr])
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in ("max", "min"):
        yield changed(node, id=NAMES_LIKE[node.id])
    elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Tuple):
        yield changed(node, value=ast.UnaryOp(ast.USub(), node.value))


def changed(node: ast.AST, **fields) -> ast.AST:
    node = copy.copy(node)
    for name, value in fields.items():
        setattr(node, name, value)
    return node


def mutants(text: str) -> list[tuple[str, Callable[[], str]]]:
    """(what was changed, a function that writes the whole source) of every mutant of a solution; a statement is named
    by its function."""
    found = []

    def visit(node: ast.AST, rebuild, where: str, statement: ast.stmt | None) -> None:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            where = f"{where}.{node.name}".lstrip(".")
        if isinstance(node, ast.stmt):
            statement = node
        for variant in variants(node) if statement is not None else ():
            before, after = ast.unparse(node).splitlines()[0], ast.unparse(ast.fix_missing_locations(variant))
            context = text.splitlines()[node.lineno - 1].strip()
            what = f"{where}: {before} -> {after.splitlines()[0]} in {context}"
            found.append((what, functools.partial(rebuild, variant)))
        for field, value in ast.iter_fields(node):
            if isinstance(value, list):
                for index, child in enumerate(value):
                    if isinstance(child, ast.AST):
                        visit(child, replacing(rebuild, node, field, value, index), where, statement)
            elif isinstance(value, ast.AST):
                visit(value, lambda new, n=node, f=field, r=rebuild: r(changed(n, **{f: new})), where, statement)

    def replacing(rebuild, node, field, values, index):
        return lambda new: rebuild(changed(node, **{field: [*values[:index], new, *values[index + 1 :]]}))

    visit(ast.parse(text), lambda tree: ast.unparse(ast.fix_missing_locations(tree)), "", None)
    times = collections.Counter()
    for index, (what, mutant) in enumerate(found):
        times[what] += 1
        found[index] = (what if times[what] == 1 else f"{what} #{times[what]}", mutant)
    return found


def survivors(name: str, chosen: list[tuple[str, Callable[[], str]]]) -> list[str]:
    written = [(what, mutant()) for what, mutant in chosen]
    return [what for what, mutant in written if narrow_verdict(name, mutant).passed and verdict(name, mutant).passed]


@functools.cache
def mutants_of(name: str) -> list[tuple[str, Callable[[], str]]]:
    return mutants(source("solutions", name))


def to_kill(name: str) -> list[tuple[str, Callable[[], str]]]:
    """The mutants of a solution that are not known to give the same answers."""
    equivalent = known(name, "EQUIVALENT")
    return [(what, mutant) for what, mutant in mutants_of(name) if what not in equivalent]


@pytest.mark.parametrize("sample", [4, pytest.param(None, marks=pytest.mark.slow)])  # None: all of them
@pytest.mark.parametrize("name", NAMES)
def test_at_least_95_percent_of_mutants_are_refused(name, sample):
    chosen = to_kill(name)
    if sample:
        chosen = [chosen[i] for i in np.random.default_rng(0).choice(len(chosen), sample, replace=False)]
    left = survivors(name, chosen)
    assert len(left) <= 0.05 * len(chosen), f"{len(left)} of {len(chosen)} pass:\n" + "\n".join(left)


@pytest.mark.slow  # each runs a whole check
@pytest.mark.parametrize("name", NAMES)
def test_mutants_listed_as_equivalent_exist_and_pass(name):
    listed = dict(known(name, "EQUIVALENT"))
    found = dict(mutants_of(name))
    assert set(listed) <= set(found)
    assert all(len(reason) > 10 for reason in listed.values())
    assert [what for what in listed if not narrow_verdict(name, found[what]()).passed] == []


def test_mutants_are_made():
    text = "def f(x, k=2):\n    return -x.sum() / k\n"
    written = [mutant() for _, mutant in mutants(text)]
    assert {mutant.splitlines()[-1].strip() for mutant in written} >= {
        "return x.sum() / k",
        "return -x.mean() / k",
        "return -x.sum() * k",
        "return -(-x.sum() / k)",
    }
    assert any("k=3" in mutant for mutant in written)
    assert len(set(written)) == 6


if __name__ == "__main__":  # for authors: the mutants that pass, of the exercises named on the command line
    for name in sys.argv[1:]:
        every = to_kill(name)
        left = survivors(name, every)
        print(f"{name}: {len(left)} of {len(every)} mutants pass", *left, sep="\n  ")
