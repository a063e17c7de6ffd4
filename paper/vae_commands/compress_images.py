"""Images into one file and back by bits-back coding, beside what else they could have been packed with.

The file: MAGIC, a line of JSON, the coder's words as little-endian uint32, and the SHA-256 of all that.
"""

import gzip
import hashlib
import io
import json
import math
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from constriction import stream
from PIL import Image
from tqdm import tqdm

from vae_common.config import RunConfig
from vae_common.data import ImageSet, binarize
from vae_common.errors import UsageError, check_finite
from vae_common.evaluation import PIXELS
from vae_common.files import read_whole, write_atomically
from vae_common.image_folder import grey
from vae_common.randomness import generator
from vae_measures.bits_back import PIXEL, BitsBack, can_code
from vae_measures.held_out import measure
from vae_training.run_files import read_run

MAGIC = b"bits back 1\n"
VERSIONS = {"torch": torch.__version__, "constriction": version("constriction")}  # on which the rounding depends


def compress(run: str, out: str, pictures: list[str], images: int | None = None, data_dir: str | None = None) -> None:
    """Carry out paper/compress.py RUN: write the file, and print the table."""
    config, bits_back, weights = coder_for(run, out)
    if pictures:
        loaded = np.stack([grey(Path(path), config.invert)[None] for path in pictures])
        loaded, binarization = 255 - loaded if config.invert else loaded, "threshold"
        data = ImageSet("pictures", "named", loaded, np.zeros(len(loaded), np.int64), ())
    else:
        data, binarization = config.load("test", data_dir), config.binarize
        data = ImageSet(data.name, data.split, data.images[:images], data.labels[:images], data.class_names)
    frequencies = pixel_frequencies(config, data_dir)
    measured = measure(bits_back.model, data, binarization, config.seed)
    neg_elbo = float((measured.recon + measured.kl).mean())
    check_finite({"elbo": -neg_elbo}, "on these images")
    x = measured.x.reshape(len(data), -1).astype(np.int32)

    initial = initial_words(config.latent_dim)
    coder = stream.stack.AnsCoder(initial, seal=True)
    before = coder.num_valid_bits()
    for image in tqdm(x, "coding", disable=None, leave=False):
        bits_back.push(coder, image)
    net, words = coder.num_valid_bits() - before, coder.get_compressed()
    untouched = int((words[: len(initial)] == initial[: len(words)]).cumprod().sum())
    head = {"images": len(x), "untouched": untouched, "pixels": digest(packed(x)), "weights": weights, **VERSIONS}
    content = MAGIC + json.dumps(head).encode() + b"\n" + words[untouched:].astype("<u4").tobytes()
    write_atomically(out, lambda file: file.write(content + hashlib.sha256(content).digest()))

    print(f"{data.name} {data.split}: {len(x):,} images, {PIXELS[binarization]}, {bits_back.model.title}")
    print(table(x, frequencies, net, neg_elbo / math.log(2)))
    borrowed, size = 4 * (len(initial) - untouched), Path(out).stat().st_size
    rest = size - borrowed - net / 8
    print(f"wrote {out}, {size:,} bytes: {net / 8:,.0f} net, {borrowed} that the first image borrowed and decoding")
    print(f"gives back, and {rest:.0f} of head, checksum and rounding to whole words")


def decompress(run: str, decode: str, out: str) -> None:
    """Carry out paper/compress.py RUN --decode: write the images as one PNG, if they are those that were put in."""
    config, bits_back, weights = coder_for(run, out)
    head, words = read_file(decode)
    if head["weights"] != weights:
        raise UsageError(f"{decode}: it was written with other weights than those of {run}; name the run it is of.")
    if other := [f"{name} {head[name]}" for name, here in VERSIONS.items() if head[name] != here]:
        raise UsageError(f"{decode}: it was written with {' and '.join(other)}; decode it with that, not with another.")
    initial, x = initial_words(config.latent_dim), []
    try:
        coder = stream.stack.AnsCoder(np.concatenate([initial[: head["untouched"]], words]))
        for _ in tqdm(range(head["images"]), "decoding", disable=None, leave=False):
            x.append(bits_back.pop(coder))
        right = np.array_equal(coder.get_compressed(unseal=True), initial)
        right = right and digest(packed(np.stack(x[::-1]))) == head["pixels"]
    except (KeyError, ValueError, AssertionError):  # what constriction says of nonsense
        right = False
    if not right:
        reason = "this machine rounds differently from the one that wrote it"
        raise UsageError(f"{decode}: what it decodes to is not what was put in, so {reason}; decode it there.")
    write_atomically(out, lambda file: file.write(png(np.stack(x[::-1]))))
    print(f"wrote {out}, {len(x):,} images one below another")


