"""The two datasets that the project draws itself: each factor does what its table says, and digits can be learned."""

import tracemalloc

import numpy as np
import pytest

from vae_common import digits, sprites
from vae_common.data import load_dataset
from vae_measures.sample_quality import look, train_classifier

MODULES = pytest.mark.parametrize("module", [digits, sprites], ids=["digits", "sprites"])
CLASSES = pytest.mark.parametrize("label", range(10))

# Two computations of one picture that differ by float rounding may fall on two sides of a rounding boundary.
ONE_GREY_LEVEL = 1


def draw_digit(label, **changes):
    """An upright, unwobbled digit in its first way of writing, but for the changes."""
    plain = {"class": label, "scale": 1.0, "thickness": 2.0} | changes
    return digits.draw(np.array([[plain.get(name, 0.0) for name in digits.FACTOR_NAMES]]))[0, 0]


def draw_sprite(shape, scale=1.0, orientation=0.0, pos_x=0.5, pos_y=0.5):
    return sprites.draw(np.array([[shape, scale, orientation, pos_x, pos_y]]))[0, 0]


def moments(image):
    """Ink (square pixels), centre of mass (2,) and covariance (2, 2), x right and y down from the image's middle."""
    ink = image / 255.0
    pixel = np.arange(28) - 13.5
    points = np.stack(np.broadcast_arrays(pixel, pixel[:, None]))  # (2, H, W)
    centre = (points * ink).sum((1, 2)) / ink.sum()
    offset = points - centre[:, None, None]
    return ink.sum(), centre, np.einsum("ihw,jhw,hw->ij", offset, offset, ink) / ink.sum()


# Both modules: one contract


@MODULES
def test_an_image_depends_on_its_factors_alone_and_they_on_the_seed(module, monkeypatch):
    factors, again, other = (module.sample_factors(130, seed=seed) for seed in (2, 2, 3))  # more than a chunk
    assert factors.dtype == np.float64 and factors.shape == (130, len(module.FACTOR_NAMES))
    assert factors.tobytes() == again.tobytes() and not np.array_equal(factors, other)
    images = module.draw(factors)
    assert images.dtype == np.uint8 and images.shape == (130, 1, 28, 28) and module.draw(factors[:0]).shape[0] == 0
    assert not np.array_equal(images, module.draw(other))
    assert np.array_equal(np.concatenate([module.draw(row[None]) for row in factors]), images)
    assert np.array_equal(module.draw(factors[::-1])[::-1], images)
    assert np.array_equal(module.draw(np.asfortranarray(factors)), images)
    for chunk in (7, 129):
        monkeypatch.setattr(module, "CHUNK", chunk)
        assert np.array_equal(module.draw(factors), images)
    assert np.array_equal(factors, again)  # left as they were


@MODULES
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f[:, :-1], "shape"),
        (lambda f: np.where(np.arange(f.shape[1]) == 1, np.nan, f), "finite"),
        (lambda f: np.where(np.arange(f.shape[1]) == 3, -1e4, f), "at most 1000"),
        (lambda f: np.where(np.arange(f.shape[1]) == 0, 1.5, f), "column 0"),
    ],
)
def test_bad_factors_are_refused_in_one_sentence(module, spoil, message):
    with pytest.raises(ValueError, match=message) as error:
        module.draw(spoil(module.sample_factors(3, seed=0)))
    assert "\n" not in str(error.value)
    if module is sprites:
        with pytest.raises(ValueError, match="scale"):
            module.draw(np.array([[0, 0.0, 0, 0.5, 0.5]]))


@MODULES
def test_the_most_extreme_factors_raise_no_numeric_warning(module):
    """A warning is an error in these tests."""
    rng = np.random.default_rng(0)
    factors = rng.choice([-1000.0, 0.001, 1000.0], size=(300, len(module.FACTOR_NAMES)))
    factors[:, 0] = rng.integers(0, 3, size=300)
    if module is sprites:
        factors[:, 1] = np.abs(factors[:, 1])
    module.draw(factors)


@MODULES
def test_memory_beyond_the_images_does_not_grow_with_the_batch(module):
    def peak(count):
        factors = module.sample_factors(count, seed=0)
        tracemalloc.start()
        module.draw(factors)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    grown = peak(4000) - peak(1000)
    # The images themselves, 784 bytes each, and a few temporary numbers per factor while they are checked.
    assert grown < 3000 * (784 + 4 * 8 * len(module.FACTOR_NAMES))


# Digits


