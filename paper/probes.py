"""What the codes are good for: `python paper/probes.py RUN` tells the classes of test images from mu alone.

A linear probe (logistic regression) and the vote of the nearest neighbours are trained on labelled codes, on as many
components of PCA, on the codes of an untrained encoder, and on the pixels themselves. What a code of Z numbers gains
over PCA is what training was worth; what it loses against the pixels is what it left out.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vae_common import cli
from vae_common.data import ImageSet, binarize, generator
from vae_common.measured import PIXELS

MOST, NEIGHBOURS = 5000, 5  # labelled training images at the most; neighbours that vote

Encoder = Callable[[np.ndarray], np.ndarray]  # images float32 (B, 1, 28, 28) in [0, 1] -> mu (B, Z)


def encoders_of(run: str, device: str) -> tuple[Encoder, Encoder]:
    """The run's encoder, and one of the same architecture with seeded initial weights, as functions of arrays.

    Raises UsageError for a model that does not encode an image alone as a vector.
    """
    import torch

    from paper_run import build_model, read_config, read_run

    config, on = read_config(run), cli.torch_device(device)
    if config.model not in ("vae", "ae"):
        raise cli.UsageError(f"{run}: expected a run of --model vae or ae, found {config.model}; name one of those.")

    def encoder(model) -> Encoder:
        model.to(on, torch.float32).eval()

        @torch.no_grad()
        def encode(x: np.ndarray) -> np.ndarray:
            chunks = torch.from_numpy(x).split(500)
            return torch.cat([model.encode(chunk.to(on))[0] for chunk in chunks]).cpu().numpy()

        return encode

    return encoder(read_run(run)[1]), encoder(build_model(config))


def accuracies(codes: np.ndarray, labels: np.ndarray, test_codes: np.ndarray, test_labels: np.ndarray) -> dict:
    """Test accuracy in [0, 1] of logistic regression and of k-NN, from codes (N, K) and labels (N,) of both splits.

    One number scales all K columns: the unit does not matter, and the columns keep their relative sizes.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    mean, unit = codes.mean(axis=0), max(codes.std(axis=0).max(), 1e-12)
    codes, test_codes = (codes - mean) / unit, (test_codes - mean) / unit
    probes = {"linear": LogisticRegression(max_iter=5000), "neighbours": KNeighborsClassifier(NEIGHBOURS)}
    return {name: float(probe.fit(codes, labels).score(test_codes, test_labels)) for name, probe in probes.items()}


def probe(trained: Encoder, untrained: Encoder, train: ImageSet, test: ImageSet, how: str, seed: int) -> dict:
    """Test accuracies by what was looked at, then by probe; trained on the first 5,000 training images."""
    from sklearn.decomposition import PCA

    x = binarize(train.images[:MOST], how, generator(seed, "binarize"))
    x_test = binarize(test.images, how, generator(seed, "evaluation"))
    pixels = x.reshape(len(x), -1)  # (N, 784)
    pca = PCA(min(trained(x[:1]).shape[1], *pixels.shape), random_state=0).fit(pixels)
    views = {
        "mu": trained,
        "mu, untrained": untrained,
        f"PCA, {pca.n_components_}": lambda x: pca.transform(x.reshape(len(x), -1)),
        "pixels, 784": lambda x: x.reshape(len(x), -1),
    }
    labels = train.labels[:MOST]
    return {name: accuracies(view(x), labels, view(x_test), test.labels) for name, view in views.items()}


def table(found: dict) -> str:
    lines = ["  test accuracy           linear  5 neighbours"]
    return "\n".join(lines + [f"  {n:20}  {one['linear']:8.3f}  {one['neighbours']:12.3f}" for n, one in found.items()])


# --- command line -------------------------------------------------------------------------------------------------


def run(args: argparse.Namespace) -> None:
    from paper_run import read_config
    from vae_common.data import load_dataset

    config, encoders = read_config(args.run), encoders_of(args.run, args.device)
    train, test = (load_dataset(config.dataset, split, args.data_dir or config.data_dir) for split in ("train", "test"))
    found = probe(*encoders, train, test, config.binarize, config.seed)
    count = min(MOST, len(train))
    print(f"{test.name}: {count:,} labelled training images, {len(test):,} test images, {PIXELS[config.binarize]}")
    print(table(found))
    about = {"dataset": config.dataset, "binarize": config.binarize, "images": count, "test_images": len(test)}
    cli.write_json(Path(args.run) / "probes.json", {**about, "accuracy": found})


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser("Tell the classes of test images from the codes of a run.", "--data-dir", "--device")
    parser.add_argument("run", metavar="RUN", help="a run folder written by paper/vae_paper.py")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
