"""Every model of the factory: what it is called, what it takes and answers, and the scale of its loss."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from vae_common.config import RunConfig
from vae_common.data import ImageSet
from vae_measures.held_out import measure
from vae_training.factory import build_model, build_prior

Z, STEP, STEPS_PER_EPOCH, FLOOR = 3, 7, 10, 50.0
RAMP = RunConfig().epochs / 2 * STEPS_PER_EPOCH


def weighed(beta: float):
    return lambda t: t["recon"] + beta * t["kl"]


def floor(nats: float):
    return lambda t: t["recon"] + nats


# name -> its settings, its title, and the loss that its reported terms make at step STEP
FLOW, CODES = {"prior": "flow"}, {"model": "vqvae", "codes": 16}
MODELS = {
    "vae": ({}, "VAE", weighed(1)),
    "wide": ({"architecture": "wide"}, "VAE", weighed(1)),
    "mlp": ({"architecture": "mlp"}, "VAE", weighed(1)),
    "linear": ({"architecture": "linear", "likelihood": "gaussian"}, "linear VAE", weighed(1)),
    "beta": ({"beta": 4.0}, "beta-VAE, beta = 4", weighed(4)),
    "annealed": ({"anneal": "linear"}, "beta-VAE, linear annealing", weighed(STEP / RAMP)),
    "free bits": ({"free_bits": FLOOR}, "beta-VAE, free bits 50", floor(Z * FLOOR)),
    "free nats": ({"free_nats": FLOOR}, "beta-VAE, free nats 50", floor(FLOOR)),
    "masked": ({"architecture": "masked", "free_nats": FLOOR}, "VAE with a masked decoder, free nats 50", floor(FLOOR)),
    "capacity": (
        {"capacity": 5.0},
        "beta-VAE, beta = 10, capacity 5",
        lambda t: t["recon"] + 10 * abs(t["kl"] - 5 * STEP / RAMP),
    ),
    "iwae": ({"importance_samples": 4}, "IWAE, K = 4", lambda t: -t["bound"]),
    "mixture": ({"prior": "mixture", "beta": 4.0}, "beta-VAE, beta = 4 with a mixture prior", weighed(4)),
    "vamp": ({"prior": "vamp", "free_nats": FLOOR}, "beta-VAE, free nats 50 with a VampPrior", floor(FLOOR)),
    "flow": (FLOW, "VAE with a flow prior", weighed(1)),
    "iwae, flow": ({**FLOW, "importance_samples": 4}, "IWAE, K = 4 with a flow prior", lambda t: -t["bound"]),
    "tcvae": ({"tc_weight": 5.0}, "beta-TCVAE, beta = 6", lambda t: t["recon"] + t["kl"] + 5 * t["tc"]),
    "factor vae": (
        {"tc_weight": 5.0, "tc_estimate": "discriminator"},
        "FactorVAE, gamma = 5",
        lambda t: t["recon"] + t["kl"] + 5 * t["tc"] + t["discriminator"],
    ),
    "many samples": ({"mc_samples": 4}, "VAE, 4 samples", weighed(1)),
    "cvae": ({"model": "cvae"}, "Conditional VAE", weighed(1)),
    "ae": ({"model": "ae"}, "Autoencoder", lambda t: t["recon"]),
    "vqvae": (CODES, "VQ-VAE", lambda t: t["recon"] + 0.25 * t["commitment"]),
    "vqvae by gradients": ({**CODES, "codebook": "gradient"}, "VQ-VAE", lambda t: t["recon"] + 1.25 * t["commitment"]),
    "vqvae on a grid": ({"model": "vqvae", "levels": (4, 4)}, "VQ-VAE", lambda t: t["recon"]),
    "prior of codes, given the label": ({**CODES, "prior_labels": True}, "VQ-VAE", lambda t: t["nats"]),
    "prior of codes": (CODES, "VQ-VAE", lambda t: t["nats"]),
}


def built(name: str) -> nn.Module:
    config = RunConfig(**{"latent_dim": Z, **MODELS[name][0]}).settled()
    model = build_model(config, STEPS_PER_EPOCH * config.batch_size)
    return (build_prior(config, model) if name.startswith("prior of codes") else model).eval()


def numbers(terms: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: term.item() for name, term in terms.items()}


@pytest.fixture(params=MODELS)
def case(request, digits):
    """The model's name, the model in float64, and images, labels and noise for its objective."""
    model = built(request.param).double()
    x, y = torch.from_numpy(digits.images[:5] / 255), torch.from_numpy(digits.labels[:5])
    eps = np.random.default_rng(0).standard_normal((5, *model.noise_shape))
    return request.param, model, x, y, torch.from_numpy(eps)


