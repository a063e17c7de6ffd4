"""Work on the exercises: `check.py` shows how far you are, `check.py start 03` begins, `check.py 03` checks.

Your files lie in exercises/my_work, which git ignores. `check.py predict 03` keeps your guesses and shows them beside
what came, after a pass; `check.py watch 03` checks at each save; `check.py hint 03` says more each time; `check.py
solution 03` shows a solution once you have checked a try of your own. The exit status of a check is 0 only when it
passed.

In a notebook `%load_ext check` brings the cell magic `%%answer 03`, which saves its cell as your file and checks it.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import re
import secrets
import sys
import time
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [folder for folder in [str(HERE)] if folder not in sys.path]
try:
    from checks import judging, sandbox
    from vae_common import cli
    from vae_common.config import number as number_between
    from vae_common.config import whole
    from vae_common.errors import UsageError
    from vae_common.files import write_atomically
except ImportError as error:
    sys.exit(f"check.py: error: {error}; install the project first: python -m pip install -e .")

WORK = HERE / "my_work"
COMMANDS = ("start", "predict", "watch", "hint", "solution")
# The order of the course.
PATH = ("01", "02", "03", "04", "05", "14", "06", "07", "15", "16", "08", "09", "10", "11", "12", "13")
SECONDS = {"14": 1200}  # for the learner's code, where that is to train; 20 for the others
SHOWN = 20  # lines of what the learner's code printed
PAUSE = 20 * 60  # seconds: a longer time between two commands counts as this long
CAME = "What came of your guesses"  # the fold of a page that answers the questions under Predict
LEARNT = {  # what the course is about, and the exercise in which one does it
    "read a latent space": "01",
    "derive the ELBO, and compute it": "04",
    "write the KL in closed form": "04",
    "reparameterize": "05",
    "build a VAE, and train it": "14",
    "choose beta, and know what it costs": "06",
    "implement a conditional VAE": "09",
}


# --- what there is, and how far the learner is --------------------------------------------------------------------


def exercises() -> dict[str, str]:
    """The exercises of the path that have a page and a check: number -> name, as "03" -> "ex03_convolution"."""
    names = {path.stem[2:4]: path.stem for path in (HERE / "checks").glob("ex[0-9][0-9]_*.py")}
    return {number: names[number] for number in PATH if number in names and page(names[number]).is_file()}


def title(name: str) -> str:
    """The title of an exercise's page."""
    return page(name).read_text(encoding="utf-8").splitlines()[0].split(". ", 1)[-1]


def page(name: str) -> Path:
    return HERE / f"{name.removeprefix('ex')}.md"


def predictions(name: str) -> list[tuple[str, str]]:
    """The questions under Predict on an exercise's page, each with what came."""
    section = re.search(r"^## Predict$(.*?)^## ", page(name).read_text("utf-8"), re.MULTILINE | re.DOTALL)[1]
    asked, came = section.split(f"<summary>{CAME}</summary>")
    item = re.compile(r"^\d\. (.*(?:\n   .*)*)", re.MULTILINE)
    return list(zip(*([" ".join(text.split()) for text in item.findall(part)] for part in (asked, came)), strict=True))


def block_after_the_task(name: str) -> str:
    """The heading of the part of the page that uses what passed the check."""
    return re.search(r"^## What the check looks at$.*?^## (.*?)$", page(name).read_text("utf-8"), re.M | re.S)[1]


def question(number: str) -> str:
    """One that exercises/README.md answers, and that this exercise lets one answer."""
    text = (HERE / "README.md").read_text("utf-8")
    return re.search(rf"^<details><summary>{int(number)}\. (.*)</summary>$", text, re.MULTILINE)[1]


def read_progress() -> dict[str, dict]:
    """What is known of each exercise, by its number. Damage counts as nothing.

    tries; hints: those given; at: the function that failed; right: those that did not; guesses; said: the sentence
    after a pass; passed and cell: hashes, of the work that passed and of what a notebook's cell wrote; seconds: spent,
    until the time seen.
    """
    kinds = dict(tries=int, hints=list, at=str, right=list, guesses=list, said=str, passed=str, cell=str)
    kinds |= dict(seconds=float, seen=float)
    try:
        progress = json.loads((WORK / ".progress.json").read_text(encoding="utf-8"))
        whole = {number: entry for number, entry in progress.items() if isinstance(entry, dict)}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return {n: {k: v for k, v in entry.items() if isinstance(v, kinds.get(k, ()))} for n, entry in whole.items()}


