"""From a trained model to one HTML page: weights as float16, packed test images, the template and the scripts around.

The page needs no server and no network, and its Content-Security-Policy allows none.
"""

import base64
import hashlib
import json
import re
from itertools import groupby
from pathlib import Path
from string import Template

import numpy as np

from conv_vae import ConvVAE
from vae_common.cli import counted
from vae_common.config import RunConfig
from vae_common.data import ImageSet
from vae_common.errors import UsageError
from vae_common.evaluation import Evaluation
from vae_measures.held_out import measure
from vae_training.factory import follows_spec, load_arrays

HERE = Path(__file__).parent
# Of these the page's one script is made, in this order: the network, what all sections share, the sections, the start.
SCRIPTS = ("model", "page", "plane", "point", "image", "path", "network", "notices", "start")
MOST_BYTES = 5_000_000  # of the page; what the weights leave goes to test images
IMAGES = range(12, 1001)  # at least so many test images (at Z > 240 they exceed MOST_BYTES by 1%), and at most

# --- the page -----------------------------------------------------------------------------------------------------


def refuse_other_models(model: ConvVAE, name: str) -> None:
    """Raise UsageError unless the page can compute the model: the spec's network, with or without a class."""
    if not (follows_spec(model) or (model.conditional and model.has_posterior)):
        raise UsageError(
            f"{name}: the explorer knows the spec's network only, of --model vae, ae or cvae with --architecture conv "
            "and no learned prior; name such a run."
        )


def explorer_page(model: ConvVAE, data: ImageSet, config: RunConfig, name: str) -> str:
    """The page of a trained model, measured on the test split `data`; `name` is what error messages call the run.

    The model's weights are rounded to float16 in place. Raises UsageError when the page cannot show the model, or when
    a weight or a measurement is not finite in it.
    """
    refuse_other_models(model, name)
    half = round_weights(model, name)
    with np.errstate(over="ignore", invalid="ignore"):  # a result that is not finite is refused by name
        measured = measure(model, data, config.binarize, config.seed)
        page = model_data(model, half, measured, config, name)
        room = MOST_BYTES - len(render(page)) - 200  # 200: the keys of what follows
        return render(page | image_data(measured, room, name))


def script() -> str:
    """The page's one script."""
    return "\n".join((HERE / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)


def render(data: dict) -> str:
    """The page: the template with `data` and the script inside, and a policy that lets nothing else run or load."""
    template, source = (HERE / "template.html").read_text(encoding="utf-8"), script()
    style = re.search("<style>(.*?)</style>", template, re.DOTALL)[1]
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&":  # so that no text in the data can end the element it stands in
        text = text.replace(character, f"\\u{ord(character):04x}")
    hashes = {"SCRIPT_HASH": source_hash(source), "STYLE_HASH": source_hash(style)}
    return Template(template).substitute(SCRIPT=source, DATA=text, **hashes)


def source_hash(source: str) -> str:
    """A hash source of Content-Security-Policy: the one text that may run, or style, inline."""
    return f"sha256-{base64_of(hashlib.sha256(source.encode()).digest())}"


# --- its data: the model, then images -----------------------------------------------------------------------------


def round_weights(model: ConvVAE, name: str) -> dict[str, np.ndarray]:
    """Round the model's weights to float16, in place, so that every number is of the weights in the page; return them.

    Raises UsageError when a weight is beyond the range of float16.
    """
    with np.errstate(over="ignore"):
        half = {key: value.numpy().astype("<f2") for key, value in model.state_dict().items()}
    for key, value in half.items():
        if not np.isfinite(value).all():
            raise UsageError(
                f"{name}: expected weights within +-65504, the range of float16, found others in {key!r}; "
                "train again with a smaller --lr."
            )
    load_arrays(model, {key: value.astype(np.float32) for key, value in half.items()})
    return half


def model_data(model: ConvVAE, half: dict[str, np.ndarray], measured: Evaluation, config: RunConfig, name: str) -> dict:
    """The model, its weights in float16, and what was measured of it on the whole test split.

    Raises UsageError when a measurement is not finite.
    """
    recon, kl = float(measured.recon.mean()), float(measured.kl.mean())
    if not np.isfinite([recon, kl, *measured.kl_per_dim]).all():
        raise UsageError(f"{name}: recon or kl of the test split is not finite; train again with a smaller --lr.")
    data, latent_dim = measured.data, measured.mu.shape[1]
    return {
        "model": config.model,
        "title": model.title,
        "dataset": data.name,
        "shown": "sample" if data.split == "samples" else "test image",
        "trained": f"trained for {counted(config.epochs, 'epoch')} on {data.name}",
        "latent_dim": latent_dim,
        "likelihood": config.likelihood,
        "binary": config.binarize != "none",
        "samples": config.importance_samples,
        "classes": getattr(model, "classes", 0),
        "class_names": list(data.class_names) if data.labels is not None else [],
        "test": {"recon": recon, "kl": kl, "images": len(data)},
        "kl_per_dim": [round(float(value), 4) for value in measured.kl_per_dim],
        "active": measured.active.tolist(),
        "tensors": [[key, list(value.shape)] for key, value in half.items()],
        "weights": base64_of(b"".join(value.tobytes() for value in half.values())),
    }


def image_data(measured: Evaluation, room: int, name: str) -> dict:
    """Test images from the front of the split, as many as fit into `room` bytes, with their labels and codes.

    Raises UsageError when a code does not fit into float16.
    """
    data = measured.data
    packed = [pack(image) for image in data.images[: IMAGES.stop - 1]]
    each = np.array([4 / 3 * (len(image) + 2 * measured.mu.shape[1]) + 3 for image in packed])
    count = min(len(packed), max(IMAGES.start, int((each.cumsum() < room).sum())))
    with np.errstate(over="ignore"):
        mu = measured.mu[:count].astype("<f2")
    if not np.isfinite(mu).all():
        raise UsageError(f"{name}: expected finite codes of the test images, found others; train anew.")
    return {
        "image_count": count,
        "images": base64_of(b"".join(packed[:count])),
        "labels": data.labels[:count].tolist() if data.labels is not None and len(data.class_names) else None,
        "mu": base64_of(mu.tobytes()),
    }


def pack(image: np.ndarray) -> bytes:
    """uint8 pixels of any shape as bytes in which each run of zeros is a 0 and its length, 1 to 255."""
    packed = bytearray()
    for pixel, same in groupby(image.ravel().tolist()):
        count = len(list(same))
        if pixel:
            packed += bytes([pixel]) * count
        else:
            full, rest = divmod(count, 255)
            packed += bytes([0, 255]) * full + (bytes([0, rest]) if rest else b"")
    return bytes(packed)


def base64_of(values: bytes) -> str:
    """Bytes as base64 text."""
    return base64.b64encode(values).decode()
