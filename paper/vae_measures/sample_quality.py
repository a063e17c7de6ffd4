"""How good samples of the prior are, seen by a classifier of this project's own, and whether they are copies.

The classifier is trained in the run, on the run's own data, and its 128 features stand in for an eye: which classes the
samples show and how confidently, and how far their features are from those of test images. That distance has the form
of the FID of Heusel et al. 2017, but neither its network nor its unit: it is comparable only within one classifier, so
two others are measured with it, of training images (as good as a sample can be) and of noise.

Copies are looked for in pixels. A test image is no copy, so where samples are nearer to the training images than to the
test images, more often than chance has it, the model has memorised images.

Axes: N images, D features, C classes.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from vae_common.data import ImageSet, binarize
from vae_common.evaluation import chunks
from vae_common.randomness import batches, generator

SAMPLES, EPOCHS = 2000, 3  # samples of the prior and images beside them; passes that train the classifier
CONFIDENT = 0.9  # a sample is recognised with confidence when the likeliest class has at least this probability
PAIRS_AT_ONCE = 8_000_000  # squared distances in memory at one time (32 MB)
TOLERATED = 4  # standard errors

# --- the classifier -----------------------------------------------------------------------------------------------


class Classifier(nn.Module):
    """x (B, 1, 28, 28) in [0, 1] -> logits (B, C), which are linear in the features (B, 128)."""

    def __init__(self, classes: int):
        super().__init__()
        conv = (nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        conv += (nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.features = nn.Sequential(*conv, nn.Flatten(), nn.Linear(32 * 7 * 7, 128), nn.ReLU())
        self.logits = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 1, 28, 28) -> logits (B, C)."""
        return self.logits(self.features(x))


def train_classifier(images: np.ndarray, labels: np.ndarray, classes: int, seed: int, device="cpu") -> Classifier:
    """Train on uint8 images (N, 1, 28, 28) and labels (N,): Adam, 3 epochs, cosine decay, seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(classes).to(device)
    order = [index for epoch in range(EPOCHS) for index in batches(len(images), 64, seed, epoch)]
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(order))
    for index in tqdm(order, "training the classifier", disable=None, leave=False):
        x, y = torch.from_numpy(images[index]).to(device) / 255, torch.from_numpy(labels[index]).to(device)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


class Seen(NamedTuple):
    """What the classifier makes of N images: features (N, D) and the probabilities of the classes (N, C)."""

    features: np.ndarray
    probability: np.ndarray

    @property
    def guess(self) -> np.ndarray:
        """The likeliest class (N,) of each image."""
        return self.probability.argmax(axis=1)

    @property
    def confident(self) -> float:
        """The share of images whose likeliest class has a probability of at least 0.9."""
        return float((self.probability.max(axis=1) >= CONFIDENT).mean())


@torch.no_grad()
def look(classifier: Classifier, images: np.ndarray) -> Seen:
    """uint8 images (N, 1, 28, 28) -> what the classifier makes of them."""
    device, parts = next(classifier.parameters()).device, []
    for chunk in torch.from_numpy(images).split(500):
        features = classifier.features(chunk.to(device) / 255)
        parts.append((features, classifier.logits(features).softmax(dim=1)))
    return Seen(*(torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True)))


# --- classes ------------------------------------------------------------------------------------------------------


def class_shares(guess: np.ndarray, classes: int) -> np.ndarray:
    """The share (C,) of each class among guesses (N,)."""
    return np.bincount(guess, minlength=classes) / len(guess)


def class_kl(guess: np.ndarray, reference: np.ndarray, classes: int) -> float:
    """KL(classes of guess || classes of reference) >= 0, in nats. One image is added to every class of both, so that
    a class that the reference lacks does not make it infinite; a class that guess lacks costs little."""
    p, q = ((np.bincount(g, minlength=classes) + 1) / (len(g) + classes) for g in (guess, reference))
    return float((p * np.log(p / q)).sum())


# --- features -----------------------------------------------------------------------------------------------------


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The squared Frechet distance of the normal distributions with the means and covariances of a (N, D), b (M, D):

        |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a^1/2 S_b S_a^1/2)^1/2)          Dowson & Landau 1982

    0 when both agree. Estimated from finite sets it is too large, by an amount that shrinks with their size.
    """
    a, b = (np.asarray(features, np.float64) for features in (a, b))
    shift = a.mean(axis=0) - b.mean(axis=0)
    S_a, S_b = (np.cov(features, rowvar=False).reshape(a.shape[1], -1) for features in (a, b))
    values, vectors = np.linalg.eigh(S_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ S_b @ root).clip(0)).sum()
    return max(0.0, float(shift @ shift + np.trace(S_a) + np.trace(S_b) - 2 * cross))


