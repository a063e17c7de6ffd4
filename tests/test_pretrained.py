"""The shipped weights are what the table beside them says."""

import re

import pytest
from safetensors import safe_open

import vae_numpy
from vae_common.config import RunConfig
from vae_common.data import load_dataset
from vae_common.weights import PRETRAINED, SHIPPED, load_weights, trained_on
from vae_common.weights_shown import evaluate_weights

MNIST = pytest.mark.slow  # 10,000 images


@pytest.mark.parametrize("name", [pytest.param(name, marks=MNIST if "mnist" in name else ()) for name in SHIPPED])
def test_the_elbo_of_shipped_weights_is_as_documented(name, request):
    """To the last digit that is printed; 0.01 covers the rounding of another machine's float32 sums."""
    documented = re.search(rf"`{name}.safetensors`.*\| ([\d.]+) \|", (PRETRAINED / "README.md").read_text())
    data_dir = request.getfixturevalue("mnist_dir") if "mnist" in name else None
    data, config = load_dataset(trained_on(name), "test", data_dir), RunConfig()
    measured = evaluate_weights(load_weights(name), vae_numpy.measure, vae_numpy.pixels, data, config)
    assert (measured.recon + measured.kl).mean() == pytest.approx(float(documented[1]), abs=0.01)


def test_four_small_files_are_shipped():
    assert list(SHIPPED) == ["digits-z2", "digits-z20", "mnist-z2", "mnist-z20"]
    for path in SHIPPED.values():
        with safe_open(path, framework="numpy") as file:
            assert {file.get_tensor(name).dtype.name for name in file.keys()} == {"float16"}  # noqa: SIM118
