"""The data of all levels: images in memory as uint8, and every random choice as a function of the seed.

`digits` and `sprites` are drawn by this project and cached; `mnist`, `fashion-mnist` and `kmnist` come through
torchvision, which is imported only when one of them is asked for.
"""

import contextlib
import io
import math
import os
import struct
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vae_common import digits, sprites
from vae_common.files import check_archive, check_size, load_arrays, write_atomically
from vae_common.spec import IMAGE_SHAPE

DRAWN = {"digits": digits, "sprites": sprites}
REAL = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}
DATASETS = (*DRAWN, *REAL)
SPLITS = ("train", "test")
BINARIZE = ("none", "threshold", "dynamic")
DRAWING_VERSION = 1  # part of the cached file's name: raise it when digits.py or sprites.py draw differently

CLASS_NAMES = {
    "digits": tuple("0123456789"),
    "mnist": tuple("0123456789"),
    "sprites": ("square", "ellipse", "heart"),
    "fashion-mnist": (
        "T-shirt",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "boot",
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}


class DatasetError(Exception):
    """Data that cannot be had or read; the message is one sentence that says what to do."""


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


def load_dataset(name: str, split: str = "train", data_dir: str | Path | None = None) -> ImageSet:
    """Load one split ("train" or "test") of `name`, one of DATASETS.

    data_dir: where the data lies or is put. By default drawn data is cached in the user's cache folder, and real
    data is looked for in $VAE_DATA_DIR, else in the cache folder; what is missing is downloaded.
    Raises ValueError for an unknown name or split, DatasetError when real data cannot be had or read.
    """
    if name not in DATASETS:
        raise ValueError(f"dataset must be one of {', '.join(DATASETS)}, got {name!r}.")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}.")
    if name in DRAWN:
        factors, images = _load_drawn(name, split, Path(data_dir or cache_folder()))
        labels, names = factors[:, 0].astype(np.int64), DRAWN[name].FACTOR_NAMES
    else:
        images, labels = _load_real(name, split, Path(data_dir or os.environ.get("VAE_DATA_DIR") or cache_folder()))
        factors, names = None, ()
    return ImageSet(name, split, images, labels, CLASS_NAMES[name], factors, tuple(names))


def cache_folder() -> Path:
    """Where drawn and downloaded data is kept: $XDG_CACHE_HOME/vae-three-levels, by default under ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vae-three-levels"


# --- random choices: each a pure function of the seed and of where it is used -------------------------------------

PURPOSES = ("order", "noise", "binarize", "evaluation", "figures", "importance")


def generator(seed: int, purpose: str, step: int = 0) -> np.random.Generator:
    """The random stream for one purpose, one of PURPOSES, at one step.

    It depends on nothing else, so two levels with one seed see the same numbers, and a resumed run needs no state.
    """
    return np.random.default_rng([seed, PURPOSES.index(purpose), step])


def batches(count: int, batch_size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Index arrays of one epoch in the order fixed by (seed, epoch); the last batch holds the remainder."""
    order = generator(seed, "order", epoch).permutation(count)
    for start in range(0, count, batch_size):
        yield order[start : start + batch_size]


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
    """Read a cached file; the zip container's checksums and these shapes say whether it is whole."""
    check_size(path)
    with open(path, "rb") as file:
        check_archive(file)
        most = {"factors": 8 * count * factor_count, "images": count * math.prod(IMAGE_SHAPE)}
        factors, images = load_arrays(file, most).values()
    expected = ((count, factor_count), np.float64, (count, *IMAGE_SHAPE), np.uint8)
    if (factors.shape, factors.dtype, images.shape, images.dtype) != expected:
        raise ValueError("not the shapes that are cached")
    return factors, images


# --- real data ----------------------------------------------------------------------------------------------------


def _load_real(name: str, split: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    dataset_class = getattr(_import_torchvision_datasets(name), REAL[name])
    where = folder / REAL[name] / "raw"
    files = [where / Path(url).stem for url, _ in dataset_class.resources]
    if not all(file.is_file() for file in files):
        _download(name, dataset_class, folder, where)
    try:
        for file in files:
            if file.name.startswith("train") == (split == "train"):
                _check_idx(file)
        with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):
            dataset = dataset_class(folder, train=split == "train", download=False)
        images, labels = dataset.data.numpy()[:, None], dataset.targets.numpy().astype(np.int64)
        if images.shape != (len(labels), *IMAGE_SHAPE) or not len(labels):
            raise ValueError(f"{images.shape[0]} images of {images.shape[2:]} pixels and {len(labels)} labels")
        if labels.max() >= len(CLASS_NAMES[name]):
            raise ValueError(f"label {labels.max()} where there are {len(CLASS_NAMES[name])} classes")
    except Exception as error:  # torchvision reports a damaged file as almost any exception
        raise DatasetError(
            f"{where}: the {name} files there cannot be read ({_first_line(error)}); delete that folder to download "
            "them again, or use --dataset digits, which needs no files."
        ) from error
    return images, labels


def _check_idx(path: Path) -> None:
    """Raise ValueError unless the file is as long as its header says, before anything of that size is allocated.

    The header: two zero bytes, the type (8: one byte a value), the number of axes, then each axis's size in four bytes.
    """
    check_size(path)
    with open(path, "rb") as file:
        head = file.read(4)
        axes = head[3] if len(head) == 4 and head[:3] == b"\x00\x00\x08" else 0
        sizes = file.read(4 * axes)
    if axes not in (1, 3) or len(sizes) != 4 * axes:
        raise ValueError(f"{path.name}: no IDX file of bytes")
    promised, found = 4 + 4 * axes + math.prod(struct.unpack(f">{axes}I", sizes)), path.stat().st_size
    if found != promised:
        raise ValueError(f"{path.name}: {found:,} bytes where its header promises {promised:,}")


def _import_torchvision_datasets(name: str):
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError, OSError) as error:
        raise DatasetError(
            f"--dataset {name} needs torchvision, which cannot be imported ({_first_line(error)}); install the "
            "torchvision that matches your torch (pip install --upgrade torch torchvision brings such a pair), "
            "or use --dataset digits."
        ) from error
    return datasets


def _download(name: str, dataset_class, folder: Path, where: Path) -> None:
    """Let torchvision download and check into a temporary folder, then move the files in one by one.

    A failure or an interrupt leaves behind neither part of a file nor a folder that was not there before.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        print(f"downloading {name} to {folder} ...", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                dataset_class(temporary, train=True, download=True)
            where.mkdir(parents=True, exist_ok=True)
            for file in (Path(temporary) / dataset_class.__name__ / "raw").iterdir():
                os.replace(file, where / file.name)
    except Exception as error:  # no network, no space, a bad checksum: torchvision raises many kinds
        raise DatasetError(
            f"{name} is not in {where} and could not be downloaded ({_first_line(error)}); put its files there, "
            "point --data-dir at a folder that has them, or use --dataset digits, which needs no network."
        ) from error
    finally:
        with contextlib.suppress(OSError):  # one that holds something stays
            for path in made:
                path.rmdir()


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".:")
