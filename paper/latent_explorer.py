"""One offline HTML page of a finished run, in which its latent space can be explored and its network watched at work.

`python paper/latent_explorer.py RUN` writes RUN/explorer.html: the weights as float16, test images with their posterior
means, latent_explorer.html around them and latent_explorer.js, which computes everything anew. The page needs no
server and no network, and its Content-Security-Policy allows none. --pretrained makes it from the shipped weights.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
import webbrowser
from itertools import groupby
from pathlib import Path
from string import Template

import numpy as np

from vae_common import cli
from vae_common.data import ImageSet
from vae_common.files import write_atomically
from vae_common.weights import PRETRAINED, load_weights

HERE = Path(__file__).parent
MOST_BYTES = 5_000_000  # of the page; what the weights leave goes to test images
IMAGES = range(12, 1001)  # at least so many test images (at Z > 240 they exceed MOST_BYTES by 1%), and at most

# --- the model: weights rounded to float16, and what they reach on the test split ---------------------------------


def round_weights(model, name: str) -> dict[str, np.ndarray]:
    """Round the model's weights to float16, in place, so that every number is of the weights in the page; return them.

    Raises UsageError when a weight is beyond the range of float16.
    """
    from paper_run import load_arrays

    with np.errstate(over="ignore"):
        half = {key: value.numpy().astype(np.float16) for key, value in model.state_dict().items()}
    for key, value in half.items():
        if not np.isfinite(value).all():
            raise cli.UsageError(
                f"{name}: expected weights within +-65504, the range of float16, found others in {key!r}; "
                "train again with a smaller --lr."
            )
    load_arrays(model, {key: value.astype(np.float32) for key, value in half.items()})
    return half


def refuse_other_models(model, name: str) -> None:
    """Raise UsageError unless the page can compute the model: the spec's network, with or without a class."""
    from conditional_vae import ConditionalVAE
    from paper_run import follows_spec

    if not (follows_spec(model) or isinstance(model, ConditionalVAE)):
        raise cli.UsageError(
            f"{name}: the explorer knows the spec's network only, with --model vae, ae or cvae and --trunk conv; "
            "name such a run."
        )


def title_of(model, config: argparse.Namespace) -> str:
    """What the page calls the model: "VAE", "beta-VAE, beta = 4", "IWAE, K = 5", ..."""
    kind = type(model).__name__
    if kind == "BetaVAE":
        parts = [f"beta = {config.beta:g}"] if config.beta != 1 else []
        parts += [f"free bits {config.free_bits:g}"] if config.free_bits else []
        parts += [f"capacity {config.capacity:g}"] if config.capacity is not None else []
        parts += [f"{config.anneal} annealing"] if config.anneal != "none" else []
        return ", ".join(["beta-VAE", *parts])
    names = {
        "Autoencoder": "Autoencoder",
        "ConditionalVAE": "Conditional VAE",
        "IWAE": f"IWAE, K = {config.importance_samples}",
        "ManySampleVAE": f"VAE, {config.mc_samples} samples",
    }
    return names.get(kind, "VAE")


# --- arrays -> text -----------------------------------------------------------------------------------------------


def base64_of(values: np.ndarray | bytes) -> str:
    return base64.b64encode(values if isinstance(values, bytes) else values.tobytes()).decode()


def pack(image: np.ndarray) -> bytes:
    """uint8 pixels of any shape as bytes in which each run of zeros is a 0 and its length, 1 to 255."""
    packed = bytearray()
    for pixel, same in groupby(image.ravel().tolist()):
        count = len(list(same))
        if pixel:
            packed += bytes([pixel]) * count
        else:
            full, rest = divmod(count, 255)
            packed += bytes([0, 255]) * full + bytes([0, rest])[: 2 * bool(rest)]
    return bytes(packed)


def half_floats(mu: np.ndarray, name: str) -> np.ndarray:
    """mu as little-endian float16; raises UsageError when it does not fit."""
    with np.errstate(over="ignore"):
        half = mu.astype("<f2")
    if not np.isfinite(half).all():
        raise cli.UsageError(f"{name}: expected finite codes of the test images, found others; train anew.")
    return half


def page_data(model, half: dict[str, np.ndarray], measured, config: argparse.Namespace, name: str) -> dict:
    """Everything that latent_explorer.js needs, as a dict for JSON; `half` are the weights in float16.

    Raises UsageError when a measurement is not finite.
    """
    about = of_model(model, half, measured, config, name)
    return {**about, **of_images(measured, MOST_BYTES - len(render(about)) - 200, name)}  # 200: the keys of the latter


