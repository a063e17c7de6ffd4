"""The autoencoder beside PCA and a VAE, and the missing quadrants: closed forms, quadrature, and the commands."""

import importlib
import json
import math
import sys

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.distributions import Bernoulli

import quadrants
import vae_paper
from quadrants import QuadrantCVAE, estimates, given_pixels
from vae_common.data import ImageSet, load_dataset
from vae_models import autoencoder
from vae_models.autoencoder import LinearCode

# --- PCA ----------------------------------------------------------------------------------------------------------


def test_pca_leaves_the_discarded_eigenvalues(digits):
    """On the data it is fitted to, the squared error is the sum of the eigenvalues that it discards."""
    x = digits.images[:300].astype(float) / 255
    pca = LinearCode.fit(x, 15)
    eigenvalues = np.linalg.eigvalsh(np.cov(x.reshape(300, -1).T, bias=True))[::-1]
    assert autoencoder.mse(x, pca.decode(pca.encode(x))) == pytest.approx(eigenvalues[15:].sum() / 784, rel=1e-9)
    np.testing.assert_allclose(pca.encode(x).std(axis=0, ddof=1), pca.std, rtol=1e-9)
    np.testing.assert_allclose(pca.components @ pca.components.T, np.eye(15), atol=1e-12)


@pytest.mark.parametrize("components, error", [(2, 0.0557), (10, 0.0341), (20, 0.0235), (50, 0.0115)])
def test_pca_of_mnist(components, error, mnist_dir, mnist_pca):
    """Known figures of the test split, fitted on the training split, to the digits they are known to."""
    x = load_dataset("mnist", "test", mnist_dir).images.astype(np.float32) / 255
    pca = LinearCode(mnist_pca.mean, mnist_pca.components[:components], mnist_pca.std[:components])
    assert autoencoder.mse(x, pca.decode(pca.encode(x))) == pytest.approx(error, abs=5e-5)


@pytest.fixture(scope="module")
def mnist_pca(mnist_dir) -> LinearCode:
    """The first 50 components; fewer components are the first of them."""
    return LinearCode.fit(load_dataset("mnist", "train", mnist_dir).images.astype(np.float32) / 255, 50)


