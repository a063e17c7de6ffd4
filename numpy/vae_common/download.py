"""Data sets that torchvision knows: downloaded with checksums, read from files that are checked before they are loaded.

torchvision is imported only when one of them is asked for.
"""

import contextlib
import io
import math
import os
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np

from vae_common.errors import DatasetError
from vae_common.files import check_size
from vae_common.spec import IMAGE_SHAPE

REAL = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}


def load_downloaded(name: str, split: str, folder: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (N, 1, 28, 28) and int64 labels (N,), each below `classes`, of one of REAL.

    The files are looked for in `folder`, and downloaded to it where they are missing. Raises DatasetError when they
    cannot be had or read.
    """
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
        if labels.max() >= classes:
            raise ValueError(f"label {labels.max()} where there are {classes} classes")
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
