"""Handwritten-looking digits, drawn from recorded factors.

A digit is one or more pen strokes. Each class has two ways of writing it (`GLYPHS`); an image blends the two,
bends them (wobble), slants, turns, scales and shifts the path, and inks each pixel by its distance to it:

    grey = 255 * clip((thickness / 2 - distance) / EDGE + 1/2, 0, 1)

The drawing is a deterministic function of the factor vector: an image can be redrawn exactly from its
factors, and a latent space compared with the true causes of variation.

Axes: `B` images, `F` factors, `P` points along the pen's path, `H W` pixels; x grows to the right, y down.
"""

from dataclasses import dataclass

import numpy as np

SPLIT_SEEDS = {"train": 0, "test": 1}
SPLIT_SIZES = {"train": 12000, "test": 2000}

SIDE = 28
UNIT = 8.2  # pixels per glyph unit: a digit of scale 1 is, with its ink, about 19 pixels tall
EDGE = 1.5  # pixels from full ink to none; MNIST's edges are about as soft
POINTS = 80  # longest path about 55 pixels: gaps below 0.7 pixels, which a pen 1.5 wide covers
CHUNK = 128  # images drawn at once, so that the two (H, W, CHUNK) arrays stay in the processor's cache
LIMIT = 1000.0  # largest magnitude of a factor, far beyond anything visible, where float32 is still safe


@dataclass(frozen=True)
class Factor:
    """One cause of variation: uniform on [low, high]; the class is uniform on the integers 0 to 9."""

    name: str
    low: float
    high: float
    unit: str
    what: str


FACTORS = (
    Factor("class", 0, 9, "integer", "the digit"),
    Factor("slant", -0.15, 0.48, "ratio", "shear: pixels to the right per pixel up"),
    Factor("rotation", -0.20, 0.20, "radians", "turn about the digit's middle, counterclockwise as seen"),
    Factor("scale", 0.80, 1.05, "ratio", "size of the pen's path; the pen keeps its thickness"),
    Factor("thickness", 1.5, 4.2, "pixels", "width of the pen"),
    Factor("shift_x", -1.5, 1.5, "pixels", "to the right"),
    Factor("shift_y", -1.5, 1.5, "pixels", "downwards"),
    Factor("wobble_form", 0.0, 1.0, "ratio", "from the class's first way of writing to the second"),
    Factor("wobble_width", -0.22, 0.28, "ratio", "wider at the same height"),
    Factor("wobble_bow", -0.20, 0.20, "glyph units", "the middle bulges to the right"),
    Factor("wobble_sway", -0.20, 0.20, "glyph units", "upper half to the left, lower half to the right"),
    Factor("wobble_taper", -0.20, 0.20, "ratio", "the bottom wider than the top"),
    Factor("wobble_waist", -0.22, 0.22, "glyph units", "the middle lower: the upper part larger"),
    Factor("wobble_sag", -0.20, 0.20, "glyph units", "the left and right ends lower than the middle"),
    Factor("wobble_tilt", -0.25, 0.25, "ratio", "horizontal strokes rise to the right"),
    Factor("wobble_drift", -0.15, 0.15, "glyph units", "the pen drifts to the right: loops open or overlap"),
)
FACTOR_NAMES = tuple(factor.name for factor in FACTORS)

