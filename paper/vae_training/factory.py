"""The one place that knows which model a configuration means."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from conv_vae import ConvVAE, Decoder, Encoder
from vae_common.config import RunConfig
from vae_common.spec import VAESpec
from vae_models.autoencoder import Autoencoder
from vae_models.beta_vae import BetaVAE, KLWeight
from vae_models.code_prior import CodePrior
from vae_models.conditional_vae import ConditionalVAE
from vae_models.factor_vae import FactorVAE
from vae_models.flow_prior import FlowPrior
from vae_models.iwae import IWAE, ManySampleVAE
from vae_models.learned_prior import MixturePrior, PriorIWAE, PriorVAE, VampPrior
from vae_models.linear_vae import LinearVAE
from vae_models.masked_decoder import MaskedVAE
from vae_models.mlp import LINEAR, MLPDecoder, MLPEncoder
from vae_models.total_correlation import TCVAE
from vae_models.vq_vae import VQVAE
from vae_models.wide_decoder import WideDecoder
from vae_training import processes

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}
PRIORS = {"mixture": MixturePrior, "vamp": VampPrior, "flow": FlowPrior}  # each built from latent_dim


def build_model(config: RunConfig, images: int = 1) -> nn.Module:
    """The model that `config`, settled, describes, with seeded initial weights.

    images: how many it will be trained on, which schedules and estimates of q(z) need. A network of the spec starts
    from the spec's weights, as levels 1 and 2 do.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = _construct(config, images)
    if hasattr(model, "spec") and model.spec.shapes.items() <= shapes_of(model).items():
        start = {name: torch.from_numpy(value) for name, value in model.spec.init_params(config.seed).items()}
        model.load_state_dict(start, strict=False)  # a learned prior keeps its own
    return model


def build_prior(config: RunConfig, model: nn.Module) -> CodePrior | None:
    """The prior over the codes of a trained VQ-VAE, with seeded initial weights; None where none is to be learned."""
    if config.model != "vqvae":
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return CodePrior(model, classes=len(config.class_names) if config.prior_labels else 0)


def _construct(config: RunConfig, images: int) -> nn.Module:
    if config.model == "vqvae":
        shared = {"batch_mean": processes.batch_mean, "batch_rows": processes.batch_rows}
        own = {"levels": config.levels, "code_gradient": config.code_gradient, "codebook": config.codebook}
        return VQVAE(config.codes, likelihood=config.likelihood, **own, **shared)
    spec, architecture = VAESpec(config.latent_dim), _architecture(config)
    if config.model == "cvae":
        return ConditionalVAE(spec, config.likelihood, classes=len(config.class_names))
    if config.model == "ae":
        return Autoencoder(spec, config.likelihood, architecture)
    ramp = config.anneal_epochs * math.ceil(images / config.batch_size)
    kl_weight = KLWeight(config.beta, config.anneal, ramp, config.free_bits, config.capacity, config.free_nats)
    weighted = {"kl_weight": kl_weight, "batch_mean": processes.batch_mean}
    if config.prior != "normal":
        prior = PRIORS[config.prior](config.latent_dim)
        if config.importance_samples > 1:
            return PriorIWAE(spec, config.likelihood, architecture, samples=config.importance_samples, prior=prior)
        return PriorVAE(spec, config.likelihood, architecture, prior=prior, **weighted)
    if config.tc_weight > 0:
        weight = {"tc_weight": config.tc_weight}
        if config.tc_estimate == "discriminator":
            return FactorVAE(spec, config.likelihood, architecture, **weight)
        return TCVAE(spec, config.likelihood, architecture, estimate=config.tc_estimate, images=images, **weight)
    if config.importance_samples > 1:
        return IWAE(spec, config.likelihood, architecture, samples=config.importance_samples)
    if config.mc_samples > 1:
        return ManySampleVAE(spec, config.likelihood, architecture, samples=config.mc_samples)
    if config.architecture == "linear":
        return LinearVAE(spec, config.likelihood, **weighted)
    if config.architecture == "masked":
        return MaskedVAE(spec, config.likelihood, **weighted)
    if kl_weight == KLWeight(ramp=ramp):
        return ConvVAE(spec, config.likelihood, architecture)
    return BetaVAE(spec, config.likelihood, architecture, **weighted)


def _architecture(config: RunConfig) -> tuple[Callable[[int], nn.Module], Callable[[int], nn.Module]]:
    """The encoder and the decoder, each built from latent_dim."""
    if config.architecture == "mlp":
        layers = {"hidden": config.hidden, "activation": ACTIVATIONS[config.activation]}
        return partial(MLPEncoder, **layers), partial(MLPDecoder, **layers)
    if config.architecture == "wide":
        return Encoder, WideDecoder
    return LINEAR if config.architecture == "linear" else (Encoder, Decoder)


def follows_spec(model: nn.Module) -> bool:
    """Whether the model's weights are those of the spec, which levels 1 and 2 read too."""
    return hasattr(model, "spec") and shapes_of(model) == model.spec.shapes


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the model's weights."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def load_arrays(model: nn.Module, params: dict[str, np.ndarray]) -> None:
    """Put arrays into the model; names and shapes must be those of its state_dict."""
    model.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in params.items()})
