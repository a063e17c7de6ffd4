"""What every picture is made on: one style, arrays checked before they are drawn, figures that fit what they hold."""

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from vae_common.arrays import checked_array
from vae_common.files import write_atomically

WIDTH, MARGIN, DPI = 7.27, 0.08, 110  # inches, inches, dots per inch: 800 pixels, the width of a README
MOST_CLASSES = 20  # that a picture names
SIDE, GAP = 28, 2  # pixels of an image, and between two images
INK, GREY, PALE = "#222222", "#6b6b6b", "#c4c4c4"
LINES = ("#0077bb", "#cc3311", "#009988", "#ee7733")  # Tol 2021, vibrant: for few lines and bars
PALETTE = (  # Tol 2021, "Colour Schemes", muted: told apart with the common colour-vision deficiencies
    *("#332288", "#88ccee", "#cc6677", "#117733", "#ddcc77"),
    *("#882255", "#44aa99", "#aa4499", "#999933", "#555555"),
)
STYLE = {
    "axes.edgecolor": GREY,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.unicode_minus": False,
    "axes.axisbelow": True,
    "figure.constrained_layout.h_pad": MARGIN,
    "figure.constrained_layout.w_pad": MARGIN,
    "figure.facecolor": "white",
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": "#e6e6e6",
    "image.interpolation": "antialiased",
    "legend.frameon": False,
    "savefig.bbox": None,
    "text.parse_math": False,  # a class may be called $x$
    "text.color": INK,
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
}


@contextlib.contextmanager
def _drawing() -> Iterator[None]:
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a letter of a class's name that the font lacks: a box
        yield


styled = _drawing()  # a decorator: the style holds while the figure is made


def checked_images(name: str, images: np.ndarray, count: int | None = None) -> np.ndarray:
    """Any of the accepted forms as float64 (N, 28, 28) in [0, 1]."""
    array = np.asarray(images)
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    array = checked_array(name, array, count, SIDE, SIDE)
    array = array / 255 if array.dtype == np.uint8 else array.astype(np.float64)
    if array.min() < -1e-6 or array.max() > 1 + 1e-6:
        found = f"{array.min():.3g} to {array.max():.3g}"
        raise ValueError(f"{name}: expected pixels in [0, 1], found {found}; logits need a sigmoid first")
    return array


def new_figure(title: str, caption: str | None, height: float, width: float = WIDTH) -> Figure:
    """An empty figure of this size in inches, with its title and a caption beneath."""
    fig = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    fig.suptitle(title, x=MARGIN / width, ha="left", wrap=True)
    if caption:
        fig.supxlabel(caption, x=MARGIN / width, ha="left", size=9, weight="normal", color=GREY, wrap=True)
    return fig


def mosaic_figure(
    tiles: np.ndarray,
    columns: int,
    title: str,
    caption: str | None,
    gap: int = GAP,
    panels: int = 0,
    widest: float = WIDTH,
) -> tuple[Figure, list[Axes]]:
    """Tiles (N, h, w) as one picture, in reading order on white, and `panels` empty axes beneath it."""
    count, h, w = tiles.shape
    rows = -(-count // columns)
    cells = np.ones((rows * columns, h + gap, w + gap))
    cells[:count, :h, :w] = tiles
    mosaic = cells.reshape(rows, columns, h + gap, w + gap).swapaxes(1, 2)
    mosaic = mosaic.reshape(rows * (h + gap), columns * (w + gap))
    mosaic = mosaic[: mosaic.shape[0] - gap, : mosaic.shape[1] - gap]
    fig = new_figure(title, caption, height=9, width=min(widest, max(4, 0.8 * columns + 1)))
    axes = list(fig.subplots(1 + panels, 1, squeeze=False)[:, 0])
    ax = axes[0]
    ax.imshow(mosaic, cmap="gray", vmin=0, vmax=1, aspect="auto")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return fig, axes


def label_tiles(
    ax: Axes, rows: int, columns: int, row_labels: Sequence[str] | None, column_labels: Sequence[str] | None
) -> None:
    """Write labels beside the rows and above the columns of a mosaic; raises ValueError where their number is wrong."""
    for name, labels, count in (("row_labels", row_labels, rows), ("column_labels", column_labels, columns)):
        if labels is not None and len(labels) != count:
            raise ValueError(f"{name}: expected {count} labels, found {len(labels)}")
    if row_labels is not None:
        ax.set_yticks(tile_centres(rows, SIDE, GAP), row_labels)
    if column_labels is not None:
        ax.set_xticks(tile_centres(columns, SIDE, GAP), column_labels, size=9 if columns <= 12 else 7)
        room = 10 if columns <= 8 else (90 if columns <= 12 else 115) / columns  # letters above one column
        if any(len(one) + len(other) > 2 * room for one, other in pairwise(column_labels)):
            ax.tick_params(axis="x", labelrotation=90)
        ax.xaxis.tick_top()
        ax.tick_params(length=0)


def tile_centres(count: int, size: int, gap: int) -> np.ndarray:
    """The centres, in pixels, of `count` tiles of `size` pixels that lie `gap` pixels apart."""
    return np.arange(count) * (size + gap) + size / 2 - 0.5


def fit_mosaic(fig: Figure, panel: float = 0) -> Figure:
    """Give the mosaic the height that makes its pixels square, and the axes beneath it `panel` inches."""
    settle(fig)
    boxes = [ax.get_position() for ax in fig.axes]
    height, width = fig.axes[0].images[0].get_size()
    wanted = [boxes[0].width * fig.get_figwidth() * height / width] + [panel] * (len(boxes) - 1)
    fig.axes[0].get_gridspec().set_height_ratios(wanted)
    fig.set_figheight(fig.get_figheight() * (1 - sum(box.height for box in boxes)) + sum(wanted))
    return settle(fig)


def settle(fig: Figure) -> Figure:
    """Lay the figure out now, while the style holds: ticks are made when they are first measured."""
    fig.get_layout_engine().execute(fig)
    for ax in fig.axes:
        ax.apply_aspect()
    return fig


@styled
def save_figure(fig: Figure, path: str | Path) -> Path:
    """Write the figure as PNG, whole or not at all; the same figure gives the same bytes. Returns the path.

    A palette of 256 colours keeps all greys, and makes the file a half to a third. Raises ValueError when the
    name does not end in .png, OSError when the disk refuses.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"{path}: figures are written as PNG; expected a name that ends in .png")
    drawn = io.BytesIO()
    fig.savefig(drawn, format="png", dpi=DPI)
    picture = Image.open(drawn).convert("RGB")
    picture = picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return write_atomically(path, lambda file: picture.save(file, "PNG", optimize=True))
