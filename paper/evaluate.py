"""Measure a finished run again: its elbo, and the likelihood of its test images by importance weighting.

`python paper/evaluate.py RUN --importance-samples K` draws K latent codes for each test image from q(z|x) and averages
their weights inside the logarithm: L_K, which lies between the elbo and log p(x) and rises with K (Burda, Grosse &
Salakhutdinov 2016, theorem 1). -L_K is reported as nll, an upper bound that is close for large K.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vae_common import cli

SAMPLES = (1, 5, 50, 500, 5000)  # the K for which L_K is shown, as far as they divide the number of samples drawn
GROUP, DECODED_AT_ONCE = 100, 2000  # images, and latent codes: they bound the memory for any K and any N


def log_weights_of(model, data, config: argparse.Namespace, samples: int) -> Iterator[np.ndarray]:
    """log w_k of each test image, (G, K) float64, group by group.

    Each image has a noise stream of its own, so the numbers do not depend on how the work is cut up, and the first k
    samples are the same for any K >= k.
    """
    import torch

    from conditional_vae import ConditionalVAE
    from iwae import sample_terms
    from vae_common.data import binarize, generator

    like, latent_dim = next(model.parameters()), model.spec.latent_dim
    x = binarize(data.images, config.binarize, generator(config.seed, "evaluation"))
    for start in range(0, len(x), GROUP):
        index = np.arange(start, min(start + GROUP, len(x)))
        streams = [generator(config.seed, "importance", int(image)) for image in index]
        x_group = torch.from_numpy(x[index]).to(like)
        y = (torch.from_numpy(data.labels[index]).to(like.device),) if isinstance(model, ConditionalVAE) else ()
        parts, drawn = [], 0
        while drawn < samples:
            count = min(samples - drawn, max(1, DECODED_AT_ONCE // len(index)))
            eps = np.stack([stream.standard_normal((count, latent_dim), dtype=np.float32) for stream in streams])
            with torch.no_grad():
                _, _, log_w = sample_terms(model, x_group, torch.from_numpy(eps).to(like), *y)
            parts.append(log_w.double().cpu().numpy())
            drawn += count
        yield np.concatenate(parts, axis=1)


def importance_bounds(log_w: np.ndarray, k: int) -> np.ndarray:
    """log_w (N, K) -> (N,): L_k of each image, the mean over the K // k disjoint sets of k samples."""
    sets = log_w[:, : log_w.shape[1] // k * k].reshape(len(log_w), -1, k)
    return (np.logaddexp.reduce(sets, axis=2) - np.log(k)).mean(axis=1)


def run(args: argparse.Namespace) -> None:
    import torch
    from tqdm import tqdm

    from autoencoder import Autoencoder
    from paper_run import measure, read_run
    from vae_common.data import load_dataset

    device = cli.torch_device(args.device)
    config, model, _ = read_run(args.run)
    if isinstance(model, Autoencoder):
        raise cli.UsageError(f"{args.run}: an autoencoder has no likelihood to measure; name a run of another model.")
    data = load_dataset(config.dataset, "test", args.data_dir or config.data_dir)
    model.to(device, torch.float32)

    measured = measure(model, data, config)
    print(measured.summary(config))
    print(measured.collapse())
    groups = log_weights_of(model, data, config, args.importance_samples)
    bar = tqdm(groups, "importance weighting", -(-len(data) // GROUP), disable=None, leave=False)
    shown = sorted({k for k in SAMPLES if k < args.importance_samples} | {args.importance_samples})
    parts = [[importance_bounds(log_w, k) for k in shown] for log_w in bar]
    bounds = dict(zip(shown, np.concatenate(parts, axis=1), strict=True))
    given = " given its label" if measured.conditional else ""
    print(f"\nlower bounds of log p(x){given}, nats per image (standard error over the images)")
    for k, bound in bounds.items():
        print(f"  L_{k:<5} {bound.mean():9.2f}  ({bound.std() / len(bound) ** 0.5:.2f})")
    evaluation = {
        **measured.evaluation(config),
        "nll": -float(bounds[args.importance_samples].mean()),
        "importance_samples": args.importance_samples,
        "importance_bounds": {str(k): float(bound.mean()) for k, bound in bounds.items()},
    }
    cli.write_json(Path(args.run) / "evaluation.json", evaluation)


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__.splitlines()[0], "--data-dir", "--device")
    parser.add_argument("run", metavar="RUN", help="a run folder written by paper/vae_paper.py")
    parser.add_argument(
        "--importance-samples", type=cli.whole(1, 10**6), default=500, metavar="K", help="z per image (default 500)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