def test_terms_are_means_over_the_batch_and_the_loss_is_made_of_them(case):
    """A batch given twice over has the same terms, but in what a batch shuffled in itself has to say. elbo has the KL
    once, whatever the loss makes of it."""
    name, model, x, y, eps = case
    terms = numbers(model.objective(x, y, eps, STEP))
    twice = numbers(model.objective(*(value.repeat(2, *[1] * (value.ndim - 1)) for value in (x, y, eps)), STEP))
    same = [term for term in terms if name != "factor vae" or term not in ("discriminator", "loss")]
    assert {term: twice[term] for term in same} == pytest.approx({term: terms[term] for term in same}, rel=1e-11)
    assert list(terms)[-1] == "loss"
    assert (numbers(model.objective(x, None, eps, STEP)) == terms) is not model.conditional
    assert terms["loss"] == pytest.approx(MODELS[name][2](terms), rel=1e-12)
    if "elbo" in terms:
        assert terms["elbo"] == pytest.approx(-(terms["recon"] + terms["kl"]), rel=1e-12)


def test_terms_are_sums_over_one_image_and_those_that_are_measured(case):
    """The terms are the means of `evaluate`, which has a row for each image, on the same noise."""
    _, model, x, y, eps = case
    rows = model.evaluate(x, y, torch.zeros(5, *model.latent_shape, dtype=x.dtype))
    assert {len(values) for values in rows.values()} == {5}
    alone = model.evaluate(x[2:3], y[2:3], torch.zeros(1, *model.latent_shape, dtype=x.dtype))
    for name, values in rows.items():
        torch.testing.assert_close(alone[name][0], values[2], rtol=1e-11, atol=1e-12)
    terms = model.objective(x, y, torch.zeros_like(eps), STEP)
    for name, row in {"recon": "recon", "kl": "kl", "nats": "prior_nats"}.items():
        if name in terms and row in rows:
            torch.testing.assert_close(terms[name], rows[row].mean(), rtol=1e-11, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_asked_of_every_model_is_answered(name, digits):
    model = built(name)
    assert model.title == MODELS[name][1]
    data = ImageSet("digits", "test", digits.images[:20], digits.labels[:20], digits.class_names)
    measured = measure(model, data, "none", seed=0, batch_size=8)
    row, results = measured.row(3, 1.0), measured.results()
    assert (row["epoch"], row["split"], results["images"]) == (3, "test", 20)
    assert row["recon"] == results["recon"] == pytest.approx(measured.recon.mean(), rel=1e-6)
    assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
    assert "20 images, grey pixels" in measured.summary() and measured.collapse()
    for term, places in dict(recon=2, kl=2, elbo=2, elbo_uniform=2, mse=5, perplexity=1).items():
        assert term not in results or f"{results[term]:.{places}f}" in measured.summary(), term
    if "mse" in row:
        x_hat = measured.decode(measured.codes if "codes" in row else measured.mu)
        assert row["mse"] == results["mse"] == pytest.approx(((x_hat - measured.x) ** 2).mean(), rel=1e-5)
    assert "codes" not in row or (row["codes"], results["kl_uniform"]) == (16, 49 * math.log(16))
    if model.has_posterior:
        assert measured.mu.shape == measured.logvar.shape == (20, Z)
        if measured.prior_codes is None:
            np.testing.assert_allclose(measured.kl_per_dim.sum(), measured.kl.mean(), rtol=1e-5)
    if model.has_prior and not name.startswith("vqvae"):  # those have one once it is trained
        drawn = measured.prior_samples(np.random.default_rng(0), np.arange(4))
        assert drawn.shape == (4, 1, 28, 28) and drawn.min() >= 0 and drawn.max() <= 1


@pytest.mark.parametrize(("hidden", "activation"), [((5,), "tanh"), ((7, 4, 3), "relu")])
def test_fully_connected_layers_have_the_widths_they_were_given(hidden, activation, digits):
    """Against a forward pass in NumPy, float64: sums of at most 784 terms."""
    config = RunConfig(architecture="mlp", latent_dim=Z, hidden=hidden, activation=activation).settled()
    model = build_model(config).double()
    arrays = [value.numpy() for value in model.state_dict().values()]
    weights = [(weight, bias) for weight, bias in zip(arrays[::2], arrays[1::2], strict=True)]
    widths = [784, *hidden]
    shapes = [*zip(widths[1:], widths, strict=False), (Z, hidden[-1]), (Z, hidden[-1])]
    shapes += [*zip([*reversed(hidden), 784], [Z, *reversed(hidden)], strict=True)]
    assert [weight.shape for weight, _ in weights] == shapes

    after = {"tanh": np.tanh, "relu": lambda h: np.maximum(h, 0)}[activation]
    layers = iter(weights)
    x = h = (digits.images[:3] / 255).reshape(3, 784)
    for _ in hidden:
        weight, bias = next(layers)
        h = after(h @ weight.T + bias)
    (mu, logvar), z = (h @ weight.T + bias for weight, bias in (next(layers), next(layers))), np.full((3, Z), 0.5)
    h = z
    for _ in hidden:
        weight, bias = next(layers)
        h = after(h @ weight.T + bias)
    weight, bias = next(layers)
    expected = mu, logvar, (h @ weight.T + bias).reshape(3, 1, 28, 28)
    with torch.no_grad():
        found = *model.encode(torch.from_numpy(x).view(3, 1, 28, 28)), model.decode(torch.from_numpy(z))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-12, atol=1e-13)
