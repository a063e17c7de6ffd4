"""The pictures on the exercise pages: there, small and explained; and what they show against oracles of its own."""

import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from test_exercise_pages import PAGES
from test_exercise_solutions import EXERCISES  # which puts exercises/ on the path
from test_latent_explorer import first
from vae_common.data import load_dataset

import draw_pictures  # isort: skip
from solutions import ex06_beta_and_collapse as ex06  # isort: skip

PICTURE = re.compile(r"^!\[(.*?)\]\((.*?)\)$\n\n^\*(.*?)\*$\n\n", re.MULTILINE | re.DOTALL)  # alt, file, caption
MOST_BYTES = 100_000


def test_every_picture_is_on_its_page_small_and_explained():
    shown = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found = PICTURE.findall(text)
        assert len(found) == text.count("![")
        assert all(len(alt) > 40 and len(caption) > 100 for alt, _, caption in found)
        shown |= {(EXERCISES / file).resolve(): page.name[:2] for _, file, _ in found}
    assert shown == {draw_pictures.path_of(number): number for number in draw_pictures.PICTURES}
    assert sorted(shown) == sorted(draw_pictures.FOLDER.iterdir())
    for path in shown:
        assert path.stat().st_size < MOST_BYTES
        with Image.open(path) as picture:
            assert 790 <= picture.width <= 800  # the width of a page


