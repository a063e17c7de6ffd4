"""Small data folders in torchvision's layout, <folder>/MNIST/raw/*-ubyte, so that a test needs no download."""

import struct
from pathlib import Path

import numpy as np

IMAGES, LABELS = "{}-images-idx3-ubyte", "{}-labels-idx1-ubyte"
PREFIX = {"train": "train", "test": "t10k"}


def synthetic_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (count, 28, 28), a bright bar whose place tells the class, and uint8 labels (count,)."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 10).astype(np.uint8)
    images = rng.integers(0, 40, (count, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4:24, 3 + 2 * label : 6 + 2 * label] += 200
    return images, labels


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write uint8 `array` as an IDX file: magic 0x08 and rank, the sizes as big-endian int32, the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes())


def write_mnist(folder: Path, name: str = "MNIST", train: int = 64, test: int = 32) -> Path:
    """Write both splits of `name` under `folder` and return its raw folder; a split's seed is its number of images."""
    raw = folder / name / "raw"
    for split, count in (("train", train), ("test", test)):
        images, labels = synthetic_images(count, seed=count)
        write_idx(raw / IMAGES.format(PREFIX[split]), images)
        write_idx(raw / LABELS.format(PREFIX[split]), labels)
    return raw
