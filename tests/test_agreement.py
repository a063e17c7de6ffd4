"""The three levels are one model: same parameters, same images, same noise, same numbers, layer by layer."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import compare_levels
import recorder
import vae_lowlevel
import vae_numpy
from vae_common.config import RunConfig
from vae_common.spec import VAESpec
from vae_common.weights import PRETRAINED, load_weights
from vae_common.weights_shown import evaluate_weights, layer_by_layer
from vae_measures.held_out import measure

LEVELS = {"level 2": recorder.level2, "level 3": recorder.level3}


def images(kind: str, count: int, digits) -> np.ndarray:
    if kind == "digits":
        return digits.images[:count] / 255
    if kind == "noise":
        return np.random.default_rng(count).random((count, 1, 28, 28))
    return np.full((count, 1, 28, 28), {"all zero": 0.0, "all one": 1.0}[kind])


def same_inputs(weights: str, count: int, kind: str, digits, dtype):
    """Parameters ("initial Z" or "trained Z"), images and noise."""
    start, latent_dim = weights.split()
    if start == "trained":
        params = load_weights(PRETRAINED / f"digits-z{latent_dim}.safetensors")
    else:
        params = VAESpec(int(latent_dim)).init_params(seed=3)
    params = {name: value.astype(dtype) for name, value in params.items()}
    eps = np.random.default_rng(1).standard_normal((count, int(latent_dim)))
    return params, images(kind, count, digits).astype(dtype), eps.astype(dtype)


@pytest.mark.parametrize(
    ("weights", "count", "kind"),
    [
        *(("initial 1", 7, "digits"), ("initial 2", 1, "noise"), ("initial 37", 7, "all zero")),
        ("initial 20", 20, "digits"),
        *(("trained 20", 7, kind) for kind in ("digits", "noise", "all zero", "all one")),
        *(("trained 2", 20, "noise"), ("trained 2", 1, "digits")),
    ],
)
def test_levels_agree_layer_by_layer(weights, count, kind, digits):
    for dtype in (np.float32, np.float64):
        inputs = same_inputs(weights, count, kind, digits, dtype)
        one, errors = recorder.level1(*inputs), recorder.rounding(*inputs, dtype)
        for level, run in LEVELS.items():
            other = run(*inputs)
            assert set(one) == set(other) == set(recorder.QUANTITIES)
            assert recorder.first_difference(one, other, errors) is None, level
            assert {value.dtype for value in other.values()} == {np.dtype(dtype)}
            if dtype is np.float64:
                for name in recorder.QUANTITIES:  # relative to the size of the quantity: single entries may cancel to 0
                    assert np.abs(one[name] - other[name]).max() <= 1e-10 * np.abs(one[name]).max(), (level, name)


def test_gaussian_likelihood_agrees(digits):
    params, x, eps = same_inputs("initial 20", 7, "digits", digits, np.float64)
    one = recorder.level1(params, x, eps, "gaussian")["recon"]
    for run in LEVELS.values():
        np.testing.assert_allclose(run(params, x, eps, "gaussian")["recon"], one, rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool])
def test_level_1_refuses_pixels_that_are_no_floats(dtype):
    with pytest.raises(ValueError, match=f"x must hold floats, images from 0 to 1, got {np.dtype(dtype)}"):
        recorder.level1(VAESpec(2).init_params(0), np.ones((1, 1, 28, 28), dtype), np.zeros((1, 2), np.float32))


def test_rounding_allowance_is_small(digits):
    """The float32 bound would be worthless if it were wide: it stays under 2e-4 of each quantity's size."""
    params, x, eps = same_inputs("trained 20", 64, "digits", digits, np.float32)
    one, errors = recorder.level1(params, x, eps), recorder.rounding(params, x, eps)
    for name in recorder.QUANTITIES:
        assert recorder.allowed(errors[name]).max() < 2e-4 * np.abs(one[name]).max(), name


def test_the_first_layer_that_differs_is_named(digits):
    params, x, eps = same_inputs("initial 20", 3, "digits", digits, np.float32)
    errors, one = recorder.rounding(params, x, eps), recorder.level1(params, x, eps)
    for layer in recorder.LAYERS:
        broken = {name: value.copy() for name, value in params.items()}
        broken[f"{layer}.bias"][0] += 1e-3
        assert recorder.first_difference(one, recorder.level2(broken, x, eps), errors) == layer
        assert recorder.first_difference(one, recorder.level3(broken, x, eps), errors) == layer


