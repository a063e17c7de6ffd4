"""Gradients and training: level 2 against finite differences of level 1, and levels 2 and 3 against each other."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import recorder
import vae_lowlevel
from vae_common.config import RunConfig
from vae_common.data import ImageSet
from vae_common.spec import VAESpec
from vae_training import trainer

SPEC = VAESpec(3)


@pytest.fixture(scope="module", params=["bernoulli", "gaussian"])
def problem(request, digits):
    """Parameters, images and noise in float64, and the likelihood."""
    x = digits.images[:2].astype(np.float64) / 255
    eps = np.random.default_rng(5).standard_normal((2, 3))
    return SPEC.init_params(seed=2, dtype=np.float64), x, eps, request.param


def level2_gradients(params, x, eps, likelihood) -> dict[str, np.ndarray]:
    tensors = vae_lowlevel.to_tensors(params)
    x = torch.from_numpy(x)
    x_logits, mu, logvar = vae_lowlevel.forward(tensors, x, torch.from_numpy(eps))
    recon, kl = vae_lowlevel.elbo_terms(x, x_logits, mu, logvar, likelihood)
    (recon + kl).mean().backward()
    return {name: tensor.grad.numpy() for name, tensor in tensors.items()}


def shifted_loss(params, x, eps, likelihood, name, index, h) -> tuple[float, np.ndarray]:
    """Level 1's loss with one entry moved by h, and which of its ReLUs are on."""
    params = {**params, name: params[name].copy()}
    params[name][index] += h
    record = recorder.level1(params, x, eps, likelihood)
    on = np.concatenate([record[layer.name].ravel() > 0 for layer in SPEC.layers if layer.relu])
    return (record["recon"] + record["kl"]).mean(), on


def test_all_18_gradients_match_finite_differences_of_level_1(problem):
    """Central differences with the widest step h across which no ReLU switches, so that the loss is smooth between.

    Their error is h^2/6 times the third derivative, kept under 1e-6 of the gradient's size by h <= 1e-4, and the
    rounding of the two losses over 2h, which the rounding analysis of the recorder gives.
    """
    params, x, eps, _ = problem
    gradients = level2_gradients(*problem)
    assert list(gradients) == list(SPEC.shapes)
    errors = recorder.rounding(params, x, eps, np.float64)
    rounding = recorder.allowed(np.sqrt((errors["recon"] ** 2 + errors["kl"] ** 2).sum()) / len(x))
    rng, checked = np.random.default_rng(0), 0
    for name, gradient in gradients.items():
        largest = int(np.abs(gradient).argmax())
        for entry in [largest, *rng.integers(gradient.size, size=3)]:
            index = np.unravel_index(entry, gradient.shape)
            for h in (1e-4, 1e-5, 1e-6, 1e-7):
                (up, on_up), (down, on_down) = (shifted_loss(*problem, name, index, side) for side in (h, -h))
                if (on_up == on_down).all():
                    break
            difference = (up - down) / (2 * h)
            size = max(np.abs(gradient).max(), 1.0)
            assert abs(difference - gradient[index]) <= 1e-6 * size + rounding / (2 * h), (name, index, h)
            checked += h >= 1e-6  # a step so small that rounding drowns the gradient would check nothing
    assert checked >= 0.9 * 4 * len(gradients)


def test_gradients_of_levels_2_and_3_agree(problem):
    params, x, eps, likelihood = problem
    model = recorder.module_with(params, likelihood)
    model.objective(torch.from_numpy(x), None, torch.from_numpy(eps), step=0)["loss"].backward()
    module_gradients = {name: tensor.grad.numpy() for name, tensor in model.named_parameters()}
    gradients = level2_gradients(*problem)
    assert list(module_gradients) == list(gradients)
    for name, gradient in gradients.items():
        assert np.abs(gradient - module_gradients[name]).max() <= 1e-12 * np.abs(gradient).max(), name


STEPS = 10
CONFIG = RunConfig(epochs=1, batch_size=6, lr=1e-3, seed=4, binarize="dynamic")


def some(digits, steps: int = STEPS) -> ImageSet:
    """Images for so many steps of CONFIG; the last batch is smaller."""
    count = steps * CONFIG.batch_size - 2
    return ImageSet("digits", "train", digits.images[:count], digits.labels[:count], digits.class_names)


def train_level2(params, data, config=CONFIG) -> dict[str, np.ndarray]:
    tensors = vae_lowlevel.to_tensors(params)
    optimizer = torch.optim.Adam(tensors.values(), lr=config.lr, fused=True)
    list(vae_lowlevel.train_epoch(tensors, optimizer, data.images, 1, config))
    return vae_lowlevel.to_arrays(tensors)


def train_level3(params, data, config=CONFIG) -> dict[str, np.ndarray]:
    state = trainer.RunState.start(recorder.module_with(params), config)
    trainer.train_epoch(state, data, config, epoch=1)
    assert state.step == STEPS
    return {name: value.numpy() for name, value in state.model.state_dict().items()}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_levels_2_and_3_train_alike(digits, dtype):
    """Ten Adam steps on the same batches, noise and binarization.

    Adam divides a gradient g by sqrt(v) + 1e-8. Where g is far above 1e-8 a relative error in g moves the step by
    as much of lr; where rounding is all there is to g, the whole step of at most lr may differ. In float64 errors of
    1e-13 meet the 1e-8: a step differs by 1e-5 lr at the most. In float32 the share of such entries is bounded below.
    """
    data, lr, params = some(digits), CONFIG.lr, SPEC.init_params(seed=4, dtype=dtype)
    two, three = train_level2(params, data), train_level3(params, data)
    differences = np.concatenate([np.abs(two[name] - three[name]).ravel() for name in two])
    moved = np.concatenate([np.abs(two[name] - params[name]).ravel() for name in two])
    assert moved.max() > 0.25 * STEPS * lr  # it did train
    if dtype == np.float64:
        assert differences.max() <= STEPS * 1e-5 * lr
    else:
        assert differences.max() <= STEPS * 2 * lr
        assert np.quantile(differences, 0.999) <= 1e-2 * lr


def test_batches_and_noise_depend_on_the_seed(digits):
    data, params = some(digits, steps=4), SPEC.init_params(seed=4)
    once, again, other = (train_level2(params, data, replace(CONFIG, seed=seed)) for seed in (4, 4, 5))
    assert all(np.array_equal(once[name], again[name]) for name in params)
    assert np.abs(once["encoder.fc.weight"] - other["encoder.fc.weight"]).max() > 1e-4
