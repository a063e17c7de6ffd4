"""How work is judged: load the learner's file, run the parts of a check on it, say in one paragraph what is wrong.

A check module `exNN_name.py` holds its parts, functions `part_...` of (work, rng) that raise Mismatch, and HINTS. The
parts in its AFTER_OTHERS, which train, wait until all before them are right.
`work.name(...)` calls the learner's function; `agree` compares what came with what is right, and names the mistake.
`read` is everywhere the section of the exercise's page that tells more, as in its link.
"""

import ast
import contextlib
import functools
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

# Relative to the largest number of the answer. Sums of n terms in another order differ by some sqrt(n) eps: that is
# 1e-14 in float64 for the thousand terms of an image, and 2e-6 in float32. Both get room for longer ways to the answer.
TOLERANCE = {"float64": 1e-9, "float32": 5e-5}


class Mismatch(Exception):
    """The work is not right: what was called, what was expected, what came, the likely mistake, where to read."""

    def __init__(self, what: str, expected: str = "", got: str = "", mistake: str = "", read: str = ""):
        super().__init__(what)
        self.lines = dict(expected=expected, got=got, likely=mistake, read=read)

    @property
    def text(self) -> str:
        return "\n".join([str(self), *(f"  {name:<9} {value}" for name, value in self.lines.items() if value)])


class Missing(Mismatch):
    """The work lacks a function that is asked for."""


class LearnerError(Exception):
    """The learner's own code raised; the cause is `__cause__`."""


@dataclass(frozen=True)
class Verdict:
    passed: bool
    text: str
    tried: bool = True  # False for an untouched starter
    at: str = ""  # the first function that is not right
    right: tuple[str, ...] = ()  # the functions all of whose parts are


# --- the verdict --------------------------------------------------------------------------------------------------


def judge(
    check: ModuleType,
    source: bytes,
    starter: bytes,
    path: Path,
    seed: int,
    begin: Callable[[str, Verdict], None] = lambda name, so_far: None,
) -> Verdict:
    """Run every part of `check` on the work in `source` (read from `path`): one line for each, and the first failure.

    `begin(name, so_far)` hears of each part before it runs, with the verdict for the case that it never ends.
    """
    if source.split() == starter.split():
        return Verdict(False, "This is the untouched starter: write your answer into it, then check again.", False)
    try:
        module = load(source, path, getattr(check, "FORBIDDEN", ()))
    except (Mismatch, LearnerError) as error:
        return Verdict(False, tell(error, path))
    lines, failure, at, results, after_others = [], "", "", [], getattr(check, "AFTER_OTHERS", ())
    for number, part in enumerate(parts(check)):
        name, function = part.__doc__, function_of(part)
        so_far = "\n".join([*lines, failure]).rstrip("\n")
        if at and part in after_others:
            lines.append(f"  waits     {name}")
            continue
        begin(name, Verdict(False, so_far, at=at or function, right=all_right([*results, (function, "")])))
        found, text = run_part(part, Work(module), np.random.default_rng([seed, number]), path)
        if found == "broken" and not at:
            return Verdict(False, f"{text}, which is a mistake of the project: please report it with the seed {seed}.")
        lines.append(f"  {'wrong' if found == 'broken' else found:<9} {name}")
        if found == "right" and text:
            lines.append(f"            {text}")
        results.append((function, found))
        if found != "right" and not at:
            failure, at = text, function
    return Verdict(not at, "\n".join([*lines, failure]).rstrip("\n"), at=at, right=all_right(results))