def test_compare_levels_prints_ok_or_names_a_broken_layer(monkeypatch, capsys):
    def forgets_output_padding(x, weight, bias, *args, **kwargs):
        y = original(x, weight, bias, *args, **kwargs)
        return y if y.shape[1] == 1 else np.roll(y, 1, axis=3)

    assert compare_levels.main(["--batch-size", "4"]) == 0
    out = capsys.readouterr().out
    assert out.count("OK") == 2 * len(recorder.QUANTITIES) and "DIFFERS" not in out
    original = vae_numpy.conv_transpose2d
    monkeypatch.setattr(vae_numpy, "conv_transpose2d", forgets_output_padding)
    assert compare_levels.main(["--batch-size", "4"]) == 1
    assert "levels 1 and 2 differ: decoder.deconv1" in capsys.readouterr().out


def test_layer_by_layer_is_the_same_network(digits):
    """The walk along the spec's table gives what `encode` and `decode` give."""
    params, x, eps = same_inputs("initial 20", 3, "digits", digits, np.float64)
    primitives = {"conv": vae_numpy.conv2d, "deconv": vae_numpy.conv_transpose2d, "linear": vae_numpy.linear}
    walk = layer_by_layer(params, primitives, vae_numpy.reparameterize, x, eps)
    walked = {layer.name: h for layer, h in walk}
    last = ("decoder.deconv2", "encoder.mu", "encoder.logvar")
    for name, expected in zip(last, vae_numpy.forward(params, x, eps), strict=True):
        np.testing.assert_array_equal(walked[name], expected)


def test_same_held_out_elbo_at_every_level(digits):
    """One split, one seed: the three levels report the same numbers (float32, so equal to its rounding)."""
    data = replace(digits, images=digits.images[:300], labels=digits.labels[:300])
    params, config = VAESpec(2).init_params(0), RunConfig(binarize="dynamic")
    one = evaluate_weights(params, vae_numpy.measure, vae_numpy.pixels, data, config)
    two = vae_lowlevel.evaluate(vae_lowlevel.to_tensors(params), data, config)
    three = measure(recorder.module_with(params), data, config.binarize, config.seed)
    for other in (two, three):
        np.testing.assert_array_equal(other.x, one.x)
        assert other.on == one.on
        np.testing.assert_allclose(other.recon.mean(dtype=float), one.recon.mean(dtype=float), rtol=1e-6)
        np.testing.assert_allclose(other.kl.mean(dtype=float), one.kl.mean(dtype=float), rtol=1e-5)
        np.testing.assert_allclose(other.decode(one.mu[:2]), one.decode(one.mu[:2]), atol=1e-5)


SIZES = st.tuples(st.integers(0, 2), *[st.integers(1, 3)] * 2, *[st.integers(3, 7)] * 2)  # B, C, O, H, W


def drawn(*shapes) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for shape in shapes]


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(1, 3), st.integers(1, 3), st.integers(0, 1))
def test_conv2d_is_that_of_pytorch(size, k, stride, padding):
    B, C, O, H, W = size
    arrays = drawn((B, C, H, W), (O, C, k, k), O)
    expected = F.conv2d(*map(torch.from_numpy, arrays), stride, padding)
    np.testing.assert_allclose(vae_numpy.conv2d(*arrays, stride, padding), expected, rtol=0, atol=1e-13)


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(2, 3), st.integers(1, 3), st.integers(0, 1), st.integers(0, 2))
def test_conv_transpose2d_is_that_of_pytorch(size, k, stride, padding, output_padding):
    B, C, O, H, W = size
    arrays, options = drawn((B, C, H, W), (C, O, k, k), O), (stride, padding, min(output_padding, stride - 1))
    expected = F.conv_transpose2d(*map(torch.from_numpy, arrays), *options)
    np.testing.assert_allclose(vae_numpy.conv_transpose2d(*arrays, *options), expected, rtol=0, atol=1e-13)
