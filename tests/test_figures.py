"""Where to decode (closed forms), what is drawn (pixels and words read back), how it is saved."""

from statistics import NormalDist

import matplotlib
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from matplotlib.text import Text
from PIL import Image

from vae_common import latent_paths
from vae_common.plots import charts, style

EPS = np.finfo(np.float64).eps
CLASSES = [f"long name {k}" for k in range(10)]
LONG = "What to see here is told at some length, so that it has to be broken into several lines beneath. " * 3


def pairs():
    """Two vectors of one length, with entries that neither overflow nor vanish when squared."""
    entry = st.floats(-1e3, 1e3).map(lambda v: round(v, 3))
    return st.integers(1, 8).flatmap(
        lambda z: st.lists(st.lists(entry, min_size=z, max_size=z).map(np.array), min_size=2, max_size=2)
    )


def random_images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 1, 28, 28))


@given(st.integers(1, 60))
def test_manifold_grid_lies_at_the_centres_of_equal_probability_cells(side):
    grid = latent_paths.manifold_grid(side)
    assert grid.shape == (side * side, 2)
    probability = np.vectorize(NormalDist().cdf)(grid).reshape(side, side, 2)
    centres = (np.arange(side) + 0.5) / side
    np.testing.assert_allclose(probability[..., 0], np.tile(centres, (side, 1)), atol=1e-12)
    np.testing.assert_allclose(probability[..., 1], np.tile(centres[::-1, None], (1, side)), atol=1e-12)


@given(pairs(), st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_slerp_turns_evenly_from_end_to_end_and_its_norm_is_linear(ends, t):
    z0, z1 = ends
    assert np.array_equal(latent_paths.lerp(z0, z1, [0.0, 1.0]), ends)
    assume(z0.any() and z1.any())
    n0, n1 = np.linalg.norm(z0), np.linalg.norm(z1)
    assume(np.linalg.norm(z0 / n0 + z1 / n1) > 1e-3)
    t = np.array([0.0, *t, 1.0])
    path = latent_paths.slerp(z0, z1, t)
    norms = np.linalg.norm(path, axis=1)
    np.testing.assert_allclose(norms, (1 - t) * n0 + t * n1, rtol=1e4 * EPS)
    u = path / norms[:, None]
    angle = angle_between(z0 / n0, z1 / n1)
    for end, share in ((z0 / n0, t), (z1 / n1, 1 - t)):
        np.testing.assert_allclose([angle_between(end, v) for v in u], share * angle, atol=1e5 * EPS)


def angle_between(u: np.ndarray, v: np.ndarray) -> float:
    return 2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v))


@pytest.mark.parametrize("tilt", [0.0, 1e-300, 1e-17, 1e-12, 1e-9])
def test_slerp_of_parallel_vectors_is_lerp(tilt):
    z0, z1, t = np.array([3.0, 0.0]), np.array([6.0, tilt]), np.linspace(0, 1, 5)
    np.testing.assert_allclose(latent_paths.slerp(z0, z1, t)[:, 0], latent_paths.lerp(z0, z1, t)[:, 0], rtol=1e-15)


def mosaic(fig) -> np.ndarray:
    (image,) = fig.axes[0].images
    return np.asarray(image.get_array())