def note(number: str, **entry) -> None:
    """Add `entry` and the time since the last note to what is known of an exercise; None takes a key out."""
    progress = read_progress()
    known, now = progress.get(number, {}), time.time()
    since = min(max(0.0, now - known.get("seen", now)), PAUSE)
    known = {**known, "seconds": known.get("seconds", 0.0) + since, "seen": now, **entry}
    progress[number] = {key: value for key, value in known.items() if value is not None}
    text = json.dumps(progress, indent=1) + "\n"
    write_atomically(WORK / ".progress.json", lambda file: file.write(text.encode()))


def starter_of(name: str) -> bytes:
    return (HERE / "starter" / f"{name}.py").read_bytes()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def state(number: str, name: str, progress: dict) -> str:
    work, entry = WORK / f"{name}.py", progress.get(number, {})
    if not work.is_file():
        return "not started"
    if "passed" in entry:
        return "passed" if entry["passed"] == digest(work) else "changed since it passed"
    tries = entry.get("tries", 0)
    return "started" + (f", {tries} {'try' if tries == 1 else 'tries'}" if tries else "")


# --- the commands -------------------------------------------------------------------------------------------------


def show_table() -> int:
    progress, following = read_progress(), None
    for number, name in exercises().items():
        now = state(number, name, progress)
        minutes = progress.get(number, {}).get("seconds", 0) / 60
        print(f"{number}  {title(name):<32}{now}" + (f", {minutes:.0f} min" if 1 <= minutes < 1e6 else ""))
        if following is None and now != "passed":
            command = "start " if now == "not started" else ""
            following = f"next: read exercises/{page(name).name}, then python exercises/check.py {command}{number}"
    print("\nwhat you can do now:")
    for what, number in LEARNT.items():
        passed = state(number, exercises()[number], progress) == "passed"
        print(f"  [{'x' if passed else ' '}] {what:<38}exercise {number}")
    print(f"\n{following or 'All of them passed.'}")
    return 0


def start(number: str, name: str, overwrite: bool) -> int:
    """Write the starter, and the page as a notebook; of the two whatever is missing, or with `overwrite` both."""
    work, notebook = WORK / f"{name}.py", WORK / f"{name}.ipynb"
    can_write_notebooks = find_spec("nbformat") is not None
    if not overwrite and work.exists() and (notebook.exists() or not can_write_notebooks):
        raise UsageError(f"{shown(work)} is there already; --overwrite replaces your work by the starter.")
    if overwrite or not work.exists():
        write_atomically(work, lambda file: file.write(starter_of(name)))
        note(number, passed=None, at=None, right=None)
        print(f"wrote {shown(work)}; write your answer there, then: python exercises/check.py {number}")
    if not can_write_notebooks:
        print("for the page as a notebook: python -m pip install -e '.[notebook]', then this command again")
    elif overwrite or not notebook.exists():
        import as_notebook

        answer = work.read_text("utf-8", errors="replace")
        made = as_notebook.of_page(page(name).name, page(name).read_text("utf-8"), answer)
        write_atomically(notebook, lambda file: file.write(as_notebook.nbformat.writes(made).encode()))
        print(f"wrote {shown(notebook)}, the page with a cell for your answer")
    return 0


def save(number: str, name: str, text: str, overwrite: bool) -> None:
    """Save what a notebook's cell holds as the work, unless that was changed elsewhere since the cell last did."""
    work = WORK / f"{name}.py"
    now = work.read_bytes() if work.exists() else starter_of(name)
    harmless = now.split() in (starter_of(name).split(), text.encode().split())
    if not (overwrite or harmless or digest(work) == read_progress().get(number, {}).get("cell")):
        raise UsageError(
            f"{shown(work)} was changed outside of this cell: copy what you want to keep of it into the cell, then "
            f"begin the cell with %%answer {number} --overwrite, once."
        )
    write_atomically(work, lambda file: file.write(text.encode()))
    note(number, cell=digest(work))


