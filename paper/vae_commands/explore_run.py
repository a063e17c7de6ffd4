"""Make the explorer's page of a run, or of the shipped weights."""

import sys
import webbrowser
from pathlib import Path

from conv_vae import ConvVAE
from vae_common.config import RunConfig
from vae_common.errors import UsageError
from vae_common.files import write_atomically
from vae_common.weights import PRETRAINED, load_weights
from vae_explorer.builder import explorer_page, refuse_other_models
from vae_training.factory import build_model, load_arrays
from vae_training.run_files import read_run


def explore_run(
    run: str | None = None, latent_dim: int | None = None, data_dir: str | None = None, open: bool = False
) -> None:
    """Carry out paper/latent_explorer.py: write explorer.html into the folder of the run.

    Without a run it is made of the shipped weights with that Z, 2 by default.
    """
    if run is None:
        config, model, folder = shipped(latent_dim or 2)
    else:
        (config, model, _), folder = read_run(run), Path(run)
    refuse_other_models(model, str(folder))  # before the data is read
    data = config.load("test", data_dir)
    page = explorer_page(model, data, config, str(folder)).encode()
    path = write_atomically(folder / "explorer.html", lambda file: file.write(page))
    print(f"wrote {path}, {len(page) / 1e6:.1f} MB; open it in a browser, no server or network is needed")
    if open and not webbrowser.open(path.resolve().as_uri()):
        print(f"no browser could be started here; open {path.resolve()} yourself", file=sys.stderr)


def shipped(latent_dim: int) -> tuple[RunConfig, ConvVAE, Path]:
    """The settings, the model and the folder to write to for the shipped weights with that Z."""
    path = PRETRAINED / f"digits-z{latent_dim}.safetensors"
    if not path.exists():
        raise UsageError(f"--latent-dim {latent_dim}: weights are shipped for 2 and 20; name a run of your own.")
    config = RunConfig(latent_dim=latent_dim, epochs=30).settled()  # as pretrained/README.md has it
    model = build_model(config)
    load_arrays(model, load_weights(path, latent_dim))
    return config, model, Path("runs") / f"pretrained-z{latent_dim}"