# Two ways of writing each class, in hundredths of a glyph unit, from -100 (top) to 100. A stroke is a list of
# "x,y" points joined by a smooth curve; a repeated point is a corner; "|" lifts the pen. Both ways have the
# same number of points, so that they blend; the bar of the 7, which only the second has, is at first a dot.
GLYPHS = (
    (
        "12,-97 -48,-74 -74,-4 -50,72 2,97 54,74 74,4 58,-66 12,-97",
        "40,-80 -12,-92 -52,-30 -50,48 -14,96 34,62 52,-16 34,-74 -24,-98",
    ),
    (
        "0,-97 0,-97 0,-97 0,-97 0,0 0,97",
        "-48,-46 -14,-68 8,-97 8,-97 4,0 0,97",
    ),
    (
        "-54,-52 -30,-90 24,-94 54,-58 28,2 -20,52 -62,88 -62,88 -62,88 -2,86 68,90",
        "-58,-66 -8,-98 48,-72 36,-8 0,54 -38,92 -72,82 -58,44 -14,54 28,88 78,66",
    ),
    (
        "-50,-76 0,-97 48,-68 32,-22 -16,-8 -16,-8 -16,-8 48,16 56,64 2,97 -58,76",
        "-56,-92 20,-96 56,-84 10,-24 -18,2 -34,-16 -4,-20 44,4 42,58 -10,94 -68,98",
    ),
    (
        "-46,-92 -52,-40 -56,10 -56,10 -12,10 30,4 76,-2|46,-84 42,-30 36,40 32,97",
        "24,-97 -26,-38 -68,28 -68,28 -20,32 20,30 70,24|24,-97 22,-30 18,40 14,97",
    ),
    (
        "-34,-90 -40,-50 -48,-8 -48,-8 0,-30 50,0 54,52 8,95 -60,78|-34,-90 14,-90 62,-92",
        "-6,-80 -32,-58 -38,-24 -38,-24 8,-8 36,24 26,70 -18,96 -70,84|-6,-80 30,-90 84,-94",
    ),
    (
        "46,-88 -12,-62 -54,-2 -52,66 2,97 56,70 50,20 2,6 -52,44",
        "34,-94 -16,-60 -40,10 -36,74 -6,96 28,76 22,46 -4,40 -34,72",
    ),
    (
        "-62,-80 -20,-84 20,-86 58,-88 58,-88 24,-20 0,40 -14,97|16,0 16,0 16,0",
        "-62,-62 -50,-88 10,-84 60,-92 60,-92 24,-28 -4,32 -20,97|-34,14 6,6 48,-2",
    ),
    (
        "50,-70 0,-96 -48,-68 -28,-28 26,10 54,58 0,96 -54,60 -30,14 22,-26 52,-58 50,-70",
        "64,-78 10,-94 -38,-72 -16,-30 14,6 36,52 -8,96 -46,64 -18,20 22,-18 56,-48 84,-92",
    ),
    (
        "52,-60 12,-95 -46,-74 -50,-26 -6,-4 42,-36 52,-62 52,-62 46,0 40,50 36,97",
        "38,-74 -4,-96 -46,-56 -36,-12 6,-10 38,-48 46,-74 46,-74 50,20 18,88 -50,88",
    ),
)


