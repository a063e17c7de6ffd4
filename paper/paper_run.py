"""A run of level 3: from settings to a model, from a model to its measurement, from a run folder back to both."""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from conv_vae import ConvVAE
from vae_common.cli import UsageError
from vae_common.data import ImageSet, binarize, generator
from vae_common.measured import Measured
from vae_common.spec import VAESpec
from vae_common.weights import load_weights


def build_model(config: argparse.Namespace, params: dict[str, np.ndarray] | None = None) -> ConvVAE:
    """The model that `config` (the parsed flags) describes, with `params` or else the spec's seeded weights."""
    spec = VAESpec(config.latent_dim)
    model = ConvVAE(spec, config.likelihood)
    params = params or spec.init_params(config.seed)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in params.items()})
    return model


@torch.no_grad()
def measure(model: ConvVAE, data: ImageSet, config: argparse.Namespace, batch_size: int = 500) -> Measured:
    """The held-out ELBO's terms, with one sampled z per image and seeded noise: the numbers of levels 1 and 2."""
    model.eval()
    device = next(model.parameters()).device
    rng = generator(config.seed, "evaluation")
    x = binarize(data.images, config.binarize, rng)
    eps = rng.standard_normal((len(x), model.spec.latent_dim), dtype=np.float32)
    parts = []
    for start in range(0, len(x), batch_size):
        chunk = slice(start, start + batch_size)
        x_chunk, eps_chunk = torch.from_numpy(x[chunk]).to(device), torch.from_numpy(eps[chunk]).to(device)
        x_logits, mu, logvar = model(x_chunk, eps_chunk)
        parts.append((*model.elbo_terms(x_chunk, x_logits, mu, logvar, config.likelihood), mu, logvar))
    recon, kl, mu, logvar = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))

    @torch.no_grad()
    def decode_pixels(z: np.ndarray) -> np.ndarray:
        return torch.sigmoid(model.decode(torch.from_numpy(z).to(device))).cpu().numpy()

    return Measured(data, x, eps, recon, kl, mu, logvar, decode_pixels)


def read_config(folder: str | Path) -> argparse.Namespace:
    """The settings of a run of level 3; raises UsageError when the folder holds none that can be read."""
    path = Path(folder) / "config.json"
    try:
        config = argparse.Namespace(**json.loads(path.read_text()))
        if config.level != "paper":
            raise ValueError(f"it is a run of level {config.level!r}")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise _no_run(path, "the settings of a run of paper/vae_paper.py", error) from error
    return config


def read_run(folder: str | Path) -> tuple[argparse.Namespace, ConvVAE, list[dict]]:
    """A finished run of level 3 -> its settings, its model on the CPU, the rows of its metrics.jsonl.

    Raises UsageError when the folder does not hold such a run, WeightsError when its weights cannot be used.
    """
    config, path = read_config(folder), Path(folder) / "metrics.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise _no_run(path, "the metrics of a finished run", error) from error
    return config, build_model(config, load_weights(Path(folder) / "weights.safetensors", config.latent_dim)), rows


def _no_run(path: Path, wanted: str, error: Exception) -> UsageError:
    reason = getattr(error, "strerror", None) or str(error)
    return UsageError(f"{path}: expected {wanted}, found none that can be read ({reason}); name a run folder.")
