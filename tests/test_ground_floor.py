"""vae_common: the spec against its table, files whole and damaged, random choices, flags, run folders."""

import argparse
import dataclasses
import errno
import io
import json
import math
import os
import pickle
import struct
import subprocess
import sys
import urllib.error

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save as to_safetensors
from torch import nn

from synthetic_mnist import synthetic_images, write_idx, write_mnist
from vae_common import cli, data, digits, files, measured, schedule, spec, weights
from vae_common.spec import VAESpec
from vae_common.weights import WeightsError, load_weights, save_weights

# --- spec ---------------------------------------------------------------------------------------------------------


def table(z: int) -> list[tuple[str, tuple[int, ...]]]:
    return [
        ("encoder.conv1.weight", (32, 1, 3, 3)),
        ("encoder.conv1.bias", (32,)),
        ("encoder.conv2.weight", (64, 32, 3, 3)),
        ("encoder.conv2.bias", (64,)),
        ("encoder.fc.weight", (256, 3136)),
        ("encoder.fc.bias", (256,)),
        ("encoder.mu.weight", (z, 256)),
        ("encoder.mu.bias", (z,)),
        ("encoder.logvar.weight", (z, 256)),
        ("encoder.logvar.bias", (z,)),
        ("decoder.fc1.weight", (256, z)),
        ("decoder.fc1.bias", (256,)),
        ("decoder.fc2.weight", (3136, 256)),
        ("decoder.fc2.bias", (3136,)),
        ("decoder.deconv1.weight", (64, 32, 3, 3)),
        ("decoder.deconv1.bias", (32,)),
        ("decoder.deconv2.weight", (32, 1, 3, 3)),
        ("decoder.deconv2.bias", (1,)),
    ]


def torch_layers(z: int) -> dict[str, nn.Module]:
    deconv = dict(kernel_size=3, stride=2, padding=1, output_padding=1)
    return {
        "encoder.conv1": nn.Conv2d(1, 32, 3, stride=2, padding=1),
        "encoder.conv2": nn.Conv2d(32, 64, 3, stride=2, padding=1),
        "encoder.fc": nn.Linear(3136, 256),
        "encoder.mu": nn.Linear(256, z),
        "encoder.logvar": nn.Linear(256, z),
        "decoder.fc1": nn.Linear(z, 256),
        "decoder.fc2": nn.Linear(256, 3136),
        "decoder.deconv1": nn.ConvTranspose2d(64, 32, **deconv),
        "decoder.deconv2": nn.ConvTranspose2d(32, 1, **deconv),
    }


@pytest.mark.parametrize("z", [1, 2, 20, 256])
def test_names_shapes_and_order_are_those_of_the_table(z):
    assert list(VAESpec(z).shapes.items()) == table(z)
    assert [(name, value.shape) for name, value in VAESpec(z).init_params(0).items()] == table(z)


def test_latent_dim_20_is_the_default_and_has_1662249_parameters():
    assert VAESpec().latent_dim == 20
    assert VAESpec().parameters == 1_662_249 == sum(math.prod(shape) for _, shape in table(20))


def test_layer_outputs_are_those_of_the_table():
    assert [layer.output for layer in VAESpec(7).layers] == [
        (32, 14, 14), (64, 7, 7), (256,), (7,), (7,), (256,), (64, 7, 7), (32, 14, 14), (1, 28, 28),
    ]  # fmt: skip


@pytest.mark.parametrize("z", [0, -1, 257, 2.0, 2.5, "20", True, None, math.nan])
def test_a_bad_latent_dim_is_refused(z):
    with pytest.raises(ValueError, match=r"latent_dim must be an integer from 1 to 256, got .*\.$"):
        VAESpec(z)


def test_the_spec_takes_a_numpy_integer_and_is_frozen():
    assert VAESpec(np.int64(3)).shapes == VAESpec(3).shapes
    with pytest.raises(dataclasses.FrozenInstanceError):
        VAESpec().latent_dim = 3


def test_initial_values_fill_the_bounds_of_pytorchs_own_default():
    seeds = 50
    drawn = [VAESpec(2).init_params(seed, np.float64) for seed in range(seeds)]
    torch.manual_seed(0)
    for name, module in torch_layers(2).items():
        fan_in = nn.init._calculate_fan_in_and_fan_out(module.weight)[0]
        bound = 1 / math.sqrt(fan_in)
        for part in ("weight", "bias"):
            largest = max(np.abs(params[f"{name}.{part}"]).max() for params in drawn)
            # The largest of n uniform draws misses the top fifth with probability 0.8^n, and n >= 50.
            assert 0.8 * bound < largest <= bound, f"{name}.{part}"
            assert getattr(module, part).abs().max().item() <= np.float32(bound), f"torch's {name}.{part}"
        # The same for torch's own weights, of which each layer here has at least 288.
        assert module.weight.abs().max().item() > 0.95 * bound, name


def test_initial_values_are_uniform():
    fan_in = {layer.name: layer.fan_in for layer in VAESpec().layers}
    for name, value in VAESpec().init_params(1, np.float64).items():
        if value.size >= 1000:
            bound = fan_in[name.rpartition(".")[0]] ** -0.5
            # u = value / bound: E u = 0, Var u = 1/3; E u^2 = 1/3, Var u^2 = 4/45; six standard errors.
            u, se = value / bound, value.size**-0.5
            assert abs(u.mean()) < 6 * se * math.sqrt(1 / 3), name
            assert abs((u**2).mean() - 1 / 3) < 6 * se * math.sqrt(4 / 45), name