def test_an_exercise_without_a_picture_is_refused_in_one_line(capsys):
    assert draw_pictures.main(["07", "4"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "expected an exercise with a picture" in said.err


@pytest.mark.slow
def test_all_are_drawn_again(tmp_path, monkeypatch):
    monkeypatch.setattr(draw_pictures, "FOLDER", tmp_path / "exercises" / "pictures")
    assert draw_pictures.main([]) == 0
    drawn = sorted((tmp_path / "exercises" / "pictures").iterdir())
    assert [path.name for path in drawn] == [draw_pictures.path_of(n).name for n in sorted(draw_pictures.PICTURES)]
    assert max(path.stat().st_size for path in drawn) < MOST_BYTES


# --- what they show -----------------------------------------------------------------------------------------------


def titles(fig: Figure) -> str:
    return " ".join(ax.get_title() for ax in fig.axes)


def test_holes_are_the_largest_discs_without_a_code():
    side = np.linspace(-3, 3, 31)
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    middles, sizes = np.array([[1.0, 0.0], [-1.0, 1.0]]), np.array([0.75, 0.45])
    for middle, size in zip(middles, sizes, strict=True):
        points = points[np.linalg.norm(points - middle, axis=1) > size]
    centres, radii = draw_pictures.emptiest(points, 3)
    np.testing.assert_allclose(centres[:2], middles, atol=0.1)  # half a step of the points
    np.testing.assert_allclose(radii[:2], sizes, atol=0.2)  # up to a step further
    assert radii[2] < 0.15  # half a diagonal: no hole is left
    assert np.linalg.norm(points[:, None] - centres, axis=2).min(axis=0) == pytest.approx(radii)


def test_the_paths_lie_in_the_plane_that_is_shown():
    plane, norms, _ = draw_pictures.shell().axes
    for path, line in zip(plane.lines[1:], norms.lines, strict=True):  # the first is the origin
        np.testing.assert_allclose(np.hypot(*path.get_data()), line.get_ydata(), rtol=1e-12)  # no part is lost
    straight = np.array(plane.lines[1].get_data())
    np.testing.assert_allclose(np.diff(straight, 2), 0, atol=1e-12)


def test_stamps_are_counted():
    for ax, k, stamped in zip(draw_pictures.stamps().axes, (3, 3, 4), (range(1, 3), range(5), range(5)), strict=True):
        along = np.array([sum(2 * i - 1 <= place < 2 * i - 1 + k for i in stamped) for place in range(10)])
        assert np.array_equal(ax.images[0].get_array(), np.outer(along, along))


def test_every_cloud_lies_around_the_gradient():
    fig = draw_pictures.clouds()
    for ax in fig.axes:
        points = np.asarray(ax.collections[0].get_offsets())
        error = points.std(axis=0) / len(points) ** 0.5
        np.testing.assert_array_less(np.abs(points.mean(axis=0) - [4, 2]), 4 * error)
    assert re.match(r"pathwise\nvariance 8 ", titles(fig))  # 4 sigma^2 in each dimension


@pytest.mark.parametrize("beta", [0.2, 1.0, 2.0])
def test_the_surface_has_the_curvatures_of_the_solution_and_its_lowest_place(beta):
    h = 1e-3
    loss = lambda w, v: draw_pictures.loss(w, v, beta)  # noqa: E731
    by_w = (loss(h, 0) - 2 * loss(0, 0) + loss(-h, 0)) / h**2
    by_v = (loss(0, h) - 2 * loss(0, 0) + loss(0, -h)) / h**2
    mixed = (loss(h, h) - loss(h, -h) - loss(-h, h) + loss(-h, -h)) / (4 * h**2)
    # Central differences: an error of the order of h^2.
    np.testing.assert_allclose([[by_w, mixed], [mixed, by_v]], ex06.curvature_at_collapse(1.0, 0.8, beta), atol=1e-5)
    w, v = np.meshgrid(np.linspace(-2, 2, 401), np.linspace(-2, 2, 401))
    level = min(beta * 0.8, 1.0)  # the closed form: what is left over is the level, and the kl log(1 / level) / 2
    assert loss(w, v).min() == pytest.approx(level / 1.6 + beta * np.log(1 / level) / 2, abs=1e-4)  # steps of 0.01


def test_each_tangent_touches_the_frontier_and_no_point_of_it_is_cheaper():
    ax = draw_pictures.frontier().axes[0]
    R, D = ax.lines[0].get_data()
    touching = [line for line in ax.lines if line.get_marker() == "o"]
    assert len(touching) == 5
    for tangent, point, beta in zip(ax.lines[1::2], touching, (0.5, 1, 2, 4, 8), strict=False):
        (x0, x1), (y0, y1) = tangent.get_data()
        (rate,), (distortion,) = point.get_data()
        assert (y1 - y0) / (x1 - x0) == pytest.approx(-beta)
        assert (y0 + y1) / 2 == pytest.approx(distortion) and (x0 + x1) / 2 == pytest.approx(rate)
        cheapest = (D + beta * R).min() - distortion - beta * rate
        assert -1e-9 < cheapest < 1e-2  # its points are 0.02 apart
    entropy = 0.5 * np.log(2 * np.pi * np.e * np.array([4, 2, 1, 0.5, 0.25])).sum()
    assert sum(touching[1].get_xydata()[0]) == pytest.approx(entropy)  # at beta = 1
    assert f"R + D = {entropy:.1f}" in ax.get_legend().get_texts()[-1].get_text()


def test_weights_of_the_exact_posterior_are_all_p_of_x():
    log_w = draw_pictures.weights_of(1.0)
    rng, a = np.random.default_rng(0), np.linspace(0.5, 2, 10)
    x, variance = a * rng.standard_normal(10) + 0.5 * rng.standard_normal(10), a**2 + 0.25
    np.testing.assert_allclose(log_w, -0.5 * (x**2 / variance + np.log(2 * np.pi * variance)).sum(), rtol=1e-12)
    assert np.ptp(draw_pictures.weights_of(2.0)) > 5


@pytest.mark.slow
@pytest.mark.parametrize("revival", [False, True])
def test_the_books_are_those_of_the_page(revival):
    codebook, used = draw_pictures.book(revival)
    page = (EXERCISES / "10_vector_quantization.md").read_text(encoding="utf-8")
    name = "with revival" if revival else "without revival"
    line = rf"^{name} +(\d+) of 64 codes in use.* ([\d.]+) per image$"
    in_use, error = re.search(line, page, re.MULTILINE).groups()
    assert (used > 0).sum() == pytest.approx(int(in_use), rel=0.03)  # the band that the page grants
    assert used.sum() == 500 * 49 and np.all(np.diff(used) <= 0)
    patches = load_dataset("digits", "test").images[1500:].reshape(-1, 7, 4, 7, 4).swapaxes(2, 3).reshape(-1, 16) / 255
    squared = ((patches[:, None] - codebook[used > 0]) ** 2).sum(axis=2).min(axis=1)
    assert squared.sum() / 500 == pytest.approx(float(error), rel=0.03)


def test_the_bars_are_variances_and_what_is_told_stands_out_of_the_water(digits, monkeypatch):
    monkeypatch.setattr(draw_pictures, "load_dataset", lambda *_: first(300, digits))
    fig = draw_pictures.levels()
    flat = digits.images[:300].reshape(-1, 784) / 255
    variances = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False)[:30] ** 2 / len(flat)
    for ax, level in zip(fig.axes, (0.5, 2, 4), strict=True):
        *bars, water = ax.patches
        np.testing.assert_allclose([bar.get_height() for bar in bars], variances, rtol=1e-9)
        assert water.get_y() + water.get_height() == level
        told = variances[variances > level]
        told_nats = 0.5 * np.log(told / level).sum()
        assert f"level {level:g}\n{len(told)} told, {told_nats:.2f} nats" in ax.get_title()
        assert [bar.get_facecolor() for bar in bars].count(bars[0].get_facecolor()) == len(told)