def test_sampled_factors_fill_their_documented_ranges():
    factors = digits.sample_factors(12000, seed=0)
    assert digits.FACTOR_NAMES[0] == "class"
    for column, factor in zip(factors.T, digits.FACTORS, strict=True):
        margin = (factor.high - factor.low) / 1000  # a gap this wide is missed by 12,000 draws with p = e^-12
        assert factor.low <= column.min() <= factor.low + margin
        assert factor.high - margin <= column.max() <= factor.high
    counts = np.bincount(factors[:, 0].astype(int), minlength=10)
    assert np.abs(counts - 1200).max() < 5 * np.sqrt(12000 * 0.1 * 0.9)
    assert np.abs(np.corrcoef(factors.T) - np.eye(len(digits.FACTORS))).max() < 5 / np.sqrt(12000)


def test_ink_is_spread_as_in_mnist():
    images = digits.draw(digits.sample_factors(2000, seed=1))
    assert images.min() == 0 and images.max() == 255
    assert 0.115 < images.mean() / 255 < 0.145  # MNIST: 0.1307
    assert 0.10 < ((images > 0) & (images < 255)).mean() < 0.20  # grey edges; MNIST: 0.18
    frame = np.ones((28, 28), bool)
    frame[1:-1, 1:-1] = False
    assert (images[:, 0, frame].max(axis=1) > 127).mean() < 0.03  # hardly any digit is cut off


@CLASSES
def test_a_shift_moves_the_picture_and_its_centre_of_mass(label):
    plain, whole, part = (draw_digit(label, shift_x=x, shift_y=y) for x, y in [(0, 0), (2, -1), (0.7, -0.4)])
    assert np.abs(whole[:-1, 2:].astype(int) - plain[1:, :-2]).max() <= ONE_GREY_LEVEL
    # The ramp of 1.5 pixels is sampled once per pixel: an edge is misplaced by at most
    # 2 |sinc(1.5)| / (2 pi) = 0.07 pixels, the two edges of a stroke independently, before and after.
    assert np.abs(moments(part)[1] - moments(plain)[1] - [0.7, -0.4]).max() < 0.1


@CLASSES
def test_scale_multiplies_the_extent(label):
    small, large = (np.trace(moments(draw_digit(label, scale=s, thickness=1))[2]) for s in (0.8, 1.05))
    # The path grows by 1.05 / 0.8, but stroke ends stick out of it by half the pen at every scale:
    # for a stick of 16 pixels (1.05 * 16 + 1) / (0.8 * 16 + 1) = 1.29, the least of all.
    assert np.sqrt(large / small) == pytest.approx(1.05 / 0.8, rel=0.03)


@pytest.mark.parametrize("thickness", [1.5, 2.5, 4.2])
def test_ink_of_a_stick_is_the_area_under_the_pen(thickness):
    length = 1.94 * digits.UNIT  # the first way of writing 1 is a line from -97 to 97
    # Line and round ends, averaged over the soft edge: the mean of r^2 over a ramp of width EDGE adds EDGE^2 / 12.
    area = length * thickness + np.pi * (thickness**2 / 4 + digits.EDGE**2 / 12)
    # Turned, so that pixels meet the edges at many phases and misplace them by far less than the 0.07 pixels of
    # the test above: 0.02 on each side of a pen of 1.5 or wider.
    assert moments(draw_digit(1, thickness=thickness, rotation=0.2))[0] == pytest.approx(area, rel=0.02)


@pytest.mark.parametrize("slant", [-0.15, 0.2, 0.48])
def test_slant_leans_a_stick_by_its_tangent(slant):
    covariance = moments(draw_digit(1, slant=slant))[2]
    # The slope of x on y, where up is negative; the round pen adds thickness^2 / 12 < 0.6 of about 22 square pixels.
    assert -covariance[0, 1] / covariance[1, 1] == pytest.approx(slant, abs=0.03 * abs(slant) + 0.005)


@CLASSES
@pytest.mark.parametrize("angle", [-0.2, 0.2])
def test_rotation_turns_the_covariance(label, angle):
    plain, rotated = (moments(draw_digit(label, rotation=r))[2] for r in (0, angle))
    # Exact but for sampling: edges misplaced by up to 0.07 pixels (above) on digits 5 to 10 pixels from the middle.
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # as seen: y points down
    assert np.abs(rotated - turn @ plain @ turn.T).max() < 0.02 * np.trace(plain)


def row_centres(image):
    """Centre of mass, in x, of two rows 6 pixels above the middle, two at the middle and two 6 pixels below."""
    bands = (np.isin(np.arange(28), rows)[:, None] for rows in ((7, 8), (13, 14), (19, 20)))
    return np.array([moments(np.where(band, image, 0))[1][0] for band in bands])


def lower_half_wider(image):
    halves = (np.where((np.arange(28) >= 14)[:, None] == low, image, 0) for low in (True, False))
    low, high = (moments(half)[2][0, 0] for half in halves)
    return np.sqrt(low / high)


def bar_below_the_box(image):
    rows = np.flatnonzero(image.max(axis=1) > 127)
    return image.astype(int).sum(axis=1).argmax() - (rows[0] + rows[-1]) / 2