def _spline(control: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Points (T, 2) of the Catmull-Rom curve through `control` (K, 2) at t (T,) in [0, K - 1]."""
    closed = np.array_equal(control[0], control[-1])
    before = control[-2] if closed else 2 * control[0] - control[1]
    after = control[1] if closed else 2 * control[-1] - control[-2]
    padded = np.vstack([before, control, after])
    i = np.minimum(t.astype(int), len(control) - 2)
    u = (t - i)[:, None]
    a, b, c, d = (padded[i + k] for k in range(4))
    curve = b + u / 2 * (c - a + u * (2 * a - 5 * b + 4 * c - d + u * (3 * (b - c) + d - a)))
    return np.where((b == c).all(axis=1, keepdims=True), b, curve)


def _trace(glyph: tuple[str, str]) -> np.ndarray:
    """The pen's path in both ways of writing, (2, P, 2): evenly spaced points, the line's centre at the origin."""
    curves, steps = [], []
    for stroke in zip(*(way.split("|") for way in glyph), strict=True):
        first, second = (np.array([point.split(",") for point in s.split()], float) / 100 for s in stroke)
        t = np.linspace(0, len(first) - 1, 2001)
        curves.append(np.stack([_spline(first, t), _spline(second, t)]))
        steps.append(np.linalg.norm(np.diff(curves[-1], axis=1, prepend=curves[-1][:, :1]), axis=2))
    curve, step = np.concatenate(curves, axis=1), np.concatenate(steps, axis=1)[..., None]
    centre = (curve * step).sum(axis=1, keepdims=True) / step.sum(axis=1, keepdims=True)
    length = step.max(axis=0).cumsum()
    return (curve - centre)[:, np.searchsorted(length, np.linspace(0, length[-1], POINTS))]


PATHS = np.stack([_trace(glyph) for glyph in GLYPHS], axis=-1)  # (2, P, 2, 10)


def sample_factors(count: int, seed: int) -> np.ndarray:
    """Factor vectors of `count` images, float64 (count, F), each within its range in `FACTORS`."""
    rng = np.random.default_rng(seed)
    low, high = np.array([(factor.low, factor.high) for factor in FACTORS]).T
    factors = rng.uniform(low, high, size=(count, len(FACTORS)))
    factors[:, 0] = rng.integers(0, 10, size=count)
    return factors


def draw(factors: np.ndarray) -> np.ndarray:
    """Images of `factors` (B, F), columns as in `FACTOR_NAMES`: uint8 (B, 1, 28, 28), white ink on black.

    A vector gives the same bytes in any batch. Values outside the ranges of `FACTORS` are drawn too.
    Raises ValueError for another shape, a factor that is not finite or exceeds 1000 in magnitude, and a class
    that is not an integer from 0 to 9.
    """
    factors = np.asarray(factors, dtype=np.float64)
    if factors.ndim != 2 or factors.shape[1] != len(FACTORS):
        raise ValueError(f"factors must have shape (count, {len(FACTORS)}), not {factors.shape}")
    if not (np.abs(factors) <= LIMIT).all():
        raise ValueError(f"factors must be finite and at most {LIMIT:g} in magnitude")
    if not np.isin(factors[:, 0], np.arange(10)).all():
        raise ValueError("the class, column 0 of the factors, must be an integer from 0 to 9")
    images = np.empty((len(factors), 1, SIDE, SIDE), np.uint8)
    for start in range(0, len(factors), CHUNK):
        chunk = slice(start, start + CHUNK)
        images[chunk, 0] = _draw_chunk(*np.ascontiguousarray(factors[chunk].T))
    return images


def _draw_chunk(label, slant, rotation, scale, thickness, shift_x, shift_y, *wobble) -> np.ndarray:
    """Grey values uint8 (B, H, W) of the factors, each (B,)."""
    x, y = _wobbly_path(label.astype(int), *wobble)
    x = x - slant * y
    cos, sin = scale * UNIT * np.cos(rotation), scale * UNIT * np.sin(rotation)
    x, y = cos * x + sin * y + shift_x, cos * y - sin * x + shift_y
    return _ink(x, y, thickness)


def _wobbly_path(label, form, width, bow, sway, taper, waist, sag, tilt, drift):
    """Where the pen goes: x, y in glyph units, each (P, B). All but drift bends the plane, so joints hold."""
    first, second = PATHS[..., label]  # (P, 2, B)
    path = first + form * (second - first)
    x, y = path[:, 0], path[:, 1]
    along = np.linspace(-1, 1, POINTS)[:, None]
    bent_x = x * (1 + width) * (1 + taper * y) + bow * (0.5 - y**2) + sway * (y - y**3) + drift * along
    bent_y = y + waist * (0.5 - y**2) + sag * (x**2 - 0.2) - tilt * x
    return bent_x, bent_y


def _ink(x: np.ndarray, y: np.ndarray, thickness: np.ndarray) -> np.ndarray:
    """Grey values uint8 (B, H, W) of pens `thickness` (B,) wide through x, y (P, B), pixels from the centre.

    The batch is the last axis, where elementwise arithmetic is fastest and no image depends on another.
    """
    pixel = (np.arange(SIDE) - (SIDE - 1) / 2)[:, None]
    dx2 = np.square(pixel - x[:, None]).astype(np.float32)  # (P, W, B)
    dy2 = np.square(pixel - y[:, None]).astype(np.float32)  # (P, H, B)
    nearest = np.full((SIDE, SIDE, len(thickness)), np.inf, np.float32)
    squared = np.empty_like(nearest)
    for p in range(POINTS):
        np.add(dy2[p, :, None], dx2[p], out=squared)
        np.minimum(nearest, squared, out=nearest)
    grey = np.clip((thickness.astype(np.float32) / 2 - np.sqrt(nearest)) / EDGE + 0.5, 0, 1)
    return np.rint(255 * grey).astype(np.uint8).transpose(2, 0, 1)
