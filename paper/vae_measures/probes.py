"""What the codes are good for: predicting the classes of test images from mu alone.

A linear probe (logistic regression) and the vote of the nearest neighbours are trained on labelled codes, on as many
components of PCA, on the codes of an untrained encoder, and on the pixels themselves. What a code of Z numbers gains
over PCA is what training was worth; what it loses against the pixels is what it left out.
"""

from collections.abc import Callable

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from vae_common.data import ImageSet, binarize
from vae_common.randomness import generator

MOST, NEIGHBOURS = 5000, 5  # labelled training images at the most; neighbours that vote

Encoder = Callable[[np.ndarray], np.ndarray]  # images float32 (B, 1, 28, 28) in [0, 1] -> mu (B, Z)


def accuracies(codes: np.ndarray, labels: np.ndarray, test_codes: np.ndarray, test_labels: np.ndarray) -> dict:
    """Test accuracy in [0, 1] of logistic regression and of k-NN, from codes (N, K) and labels (N,) of both splits.

    One number scales all K columns: the unit does not matter, and the columns keep their relative sizes.
    """
    mean, unit = codes.mean(axis=0), max(codes.std(axis=0).max(), 1e-12)
    codes, test_codes = (codes - mean) / unit, (test_codes - mean) / unit
    probes = {"linear": LogisticRegression(max_iter=5000), "neighbours": KNeighborsClassifier(NEIGHBOURS)}
    return {name: float(probe.fit(codes, labels).score(test_codes, test_labels)) for name, probe in probes.items()}


def probe(trained: Encoder, untrained: Encoder, train: ImageSet, test: ImageSet, binarization: str, seed: int) -> dict:
    """Test accuracies by what was looked at, then by probe; trained on the first 5,000 training images."""
    x = binarize(train.images[:MOST], binarization, generator(seed, "binarize"))
    x_test = binarize(test.images, binarization, generator(seed, "evaluation"))
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
    """The accuracies as lines of text."""
    lines = ["  test accuracy           linear  5 neighbours"]
    return "\n".join(lines + [f"  {n:20}  {one['linear']:8.3f}  {one['neighbours']:12.3f}" for n, one in found.items()])
