"""The loss against closed forms, Monte Carlo and quadrature."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.distributions import Bernoulli, Normal, kl_divergence

import vae_lowlevel
import vae_numpy
from conv_vae import ConvVAE
from vae_common.spec import VAESpec
from vae_common.weights import load_weights

posteriors = st.integers(1, 5).flatmap(
    lambda z: st.tuples(
        arrays(float, (3, z), elements=st.floats(-20, 20)), arrays(float, (3, z), elements=st.floats(-30, 30))
    )
)


@given(posteriors)
def test_kl_matches_torch_distributions_and_is_never_negative(posterior):
    mu, logvar = posterior
    kl = vae_numpy.gaussian_kl(mu, logvar)
    assert (kl >= 0).all()
    q = Normal(torch.from_numpy(mu), torch.from_numpy(np.exp(0.5 * logvar)))
    expected = kl_divergence(q, Normal(0.0, 1.0)).sum(dim=1).numpy()
    # torch forms exp(logvar) - 1 - logvar by subtraction: an absolute error of a few units of each term
    size = (mu**2 + np.exp(logvar) + 1 + np.abs(logvar)).sum(axis=1)
    assert (np.abs(kl - expected) <= 10 * np.finfo(float).eps * size).all()
    np.testing.assert_allclose(vae_lowlevel.gaussian_kl(*map(torch.from_numpy, posterior)).numpy(), kl, rtol=1e-13)


def test_kl_near_the_prior_keeps_its_digits():
    """At mu = 0, logvar = 1e-6, KL is logvar^2 / 4 to first order: 2.5e-13, which subtraction in float32 would lose.
    At the prior it is 0."""
    kl = vae_numpy.gaussian_kl(np.zeros((2, 1)), np.array([[1e-6], [0]]))
    assert kl[0] == pytest.approx(0.25e-12, rel=1e-3) and kl[1] == 0


def test_kl_matches_monte_carlo():
    """KL = E_q[log q(z) - log p(z)]: within five standard errors of 400,000 samples."""
    rng = np.random.default_rng(0)
    mu, logvar = np.array([[0.7, -1.2, 0.0]]), np.array([[-1.0, 0.5, -3.0]])
    std = np.exp(0.5 * logvar)
    z = vae_numpy.reparameterize(mu, logvar, rng.standard_normal((400_000, 3)))
    log_ratio = (-0.5 * ((z - mu) / std) ** 2 - 0.5 * logvar + 0.5 * z**2).sum(axis=1)
    error = log_ratio.std() / len(z) ** 0.5
    assert abs(log_ratio.mean() - vae_numpy.gaussian_kl(mu, logvar)[0]) < 5 * error


def test_recon_matches_torch_distributions():
    """The squared error is -log N(x; x_hat, 1/2) less its constant."""
    rng = np.random.default_rng(0)
    binary, grey = rng.integers(0, 2, (5, 1, 28, 28)).astype(float), rng.random((5, 1, 28, 28))
    x_logits = 5 * rng.standard_normal((5, 1, 28, 28))
    l = torch.from_numpy(x_logits)
    for x, pixel, recon, constant in (
        (binary, Bernoulli(logits=l), vae_numpy.bernoulli_recon, 0),
        (grey, Normal(torch.sigmoid(l), 0.5**0.5), vae_numpy.gaussian_recon, 392 * np.log(np.pi)),
    ):
        expected = -pixel.log_prob(torch.from_numpy(x)).sum(dim=(1, 2, 3)).numpy()
        np.testing.assert_allclose(recon(x, x_logits) + constant, expected, rtol=1e-13)


@pytest.mark.parametrize("logit", [-1e4, 1e4])
@pytest.mark.parametrize("logvar", [-50.0, 50.0])
def test_extreme_terms_are_their_closed_forms_at_every_level(logit, logvar):
    """Right and sure costs nothing, to 1e-4342 nats, wrong and sure costs |logit| per pixel; nothing overflows."""
    x, mu = np.zeros((1, 1, 28, 28)), np.zeros((1, 3))
    arrays = [x, np.full_like(x, logit), mu, np.full_like(mu, logvar)]
    tensors = [torch.from_numpy(array) for array in arrays]
    recon, kl = 784 * max(logit, 0), 1.5 * (np.exp(logvar) - 1 - logvar)
    model = ConvVAE(VAESpec(3))
    for terms in (vae_numpy.elbo_terms(*arrays), vae_lowlevel.elbo_terms(*tensors), model.elbo_terms(*tensors)):
        assert [float(term[0]) for term in terms] == pytest.approx([recon, kl], rel=1e-12)


def test_wrong_and_sure_pixels_keep_their_gradient():
    x_logits = torch.full((1, 1, 28, 28), -1e4, requires_grad=True)
    vae_lowlevel.bernoulli_recon(torch.ones(1, 1, 28, 28), x_logits).sum().backward()
    assert (x_logits.grad == -1).all()


def test_sigmoid_does_not_overflow():
    np.testing.assert_array_equal(vae_numpy.sigmoid(np.array([-1e4, 0, 1e4])), [0, 0.5, 1])
    x = np.linspace(-30, 30, 121)
    np.testing.assert_allclose(vae_numpy.sigmoid(x), 1 / (1 + np.exp(-x)), rtol=0, atol=2 * np.finfo(float).eps)


def test_unknown_likelihood_is_refused():
    x, z = np.zeros((1, 1, 28, 28)), np.zeros((1, 2))
    with pytest.raises(ValueError, match='"bernoulli" or "gaussian", got \'poisson\''):
        vae_numpy.elbo_terms(x, x, z, z, "poisson")


def test_reparameterized_samples_have_the_posteriors_mean_and_covariance():
    """Five standard errors: a mean's is std/sqrt(n), a covariance's sqrt(var_i var_j + cov^2)/sqrt(n)."""
    n, rng = 200_000, np.random.default_rng(1)
    mu, logvar = np.array([1.0, -2.0, 0.3]), np.array([0.4, -2.0, 1.0])
    z = vae_numpy.reparameterize(mu, logvar, rng.standard_normal((n, 3)))
    variance = np.exp(logvar)
    assert (np.abs(z.mean(axis=0) - mu) < 5 * np.sqrt(variance / n)).all()
    spread = np.sqrt(np.outer(variance, variance) * (1 + np.eye(3)) / n)
    assert (np.abs(np.cov(z.T) - np.diag(variance)) < 5 * spread).all()


def test_elbo_is_below_log_p_by_the_kl_to_the_true_posterior(digits):
    """log p(x) = log of the integral of p(x|z) p(z) on a fine grid, Z = 2; log p(x) - elbo = KL(q || posterior).

    Every integral, also the elbo's, is a Riemann sum over one grid, which for Gaussians that are wide against the
    step and small at the edge converges faster than any power of the step.
    """
    x = (digits.images[:3] >= 128).astype(float)
    params = {name: value.astype(float) for name, value in load_weights("digits-z2").items()}
    mu, logvar = vae_numpy.encode(params, x)
    std = np.exp(0.5 * logvar)
    for i in range(3):
        axes = [np.linspace(mu[i, d] - 7 * std[i, d], mu[i, d] + 7 * std[i, d], 29) for d in (0, 1)]
        z = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
        cell = np.prod([axis[1] - axis[0] for axis in axes])
        log_prior = -0.5 * (z**2).sum(1) - np.log(2 * np.pi)
        log_q = (-0.5 * ((z - mu[i]) / std[i]) ** 2 - 0.5 * logvar[i]).sum(1) - np.log(2 * np.pi)
        x_logits = np.concatenate([vae_numpy.decode(params, part) for part in np.array_split(z, 8)])
        log_likelihood = -vae_numpy.bernoulli_recon(x[i : i + 1], x_logits)
        log_joint = log_likelihood + log_prior
        log_p = np.logaddexp.reduce(log_joint) + np.log(cell)  # of this region: a lower bound of log p(x)
        q = np.exp(log_q) * cell
        assert q.sum() == pytest.approx(1, abs=1e-9)
        elbo = (q * log_likelihood).sum() - vae_numpy.gaussian_kl(mu[i : i + 1], logvar[i : i + 1])[0]
        gap = (q * (log_q - (log_joint - log_p))).sum()
        assert elbo <= log_p
        assert log_p - elbo == pytest.approx(gap, abs=1e-6)
