"""The data of all levels: images in memory as uint8, labels, and of drawn data the true factors.

`digits` and `sprites` are drawn by this project and cached; `mnist`, `fashion-mnist` and `kmnist` come through
torchvision (download.py); `folder` is any folder of pictures (image_folder.py).
"""

import contextlib
import math
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vae_common import digits, sprites
from vae_common.download import REAL, load_downloaded
from vae_common.errors import UsageError
from vae_common.files import check_size, load_arrays, write_atomically
from vae_common.image_folder import SPLITS, load_image_folder
from vae_common.spec import IMAGE_SHAPE

DRAWN = {"digits": digits, "sprites": sprites}
DATASETS = (*DRAWN, *REAL, "folder")
BINARIZE = ("none", "threshold", "dynamic")
DRAWING_VERSION = 1  # part of the cached file's name: raise it when digits.py or sprites.py draw differently

CLASS_NAMES = {  # of data that is always the same; the classes of a folder are what it holds
    "digits": tuple("0123456789"),
    "mnist": tuple("0123456789"),
    "sprites": ("square", "ellipse", "heart"),
    "fashion-mnist": (
        *("T-shirt", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "boot"),
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}


@dataclass(frozen=True)
class ImageSet:
    """One split of one data set.

    images: uint8 (N, 1, 28, 28); labels: int64 (N,); class_names: what label 0, 1, ... is called;
    factors: float64 (N, F), what each image was drawn from, and factor_names (F,), for drawn data, else None and ().
    """

    name: str
    split: str
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    factors: np.ndarray | None = None
    factor_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def hold_out(self, count: int) -> tuple["ImageSet", "ImageSet"]:
        """All but the last `count` images, and those, as the split "validation".

        Raises UsageError unless at least one image is left.
        """
        rest = len(self) - count
        if rest < 1:
            most = f"{len(self)} training images, so {len(self) - 1} is the most"
            raise UsageError(f"--validation {count}: {self.name} has {most}.")
        return self._part(slice(rest), self.split), self._part(slice(rest, None), "validation")

    def _part(self, part: slice, split: str) -> "ImageSet":
        factors = None if self.factors is None else self.factors[part]
        return replace(self, split=split, images=self.images[part], labels=self.labels[part], factors=factors)


def load_dataset(name: str, split: str = "train", data_dir: str | Path | None = None, invert: bool = False) -> ImageSet:
    """Load one split ("train" or "test") of `name`, one of DATASETS; `invert` makes dark light and light dark.

    data_dir: where the data lies or is put; for "folder" the folder of the pictures. By default drawn data is cached in
    the user's cache folder, and real data is looked for in $VAE_DATA_DIR, else in the cache folder; what is missing is
    downloaded. Raises ValueError for an unknown name or split, DatasetError when data cannot be had or read.
    """
    if name not in DATASETS:
        raise ValueError(f"dataset must be one of {', '.join(DATASETS)}, got {name!r}.")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}.")
    class_names, factors, factor_names = CLASS_NAMES.get(name), None, ()
    if name in DRAWN:
        factors, images = _load_drawn(name, split, Path(data_dir or cache_folder()))
        labels, factor_names = factors[:, 0].astype(np.int64), DRAWN[name].FACTOR_NAMES
    elif name in REAL:
        folder = Path(data_dir or os.environ.get("VAE_DATA_DIR") or cache_folder())
        images, labels = load_downloaded(name, split, folder, classes=len(class_names))
    else:
        images, labels, class_names = load_image_folder(data_dir, split, invert)
    return ImageSet(name, split, 255 - images if invert else images, labels, class_names, factors, tuple(factor_names))


def cache_folder() -> Path:
    """Where drawn and downloaded data is kept: $XDG_CACHE_HOME/vae-three-levels, by default under ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vae-three-levels"


# --- pixels -------------------------------------------------------------------------------------------------------


def binarize(images: np.ndarray, how: str, rng: np.random.Generator | None = None) -> np.ndarray:
    """uint8 images (any shape) -> float32 in [0, 1].

    "none": grey, the pixel value over 255; "threshold": 1 where the grey value is at least 0.5;
    "dynamic": 1 with the grey value as its probability (Salakhutdinov & Murray 2008), drawn from `rng`.
    Raises ValueError for images that are not uint8, an unknown `how`, or "dynamic" without `rng`.
    """
    if images.dtype != np.uint8:
        raise ValueError(f"images must be uint8 from 0 to 255, got {images.dtype}.")
    if how == "none":
        return images.astype(np.float32) / np.float32(255)
    if how == "threshold":
        return (images >= 128).astype(np.float32)
    if how == "dynamic":
        if rng is None:
            raise ValueError('binarize "dynamic" draws random pixels and needs rng, a numpy Generator.')
        return (255 * rng.random(images.shape, dtype=np.float32) < images).astype(np.float32)
    raise ValueError(f"binarize must be one of {', '.join(BINARIZE)}, got {how!r}.")


def entropy_floor(x: np.ndarray) -> float:
    """What recon cannot go below where the pixels x (N, 1, 28, 28), in [0, 1], are Bernoulli targets, nats per image.

    -sum[x ln x + (1 - x) ln(1 - x)] over the pixels, mean over the images: the cross-entropy of a perfect copy. It is 0
    for pixels of 0 and 1, and 45.5 on the grey test images of MNIST: of a grey recon, so much is no error.
    """
    p = x.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = p * np.log(p) + (1 - p) * np.log1p(-p)
    return float(-np.nan_to_num(terms).sum() / len(x))


# --- drawn data ---------------------------------------------------------------------------------------------------


def _load_drawn(name: str, split: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    drawer = DRAWN[name]
    path = folder / f"{name}-v{DRAWING_VERSION}-{split}.npz"
    if path.exists():
        with contextlib.suppress(Exception):  # a damaged zip or header is reported as almost any exception
            return _read_cached(path, drawer.SPLIT_SIZES[split], len(drawer.FACTOR_NAMES))
        print(f"note: {path} is damaged; drawing the {name} again.", file=sys.stderr)
    factors = drawer.sample_factors(drawer.SPLIT_SIZES[split], drawer.SPLIT_SEEDS[split])
    images = drawer.draw(factors)
    try:
        write_atomically(path, lambda file: np.savez(file, factors=factors, images=images))
    except OSError as error:
        print(
            f"note: the drawn {name} could not be cached ({error}); they are drawn anew each time.",
            file=sys.stderr,
        )
    return factors, images


def _read_cached(path: Path, count: int, factor_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Read a cached file; the checksums of the archive and these shapes say whether it is whole."""
    check_size(path)
    with open(path, "rb") as file:
        most = {"factors": 8 * count * factor_count, "images": count * math.prod(IMAGE_SHAPE)}
        factors, images = load_arrays(file, most).values()
    expected = ((count, factor_count), np.float64, (count, *IMAGE_SHAPE), np.uint8)
    if (factors.shape, factors.dtype, images.shape, images.dtype) != expected:
        raise ValueError("not the shapes that are cached")
    return factors, images
