"""torch's threads spin only briefly while they wait, unless the user says otherwise."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("given", "spin"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")]
)
def test_the_spin_is_short_unless_it_is_set(given, spin):
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = "import vae_common, os; print(os.environ.get('GOMP_SPINCOUNT'))"  # as level 2 does it, before torch
    done = subprocess.run([sys.executable, "-c", code], env={**kept, **given}, capture_output=True, text=True)
    assert done.stdout.strip() == spin, done.stderr