def test_float32_and_float64_start_from_the_same_numbers():
    single, double = VAESpec().init_params(3), VAESpec().init_params(3, np.float64)
    for name in single:
        assert single[name].dtype == np.float32 and double[name].dtype == np.float64
        assert np.array_equal(single[name], double[name].astype(np.float32)), name


def test_initial_values_are_a_function_of_the_seed():
    first, again, other = (VAESpec().init_params(seed) for seed in (5, 5, 6))
    for name in first:
        assert np.array_equal(first[name], again[name]) and not np.array_equal(first[name], other[name]), name


def test_the_summary_tells_each_layer_and_the_total():
    lines = VAESpec().summary().splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [layer.name for layer in VAESpec().layers]
    assert "(64, 32, 3, 3)" in lines[2] and "(B, 64, 7, 7)" in lines[2] and lines[2].endswith("18,496")
    assert lines[-1].endswith("1,662,249")


# --- weights files ------------------------------------------------------------------------------------------------

Z = 2
METADATA = {"format": "conv-vae", "version": "1", "latent_dim": str(Z)}


@pytest.fixture
def params():
    return VAESpec(Z).init_params(0)


def assert_one_sentence(message: str, *fragments: str) -> None:
    assert "\n" not in message and message.endswith(".") and ". " not in message, message
    for fragment in fragments:
        assert fragment in message, (fragment, message)


def write_raw(path, params, metadata=METADATA):
    path.write_bytes(to_safetensors(params, metadata))


@pytest.mark.parametrize("z", [1, 20])
def test_float32_weights_come_back_bit_by_bit(tmp_path, z):
    params = VAESpec(z).init_params(4)
    params["encoder.conv1.bias"][:5] = [-0.0, 1e-45, np.finfo(np.float32).max, np.finfo(np.float32).tiny, -1e-20]
    loaded = load_weights(save_weights(params, tmp_path / "w.safetensors"), latent_dim=z)
    assert list(loaded) == list(VAESpec(z).shapes)
    for name in params:
        assert loaded[name].dtype == np.float32 and loaded[name].tobytes() == params[name].tobytes(), name


def test_float16_weights_come_back_rounded_to_float16(tmp_path, params):
    loaded = load_weights(save_weights(params, tmp_path / "w.safetensors", dtype="float16"))
    assert (tmp_path / "w.safetensors").stat().st_size < 2 * VAESpec(Z).parameters + 4096
    for name in params:
        assert loaded[name].dtype == np.float32
        assert np.array_equal(loaded[name], params[name].astype(np.float16).astype(np.float32)), name


def test_views_and_float64_are_saved_by_value(tmp_path, params):
    params["encoder.fc.weight"] = np.asfortranarray(params["encoder.fc.weight"])
    params["encoder.fc.bias"] = np.repeat(params["encoder.fc.bias"], 2)[::2]
    params["encoder.mu.weight"] = params["encoder.mu.weight"].astype(np.float64)
    loaded = load_weights(save_weights(params, tmp_path / "w.safetensors"))
    assert all(np.array_equal(loaded[name], params[name]) for name in params)


@pytest.mark.parametrize("z", [1, 20])
def test_the_metadata_say_format_version_and_latent_dim(tmp_path, z):
    path = save_weights(VAESpec(z).init_params(0), tmp_path / "w.safetensors")
    with safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"format": "conv-vae", "version": "1", "latent_dim": str(z)}
        assert set(file.keys()) == set(VAESpec(z).shapes)


def changed(params, name, value):
    return {**params, name: value}


def spoiled(params, name, number):
    return changed(params, name, np.where(np.arange(params[name].size) == 1, np.float32(number), params[name]))


NOT_SAFETENSORS = {
    "empty": b"",
    "text": b"not weights at all\n" * 40,
    "npy": (lambda file: (np.save(file, np.zeros(9)), file.getvalue()))(io.BytesIO())[1],
    "pickle": pickle.dumps({"encoder.fc.bias": [0.0]}),
    "torch": (lambda file: (torch.save({"encoder.fc.bias": torch.zeros(9)}, file), file.getvalue()))(io.BytesIO())[1],
    "huge header": struct.pack("<Q", 2**62) + b"{}",
    "header that is no JSON": struct.pack("<Q", 9) + b"{" * 9,
}