def all_right(results: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """The functions that every one of their results (function, what was found) calls right."""
    wrong = {function for function, found in results if found != "right"}
    return tuple(dict.fromkeys(function for function, _ in results if function not in wrong))


def parts(check: ModuleType) -> list[Callable]:
    """The parts of a check, in the order in which they stand in its file."""
    return [value for name, value in vars(check).items() if name.startswith("part_")]


def function_of(part: Callable) -> str:
    """The learner's function that a part is about: the first word of its docstring, "conv2d: gather"."""
    return part.__doc__.split()[0].rstrip(":")


def run_part(part: Callable, work: "Work", rng: np.random.Generator, path: Path) -> tuple[str, str]:
    """One of right, wrong, to write; or broken, where the check itself failed. And what there is to say of it, which
    for a right one is what the part returned.

    After a part that is wrong, "broken" may be the learner's: parts may use what earlier ones have found right.
    """
    try:
        return "right", part(work, rng) or ""
    except (Mismatch, LearnerError) as error:
        to_write = isinstance(error, Missing) or not_written(error.__cause__)
        return "to write" if to_write else "wrong", tell(error, path)
    except Exception as error:
        if any(frame.filename == str(path) for frame in traceback.extract_tb(error.__traceback__)):
            theirs = LearnerError("reading what it returned")
            theirs.__cause__ = error
            return "wrong", tell(theirs, path)
        return "broken", f"The check itself failed ({type(error).__name__}: {error})"


def load(source: bytes, path: Path, forbidden: tuple[str, ...]) -> ModuleType:
    """Run the learner's file as a module. Raises LearnerError, and Mismatch when it imports what holds the answer."""
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    try:
        tree = ast.parse(source, str(path))
        for line, name in imports(tree):
            if name in forbidden:
                raise Mismatch(
                    f"Line {line} imports {name}, and that would be the answer ready-made.",
                    expected="your own lines, with " + ("NumPy" if "torch" in forbidden else "NumPy or torch"),
                )
        sys.modules[path.stem] = module  # dataclasses look their module up
        exec(compile(tree, str(path), "exec"), module.__dict__)
    except Mismatch:
        raise
    except BaseException as error:
        raise LearnerError("importing the file") from error
    np.seterr(divide="warn", over="warn", invalid="warn", under="ignore")  # whatever the file has set
    if torch := sys.modules.get("torch"):
        torch.set_grad_enabled(True)
    return module


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from ((node.lineno, name.split(".")[0]) for name in names)


class Work:
    """The learner's module: `work.f(...)` calls its function f. Arguments must come out as they went in."""

    def __init__(self, module: ModuleType):
        self.module = module

    def __getattr__(self, name: str) -> Callable:
        return functools.partial(self.call, name)

    def call(self, name: str, *args, **kwargs):
        if not callable(getattr(self.module, name, None)):
            raise Missing(f"There is no {name} in your file: keep the names of the starter.")
        return self.call_method(self.module, name, *args, **kwargs)

    def call_method(self, thing, name: str, *args, **kwargs):
        """`thing.name(...)`, guarded like every call of the learner's code."""
        before = [copy(value) for value in (*args, *kwargs.values())]
        try:
            result = getattr(thing, name)(*args, **kwargs)
        except BaseException as error:  # SystemExit is one of them
            raise LearnerError(name) from error
        if result is None:
            raise Mismatch(f"{name}(...) returned None: is its `return` missing?")
        for old, value in zip(before, (*args, *kwargs.values()), strict=True):
            if isinstance(old, np.ndarray) and not np.array_equal(
                old, to_numpy(value), equal_nan=old.dtype.kind == "f"
            ):
                raise Mismatch(
                    f"{name}(...) changes an array that it was given.",
                    expected="arguments left as they are; the caller may still need them",
                    mistake="An operation in place, such as `x += 1` or `x[...] = 0`; work on a copy.",
                )
        return result


def copy(value):
    return to_numpy(value).copy() if hasattr(value, "shape") and hasattr(value, "dtype") else None


def to_numpy(value) -> np.ndarray:
    """An array or a tensor, with or without gradient, as a NumPy array."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)


@dataclass(frozen=True)
class Given:
    """A function that the learner's is given: it can be called, and its text says what it is."""

    text: str
    call: Callable

    def __repr__(self) -> str:
        return self.text

    def __call__(self, *args):
        return self.call(*args)


# --- what the learner's own code raised ---------------------------------------------------------------------------


def tell(error: Mismatch | LearnerError, path: Path) -> str:
    """One paragraph on a wrong answer or an error of the learner's code, its traceback cut to lines of their file."""
    if isinstance(error, Mismatch):
        if section := error.lines["read"]:
            error.lines["read"] = f"exercises/{path.stem.removeprefix('ex')}.md#{section}"
        return error.text
    cause, where = error.__cause__, str(error)
    if not_written(cause):
        return f"{where} is not yet written: replace its `raise NotImplementedError`."
    if isinstance(cause, SyntaxError) or (type(cause) is ValueError and "null bytes" in str(cause)):  # Python < 3.11.4
        text = "".join(traceback.format_exception_only(cause)).rstrip()
        return f"Python cannot read your file:\n{text}"
    if isinstance(cause, SystemExit):
        return f"{where}: your code ends the program (sys.exit, exit or quit). Take that out: a function returns."
    frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if frame.filename == str(path)]
    lines = ["Your code raised an error" + (f" in {where}:" if where.isidentifier() else f" on {where}:")]
    lines += [line.rstrip() for line in traceback.format_list(frames[-5:])]
    lines.append("".join(traceback.format_exception_only(cause)).rstrip())
    lines += [f"  likely    {text}" for part, text in CAUSES.items() if part in lines[-1]][:1]
    return "\n".join(lines)


