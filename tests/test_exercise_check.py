"""exercises/check.py as a learner meets it: progress, hints, and no way to pass but a right answer.

The abuses run in real processes, as they would at home; each must end in one paragraph and status 1, never in a
traceback of the project's.
"""

import contextlib
import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
EXERCISES = ROOT / "exercises"
if str(EXERCISES) not in sys.path:
    sys.path.insert(0, str(EXERCISES))

from checks import judging, sandbox  # noqa: E402
from checks.judging import LearnerError, Mismatch, Work, agree, agree_on_cases, agree_on_each, misweighed  # noqa: E402

NAME, NUMBER = "ex03_convolution", "03"
SOLUTION = (EXERCISES / "solutions" / f"{NAME}.py").read_text(encoding="utf-8")
STARTER = (EXERCISES / "starter" / f"{NAME}.py").read_text(encoding="utf-8")
FIRST = "    return (size + 2 * padding - k) // stride + 1\n"  # the body of the first function that the check calls


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("exercise_check", EXERCISES / "check.py")
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


@pytest.fixture
def work(check, tmp_path, monkeypatch):
    """An empty my_work for the command in this process."""
    monkeypatch.setattr(check, "WORK", tmp_path / "my_work")
    return tmp_path / "my_work"


@pytest.fixture
def quick(check, monkeypatch):
    """Checks that answer at once: the verdict is whatever stands in the file's first line."""

    def examine(name, path, seed, seconds):
        passed = path.read_text().startswith("# right")
        return dict(passed=passed, text="", tried=path.read_text() != STARTER, at="", right=[]), "debug\n" * 30

    monkeypatch.setattr(check.sandbox, "examine", examine)


def examine(tmp_path: Path, source: str | bytes, seconds: float = 20) -> tuple[dict, str]:
    path = tmp_path / f"{NAME}.py"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return sandbox.examine(NAME, path, 0, seconds)


# --- whatever a file does -----------------------------------------------------------------------------------------

ABUSES = {
    "sys.exit(0)": ("    import sys\n    print('[pass]')\n    sys.exit(0)\n", "ends the program"),
    "os._exit(0)": ("    import os\n    os._exit(0)\n", "exit status 0"),
    "a crash": ("    import os, signal\n    os.kill(os.getpid(), signal.SIGKILL)\n", "ended its process"),
    "a print storm": ("    while True:\n        print('x' * 1000)\n", "printed more than"),
    "endless recursion": ("    return conv_size(size, k, stride, padding)\n", "RecursionError"),
    "too much memory": ("    return np.ones((10**6, 10**6))\n", "Unable to allocate"),
    "a forged verdict": (
        "    import os\n    for fd in range(40):\n        try:\n"
        '            os.write(fd, b\'{"passed": true, "text": "", "tried": true}\\n\')\n'
        "        except OSError:\n            pass\n    os._exit(0)\n",
        "exit status 0",
    ),
    "waiting for input": ("    return int(input())\n", "EOFError"),
}


@pytest.mark.parametrize("abuse", ABUSES)
def test_no_abuse_passes_and_each_gets_a_paragraph(tmp_path, abuse):
    body, says = ABUSES[abuse]
    verdict, printed = examine(tmp_path, SOLUTION.replace(FIRST, body))
    assert_told(verdict["passed"], verdict["text"], says)
    assert "judging.py" not in printed and "sandbox.py" not in printed


# A loop that never ends, and sleeps: it takes no time from what runs beside it, and may so be given more of it.
ENDLESS = SOLUTION.replace("% stride\n", "% stride + [__import__('time').sleep(1) for _ in iter(int, 1)][0]\n")


def test_what_was_wrong_before_a_loop_that_never_ends_is_told_as_well(tmp_path):
    verdict, _ = examine(tmp_path, ENDLESS.replace(FIRST, "    return 0\n"), seconds=4)
    assert_told(verdict["passed"], verdict["text"], "stopped after 4 s, at: output_padding_for")
    assert "  wrong     conv_size" in verdict["text"] and "  right     conv_transpose_size" in verdict["text"]
    assert verdict["at"] == "conv_size"
    assert "conv_transpose_size" in verdict["right"] and "output_padding_for" not in verdict["right"]


def assert_told(passed: bool, text: str, says: str) -> None:
    assert not passed
    assert says in text, text
    assert len(text) < 2000
    assert "judging.py" not in text and "sandbox.py" not in text and f"checks/{NAME}" not in text


ODD = "    class Odd:\n        def detach(self):\n            return {}['no']\n\n    return Odd()\n"