# --- the file -----------------------------------------------------------------------------------------------------


def coder_for(run: str, out: str) -> tuple[RunConfig, BitsBack, str]:
    """The run's settings, its coder, and the digest of its weights. Raises UsageError where nothing can come of it."""
    if Path(out).exists():  # as "" does, which is this folder
        raise UsageError(f"--out {out!r}: there is something of that name already; choose another.")
    config, model, _ = read_run(run)
    if config.binarize == "none" or not can_code(model):
        raise UsageError(
            f"{run}: bits back needs a run of --model vae with --binarize, a Bernoulli likelihood, a decoder that sees "
            f"z alone and a prior other than a flow, and found a {model.title}, {PIXELS[config.binarize]}."
        )
    Path(out).parent.mkdir(parents=True, exist_ok=True)  # now, not after minutes of coding
    torch.set_num_threads(1)  # sums in the same order on either side
    return config, BitsBack(model), digest(read_whole(Path(run) / "weights.safetensors"))


def initial_words(latent_dim: int) -> np.ndarray:
    """The random words that the first image borrows from, always the same; its z takes 24 bits a dimension at most."""
    return (np.random.PCG64(0).random_raw(latent_dim + 64) % 2**32).astype(np.uint32)


def digest(content: bytes) -> str:
    """The first 16 hexadecimal digits of the SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


def read_file(path: str) -> tuple[dict, np.ndarray]:
    """The head and the words of a file that `compress` wrote. Raises UsageError for any other and for a damaged one."""
    try:
        content = read_whole(path)
    except ValueError as error:
        raise UsageError(f"{path}: expected a file that paper/compress.py wrote, but {error}.") from error
    content, check = content[:-32], content[-32:]
    if not content.startswith(MAGIC) or hashlib.sha256(content).digest() != check:
        raise UsageError(f"{path}: expected a file that paper/compress.py wrote, found another or a damaged one.")
    head, _, words = content[len(MAGIC) :].partition(b"\n")
    return json.loads(head), np.frombuffer(words, "<u4").astype(np.uint32)


# --- what else there is -------------------------------------------------------------------------------------------


def pixel_frequencies(config: RunConfig, data_dir: str | None) -> np.ndarray:
    """How often each pixel (784,) is 1 in the run's training images, with one of either added."""
    train = config.load("train", data_dir).hold_out(config.validation)[0]
    x = binarize(train.images, config.binarize, generator(config.seed, "evaluation"))
    return (x.reshape(len(x), -1).sum(axis=0, dtype=np.float64) + 1) / (len(x) + 2)


def packed(x: np.ndarray) -> bytes:
    """Pixels of 0 and 1, eight in a byte."""
    return np.packbits(x.astype(np.uint8)).tobytes()


def png(x: np.ndarray) -> bytes:
    """Pixels of 0 and 1 as a PNG of one bit a pixel, 28 wide."""
    file = io.BytesIO()
    Image.fromarray(x.reshape(-1, 28).astype(bool)).save(file, "PNG", optimize=True)
    return file.getvalue()


def table(x: np.ndarray, frequencies: np.ndarray, net: int, bound: float) -> str:
    """The bytes of images x (N, 784) packed in each way; net and bound, -elbo / ln 2 of an image, are in bits."""
    bits = packed(x)
    static = stream.stack.AnsCoder()
    static.encode_reverse(x.ravel(), PIXEL, np.tile(frequencies, len(x)))
    rows = {"one bit a pixel": len(bits), "PNG, all in one": len(png(x)), "gzip -9": len(gzip.compress(bits, 9))}
    if find_spec("zstandard"):  # which nothing else needs
        rows["zstd -19"] = len(import_module("zstandard").compress(bits, 19))
    rows |= {"pixel frequencies": static.num_valid_bits() / 8, "bits back, net": net / 8}
    rows["-elbo / ln 2"] = len(x) * bound / 8
    lines = [f"{'':20}{'bytes':>12}{'bytes an image':>17}{'bits a pixel':>15}"]
    lines += [f"{name:20}{size:12,.0f}{size / len(x):17.2f}{8 * size / x.size:15.4f}" for name, size in rows.items()]
    if not find_spec("zstandard"):
        lines.append("zstd is left out: python -m pip install zstandard")
    return "\n".join(lines)