def not_written(cause: BaseException | None) -> bool:
    """The starter's `raise NotImplementedError` has nothing to say; torch's own say what they cannot do."""
    return isinstance(cause, NotImplementedError) and not str(cause)


# A part of what Python, NumPy or torch says of an error -> what is likely to have caused it.
CAUSES = {
    "No module named": "An exercise needs NumPy, torch and this project alone; is the name spelled right?",
    "could not be broadcast": "Shapes are lined up from the right. A new axis, [:, None], or keepdims=True moves one.",
    "must match the size": "Shapes are lined up from the right. A new axis, [:, None], or keepdim=True moves one.",
    "Boolean value of Tensor": "if, min and max want one number; torch.where, and clamp with min=, take tensors.",
    "truth value of an array": "if, min and max want one number; np.where, np.minimum and np.maximum take arrays.",
    "can be converted to": "float, int and the functions of math take one number; NumPy's take arrays: np.exp.",
    "OverflowError": "A number grows beyond any float: work with its logarithm, and take exp of a difference.",
    "can't contain negative values": "np.pad cannot cut: where its width would be negative, take a slice instead.",
    "on Tensor that requires grad": "NumPy carries no gradient: use torch's operations, or .detach() if none is due.",
    "core dimension": "a @ b sums a's last axis with b's last but one: is a .T missing, or the order turned?",
    "mat1 and mat2": "a @ b sums a's last axis with b's last but one: is a .T missing, or the order turned?",
    "for array of dimension": "That axis is gone or was never there: keepdims=True keeps one that is summed over.",
    "Dimension out of range": "That axis is gone or was never there: keepdim=True keeps one that is summed over.",
    "is out of bounds for": "Counting begins at 0: the last of n has the index n - 1, or -1.",
    "'numpy.ndarray' object has no": "That is an array of NumPy's: does torch have this method, or a list?",
    "same dtype, but got": "float32 meets float64: t.to(x) gives t the dtype of x.",
    "must be Tensor, not numpy": "A torch function got a NumPy array: take NumPy's of that name, or torch.as_tensor.",
}


# --- comparing ----------------------------------------------------------------------------------------------------


def agree(
    what: str,
    got,
    expected,
    *,
    mistakes: Mapping[str, object] | None = None,
    read: str = "",
    rel: float | None = None,
    inputs: str = "float64",
    sizes: Mapping[str, float] | None = None,
) -> None:
    """Raise Mismatch unless `got` has the shape of `expected` and its values, to `rel` of the largest of them.

    mistakes: what to say -> the answer that this mistake gives, or a tuple of such; the first that fits is named.
    rel: by default TOLERANCE of float32 if the answer or its `inputs` are of that, else of float64.
    sizes: {what: number} of the arguments, by which a wrong answer may be multiplied or divided.
    """
    expected, value = to_numpy(expected), numbers(what, got, read)
    rel = tolerance(value, inputs) if rel is None else rel
    if close(value, expected, rel):
        return
    forms = other_forms(expected) if expected.size > 1 else {}  # a single number may be such by chance
    likely = next(fitting({**(mistakes or {}), **forms}, value, rel), "")
    if value.shape != expected.shape:
        likely = likely or about_shapes(value.shape, expected.shape)
        raise Mismatch(what, f"shape {expected.shape}", f"shape {value.shape}", likely, read)
    around, digits = where_to_look(value, expected)
    shown = (show(array, around, digits) for array in (expected, value))
    raise Mismatch(what, *shown, likely or pattern(value, expected, sizes or {}), read)


