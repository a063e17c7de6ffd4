"""The autoencoder beside PCA and a VAE, and the missing quadrants: closed forms, quadrature, and the commands."""

import json
import math
import re

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.distributions import Bernoulli, Normal

import evaluate
import quadrants
from run_folders import finished_run
from vae_commands import quadrants_run
from vae_common.config import RunConfig
from vae_common.data import ImageSet, load_dataset
from vae_measures import latent_space
from vae_measures.held_out import measure
from vae_measures.linear_code import LinearCode, mse
from vae_models.quadrant_cvae import QuadrantCVAE, estimates, given_pixels
from vae_plots import comparison
from vae_training.factory import build_model
from vae_training.run_files import read_run


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


def test_side_by_side(small_digits, not_laid_out, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(comparison, "save_figure", lambda figure, path: path)
    monkeypatch.setattr(latent_space, "LINES", 5)
    monkeypatch.setattr(latent_space, "POINTS", 40)
    data = load_dataset("digits", "test")
    ae, vae = (finished_run(tmp_path / name, data, model=name, latent_dim=4) for name in ("ae", "vae"))
    before = {path: path.read_bytes() for path in ae.iterdir()}
    assert evaluate.main([str(ae), "--against", str(vae)]) == 0
    printed = capsys.readouterr().out
    result = json.loads((ae / "against.json").read_text())
    train, test = (load_dataset("digits", split).images / np.float32(255) for split in ("train", "test"))
    oracle = PCA(4).fit(train.reshape(150, -1))
    x_hat = oracle.inverse_transform(oracle.transform(test.reshape(50, -1)))
    found, space = result.pop("mse"), result.pop("latent_space")
    on = {"dataset": "digits", "binarize": "none", "likelihood": "bernoulli"}
    assert result == {**on, "latent_dim": 4, "vae": str(vae)}
    # float32 sums of 784 terms, and the eigenvectors of float32 data
    assert found["PCA"] == pytest.approx(((x_hat - test.reshape(50, -1)) ** 2).mean(), rel=1e-4)
    model = read_run(ae)[1]
    x = torch.from_numpy(test)
    with torch.no_grad():
        x_hat = model.decode(model.encode(x)[0]).sigmoid()
    assert found["AE"] == pytest.approx(((x_hat - x) ** 2).mean().item(), rel=1e-5)
    assert found["mean image, no code"] == pytest.approx(((test - train.mean(axis=0)) ** 2).mean(), rel=1e-5)
    assert found["VAE, z = mu"] != found["VAE, sampled z"]
    for name, value in found.items():
        assert f"{name:20} {value:.4f}" in printed
    assert list(space) == [str(ae), str(vae)]
    for run, one in space.items():
        assert re.search(rf"{run} +{one['jump']:.2f} +{one['detour']:.2f} +{one['recognised']['codes']:.1%} ", printed)
    for name in ("reconstructions", "samples", "codes-ae", "codes-vae", "spaces"):
        assert f"wrote {ae / 'figures' / f'against-{name}.png'}" in printed
    assert all(path.read_bytes() == whole for path, whole in before.items())  # the run itself stays as it was


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


@pytest.mark.parametrize(("count", "given"), [(1, ["..", "x."]), (2, ["x.", "x."]), (3, ["xx", "x."])])
def test_which_quadrants_are_given(count, given, image):
    corners = np.array([[mark == "x" for mark in row] for row in given])
    pixels = np.kron(corners, np.ones((14, 14))) == 1
    np.testing.assert_array_equal(given_pixels(count), pixels)
    x, y = QuadrantCVAE(count).split(image)
    np.testing.assert_array_equal(x.numpy(), image.numpy()[:, 0, pixels])
    np.testing.assert_array_equal(y.numpy(), image.numpy()[:, 0, ~pixels])


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


def test_bounds_match_quadrature(model, image):
    """Both estimates of log p(y|x), on quantiles instead of random draws, against a Riemann sum over z; elbo below.

    Where the integrand dies out, a rule of K = 1,000 quantiles errs by a few 1/K^2, and by no more than 1e-4 at the
    kinks of ReLU; under the prior it does not die out, and the outermost quantiles stand for tails of 1/(2 K) = 5e-4
    of the mass, in which p(y|x,z) is not more than ten times its mean.
    """
    quantiles = Normal(0.0, 1.0).icdf((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000)
    eps = quantiles[None, :, None].expand(2, -1, -1)
    found = {name: value.detach() for name, value in estimates(model, image, eps).items()}
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


def test_the_objective_is_what_is_measured_and_the_plain_network_learns_what_it_would_alone(model, image):
    """No gradient of the CVAE's terms reaches it, and all of the CVAE's networks get theirs."""
    eps = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 1, 1)))
    terms, measured = model.objective(image, None, eps, step=0), estimates(model, image, eps)
    for name in ("plain", "recon", "kl", "elbo"):
        torch.testing.assert_close(terms[name], measured[name].mean(), rtol=1e-12, atol=0)
    torch.testing.assert_close(terms["loss"], terms["plain"] - terms["elbo"])
    terms["elbo"].backward()
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
