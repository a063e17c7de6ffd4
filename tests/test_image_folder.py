"""A folder of pictures: the rule by which they become 28 x 28 greys, their classes and splits, and what is refused."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

import evaluate
import latent_explorer
import latent_figures
import quadrants
import rate_distortion
import vae_lowlevel
import vae_numpy
import vae_paper
from messages import assert_one_sentence, assert_refused, one_sentence
from vae_commands import draw_again, train_run
from vae_common.data import load_dataset
from vae_common.errors import DatasetError
from vae_common.image_folder import grey, load_image_folder
from vae_training.run_files import read_run

RNG = np.random.default_rng(0)
H, W = 70, 91
RGB = RNG.integers(0, 256, (H, W, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (H, W), dtype=np.uint8)
COLOURS, INDEX = RNG.integers(0, 256, (256, 3), dtype=np.uint8), RNG.integers(0, 256, (H, W), dtype=np.uint8)
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601
GREYS, RED = RGB @ LUMA, RGB[:, :, 0]


def resized(greys: np.ndarray) -> np.ndarray:
    """The square in the middle of `greys` (H, W), then means weighted by triangles as wide as two new pixels."""
    side = min(greys.shape)
    top, left = ((length - side) // 2 for length in greys.shape)
    centres, scale = (np.arange(28) + 0.5) * side / 28, max(side / 28, 1)
    weights = (1 - abs(np.arange(side) + 0.5 - centres[:, None]) / scale).clip(0)  # (28, side)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights @ greys[top : top + side, left : left + side] @ weights.T


def assert_converted(path: Path, greys: np.ndarray, invert: bool = False, most: float = 2) -> None:
    """most: half a grey is rounded away when a picture is laid over a ground, half a one when it becomes grey, and half
    a one by each of the two passes that resize it."""
    difference = np.abs(grey(path, invert) - resized(greys)).max()
    assert difference <= most


def with_palette(**transparency) -> Image.Image:
    picture = Image.frombytes("P", (W, H), INDEX.tobytes())
    picture.putpalette(COLOURS.tobytes())
    picture.info.update(transparency)
    return picture


CMYK = [Image.fromarray(255 - RGB[:, :, channel]) for channel in range(3)] + [Image.new("L", (W, H))]
MODES = {
    "L.png": (Image.fromarray(RED), RED),
    "1.png": (Image.fromarray(RED >= 128), 255 * (RED >= 128)),
    "P.gif": (with_palette(), COLOURS[INDEX] @ LUMA),
    "RGB.webp": (Image.fromarray(RGB), GREYS),
    "CMYK.tif": (Image.merge("CMYK", CMYK), GREYS),
    "I;16.png": (Image.fromarray(257 * RED.astype(np.uint16)), RED),
    "I;16.tif": (Image.fromarray(200 * RED.astype(np.uint16)), 200 / 257 * RED),
    "I.tif": (Image.fromarray(200 * RED.astype(np.int32)), 200 / 257 * RED),
}


@pytest.mark.parametrize("name", MODES)
def test_a_picture_of_any_mode_becomes_what_the_rule_says(tmp_path, name):
    picture, greys = MODES[name]
    picture.save(tmp_path / name, lossless=True)
    assert_converted(tmp_path / name, greys)


def test_small_pictures_are_enlarged_and_those_of_28_pixels_stay_as_they_are(tmp_path):
    for side in (28, 9, 1):
        Image.fromarray(RED[:side, :side]).save(tmp_path / "a.png")
        assert_converted(tmp_path / "a.png", RED[:side, :side].astype(float))
        assert side != 28 or np.array_equal(grey(tmp_path / "a.png"), RED[:28, :28])


def test_what_is_transparent_is_background_black_in_the_end(tmp_path):
    alpha = Image.fromarray(ALPHA)
    faint = {"RGBA.png": (Image.fromarray(RGB), GREYS), "LA.png": (Image.fromarray(RED), RED)}
    for name, (picture, greys) in faint.items():
        picture.putalpha(alpha)
        picture.save(tmp_path / name)
        for invert, ground in ((False, 0), (True, 255)):
            assert_converted(tmp_path / name, greys * (ALPHA / 255) + ground * (1 - ALPHA / 255), invert)
    with_palette().save(tmp_path / "P.png", transparency=7)
    Image.fromarray(257 * RED.astype(np.uint16)).save(tmp_path / "I;16.png", transparency=257 * 7)
    for invert, ground in ((False, 0), (True, 255)):
        assert_converted(tmp_path / "P.png", np.where(INDEX == 7, ground, COLOURS[INDEX] @ LUMA), invert)
        assert_converted(tmp_path / "I;16.png", np.where(RED == 7, ground, RED), invert)


UPRIGHT = {  # TIFF 6.0, "Orientation": where row 0 and column 0 of what is stored belong
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("orientation, upright", UPRIGHT.items())
def test_a_picture_is_turned_upright(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.png", "a.tif"):
        Image.fromarray(RED[:28, :28]).save(tmp_path / name, exif=exif)
        assert np.array_equal(grey(tmp_path / name), upright(RED[:28, :28]))


def test_a_large_jpeg_is_decoded_at_an_eighth_of_its_size(tmp_path, monkeypatch):
    """Blocks of 8 x 8 equal pixels are what it can store exactly, but for rounding: one grey more."""
    blocks, sizes, resize = RED[:, :80], [], Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda im, *a, **k: sizes.append(im.size) or resize(im, *a, **k))
    Image.fromarray(blocks.repeat(16, axis=0).repeat(16, axis=1)).save(tmp_path / "a.jpg", quality=100)
    assert_converted(tmp_path / "a.jpg", blocks.repeat(2, axis=0).repeat(2, axis=1), most=3)
    assert sizes == [(140, 140)]  # of the square in the middle of 160 x 140


def fill(folder: Path, start: int = 0, **counts: int) -> Path:
    """Pictures of one pixel each, whose grey values count on from `start`, so that each can be told from the others."""
    numbers = iter(range(start, 256))
    for name, count in counts.items():
        for number in range(count):
            path = folder / name / ("deeper/" * (number % 2)) / f"{number}.pgm"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"P5 1 1 255\n" + bytes([next(numbers)]))
    return folder


def labels_by_value(data) -> dict[int, int]:
    assert (data.images == data.images[:, :, :1, :1]).all() and data.images.shape[1:] == (1, 28, 28)
    return dict(zip(data.images[:, 0, 0, 0].tolist(), data.labels.tolist(), strict=True))


def test_labels_are_those_of_torchvision_and_the_split_is_drawn_class_by_class(tmp_path):
    fill(tmp_path, cats=60, ants=58, Bees=12)
    theirs = ImageFolder(tmp_path, is_valid_file=lambda name: name.endswith(".pgm"))
    for hidden in (".git/a.png", "cats/.thumbnails/b.png", "cats/._0.pgm", "Thumbs.db", "cats/notes.txt"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_text("no picture")
    train, test = (load_dataset("folder", split, tmp_path) for split in ("train", "test"))
    assert train.class_names == test.class_names == tuple(theirs.classes) == ("Bees", "ants", "cats")
    parts = labels_by_value(train), labels_by_value(test)
    assert parts[0] | parts[1] == {Path(p).read_bytes()[-1]: label for p, label in theirs.samples}
    assert len(train) + len(test) == 130 and not parts[0].keys() & parts[1].keys()
    assert np.bincount(test.labels).tolist() == [2, 12, 12]  # a fifth of each
    assert (np.diff(train.labels) != 0).sum() > 20  # in no order: sorted, the label changes twice
    again = load_dataset("folder", "train", tmp_path)
    assert np.array_equal(again.images, train.images) and np.array_equal(again.labels, train.labels)
    inverted = load_dataset("folder", "train", tmp_path, invert=True)
    assert np.array_equal(inverted.images, 255 - train.images)


def test_folders_called_train_and_test_are_the_splits(tmp_path):
    fill(tmp_path / "train", a=30, b=20)
    fill(tmp_path / "test", start=100, a=15, b=25)
    fill(tmp_path / "val", start=200, c=3)
    train, test = (load_dataset("folder", split, tmp_path) for split in ("train", "test"))
    assert labels_by_value(train) == {value: int(value >= 30) for value in range(50)}
    assert labels_by_value(test) == {100 + value: int(value >= 15) for value in range(40)}


def test_pictures_without_subfolders_are_of_one_class_and_names_are_shown_safely(tmp_path):
    fill(tmp_path / "loose", **{".": 100})
    (tmp_path / "loose" / "deeper").rename(tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").iterdir():
        path.rename(tmp_path / "loose" / path.name)
    data = load_dataset("folder", "test", tmp_path / "loose")
    assert data.class_names == ("image",) and len(data) == 20 and not data.labels.any()
    odd = fill(tmp_path / "odd", **{"é\x1b[31m\n": 50, "$a_b$": 40, 200 * "x": 10})
    assert load_dataset("folder", "test", odd).class_names == ("$a_b$", 27 * "x" + "...", r"é\x1b[31m\n")


def png(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels and holds next to nothing."""
    parts = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), b"IDAT" + zlib.compress(b"0")
    chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**30 + 1)