def agree_on_cases(
    name: str,
    function: Callable,
    right: Callable,
    cases: Iterable[Mapping],
    mistakes: Callable[..., Mapping[str, object]] = lambda *_: {},
    read: str = "",
    rel: float | None = None,
) -> None:
    """`agree` of two functions on many cases {argument: value}, passed in order; the first that fails is shown.

    mistakes: a function of the right answer and the arguments, which returns `agree`'s `mistakes` for them. A mistake
    is named only if it fits on every case. After these come `other_forms` and `as_if`.
    """
    cases = list(cases)
    for case in cases:
        dtypes = [str(value.dtype).removeprefix("torch.") for value in case.values() if hasattr(value, "dtype")]
        inputs = "float32" if "float32" in dtypes else (dtypes or ["float64"])[0]
        is_array = {key: getattr(value, "ndim", 0) > 0 for key, value in case.items()}
        arguments = (f"{key} {value.shape}" if is_array[key] else f"{key}={value}" for key, value in case.items())
        what = f"{name}({', '.join(arguments)})" + (f" in {inputs}" if inputs != "float64" else "")
        got = function(*case.values())
        try:
            agree(what, got, right(*case.values()), read=read, rel=rel, inputs=inputs, sizes=sizes_of(case))
        except Mismatch as error:
            error.lines["likely"] = named(function, right, cases, mistakes, rel) or error.lines["likely"]
            raise


def agree_on_each(
    names: Sequence[str],
    name: str,
    function: Callable,
    right: Callable,
    cases: Iterable[Mapping],
    mistakes: Callable[..., Sequence[Mapping[str, object]]] | None = None,
    read: str = "",
    order: Sequence[int] = (),
) -> None:
    """`agree_on_cases` for each of the values, called `names`, that both functions return; in `order`, if there is one.

    mistakes: a function of the right answers and the arguments, which returns `agree`'s `mistakes` for each value.
    """
    cases = list(cases)

    def known(i, *case):
        y = right(*case)
        others = {f"That is {other}, at the wrong place: they come in the order {', '.join(names)}.": value
                  for other, value in zip(names, y, strict=True) if other != names[i]}  # fmt: skip
        return {**(mistakes(y, *case)[i] if mistakes else {}), **others}

    for i in order or range(len(names)):
        got, expected = one_of(names, name, function, i, read), one_of(names, name, right, i)
        what = f"{names[i]} of {name}"
        agree_on_cases(what, got, expected, cases, lambda _, *case, i=i: known(i, *case), read)


def one_of(names: Sequence[str], name: str, function: Callable, index: int, read: str = "") -> Callable:
    """The function `name`, which must return as many values as there are `names`, with the one at `index` as answer."""
    return lambda *args: values_of(names, name, function(*args), read)[index]


def one_array(function: Callable) -> Callable:
    """The function, with a list or tuple that it returns made an array of."""

    def array_of(rows):
        return np.array([array_of(row) for row in rows]) if isinstance(rows, (list, tuple)) else to_numpy(rows)

    def call(*args, **kwargs):
        answer = function(*args, **kwargs)
        if isinstance(answer, (list, tuple)):
            with contextlib.suppress(Exception):  # else it is refused as what it is
                return array_of(answer)
        return answer

    return call


def values_of(names: Sequence[str], name: str, answer, read: str = "") -> Sequence:
    """The answer of `name`, which must be as many values as there are `names`."""
    if isinstance(answer, (tuple, list)) and len(answer) == len(names):
        return answer
    found = type(answer).__name__ + (f" of {len(answer)}" if isinstance(answer, (tuple, list)) else "")
    raise Mismatch(f"{name}(...)", f"{len(names)} values: {', '.join(names)}", found, read=read)