def predict(number: str, name: str, overwrite: bool) -> int:
    """Ask for the guesses, once or with `overwrite` anew; after a pass show each beside what came, without a grade."""
    if overwrite or not read_progress().get(number, {}).get("guesses"):
        guesses = []
        for i, (asked, _) in enumerate(predictions(name), start=1):
            try:
                guesses.append(readable(input(f"{i}. {asked}\n   your guess: ")))
            except (EOFError, RuntimeError, UnicodeDecodeError):  # the end of it, none at all, bytes that are no text
                raise UsageError(
                    "predict asks at the terminal, and found no text there before the last answer; no guess was kept."
                ) from None
        note(number, guesses=guesses)
    if state(number, name, read_progress()) == "passed":
        show_guesses(number, name)
    else:
        print(f"kept; they come back beside the results once python exercises/check.py {number} has passed")
    return 0


def readable(typed: str) -> str:
    """What was typed, with ? for bytes that no terminal can show again."""
    return typed.encode("utf-8", "replace").decode()


def show_guesses(number: str, name: str) -> None:
    guesses = map(str, read_progress()[number]["guesses"])
    for i, (guess, (asked, came)) in enumerate(zip(guesses, predictions(name), strict=False), start=1):
        print(f"\n{i}. {asked}\n   your guess: {guess}\n   what came:  {came}")


def watch(number: str, name: str, seed: int | None, seconds: float) -> int:
    """Check the file now and at each save, until it passes or Ctrl-C."""
    work = WORK / f"{name}.py"
    while True:
        checked = digest(work) if work.is_file() else None
        if check(number, name, seed, seconds) == 0:
            return 0
        if checked is None:
            return 1
        print(f"\nwatching {shown(work)}: save it to check it again; Ctrl-C ends this", flush=True)
        while not work.is_file() or digest(work) == checked:
            time.sleep(0.3)


def hint(number: str, name: str) -> int:
    """One hint more: for the function that the last check found wrong, while there are such.

    Then come those for what is not right yet, then the rest.
    """
    checked = importlib.import_module(f"checks.{name}")
    hints, functions = checked.HINTS, set(map(judging.function_of, judging.parts(checked)))
    entry = read_progress().get(number, {})
    given = [i for i in entry.get("hints", []) if type(i) is int and i in range(len(hints))]
    left = [i for i in range(len(hints)) if i not in given]
    right = [function for function in entry.get("right", []) if isinstance(function, str)]

    def rank(text: str) -> int:
        about = functions.intersection(re.findall(r"\w+", text.split(":")[0]))
        return 0 if entry.get("at") in about else 2 if about and about.issubset(right) else 1

    given += sorted(left, key=lambda i: rank(hints[i]))[:1]
    note(number, hints=given)
    print("\n".join(f"hint {i + 1} of {len(hints)}: {hints[i]}" for i in given))
    if len(given) == len(hints):
        print(f"That was the last one. After a try of your own: python exercises/check.py solution {number}")
    return 0


def solution(number: str, name: str) -> int:
    if not read_progress().get(number, {}).get("tries"):
        print(f"First a try of your own: check it with python exercises/check.py {number}; then the solution opens.")
        return 1
    path = HERE / "solutions" / f"{name}.py"
    print(f"# {shown(path)}\n{path.read_text(encoding='utf-8')}", end="")
    return 0


def check(number: str, name: str, seed: int | None, seconds: float) -> int:
    seed = secrets.randbelow(2**32) if seed is None else seed
    work = WORK / f"{name}.py"
    if not work.is_file():
        print(f"[fail] {number} {title(name)}\nThere is no {shown(work)}: python exercises/check.py start {number}")
        return 1
    before = digest(work)
    verdict, printed = sandbox.examine(name, work, seed, seconds)
    tries = read_progress().get(number, {}).get("tries", 0) + verdict["tried"]
    note(
        number,
        tries=tries,
        at=verdict["at"],
        right=verdict["right"],
        **(dict(passed=before) if verdict["passed"] else {}),
    )
    if printed.strip():
        lines = printed.splitlines()
        print("your code printed:", *(f"  | {line[:200]}" for line in lines[:SHOWN]), sep="\n")
        if len(lines) > SHOWN:
            print(f"  | ... {len(lines) - SHOWN} more lines")
    print(f"[{'pass' if verdict['passed'] else 'fail'}] {number} {title(name)}\n{verdict['text']}")
    if verdict["passed"]:
        after_a_pass(number, name)
        return 0
    if verdict["tried"]:
        print(f"same numbers again: python exercises/check.py {number} --seed {seed}")
    print(f"stuck? python exercises/check.py hint {number}")
    return 1


