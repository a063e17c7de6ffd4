"""The autoencoder beside PCA and a VAE, and the missing quadrants: closed forms, quadrature, and the commands."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.distributions import Bernoulli, Normal

import evaluate
import quadrants
import vae_paper
from vae_commands import compare_codes, quadrants_run
from vae_common.config import RunConfig
from vae_common.data import ImageSet, load_dataset
from vae_common.errors import UsageError
from vae_measures.held_out import measure
from vae_measures.linear_code import LinearCode, mse
from vae_models.quadrant_cvae import QuadrantCVAE, estimates, given_pixels, normal
from vae_plots import comparison
from vae_training.factory import build_model

# --- PCA ----------------------------------------------------------------------------------------------------------


def test_pca_leaves_the_discarded_eigenvalues(digits):
    """On the data it is fitted to, the squared error is the sum of the eigenvalues that it discards."""
    x = digits.images[:300].astype(float) / 255
    pca = LinearCode.fit(x, 15)
    eigenvalues = np.linalg.eigvalsh(np.cov(x.reshape(300, -1).T, bias=True))[::-1]
    assert mse(x, pca.decode(pca.encode(x))) == pytest.approx(eigenvalues[15:].sum() / 784, rel=1e-9)
    np.testing.assert_allclose(pca.encode(x).std(axis=0, ddof=1), pca.std, rtol=1e-9)
    np.testing.assert_allclose(pca.components @ pca.components.T, np.eye(15), atol=1e-12)


@pytest.mark.slow
def test_pca_of_mnist(mnist_dir):
    """Known figures of the test split, fitted on the training split, to the digits they are known to."""
    splits = (load_dataset("mnist", split, mnist_dir) for split in ("train", "test"))
    train, test = (split.images.astype(np.float32) / 255 for split in splits)
    pca = LinearCode.fit(train, 50)
    for count, error in ((2, 0.0557), (10, 0.0341), (20, 0.0235), (50, 0.0115)):
        first = LinearCode(pca.mean, pca.components[:count], pca.std[:count])
        assert mse(test, first.decode(first.encode(test))) == pytest.approx(error, abs=5e-5)


# --- AE, PCA and VAE side by side ---------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path, small_digits, monkeypatch):
    """A folder with short runs `ae` and `vae` on a few drawn digits."""
    monkeypatch.setattr("vae_commands.train_run.draw_run", lambda *args: None)
    for name in ("ae", "vae"):
        flags = ["--model", name, "--latent-dim", "4", "--epochs", "1", "--device", "cpu"]
        assert vae_paper.main([*flags, "--out", str(tmp_path / name)]) == 0
    return tmp_path


def test_side_by_side(runs, monkeypatch, capsys):
    monkeypatch.setattr(comparison, "save_figure", lambda figure, path: path)
    capsys.readouterr()
    trained = {path: path.read_bytes() for path in (runs / "ae").iterdir()}
    assert evaluate.main([str(runs / "ae"), "--against", str(runs / "vae")]) == 0
    printed = capsys.readouterr().out
    result = json.loads((runs / "ae" / "against.json").read_text())
    train, test = (load_dataset("digits", split).images / np.float32(255) for split in ("train", "test"))
    oracle = PCA(4).fit(train.reshape(150, -1))
    x_hat = oracle.inverse_transform(oracle.transform(test.reshape(50, -1)))
    found = result.pop("mse")
    on = {"dataset": "digits", "binarize": "none", "likelihood": "bernoulli"}
    assert result == {**on, "latent_dim": 4, "vae": str(runs / "vae")}
    # float32 sums of 784 terms, and the eigenvectors of float32 data
    assert found["PCA"] == pytest.approx(((x_hat - test.reshape(50, -1)) ** 2).mean(), rel=1e-4)
    assert found["AE"] == pytest.approx(json.loads((runs / "ae" / "evaluation.json").read_text())["mse"], rel=1e-5)
    assert found["mean image, no code"] == pytest.approx(((test - train.mean(axis=0)) ** 2).mean(), rel=1e-5)
    assert found["VAE, z = mu"] != found["VAE, sampled z"]
    for name, value in found.items():
        assert f"{name:20} {value:.4f}" in printed
    for name in ("reconstructions", "samples", "codes-ae", "codes-vae"):
        assert f"wrote {runs / 'ae' / 'figures' / f'against-{name}.png'}" in printed
    assert all(path.read_bytes() == whole for path, whole in trained.items())  # the run itself stays as it was


def test_pictures_show_each_code_in_its_row(digits):
    data = ImageSet("digits", "test", digits.images[:15], digits.labels[:15], digits.class_names)
    ae, vae = (
        measure(build_model(RunConfig(model=model, latent_dim=4, seed=seed).settled()), data, "none", seed=0)
        for seed, model in enumerate(("ae", "vae"))
    )
    pca = LinearCode.fit(ae.x, 4)
    codes = pca.encode(ae.x[:12])
    rows = [ae.x[:12], pca.decode(codes).clip(0, 1), vae.decode(vae.mu[:12]), ae.decode(ae.mu[:12])]
    np.testing.assert_allclose(tiles(comparison.reconstructions(ae, vae, pca)), np.stack(rows)[:, :, 0], atol=1e-6)

    z = np.random.default_rng(0).standard_normal((12, 4), dtype=np.float32)
    rescaled = (ae.mu.mean(axis=0) + ae.mu.std(axis=0) * z).astype(np.float32)
    rows = [vae.decode(z), ae.decode(z), ae.decode(rescaled), pca.decode(pca.std * z).clip(0, 1)]
    figure = comparison.samples(ae, vae.decode, pca, z)
    np.testing.assert_allclose(tiles(figure), np.stack(rows)[:, :, 0], atol=1e-5)


def tiles(figure) -> np.ndarray:
    """The images (rows, columns, 28, 28) of a grid, from the pixels drawn."""
    picture = np.pad(figure.axes[0].images[0].get_array(), ((0, 2), (0, 2)))
    return picture.reshape(len(picture) // 30, 30, -1, 30).swapaxes(1, 2)[:, :, :28, :28]


def test_runs_that_cannot_be_compared_are_refused():
    ae, vae = RunConfig(model="ae", latent_dim=4), RunConfig(latent_dim=4)
    compare_codes.refuse_unlike("a", ae, "b", vae)
    for one, other, said in (
        (vae, ae, "a: expected a run of --model ae, found --model vae; RUN is of --model ae, and --against names one"),
        (ae, ae, "b: expected a run of --model vae, found --model ae"),
        (ae, replace(vae, latent_dim=3), "b: expected --latent-dim 4, as in a, found 3; compare like runs."),
        (ae, replace(vae, dataset="sprites"), "b: expected --dataset digits, as in a, found sprites"),
        (ae, replace(vae, binarize="dynamic"), "b: expected --binarize none, as in a, found dynamic"),
    ):
        with pytest.raises(UsageError) as refused:
            compare_codes.refuse_unlike("a", one, "b", other)
        assert said in str(refused.value)


# --- the missing quadrants ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "count, given", [(1, ["..", "x."]), (2, ["x.", "x."]), (3, ["xx", "x."])], ids=["one", "two", "three"]
)
def test_which_quadrants_are_given(count, given):
    corners = np.array([[mark == "x" for mark in row] for row in given])
    np.testing.assert_array_equal(given_pixels(count), np.kron(corners, np.ones((14, 14))) == 1)


@pytest.fixture
def model() -> QuadrantCVAE:
    """Two quadrants given, Z = 1, float64; a posterior so wide that importance weights stay small in the tails."""
    torch.manual_seed(0)
    model = QuadrantCVAE(2, latent_dim=1).double()
    with torch.no_grad():
        model.posterior_net[-1].bias[1] += 1.5
        model.from_z.weight *= 3  # so that z matters to an untrained decoder
    return model


@pytest.fixture
def image(digits) -> torch.Tensor:
    return torch.from_numpy((digits.images[:2] >= 128).astype(float))


def quantiles(count: int) -> torch.Tensor:
    """(1, count, 1): the midpoint rule for an expectation under N(0, 1)."""
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return Normal(0.0, 1.0).icdf(u)[None, :, None]


def test_bounds_match_quadrature(model, image):
    """Both estimates of log p(y|x), on quantiles instead of random draws, against a Riemann sum over z; elbo below.

    Where the integrand dies out, a rule of K = 1,000 quantiles errs by a few 1/K^2, and by no more than 1e-4 at the
    kinks of ReLU; under the prior it does not die out, and the outermost quantiles stand for tails of 1/(2 K) = 5e-4
    of the mass, in which p(y|x,z) is not more than ten times its mean.
    """
    found = {name: value.detach() for name, value in estimates(model, image, quantiles(1000).expand(2, -1, -1)).items()}
    x, y = model.split(image)
    with torch.no_grad():
        guess = model.plain(x)
        p, q = model.prior(x, guess), model.posterior(x, y)
        z = torch.linspace(-9, 9, 7201, dtype=torch.float64)[None, :, None].expand(2, -1, -1)
        log_y = Bernoulli(logits=model.decode(x, guess, z)).log_prob(y[:, None]).sum(dim=2)
        mu, std = p.loc[:, 0], p.scale[:, 0]  # (2, 1)
        log_prior = -0.5 * ((z[..., 0] - mu) / std) ** 2 - torch.log(std) - 0.5 * math.log(2 * math.pi)
        log_p = torch.logsumexp(log_y + log_prior, dim=1) + math.log(18 / 7200)
        plain = -Bernoulli(logits=guess).log_prob(y).sum(dim=1)
    torch.testing.assert_close(found["bound"], log_p, rtol=0, atol=1e-4)
    torch.testing.assert_close(found["prior_bound"], log_p, rtol=0, atol=5e-3)
    torch.testing.assert_close(found["plain"], plain, rtol=1e-12, atol=0)
    kl = torch.log(p.scale / q.scale) + (q.scale**2 + (q.loc - p.loc) ** 2) / (2 * p.scale**2) - 0.5
    torch.testing.assert_close(found["kl"], kl[:, 0, 0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found["elbo"], -(found["recon"] + found["kl"]))
    assert (found["elbo"] < log_p).all()


def test_the_second_half_of_a_head_is_the_log_variance():
    gaussian = normal(torch.tensor([[1.0, 2.0, 0.0, math.log(4)]]))
    torch.testing.assert_close(gaussian.loc, torch.tensor([[[1.0, 2.0]]]))
    torch.testing.assert_close(gaussian.scale, torch.tensor([[[1.0, 2.0]]]))


def test_the_objective_is_what_is_measured(model, image):
    eps = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 1, 1)))
    terms, measured = model.objective(image, None, eps, step=0), estimates(model, image, eps)
    for name in ("plain", "recon", "kl", "elbo"):
        torch.testing.assert_close(terms[name], measured[name].mean(), rtol=1e-12, atol=0)
    torch.testing.assert_close(terms["loss"], terms["plain"] - terms["elbo"])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_pixel_is_either_given_or_missing(count, image):
    x, y = QuadrantCVAE(count).split(image)
    given = given_pixels(count)
    np.testing.assert_array_equal(x.numpy(), image.numpy()[:, 0, given])
    np.testing.assert_array_equal(y.numpy(), image.numpy()[:, 0, ~given])


def test_the_plain_network_learns_what_it_would_alone(model, image):
    """No gradient of the CVAE's terms reaches it, and all of the CVAE's networks get theirs."""
    eps = torch.ones(2, 1, 1, dtype=torch.float64)
    model.objective(image, None, eps, step=0)["elbo"].backward()
    assert all(value.grad is None for value in model.plain.parameters())
    for part in (model.prior_net, model.posterior_net, model.from_guess, model.from_z, model.decoder):
        assert all((value.grad != 0).any() for value in part.parameters())


def test_quadrants_by_command(small_digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(quadrants_run, "save_figure", lambda figure, path: path)
    flags = ["--quadrants", "3", "1", "3", "--epochs", "1", "--samples", "3", "--latent-dim", "2", "--device", "cpu"]
    assert quadrants.main([*flags, "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert list(evaluation["given"]) == ["1", "3"] and evaluation["images"] == 50
    for name, found in evaluation["given"].items():
        assert f"{quadrants_run.GIVEN[int(name)]:20} {found['plain']:6.1f} {-found['elbo']:12.1f}" in printed
        assert found["elbo"] == pytest.approx(-(found["recon"] + found["kl"]))
        assert f"wrote {tmp_path / 'run' / 'figures' / f'quadrants-{name}.png'}" in printed
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["quadrants"], row["split"]) for row in rows] == [(1, "train"), (1, "test"), (3, "train"), (3, "test")]
    assert "Pyro" not in printed  # its figures are of another data set


def test_the_picture_fills_in_what_is_missing(model, digits):
    """A row for each class: what is given, with grey for the rest; the truth; and the given part in every answer."""
    picture = tiles(quadrants_run.picture(model, digits, "none", seed=0, quadrants=2))
    assert picture.shape[:2] == (10, 3 + 6)
    firsts = [np.flatnonzero(digits.labels == label)[0] for label in range(10)]
    truth, given = digits.images[firsts, 0] / 255, given_pixels(2)
    np.testing.assert_allclose(picture[:, 1], truth, atol=1e-6)
    np.testing.assert_allclose(picture[:, :, given], truth[:, None, given].repeat(9, axis=1), atol=1e-6)
    assert (picture[:, 0, ~given] == 0.5).all()
    x, _ = model.split(torch.from_numpy(digits.images[firsts] / 255))
    plain = torch.sigmoid(model.plain(x)).detach().numpy()
    np.testing.assert_allclose(picture[:, 2][:, ~given], plain, atol=1e-6)


def test_quadrants_refuses_four(capsys):
    assert quadrants.main(["--quadrants", "4"]) == 2
    assert "expected an integer from 1 to 3, got '4'" in capsys.readouterr().err