def sides_below_the_middle(image):
    columns = np.flatnonzero(image.max(axis=0) > 127)
    sides = np.where(np.isin(np.arange(28), [columns[0], columns[-1]]), image, 0)
    return moments(sides)[1][1] - moments(image)[1][1]


@pytest.mark.parametrize(
    ("wobble", "label", "measure", "least"),
    [
        # A stick's rows move by UNIT bow (1/2 - y^2); y = 6 / UNIT: 0.4 * 8.2 * 0.54 = 1.8 pixels from low to high.
        ("wobble_bow", 1, lambda image: row_centres(image) @ [-0.5, 1, -0.5], 1.4),
        # By UNIT sway (y - y^3), at y = -+6 / UNIT: 2 * 0.4 * 8.2 * 0.34 = 2.2 pixels.
        ("wobble_sway", 1, lambda image: row_centres(image) @ [-1, 0, 1], 1.7),
        # The whole stick, 2 units of time for 1.94 of height: 0.3 * 8.2 * 12 / 15.9 = 1.9 pixels over 12 rows.
        ("wobble_drift", 1, lambda image: row_centres(image) @ [-1, 0, 1], 1.4),
        # Half of an oval, its spread in x mostly from |y| near 0.3: widths in the ratio (1 + 0.06) / (1 - 0.06).
        ("wobble_taper", 0, lower_half_wider, 0.15),
        # The bar of the 4 falls by UNIT 0.22 / 2 and the ends of its stem rise by 0.44 UNIT 0.22, there and back.
        ("wobble_waist", 4, bar_below_the_box, 2),
        # Sides at x = 0.74, sag x^2 against its mean over the oval: 0.4 * 8.2 * (0.55 - 0.3) = 0.8 pixels.
        ("wobble_sag", 0, sides_below_the_middle, 0.5),
        # cov(x, y) of an oval moves by -tilt var(x): 0.5 * 18 = 9 square pixels.
        ("wobble_tilt", 0, lambda image: -moments(image)[2][0, 1], 7.0),
        # The standard deviation across an oval, about 4.3 pixels, grows from 0.78 to 1.28 of it.
        ("wobble_width", 0, lambda image: np.sqrt(moments(image)[2][0, 0]), 1.8),
        # The bar of the 7 is a dot in the first way of writing, about 0.9 UNIT long in the second.
        ("wobble_form", 7, lambda image: moments(image)[0], 8.0),
    ],
)
def test_each_wobble_bends_as_its_table_says(wobble, label, measure, least):
    factor = digits.FACTORS[digits.FACTOR_NAMES.index(wobble)]
    low, high = (measure(draw_digit(label, **{wobble: value})) for value in (factor.low, factor.high))
    assert high - low > least


@CLASSES
def test_every_factor_changes_every_class(label):
    for factor in digits.FACTORS[1:]:
        values = ({"wobble_form": 0.7, factor.name: value} for value in (factor.low, factor.high))
        low, high = (draw_digit(label, **value) for value in values)
        # The least is the taper of a 1, of which only the flag is off the middle: a few square pixels of ink.
        assert np.abs(low.astype(int) - high).sum() / 255 > 3, factor.name


# Sprites


def test_sampled_sprites_are_uniform_over_the_grid():
    factors = sprites.sample_factors(12000, seed=0)
    assert [len(values) for values in sprites.FACTOR_VALUES.values()] == [3, 6, 40, 32, 32]
    for column, values in zip(factors.T, sprites.FACTOR_VALUES.values(), strict=True):
        drawn, counts = np.unique(column, return_counts=True)
        assert np.array_equal(drawn, values)
        share = 1 / len(values)
        assert np.abs(counts - 12000 * share).max() < 5 * np.sqrt(12000 * share * (1 - share))
    assert np.abs(np.corrcoef(factors.T) - np.eye(5)).max() < 5 / np.sqrt(12000)


def test_sprites_stay_inside_the_frame():
    images = sprites.draw(sprites.sample_factors(4000, seed=0))[:, 0]
    assert max(images[:, [0, -1]].max(), images[:, :, [0, -1]].max()) == 0


