"""The pictures of a run: the arrays behind them against oracles, every picture of every model, the GIF."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import latent_figures
import vae_paper
from conv_vae import ConvVAE
from test_figures import check_that_words_stay_on_the_canvas
from vae_common.config import RunConfig
from vae_common.data import ImageSet, entropy_floor
from vae_common.errors import UsageError
from vae_common.evaluation import Evaluation
from vae_common.latent_paths import manifold_grid
from vae_common.plots import charts, run_pictures
from vae_common.spec import VAESpec
from vae_models.autoencoder import Autoencoder, AutoencoderEvaluation
from vae_models.beta_vae import KLWeight
from vae_models.conditional_vae import ConditionalVAE
from vae_plots import latent, snapshots, training
from vae_plots.run import PICTURES, draw_run

RNG = np.random.default_rng


def tiny(latent_dim: int, model: str = "vae", count: int = 60) -> Evaluation:
    """Something that could have been measured, skewed in each dimension; `measured.decode.asked` keeps its calls."""
    rng, weights = RNG(latent_dim), RNG(1).normal(size=(latent_dim + 10, 784))
    images = rng.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % 10

    def decode(z, *y):
        assert z.dtype == np.float32 and len(y) == (model == "cvae")
        decode.asked.append((z, *y))
        hot = np.eye(10)[y[0]] if y else np.zeros((len(z), 10))
        return (1 / (1 + np.exp(-np.concatenate([z, hot], axis=1) @ weights))).reshape(-1, 1, 28, 28)

    decode.asked = []
    mu = (rng.exponential(size=(count, latent_dim)) * np.linspace(2, 0.5, latent_dim)).astype(np.float32)
    logvar = rng.normal(-2, 0.5, mu.shape).astype(np.float32)
    eps = rng.standard_normal(mu.shape, dtype=np.float32)
    recon, kl = rng.uniform(80, 200, count), rng.uniform(2, 9, count)
    data = ImageSet("digits", "test", images, labels, tuple("0123456789"))
    kind, x = AutoencoderEvaluation if model == "ae" else Evaluation, (images / 255).astype(np.float32)
    return kind(data, "none", "bernoulli", x, eps, decode, recon, kl, mu, logvar, conditional=model == "cvae")


def settings(model: str = "vae", **changed) -> RunConfig:
    return RunConfig(**{"model": model, "epochs": 4, "latent_dim": 2, "anneal_epochs": 0.5, **changed}).settled()


def history(model: str = "vae") -> list[dict]:
    rows = []
    for epoch in (3, 1, 2, 4):  # out of order
        for split, extra in (("train", 0.0), ("test", 1.5)):
            terms = {"recon": 90 + 40 / epoch + extra, "kl": 20 - 9 / epoch + extra}
            terms = {**terms, "elbo": -sum(terms.values())} if model != "ae" else {"recon": terms["recon"], "mse": 0.1}
            rows.append({"epoch": epoch, "split": split, **terms})
    return rows


@pytest.fixture
def drawn(monkeypatch):
    """Figures by the name under which they would have been saved."""
    saved = {}
    for module in (run_pictures, training):
        monkeypatch.setattr(module, "save_figure", lambda fig, path: saved.setdefault(path.stem, fig) and path)
    return saved


POSTERIORS = {"reconstructions", "traversals", "kl", "sigma", "aggregate", "best_to_worst"}
EXPECTED = {
    "vae": POSTERIORS | {"manifold", "samples", "latent", "interpolation", "arithmetic", "embedding"},
    "cvae": POSTERIORS | {"class_by_style", "relabelled", "styles"},
    "ae": {"best_to_worst_by_recon", "decoded_noise", "codes", "between_images", "embedding"},
    "vqvae": {"reconstructions", "codes", "usage", "samples"},
}
OF_TRAINING = {"vae": {"losses", "rate_and_distortion", "schedule"}, "ae": {"losses"}}
LOSSES = {"vae": "kl)", "ae": "mse)"}


def test_which_pictures_a_model_gets():
    assert {model: {picture.__name__ for picture in of_it} for model, of_it in PICTURES.items()} == EXPECTED


@pytest.mark.parametrize(("model", "latent_dim"), [("vae", 5), ("vae", 2), ("vae", 1), ("ae", 5)])
def test_every_picture_draws_and_is_told(model, latent_dim, drawn, not_laid_out, tmp_path, capsys):
    draw_run(tmp_path, tiny(latent_dim, model), history(model), settings(model, latent_dim=latent_dim, anneal="linear"))
    assert set(drawn) == (EXPECTED[model] | OF_TRAINING[model]) - ({"embedding"} if latent_dim <= 2 else set())
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wrote ")]
    assert told == [f"wrote {tmp_path / 'figures' / name}.png" for name in drawn]
    assert [ax.get_title().split("(")[-1] for ax in drawn["losses"].axes][:2] == ["recon)", LOSSES[model]]
    assert all(fig.get_suptitle() and fig.get_supxlabel().rstrip().endswith((".", "?")) for fig in drawn.values())


@pytest.mark.slow  # as test_figures.py asks of the charts that these are made of
@pytest.mark.parametrize(("model", "latent_dim"), [("vae", 5), ("vae", 2), ("vae", 1), ("ae", 5), ("cvae", 2)])
def test_words_stay_on_the_canvas_of_every_picture(model, latent_dim, drawn, tmp_path):
    run_pictures.draw(tmp_path, tiny(latent_dim, model), PICTURES[model][: 12 - (latent_dim <= 2)], seed=0)
    for fig in drawn.values():
        check_that_words_stay_on_the_canvas(fig)


def test_few_images_of_one_class_draw_too(not_laid_out):
    measured = tiny(5, count=7)
    measured.data.labels[:] = 3
    for picture in (run_pictures.interpolation, latent.arithmetic, latent.embedding, latent.best_to_worst):
        assert picture(measured, RNG(0)).axes


def test_traversals_walk_the_quantiles_of_sampled_z_and_are_ordered_by_kl(not_laid_out):
    measured = tiny(3)
    run_pictures.traversals(measured, RNG(0))
    (z,) = measured.decode.asked[-1]
    z = z.reshape(3, len(run_pictures.QUANTILES), 3)
    kl = 0.5 * (measured.mu**2 + np.exp(measured.logvar) - 1 - measured.logvar).mean(axis=0)
    sampled = measured.mu + np.exp(0.5 * measured.logvar) * measured.eps
    for row, dim in zip(z, sorted(range(3), key=lambda dim: -kl[dim]), strict=True):
        ordered = np.sort(sampled[:, dim].astype(np.float64))  # the quantile q lies at place q (N - 1), counted from 0
        expected = np.interp(run_pictures.QUANTILES * 59, np.arange(60), ordered)
        np.testing.assert_allclose(row[:, dim], expected, rtol=1e-5)
        others = [other for other in range(3) if other != dim]
        assert (row[:, others] == measured.mu[0, others]).all()


def test_ellipses_have_the_posterior_means_and_deviations(not_laid_out):
    measured = tiny(2)
    patches = run_pictures.latent(measured, RNG(0)).axes[0].patches
    ellipses = [patch for patch in patches if type(patch).__name__ == "Ellipse"]
    assert len(ellipses) == 6
    for i, patch in enumerate(ellipses):
        assert patch.center == pytest.approx(measured.mu[i])
        assert (patch.width, patch.height) == pytest.approx(2 * np.exp(0.5 * measured.logvar[i]))


def test_interpolation_goes_between_images_and_between_prior_samples(not_laid_out):
    measured = tiny(4)
    fig = run_pictures.interpolation(measured, RNG(7))
    strips = [z for (z,) in measured.decode.asked]
    prior = RNG(7).standard_normal((2, 4))
    for strip, ends in zip(strips, [measured.mu[[0, 9]]] * 2 + [prior] * 2, strict=True):  # labels 0 to 9, in order
        np.testing.assert_allclose(strip[[0, -1]], ends, rtol=1e-5)
    np.testing.assert_allclose(strips[0][5], measured.mu[[0, 9]].mean(axis=0), rtol=1e-5)  # halfway, straight
    for line, strip in zip(fig.axes[1].lines, strips, strict=True):
        np.testing.assert_allclose(line.get_ydata(), np.sqrt((strip**2).sum(axis=1)), rtol=1e-5)


def test_arithmetic_adds_the_difference_of_the_means(not_laid_out):
    measured = tiny(3)
    latent.arithmetic(measured, RNG(0))
    (z,) = measured.decode.asked[0]  # from class 0, whose first image is number 0, to class 9
    mean = {k: np.mean([mu for mu, label in zip(measured.mu, measured.data.labels, strict=True) if label == k], axis=0)
            for k in (0, 9)}  # fmt: skip
    np.testing.assert_allclose(z[0], measured.mu[0], rtol=1e-5)
    np.testing.assert_allclose(z[-1], measured.mu[0] + mean[9] - mean[0], rtol=1e-5)
    np.testing.assert_allclose(z[1] - z[0], (z[-1] - z[0]) / 5, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", ["vae", "ae"])
def test_reconstructions_are_sorted_by_what_the_model_minimises(model, not_laid_out):
    measured = tiny(2, model)
    picture = latent.best_to_worst if model == "vae" else latent.best_to_worst_by_recon
    cost = np.sort(measured.recon + measured.kl if model == "vae" else measured.recon)
    fig = picture(measured, RNG(0))
    shown = [text.get_text() for text in fig.axes[0].texts]
    assert shown == [f"{value:.1f}" for value in (*cost[:10], *cost[25:35], *cost[-10:])]
    if model == "ae":  # z = mu, without noise
        dearest = measured.recon.argmax()
        assert (measured.decode.asked[-1][0][-1] == measured.mu[dearest]).all()


def test_the_aggregate_posterior_is_a_density_beside_the_prior(not_laid_out):
    measured = tiny(3, count=500)
    fig = latent.aggregate(measured, RNG(0))
    sampled = measured.mu + measured.std * measured.eps
    assert [ax.get_title() for ax in fig.axes] == [f"z[{dim}]" for dim in np.argsort(-measured.kl_per_dim)]
    for ax in fig.axes:
        (steps,), (prior,) = ax.patches, ax.lines
        heights, edges, _ = steps.get_data()
        assert (heights * np.diff(edges)).sum() == pytest.approx(1)
        z = sampled[:, int(ax.get_title()[2])]
        seen = z[np.abs(z) <= edges[-1]]
        assert len(seen) >= 0.995 * len(z)
        assert (heights * np.diff(edges))[:40].sum() == pytest.approx((seen < edges[40]).mean())
        x, density = prior.get_data()
        np.testing.assert_allclose(density, np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi))


def test_the_embedding_shows_the_principal_components(not_laid_out):
    measured = tiny(5)
    fig = latent.embedding(measured, RNG(0))
    assert len(fig.axes) == 2 and all(len(ax.collections[0].get_offsets()) == 60 for ax in fig.axes)
    centred = measured.mu.astype(np.float64) - measured.mu.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    expected = np.sort(np.abs(centred @ vectors[:, -1]))
    points = np.asarray(fig.axes[0].collections[0].get_offsets())
    np.testing.assert_allclose(np.sort(np.abs(points[:, 0])), expected, atol=1e-6)
    assert f"{values[-2:].sum() / values.sum():.0%}" in fig.axes[0].get_title()
    again = latent.embedding(measured, RNG(0))
    assert np.array_equal(*(f.axes[1].collections[0].get_offsets() for f in (fig, again)))


def test_a_row_of_styles_keeps_z_and_changes_the_label(not_laid_out):
    measured = tiny(3, "cvae")
    latent.class_by_style(measured, RNG(2))
    z, y = measured.decode.asked[-1]
    assert y.tolist() == list(range(10)) * 8
    assert (z.reshape(8, 10, 3) == RNG(2).standard_normal((8, 1, 3), dtype=np.float32)).all()
    latent.relabelled(measured, RNG(2))
    (own, own_y), (others, others_y) = measured.decode.asked[-2:]
    assert own_y.tolist() == list(range(10)) and others_y.tolist() == own_y.tolist() * 10
    assert (others == np.repeat(own, 10, axis=0)).all() and (own == measured.mu[:10]).all()


@pytest.mark.parametrize(
    ("changed", "name", "scheduled"),
    [
        (dict(anneal="cyclical", beta=2.0), "beta", KLWeight(2.0, "cyclical", ramp=0.5 * 250).beta_at),
        (dict(capacity=25.0, beta=10.0, anneal_epochs=2), "C", KLWeight(10.0, capacity=25.0, ramp=500).capacity_at),
    ],
)
def test_the_schedule_is_that_of_training(changed, name, scheduled, not_laid_out):
    found, at, values = training.schedule_of(settings(**changed))
    assert found == name and np.allclose(at * 250, np.arange(1000))  # 250 steps an epoch
    np.testing.assert_allclose(values, [scheduled(step) for step in range(1000)], atol=1e-12)
    axes = charts.schedule(at, values, name, history(), "t").axes
    assert np.array_equal(axes[0].lines[0].get_xydata(), np.stack([at, values], axis=1))
    kl = {row["epoch"]: row["kl"] for row in history() if row["split"] == "test"}
    assert axes[-1].lines[-1].get_ydata().tolist() == [kl[epoch] for epoch in (1, 2, 3, 4)]
    assert len(axes) == (2 if name == "beta" else 1)  # C is a KL and shares its axis


def test_rate_and_distortion_are_those_of_the_rows(not_laid_out):
    ax = charts.rate_and_distortion(history(), "t").axes[0]
    for line in ax.lines[:2]:
        rows = sorted((row for row in history() if row["split"] == line.get_label()), key=lambda row: row["epoch"])
        assert line.get_xydata().tolist() == [[row["kl"], row["recon"]] for row in rows]
    for line in ax.lines[2:-1]:  # of equal rate + distortion
        assert line.get_slope() == -1


@pytest.mark.parametrize(("changed", "lines"), [({}, 3), ({"binarize": "dynamic"}, 2), ({"likelihood": "gaussian"}, 2)])
def test_the_entropy_of_the_data_is_drawn_where_grey_pixels_are_bernoulli_targets(
    changed, lines, drawn, not_laid_out, tmp_path
):
    measured = replace(tiny(2), **changed)
    training.draw_training(tmp_path, measured, history(), settings(**changed))
    found = drawn["losses"].axes[0].lines
    assert len(found) == lines
    assert lines == 2 or found[-1].get_ydata() == pytest.approx(2 * [entropy_floor(measured.x)])


def test_a_snapshot_is_the_decoded_plane_and_an_epoch_is_kept_once(tmp_path):
    model = ConvVAE(VAESpec(2))
    for epoch in (0, 1, 2, 1):  # after an interruption epoch 1 is done again
        with torch.no_grad():
            model.decoder.deconv2.bias += 1.0
            z = torch.from_numpy(manifold_grid(15)).float()
            expected = 255 * torch.sigmoid(model.decode(z)).numpy()
        snapshots.add_snapshot(tmp_path, model, epoch, epochs=4)
        kept = snapshots.read_snapshots(tmp_path, epochs=4)
        assert len(kept) == epoch + 1
        assert np.abs(kept[epoch] - expected).max() <= 0.501
    assert [path.name for path in tmp_path.iterdir()] == ["snapshots.npz"]


@pytest.mark.parametrize("model", [ConditionalVAE(VAESpec(2)), Autoencoder(VAESpec(2)), ConvVAE(VAESpec(3))])
def test_only_a_vae_with_a_plane_has_snapshots(model, tmp_path):
    snapshots.add_snapshot(tmp_path, model, 0, epochs=4)
    assert not any(tmp_path.iterdir())
    with pytest.raises(UsageError, match="--latent-dim 2 keeps what --animate shows"):
        snapshots.read_snapshots(tmp_path, epochs=4)


@pytest.mark.parametrize(("epochs", "frames"), [(1, 1), (6, 6), (100, 40)])
def test_the_gif_has_a_frame_for_each_snapshot_up_to_forty(epochs, frames, tmp_path):
    smooth = np.linspace(0, 255, 28).astype(np.uint8)[None, None, None, :].repeat(28, axis=2)
    kept = np.tile(smooth, (epochs, 225, 1, 1, 1))
    kept[-1] = 255
    np.savez_compressed(tmp_path / "snapshots.npz", planes=kept)
    path = snapshots.animate(tmp_path, epochs)
    with Image.open(path) as gif:
        assert gif.n_frames == frames and gif.info.get("loop", 0) == 0
        gif.seek(frames - 1)
        assert np.asarray(gif.convert("L"))[30:].min() == 255  # the last epoch comes last
        assert epochs == 1 or gif.info["duration"] == 2500
    assert path.stat().st_size < 2e6 and [p.name for p in path.parent.iterdir()] == ["manifold.gif"]


def test_a_frame_holds_the_plane_row_by_row():
    plane = RNG(0).integers(0, 256, (225, 1, 28, 28), dtype=np.uint8)
    pixels = np.asarray(snapshots.frame(plane, "epoch 3"))
    assert pixels.shape == (26 + 420, 420) and pixels[:26].min() < 100  # the words
    for number in (0, 14, 15, 224):
        row, column = divmod(number, 15)
        tile = pixels[26 + 28 * row :, 28 * column :][:28, :28]
        assert np.abs(tile - plane[number, 0].astype(int)).max() <= 16


def test_the_snapshots_of_a_run_are_animated(without_pictures, monkeypatch, tmp_path, capsys, told):
    monkeypatch.setattr("vae_commands.draw_again.draw_run", lambda *args: None)
    run = tmp_path / "run"
    assert vae_paper.main(["--epochs", "2", "--batch-size", "75", "--latent-dim", "2", "--out", str(run)]) == 0
    assert f"wrote {run / 'snapshots.npz'}\n" in capsys.readouterr().out
    assert len(snapshots.read_snapshots(run, epochs=2)) == 3
    assert latent_figures.main([str(run), "--animate"]) == 0
    assert capsys.readouterr().out == f"wrote {run / 'figures' / 'manifold.gif'}\n"
    (run / "snapshots.npz").unlink()
    for folder in (run, tmp_path / "nothing"):
        assert str(folder) in told(latent_figures.main, [str(folder), "--animate"])