# --- copies -------------------------------------------------------------------------------------------------------


def nearest(images: np.ndarray, among: np.ndarray, pairs_at_once: int = PAIRS_AT_ONCE) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of the uint8 images `among` (M, 1, 28, 28) for each of `images` (N, 1, 28, 28): Euclidean distance
    (N,) with pixels in [0, 1], and index (N,). Every pair is compared; memory is bounded by `pairs_at_once`, or N.
    """
    a, least = _rows(images), np.full(len(images), np.inf, np.float32)
    index = np.zeros(len(images), int)
    step = max(1, pairs_at_once // len(images))
    for start in range(0, len(among), step):
        b = _rows(among[start : start + step])
        squared = (b**2).sum(axis=1) - 2 * a @ b.T  # less |a|^2, which is the same for all
        best = squared.argmin(axis=1)
        found = squared[np.arange(len(a)), best]
        closer = found < least
        least[closer], index[closer] = found[closer], start + best[closer]
    distance = np.sqrt(((a - _rows(among[index])) ** 2).sum(axis=1))  # anew: 0 for a copy, without cancellation
    return distance, index


def _rows(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) / np.float32(255)


class Copies(NamedTuple):
    """How far samples are from the training images: distances (N,) and the index (N,) of the nearest one; the same
    distances of test images (M,); the share of samples nearer to a training than to any test image, what chance has
    it be, and its standard error."""

    distance: np.ndarray
    index: np.ndarray
    of_test: np.ndarray
    nearer_to_train: float
    expected: float
    error: float

    @property
    def suspicious(self) -> bool:
        """Whether more samples than chance allows lie next to a training image."""
        return self.nearer_to_train > self.expected + TOLERATED * self.error

    @property
    def telling(self) -> bool:
        """Whether any share could be suspicious: not where a few images are the nearest of nearly all samples."""
        return self.expected + TOLERATED * self.error < 1


def look_for_copies(samples: np.ndarray, train: np.ndarray, test: np.ndarray) -> Copies:
    """Compare uint8 samples with all training images and all test images.

    For a model that knows nothing of the split, each image of the two is as likely to be a training image, whatever
    samples lie next to it, so a share of train / (train + test) has its nearest there. Unlike the distances themselves,
    which are small for blurred samples, this share does not depend on how samples look. Its standard error is that of
    dealing the images out anew: w samples next to one image fall together.
    """
    (distance, index), (from_test, test_index) = nearest(samples, train), nearest(samples, test)
    of_test, _ = nearest(test[: len(samples)], train)
    expected = len(train) / (len(train) + len(test))
    w = np.bincount(np.where(distance < from_test, index, len(train) + test_index))
    error = (expected * (1 - expected) * (w**2).sum()) ** 0.5 / len(samples)
    nearer = (distance < from_test) + 0.5 * (distance == from_test)
    return Copies(distance, index, of_test, float(nearer.mean()), expected, float(error))


# --- samples and report -------------------------------------------------------------------------------------------


def as_seen(images: np.ndarray, binarization: str, rng: np.random.Generator) -> np.ndarray:
    """uint8 images (N, 1, 28, 28), binarized with the values 0 and 255; in bounded memory."""
    if binarization == "none":
        return images
    parts = [binarize(images[start : start + 5000], binarization, rng) for start in range(0, len(images), 5000)]
    return np.concatenate([(255 * part).astype(np.uint8) for part in parts])


def classifier_of(train: ImageSet, binarization: str, seed: int, device="cpu") -> Classifier:
    """The classifier of a run, trained on the run's own data."""
    images = as_seen(train.images, binarization, generator(seed, "binarize"))
    return train_classifier(images, train.labels, len(train.class_names), seed, device)