def visible_texts(fig) -> list[Text]:
    """All but the labels of ticks outside the view."""
    fig.draw_without_rendering()
    hidden = set()
    for axis in (axis for ax in fig.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks() + axis.get_minor_ticks():
            if not low <= tick.get_loc() <= high:
                hidden |= {id(tick.label1), id(tick.label2)}
    return [text for text in fig.findobj(Text) if text.get_visible() and text.get_text() and id(text) not in hidden]


def check_that_words_stay_on_the_canvas(fig) -> None:
    for text in visible_texts(fig):
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0, text.get_text()
        assert box.x1 <= fig.bbox.x1 and box.y1 <= fig.bbox.y1, text.get_text()


def test_image_grid_puts_every_image_in_its_place():
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 28, 28), dtype=np.uint8)
    picture = mosaic(charts.image_grid(images, 3, "five", ["top", "bottom"], ["a", "b", "c"]))
    assert picture.shape == (58, 88)
    for i, image in enumerate(images[:, 0]):
        row, column = divmod(i, 3)
        assert np.array_equal(picture[row * 30 : row * 30 + 28, column * 30 : column * 30 + 28], image / 255)
    assert (picture[30:, 60:] == 1).all() and (picture[28:30] == 1).all() and (picture[:, 28:30] == 1).all()


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (7, 7), (23, 8)])
def test_reconstructions_pair_each_image_with_its_own_number(count, columns):
    x, x_hat, recon = random_images(count, 1), random_images(count, 2), 50.0 + np.arange(count)
    fig = charts.reconstructions(x, x_hat, recon, "pairs")
    picture, placed = mosaic(fig), {t.get_text(): t.get_position() for t in fig.axes[0].texts}
    assert picture.shape[1] == columns * 30 - 2
    for i in range(count):
        across, down = placed[f"{recon[i]:.1f}"]
        left, bottom = int(across - 13.5), int(down) - 5
        assert np.array_equal(picture[bottom - 28 : bottom, left : left + 28], x_hat[i, 0])
        assert np.array_equal(picture[bottom - 57 : bottom - 29, left : left + 28], x[i, 0])


@pytest.mark.parametrize("given", [None, np.stack(np.meshgrid([-4.0, 0.5, 7.0], [2.0, 1.0, -3.0]), axis=-1)])
def test_manifold_shows_the_grid_with_its_own_coordinates(given):
    side, images = 3, random_images(9)
    fig = charts.manifold(images, side, "plane", grid=None if given is None else given.reshape(-1, 2))
    picture = mosaic(fig)
    assert np.array_equal(picture, np.block([[images[3 * r + c, 0] for c in range(3)] for r in range(3)]))
    ax, grid = fig.axes[0], latent_paths.manifold_grid(side).reshape(side, side, 2) if given is None else given
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("z1", "z2")
    for at, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True):
        assert label.get_text() == f"{grid[int(at) // 28, 0, 1]:.2f}"
    for at, label in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True):
        assert label.get_text() == f"{grid[0, int(at) // 28, 0]:.2f}"


def test_traversals_label_rows_and_values():
    images = random_images(6)
    fig = charts.traversals(images, ["z3", "z7"], [-2.0, -0.01, 2.0], "t")
    assert np.array_equal(mosaic(fig)[30:, 60:], images[5, 0])
    words = {text.get_text() for text in visible_texts(fig)}
    assert {"z3", "z7", "-2.0", "0.0", "2.0"} <= words and "-0.0" not in words


def test_scatter_draws_each_point_in_the_colour_of_its_class():
    rng = np.random.default_rng(0)
    mu, labels = rng.normal(size=(300, 2)) * [3, 1], rng.integers(0, 10, 300)
    ax = charts.latent_scatter(mu, labels, CLASSES, "t", ("left", "right")).axes[0]
    (dots,) = ax.collections
    drawn = dots.get_offsets(), dots.get_facecolors()
    colour = {tuple(at): matplotlib.colors.to_hex(c) for at, c in zip(*drawn, strict=True)}
    assert all(colour[tuple(at)] == style.PALETTE[k] for at, k in zip(mu, labels, strict=True))
    assert len(set(style.PALETTE)) == 10 and [c.get_radius() for c in ax.patches] == [1, 2]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [*CLASSES, "prior: 1, 2 sigma"]
    (x0, y0), (x1, y1) = ax.transData.transform([(0, 0), (1, 1)])
    assert x1 - x0 == pytest.approx(y1 - y0, rel=1e-6)


