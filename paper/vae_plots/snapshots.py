"""How the latent plane was learned: decoded and kept after each epoch, it becomes a GIF."""

import io
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from vae_common.errors import UsageError
from vae_common.files import check_size, load_arrays, write_atomically
from vae_common.latent_paths import manifold_grid
from vae_measures.held_out import on_arrays

SNAPSHOT_SIDE, MOST_FRAMES = 15, 40  # images along one side of a snapshot of the plane; frames of the GIF


def add_snapshot(folder: Path, model: nn.Module, epoch: int, epochs: int) -> None:
    """Keep the plane as decoded after this epoch (0: before training) in folder/snapshots.npz, when a VAE has one.

    What the file holds of this and later epochs is dropped, so an epoch that is done again is kept once.
    """
    if not (model.has_posterior and model.codes_are_vectors and model.latent_shape == (2,)):
        return
    decode = on_arrays(next(model.parameters()).device)(model.pixels)
    plane = decode(manifold_grid(SNAPSHOT_SIDE).astype(np.float32))
    plane = np.round(255 * plane).astype(np.uint8)[None]  # (1, 225, 1, 28, 28)
    path = folder / "snapshots.npz"
    planes = np.concatenate([read_snapshots(folder, epochs)[:epoch], plane]) if path.exists() else plane
    write_atomically(path, lambda file: np.savez_compressed(file, planes=planes))


def read_snapshots(folder: Path, epochs: int) -> np.ndarray:
    """uint8 (N, 225, 1, 28, 28) with N <= epochs + 1; raises UsageError when the run kept none or they cannot be read.

    The file is compressed, so it could unpack to anything: it is read only if it promises no more than that.
    """
    path = folder / "snapshots.npz"
    if not path.exists():
        raise UsageError(f"{path}: not found; a run of --model vae with --latent-dim 2 keeps what --animate shows.")
    try:
        check_size(path)
        with open(path, "rb") as file:
            planes = load_arrays(file, {"planes": (epochs + 1) * SNAPSHOT_SIDE**2 * 28 * 28})["planes"]
        if planes.dtype != np.uint8 or not len(planes):
            raise ValueError("no planes of 8-bit greys")
        return planes.reshape(-1, SNAPSHOT_SIDE**2, 1, 28, 28)
    except Exception as error:  # a damaged zip is reported as almost any exception
        raise UsageError(f"{path}: expected the snapshots of a run, found a damaged file; train again.") from error


def animate(folder: Path, epochs: int) -> Path:
    """Write folder/figures/manifold.gif, one frame for each epoch (40 at the most, evenly chosen), under 2 MB."""
    planes = read_snapshots(folder, epochs)
    shown = np.unique(np.linspace(0, len(planes) - 1, min(len(planes), MOST_FRAMES)).round().astype(int))
    first, *others = (frame(planes[epoch], f"epoch {epoch}") for epoch in shown)
    gif, times = io.BytesIO(), [400] * (len(shown) - 1) + [2500]  # milliseconds
    first.save(gif, "GIF", save_all=True, append_images=others, duration=times, loop=0)
    return write_atomically(folder / "figures" / "manifold.gif", lambda file: file.write(gif.getvalue()))


def frame(plane: np.ndarray, text: str) -> Image.Image:
    """A decoded plane (225, 1, 28, 28) as one picture in 16 greys, with a line of text above."""
    side, band = 28 * SNAPSHOT_SIDE, 26
    tiles = plane.reshape(SNAPSHOT_SIDE, SNAPSHOT_SIDE, 28, 28).swapaxes(1, 2).reshape(side, side)
    picture = Image.fromarray(np.pad(tiles // 17 * 17, ((band, 0), (0, 0)), constant_values=255))
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), 15)
    ImageDraw.Draw(picture).text((4, 4), text, fill=34, font=font)
    return picture
