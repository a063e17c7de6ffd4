"""Weights files: what is written comes back, what is shipped is as documented, what is no such file is refused."""

import os
import pickle
import re
import struct

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save as to_safetensors

import vae_numpy
from messages import assert_one_sentence, one_sentence
from vae_common.config import RunConfig
from vae_common.data import load_dataset
from vae_common.errors import UsageError, WeightsError
from vae_common.spec import VAESpec
from vae_common.weights import (
    PRETRAINED,
    SHIPPED,
    chosen_weights,
    load_weights,
    save_weights,
    trained_on,
    write_safetensors,
)
from vae_common.weights_shown import evaluate_weights

Z = 2
METADATA = {"format": "conv-vae", "version": "1", "latent_dim": str(Z)}


@pytest.fixture(scope="module")
def params():
    return VAESpec(Z).init_params(0)


def altered(whole: dict, changes: dict) -> dict:
    """The same with these values; what is to be None is left out."""
    return {name: value for name, value in {**whole, **changes}.items() if value is not None}


def refusal(path, latent_dim=None) -> str:
    """With what message the file is refused."""
    with pytest.raises(WeightsError) as error:
        load_weights(path, latent_dim)
    return str(error.value)


@pytest.mark.parametrize("z", [1, 20])
def test_float32_weights_come_back_bit_by_bit(tmp_path, z):
    params = VAESpec(z).init_params(4)
    params["encoder.conv1.bias"][:5] = [-0.0, 1e-45, np.finfo(np.float32).max, np.finfo(np.float32).tiny, -1e-20]
    views = {  # are saved by value
        "encoder.fc.weight": np.asfortranarray(params["encoder.fc.weight"]),
        "encoder.fc.bias": np.repeat(params["encoder.fc.bias"], 2)[::2],
        "encoder.mu.weight": params["encoder.mu.weight"].astype(np.float64),
    }
    path = save_weights({**params, **views}, tmp_path / "w.safetensors")
    loaded = load_weights(path, latent_dim=z)
    assert list(loaded) == list(VAESpec(z).shapes)
    for name in params:
        assert loaded[name].dtype == np.float32 and loaded[name].tobytes() == params[name].tobytes(), name
    with safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"format": "conv-vae", "version": "1", "latent_dim": str(z)}
    assert_one_sentence(refusal(path, latent_dim=7), f"expected latent_dim 7, found {z}", f"pass --latent-dim {z}")


def test_float16_weights_come_back_rounded_and_other_dtypes_are_not_written(tmp_path, params):
    path = save_weights(params, tmp_path / "w.safetensors", dtype="float16")
    assert path.stat().st_size < 2 * VAESpec(Z).parameters + 4096
    for name, loaded in load_weights(path).items():
        assert loaded.dtype == np.float32
        assert np.array_equal(loaded, params[name].astype(np.float16).astype(np.float32)), name
    with pytest.raises(ValueError, match="float64"):
        save_weights(params, path, dtype="float64")


def test_the_same_arrays_give_the_same_bytes(tmp_path):
    arrays, metadata = {"b": np.arange(3), "a": np.ones(2)}, dict.fromkeys("zyxabc", "1")
    one, two = (write_safetensors(arrays, metadata, tmp_path / name).read_bytes() for name in "12")
    assert one == two
    with safe_open(tmp_path / "1", framework="numpy") as file:
        assert file.metadata() == metadata and file.get_tensor("b").tolist() == [0, 1, 2]


def test_which_weights_level_1_measures(tmp_path, params):
    path = save_weights(params, tmp_path / "w.safetensors")
    given, plane = chosen_weights(str(path), None)
    assert given is plane and np.array_equal(given["encoder.mu.bias"], params["encoder.mu.bias"])
    path = save_weights(VAESpec(3).init_params(0), tmp_path / "w.safetensors")
    assert chosen_weights(str(path), 3)[1] is None  # no plane to draw
    for asked, shipped in ((None, 20), (20, 20), (2, 2)):
        chosen, plane = chosen_weights(None, asked)
        expected = load_weights(PRETRAINED / f"digits-z{shipped}.safetensors")
        assert np.array_equal(chosen["encoder.mu.weight"], expected["encoder.mu.weight"])
        assert plane["encoder.mu.bias"].shape == (2,)
    for name, path in SHIPPED.items():
        given, plane = chosen_weights(name, None)
        assert np.array_equal(given["encoder.fc.weight"], load_weights(path)["encoder.fc.weight"])
        expected = load_weights(f"{trained_on(name)}-z2")["decoder.fc1.bias"]
        assert np.array_equal(plane["decoder.fc1.bias"], expected)
    with one_sentence(UsageError, "--latent-dim 7: weights are shipped for 2 and 20", "--weights"):
        chosen_weights(None, 7)


NOT_SAFETENSORS = {
    "empty": b"",
    "pickle": pickle.dumps({"encoder.fc.bias": [0.0]}),
    "a header longer than the file": struct.pack("<Q", 2**62) + b"{}",
    "header that is no JSON": struct.pack("<Q", 9) + b"{" * 9,
}


