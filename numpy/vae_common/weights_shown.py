"""What level 1 does with trained weights: measure them on a test split, follow one image through the network, draw."""

import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from vae_common.config import RunConfig
from vae_common.data import ImageSet
from vae_common.evaluation import Evaluation, evaluate
from vae_common.plots.run_pictures import draw_level_1
from vae_common.run_folder import make_run_folder, write_metrics
from vae_common.spec import Layer, VAESpec, shape_text
from vae_common.weights import chosen_weights, latent_dim_of

Params = Mapping[str, np.ndarray]
Function = Callable[..., np.ndarray]


def show_weights(
    config: RunConfig,
    measure: Callable[..., tuple[np.ndarray, ...]],
    pixels: Function,
    primitives: Mapping[str, Function],
    reparameterize: Function,
) -> None:
    """Carry out numpy/vae_numpy.py with the functions of the model, as that file defines them."""
    start = time.perf_counter()
    params, plane = chosen_weights(config.weights, config.latent_dim)
    test = config.load("test")
    folder = make_run_folder(config, "numpy")
    print(VAESpec(latent_dim_of(params)).summary())
    measured = evaluate_weights(params, measure, pixels, test, config)
    follow_first_image(params, primitives, reparameterize, measured)
    write_metrics(folder / "metrics.jsonl", [measured.row(0, time.perf_counter() - start)])
    print(f"wrote {folder / 'metrics.jsonl'}\n\n{measured.summary()}")
    of_plane = evaluate_weights(plane, measure, pixels, test, config) if plane is not None else None
    draw_level_1(folder, measured, of_plane, config.seed)


def evaluate_weights(
    params: Params, measure: Callable[..., tuple[np.ndarray, ...]], pixels: Function, data: ImageSet, config: RunConfig
) -> Evaluation:
    """The held-out ELBO of `params`, with one sampled z per image and seeded noise."""

    def terms(x: np.ndarray, eps: np.ndarray) -> tuple[np.ndarray, ...]:
        return measure(params, x, eps, config.likelihood)

    return evaluate(terms, lambda z: pixels(params, z), data, latent_dim_of(params), config, config.batch_size)


def layer_by_layer(
    params: Params,
    primitives: Mapping[str, Function],
    reparameterize: Function,
    x: np.ndarray,
    eps: np.ndarray,
) -> Iterator[tuple[Layer, np.ndarray]]:
    """Each layer of the spec with its output, after its ReLU where it has one, for images x (B, 1, 28, 28).

    primitives: what computes a layer of kind "conv", "deconv" and "linear", each called with (h, weight, bias).
    """
    outputs = {"x": x}
    for layer in VAESpec(latent_dim_of(params)).layers:
        h = outputs[layer.reads]
        h = h.reshape(len(h), -1) if layer.kind == "linear" else h
        h = primitives[layer.kind](h, params[f"{layer.name}.weight"], params[f"{layer.name}.bias"])
        h = (np.maximum(h, 0) if layer.relu else h).reshape(len(h), *layer.output)
        outputs[layer.name] = h
        if layer.name == "encoder.logvar":
            outputs["z"] = reparameterize(outputs["encoder.mu"], outputs["encoder.logvar"], eps)
        yield layer, h


def follow_first_image(
    params: Params,
    primitives: Mapping[str, Function],
    reparameterize: Function,
    measured: Evaluation,
) -> None:
    """Print what happens to the first image of an evaluation on its way through the network."""
    x, eps, mu, std = measured.x[:1], measured.eps[:1], measured.mu[0], measured.std[0]
    label = measured.data.class_names[measured.data.labels[0]]
    print(f"\nOne image (a {label}) on its way through the network")
    print(f"{'layer':<17}{'output':<18}{'min':>9}{'mean':>9}{'max':>9}{'zeros':>8}")
    layers = layer_by_layer(params, primitives, reparameterize, x, eps)
    for name, h in [("x", x), *((layer.name, h) for layer, h in layers)]:
        numbers = f"{h.min():>9.3f}{h.mean():>9.3f}{h.max():>9.3f}{(h == 0).mean():>8.0%}"
        print(f"{name:<17}{shape_text(h.shape):<18}{numbers}")
    for name, vector in (("mu", mu), ("std", std), ("eps", eps[0]), ("z = mu + std*eps", measured.z[0])):
        more = " ..." if len(vector) > 8 else ""
        print(f"{name:<17}" + " ".join(f"{number:7.3f}" for number in vector[:8]) + more)
    recon, kl = measured.recon[0], measured.kl[0]
    print(f"recon {recon:.2f} + kl {kl:.2f} = -elbo {recon + kl:.2f} nats")