def gradients(what: str, value, leaves: Sequence, read: str = "") -> tuple:
    """The derivatives of `value`, a tensor of one number, by each of the tensors `leaves`; 0 where it has no path."""
    import torch  # which not every exercise needs

    if not getattr(value, "requires_grad", False):
        likely = "NumPy, .item(), float(), .detach() or no_grad cuts the path on the way."
        raise Mismatch(what, "a tensor that backward() can start from", type(value).__name__, likely, read)
    try:
        found = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        raise Mismatch(f"backward() of {what} failed: {error}", mistake="An operation in place.") from error
    return tuple(torch.zeros_like(leaf) if d is None else d for leaf, d in zip(leaves, found, strict=True))


# --- naming a mistake ---------------------------------------------------------------------------------------------


def named(function: Callable, right: Callable, cases: Sequence[Mapping], mistakes: Callable, rel: float | None) -> str:
    """What to say of the first mistake that gives the function's own answers, on every case where it gives one.

    The slips that any function may have are looked at, which takes longer, where none of `mistakes` fits.
    """
    likely, near = None, rel or TOLERANCE["float32"]
    for case in cases:
        with contextlib.suppress(Mismatch, LearnerError), np.errstate(all="ignore"):
            y, answer = right(*case.values()), numbers("", function(*case.values()))
            if likely is None and answer.shape == to_numpy(y).shape:
                again = numbers("", function(*case.values()))
                if not np.array_equal(answer, again, equal_nan=True):
                    return "Two calls with the same arguments give two answers: draw nothing inside; noise is given."
            wrong = mistakes(y, *case.values())
            found = list(fitting(wrong, answer, near))
            known = found and not close(answer, to_numpy(y), near) if likely is None else set(likely) <= set(wrong)
            if not known:
                wrong = {**wrong, **other_forms(y), **as_if(right, case)}
                found = list(fitting(wrong, answer, near))
            likely = found if likely is None else [text for text in likely if text in found or text not in wrong]
            if not likely:
                return ""
    return likely[0] if likely else ""


def fitting(mistakes: Mapping[str, object], answer: np.ndarray, rel: float) -> Iterator[str]:
    """What to say of each mistake that gives `answer` in one of its ways."""
    for text, ways in mistakes.items():
        if any(close(answer, to_numpy(value), rel) for value in (ways if isinstance(ways, tuple) else (ways,))):
            yield text


def misweighed(y, terms: Mapping[str, object]) -> dict[str, object]:
    """The mistakes of a sum y: one of its terms {name: value} missing, with the sign turned, half or twice as large."""
    found = {}
    for name, term in terms.items():
        found |= {
            f"A term is missing: {name}.": y - term,
            f"A term has its sign turned: {name}.": y - 2 * term,
            f"A term is half as large as it should be: {name}.": y - term / 2,
            f"A term is twice as large as it should be, perhaps for want of a 1/2: {name}.": y + term,
        }
    return found


def other_forms(y) -> dict[str, object]:
    """What is right but for a last step, or for one too many."""
    y = to_numpy(y).astype(np.float64)
    with np.errstate(all="ignore"):
        forms = {
            "That is the logarithm of the right one: its exp is asked for.": np.log(y),
            "That is exp of the right one: the logarithm is asked for.": np.exp(y),
            "That is 1 over the right one: upside down, or a sign is turned in an exponent.": 1 / y,
            "That is 1 minus the right one: the other part is asked for.": 1 - y,
            "That is the root of the right one: a standard deviation in place of a variance?": np.sqrt(y),
            "That is the square of the right one: is a root missing?": y**2,
            "That is the sigmoid of the right one: is that a sigmoid too many?": 1 / (1 + np.exp(-y)),
        }
        if (y > 0).any() and (y < 0).any():
            forms["Yours is 0 where the right one is below 0: a ReLU or a maximum too many?"] = np.maximum(y, 0)
    return {text: form for text, form in forms.items() if np.isfinite(form).all()}