# These end within the judge, whatever process it is in; it runs in this one.
UNDONE = [
    (STARTER, "untouched starter"),
    (STARTER.replace("    raise NotImplementedError\n", FIRST, 1), "conv2d is not yet written"),
    (SOLUTION + "\nimport no_such_module\n", "No module named 'no_such_module'"),
    (SOLUTION + "\nfrom vae_numpy import conv2d\n", "imports vae_numpy"),
    (SOLUTION.replace("):\n", ")\n", 1), "SyntaxError"),
    (b"x = '\0'\n", "cannot read your file"),
    (SOLUTION + "\nraise SystemExit(0)\n", "ends the program"),
    (SOLUTION + "\nassert 1 == 2, 'not yet'\n", "AssertionError: not yet"),
    (SOLUTION.replace(FIRST, "    return [1, 2]\n"), "numbers in an array or tensor"),
    (SOLUTION.replace(FIRST, "    (size + 2 * padding - k) // stride + 1\n"), "is its `return` missing"),
    (SOLUTION.replace(FIRST, "    return np.nan\n"), "not finite"),
    (SOLUTION.replace(FIRST, "    return np.float16(3)\n"), "float32 or float64"),
    (SOLUTION.replace(FIRST, "    return size // 0\n"), "ZeroDivisionError"),
    (SOLUTION.replace(FIRST, "    x = []\n    x.append(x)\n    return x\n"), "numbers in an array or tensor"),
    (SOLUTION.replace(FIRST, "    return np.broadcast_to(np.float32(0), (2**20, 2**12))\n"), "shape (1048576, 4096)"),
    (SOLUTION.replace(FIRST, ODD), "numbers in an array or tensor"),
    (SOLUTION.replace(FIRST, "    return (3, 4)\n"), "a stray comma?"),
]


def judged(source: str | bytes, name: str = NAME, about: str = "") -> judging.Verdict:
    """The verdict on a file in this process: of the whole check, or of its parts about one function."""
    source = source if isinstance(source, bytes) else source.encode()
    check = importlib.import_module(f"checks.{name}")
    if about:
        named = {part.__name__: part for part in judging.parts(check) if judging.function_of(part) == about}
        check = types.SimpleNamespace(**named)
    try:
        return judging.judge(check, source, STARTER.encode(), EXERCISES / "my_work" / f"{name}.py", 0)
    finally:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("source", "says"), UNDONE)
def test_a_file_that_is_not_done_is_told_what_is_missing(source, says):
    verdict = judged(source)
    assert_told(verdict.passed, verdict.text, says)
    assert verdict.tried == ("untouched" not in says)


def solution_of(name: str) -> str:
    return (EXERCISES / "solutions" / f"{name}.py").read_text(encoding="utf-8")


NO_NUMBERS = ["'x'", "object()", "{}", "(i for i in range(3))", "10**400", "[[1.0, 2.0], [3.0]]", "[[1.0], [[2.0]]]"]
LISTED = [
    ("ex05_reparameterization", "reparameterize"),
    ("ex05_reparameterization", "elbo_gradients"),
    ("ex10_vector_quantization", "sample_markov"),
    ("ex11_linear_vae", "water_filling"),
]


@pytest.mark.parametrize("answer", NO_NUMBERS)
@pytest.mark.parametrize(("name", "function"), LISTED)
def test_an_answer_that_is_no_numbers_is_not_a_mistake_of_the_project(name, function, answer):
    verdict = judged(f"{solution_of(name)}\n\ndef {function}(*args):\n    return {answer}\n", name, function)
    assert_told(verdict.passed, verdict.text, "numbers in an array or tensor")
    assert verdict.at == function


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("answer", NO_NUMBERS)
@pytest.mark.parametrize("function", ["spectrum", "best_decoder"])
def test_nor_is_one_in_a_pair(function, index, answer):
    name = "ex11_linear_vae"
    source = f"{solution_of(name)}\nright = {function}\n\ndef {function}(*args):\n    pair = list(right(*args))\n"
    verdict = judged(f"{source}    pair[{index}] = {answer}\n    return pair\n", name, function)
    assert_told(verdict.passed, verdict.text, "numbers in an array or tensor")
    assert verdict.at == function


def test_a_function_that_is_not_there_is_to_write():
    verdict = judged(SOLUTION.replace("def conv_size", "def convsize"))
    assert verdict.text.startswith("  to write  conv_size") and "  right     conv2d" not in verdict.text.split("\n")[0]
    assert verdict.at == "conv_size"


def test_the_verdict_carries_the_functions_that_are_right():
    check = importlib.import_module(f"checks.{NAME}")
    assert set(judged(SOLUTION).right) == {judging.function_of(part) for part in judging.parts(check)}
    halved = judged(SOLUTION.replace("    return (size + 2 * padding - k) % stride\n", "    return -1\n"))
    assert "output_padding_for" not in halved.right and "conv_size" in halved.right
    assert judging.all_right([("f", "right"), ("g", "right"), ("f", "wrong")]) == ("g",)


def test_a_file_that_ends_the_process_while_it_is_imported(tmp_path):
    verdict, _ = examine(tmp_path, "import os\nos._exit(0)\n")
    assert_told(verdict["passed"], verdict["text"], "importing the file")


