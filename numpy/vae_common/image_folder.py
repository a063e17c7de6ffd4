"""A folder of pictures as a data set: pictures of any size, mode and orientation become 28 x 28 grey by one rule.

1. Upright, as the picture's EXIF data says; of an animation, or of several pages, the first picture.
2. Grey: 0.299 R + 0.587 G + 0.114 B; a 16-bit grey is divided by 257. What is transparent becomes background: black,
   or, where the pictures are to be inverted afterwards, white.
3. The largest square in the middle.
4. Antialiased bilinear resizing: a pixel is the mean of those around its place, weighted by a triangle.

Subfolders are classes, in the order of their names, as in torchvision's ImageFolder; pictures that lie in no subfolder
are of one class. Where there are folders train and test, they are the splits, and nothing else is looked at; else a
fifth of each class is drawn for the test split, always the same. What is hidden, and files whose names do not end as
those of pictures, are passed over. Pillow is imported only when a folder is asked for.
"""

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from vae_common.errors import DatasetError
from vae_common.files import check_size
from vae_common.spec import IMAGE_SHAPE

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # and no other, whatever a file is called
SPLITS, TEST_SHARE, SEED = ("train", "test"), 0.2, 0
FEWEST = 20  # pictures in a split
MOST_PIXELS, THREADS = 90_000_000, 4  # of a picture, about where Pillow begins to warn; in each of the threads one
MOST_LETTERS = 30  # of the name of a class, as it is shown
SIDE = IMAGE_SHAPE[-1]

Picture = tuple[str, Path]  # the name of its class, and where it lies


