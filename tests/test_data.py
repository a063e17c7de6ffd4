"""Data: random choices that follow from the seed, pixels as numbers, drawn sets and their cache, real files."""

import errno
import io
import math
import os
import struct
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messages import assert_one_sentence, one_sentence
from synthetic_mnist import synthetic_images, write_idx, write_mnist
from vae_common import digits
from vae_common.data import DRAWN, binarize, cache_folder, entropy_floor, load_dataset
from vae_common.download import REAL
from vae_common.errors import DatasetError
from vae_common.randomness import PURPOSES, batches, generator


@settings(max_examples=40)
@given(st.integers(1, 300), st.integers(1, 60), st.integers(0, 2**32 - 1), st.integers(0, 1000))
def test_an_epoch_shows_each_image_once_and_the_remainder_last(count, batch_size, seed, epoch):
    parts = list(batches(count, batch_size, seed, epoch))
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(count))
    assert [len(part) for part in parts[:-1]] == [batch_size] * (math.ceil(count / batch_size) - 1)
    assert len(parts[-1]) == (count - 1) % batch_size + 1


def test_the_batch_order_is_a_function_of_seed_and_epoch():
    first, again, *others = (
        np.concatenate(list(batches(1000, *key))) for key in ((128, 0, 1), (7, 0, 1), (128, 1, 1), (128, 0, 2))
    )
    assert np.array_equal(first, again)
    for other in (*others, np.arange(1000)):
        # Two independent orders agree at one place on average; at 20 with probability below 1/20! = 4e-19.
        assert (first == other).sum() < 20


def test_the_generators_of_different_purposes_steps_and_seeds_are_independent():
    keys = [(seed, purpose, step) for seed in (0, 1) for purpose in PURPOSES for step in (0, 1, 2)]
    draws = np.stack([generator(*key).standard_normal(4000) for key in keys])
    again = np.stack([generator(*key).standard_normal(4000) for key in reversed(keys)])[::-1]
    assert np.array_equal(draws, again)
    # Of independent streams each correlation has a standard error of 1/sqrt(4000).
    assert np.abs(np.corrcoef(draws) - np.eye(len(keys))).max() < 6 / math.sqrt(4000)
    with pytest.raises(ValueError):
        generator(0, "weather")


LEVELS = np.arange(256, dtype=np.uint8)


def test_grey_pixels_are_the_value_over_255_and_threshold_is_a_plain_loop():
    grey, x = binarize(LEVELS, "none"), binarize(LEVELS.reshape(4, 1, 8, 8), "threshold")
    # One division in float32 rounds once, by at most half a unit in the last place.
    np.testing.assert_allclose(grey, np.arange(256) / 255, rtol=np.finfo(np.float32).eps / 2, atol=0)
    assert grey.dtype == x.dtype == np.float32 and x.shape == (4, 1, 8, 8)
    assert x.ravel().tolist() == [1.0 if value / 255 >= 0.5 else 0.0 for value in range(256)]


def test_dynamic_pixels_follow_the_bernoulli_law():
    n, p = 4000, np.arange(256) / 255
    x = binarize(np.tile(LEVELS, (n, 1)), "dynamic", np.random.default_rng(0))
    assert x.dtype == np.float32 and np.isin(x, (0, 1)).all()
    assert np.array_equal(x, binarize(np.tile(LEVELS, (n, 1)), "dynamic", np.random.default_rng(0)))
    # Bernstein's inequality: P(|sum - n p| >= t) <= 2 exp(-t^2 / (2 (n p (1 - p) + t / 3))), which is 2 exp(-L) for
    # the t below; with L = 20, one of 256 grey levels fails by chance with probability below 1.1e-6.
    L, variance = 20, n * p * (1 - p)
    t = L / 3 + np.sqrt(L**2 / 9 + 2 * L * variance)
    assert (np.abs(x.sum(axis=0) - n * p) <= t).all()
    # Independent pixels: an image's sum has variance sum p (1 - p); the sample variance of n of them has a relative
    # standard error of sqrt(2 / (n - 1)); six of those. One uniform number for all pixels would be 170 times off.
    expected = (p * (1 - p)).sum()
    assert abs(x.sum(axis=1).var(ddof=1) / expected - 1) < 6 * math.sqrt(2 / (n - 1))


def test_the_entropy_floor_is_the_cross_entropy_of_a_perfect_copy():
    x = np.stack([np.full((1, 28, 28), 0.5), np.eye(28)[None], np.full((1, 28, 28), 0.25)])
    quarter = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert entropy_floor(x) == pytest.approx(784 * (math.log(2) + 0 + quarter) / 3, rel=1e-12)