def test_every_part_has_its_line_and_the_first_failure_its_paragraph():
    verdict = judged(
        SOLUTION.replace(FIRST, "    return -1\n").replace(
            "    return (size + 2 * padding - k) % stride\n", "    raise NotImplementedError\n"
        )
    )
    lines = verdict.text.splitlines()
    assert [line[:12] for line in lines[:6]] == ["  wrong     "] * 2 + ["  right     "] * 2 + ["  to write  "] * 2
    assert verdict.text.count("expected") == 1 and "not yet written" not in verdict.text
    assert verdict.text.endswith("  read      exercises/03_convolution.md#the-maths")
    assert verdict.at == "conv_size"


def test_an_error_shows_lines_of_the_learners_file_alone():
    broken = SOLUTION.replace('"bchw,oc->bohw", under', '"bchw,oc->bohw", nowhere')
    text = judged(broken).text
    line = broken[: broken.index("nowhere")].count("\n") + 1
    assert f'{NAME}.py", line {line}, in conv2d' in text
    assert "NameError: name 'nowhere' is not defined" in text
    assert text.count('File "') == 1
    assert "right     conv_size" in text


def test_a_right_answer_passes_whatever_it_prints_and_however_it_behaves(tmp_path):
    noisy = "print('[fail]')\nimport atexit, os, sys\natexit.register(lambda: os._exit(3))\nsys.stdout = None\n"
    noisy += "np = __import__('numpy')\nnp.seterr(all='raise')\nnp.random.seed(0)\n"
    verdict, printed = examine(tmp_path, SOLUTION + noisy)
    assert verdict["passed"], verdict["text"]
    assert printed == "[fail]\n"


def test_processes_that_the_learners_code_started_end_with_it(tmp_path):
    left = "\nimport subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    verdict, _ = examine(tmp_path, SOLUTION + left + f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n")
    assert verdict["passed"]
    state, end = Path("/proc") / (tmp_path / "pid").read_text() / "stat", time.monotonic() + 30
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it is gone; else it sleeps for 60 s
        while state.read_text().split()[2] != "Z":
            assert time.monotonic() < end
            time.sleep(0.01)


# --- the command --------------------------------------------------------------------------------------------------