def load_image_folder(
    data_dir: str | Path | None, split: str, invert: bool
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The pictures of one split: uint8 images (N, 1, 28, 28), int64 labels (N,), and what label 0, 1, ... is called.

    Their order is drawn, always the same. `invert` makes transparent pixels white; to invert is left to the caller.
    Raises DatasetError, which names the file or folder, for what cannot be used, OSError for what may not be read.
    """
    if data_dir is None:
        raise DatasetError("--dataset folder needs --data-dir DIR, the folder of the pictures.")
    folder = Path(data_dir)
    splits = _splits(folder)
    names = sorted({name for pictures in splits.values() for name, _ in pictures})
    for part, pictures in splits.items():
        lacking = sorted({*names} - {name for name, _ in pictures})
        if lacking:
            raise DatasetError(
                f"{shown(folder)}: class {shown(lacking[0])} has no picture for the {part} split; each class needs one "
                "for either split."
            )
        if len(pictures) < FEWEST:
            raise DatasetError(
                f"{shown(folder)}: {len(pictures)} pictures for the {part} split, where {FEWEST} are the fewest; add "
                "pictures."
            )
    labels = np.array([names.index(name) for name, _ in splits[split]], np.int64)
    return _read(splits[split], invert)[:, None], labels, tuple(shown(name, MOST_LETTERS) for name in names)


# --- which pictures -----------------------------------------------------------------------------------------------


def _splits(folder: Path) -> dict[str, list[Picture]]:
    """The pictures of both splits, in the order that is drawn for them."""
    if not folder.is_dir():
        raise DatasetError(f"--data-dir {shown(folder)}: expected a folder of pictures, found none.")
    given = [part for part in SPLITS if (folder / part).is_dir()]
    if len(given) == 1:
        [other] = {*SPLITS} - {*given}
        raise DatasetError(f"{shown(folder)}: it holds a folder {given[0]}, but none called {other}; add that too.")
    if given:
        return {part: _shuffled(_pictures(folder / part, folder)) for part in SPLITS}
    pictures = _shuffled(_pictures(folder, folder))
    counts, so_far, splits = Counter(name for name, _ in pictures), Counter(), {part: [] for part in SPLITS}
    for name, path in pictures:
        so_far[name] += 1
        for_test = so_far[name] <= max(1, round(TEST_SHARE * counts[name]))
        splits["test" if for_test else "train"].append((name, path))
    return splits


def _shuffled(pictures: list[Picture]) -> list[Picture]:
    return [pictures[k] for k in np.random.default_rng(SEED).permutation(len(pictures))]


def _pictures(folder: Path, top: Path) -> list[Picture]:
    """The pictures in `folder`, by class and path: the first folder on the way to a picture is its class."""
    paths = [path.relative_to(folder) for path in _walk(folder, Path(os.path.realpath(top)))]
    if not paths:
        raise DatasetError(f"{shown(folder)}: no pictures in it; their names end in {', '.join(SUFFIXES)}.")
    classes, loose = {path.parts[0] for path in paths}, [path for path in paths if len(path.parts) == 1]
    if len(loose) == len(paths):
        return [("image", folder / path) for path in paths]
    if loose:
        raise DatasetError(f"{shown(folder / loose[0])}: it lies beside folders, which are classes; put it into one.")
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not _hidden(entry.name) and entry.name not in classes:
            raise DatasetError(
                f"{shown(entry)}: a folder is a class, and there are no pictures in this one; remove it."
            )
    return [(path.parts[0], folder / path) for path in paths]


def _walk(folder: Path, top: Path) -> Iterator[Path]:
    """Every picture under `folder`, by its name. Raises DatasetError for a link to a folder, or one out of `top`."""

    def stop(error: OSError) -> None:
        raise error

    for where, folders, files in os.walk(folder, onerror=stop):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        pictures = sorted(name for name in files if name.lower().endswith(SUFFIXES) and not _hidden(name))
        for path in (Path(where, name) for name in [*folders, *pictures]):
            if path.is_symlink() and (path.is_dir() or not Path(os.path.realpath(path)).is_relative_to(top)):
                raise DatasetError(f"{shown(path)}: it is a link to a folder or out of {shown(top)}; remove it.")
            if any("\ud800" <= letter <= "\udfff" for letter in path.name):  # a byte that could not be decoded
                raise DatasetError(f"{shown(path)}: its name is no text in this system's encoding; rename it.")
        yield from (Path(where, name) for name in pictures)


def _hidden(name: str) -> bool:
    return name.startswith(".")


def shown(name: str | Path, most: int | None = None) -> str:
    """A name as text that can be printed and drawn, a control character as \\n, \\x1b ...; of `most` letters."""
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(name))
    return text if most is None or len(text) <= most else f"{text[: most - 3]}..."


# --- from a picture to 28 x 28 greys ------------------------------------------------------------------------------


def _read(pictures: list[Picture], invert: bool) -> np.ndarray:
    """uint8 (N, 28, 28), by several threads: Pillow decodes outside of Python's lock."""
    from tqdm import tqdm

    paths = [path for _, path in pictures]
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        warnings.simplefilter("ignore")  # Pillow's, of odd metadata
        images = pool.map(partial(grey, invert=invert), paths)
        return np.stack(list(tqdm(images, "reading the pictures", len(paths), disable=None, leave=False)))


def grey(path: Path, invert: bool = False) -> np.ndarray:
    """One picture as uint8 (28, 28), by the rule above. Raises DatasetError where it cannot be read."""
    from PIL import Image, ImageOps

    try:
        check_size(path)
        with Image.open(path, formats=FORMATS) as image:  # its head only
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width:,} x {image.height:,} pixels, where {MOST_PIXELS:,} are the most")
            image.draft("L", (4 * SIDE, 4 * SIDE))  # a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size
            upright = ImageOps.exif_transpose(image)
        picture = _one_channel(upright, background=255 if invert else 0)
        width, height = picture.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        square = picture.crop((left, top, left + side, top + side))
        return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    except Exception as error:  # a damaged file is reported as almost any exception
        reason = shown(str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__)
        raise DatasetError(
            f"{shown(path)}: the picture cannot be read ({reason}); mend it, or leave it out."
        ) from error


def _one_channel(image, background: int):
    """A picture of any mode in 8-bit greys."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, which Pillow also keeps in 32
        values = np.where(np.asarray(image) == image.info.get("transparency"), 257 * background, np.asarray(image))
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"greys from {values.min()} to {values.max()}, where 0 to 65535 are known")
        return Image.fromarray(np.round(values / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("greys as floating-point numbers, whose range is not known")
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        ground = Image.new("RGBA", image.size, (background,) * 3)
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    return image.convert("L")