@pytest.mark.parametrize(
    "images, how, rng, fragment",
    [
        (LEVELS.astype(np.int64), "dynamic", np.random.default_rng(0), "must be uint8 from 0 to 255, got int64"),
        (LEVELS, "dynamic", None, "needs rng"),
        (LEVELS, "sometimes", None, "one of none, threshold, dynamic, got 'sometimes'"),
    ],
)
def test_binarization_refuses_what_it_cannot_do(images, how, rng, fragment):
    with pytest.raises(ValueError, match=fragment):
        binarize(images, how, rng)


@pytest.fixture
def few(monkeypatch):
    """Splits of few images, so that drawing takes no time."""
    for drawer in DRAWN.values():
        monkeypatch.setitem(drawer.SPLIT_SIZES, "train", 12)
        monkeypatch.setitem(drawer.SPLIT_SIZES, "test", 6)


def same(a, b) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("images", "labels", "factors"))


@pytest.mark.parametrize("name, split, count", [("digits", "train", 12), ("sprites", "test", 6)])
def test_a_drawn_set_is_read_from_the_cache_the_second_time(tmp_path, few, monkeypatch, name, split, count):
    first = load_dataset(name, split, tmp_path)
    monkeypatch.setattr(DRAWN[name], "draw", lambda factors: pytest.fail("drawn again"))
    again = load_dataset(name, split, tmp_path)
    assert same(first, again) and len(list(tmp_path.iterdir())) == 1
    assert first.images.shape == (count, 1, 28, 28) and first.images.dtype == np.uint8
    assert first.labels.shape == (count,) and first.labels.dtype == np.int64
    assert first.factors.shape == (count, len(first.factor_names))
    assert np.array_equal(first.factors[:, 0], first.labels) and len(first) == count