@pytest.mark.parametrize("content", NOT_SAFETENSORS.values(), ids=NOT_SAFETENSORS)
def test_what_is_not_safetensors_is_refused(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    assert_one_sentence(refusal(path), str(path), "expected a whole safetensors file", "copy it again or train anew")


def test_a_file_truncated_anywhere_is_refused(tmp_path, params):
    path = save_weights(params, tmp_path / "w.safetensors")
    size = path.stat().st_size
    header = 8 + struct.unpack("<Q", path.read_bytes()[:8])[0]
    edges = {0, 1, 7, 8, 9, header - 1, header, header + 1, header + 4, size - 4, size - 1}
    for left in sorted(edges | set(range(0, size, size // 20)), reverse=True):
        os.truncate(path, left)
        assert_one_sentence(refusal(path), str(path), "expected a whole safetensors file")


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    assert_one_sentence(refusal(tmp_path), str(tmp_path), "expected a weights file, found a folder", "name the weights")
    said = "expected a weights file, found nothing there", "check the path"
    assert_one_sentence(refusal(tmp_path / "no.safetensors"), str(tmp_path / "no.safetensors"), *said)


LATENT_DIM = "latent_dim from 1 to 256"
REFUSED = {  # arrays that differ, metadata that differ, what the message holds
    "another format": ({}, {"format": "resnet"}, ["'conv-vae'", "'resnet'", "training commands"]),
    "latent_dim of others": ({}, {"latent_dim": "20"}, ["expected key", "20", "found", "latent_dim 20"]),
    "missing key": ({"decoder.fc2.bias": None}, {}, ["expected key 'decoder.fc2.bias'", "found it missing"]),
    "extra key": ({"encoder.fc3.bias": np.zeros(3, np.float32)}, {}, ["found the extra key 'encoder.fc3.bias'"]),
    "wrong shape": ({"encoder.fc.bias": np.zeros(255, np.float32)}, {}, ["of shape (256,)", "found (255,)"]),
    "NaN": ({"encoder.mu.bias": np.array([0, np.nan], np.float32)}, {}, ["expected finite numbers", "train again"]),
    "integers": ({"encoder.conv1.bias": np.zeros(32, np.int64)}, {}, ["found int64", "save it as float32"]),
}


@pytest.mark.parametrize("arrays, metadata, fragments", REFUSED.values(), ids=REFUSED)
def test_weights_of_something_else_are_refused(tmp_path, params, arrays, metadata, fragments):
    path = tmp_path / "w.safetensors"
    path.write_bytes(to_safetensors(altered(params, arrays), altered(METADATA, metadata)))
    assert_one_sentence(refusal(path), str(path), *fragments)


def test_a_dtype_that_numpy_lacks_is_refused_by_its_key(tmp_path, params):
    from safetensors.torch import save_file

    tensors = {name: torch.from_numpy(value) for name, value in params.items()}
    tensors["encoder.fc.bias"] = tensors["encoder.fc.bias"].bfloat16()
    save_file(tensors, tmp_path / "w.safetensors", METADATA)
    message = refusal(tmp_path / "w.safetensors")
    assert_one_sentence(message, "expected key 'encoder.fc.bias' as float32 or float16, found BF16")


NOT_SAVED = {
    "missing key": ({"decoder.fc2.bias": None}, "'decoder.fc2.bias'"),
    "extra key": ({"more": np.zeros(1, np.float32)}, "extra key 'more'"),
    "wrong shape": ({"encoder.fc.bias": np.zeros((1, 256))}, "found (1, 256)"),
    "beyond float16": ({"encoder.mu.bias": np.array([0, 1e5])}, "finite numbers in key 'encoder.mu.bias'"),
}


@pytest.mark.parametrize("changes, fragment", NOT_SAVED.values(), ids=NOT_SAVED)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, params, changes, fragment):
    with one_sentence(WeightsError, str(tmp_path / "w.safetensors"), fragment):
        save_weights(altered(params, changes), tmp_path / "w.safetensors", dtype="float16")
    assert not list(tmp_path.iterdir())


def test_four_small_files_are_shipped():
    assert list(SHIPPED) == ["digits-z2", "digits-z20", "mnist-z2", "mnist-z20"]
    for path in SHIPPED.values():
        with safe_open(path, framework="numpy") as file:
            assert {file.get_tensor(name).dtype.name for name in file.keys()} == {"float16"}  # noqa: SIM118


MNIST = pytest.mark.slow  # 10,000 images


@pytest.mark.parametrize("name", [pytest.param(name, marks=MNIST if "mnist" in name else ()) for name in SHIPPED])
def test_the_elbo_of_shipped_weights_is_as_documented(name, request):
    """To the last digit that is printed; 0.01 covers the rounding of another machine's float32 sums."""
    documented = re.search(rf"`{name}.safetensors`.*\| ([\d.]+) \|", (PRETRAINED / "README.md").read_text())
    data_dir = request.getfixturevalue("mnist_dir") if "mnist" in name else None
    data, config = load_dataset(trained_on(name), "test", data_dir), RunConfig()
    measured = evaluate_weights(load_weights(name), vae_numpy.measure, vae_numpy.pixels, data, config)
    assert (measured.recon + measured.kl).mean() == pytest.approx(float(documented[1]), abs=0.01)