def as_if(right: Callable, case: Mapping) -> dict[str, object]:
    """The right answers to other arguments: one of them 0, or 1; and a variance taken for a standard deviation."""
    found = {}
    for key, value in case.items():
        if isinstance(value, (int, float)) or getattr(getattr(value, "dtype", None), "itemsize", 1) > 1:
            others = {f"It is as if {key} were {n}: is it missing somewhere?": value * 0 + n for n in (0, 1)}
            if "logvar" in key:
                others["sigma^2 = exp(logvar) stands where sigma = exp(logvar / 2) should."] = 2 * value
                others["sigma = exp(logvar / 2) stands where sigma^2 = exp(logvar) should."] = value / 2
            for text, other in others.items():
                with contextlib.suppress(Exception):  # not every number is a possible argument
                    found[text] = right(*{**case, key: other}.values())
    return {text: value for text, value in found.items() if np.isfinite(to_numpy(value)).all()}


def tolerance(answer: np.ndarray, inputs: str) -> float:
    return TOLERANCE["float32" if answer.dtype == np.float32 or inputs.endswith("float32") else "float64"]


def numbers(what: str, got, read: str = "") -> np.ndarray:
    """The answer as an array of float32, float64 or whole numbers; raises Mismatch for anything else."""
    value = None
    if isinstance(got, (int, float, np.ndarray, np.generic)) or hasattr(got, "detach"):
        with contextlib.suppress(Exception):  # there are tensors that NumPy cannot read, of bfloat16 for one
            value = to_numpy(got)
    if are_numbers(value):
        return value
    kind = str(getattr(value if hasattr(value, "dtype") else got, "dtype", "")).removeprefix("torch.")
    found = type(got).__name__ + (f" of {kind}" if kind else "")
    likely = "That is a mask of True and False; its .sum() counts the True." if kind == "bool" else about_sequences(got)
    raise Mismatch(what, "numbers in an array or tensor of float32 or float64", found, likely, read)


def are_numbers(value) -> bool:
    if not isinstance(value, np.ndarray):
        return False
    return value.dtype.kind in "iu" or value.dtype in (np.float32, np.float64)


def about_sequences(got) -> str:
    """What to say of a list or a tuple in place of an array."""
    if isinstance(got, tuple):
        return "A tuple came, where one array or number is asked for: a stray comma?"
    return "A list came: wrap it in np.array(...)." if isinstance(got, list) else ""


def close(got: np.ndarray, expected: np.ndarray, rel: float) -> bool:
    if got.shape != expected.shape:
        return False
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected)
    scale = np.abs(expected[finite]).max(initial=0)
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        return bool((same | (np.abs(got - expected) <= rel * scale)).all())


def about_shapes(got: tuple, expected: tuple) -> str:
    if (got, expected) == ((1,), ()):
        return "A plain number is asked for, not an array of one."
    if len(got) > len(expected):
        return "One axis too many: is a sum over one missing?"
    if len(got) < len(expected):
        return "An axis is missing: does a sum or mean run over it too, or is one answer given for many?"
    if sorted(got) == sorted(expected):
        return "The right sizes in another order: axes are exchanged."
    return "Does a sum or mean run over another axis than the one asked for?" if len(expected) == 1 else ""


FACTORS = {
    -1.0: "The sign is turned.",
    2.0: "Exactly twice the right one: is a 1/2 missing, or something counted twice?",
    0.5: "Exactly half the right one: is there a 1/2 too many, or is a 2 missing?",
    1 / np.log(2): "That is in bits, from log2: the natural logarithm gives nats.",
    1 / np.log(10): "That is from log10: the natural logarithm gives nats.",
}


def sizes_of(case: Mapping) -> dict[str, float]:
    """What of the arguments a sum or a mean may run over, or a factor may be: {"the 3 of x (3, 5)": 3}."""
    found = {}
    for key, value in case.items():
        shape = tuple(getattr(value, "shape", ()))
        found |= {f"the {n} of {key} {shape}": n for n in shape}
        found |= {f"the size of {key}[0], {key} being {shape}": int(np.prod(shape[1:]))} if len(shape) > 2 else {}
        found |= {key: value} if isinstance(value, (int, float)) else {}
    return {name: size for name, size in found.items() if abs(size) not in (0, 1)}


