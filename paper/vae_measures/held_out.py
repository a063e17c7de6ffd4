"""A model of level 3 measured on a split: the numbers of levels 1 and 2, for every kind of model."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vae_common.config import RunConfig
from vae_common.data import ImageSet, binarize
from vae_common.errors import UsageError
from vae_common.evaluation import chunks, held_out_inputs
from vae_common.randomness import generator
from vae_models.conditional_vae import label_report, log_p_given_each_label
from vae_training import processes


@torch.no_grad()
def measure(model: nn.Module, data: ImageSet, binarization: str, seed: int, batch_size: int = 500):
    """The model's evaluation on `data`, with one sampled z per image and seeded noise.

    Collective: several processes divide the chunks of `batch_size` images, and all know the result.
    """
    model.eval()
    like = next(model.parameters())
    x, eps = held_out_inputs(data, model.latent_shape, binarization, seed)
    parts, pieces = [], list(chunks(len(x), batch_size))
    for chunk in pieces[processes.share(len(pieces))]:
        x_chunk, eps_chunk = torch.from_numpy(x[chunk]).to(like), torch.from_numpy(eps[chunk]).to(like)
        y = torch.from_numpy(data.labels[chunk]).to(like.device) if model.conditional else None
        found = model.evaluate(x_chunk, y, eps_chunk)
        parts.append({name: value.cpu().numpy() for name, value in found.items()})
    parts = processes.gather(parts)
    measured = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return model.evaluation(
        on_arrays(like.device), data=data, binarize=binarization, likelihood=model.likelihood, x=x, eps=eps, **measured
    )


def measured_again(folder: str | Path, config: RunConfig, model: nn.Module, rows: Sequence[Mapping], test: ImageSet):
    """The evaluation of a finished run on the test split; rows: of its metrics.jsonl.

    Raises UsageError unless recon, and what it is on, are what the run has recorded last; 0.1% of recon is left to
    devices that round differently.
    """
    measured = measure(model, test, config.binarize, config.seed)
    row = [row for row in rows if row["split"] == "test"][-1]
    found, recorded = float(measured.recon.mean()), row["recon"]
    as_recorded = all(row[name] == value for name, value in measured.on.items())
    if not (as_recorded and abs(found - recorded) <= 1e-3 * (1 + abs(recorded))):
        raise UsageError(
            f"{folder}: recon is {found:.2f} on {len(measured.x):,} test images, and its metrics.jsonl ends with "
            f"{recorded:.2f}, so the weights or the data are not those of the run; see --data-dir."
        )
    return measured


def on_arrays(device: torch.device) -> Callable[[Callable[..., Tensor]], Callable[..., np.ndarray]]:
    """A function that turns a method of tensors into a function of NumPy arrays, without gradients."""

    def convert(method: Callable[..., Tensor]) -> Callable[..., np.ndarray]:
        @torch.no_grad()
        def of_arrays(*arrays: np.ndarray) -> np.ndarray:
            return method(*(torch.tensor(array, device=device) for array in arrays)).cpu().numpy()

        return of_arrays

    return convert


def posterior_means(model: nn.Module, device: torch.device) -> Callable[[np.ndarray], np.ndarray]:
    """The model's encoder as a function of images float32 (N, 1, 28, 28) in [0, 1] -> mu (N, Z)."""
    model.to(device, torch.float32).eval()
    encode = on_arrays(device)(lambda x: model.encode(x)[0])
    return lambda x: np.concatenate([encode(x[chunk]) for chunk in chunks(len(x), 500)])


def label_worth(
    model: nn.Module,
    data: ImageSet,
    binarization: str,
    seed: int,
    images: int = 500,
    samples: int = 10,
    batch_size: int = 20,
) -> dict[str, float]:
    """`label_report` on the first `images` images, from L_K with K = `samples` seeded draws of z for each label.

    Where q has one code for an image, one draw is all of them.
    """
    samples = samples if model.has_posterior else 1
    like, rng = next(model.parameters()), generator(seed, "evaluation", 1)
    x = binarize(data.images[:images], binarization, rng)
    log_p = []
    for chunk in chunks(len(x), batch_size):
        eps = rng.standard_normal((len(x[chunk]), samples, *model.latent_shape), dtype=np.float32)
        x_chunk, eps = torch.from_numpy(x[chunk]).to(like), torch.from_numpy(eps).to(like)
        log_p.append(log_p_given_each_label(model, x_chunk, eps))
    report = label_report(torch.cat(log_p).cpu(), torch.from_numpy(data.labels[: len(x)]))
    return {**report, "label_images": len(x), "label_samples": samples}