def test_the_whole_way_in_real_processes(tmp_path):
    shutil.copytree(EXERCISES, tmp_path / "exercises", ignore=shutil.ignore_patterns("my_work", "__pycache__"))

    def run(*words):
        command = [sys.executable, "exercises/check.py", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert "Traceback" not in done.stdout + done.stderr
        return done.returncode, done.stdout, done.stderr

    work = tmp_path / "exercises" / "my_work" / f"{NAME}.py"
    assert run("start", "03")[0] == 0 and work.read_text() == STARTER
    work.write_text(SOLUTION.replace("+ stride * H_out", "+ stride + H_out") + "\nprint('so far')\n")
    status, printed, _ = run("3", "--seed", "5")
    assert status == 1 and "[fail] 03 Convolution" in printed and "--seed 5" in printed and "| so far" in printed
    work.write_text(SOLUTION)
    status, printed, errors = run("03")
    assert (status, errors) == (0, "") and printed.startswith("[pass] 03 Convolution")
    assert "03  Convolution                     passed\n" in run()[1]


def test_the_solution_is_shown_after_a_try(check, work, quick, capsys):
    assert check.main(["solution", NUMBER]) == 1
    check.main(["start", NUMBER])
    assert check.main([NUMBER]) == 1
    assert check.main(["solution", NUMBER]) == 1  # the untouched starter was no try
    (work / f"{NAME}.py").write_text("# wrong")
    assert check.main([NUMBER]) == 1
    assert SOLUTION not in capsys.readouterr().out
    assert check.main(["solution", NUMBER]) == 0
    assert SOLUTION in capsys.readouterr().out


def test_start_never_overwrites_unasked(check, work, capsys):
    assert check.main(["start", NUMBER]) == 0
    (work / f"{NAME}.py").write_text("mine")
    assert check.main(["start", NUMBER]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (work / f"{NAME}.py").read_text() == "mine"
    assert check.main(["start", NUMBER, "--overwrite"]) == 0
    assert (work / f"{NAME}.py").read_text() == STARTER


def test_start_writes_what_is_missing_of_the_starter_and_the_notebook(check, work, capsys, monkeypatch):
    mine, notebook = work / f"{NAME}.py", work / f"{NAME}.ipynb"
    monkeypatch.setattr(check, "find_spec", lambda name: None)  # nbformat is not installed
    assert check.main(["start", NUMBER]) == 0
    assert "for the page as a notebook: python -m pip install -e '.[notebook]'" in capsys.readouterr().out
    assert mine.is_file() and not notebook.exists()
    mine.write_text("mine = 1\n")
    assert check.main(["start", NUMBER]) == 2
    monkeypatch.undo()
    monkeypatch.setattr(check, "WORK", work)
    assert check.main(["start", NUMBER]) == 0
    assert mine.read_text() == "mine = 1\n" and "%%answer 03\\nmine = 1" in notebook.read_text().replace(
        '",\n    "', ""
    )
    notebook.write_text("worked in")
    assert check.main(["start", NUMBER]) == 2
    mine.unlink()
    assert check.main(["start", NUMBER]) == 0
    assert mine.read_text() == STARTER and notebook.read_text() == "worked in"
    assert check.main(["start", NUMBER, "--overwrite"]) == 0
    assert "%%answer 03" in notebook.read_text()


def test_a_notebooks_cell_is_saved_as_the_answer_and_checked(check, work, quick, capsys):
    def answer(line: str, cell: str) -> str:
        assert check.answer(line, cell) is None  # a notebook would show whatever came back
        told = capsys.readouterr()
        return told.out + told.err

    mine = work / f"{NAME}.py"
    assert "[fail] 03" in answer("03", "# wrong\n") and mine.read_text() == "# wrong\n"
    assert "[pass] 03" in answer("3 --seed 5", "# right\n") and mine.read_text() == "# right\n"
    mine.write_text("# of another editor")
    assert "error: " in (told := answer("03", "# right\n")) and "--overwrite" in told and "[" not in told
    assert mine.read_text() == "# of another editor"
    assert "[pass] 03" in answer("03 --overwrite", "# right\n") and mine.read_text() == "# right\n"
    check.main(["start", NUMBER, "--overwrite"])
    assert "[pass] 03" in answer("03", "# right\n")
    for line in ("", "start 03", "start", "03 04", "99"):
        assert "error: " in answer(line, "# wrong") and mine.read_text() == "# right\n"


def test_a_check_without_work_says_how_to_begin(check, work, capsys):
    assert check.main([NUMBER]) == 1
    assert f"check.py start {NUMBER}" in capsys.readouterr().out
    assert not work.exists()


def test_the_table_knows_what_passed_and_what_changed_since(check, work, quick, capsys):
    def table() -> str:
        capsys.readouterr()
        assert check.main([]) == 0
        return capsys.readouterr().out

    def line() -> str:
        return next(line for line in table().splitlines() if line.startswith(NUMBER))

    assert line().endswith("not started")
    check.main(["start", "01"])
    assert "check.py 01" in table().splitlines()[-1]
    check.main(["start", NUMBER])
    assert line().endswith("started")
    mine = work / f"{NAME}.py"
    mine.write_text("# wrong")
    assert check.main([NUMBER]) == 1
    assert line().endswith("started, 1 try")
    mine.write_text("# right")
    assert check.main([NUMBER]) == 0
    assert line().endswith("  passed")
    mine.write_text("# right, and more")
    assert line().endswith("changed since it passed")
    mine.write_text("# right")
    assert line().endswith("  passed")
    mine.write_text("# wrong again")
    assert check.main([NUMBER]) == 1
    assert line().endswith("changed since it passed")
    assert "[x]" not in table() and table().count("[ ]") == len(check.LEARNT) == 7
    for number, name in check.exercises().items():
        (work / f"{name}.py").write_text("# right")
        assert check.main([number]) == 0
        ticked = [line.strip()[:3] for line in table().splitlines() if line.endswith(f"exercise {number}")]
        assert set(ticked) <= {"[x]"} and len(ticked) == list(check.LEARNT.values()).count(number)
    assert table().splitlines()[-1] == "All of them passed." and "[ ]" not in table()


def test_the_path_is_that_of_the_readme_and_leads_from_5_to_14(check, work, quick, capsys):
    rows = re.findall(r"^\| (\d+) \| \[", (EXERCISES / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [number.zfill(2) for number in rows] == list(check.exercises()) == list(check.PATH)
    for number, name in list(check.exercises().items())[:5]:
        check.main(["start", number])
        (work / f"{name}.py").write_text("# right")
        assert check.main([number]) == 0
    capsys.readouterr()
    check.main([])
    told = capsys.readouterr().out
    assert [line[:2] for line in told.splitlines()[:7]] == ["01", "02", "03", "04", "05", "14", "06"]
    assert told.splitlines()[-1].startswith("next: read exercises/14_your_own_vae.md")


def test_a_check_that_trains_has_more_time(check, work, monkeypatch):
    given = []
    monkeypatch.setattr(check, "check", lambda number, name, seed, seconds: given.append(seconds) or 0)
    for words in ("3", "14", "14 --time-limit 5"):
        assert check.main(words.split()) == 0
    assert given == [20, 1200, 5]


def test_what_one_can_do_is_written_in_the_exercise_that_earns_it(check):
    functions = ("holes", "elbo", "gaussian_kl", "reparameterize", "train", "effective_beta", "objective")
    for number, function in zip(check.LEARNT.values(), functions, strict=True):
        assert f"def {function}(" in (EXERCISES / "starter" / f"{check.exercises()[number]}.py").read_text()


def test_hints_come_one_after_another_and_are_remembered(check, work, capsys):
    hints = importlib.import_module(f"checks.{NAME}").HINTS
    for count in [*range(1, len(hints) + 1), len(hints)]:
        assert check.main(["hint", NUMBER]) == 0
        printed = capsys.readouterr().out
        assert all(hint in printed for hint in hints[:count])
        assert count == len(hints) or hints[count] not in printed
        assert ("last one" in printed) == (count == len(hints))


def test_hints_begin_with_the_function_that_the_last_check_found_wrong(check, work, capsys):
    hints = importlib.import_module(f"checks.{NAME}").HINTS
    work.mkdir()
    (work / f"{NAME}.py").write_text(
        SOLUTION.replace("y = np.zeros((B, O, H_out, W_out)", "y = np.ones((B, O, H_out, W_out)")
    )
    assert check.main([NUMBER]) == 1
    about = [hint for hint in hints if hint.startswith("conv2d:")]
    assert about and hints[0] not in about
    capsys.readouterr()
    for count in range(1, len(about) + 1):
        assert check.main(["hint", NUMBER]) == 0
        printed = capsys.readouterr().out
        assert printed.count("\n") == count and about[count - 1] in printed
    assert check.main(["hint", NUMBER]) == 0
    assert capsys.readouterr().out.count("\n") == len(about) + 1


def test_hints_on_what_is_right_already_come_last(check, work, capsys):
    hints = importlib.import_module(f"checks.{NAME}").HINTS
    entry = dict(at="conv_transpose2d", right=["conv_size", "conv2d", "conv_transpose_size"])
    check.note(NUMBER, **entry)
    for _ in hints:
        assert check.main(["hint", NUMBER]) == 0
    given = [hints[i].split(":")[0] for i in check.read_progress()[NUMBER]["hints"]]
    assert given[:6] == 3 * ["conv_transpose2d"] + 3 * ["output_padding_for"]
    assert set(given[6:]) == set(entry["right"]) and len(given) == len(hints)


def test_a_check_notes_what_is_right(check, work, capsys):
    work.mkdir()
    (work / f"{NAME}.py").write_text(SOLUTION.replace(FIRST, "    return 0\n"))
    assert check.main([NUMBER]) == 1
    entry = check.read_progress()[NUMBER]
    assert entry["at"] == "conv_size"
    assert "conv_transpose_size" in entry["right"] and "conv2d" not in entry["right"]


def test_a_fresh_start_forgets_that_it_has_passed(check, work, quick, capsys):
    check.main(["start", NUMBER])
    (work / f"{NAME}.py").write_text("# right")
    assert check.main([NUMBER]) == 0
    assert check.main(["start", NUMBER, "--overwrite"]) == 0
    assert not {"passed", "at", "right"} & check.read_progress()[NUMBER].keys()
    assert check.state(NUMBER, NAME, check.read_progress()) == "started, 1 try"


def test_every_page_answers_its_predictions_and_says_where_to_go_on(check):
    for number, name in check.exercises().items():
        predictions = check.predictions(name)
        assert len(predictions) >= 3 and all(asked and came for asked, came in predictions)
        text = check.page(name).read_text()
        assert text.index(f"\n## {check.block_after_the_task(name)}\n") > text.index("\n## Your task")
        assert f"<summary>{int(number)}. {check.question(number)}</summary>" in (EXERCISES / "README.md").read_text()


def test_guesses_are_asked_once_and_come_back_after_a_pass(check, work, quick, monkeypatch, capsys):
    def typed(*answers):
        answers = iter(answers)
        monkeypatch.setattr("builtins.input", lambda prompt: (print(prompt), next(answers))[1])

    def nobody(prompt):
        raise EOFError

    monkeypatch.setattr("builtins.input", nobody)
    assert check.main(["predict", NUMBER]) == 2 and not work.exists()
    assert "no guess was kept" in capsys.readouterr().err
    typed("13 alone", "even", "to 3")
    assert check.main(["predict", NUMBER]) == 0
    shown = capsys.readouterr().out
    predictions = check.predictions(NAME)
    assert all(asked in shown and came not in shown for asked, came in predictions)
    assert check.main(["predict", NUMBER]) == 0  # asks nobody
    assert "13 alone" not in capsys.readouterr().out
    (work / f"{NAME}.py").write_text("# right")
    for command in ([NUMBER], ["predict", NUMBER]):
        assert check.main(command) == 0
        shown = capsys.readouterr().out
        for (asked, came), guess in zip(predictions, ("13 alone", "even", "to 3"), strict=True):
            assert shown.index(asked) < shown.index(f"your guess: {guess}\n") < shown.index(f"what came:  {came}\n")
    typed("a", "b", "c")
    assert check.main(["predict", NUMBER, "--overwrite"]) == 0
    assert check.read_progress()[NUMBER]["guesses"] == ["a", "b", "c"]


def test_after_a_pass_comes_a_sentence_and_where_to_go_on(check, work, quick, monkeypatch, capsys):
    work.mkdir()
    (work / f"{NAME}.py").write_text("# right")
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda prompt: "It is told.")
    assert check.main([NUMBER]) == 0
    shown = capsys.readouterr().out
    assert "How does a transposed convolution get the size back?" in shown
    assert "“Your two functions in the model” in exercises/03_convolution.md" in shown
    assert "next exercise is 04, KL and ELBO" in shown
    assert check.main([NUMBER]) == 0
    assert "you said: It is told." in capsys.readouterr().out


def test_watch_checks_at_each_save_until_a_pass(check, work, quick, monkeypatch, capsys):
    assert check.main(["watch", NUMBER]) == 1  # there is nothing to watch
    mine, saves = work / f"{NAME}.py", iter(["# wrong", "# wrong still", None, "# right"])
    check.main(["start", NUMBER])

    def sleep(seconds):
        if (text := next(saves)) is not None:
            mine.write_text(text)
        else:
            mine.unlink()  # as editors do for a moment

    monkeypatch.setattr(check.time, "sleep", sleep)
    capsys.readouterr()
    assert check.main(["watch", NUMBER]) == 0
    shown = capsys.readouterr().out
    assert (shown.count("[fail]"), shown.count("[pass]")) == (3, 1)  # the starter, and two wrong ones


def test_the_table_says_how_long_it_took_and_leaves_out_pauses(check, work, quick, monkeypatch, capsys):
    now = 1e9
    monkeypatch.setattr(check.time, "time", lambda: now)
    check.main(["start", NUMBER])
    for minutes in (10, 300, -60, 5):  # a long pause counts as 20, a clock that was set back as none
        now += 60 * minutes
        check.main(["hint", NUMBER])
    check.main([])
    assert f"{NUMBER}  Convolution                     started, 35 min" in capsys.readouterr().out


def test_what_the_code_printed_is_shown_up_to_a_limit(check, work, quick, capsys):
    work.mkdir()
    (work / f"{NAME}.py").write_text("# right")
    assert check.main([NUMBER]) == 0
    printed = capsys.readouterr().out
    assert printed.count("| debug") == check.SHOWN
    assert "10 more lines" in printed


@pytest.mark.parametrize(
    "damaged",
    [
        "{",
        "[]",
        '{"03": {"hints": [true, -1, 1e9, "0"], "tries": "many"}}',
        '{"03": {"at": ["conv2d"], "right": [[1], {}, null, 3]}}',
    ],
)
def test_a_damaged_note_of_the_progress_does_no_harm(check, work, quick, damaged, capsys):
    work.mkdir()
    (work / ".progress.json").write_text(damaged)
    (work / f"{NAME}.py").write_text("# right")
    assert check.main([]) == 0
    assert check.main(["hint", NUMBER]) == 0
    assert check.main([NUMBER]) == 0
    assert json.loads((work / ".progress.json").read_text())[NUMBER]["hints"] == [0]


@pytest.mark.parametrize(
    "words",
    ["00", "99", "three", "start", "hint", "solution", "start 99", "03 04", "-1", "03 --seed -1", "03 --time-limit 0",
     "03 --fast", "start 03 04"],
)  # fmt: skip
def test_bad_usage_is_told_in_one_line(check, work, words, capsys):
    assert check.main(words.split()) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "error:" in last
    assert not work.exists()


def test_an_interrupted_check_ends_in_one_line(check, work, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    work.mkdir()
    (work / f"{NAME}.py").write_text(SOLUTION)
    monkeypatch.setattr(sandbox, "_wait", interrupt)
    assert check.main([NUMBER]) == 130
    assert "interrupted" in capsys.readouterr().err


# --- comparing ----------------------------------------------------------------------------------------------------

RIGHT = np.array([[1.0, 2.0], [3.0, 5.0]])


@pytest.mark.parametrize(
    "answer",
    [
        RIGHT,
        RIGHT + 1e-11,
        RIGHT.astype(np.float32),
        torch.from_numpy(RIGHT),
        torch.from_numpy(RIGHT).float().requires_grad_(),
        RIGHT.astype(np.int64),
    ],
)
def test_every_right_answer_agrees(answer):
    agree("f(x)", answer, RIGHT)
    agree("f(x)", answer, torch.from_numpy(RIGHT))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (2 * RIGHT, "Exactly twice the right one"),
        (RIGHT / 2, "Exactly half the right one"),
        (RIGHT / np.log(2), "in bits, from log2"),
        (RIGHT / np.log(10), "from log10"),
        (-RIGHT, "sign is turned"),
        (0 * RIGHT, "All of yours are 0."),
        (RIGHT - 0.5, "minus 0.5"),
        (RIGHT + np.log(2 * np.pi), "which is 2 times ln(2 pi) / 2"),
        (RIGHT.T, "wrong places"),
        (RIGHT + np.array([[0, 0], [0, 1e-6]]), "[1, 1]"),
        (RIGHT * np.array([[1, 1], [1, np.nan]]), "[1, 1]"),
        (RIGHT[0], "An axis is missing"),
        (RIGHT[None], "One axis too many"),
        (RIGHT.astype(complex), "complex"),
        (RIGHT > 0, "bool"),
        (RIGHT + np.array([[0, 0], [0, 1e-8]]), f"{RIGHT[1, 1] + 1e-8:.10g}"),
        (None, "NoneType"),
        (np.tan(RIGHT), "largest difference"),
    ],
)
def test_a_difference_is_described(answer, says):
    with pytest.raises(Mismatch) as error:
        agree("f(x)", answer, RIGHT)
    assert says in error.value.text


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (np.ones(1), "A plain number is asked for, not an array of one."),
        ([1.0, 2.0], "wrap it in np.array(...)."),
        (torch.ones(1).bfloat16(), "Tensor of bfloat16\n"),
        ((1.0,), "a stray comma?"),
    ],
)
def test_what_is_said_of_other_things_than_the_one_number_asked_for(answer, says):
    with pytest.raises(Mismatch) as error:
        agree("f(x)", answer, 2.0)
    assert says in error.value.text + "\n"


