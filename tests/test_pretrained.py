"""The shipped weights are what the table beside them says."""

import re

import pytest
from safetensors import safe_open

import vae_numpy
from vae_common.config import RunConfig
from vae_common.weights import PRETRAINED, load_weights
from vae_common.weights_shown import evaluate_weights

FILES = sorted(PRETRAINED.glob("*.safetensors"))


def test_two_files_are_shipped():
    assert [path.name for path in FILES] == ["digits-z2.safetensors", "digits-z20.safetensors"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_elbo_of_shipped_weights_is_as_documented(path, digits):
    """To the last digit that is printed; 0.01 covers the rounding of another machine's float32 sums."""
    documented = re.search(rf"`{path.name}`.*\| ([\d.]+) \|", (PRETRAINED / "README.md").read_text())
    measured = evaluate_weights(load_weights(path), vae_numpy.measure, vae_numpy.pixels, digits, RunConfig())
    assert (measured.recon + measured.kl).mean() == pytest.approx(float(documented[1]), abs=0.01)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_weights_are_small(path):
    with safe_open(path, framework="numpy") as file:
        assert {file.get_tensor(name).dtype.name for name in file.keys()} == {"float16"}  # noqa: SIM118
