"""Squares, ellipses and hearts with known factors: the structure of dSprites (Matthey et al. 2017) at 28x28.

Each shape is a signed distance in pixels, negative inside, and a pixel's grey is the share of it that lies
behind an upright edge at that distance:

    grey = 255 * clip(1/2 - distance, 0, 1)

The factor grid is that of dSprites, but any values between and beyond its points are drawn too. All shapes
have the same area and their centre of mass at the given position, so neither gives the shape away.

Axes: `B` images, `H W` pixels; x grows to the right, y down.
"""

import numpy as np

SPLIT_SEEDS = {"train": 0, "test": 1}
SPLIT_SIZES = {"train": 12000, "test": 2000}

SHAPES = ("square", "ellipse", "heart")
FACTOR_VALUES = {
    "shape": np.arange(3.0),  # index into SHAPES
    "scale": np.linspace(0.5, 1, 6),  # ratio: lengths grow with it, the area is AREA * scale^2
    "orientation": np.arange(40) * (2 * np.pi / 40),  # radians, counterclockwise as seen
    "pos_x": np.linspace(0, 1, 32),  # centre of mass: 0 is MARGIN pixels from the left edge, 1 from the right
    "pos_y": np.linspace(0, 1, 32),  # the same from the top edge to the bottom edge
}
FACTOR_NAMES = tuple(FACTOR_VALUES)

SIDE = 28
AREA = 64.0  # square pixels of every shape at scale 1, all within 6 pixels of its centre
MARGIN = 7.0
CHUNK = 128  # images drawn at once, so that the temporary arrays stay in the processor's cache
LIMIT = 1000.0  # largest magnitude of a factor, far beyond anything visible

# Height of the heart's centre of mass above its tip, by the moments of the square and of the two half-discs.
HEART_CENTRE = (1 / 4 + np.pi / 8 * (3 / 4 + 1 / (3 * np.pi))) / (1 / 2 + np.pi / 8)


def sample_factors(count: int, seed: int) -> np.ndarray:
    """Factor vectors of `count` images, float64 (count, 5), uniform over the grid of `FACTOR_VALUES`."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.choice(values, size=count) for values in FACTOR_VALUES.values()], axis=1)


def draw(factors: np.ndarray) -> np.ndarray:
    """Images of `factors` (B, 5), columns as in `FACTOR_NAMES`: uint8 (B, 1, 28, 28), white on black.

    A vector gives the same bytes in any batch. Raises ValueError for an array of another shape, a factor that
    is not finite or exceeds 1000 in magnitude, a sprite other than 0, 1, 2, and a scale below 0.001.
    """
    factors = np.asarray(factors, dtype=np.float64)
    if factors.ndim != 2 or factors.shape[1] != len(FACTOR_NAMES):
        raise ValueError(f"factors must have shape (count, {len(FACTOR_NAMES)}), not {factors.shape}")
    if not (np.abs(factors) <= LIMIT).all():
        raise ValueError(f"factors must be finite and at most {LIMIT:g} in magnitude")
    if not np.isin(factors[:, 0], FACTOR_VALUES["shape"]).all():
        raise ValueError("the shape, column 0 of the factors, must be 0 (square), 1 (ellipse) or 2 (heart)")
    if not (factors[:, 1] >= 1 / LIMIT).all():
        raise ValueError(f"the scale, column 1 of the factors, must be at least {1 / LIMIT:g}")
    images = np.empty((len(factors), 1, SIDE, SIDE), np.uint8)
    for shape, distance in enumerate((_square, _ellipse, _heart)):
        chosen = np.flatnonzero(factors[:, 0] == shape)
        for start in range(0, len(chosen), CHUNK):
            chunk = chosen[start : start + CHUNK]
            images[chunk, 0] = _draw_chunk(distance, *np.ascontiguousarray(factors[chunk, 1:].T))
    return images


def _draw_chunk(distance, scale, orientation, pos_x, pos_y) -> np.ndarray:
    """Grey values uint8 (B, H, W) of one shape with the other factors, each (B,)."""
    pixel = (np.arange(SIDE) + 0.5)[:, None]
    x = (pixel - MARGIN - (SIDE - 2 * MARGIN) * pos_x)[None]  # (1, W, B)
    y = (pixel - MARGIN - (SIDE - 2 * MARGIN) * pos_y)[:, None]  # (H, 1, B)
    cos, sin = np.cos(orientation), np.sin(orientation)
    u, v = cos * x - sin * y, sin * x + cos * y  # (H, W, B)
    grey = np.clip(0.5 - distance(u, v, scale * np.sqrt(AREA)), 0, 1)
    return np.rint(255 * grey).astype(np.uint8).transpose(2, 0, 1)


def _square(u: np.ndarray, v: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Signed distance to the square of area size^2."""
    a, b = np.abs(u) - size / 2, np.abs(v) - size / 2
    return np.hypot(np.maximum(a, 0), np.maximum(b, 0)) + np.minimum(np.maximum(a, b), 0)


def _ellipse(u: np.ndarray, v: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Signed distance to the ellipse of area size^2 that is as long as the square's diagonal, near its edge.

    The ellipse is f = 1 with f = |(u/a, v/b)|, and (f - 1) / |grad f| is the distance to first order.
    """
    a, b = size / np.sqrt(2), size * np.sqrt(2) / np.pi
    f = np.hypot(u / a, v / b)
    slope = np.hypot(u / a**2, v / b**2)  # f |grad f|
    return f * (f - 1) / np.maximum(slope, 1e-9) - b * (slope < 1e-9)


def _heart(u: np.ndarray, v: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Signed distance to the heart of area size^2: a square on its tip and half-discs on its two upper sides.

    With the tip at (0, 0) and a square of diagonal 1 the area is 1/2 + pi/8. The three regions are half-disc,
    notch and flank, as in Inigo Quilez, "2D distance functions".
    """
    unit = size / np.sqrt(1 / 2 + np.pi / 8)
    across, up = np.abs(u) / unit, HEART_CENTRE - v / unit
    half_disc = np.hypot(across - 0.25, up - 0.75) - np.sqrt(1 / 8)
    along = np.maximum(across + up, 0) / 2
    flank = np.minimum(np.hypot(across, up - 1), np.hypot(across - along, up - along))
    return unit * np.where(across + up > 1, half_disc, np.copysign(flank, across - up))