def about_factor(factor: float, sizes: Mapping[str, float], near: float) -> str:
    """What explains that all numbers are the right ones times this factor, or nothing."""
    for known, text in FACTORS.items():
        if abs(factor / known - 1) < near:
            return text
    for name, size in sizes.items():
        if abs(factor / size - 1) < near:
            return f"Yours is {size:.6g} times the right one, by {name}: is a mean or a division missing?"
        if abs(factor * size - 1) < near:
            return f"Yours is the right one divided by {size:.6g}, {name}: is a mean taken where nothing is divided?"
    return ""


def about_offset(offset: float, sizes: Mapping[str, float], near: float) -> str:
    """What was added or taken off, and what it may be."""
    found = f"{'plus' if offset > 0 else 'minus'} {abs(offset):.6g}"
    for name, size in sizes.items():
        if size > 1 and abs(abs(offset) / np.log(size) - 1) < near:
            return f"{found}, which is ln of {name}: a mean for a sum, or a sum for a mean"
    times = abs(offset) / np.log(2 * np.pi) * 2
    count = round(times)
    return f"{found}, which is {count} times ln(2 pi) / 2" if count > 0 and abs(times - count) < near else found


def pattern(got: np.ndarray, expected: np.ndarray, sizes: Mapping[str, float]) -> str:
    """What two arrays of one shape differ by, if it is something simple; else where they differ most."""
    near = 1e-4 if got.dtype == np.float32 else 1e-6  # how alike the ratios or the differences are
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    if not np.isfinite(got).all():
        first = place(np.argwhere(~np.isfinite(got))[0])
        where = f"The first value that is not finite stands at {first}" if got.ndim else "It is not finite"
        return f"{where}. Before exp take the largest out, of each row its own; of a log leave 0 out, 0 * log(0) too."
    if got.size > 1 and not got.any():
        return "All of yours are 0."
    difference = got - expected
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (got / expected)[(got != 0) | (expected != 0)]
    if np.isfinite(ratio).all() and np.ptp(ratio) <= near * np.abs(ratio - 1).max():
        known = about_factor(ratio[0], sizes, near)
        if known or got.size > 1:
            return known or "All are off by one factor: is a constant missing, or one too many?"
    if got.size == 1:
        return ""  # of two single numbers any factor is the right one
    if np.ptp(difference) <= near * np.abs(difference).max():
        return f"Yours is the right one {about_offset(difference.flat[0], sizes, near)}."
    moved = np.abs(difference).max() > 1e-3 * np.abs(expected).max()
    if got.size > 2 and moved and np.allclose(np.sort(got, axis=None), np.sort(expected, axis=None), rtol=1e-6):
        return "The right numbers at the wrong places: axes are exchanged, or an order is turned."
    around, digits = where_to_look(got, expected)
    pair = f"{expected.flat[around]:.{digits}g} expected, {got.flat[around]:.{digits}g} came"
    return f"The largest difference stands at {place(np.unravel_index(around, got.shape))}: {pair}."


def where_to_look(got: np.ndarray, expected: np.ndarray) -> tuple[int, int]:
    """Where two arrays of one shape differ most, as an index into .flat; how many digits it takes to see that."""
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        worst = int(np.abs(np.where(same, 0, got - expected)).argmax())  # of a NaN, the first
    one, other = got.flat[worst], expected.flat[worst]
    return worst, next((digits for digits in range(6, 17) if f"{one:.{digits}g}" != f"{other:.{digits}g}"), 17)


def place(index) -> str:
    return f"[{', '.join(str(int(i)) for i in index)}]"


def show(array, around: int = 0, digits: int = 6) -> str:
    """An array in one line: six of its numbers, with the one at `around` in .flat among them, and its shape."""
    array = to_numpy(array)
    if array.ndim == 0:
        return f"{array.item():.{digits}g}" if array.dtype.kind == "f" else str(array)
    start = max(0, min(around - 2, array.size - 6))
    some = " ".join(f"{value:.{digits}g}" for value in array.flat[start : start + 6])
    before, after = "... " if start else "", " ..." if start + 6 < array.size else ""
    return f"[{before}{some}{after}] {array.dtype} {array.shape}"