def npz(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


F = len(digits.FACTOR_NAMES)
FACTORS, DRAWN_IMAGES = np.zeros((6, F)), np.zeros((6, 1, 28, 28), np.uint8)
DAMAGE = {
    "half": lambda whole: whole[: len(whole) // 2],
    "a flipped pixel": lambda whole: whole[:3000] + bytes([whole[3000] ^ 255]) + whole[3001:],
    "too few images": lambda whole: npz(factors=FACTORS[:5], images=DRAWN_IMAGES[:5]),
    "float images": lambda whole: npz(factors=FACTORS, images=DRAWN_IMAGES / 2),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cache_is_drawn_again_with_a_note(tmp_path, few, capsys, damage):
    whole = load_dataset("digits", "test", tmp_path)
    [path] = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert same(whole, load_dataset("digits", "test", tmp_path))
    assert capsys.readouterr().err == f"note: {path} is damaged; drawing the digits again.\n"


def test_the_cache_lies_in_the_users_cache_folder_or_data_works_without(tmp_path, few, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_dataset("digits", "test")
    assert [path.name for path in (tmp_path / "vae-three-levels").iterdir()] == ["digits-v1-test.npz"]
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    blocked = tmp_path / "a_file"
    blocked.write_text("")
    assert len(load_dataset("sprites", "test", blocked)) == 6
    note = capsys.readouterr().err
    assert note.startswith("note: the drawn sprites could not be cached (") and note.count("\n") == 1
    assert cache_folder() == tmp_path / "home" / ".cache" / "vae-three-levels"


@pytest.mark.parametrize("name, split", [("imagenet", "test"), ("digits", "validation")])
def test_an_unknown_set_or_split_is_refused(name, split):
    with pytest.raises(ValueError, match=r"must be one of .*, got "):
        load_dataset(name, split)


@pytest.fixture
def no_network(monkeypatch):
    def refuse_connection(*_, **__):
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr("urllib.request.urlopen", refuse_connection)


@pytest.mark.parametrize("name, folder", REAL.items())
def test_real_files_are_read_as_they_lie(tmp_path, no_network, monkeypatch, name, folder):
    write_mnist(tmp_path, folder)
    monkeypatch.setenv("VAE_DATA_DIR", str(tmp_path))
    for split, count in (("train", 64), ("test", 32)):
        images, labels = synthetic_images(count, seed=count)
        for loaded in (load_dataset(name, split, tmp_path), load_dataset(name, split)):
            assert (loaded.name, loaded.split, loaded.factors, loaded.factor_names) == (name, split, None, ())
            assert loaded.images.dtype == np.uint8 and np.array_equal(loaded.images, images[:, None])
            assert loaded.labels.dtype == np.int64 and np.array_equal(loaded.labels, labels)
            assert len(loaded.class_names) == 10


def overwrite(path, start: int, content: bytes) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:start] + content + whole[start + len(content) :])


TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
DAMAGED_FILES = {
    "an image too many": lambda raw: (raw / TEST_IMAGES).write_bytes((raw / TEST_IMAGES).read_bytes() + bytes(784)),
    "half a header": lambda raw: os.truncate(raw / TEST_IMAGES, 12),
    "nothing": lambda raw: os.truncate(raw / TEST_IMAGES, 0),
    "float64": lambda raw: overwrite(raw / TEST_IMAGES, 0, struct.pack(">I", 0xE03)),
    "a magic of no type": lambda raw: overwrite(raw / TEST_IMAGES, 0, struct.pack(">I", 0xFF03)),
    "a count too large": lambda raw: overwrite(raw / TEST_IMAGES, 4, struct.pack(">I", 33)),
    "other sides": lambda raw: overwrite(raw / TEST_IMAGES, 8, struct.pack(">II", 56, 14)),
    "fewer labels": lambda raw: write_idx(raw / TEST_LABELS, np.zeros(31, np.uint8)),
    "a label without a class": lambda raw: write_idx(raw / TEST_LABELS, np.full(32, 10, np.uint8)),
}


@pytest.mark.parametrize("damage", DAMAGED_FILES.values(), ids=DAMAGED_FILES)
def test_damaged_real_files_are_refused_in_one_sentence(tmp_path, no_network, damage):
    raw = write_mnist(tmp_path)
    damage(raw)
    with one_sentence(
        DatasetError, "--dataset digits", str(raw), "cannot be read", "delete that folder to download them again"
    ):
        load_dataset("mnist", "test", tmp_path)
    assert len(load_dataset("mnist", "train", tmp_path)) == 64


def test_missing_files_without_a_network_are_told_and_those_that_are_there_survive(tmp_path, no_network):
    raw = write_mnist(tmp_path)
    (raw / TEST_LABELS).unlink()
    before = {path: path.read_bytes() for path in raw.iterdir()}
    with one_sentence(
        DatasetError, "--dataset digits", str(tmp_path), "mnist is not in", "could not be downloaded", "--data-dir"
    ):
        load_dataset("mnist", "train", tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def fake_download(monkeypatch, stop_at: str, failure: BaseException) -> None:
    """torchvision's downloader replaced by one that writes the small files, and half of `stop_at` before `failure`."""

    def download(url, download_root, filename, md5):
        name = filename.removesuffix(".gz")
        split = "train" if name.startswith("train") else "test"
        images, labels = synthetic_images(*((64, 64) if split == "train" else (32, 32)))
        path = Path(download_root) / name
        write_idx(path, images if "images" in name else labels)
        if name == stop_at:
            os.truncate(path, 20)
            raise failure

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", download)


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("failure", [urllib.error.URLError("connection reset"), FULL, KeyboardInterrupt(), None])
def test_a_download_is_moved_into_place_when_it_is_whole(tmp_path, monkeypatch, failure):
    fake_download(monkeypatch, TEST_IMAGES if failure else "", failure)
    if failure is None:
        assert len(load_dataset("mnist", "test", tmp_path)) == 32 and list(tmp_path.iterdir()) == [tmp_path / "MNIST"]
        return
    told = isinstance(failure, OSError)
    with pytest.raises(DatasetError if told else KeyboardInterrupt) as error:
        load_dataset("mnist", "train", tmp_path / "data")
    assert not list(tmp_path.iterdir())
    if told:
        assert_one_sentence(str(error.value), "--dataset digits", "could not be downloaded")


def test_a_broken_torchvision_is_told_with_its_remedy(tmp_path, monkeypatch):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with one_sentence(DatasetError, "--dataset digits", "needs torchvision", "matches your torch", "pip install"):
        load_dataset("mnist", "test", tmp_path)


TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # LeCun, Cortes & Burges
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize("split, counts", [("train", TRAIN_COUNTS), ("test", TEST_COUNTS)])
def test_mnist_has_its_published_sizes_and_class_counts(mnist_dir, split, counts):
    mnist = load_dataset("mnist", split, mnist_dir)
    assert mnist.images.shape == (sum(counts), 1, 28, 28) and mnist.images.dtype == np.uint8
    assert np.bincount(mnist.labels).tolist() == counts
    share, x = np.bincount(mnist.images.ravel(), minlength=256) / mnist.images.size, np.arange(256) / 255
    if split == "train":  # the usual normalisation constants, given to four digits
        assert round(share @ x, 4) == 0.1307 and round((share @ x**2 - (share @ x) ** 2) ** 0.5, 4) == 0.3081