def test_a_sum_over_another_axis_is_suspected():
    with pytest.raises(Mismatch) as error:
        agree("f(x)", np.ones((2, 3)).sum(axis=0), np.ones((2, 3)).sum(axis=1))
    assert "another axis" in error.value.text


def test_float32_gets_room_only_where_float32_is():
    agree("f(x)", RIGHT + 1e-5, RIGHT, inputs="float32")
    agree("f(x)", (RIGHT + 1e-5).astype(np.float32), RIGHT)
    with pytest.raises(Mismatch):
        agree("f(x)", RIGHT + 1e-5, RIGHT)
    with pytest.raises(Mismatch):
        agree("f(x)", RIGHT + 1e-3, RIGHT, inputs="torch.float32")
    case = dict(x=RIGHT, w=np.float32(1))
    agree_on_cases("f", lambda x, w: x + 1e-5, lambda x, w: x, [case])
    with pytest.raises(Mismatch):
        agree_on_cases("f", lambda x, w: x + 1e-5, lambda x, w: x, [dict(x=RIGHT, w=1.0)])


def test_a_mistake_is_named_only_if_it_fits_on_every_case():
    cases = [dict(x=np.array([1.0, 1.0])), dict(x=np.array([2.0, 4.0])), dict(x=np.array([3.0]))]

    def mistakes(y, x):
        return {"squared": x**2 + 1, "doubled": 2 * y}

    def likely(function):
        with pytest.raises(Mismatch) as error:
            agree_on_cases("f", function, lambda x: x, cases, mistakes=mistakes)
        return error.value.lines["likely"]

    assert likely(lambda x: 2 * x) == "doubled"  # on the first case both fit
    assert likely(lambda x: x**2 + 1) == "squared"
    assert likely(lambda x: 5 * x).startswith("All are off by one factor")