def history(epochs: int) -> list[dict]:
    rows = []
    for epoch in reversed(range(1, epochs + 1)):
        for split, extra in (("train", 0.0), ("test", 1.0)):
            recon, kl = 80 + 20 / epoch + extra, 20 - 5 / epoch
            rows.append({"epoch": epoch, "split": split, "recon": recon, "kl": kl, "elbo": -recon - kl, "x": 1})
    return rows


def test_loss_curves_draw_recon_kl_and_minus_elbo_in_order_of_epochs():
    rows = history(4)
    fig = charts.loss_curves(rows, "t", entropy_floor=63.0)
    for ax, key, sign in zip(fig.axes, ("recon", "kl", "elbo"), (1, 1, -1), strict=True):
        for line in ax.lines[:2]:
            expected = {r["epoch"]: sign * r[key] for r in rows if r["split"] == line.get_label()}
            assert line.get_xdata().tolist() == [1, 2, 3, 4]
            assert line.get_ydata().tolist() == [expected[e] for e in (1, 2, 3, 4)]
    assert [len(ax.lines) for ax in fig.axes] == [3, 2, 3]
    held_out = charts.loss_curves([*rows[:-1], {**rows[0], "split": "validation"}], "t").axes[0].lines
    assert {line.get_label() for line in held_out} == {"train", "validation", "test"}
    assert len({line.get_color() for line in held_out}) == 3


def test_kl_bars_are_sorted_and_inactive_ones_grey():
    kl, active = np.array([0.001, 3.0, 1.0]), np.array([False, True, True])
    ax = charts.kl_per_dimension(kl, "t", active).axes[0]
    bars = sorted(ax.patches, key=lambda bar: bar.get_x())
    assert [bar.get_height() for bar in bars] == [3.0, 1.0, 0.001]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "0"]
    colours = [matplotlib.colors.to_hex(bar.get_facecolor()) for bar in bars]
    assert colours == [style.LINES[0], style.LINES[0], style.PALE]


def test_sigma_is_sorted_with_its_quantiles():
    sigma = np.stack([np.full(101, 1.0), np.linspace(0, 0.5, 101)], axis=1)
    ax = charts.sigma_per_dimension(sigma, "t").axes[0]
    prior, median = ax.lines
    assert prior.get_ydata() == [1, 1] and median.get_ydata() == pytest.approx([0.25, 1.0])
    outer, inner = (bars.get_segments()[0][:, 1] for bars in ax.collections)
    assert outer == pytest.approx([0.025, 0.475]) and inner == pytest.approx([0.125, 0.375])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "0"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda *told: charts.image_grid(random_images(20), 10, told[0], ["first row", "second row"], CLASSES, told[1]),
        lambda *told: charts.reconstructions(random_images(3), random_images(3), np.ones(3) * 1234.5, *told),
        lambda *told: charts.latent_scatter(np.eye(10)[:, :2], np.arange(10), CLASSES, told[0], caption=told[1]),
        lambda *told: charts.loss_curves(history(3), told[0], 63.2, told[1]),
        lambda *told: charts.kl_per_dimension(np.ones(99), told[0], np.arange(99) % 2 == 1, told[1]),
    ],
)
def test_no_word_leaves_the_canvas_or_covers_the_picture(draw):
    fig = draw("A title that is somewhat longer than one would wish for so small a picture", LONG)
    check_that_words_stay_on_the_canvas(fig)
    boxes = {text.get_text(): text.get_window_extent() for text in visible_texts(fig)}
    pictures = [ax.get_tightbbox() for ax in fig.axes]
    for outside in (fig.get_suptitle(), fig.get_supxlabel()):
        assert outside == "" or not any(picture.overlaps(boxes[outside]) for picture in pictures)