def floats(path: Path) -> None:
    Image.fromarray(np.ones((3, 3), np.float32)).save(path)


def truncated(path: Path) -> None:
    Image.fromarray(RGB).save(path)
    os.truncate(path, path.stat().st_size // 2)


def link_out(path: Path) -> None:
    fill(path.parents[2], outside=1)
    path.symlink_to(path.parents[2] / "outside" / "0.pgm")


DAMAGE = {  # what is put into a folder of 150 pictures in a and b, and what is said of it
    "a/empty.png": (Path.touch, "cannot identify image file"),
    "a/cut.png": (truncated, "truncated"),
    "a/bomb.png": (lambda path: path.write_bytes(png(10_000, 10_000)), "10,000 x 10,000 pixels, where 90,000,000 are"),
    "a/bombs.png": (lambda path: path.write_bytes(png(2**31 - 1, 2**31 - 1)), "exceeds limit"),
    "a/huge.png": (sparse, "it has 1,073,741,825 bytes, where 1,073,741,824 are the most"),
    "a/pipe.png": (os.mkfifo, "it is a device or a pipe, and no file"),
    "a/loop.png": (lambda path: path.symlink_to(path), "symbolic links"),
    "a/floats.tif": (floats, "greys as floating-point numbers, whose range is not known"),
    "a/wide.tif": (lambda path: Image.fromarray(np.int32([[70000]])).save(path), "greys from 70000 to 70000"),
    "a/out.png": (link_out, "it is a link to a folder or out of"),
    "a/again": (lambda path: path.symlink_to(path.parent), "it is a link to a folder or out of"),
    "a/\udcff.png": (Path.touch, "its name is no text in this system's encoding; rename it"),
    "a/\x1b.png": (Path.touch, "cannot identify image file"),
    "lonely": (lambda path: fill(path.parent, lonely=1), "class lonely has no picture for the train split"),
    "nothing": (Path.mkdir, "there are no pictures in this one"),
    "loose.png": (Path.touch, "it lies beside folders, which are classes; put it into one"),
    "train": (Path.mkdir, "a folder train, but none called test"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_picture_that_cannot_be_used_is_refused_by_its_name(tmp_path, name):
    damage, reason = DAMAGE[name]
    folder = fill(tmp_path / "pictures", a=75, b=75)
    damage(folder / name)
    with pytest.raises(DatasetError) as error:
        for split in ("train", "test"):
            load_image_folder(folder, split, False)
    assert_one_sentence(str(error.value), reason)
    assert ascii(Path(name).stem)[1:-1] in str(error.value) and str(error.value).isprintable()


def test_folders_that_are_no_data_are_refused(tmp_path):
    def refused(folder, *fragments):
        with one_sentence(DatasetError, *fragments):
            load_image_folder(folder, "train", False)

    refused(None, "--dataset folder needs --data-dir DIR")
    refused(tmp_path / "none", str(tmp_path / "none"), "expected a folder of pictures, found none")
    refused(tmp_path, str(tmp_path), "no pictures in it; their names end in .bmp, .gif")
    fill(tmp_path / "few", a=40, b=40)
    refused(tmp_path / "few", "16 pictures for the test split, where 20 are the fewest")
    fill(tmp_path / "more" / "train", a=40, b=40)
    fill(tmp_path / "more" / "test", a=40, b=40, c=1)
    refused(tmp_path / "more", "class c has no picture for the train split")
    fill(tmp_path / "less" / "train", a=40, b=40)
    fill(tmp_path / "less" / "test", a=40)
    refused(tmp_path / "less", "class b has no picture for the test split")


def test_a_run_knows_its_classes_whatever_becomes_of_the_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_run, "draw_run", lambda *args: None)
    monkeypatch.setattr(draw_again, "draw_run", lambda *args: None)
    pictures, run = fill(tmp_path / "pictures", a=84, b=84, c=84), tmp_path / "run"
    flags = ["--model", "cvae", "--dataset", "folder", "--data-dir", str(pictures), "--invert"]
    assert vae_paper.main([*flags, "--latent-dim", "2", "--epochs", "1", "--out", str(run)]) == 0
    assert "at most ln 3 = 1.10" in capsys.readouterr().out
    config, model, _ = read_run(run)
    assert config.class_names == ("a", "b", "c") and config.invert and model.classes == 3
    commands = [
        *((command, [str(run)]) for command in (latent_figures, latent_explorer, evaluate)),
        (evaluate, [str(run), "--doctor"]),
        (vae_paper, ["--resume", str(run)]),
    ]
    for command, argv in [*commands[:2], *commands[-1:]]:
        assert command.main(argv) == 0
    page = (run / "explorer.html").read_text()
    assert '"classes":3,"class_names":["a","b","c"]' in page and "folder" in page

    def refused(commands, *fragments):
        capsys.readouterr()
        for command, argv in commands:
            assert_refused(command.main(argv), capsys.readouterr().err, *fragments)

    fill(pictures, start=150, a=30)  # thirty other pictures where there were thirty
    refused([commands[0], commands[2]], "recon is", "so the weights or the data are not those of the run")
    fill(pictures / "a", start=250, more=1)
    refused(commands[-1:], "'train': 201", "'train': 202", "so the data is not that of the run; see --data-dir")
    (pictures / "c").rename(tmp_path / "c")
    refused(commands, "its classes (a, b) are not those of the run (a, b, c)", "see --data-dir")


def test_a_folder_is_refused_before_a_run_is_made(tmp_path, monkeypatch, capsys):
    pictures = fill(tmp_path / "pictures", a=128)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    flags = ["--dataset", "folder", "--data-dir", str(pictures)]
    for model, given in (("cvae", []), ("vqvae", ["--prior-labels"])):
        status, told = vae_paper.main([*flags, "--model", model, *given]), given[0] if given else f"--model {model}"
        assert_refused(status, capsys.readouterr().err, f"{told} is given classes, and this data has one")
    (pictures / "b").mkdir()
    for command in (vae_numpy, vae_lowlevel, vae_paper, quadrants, rate_distortion):
        status = command.main([*flags, *(["--sweep", "1"] if command is rate_distortion else [])])
        assert_refused(status, capsys.readouterr().err, f"{pictures}/b: a folder is a class, and there are no pictures")
    assert not list((tmp_path / "here").iterdir())