def after_a_pass(number: str, name: str) -> None:
    """The guesses beside what came, one sentence of the learner's own, and where to go on."""
    entry, numbers = read_progress()[number], list(exercises())
    if entry.get("guesses"):
        show_guesses(number, name)
    print(f"\nIn one sentence of your own: {question(number)}")
    if "said" in entry:
        print(f"  you said: {entry['said']}")
    elif sys.stdin is not None and sys.stdin.isatty():
        with contextlib.suppress(EOFError):
            note(number, said=readable(input("  (Enter leaves it out) ")) or None)
    print(
        f"Our answer stands in exercises/README.md. Go on with “{block_after_the_task(name)}” in {shown(page(name))}."
    )
    for following in numbers[numbers.index(number) + 1 :][:1]:
        print(f"The next exercise is {following}, {title(exercises()[following])}.")


def shown(path: Path) -> str:
    """A path as one types it from the repository's root."""
    return str(path.relative_to(HERE.parent)) if path.is_relative_to(HERE.parent) else str(path)


# --- command line -------------------------------------------------------------------------------------------------


def exercise(text: str) -> str:
    """An argparse type: the number of an exercise, "3" or "03"."""
    number = text.zfill(2)
    if number not in exercises():
        raise argparse.ArgumentTypeError(f"expected an exercise, one of {', '.join(exercises())}, got {text!r}")
    return number


def command(text: str) -> str:
    """An argparse type: one of COMMANDS, or the number of the exercise to check."""
    if text in COMMANDS:
        return text
    if not re.fullmatch(r"\d+", text):
        raise argparse.ArgumentTypeError(f"expected {', '.join(COMMANDS)} or the number of an exercise, got {text!r}")
    return exercise(text)


def run(
    what: str | None = None,
    number: str | None = None,
    overwrite: bool = False,
    seed: int | None = None,
    time_limit: float | None = None,
) -> int:
    """Carry out what was typed; the exit status."""
    if what is None:
        return show_table()
    if (what in COMMANDS) == (number is None):
        usage = f"{', '.join(COMMANDS)} take the number of one exercise, a check is the number alone"
        raise UsageError(f"{usage}: check.py {what if what in COMMANDS else COMMANDS[0]} 03, or check.py 03.")
    number = number or what
    name = exercises()[number]
    if what in ("start", "predict"):
        return dict(start=start, predict=predict)[what](number, name, overwrite)
    if what in ("hint", "solution"):
        return dict(hint=hint, solution=solution)[what](number, name)
    seconds = SECONDS.get(number, 20) if time_limit is None else time_limit
    return (watch if what == "watch" else check)(number, name, seed, seconds)


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__.splitlines()[0])
    parser.add_argument(
        "what", nargs="?", default=None, type=command, help=f"{', '.join(COMMANDS)}, or the exercise to check"
    )
    parser.add_argument("number", nargs="?", default=None, type=exercise, help="the exercise, after one of these words")
    cli.add_switch(parser, "overwrite", "start: replace your work by the starter; predict: guess again")
    parser.add_argument("--seed", type=whole(0, 2**32 - 1), help="draw the inputs of an earlier check again")
    parser.add_argument("--time-limit", type=number_between(0, 3600, above=True), metavar="SECONDS",
                        help="for your code (default 20; 1200 for exercise 14, which trains)")  # fmt: skip
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(build_parser(), argv, run)


def load_ipython_extension(ipython) -> None:
    """What `%load_ext check` calls in a notebook."""
    ipython.register_magic_function(answer, "cell")


def answer(line: str, cell: str) -> None:
    """The cell magic `%%answer NUMBER`: save the cell as the answer to that exercise, and check it."""

    def save_and_check(what: str | None, number: str | None, overwrite: bool = False, **typed) -> int:
        if what in (None, *COMMANDS) or number is not None:
            raise UsageError("it takes the number of one exercise: %%answer 03.")
        save(what, exercises()[what], cell, overwrite)
        return run(what, **typed)

    parser = build_parser()
    parser.prog = "%%answer"
    cli.run(parser, line.split(), save_and_check)


if __name__ == "__main__":
    sys.exit(main())