def likely_of(function, right, cases) -> str:
    with pytest.raises(Mismatch) as error:
        agree_on_cases("f", function, right, cases)
    return error.value.lines["likely"]


def test_a_factor_and_an_offset_are_named_only_with_what_they_are():
    case = dict(x=np.arange(1.0, 61).reshape(3, 1, 4, 5), beta=7.0)

    def likely(times, plus=0.0):
        return likely_of(lambda x, beta: times * x[:, 0, 0] + plus, lambda x, beta: x[:, 0, 0], [case])

    assert likely(3).startswith("Yours is 3 times the right one, by the 3 of x (3, 1, 4, 5)")
    assert likely(1 / 20).startswith("Yours is the right one divided by 20, the size of x[0]")
    assert likely(7).startswith("Yours is 7 times the right one, by beta")
    assert not re.search(r"\d", likely(1.7))
    assert likely(1, np.log(5)).startswith("Yours is the right one plus 1.60944, which is ln of the 5 of x")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda y, *_: np.log(y), "the logarithm of the right one"),
        (lambda y, *_: np.exp(y), "exp of the right one"),
        (lambda y, *_: 1 / y, "1 over the right one"),
        (lambda y, *_: 1 - y, "1 minus the right one"),
        (lambda y, *_: np.sqrt(y), "the root of the right one"),
        (lambda y, *_: y**2, "the square of the right one"),
        (lambda y, *_: 1 / (1 + np.exp(-y)), "the sigmoid of the right one"),
        (lambda y, mu, logvar, beta: mu**2 + np.exp(logvar), "as if beta were 1"),
        (lambda y, mu, logvar, beta: beta * np.exp(logvar), "as if mu were 0"),
        (lambda y, mu, logvar, beta: mu**2 + beta * np.exp(2 * logvar), "where sigma = exp(logvar / 2) should"),
        (lambda y, mu, logvar, beta: mu**2 + beta * np.exp(logvar / 2), "where sigma^2 = exp(logvar) should"),
        (lambda y, *_: y + np.random.default_rng().random(y.shape), "draw nothing inside"),
    ],
)
def test_slips_that_any_function_may_have_are_named_from_the_right_answer(wrong, says):
    def right(mu, logvar, beta):
        return mu**2 + beta * np.exp(logvar)

    rng = np.random.default_rng(0)
    cases = [dict(mu=rng.normal(size=n), logvar=rng.normal(size=n), beta=2.0 + n) for n in (5, 3)]
    assert says in likely_of(lambda *case: wrong(right(*case), *case), right, cases)