def test_the_style_of_others_is_neither_used_nor_changed():
    plain = charts.kl_per_dimension(np.ones(3), "t").axes[0].xaxis.label.get_size()
    with matplotlib.rc_context({"font.size": 30}):
        before = dict(matplotlib.rcParams)
        assert charts.kl_per_dimension(np.ones(3), "t").axes[0].xaxis.label.get_size() == plain
        assert dict(matplotlib.rcParams) == before


IMAGES, NAN = random_images(4), np.full((4, 1, 28, 28), np.nan)
ROW = {"epoch": 1, "split": "train", "recon": 1.0, "kl": 1.0, "elbo": -2.0}
BAD = {
    "flat images": (lambda: charts.image_grid(IMAGES.reshape(4, 784), 2, "t"), r"images: .*\(4, 784\)"),
    "nan": (lambda: charts.image_grid(NAN, 2, "t"), "images: expected finite numbers, found 3136"),
    "logits": (lambda: charts.image_grid(IMAGES * 8 - 4, 2, "t"), "sigmoid"),
    "row labels": (lambda: charts.image_grid(IMAGES, 2, "t", ["a"]), "row_labels: expected 2 labels, found 1"),
    "strips": (lambda: charts.interpolation_strips([IMAGES, IMAGES[:2]], "ab", "t"), r"strips\[1\]"),
    "missing key": (lambda: charts.loss_curves([{"epoch": 1, "split": "train"}], "t"), "found no 'recon'"),
    "nan end": (lambda: latent_paths.slerp(np.ones(2), [1, np.inf], [0.0]), "z1: expected finite"),
    "opposite ends": (lambda: latent_paths.slerp([1.0, 2.0], [-2.0, -4.0], [0.5]), "opposite"),
    "an end at 0": (lambda: latent_paths.slerp([1.0, 2.0], [0.0, 0.0], [0.5]), "zero"),
    "no png": (lambda: style.save_figure(charts.kl_per_dimension(np.ones(2), "t"), "figure.pdf"), r"\.png"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_sentence(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message) as refused:
        call()
    assert "\n" not in str(refused.value)


def test_save_gives_the_same_bytes_twice_at_readme_width(tmp_path):
    paths = [tmp_path / "new folder" / "a.png", tmp_path / "b.png", tmp_path / "c.png"]
    one, other = (charts.image_grid(random_images(20), 10, "t", caption="c") for _ in range(2))
    for fig, path in zip((one, other, other), paths, strict=True):
        assert style.save_figure(fig, path) == path
    assert len({path.read_bytes() for path in paths}) == 1
    with Image.open(paths[0]) as picture:
        assert picture.width in (799, 800) and picture.info.keys() <= {"transparency"}


def test_the_palette_changes_no_grey(tmp_path):
    fig = charts.image_grid(random_images(9), 3, "greys", caption="Grey words too.")
    fig.savefig(tmp_path / "drawn.png", dpi=style.DPI)
    style.save_figure(fig, tmp_path / "saved.png")
    drawn, saved = (Image.open(tmp_path / f"{name}.png").convert("RGB") for name in ("drawn", "saved"))
    assert np.array_equal(np.asarray(drawn), np.asarray(saved))
    assert len(np.unique(np.asarray(saved)[..., 0])) > 200


def test_classes_may_be_many_and_called_anything():
    names = ["$a_b$", r"$\frac$", "\u65e5\u672c", *(f"class {k}" for k in range(59))]
    labels = np.arange(62)
    fig = charts.latent_scatter(np.random.default_rng(0).normal(size=(62, 2)), labels, names, "Title")
    legend = [text.get_text() for text in fig.axes[0].get_legend().get_texts()]
    assert legend == [*names[:20], "and 42 more", "prior: 1, 2 sigma"]
    for word, turned in (("dog", 0), ("golden retriever", 90)):
        fig = charts.image_grid(np.zeros((5, 28, 28)), 5, "Title", column_labels=[word] * 5)
        assert {label.get_rotation() for label in fig.axes[0].get_xticklabels()} == {turned}
