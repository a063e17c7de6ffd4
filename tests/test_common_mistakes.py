"""exercises/common_mistakes.md: the healthy model is not accused, and each slip breaks the invariant that is quoted."""

import contextlib
import io
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from test_exercise_pages import difference
from vae_common.data import binarize
from vae_doctor import invariants
from vae_doctor.invariants import INVARIANTS, Exam
from vae_doctor.report import Finding, examine, report
from vae_doctor.subject import subject_of_module

TEXT = (Path(__file__).parents[1] / "exercises" / "common_mistakes.md").read_text(encoding="utf-8")
BLOCKS = [(kind, body) for kind, body in re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)]
HEALTHY, COUNTEREXAMPLE = (body for kind, body in BLOCKS if kind == "python")
SLIPS = [(one[1], other[1]) for one, other in itertools.pairwise(BLOCKS) if one[0] == "diff"]


@pytest.fixture(scope="module")
def x(digits):
    return binarize(digits.images[:50], "none")


def subject_of(tmp_path: Path, source: str):
    (tmp_path / "patient.py").write_text(source)
    return subject_of_module(tmp_path / "patient.py")


def test_the_healthy_model_is_not_accused(tmp_path, x, monkeypatch):
    monkeypatch.setattr(invariants, "DRAWS", 10)  # quicker, and no less exact
    status = [finding.status for finding in examine(subject_of(tmp_path, HEALTHY), x)]
    assert (status.count("ok"), status.count("failed"), status.count("skipped")) == (15, 0, 1)
    assert "15 invariants hold, and one is skipped" in TEXT
    assert len(re.findall(r"^\*\*\d\. ", TEXT, re.MULTILINE)) == len(SLIPS) + 1 == 9


@pytest.mark.parametrize(("diff", "quoted"), SLIPS)
def test_a_slip_is_named_as_the_page_quotes(diff, quoted, tmp_path, x):
    """The invariants as the doctor looks at them, up to the first that fails: the same random numbers, in less time."""
    old, new = (line[1:] for line in diff.splitlines())
    assert (diff[0], diff.splitlines()[1][0], HEALTHY.count(old)) == ("-", "+", 1)
    exam = Exam.of(subject_of(tmp_path, HEALTHY.replace(old, new)), x, None, np.random.default_rng(0))
    for name, invariant in INVARIANTS.items():
        with contextlib.suppress(invariants.Skip):
            try:
                invariant(exam)
            except invariants.Fails as failure:
                printed = report([Finding(name, "failed", str(failure))])
                break
    lines = len(quoted.splitlines())
    assert difference(quoted, "\n".join(printed.splitlines()[:lines]) + "\n") is None


def test_the_counterexample_prints_what_the_page_shows():
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(COUNTEREXAMPLE, {})
    assert difference(BLOCKS[-1][1], printed.getvalue()) is None