def test_a_negative_part_that_is_cut_off_and_values_that_change_places_are_named():
    x = np.array([-1.0, 2.0, -3.0])
    assert "a ReLU or a maximum" in likely_of(lambda x: np.maximum(x, 0), lambda x: x, [dict(x=x)])
    with pytest.raises(Mismatch) as error:
        agree_on_each(("a", "b"), "f", lambda x: (x**2, x), lambda x: (x, x**2), [dict(x=x)])
    assert "That is b, at the wrong place" in error.value.lines["likely"]


@pytest.mark.parametrize(("factor", "says"), [(0, "missing: b"), (-1, "turned: b"), (0.5, "half"), (2, "twice")])
def test_the_term_that_is_off_is_named(factor, says):
    a, b = np.array([1.0, 2.0]), np.array([5.0, -3.0])
    with pytest.raises(Mismatch) as error:
        agree("f(x)", a + factor * b, a + b, mistakes=misweighed(a + b, {"a": a, "b": b}))
    assert says in error.value.lines["likely"] and "b." in error.value.lines["likely"]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_factor_is_seen_beside_zeros_and_through_rounding(dtype):
    right = np.array([0.0, 0.7, 0.0, -1.3]).astype(dtype)
    with pytest.raises(Mismatch) as error:
        agree("f(x)", right / dtype(3) * 6 * (1 + np.finfo(dtype).eps), right)
    assert error.value.lines["likely"].startswith("Exactly twice the right one")


