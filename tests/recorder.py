"""Every layer's output at every level, and how far rounding alone may drive two levels apart.

The levels carry no tracing. Level 1 and 2 are recorded by wrapping their primitives, level 3 by forward hooks.
"""

from unittest.mock import patch

import numpy as np
import torch

import vae_lowlevel
import vae_numpy
from conv_vae import ConvVAE
from vae_common.spec import VAESpec
from vae_common.weights import latent_dim_of

LAYERS = [layer.name for layer in VAESpec().layers]
QUANTITIES = [*LAYERS[:5], "z", *LAYERS[5:], "recon", "kl"]  # in the order of the data flow


def level1(params, x, eps, likelihood="bernoulli") -> dict[str, np.ndarray]:
    """Run level 1 and record the output of each layer (before its ReLU), z, recon and kl."""
    return _recorded(vae_numpy, params, x, eps, likelihood)


def level2(params, x, eps, likelihood="bernoulli") -> dict[str, np.ndarray]:
    params = vae_lowlevel.to_tensors(params)
    with torch.no_grad():
        record = _recorded(vae_lowlevel, params, torch.from_numpy(x), torch.from_numpy(eps), likelihood)
    return {name: value.numpy() for name, value in record.items()}


def _recorded(level, params, x, eps, likelihood):
    """Run a level with its primitives wrapped; a call is known by the weight that it is given."""
    names = {id(value): name.removesuffix(".weight") for name, value in params.items()}
    record = {}

    def wrap(primitive):
        def wrapped(h, weight, bias, **kwargs):
            record[names[id(weight)]] = output = primitive(h, weight, bias, **kwargs)
            return output

        return wrapped

    primitives = {name: wrap(getattr(level, name)) for name in ("conv2d", "linear", "conv_transpose2d")}
    with patch.multiple(level, **primitives):
        x_logits, mu, logvar = level.forward(params, x, eps)
    record["z"] = level.reparameterize(mu, logvar, eps)
    record["recon"], record["kl"] = level.elbo_terms(x, x_logits, mu, logvar, likelihood)
    return record


def level3(params, x, eps, likelihood="bernoulli") -> dict[str, np.ndarray]:
    model, record = module_with(params, likelihood), {}
    for name in LAYERS:
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: record.__setitem__(name, output)
        )
    x, eps = torch.from_numpy(x), torch.from_numpy(eps)
    with torch.no_grad():
        x_logits, mu, logvar = model(x, eps)
        record["z"] = model.reparameterize(mu, logvar, eps)
        record["recon"], record["kl"] = model.elbo_terms(x, x_logits, mu, logvar)
    return {name: value.numpy() for name, value in record.items()}


def module_with(params, likelihood="bernoulli") -> ConvVAE:
    """Level 3's module with these parameters and their dtype."""
    dtype = torch.from_numpy(params["encoder.mu.bias"]).dtype
    model = ConvVAE(VAESpec(latent_dim_of(params)), likelihood).to(dtype)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in params.items()})
    return model


# --- how far rounding may drive two levels apart -------------------------------------------------------------------

LIMIT = 5  # standard deviations; the largest seen over all tests is below 2


def rounding(params, x, eps, dtype=np.float32) -> dict[str, np.ndarray]:
    """The standard deviation of the rounding error of each quantity, element by element, for a forward in `dtype`.

    A sum of n products carries an error of about sqrt(n) u sum |w x| (Higham & Mary 2019, "A new approach to
    probabilistic rounding error analysis", thm 3.1: roundings are independent with mean zero), and passes on the
    errors of its inputs in quadrature. Nonlinear steps pass errors on by their derivative. All computed in float64.
    """
    unit = np.finfo(dtype).eps / 2
    params = {name: value.astype(np.float64) for name, value in params.items()}
    exact = level1(params, x := x.astype(np.float64), eps := eps.astype(np.float64))
    primitive = {"conv": vae_numpy.conv2d, "deconv": vae_numpy.conv_transpose2d, "linear": vae_numpy.linear}
    errors, inputs = {"x": np.zeros_like(x)}, {"x": x, "z": exact["z"]}
    for layer in VAESpec(latent_dim_of(params)).layers:
        if layer.name == "decoder.fc1":
            std = np.exp(0.5 * exact["encoder.logvar"])
            spread = np.stack([errors["encoder.mu"], 0.5 * std * eps * errors["encoder.logvar"], unit * exact["z"]])
            errors["z"] = np.sqrt((spread**2).sum(axis=0) + (2 * unit * std * eps) ** 2)
        weight, bias = params[f"{layer.name}.weight"], params[f"{layer.name}.bias"]
        h, error = inputs[layer.reads], errors[layer.reads]
        if layer.kind == "linear":
            h, error = h.reshape(len(h), -1), error.reshape(len(h), -1)
        terms = np.prod(weight.shape[1:]) if layer.kind != "deconv" else weight.shape[0] * 9
        size = primitive[layer.kind](np.abs(h), np.abs(weight), np.abs(bias))
        passed_on = primitive[layer.kind](error**2, weight**2, np.zeros_like(bias))
        errors[layer.name] = np.sqrt(passed_on + terms * (unit * size) ** 2)
        out = np.maximum(exact[layer.name], 0) if layer.relu else exact[layer.name]
        inputs[layer.name], errors[layer.name] = (
            value.reshape(len(out), *layer.output) for value in (out, errors[layer.name])
        )
    x_logits, mu, logvar = exact["decoder.deconv2"], exact["encoder.mu"], exact["encoder.logvar"]
    slope = vae_numpy.sigmoid(x_logits) - x
    terms = np.maximum(x_logits, 0) + np.abs(x_logits * x) + np.log1p(np.exp(-np.abs(x_logits)))
    passed_on = ((slope * errors["decoder.deconv2"]) ** 2).sum(axis=(1, 2, 3))
    errors["recon"] = np.sqrt(passed_on + 784 * (unit * terms.sum(axis=(1, 2, 3))) ** 2)
    passed_on = (mu * errors["encoder.mu"]) ** 2 + (0.5 * np.expm1(logvar) * errors["encoder.logvar"]) ** 2
    terms = mu**2 + np.abs(np.expm1(logvar)) + np.abs(logvar)
    errors["kl"] = np.sqrt(passed_on.sum(axis=1) + (mu.shape[1] + 4) * (unit * terms.sum(axis=1)) ** 2)
    return errors


def allowed(error: np.ndarray) -> np.ndarray:
    """The largest difference that rounding explains; both sides are rounded, hence the sqrt(2)."""
    return LIMIT * 2**0.5 * error


def first_difference(one: dict, other: dict, errors: dict) -> str | None:
    """The first quantity, in the order of the data flow, that differs by more than rounding explains, or None.

    A NaN differs from everything.
    """
    for name in QUANTITIES:
        difference = np.abs(one[name].astype(np.float64) - other[name])
        if not (difference <= allowed(errors[name]).reshape(difference.shape)).all():
            return name
    return None
