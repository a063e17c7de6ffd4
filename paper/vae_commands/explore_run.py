"""Make the explorer's page of a run, or of the shipped weights."""

import sys
import webbrowser
from pathlib import Path

import numpy as np
import torch

from conv_vae import ConvVAE
from vae_common.config import RunConfig
from vae_common.data import ImageSet
from vae_common.errors import DatasetError
from vae_common.files import write_atomically
from vae_common.randomness import generator
from vae_common.weights import load_weights, shipped
from vae_explorer.builder import explorer_page, refuse_other_models
from vae_training.factory import build_model, load_arrays
from vae_training.run_files import read_run


def explore_run(
    run: str | None = None,
    pretrained: str | None = None,
    latent_dim: int | None = None,
    data_dir: str | None = None,
    open: bool = False,
) -> None:
    """Carry out paper/latent_explorer.py: write explorer.html into the folder of the run.

    pretrained: the data set whose shipped weights, of Z = `latent_dim`, by default 2, take the place of a run.
    """
    if pretrained:
        config, model, folder = shipped_model(pretrained, latent_dim or 2)
    else:
        (config, model, _), folder = read_run(run), Path(run)
    refuse_other_models(model, str(folder))  # before the data is read
    try:
        data = config.load("test", data_dir)
    except DatasetError as error:
        if not pretrained:
            raise
        print(f"note: the page shows images that the model drew itself, for want of {config.dataset}: {error}")
        data = drawn_by(model, config)
    page = explorer_page(model, data, config, str(folder)).encode()
    path = write_atomically(folder / "explorer.html", lambda file: file.write(page))
    print(f"wrote {path}, {len(page) / 1e6:.1f} MB; open it in a browser, no server or network is needed")
    if open and not webbrowser.open(path.resolve().as_uri()):
        print(f"no browser could be started here; open {path.resolve()} yourself", file=sys.stderr)


def shipped_model(dataset: str, latent_dim: int) -> tuple[RunConfig, ConvVAE, Path]:
    """The settings, the model and the folder to write to for the shipped weights of that data set and Z."""
    name = shipped(dataset, latent_dim)
    config = RunConfig(dataset=dataset, latent_dim=latent_dim, epochs=30).settled()  # as pretrained/README.md has it
    model = build_model(config)
    load_arrays(model, load_weights(name))
    return config, model, Path("runs") / f"pretrained-{name.removeprefix('digits-')}"


@torch.no_grad()
def drawn_by(model: ConvVAE, config: RunConfig, count: int = 1000) -> ImageSet:
    """Images that the model decodes from draws of its prior, in place of a test split; nobody knows their classes."""
    z = generator(config.seed, "figures").standard_normal((count, config.latent_dim), dtype=np.float32)
    images = (255 * model.pixels(torch.from_numpy(z))).round().to(torch.uint8).numpy()
    return ImageSet(config.dataset, "samples", images, None, ())