# --- AE, PCA and VAE side by side ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory, digits):
    """A folder with short runs `ae`, `vae`, and `vae3` with another Z, on a few drawn digits; and what loads those."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("vae_common.data.load_dataset", few_of(digits))
        patched.setattr("latent_figures.draw_run", lambda *args: None)
        for name, flags in {"ae": "--model ae", "vae": "", "vae3": "--latent-dim 3"}.items():
            flags = ["--latent-dim", "4", *flags.split(), "--epochs", "1"]
            assert vae_paper.main([*flags, "--device", "cpu", "--out", str(folder / name)]) == 0
    return folder


def few_of(digits: ImageSet):
    parts = {"train": slice(0, 100), "test": slice(100, 160)}

    def load(name, split, data_dir=None):
        images, labels = digits.images[parts[split]], digits.labels[parts[split]]
        return ImageSet("digits", split, images, labels, digits.class_names)

    return load


def test_side_by_side(runs, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vae_common.data.load_dataset", few_of(digits))
    assert autoencoder.main([str(runs / "ae"), str(runs / "vae"), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())["mse"]
    train, test = (few_of(digits)(None, split).images / np.float32(255) for split in ("train", "test"))
    oracle = PCA(4).fit(train.reshape(100, -1))
    x_hat = oracle.inverse_transform(oracle.transform(test.reshape(60, -1)))
    # float32 sums of 784 terms, and the eigenvectors of float32 data
    assert found["PCA"] == pytest.approx(((x_hat - test.reshape(60, -1)) ** 2).mean(), rel=1e-4)
    assert found["AE"] == pytest.approx(json.loads((runs / "ae" / "evaluation.json").read_text())["mse"], rel=1e-5)
    assert found["mean image, no code"] == pytest.approx(((test - train.mean(axis=0)) ** 2).mean(), rel=1e-5)
    assert found["VAE, z = mu"] != found["VAE, sampled z"]
    for name, value in found.items():
        assert f"{name:20} {value:.4f}" in printed
    for name in ("reconstructions", "samples", "latent-ae", "latent-vae"):
        assert (tmp_path / "out" / "figures" / f"{name}.png").exists()


@pytest.mark.parametrize(
    "ae, vae, said",
    [
        ("vae", "ae", "vae: expected a run of --model ae, found --model vae; name AE, then VAE."),
        ("ae", "vae3", "vae3: expected --latent-dim 4, as in "),
        ("ae", "none", "config.json: expected the settings of a run"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(ae, vae, said, runs, tmp_path, capsys):
    assert autoencoder.main([str(runs / ae), str(runs / vae), "--out", str(tmp_path / "out")]) == 2
    stderr = capsys.readouterr().err
    assert said in stderr and stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_model_needs_no_scikit_learn(monkeypatch):
    """Just the comparison does, and only once it runs."""
    monkeypatch.delitem(sys.modules, "autoencoder")
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    again = importlib.import_module("autoencoder")
    assert again.Autoencoder is not autoencoder.Autoencoder
    with pytest.raises(ModuleNotFoundError, match="sklearn"):
        again.LinearCode.fit(np.zeros((2, 1, 28, 28)), 1)


# --- the missing quadrants ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "count, given", [(1, ["..", "x."]), (2, ["x.", "x."]), (3, ["xx", "x."])], ids=["one", "two", "three"]
)
def test_which_quadrants_are_given(count, given):
    corners = np.array([[mark == "x" for mark in row] for row in given])
    np.testing.assert_array_equal(given_pixels(count), np.kron(corners, np.ones((14, 14))) == 1)


@pytest.fixture(params=[1, 2, 3])
def model(request) -> QuadrantCVAE:
    """Z = 1, float64, with a posterior wide enough that importance weights stay small in the tails."""
    torch.manual_seed(0)
    model = QuadrantCVAE(request.param, latent_dim=1).double()
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
    return torch.distributions.Normal(0.0, 1.0).icdf(u)[None, :, None]


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
    gaussian = quadrants.normal(torch.tensor([[1.0, 2.0, 0.0, math.log(4)]]))
    torch.testing.assert_close(gaussian.loc, torch.tensor([[[1.0, 2.0]]]))
    torch.testing.assert_close(gaussian.scale, torch.tensor([[[1.0, 2.0]]]))


def test_the_objective_is_what_is_measured(model, image):
    eps = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 1, 1)))
    terms, measured = model.objective(image, None, eps, step=0), estimates(model, image, eps)
    for name in ("plain", "recon", "kl", "elbo"):
        torch.testing.assert_close(terms[name], measured[name].mean(), rtol=1e-12, atol=0)
    torch.testing.assert_close(terms["loss"], terms["plain"] - terms["elbo"])


def test_each_pixel_is_either_given_or_missing(model, image):
    x, y = model.split(image)
    given = given_pixels({196: 1, 392: 2, 588: 3}[x.shape[1]])
    np.testing.assert_array_equal(x.numpy(), image.numpy()[:, 0, given])
    np.testing.assert_array_equal(y.numpy(), image.numpy()[:, 0, ~given])


def test_the_plain_network_learns_what_it_would_alone(model, image):
    """No gradient of the CVAE's terms reaches it, and all of the CVAE's networks get theirs."""
    eps = torch.ones(2, 1, 1, dtype=torch.float64)
    model.objective(image, None, eps, step=0)["elbo"].backward()
    assert all(value.grad is None for value in model.plain.parameters())
    for part in (model.prior_net, model.posterior_net, model.from_guess, model.from_z, model.decoder):
        assert all((value.grad != 0).any() for value in part.parameters())


def test_quadrants_by_command(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(quadrants, "load_dataset", few_of(digits))
    flags = ["--quadrants", "3", "1", "3", "--epochs", "1", "--samples", "3", "--latent-dim", "2", "--device", "cpu"]
    assert quadrants.main([*flags, "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert list(evaluation["given"]) == ["1", "3"]
    for name, found in evaluation["given"].items():
        assert f"{quadrants.GIVEN[int(name)]:20} {found['plain']:6.1f} {-found['elbo']:12.1f}" in printed
        assert found["elbo"] == pytest.approx(-(found["recon"] + found["kl"]))
        assert (tmp_path / "run" / "figures" / f"quadrants-{name}.png").exists()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["quadrants"], row["split"]) for row in rows] == [(1, "train"), (1, "test"), (3, "train"), (3, "test")]
    assert "Pyro" not in printed  # its figures are of another data set


def test_quadrants_refuses_four(capsys):
    assert quadrants.main(["--quadrants", "4"]) == 2
    assert "invalid choice: 4" in capsys.readouterr().err
