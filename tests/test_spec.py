"""The network that all levels share: its table, its initial weights; and the learning rate they train with."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vae_common import schedule
from vae_common.spec import VAESpec


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


@pytest.mark.parametrize("z", [1, 20, 256])
def test_names_shapes_and_order_are_those_of_torchs_layers(z):
    parts = [(name, module, part) for name, module in torch_layers(z).items() for part in ("weight", "bias")]
    expected = [(f"{name}.{part}", tuple(getattr(module, part).shape)) for name, module, part in parts]
    assert list(VAESpec(z).shapes.items()) == expected
    assert [(name, value.shape) for name, value in VAESpec(z).init_params(0).items()] == expected
    assert [layer.output for layer in VAESpec(z).layers] == [
        (32, 14, 14), (64, 7, 7), (256,), (z,), (z,), (256,), (64, 7, 7), (32, 14, 14), (1, 28, 28),
    ]  # fmt: skip
    assert VAESpec(np.int64(z)).shapes == VAESpec(z).shapes
    assert (VAESpec().latent_dim, VAESpec().parameters) == (20, 1_662_249)


@pytest.mark.parametrize("z", [0, 257, 2.0, True, None])
def test_a_bad_latent_dim_is_refused(z):
    with pytest.raises(ValueError, match=r"latent_dim must be an integer from 1 to 256, got .*\.$"):
        VAESpec(z)


def test_initial_values_are_uniform_within_the_bounds_of_pytorchs_own_default():
    drawn = [VAESpec(2).init_params(seed, np.float64) for seed in range(6)]
    torch.manual_seed(0)
    for name, module in torch_layers(2).items():
        fan_in = nn.init._calculate_fan_in_and_fan_out(module.weight)[0]
        for part in ("weight", "bias"):
            u = np.concatenate([params[f"{name}.{part}"].ravel() for params in drawn]) * math.sqrt(fan_in)
            # Of n uniform draws the largest misses the top third with probability (2/3)^n; the smallest n is 6.
            assert 2 / 3 < np.abs(u).max() <= 1, f"{name}.{part}"
            # E u = 0, Var u = 1/3; E u^2 = 1/3, Var u^2 = 4/45; six standard errors.
            se = u.size**-0.5
            assert abs(u.mean()) < 6 * se * math.sqrt(1 / 3), f"{name}.{part}"
            assert abs((u**2).mean() - 1 / 3) < 6 * se * math.sqrt(4 / 45), f"{name}.{part}"
            assert getattr(module, part).abs().max().item() * math.sqrt(fan_in) < 1 + 1e-6, f"torch's {name}.{part}"
        # Torch's own weights, of which each layer here has at least 288, come as near to the bound.
        assert module.weight.abs().max().item() * math.sqrt(fan_in) > 0.95, name


def test_initial_values_are_a_function_of_the_seed_and_the_same_numbers_in_every_dtype():
    first, double, other = VAESpec(2).init_params(5), VAESpec(2).init_params(5, np.float64), VAESpec(2).init_params(6)
    for name in first:
        assert first[name].dtype == np.float32 and double[name].dtype == np.float64
        assert np.array_equal(first[name], double[name].astype(np.float32)), name
        assert not np.array_equal(first[name], other[name]), name


@pytest.mark.parametrize(
    "step, total, expected",
    [
        (0, 1, 1.0),
        (0, 100, 0.1),  # a tenth of 100 steps warms up
        (40, 100, 0.75),  # cos(pi / 3) = 1/2
        (249, 50_000, 0.5),  # 500 steps at most warm up
        (500, 50_000, 1.0),
        (25_250, 50_000, 0.5),
    ],
)
def test_learning_rate_at_known_steps(step, total, expected):
    assert schedule.learning_rate(step, total, 2e-3) == pytest.approx(2e-3 * expected, rel=1e-12)


@settings(max_examples=30)
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