@pytest.mark.parametrize(("at", "change"), [(0, 1.0), (50, 1.0), (99, 1.0), (50, 1e-5)])
def test_what_is_shown_of_a_long_answer_holds_the_difference(at, change):
    right = 1000.0 + np.arange(100)
    wrong = right.copy()
    wrong[at] += change
    with pytest.raises(Mismatch) as error:
        agree("f(x)", wrong, right)
    expected, got = error.value.lines["expected"], error.value.lines["got"]
    assert expected != got
    assert f"{right[at]:.13g}" in expected.split("]")[0] and f"{wrong[at]:.13g}" in got.split("]")[0]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("np.ones(3) + np.ones(4)", "A new axis, [:, None]"),
        ("torch.ones(3) + torch.ones(4)", "A new axis, [:, None]"),
        ("max(np.ones(3), np.zeros(3))", "np.maximum"),
        ("max(torch.ones(3), 0.5)", "clamp with min="),
        ("math.exp(np.ones(3))", "np.exp"),
        ("math.exp(1000)", "its logarithm"),
        ("np.pad(np.ones(3), (-1, 0))", "take a slice"),
        ("torch.ones(1, requires_grad=True).numpy()", "or .detach()"),
        ("torch.exp(np.ones(3))", "torch.as_tensor"),
        ("np.ones((2, 3)) @ np.ones((2, 3))", "is a .T missing"),
        ("torch.ones(2, 3) @ torch.ones(2, 3)", "is a .T missing"),
        ("np.ones(3).sum(axis=1)", "keepdims=True"),
        ("torch.ones(3).sum(dim=1)", "keepdim=True"),
        ("np.ones(3)[3]", "the index n - 1"),
        ("np.ones(3).detach()", "an array of NumPy's"),
        ("torch.nn.functional.linear(torch.ones(3).double(), torch.ones(2, 3))", ".to(x)"),
        ("np.ones(3)()", ""),
    ],
)
def test_the_likely_cause_stands_beside_an_error(line, says):
    work = Work(module_of(f"import math\n\nimport numpy as np\nimport torch\n\n\ndef f():\n    return {line}\n"))
    with pytest.raises(LearnerError) as error:
        work.f()
    told = judging.tell(error.value, EXERCISES / "my_work" / "ex99_test.py").splitlines()
    assert (told[-1].startswith("  likely ") and says in told[-1]) if says else ("Error" in told[-1])


def module_of(source: str):
    return judging.load(source.encode(), EXERCISES / "my_work" / "ex99_test.py", ())


def test_work_refuses_changed_arguments_and_tells_whose_error_it_was():
    work = Work(module_of("def f(x):\n    x += 1\n    return x\n\ndef g(x):\n    return x.nowhere\n"))
    for x in (np.zeros(3), torch.zeros(3)):
        with pytest.raises(Mismatch, match="changes an array"):
            work.f(x)
    with pytest.raises(LearnerError):
        work.g(np.zeros(3))
    assert work.f(1) == 2


def test_a_mistake_of_the_check_is_not_blamed_on_the_learner():
    class Broken:
        @staticmethod
        def part_broken(work, rng):
            """part"""
            raise KeyError("ours")

    verdict = judging.judge(Broken, b"x = 1\n", b"", EXERCISES / "my_work" / "ex99_test.py", 7)
    assert not verdict.passed
    assert "mistake of the project" in verdict.text and "seed 7" in verdict.text


def test_a_file_that_makes_numpy_raise_does_not_make_the_check_raise():
    with np.errstate():
        module_of("import numpy as np\nnp.seterr(all='raise')\n")
        assert "raise" not in np.geterr().values()


def test_a_file_that_switches_gradients_off_does_not_switch_off_the_checks():
    try:
        module_of("import torch\ntorch.set_grad_enabled(False)\n")
        assert torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)