def of_model(model, half: dict[str, np.ndarray], measured, config: argparse.Namespace, name: str) -> dict:
    """The model, its weights, and what was measured of it on the whole test split."""
    recon, kl = float(measured.recon.mean()), float(measured.kl.mean())
    price = measured.kl_per_dim
    if not np.isfinite([recon, kl, *price]).all():
        raise cli.UsageError(f"{name}: recon or kl of the test split is not finite; train again with a smaller --lr.")
    data = measured.data
    weights = b"".join(value.astype("<f2").tobytes() for value in half.values())
    return {
        "model": config.model,
        "title": title_of(model, config),
        "dataset": data.name,
        "trained": f"trained for {cli.counted(config.epochs, 'epoch')} on {data.name}",
        "latent_dim": measured.mu.shape[1],
        "likelihood": config.likelihood,
        "binary": config.binarize != "none",
        "samples": config.importance_samples,
        "classes": getattr(model, "classes", 0),
        "class_names": list(data.class_names) if data.labels is not None else [],
        "test": {"recon": recon, "kl": kl, "images": len(data)},
        "price": [round(float(value), 4) for value in price],
        "active": measured.active.tolist() if config.model != "ae" else [True] * len(price),
        "tensors": [[key, list(value.shape)] for key, value in half.items()],
        "weights": base64_of(weights),
    }


def of_images(measured, room: int, name: str) -> dict:
    """Test images from the front of the split, as many as fit into `room` bytes, with their labels and codes."""
    data = measured.data
    packed = [pack(image) for image in data.images[: IMAGES.stop - 1]]
    each = np.array([4 / 3 * (len(image) + 2 * measured.mu.shape[1]) + 3 for image in packed])
    count = min(len(packed), max(IMAGES.start, int((each.cumsum() < room).sum())))
    return {
        "image_count": count,
        "images": base64_of(b"".join(packed[:count])),
        "labels": data.labels[:count].tolist() if data.labels is not None and len(data.class_names) else None,
        "mu": base64_of(half_floats(measured.mu[:count], name)),
    }


# --- text -> page -------------------------------------------------------------------------------------------------


def render(data: dict) -> str:
    """The page: the template with `data` and the script inside, and a policy that lets nothing else run or load."""
    template, script = ((HERE / f"latent_explorer.{kind}").read_text(encoding="utf-8") for kind in ("html", "js"))
    style = re.search("<style>(.*?)</style>", template, re.DOTALL)[1]
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&":  # so that no text in the data can end the element it stands in
        text = text.replace(character, f"\\u{ord(character):04x}")
    hashes = {"SCRIPT_HASH": source_hash(script), "STYLE_HASH": source_hash(style)}
    return Template(template).substitute(SCRIPT=script, DATA=text, **hashes)


def source_hash(source: str) -> str:
    """A hash source of Content-Security-Policy: the one text that may run, or style, inline."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def explorer_page(model, data: ImageSet, config: argparse.Namespace, name: str) -> str:
    """The page of a trained model, measured on the test split `data`; `name` is what error messages call the run."""
    from paper_run import measure

    refuse_other_models(model, name)
    half = round_weights(model, name)
    with np.errstate(over="ignore", invalid="ignore"):  # a result that is not finite is refused by name
        return render(page_data(model, half, measure(model, data, config), config, name))


# --- command line -------------------------------------------------------------------------------------------------


def shipped(latent_dim: int | None) -> tuple[argparse.Namespace, object, Path]:
    """The settings, the model and the folder to write to for the shipped weights with that Z, 2 by default."""
    from paper_run import load_arrays

    from conv_vae import ConvVAE
    from vae_common.spec import VAESpec

    latent_dim = latent_dim or 2
    path = PRETRAINED / f"digits-z{latent_dim}.safetensors"
    if not path.exists():
        raise cli.UsageError(f"--latent-dim {latent_dim}: weights are shipped for 2 and 20; name a run of your own.")
    config = {"model": "vae", "dataset": "digits", "data_dir": None, "seed": 0, "epochs": 30}  # pretrained/README.md
    config |= {"likelihood": "bernoulli", "binarize": "none", "importance_samples": 1, "mc_samples": 1}
    model = ConvVAE(VAESpec(latent_dim))
    load_arrays(model, load_weights(path, latent_dim))
    return argparse.Namespace(**config), model, Path("runs") / f"pretrained-z{latent_dim}"


def run(args: argparse.Namespace) -> None:
    from paper_run import read_run

    from vae_common.data import load_dataset

    if args.pretrained == (args.run is not None):
        raise cli.UsageError("expected either a run folder or --pretrained, for the shipped weights; give one of them.")
    if args.latent_dim is not None and not args.pretrained:
        raise cli.UsageError("--latent-dim chooses among the shipped weights; leave it out, a run has its own.")
    if args.pretrained:
        config, model, folder = shipped(args.latent_dim)
    else:
        (config, model, _), folder = read_run(args.run), Path(args.run)
    refuse_other_models(model, str(folder))  # before the data is read
    data = load_dataset(config.dataset, "test", args.data_dir or config.data_dir)
    page = explorer_page(model, data, config, str(folder)).encode()
    path = write_atomically(folder / "explorer.html", lambda file: file.write(page))
    print(f"wrote {path}, {len(page) / 1e6:.1f} MB; open it in a browser, no server or network is needed")
    if args.open and not webbrowser.open(path.resolve().as_uri()):
        print(f"no browser could be started here; open {path.resolve()} yourself", file=sys.stderr)


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__.splitlines()[0], "--data-dir", "--latent-dim")
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run folder written by paper/vae_paper.py")
    parser.add_argument("--pretrained", action="store_true", help="the shipped weights instead, --latent-dim 2 or 20")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
