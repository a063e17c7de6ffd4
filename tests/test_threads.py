"""torch's threads spin only briefly while they wait, unless the user says otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@pytest.mark.parametrize(
    ("given", "spin"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")]
)
def test_the_spin_is_short_unless_it_is_set(given, spin):
    kept = {name: value for name, value in os.environ.items() if name not in NAMES}
    code = "import vae_common, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run([sys.executable, "-c", code], env={**kept, **given}, capture_output=True, text=True)
    assert done.stdout.strip() == spin, done.stderr


def test_level_2_imports_it_before_torch():
    text = (ROOT / "pytorch_lowlevel" / "vae_lowlevel.py").read_text()
    assert text.index("from vae_common import") < text.index("import torch")