@pytest.mark.parametrize("content", NOT_SAFETENSORS.values(), ids=NOT_SAFETENSORS)
def test_what_is_not_safetensors_is_refused(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as error:
        load_weights(path)
    assert_one_sentence(str(error.value), str(path), "expected a whole safetensors file", "copy it again or train anew")


def test_a_file_truncated_anywhere_is_refused(tmp_path, params):
    path = save_weights(params, tmp_path / "w.safetensors")
    whole = path.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    edges = {1, 7, 8, 9, header - 1, header, header + 1, header + 4, len(whole) - 4, len(whole) - 1}
    for size in sorted(edges | set(range(0, len(whole), len(whole) // 60))):
        path.write_bytes(whole[:size])
        with pytest.raises(WeightsError) as error:
            load_weights(path)
        assert_one_sentence(str(error.value), str(path), "expected a whole safetensors file")


REFUSED = {
    "another format": (lambda p: (p, {**METADATA, "format": "resnet"}), "'conv-vae'", "'resnet'", "training commands"),
    "another version": (lambda p: (p, {**METADATA, "version": "2"}), "version '1'", "version '2'", "training commands"),
    "no metadata": (lambda p: (p, None), "'conv-vae'", "found format None", "training commands"),
    "no latent_dim": (lambda p: (p, {"format": "conv-vae", "version": "1"}), "latent_dim from 1 to 256", "None"),
    "latent_dim 0": (lambda p: (p, {**METADATA, "latent_dim": "0"}), "latent_dim from 1 to 256", "'0'"),
    "latent_dim 257": (lambda p: (p, {**METADATA, "latent_dim": "257"}), "latent_dim from 1 to 256", "'257'"),
    "latent_dim two": (lambda p: (p, {**METADATA, "latent_dim": "two"}), "latent_dim from 1 to 256", "'two'"),
    "latent_dim of others": (
        lambda p: (p, {**METADATA, "latent_dim": "20"}),
        "expected key", "20", "found", "latent_dim 20",
    ),
    "missing key": (
        lambda p: ({name: value for name, value in p.items() if name != "decoder.fc2.bias"}, METADATA),
        "expected key 'decoder.fc2.bias'", "found it missing", "give weights of the spec",
    ),
    "extra key": (
        lambda p: (changed(p, "encoder.fc3.bias", np.zeros(3, np.float32)), METADATA),
        "expected only the spec's keys", "found the extra key 'encoder.fc3.bias'", "give weights of the spec",
    ),
    "wrong shape": (
        lambda p: (changed(p, "encoder.fc.bias", np.zeros(255, np.float32)), METADATA),
        "expected key 'encoder.fc.bias' of shape (256,)", "found (255,)", "give weights of the spec",
    ),
    "transposed": (
        lambda p: (changed(p, "encoder.fc.weight", np.zeros((3136, 256), np.float32)), METADATA),
        "'encoder.fc.weight' of shape (256, 3136)", "found (3136, 256)",
    ),
    "NaN": (
        lambda p: (spoiled(p, "encoder.mu.bias", np.nan), METADATA),
        "expected finite numbers in key 'encoder.mu.bias'", "found NaN or infinity", "train again",
    ),
    "infinity": (
        lambda p: (spoiled(p, "decoder.fc1.bias", -np.inf), METADATA),
        "expected finite numbers in key 'decoder.fc1.bias'", "found NaN or infinity", "train again",
    ),
    "integers": (
        lambda p: (changed(p, "encoder.conv1.bias", np.zeros(32, np.int64)), METADATA),
        "expected key 'encoder.conv1.bias' as float32 or float16", "found int64", "save it as float32",
    ),
    "float64": (
        lambda p: (changed(p, "encoder.conv1.bias", np.zeros(32)), METADATA),
        "expected key 'encoder.conv1.bias' as float32 or float16", "found float64", "save it as float32",
    ),
}  # fmt: skip


@pytest.mark.parametrize("make, fragments", [(make, rest) for make, *rest in REFUSED.values()], ids=REFUSED)
def test_weights_of_something_else_are_refused(tmp_path, params, make, fragments):
    path = tmp_path / "w.safetensors"
    write_raw(path, *make(params))
    with pytest.raises(WeightsError) as error:
        load_weights(path)
    assert_one_sentence(str(error.value), str(path), *fragments)


def test_a_dtype_that_numpy_lacks_is_refused_by_its_key(tmp_path, params):
    from safetensors.torch import save_file

    tensors = {name: torch.from_numpy(value) for name, value in params.items()}
    tensors["encoder.fc.bias"] = tensors["encoder.fc.bias"].bfloat16()
    save_file(tensors, tmp_path / "w.safetensors", METADATA)
    with pytest.raises(WeightsError) as error:
        load_weights(tmp_path / "w.safetensors")
    assert_one_sentence(str(error.value), "expected key 'encoder.fc.bias' as float32 or float16, found BF16")


def test_weights_with_another_latent_dim_than_asked_for_are_refused(tmp_path, params):
    path = save_weights(params, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as error:
        load_weights(path, latent_dim=20)
    assert_one_sentence(str(error.value), str(path), "expected latent_dim 20, found 2", "pass --latent-dim 2")


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    for path, fragments in (
        (tmp_path, ("expected a weights file, found a folder", "name the weights.safetensors in it")),
        (tmp_path / "no.safetensors", ("expected a weights file, found nothing there", "check the path")),
    ):
        with pytest.raises(WeightsError) as error:
            load_weights(path)
        assert_one_sentence(str(error.value), str(path), *fragments)


NOT_SAVED = {
    "missing key": (lambda p: {k: v for k, v in p.items() if k != "decoder.fc2.bias"}, "'decoder.fc2.bias'"),
    "no key at all": (lambda p: {}, "'encoder.mu.bias'"),
    "extra key": (lambda p: changed(p, "more", np.zeros(1, np.float32)), "extra key 'more'"),
    "wrong shape": (lambda p: changed(p, "encoder.fc.bias", np.zeros((1, 256))), "found (1, 256)"),
    "Z of 257": (lambda p: changed(p, "encoder.mu.bias", np.zeros(257)), "found (257,)"),
    "NaN": (lambda p: spoiled(p, "encoder.mu.bias", np.nan), "finite numbers in key 'encoder.mu.bias'"),
    "beyond float16": (lambda p: spoiled(p, "encoder.mu.bias", 1e5), "finite numbers in key 'encoder.mu.bias'"),
}


@pytest.mark.parametrize("make, fragment", NOT_SAVED.values(), ids=NOT_SAVED)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, params, make, fragment):
    with pytest.raises(WeightsError) as error:
        save_weights(make(params), tmp_path / "w.safetensors", dtype="float16")
    assert_one_sentence(str(error.value), str(tmp_path / "w.safetensors"), fragment)
    assert not list(tmp_path.iterdir())


def test_only_float32_and_float16_are_written(tmp_path, params):
    with pytest.raises(ValueError, match="float64"):
        save_weights(params, tmp_path / "w.safetensors", dtype="float64")


# --- writing files ------------------------------------------------------------------------------------------------


def test_a_file_is_written_with_its_folders_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    for content in (b"first", b"second"):
        assert files.write_atomically(path, lambda file, content=content: file.write(content)) == path
        assert path.read_bytes() == content and list(path.parent.iterdir()) == [path]


def refuse(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_refusing_disk_leaves_the_old_weights_whole(tmp_path, params, monkeypatch, broken):
    path = save_weights(params, tmp_path / "w.safetensors")
    before = path.read_bytes()
    monkeypatch.setattr(os, broken, refuse)
    with pytest.raises(OSError, match="No space left"):
        save_weights(VAESpec(Z).init_params(1), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_stops_halfway_leaves_the_old_file_whole(tmp_path, failure):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half(file):
        file.write(b"ne")
        file.flush()
        raise failure

    with pytest.raises(type(failure)):
        files.write_atomically(path, write_half)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_the_bytes_are_on_disk_before_the_rename(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args)))
    files.write_atomically(tmp_path / "file", lambda file: file.write(b"x"))
    assert calls[:2] == ["fsync", "replace"]


# --- random choices -----------------------------------------------------------------------------------------------

seeds = st.integers(0, 2**32 - 1)


@given(st.integers(1, 300), st.integers(1, 60), seeds, st.integers(0, 1000))
def test_an_epoch_shows_each_image_once_and_the_remainder_last(count, batch_size, seed, epoch):
    parts = list(data.batches(count, batch_size, seed, epoch))
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(count))
    assert [len(part) for part in parts[:-1]] == [batch_size] * (math.ceil(count / batch_size) - 1)
    assert len(parts[-1]) == (count - 1) % batch_size + 1


def test_the_batch_order_is_a_function_of_seed_and_epoch():
    def order(batch_size, seed, epoch):
        return np.concatenate(list(data.batches(1000, batch_size, seed, epoch)))

    first = order(128, 0, 1)
    np.random.seed(7)  # the global generator plays no part
    assert np.array_equal(first, order(128, 0, 1)) and np.array_equal(first, order(7, 0, 1))
    for other in (order(128, 1, 1), order(128, 0, 2), order(128, 1, 0), np.arange(1000)):
        # Two independent orders agree at one place on average; at 20 with probability below 1/20! = 4e-19.
        assert (first == other).sum() < 20


def test_the_generators_of_different_purposes_steps_and_seeds_are_independent():
    keys = [(seed, purpose, step) for seed in (0, 1) for purpose in data.PURPOSES for step in (0, 1, 2)]
    n = 4000
    draws = np.stack([data.generator(*key).standard_normal(n) for key in keys])
    again = np.stack([data.generator(*key).standard_normal(n) for key in reversed(keys)])[::-1]
    assert np.array_equal(draws, again)
    correlation = np.corrcoef(draws) - np.eye(len(keys))
    # Each of the 435 correlations has standard error 1/sqrt(n) if the streams are independent.
    assert np.abs(correlation).max() < 6 / math.sqrt(n)


def test_a_generator_for_an_unknown_purpose_is_refused():
    with pytest.raises(ValueError):
        data.generator(0, "weather")


# --- binarization -------------------------------------------------------------------------------------------------

LEVELS = np.arange(256, dtype=np.uint8)


def test_grey_pixels_are_the_value_over_255():
    x = data.binarize(LEVELS, "none")
    assert x.dtype == np.float32 and x.min() == 0 and x.max() == 1
    # One division in float32 rounds once, by at most half a unit in the last place.
    np.testing.assert_allclose(x, np.arange(256) / 255, rtol=np.finfo(np.float32).eps / 2, atol=0)


def test_threshold_agrees_with_a_plain_loop():
    expected = [1.0 if value / 255 >= 0.5 else 0.0 for value in range(256)]
    x = data.binarize(LEVELS.reshape(4, 1, 8, 8), "threshold")
    assert x.dtype == np.float32 and x.shape == (4, 1, 8, 8) and x.ravel().tolist() == expected


def test_dynamic_pixels_follow_the_bernoulli_law():
    n, p = 4000, np.arange(256) / 255
    x = data.binarize(np.tile(LEVELS, (n, 1)), "dynamic", np.random.default_rng(0))
    assert x.dtype == np.float32 and np.isin(x, (0, 1)).all()
    assert not x[:, 0].any() and x[:, 255].all()
    # Bernstein's inequality: P(|sum - n p| >= t) <= 2 exp(-t^2 / (2 (n p (1 - p) + t / 3))), which is 2 exp(-L) for
    # the t below; with L = 20, one of 256 grey levels fails by chance with probability below 1.1e-6.
    L, variance = 20, n * p * (1 - p)
    t = L / 3 + np.sqrt(L**2 / 9 + 2 * L * variance)
    assert (np.abs(x.sum(axis=0) - n * p) <= t).all()
    # Independent pixels: an image's sum has variance sum p (1 - p); the sample variance of n of them has a relative
    # standard error of sqrt(2 / (n - 1)); six of those. One uniform number for all pixels would be 170 times off.
    expected = (p * (1 - p)).sum()
    assert abs(x.sum(axis=1).var(ddof=1) / expected - 1) < 6 * math.sqrt(2 / (n - 1))


def test_dynamic_pixels_are_a_function_of_the_generator():
    images = np.full((3, 1, 28, 28), 128, np.uint8)
    first, again, other = (data.binarize(images, "dynamic", np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize(
    "images, how, rng, fragment",
    [
        (LEVELS.astype(np.float32), "none", None, "must be uint8 from 0 to 255, got float32"),
        (LEVELS.astype(np.int64), "dynamic", np.random.default_rng(0), "must be uint8 from 0 to 255, got int64"),
        (LEVELS, "dynamic", None, "needs rng"),
        (LEVELS, "sometimes", None, "one of none, threshold, dynamic, got 'sometimes'"),
    ],
)
def test_binarization_refuses_what_it_cannot_do(images, how, rng, fragment):
    with pytest.raises(ValueError, match=fragment):
        data.binarize(images, how, rng)


# --- drawn data and its cache -------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch):
    """Splits of few images, so that drawing takes no time."""
    for drawer in data.DRAWN.values():
        monkeypatch.setitem(drawer.SPLIT_SIZES, "train", 12)
        monkeypatch.setitem(drawer.SPLIT_SIZES, "test", 6)


def same(a, b) -> bool:
    return np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels) and same_factors(a, b)


def same_factors(a, b) -> bool:
    return a.factors is b.factors is None or np.array_equal(a.factors, b.factors)


@pytest.mark.parametrize("name", data.DRAWN)
@pytest.mark.parametrize("split, count", [("train", 12), ("test", 6)])
def test_a_drawn_set_is_read_from_the_cache_the_second_time(tmp_path, few, monkeypatch, name, split, count):
    first = data.load_dataset(name, split, tmp_path)
    monkeypatch.setattr(data.DRAWN[name], "draw", lambda factors: pytest.fail("drawn again"))
    again = data.load_dataset(name, split, tmp_path)
    assert same(first, again) and len(list(tmp_path.iterdir())) == 1
    assert first.images.shape == (count, 1, 28, 28) and first.images.dtype == np.uint8
    assert first.labels.shape == (count,) and first.labels.dtype == np.int64
    assert first.factors.shape == (count, len(first.factor_names))
    assert np.array_equal(first.factors[:, 0], first.labels) and len(first) == count
    assert set(first.labels) <= set(range(len(first.class_names)))


def npz(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


F = len(digits.FACTOR_NAMES)
FACTORS, DRAWN_IMAGES = np.zeros((6, F)), np.zeros((6, 1, 28, 28), np.uint8)
DAMAGE = {
    "empty": lambda whole: b"",
    "half": lambda whole: whole[: len(whole) // 2],
    "a byte less": lambda whole: whole[:-1],
    "a flipped pixel": lambda whole: whole[:3000] + bytes([whole[3000] ^ 255]) + whole[3001:],
    "text": lambda whole: b"hello\n" * 100,
    "npy": lambda whole: NOT_SAFETENSORS["npy"],
    "pickle": lambda whole: NOT_SAFETENSORS["pickle"],
    "a key missing": lambda whole: npz(images=DRAWN_IMAGES),
    "too few images": lambda whole: npz(factors=FACTORS[:5], images=DRAWN_IMAGES[:5]),
    "float images": lambda whole: npz(factors=FACTORS, images=DRAWN_IMAGES / 2),
    "objects": lambda whole: npz(factors=FACTORS, images=np.array([None] * 6)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cache_is_drawn_again_with_a_note(tmp_path, few, capsys, damage):
    whole = data.load_dataset("digits", "test", tmp_path)
    [path] = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert same(whole, data.load_dataset("digits", "test", tmp_path))
    note = capsys.readouterr().err
    assert note == f"note: {path} is damaged; drawing the digits again.\n"
    assert same(whole, data.load_dataset("digits", "test", tmp_path)) and capsys.readouterr().err == ""


def test_no_single_damaged_byte_of_the_cache_changes_the_data(tmp_path, few):
    whole = data.load_dataset("digits", "test", tmp_path)
    [path] = tmp_path.iterdir()
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    ends = np.r_[0:200, len(content) - 250 : len(content)]  # where the zip's own records are
    for place in np.r_[rng.choice(ends, 150), rng.integers(0, len(content), 100)]:
        path.write_bytes(content[:place] + bytes([content[place] ^ rng.integers(1, 256)]) + content[place + 1 :])
        assert same(whole, data.load_dataset("digits", "test", tmp_path)), place


def test_drawn_data_works_without_a_place_to_keep_it(tmp_path, few, capsys):
    blocked = tmp_path / "a_file"
    blocked.write_text("")
    assert len(data.load_dataset("sprites", "test", blocked)) == 6
    note = capsys.readouterr().err
    assert note.startswith("note: the drawn sprites could not be cached (") and note.count("\n") == 1
    assert list(tmp_path.iterdir()) == [blocked]


def test_the_cache_lies_in_the_users_cache_folder_by_default(tmp_path, few, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data.load_dataset("digits", "test")
    assert [path.name for path in (tmp_path / "vae-three-levels").iterdir()] == ["digits-v1-test.npz"]
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert data.cache_folder() == tmp_path / "home" / ".cache" / "vae-three-levels"


def test_drawn_digits_import_neither_torch_nor_torchvision(tmp_path):
    code = (
        "import sys; from vae_common.data import load_dataset; load_dataset('digits', 'test', sys.argv[1]); "
        "sys.exit(str(sorted({'torch', 'torchvision'} & set(sys.modules))) if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name, split", [("imagenet", "test"), ("digits", "validation"), ("", "test")])
def test_an_unknown_set_or_split_is_refused(name, split):
    with pytest.raises(ValueError, match=r"must be one of .*, got "):
        data.load_dataset(name, split)


# --- real data ----------------------------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch):
    def refuse_connection(*_, **__):
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr("urllib.request.urlopen", refuse_connection)


def assert_offers_digits(error, *fragments) -> None:
    assert_one_sentence(str(error.value), "--dataset digits", *fragments)


@pytest.mark.parametrize("name, folder", data.REAL.items())
def test_real_files_are_read_as_they_lie(tmp_path, no_network, monkeypatch, name, folder):
    write_mnist(tmp_path, folder)
    monkeypatch.setenv("VAE_DATA_DIR", str(tmp_path))
    for split, count in (("train", 64), ("test", 32)):
        images, labels = synthetic_images(count, seed=count)
        for loaded in (data.load_dataset(name, split, tmp_path), data.load_dataset(name, split)):
            assert (loaded.name, loaded.split, loaded.factors, loaded.factor_names) == (name, split, None, ())
            assert loaded.images.dtype == np.uint8 and np.array_equal(loaded.images, images[:, None])
            assert loaded.labels.dtype == np.int64 and np.array_equal(loaded.labels, labels)
            assert len(loaded.class_names) == 10


def overwrite(path, start: int, content: bytes) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:start] + content + whole[start + len(content) :])


TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
DAMAGED_FILES = {
    "empty images": lambda raw: (raw / TEST_IMAGES).write_bytes(b""),
    "empty labels": lambda raw: (raw / TEST_LABELS).write_bytes(b""),
    "half the images": lambda raw: os.truncate(raw / TEST_IMAGES, 12_000),
    "half a header": lambda raw: os.truncate(raw / TEST_IMAGES, 6),
    "text": lambda raw: (raw / TEST_IMAGES).write_text("404 not found\n" * 50),
    "a magic of no type": lambda raw: overwrite(raw / TEST_IMAGES, 0, struct.pack(">I", 0xFF03)),
    "a magic of no rank": lambda raw: overwrite(raw / TEST_IMAGES, 0, struct.pack(">I", 0x0800)),
    "a magic of floats": lambda raw: overwrite(raw / TEST_IMAGES, 0, struct.pack(">I", 0x0D03)),
    "a count too large": lambda raw: overwrite(raw / TEST_IMAGES, 4, struct.pack(">I", 33)),
    "a negative count": lambda raw: overwrite(raw / TEST_IMAGES, 4, struct.pack(">I", 2**32 - 1)),
    "other sides": lambda raw: overwrite(raw / TEST_IMAGES, 8, struct.pack(">II", 56, 14)),
    "fewer labels": lambda raw: write_idx(raw / TEST_LABELS, np.zeros(31, np.uint8)),
    "a label without a class": lambda raw: write_idx(raw / TEST_LABELS, np.full(32, 10, np.uint8)),
    "labels for images": lambda raw: (raw / TEST_IMAGES).write_bytes((raw / TEST_LABELS).read_bytes()),
    "no images": lambda raw: (
        write_idx(raw / TEST_IMAGES, np.zeros((0, 28, 28), np.uint8)),
        write_idx(raw / TEST_LABELS, np.zeros(0, np.uint8)),
    ),
}


@pytest.mark.parametrize("damage", DAMAGED_FILES.values(), ids=DAMAGED_FILES)
def test_damaged_real_files_are_refused_in_one_sentence(tmp_path, no_network, damage):
    raw = write_mnist(tmp_path)
    damage(raw)
    with pytest.raises(data.DatasetError) as error:
        data.load_dataset("mnist", "test", tmp_path)
    assert_offers_digits(error, str(raw), "cannot be read", "delete that folder to download them again")
    assert len(data.load_dataset("mnist", "train", tmp_path)) == 64


def test_missing_files_without_a_network_are_told_in_one_sentence(tmp_path, no_network):
    with pytest.raises(data.DatasetError) as error:
        data.load_dataset("kmnist", "train", tmp_path / "new" / "folder")
    assert_offers_digits(error, str(tmp_path), "kmnist is not in", "could not be downloaded", "--data-dir")
    assert not list(tmp_path.iterdir())


def test_files_that_are_there_survive_a_failed_download(tmp_path, no_network):
    raw = write_mnist(tmp_path)
    (raw / TEST_LABELS).unlink()
    before = {path.name: path.read_bytes() for path in raw.iterdir()}
    with pytest.raises(data.DatasetError):
        data.load_dataset("mnist", "train", tmp_path)
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == before
    assert list(tmp_path.iterdir()) == [tmp_path / "MNIST"]


def fake_download(monkeypatch, stop_at: str, failure: BaseException) -> None:
    """torchvision's downloader replaced by one that writes the small files, and half of `stop_at` before `failure`."""

    def download(url, download_root, filename, md5):
        name = filename.removesuffix(".gz")
        split = "train" if name.startswith("train") else "test"
        images, labels = synthetic_images(*((64, 64) if split == "train" else (32, 32)))
        path = os.path.join(download_root, name)
        write_idx(type(data.cache_folder())(path), images if "images" in name else labels)
        if name == stop_at:
            os.truncate(path, 20)
            raise failure

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", download)


@pytest.mark.parametrize(
    "failure, raised",
    [
        (urllib.error.URLError("connection reset"), data.DatasetError),
        (RuntimeError("File not found or corrupted."), data.DatasetError),
        (OSError(errno.ENOSPC, "No space left on device"), data.DatasetError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_an_interrupted_download_leaves_nothing_behind(tmp_path, monkeypatch, failure, raised):
    fake_download(monkeypatch, TEST_IMAGES, failure)
    with pytest.raises(raised) as error:
        data.load_dataset("mnist", "train", tmp_path / "data")
    assert not list(tmp_path.iterdir())
    if raised is data.DatasetError:
        assert_offers_digits(error, "could not be downloaded")


def test_a_whole_download_is_moved_into_place(tmp_path, monkeypatch):
    fake_download(monkeypatch, "", KeyboardInterrupt())
    assert len(data.load_dataset("mnist", "test", tmp_path)) == 32
    assert list(tmp_path.iterdir()) == [tmp_path / "MNIST"]
    assert len(list((tmp_path / "MNIST" / "raw").iterdir())) == 4


@pytest.mark.parametrize("line", ["raise RuntimeError('operator torchvision::nms does not exist')", "import no_such"])
def test_a_broken_torchvision_is_told_with_its_remedy(tmp_path, monkeypatch, line):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(line)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(data.DatasetError) as error:
        data.load_dataset("mnist", "test", tmp_path)
    assert_offers_digits(error, "needs torchvision", "matches your torch", "pip install")


TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # LeCun, Cortes & Burges
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize("split, counts", [("train", TRAIN_COUNTS), ("test", TEST_COUNTS)])
def test_mnist_has_its_published_sizes_and_class_counts(mnist_dir, split, counts):
    mnist = data.load_dataset("mnist", split, mnist_dir)
    assert mnist.images.shape == (sum(counts), 1, 28, 28) and mnist.images.dtype == np.uint8
    assert np.bincount(mnist.labels).tolist() == counts
    assert (mnist.images.min(), mnist.images.max()) == (0, 255)
    if split == "train":  # the usual normalisation constants, given to four digits
        x = mnist.images / 255
        assert round(x.mean(), 4) == 0.1307 and round(x.std(), 4) == 0.3081


def test_grey_mnist_has_an_entropy_floor_of_45_53_nats(mnist_dir):
    x = np.arange(256) / 255
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nan_to_num(x * np.log(x)) - np.nan_to_num((1 - x) * np.log1p(-x))
    images = data.load_dataset("mnist", "test", mnist_dir).images
    assert round(entropy[images].sum(axis=(1, 2, 3)).mean(), 2) == 45.53


# --- schedule -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step, total, expected",
    [
        (0, 1, 1.0),
        (0, 100, 0.1),  # a tenth of 100 steps warms up
        (4, 100, 0.5),
        (9, 100, 1.0),
        (10, 100, 1.0),
        (40, 100, 0.75),  # cos(pi / 3) = 1/2
        (55, 100, 0.5),
        (70, 100, 0.25),
        (249, 50_000, 0.5),  # 500 steps at most warm up
        (500, 50_000, 1.0),
        (25_250, 50_000, 0.5),
    ],
)
def test_learning_rate_at_known_steps(step, total, expected):
    assert schedule.learning_rate(step, total, 1.0) == pytest.approx(expected, rel=1e-12)
    assert schedule.learning_rate(step, total, 2e-3) == pytest.approx(2e-3 * expected, rel=1e-12)


@given(st.integers(1, 20_000))
def test_learning_rate_rises_then_falls_without_a_jump_and_ends_near_0(total):
    rate = np.array([schedule.learning_rate(step, total, 1.0) for step in range(total)])
    warm_up = min(500, math.ceil(total / 10))
    falling = max(total - warm_up, 1)
    assert (rate > 0).all() and (rate <= 1).all() and rate[warm_up - 1] == 1
    assert (np.diff(rate[:warm_up]) > 0).all() and (np.diff(rate[warm_up - 1 :]) <= 0).all()
    # Slopes: 1 / warm_up going up; the half cosine's steepest is pi / (2 falling).
    assert np.abs(np.diff(rate)).max(initial=0) <= max(1 / warm_up, math.pi / (2 * falling)) + 1e-12
    # One step before the cosine's end: sin^2(pi / (2 falling)) <= (pi / (2 falling))^2.
    assert total == 1 or rate[-1] <= (math.pi / (2 * falling)) ** 2 + 1e-12


# --- flags --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, value", [("1", 1), ("256", 256), ("+7", 7), (" 20 ", 20)])
def test_whole_takes_integers_in_range(text, value):
    assert cli.whole(1, 256)(text) == value


@pytest.mark.parametrize("text", ["0", "257", "-1", "2.0", "1e2", "x", "", "nan", "inf", "0x10", "9" * 5000])
def test_whole_refuses_the_rest(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected an integer from 1 to 256, got "):
        cli.whole(1, 256)(text)
    if text != "257" and len(text) < 10:
        with pytest.raises(argparse.ArgumentTypeError, match="expected an integer of at least 1, got "):
            cli.whole(1)(text)


@pytest.mark.parametrize("text, value", [("2e-3", 2e-3), ("1", 1.0), ("1000", 1000.0), ("1e-300", 1e-300)])
def test_number_takes_finite_numbers_in_range(text, value):
    assert cli.number(0, 1000, above=True)(text) == value


@pytest.mark.parametrize("text", ["0", "-0.0", "-1", "nan", "inf", "-inf", "1e400", "1000.1", "x", "", "1,5"])
def test_number_refuses_the_rest(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a finite number above 0 and at most 1000, got "):
        cli.number(0, 1000, above=True)(text)


def test_number_at_least_takes_its_bound():
    assert cli.number(0)("0") == 0
    for text in ("-1e-9", "nan", "inf"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a finite number of at least 0, got "):
            cli.number(0)(text)


def test_the_defaults_are_those_that_the_help_tells():
    for flag, options in cli.FLAGS.items():
        told = options["help"].partition("default ")[2].strip("()").split(":")[0]
        if isinstance(options.get("default"), (int, float)):
            assert float(told) == options["default"], flag
        elif "default" in options:
            assert told == options["default"] or flag == "--binarize", flag
    assert "none keeps grey" in cli.FLAGS["--binarize"]["help"] and cli.FLAGS["--binarize"]["default"] == "none"


@pytest.mark.parametrize(
    "name, fragment",
    [
        *((name, "expected cpu, cuda, cuda:N, mps or auto, got") for name in ("gpu", "", "meta", "cuda:-1", "CPU")),
        ("cuda", "--device cuda: torch finds no cuda device"),
        ("cuda:0", "--device cuda:0: torch finds no cuda device"),
        ("cpu:1", "--device cpu:1: torch finds 1 cpu device"),
    ],
)
def test_a_device_that_is_not_there_is_refused(monkeypatch, name, fragment):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(cli.UsageError) as error:
        cli.torch_device(name)
    assert_one_sentence(str(error.value), fragment)


def test_auto_takes_cuda_where_there_is_one(monkeypatch):
    for available, kind in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert cli.torch_device("auto").type == kind
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert cli.torch_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize(
    "failure, status, last_line",
    [
        (cli.UsageError("no such\nthing."), 2, "tool: error: no such thing."),
        (cli.NotFiniteError("recon is nan."), 2, "tool: error: recon is nan."),
        (WeightsError("bad weights."), 2, "tool: error: bad weights."),
        (data.DatasetError("no data."), 2, "tool: error: no data."),
        (OSError(errno.EACCES, "Permission denied", "runs"), 2, "tool: error: runs: Permission denied."),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "tool: error: [Errno 28] No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted; files already reported are whole."),
    ],
)
def test_what_a_user_can_cause_ends_in_one_line_and_a_status(capsys, failure, status, last_line):
    def body(args):
        raise failure

    parser = cli.parser("")
    parser.prog = "tool"
    assert cli.run(parser, body, []) == status
    assert capsys.readouterr().err.strip() == last_line


def test_a_mistake_in_the_code_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        cli.run(cli.parser(""), lambda args: 1 / 0, [])


@pytest.mark.parametrize("argv, status", [(["--help"], 0), (["--seed", "x"], 2), (["--se", "1"], 2), ([], 0)])
def test_argparse_itself_ends_in_a_status_too(capsys, argv, status):
    assert cli.run(cli.parser("", "--seed"), lambda args: None, argv) == status


# --- the run folder -----------------------------------------------------------------------------------------------


def run_args(out=None, overwrite=False):
    return argparse.Namespace(out=out, overwrite=overwrite, seed=3, lr=2e-3)


def test_the_config_says_how_the_run_was_started(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = cli.make_run_folder(run_args(), "paper")
    config = json.loads((folder / "config.json").read_text())
    assert str(folder) == os.path.join("runs", "paper") and config["level"] == "paper"
    assert (config["seed"], config["lr"], config["numpy"]) == (3, 2e-3, np.__version__)
    assert capsys.readouterr().out == f"wrote {folder / 'config.json'}\n"


def test_earlier_runs_in_the_default_place_are_moved_aside_one_after_another(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        folder = cli.make_run_folder(run_args(), "paper")
        (folder / "mine.txt").write_text(str(number))
    kept = {path.name: (path / "mine.txt").read_text() for path in (tmp_path / "runs").iterdir()}
    assert kept == {"paper-1": "0", "paper-2": "1", "paper": "2"}
    moves = [line for line in capsys.readouterr().out.splitlines() if line.startswith("moved")]
    assert moves == [f"moved the earlier run runs/paper to runs/paper-{number}" for number in (1, 2)]


def test_a_named_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(cli.UsageError) as error:
        cli.make_run_folder(run_args(out=str(tmp_path)), "paper")
    assert_one_sentence(str(error.value), f"--out {tmp_path}", "not empty", "--overwrite")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_named_folder_may_be_new_or_empty(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new/folder"):
        assert cli.make_run_folder(run_args(out=str(tmp_path / name)), "paper") == tmp_path / name


def test_overwrite_removes_the_files_of_a_run_and_no_others(tmp_path):
    of_a_run = ("metrics.jsonl", "weights.safetensors", "evaluation.json", "figures/old.png")
    of_a_run += ("checkpoint.safetensors", "prior-checkpoint-previous.safetensors", "checkpoint.pt")
    others = (
        "mine.txt",
        "figures/mine.txt",
        "figures/deeper/mine.png",
        "weights.safetensors.backup",
        "a-checkpoint.safetensors",
    )
    cli.make_run_folder(run_args(out=str(tmp_path)), "paper")
    for name in (*of_a_run, *others):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    cli.make_run_folder(run_args(out=str(tmp_path), overwrite=True), "paper")
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*others, "config.json"}


@pytest.mark.parametrize("out, fragment", [("a_file", "found a file"), ("a_file/run", "cannot be made")])
def test_a_file_in_the_way_is_told(tmp_path, out, fragment):
    (tmp_path / "a_file").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(cli.UsageError) as error:
            cli.make_run_folder(run_args(out=str(tmp_path / out), overwrite=overwrite), "paper")
        assert_one_sentence(str(error.value), str(tmp_path / out), fragment, "choose a")
    assert (tmp_path / "a_file").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_metrics_are_one_json_object_per_line(tmp_path):
    rows = [{"epoch": 1, "recon": 1.5}, {"epoch": 2, "recon": 1.25}]
    cli.write_metrics(tmp_path / "metrics.jsonl", rows)
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == rows


@pytest.mark.parametrize("term", ["recon", "kl"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_row_that_is_not_finite_names_its_term(term, value):
    args = argparse.Namespace(dataset="digits", binarize="none", likelihood="bernoulli")
    terms = {"recon": 1.0, "kl": 1.0, term: value}
    with pytest.raises(cli.NotFiniteError) as error:
        measured.metrics_row(3, "test", **terms, args=args, seconds=0.0)
    assert_one_sentence(str(error.value), f"{term} of the test split is {value} in epoch 3", "--lr")


def test_the_image_shape_of_the_spec_is_that_of_the_data(tmp_path, few):
    assert data.load_dataset("sprites", "test", tmp_path).images.shape[1:] == spec.IMAGE_SHAPE
    assert weights.latent_dim_of(VAESpec(9).init_params(0)) == 9