@pytest.mark.parametrize("shape", range(3), ids=sprites.SHAPES)
def test_sprite_area_and_centre(shape):
    factors = sprites.sample_factors(3000, seed=3)
    factors[:, 0] = shape
    area, centre, _ = (np.array(part) for part in zip(*(moments(i[0]) for i in sprites.draw(factors)), strict=True))
    scale, position = factors[:, 1], factors[:, 3:]
    excess = area - sprites.AREA * scale**2
    # Mean over the ramp of the area at distance d, A + L d + k d^2 (Steiner; outside k = pi, inside pi for round
    # shapes and 4 for the square): an excess of k / 12 = 0.26 to 0.30 square pixels at every scale. The notch of the
    # heart takes a little away. 0.05 covers 5 standard errors of the mean over 3,000.
    assert 0.20 - 0.05 < excess.mean() < 0.30 + 0.05
    # At most 2 sum_k |sinc(k f)| / (2 pi k f) = 0.06 pixels for an edge at 45 degrees, whose pixel rows are
    # f = sqrt(2) per pixel; 0.07 with the corners. The square has the longest straight edges, 4 * 8 * scale in all.
    assert np.all(np.abs(excess) < 0.3 + 0.07 * 32 * scale)
    # Opposite edges misplaced by 0.07 pixels each move the middle by at most 0.07 along each axis of the shape.
    expected = sprites.MARGIN + (28 - 2 * sprites.MARGIN) * position - 14
    assert np.abs(centre - expected).max() < 0.07 * np.sqrt(2)


def covered(shape, scale, orientation, pos_x, pos_y, fine=16):
    """Share of each pixel inside the shape, by fine^2 samples of its definition as a set."""
    at = (np.arange(28 * fine) + 0.5) / fine - 7
    x, y = at - 14 * pos_x, at[:, None] - 14 * pos_y
    cos, sin = np.cos(orientation), np.sin(orientation)
    u, v = (cos * x - sin * y) / (8 * scale), (sin * x + cos * y) / (8 * scale)
    if shape == 0:
        inside = np.maximum(np.abs(u), np.abs(v)) < 1 / 2
    elif shape == 1:
        inside = u**2 / (1 / 2) + v**2 / (2 / np.pi**2) < 1
    else:
        unit = 1 / np.sqrt(1 / 2 + np.pi / 8)
        across, up = np.abs(u) / unit, 0.6566 - v / unit
        diamond = across + np.abs(up - 1 / 2) < 1 / 2
        inside = diamond | ((across - 1 / 4) ** 2 + (up - 3 / 4) ** 2 < 1 / 8)
    return inside.reshape(28, fine, 28, fine).mean((1, 3))


@pytest.mark.parametrize("shape", range(3), ids=sprites.SHAPES)
def test_sprites_cover_the_pixels_of_their_shape(shape):
    for row in sprites.sample_factors(30, seed=4):
        row[0] = shape
        error = draw_sprite(*row) / 255 - covered(*row)
        assert np.abs(error).max() < 0.3  # a pixel whose middle is a right-angled corner: 1/2 drawn, 1/4 covered
        # An edge at 45 degrees errs by at most (sqrt(2) - 1)^2 / 4 = 0.043 along it, corners more.
        assert np.sqrt((error**2).sum() / (covered(*row) > 0).sum()) < 0.08


def test_the_notch_of_the_heart_is_at_its_distance():
    # Upright, the notch is 1 - 0.6566 of the diagonal above the centre; this pixel's middle is 0.2 pixels below it.
    above = (1 - 0.6566) * 8 / np.sqrt(1 / 2 + np.pi / 8)
    heart = draw_sprite(2, pos_x=(13.5 - 7) / 14, pos_y=(10.3 + above - 7) / 14)
    assert abs(int(heart[10, 13]) - 255 * (0.5 + 0.2)) <= ONE_GREY_LEVEL
    assert draw_sprite(1, pos_x=0.25, pos_y=0.25)[10, 10] == 255  # an ellipse is filled at its very centre


# Digits as a dataset


def split(name, count):
    factors = digits.sample_factors(count, digits.SPLIT_SEEDS[name])
    return digits.draw(factors), factors[:, 0].astype(int)


@pytest.mark.slow
def test_digits_and_mnist_are_recognised_by_each_others_convnet(mnist_dir):
    """And a linear classifier, with so strong a penalty that it converges at once, learns less of the digits."""
    from sklearn.linear_model import LogisticRegression

    (x, y), (x_test, y_test) = split("train", 12_000), split("test", 2000)
    real, real_test = (load_dataset("mnist", name, mnist_dir) for name in ("train", "test"))
    of_digits, of_mnist = (train_classifier(*one, 10, 0) for one in ((x, y), (real.images, real.labels)))
    linear = LogisticRegression(C=0.01, tol=1e-2).fit(x[:3000].reshape(3000, -1) / 255, y[:3000])
    own, there = ((look(one, x_test).guess == y_test).mean() for one in (of_digits, of_mnist))
    back = (look(of_digits, real_test.images).guess == real_test.labels).mean()
    on_pixels = linear.score(x_test.reshape(2000, -1) / 255, y_test)
    print(f"digits {own:.4f}, MNIST to digits {there:.4f}, digits to MNIST {back:.4f}, linear {on_pixels:.4f}")
    assert own >= 0.97 > on_pixels > 0.6
    assert there > 0.8 and back > 0.6  # chance is 0.1