def as_data(means: np.ndarray, binarization: str, rng: np.random.Generator) -> np.ndarray:
    """Means of p(x|z) -> uint8 pixels as in the data: drawn from p(x|z) where those are 0 or 1, else the means."""
    pixels = means if binarization == "none" else rng.random(means.shape) < means
    return (255 * pixels + 0.5 * (binarization == "none")).astype(np.uint8)


def prior_samples(
    measured, count: int, binarization: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """uint8 samples (count, 1, 28, 28) of an evaluated model, and the labels (count,) asked of a conditional one.

    The pixels are those of `as_data`.
    """
    labels = measured.data.labels[rng.integers(len(measured.data), size=count)]
    parts = [as_data(measured.prior_samples(rng, labels[chunk]), binarization, rng) for chunk in chunks(count, 500)]
    return np.concatenate(parts), labels if measured.conditional else None


def report(measured, train: ImageSet, classifier: Classifier, binarization: str, seed: int) -> tuple[dict, dict]:
    """The figures of samples of a model evaluated on the test split, and the arrays that pictures take."""
    rng, test, classes = generator(seed, "evaluation", 3), measured.data, len(train.class_names)
    train_images = as_seen(train.images, binarization, generator(seed, "binarize"))
    test_images = as_seen(test.images, binarization, generator(seed, "evaluation"))
    count = min(SAMPLES, len(test))
    samples, asked = prior_samples(measured, count, binarization, rng)
    noise = as_seen(rng.integers(0, 256, samples.shape, dtype=np.uint8), binarization, rng)
    some = rng.permutation(len(train))[:count]
    sets = {"samples": samples, "train": train_images[some], "noise": noise}
    seen = {name: look(classifier, images) for name, images in sets.items()}
    seen_test = look(classifier, test_images)
    at_test = seen_test.features[rng.permutation(len(test))[:count]]
    copies = look_for_copies(samples, train_images, test_images)
    guesses = {"test": seen_test.guess, "samples": seen["samples"].guess}
    shares = {name: class_shares(guess, classes) for name, guess in guesses.items()}
    near = {"samples": float(np.median(copies.distance)), "test": float(np.median(copies.of_test))}
    figures = {
        "count": count,
        "classifier_accuracy": float((seen_test.guess == test.labels).mean()),
        "class_shares": {name: share.tolist() for name, share in shares.items()},
        "class_kl": class_kl(guesses["samples"], guesses["test"], classes),
        "recognised_with_confidence": {
            "test": seen_test.confident,
            **{name: one.confident for name, one in seen.items()},
        },
        "frechet_distance": {name: frechet_distance(one.features, at_test) for name, one in seen.items()},
        "nearest_training_image": near,
        "nearer_to_train": {
            "share": copies.nearer_to_train,
            "expected": copies.expected,
            "error": copies.error,
            "telling": copies.telling,
        },
    }
    if asked is not None:
        figures["recognised_as_asked"] = float((guesses["samples"] == asked).mean())
    return figures, {"shares": shares, "copies": copies, "samples": samples, "train": train_images}


def table(found: dict) -> str:
    """The report as lines."""
    confident, distance, near, copies = (
        found[key]
        for key in ("recognised_with_confidence", "frechet_distance", "nearest_training_image", "nearer_to_train")
    )
    lines = [
        f"  the classifier, trained here, names {found['classifier_accuracy']:.1%} of the test images right",
        "                                              samples    train     test    noise",
        f"  recognised with confidence, p >= {CONFIDENT}       {confident['samples']:9.1%}{confident['train']:9.1%}"
        f"{confident['test']:9.1%}{confident['noise']:9.1%}",
        f"  Frechet distance in its features, to test  {distance['samples']:8.1f}{distance['train']:9.1f}"
        f"{'-':>9}{distance['noise']:9.1f}",
        f"  median distance to nearest training image  {near['samples']:8.2f}{'-':>9}{near['test']:9.2f}",
        f"  KL(classes of samples || of test images) {found['class_kl']:10.3f} nats",
        f"  nearer to a training than to a test image {copies['share']:9.1%}, by chance {copies['expected']:.1%} "
        f"(standard error {copies['error']:.1%}{'' if copies['telling'] else ', too large to tell anything'})",
    ]
    if "recognised_as_asked" in found:
        lines.append(f"  recognised as the class asked for         {found['recognised_as_asked']:9.1%}")
    return "\n".join(lines)
