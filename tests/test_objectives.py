"""The objectives of level 3 against closed forms: schedules, free bits, capacity, several samples, pPCA."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.distributions import MultivariateNormal

from conv_vae import ConvVAE
from vae_common.spec import VAESpec
from vae_models.beta_vae import BetaVAE, KLWeight
from vae_models.iwae import IWAE, ManySampleVAE, importance_bound, sample_terms
from vae_models.linear_vae import LinearVAE, linear_rate_distortion, ppca_log_likelihood
from vae_models.masked_decoder import MaskedVAE
from vae_models.mlp import LinearDecoder, LinearEncoder

SPEC = VAESpec(3)


def a_batch(digits, samples=()):
    x = torch.from_numpy(digits.images[:6] / 255)
    eps = torch.from_numpy(np.random.default_rng(0).standard_normal((6, *samples, 3)))
    return x, torch.from_numpy(digits.labels[:6]), eps


@pytest.mark.parametrize(
    ("weight", "betas"),
    [
        (KLWeight(4.0), {0: 4, 10: 4, 10**6: 4}),
        (KLWeight(4.0, "linear", ramp=100), {0: 0, 25: 1, 50: 2, 99: 3.96, 100: 4, 101: 4, 10**6: 4}),
        (KLWeight(4.0, "cyclical", ramp=100), {0: 0, 50: 2, 100: 4, 150: 4, 199: 4, 200: 0, 250: 2, 300: 4, 1150: 4}),
        (KLWeight(4.0, "sigmoid", ramp=100), {0: 4 / (1 + math.e**6), 50: 2, 100: 4 / (1 + math.e**-6), 10**6: 4}),
    ],
    ids=["none", "linear", "cyclical", "sigmoid"],
)
def test_beta_at_given_steps(weight, betas):
    assert {step: weight.beta_at(step) for step in betas} == pytest.approx(betas, rel=1e-12)


@given(arrays(float, 5, elements=st.floats(0, 4)))
def test_free_bits_gradient_is_zero_exactly_under_the_floor(kl):
    kl = torch.tensor(kl, requires_grad=True)
    (KLWeight(beta=2.0, free_bits=1.5).penalty(kl, 0) + 0 * kl.sum()).backward()
    expected = torch.where(kl >= 1.5, 2.0, 0.0)
    assert torch.equal(kl.grad[kl != 1.5], expected[kl != 1.5].double())


@pytest.mark.parametrize(("kl", "penalty", "slope"), [([0.1, 2.8], 6.0, 0.0), ([0.1, 3.1], 6.4, 2.0)])
def test_free_nats_are_a_floor_under_the_whole_kl(kl, penalty, slope):
    """beta = 2 and 3 free nats: below them every gradient is 0, above them it is beta, however the dimensions share."""
    kl = torch.tensor(kl, dtype=torch.float64, requires_grad=True)
    found = KLWeight(beta=2.0, free_nats=3.0).penalty(kl, 0)
    found.backward()
    assert found.item() == pytest.approx(penalty, rel=1e-12) and kl.grad.tolist() == [slope, slope]


@pytest.mark.parametrize(("kl", "slope"), [(3.0, -7.0), (12.0, 7.0)])
def test_capacity_draws_the_kl_towards_c(kl, slope):
    weight, per_dim = KLWeight(beta=7.0, capacity=10.0, ramp=50), torch.tensor([kl / 2, kl / 2], requires_grad=True)
    assert [weight.capacity_at(step) for step in (0, 10, 50, 80)] == [0, 2, 10, 10]
    penalty = weight.penalty(per_dim, step=100)
    penalty.backward()
    assert penalty.item() == 7 * abs(kl - 10)
    assert per_dim.grad.tolist() == [slope, slope]


NEUTRAL = {
    "annealing that is over": (lambda: BetaVAE(SPEC, kl_weight=KLWeight(1.0, "linear", ramp=0.5)), ()),
    "free nats under the kl": (lambda: BetaVAE(SPEC, kl_weight=KLWeight(free_nats=1e-9)), ()),
    "free bits 0": (lambda: BetaVAE(SPEC, kl_weight=KLWeight(free_bits=0.0)), ()),
    "one sample": (lambda: ManySampleVAE(SPEC), (1,)),
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_settings_give_the_plain_vae(name, digits):
    """Loss and gradients, in float64: the same sums in another order, 1e-12 relative."""
    make, samples = NEUTRAL[name]
    plain, variant = ConvVAE(SPEC).double(), make().double()
    variant.load_state_dict(plain.state_dict())
    x, y, eps = a_batch(digits)
    expected = plain.objective(x, y, eps, 7)["loss"]
    loss = variant.objective(x, y, eps.reshape(6, *samples, 3), 7)["loss"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    expected.backward()
    loss.backward()
    for one, other in zip(plain.parameters(), variant.parameters(), strict=True):
        assert (one.grad - other.grad).abs().max() <= 1e-11 * one.grad.abs().max()


def test_free_bits_holds_the_floor_against_the_minibatch_mean(digits):
    """A floor between the smallest KL of an image and the mean: taken image by image it would cost more."""
    x, y, eps = a_batch(digits)
    model = BetaVAE(SPEC).double()
    kl = model.kl_terms(*model.encode(x)).detach()
    floor = float(kl.mean(dim=0).min() + kl.min()) / 2
    assert (kl < floor).any() and (kl.mean(dim=0) > floor).all()
    model.kl_weight = KLWeight(free_bits=floor)
    terms = model.objective(x, y, eps, 0)
    assert terms["loss"].item() == pytest.approx((terms["recon"] + kl.mean(dim=0).sum()).item(), rel=1e-12)


@pytest.mark.parametrize("kind", [ConvVAE, MaskedVAE])
def test_sample_terms_are_those_of_single_samples(kind, digits):
    """Sample k of image b is what the plain model gives for eps[b, k]."""
    x, _, eps = a_batch(digits, samples=(4,))
    model = kind(SPEC).double()
    recon, kl, _ = sample_terms(model, x, eps)
    for k in range(4):
        x_logits, mu, logvar = model(x, eps[:, k])
        expected = model.elbo_terms(x, x_logits, mu, logvar)
        torch.testing.assert_close((recon[:, k], kl), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("samples", [1, 5])
def test_iwae_minimises_the_bound_of_its_samples(samples, digits):
    """recon is the mean over images and samples, and bound is the mean of L_K."""
    x, y, eps = a_batch(digits, samples=(samples,))
    model = IWAE(SPEC, samples=samples).double()
    recon, kl, log_w = (value.detach().numpy() for value in sample_terms(model, x, eps))
    bound = (np.logaddexp.reduce(log_w, axis=1) - np.log(samples)).mean()
    expected = {"recon": recon.mean(), "kl": kl.mean(), "elbo": -recon.mean() - kl.mean(), "bound": bound}
    terms = {name: term.item() for name, term in model.objective(x, y, eps, 0).items()}
    assert terms == pytest.approx({**expected, "loss": -bound}, rel=1e-12)


SIDE, LATENTS = 4, 3


def linear_model(**options) -> LinearVAE:
    torch.manual_seed(0)
    architecture = (lambda z: LinearEncoder(z, SIDE * SIDE), lambda z: LinearDecoder(z, SIDE))
    return LinearVAE(VAESpec(LATENTS), "gaussian", architecture=architecture, **options).double()


def gaussian_images(count=100) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Images (N, 1, 4, 4) with a known spectrum, the eigenvalues of their covariance and its axes."""
    rng = np.random.default_rng(0)
    axes, _ = np.linalg.qr(rng.standard_normal((16, 16)))
    x = (rng.standard_normal((count, 16)) * np.sqrt([5, 2.5, 1.2, *[0.3] * 13])) @ axes.T + rng.standard_normal(16)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    return torch.from_numpy(x.reshape(count, 1, SIDE, SIDE)), values[::-1].copy(), vectors[:, ::-1].copy()


def exact_terms(model, x):
    """recon and kl with the expectation over eps exact: the loss is quadratic in eps, so the 2 Z points +-sqrt(Z) e_i,
    whose mean is 0 and whose covariance is I, average to it."""
    points = math.sqrt(LATENTS) * torch.cat([torch.eye(LATENTS), -torch.eye(LATENTS)]).double()
    recon, kl, _ = sample_terms(model, x, points.expand(len(x), -1, -1))
    return recon.mean(), kl.mean()


def minimise(model, x, beta=1.0):
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    options = dict(max_iter=1000, history_size=50, tolerance_change=1e-10)
    optimizer = torch.optim.LBFGS(parameters, line_search_fn="strong_wolfe", **options)

    def loss():
        optimizer.zero_grad()
        recon, kl = exact_terms(model, x)
        (recon + beta * kl).backward()
        return recon + beta * kl

    optimizer.step(loss)
    return exact_terms(model, x)


def test_linear_vae_reaches_the_optimum_of_ppca_and_finds_its_axes():
    x, eigenvalues, axes = gaussian_images()
    model = linear_model()
    recon, kl = minimise(model, x)
    assert -(recon + kl).item() == pytest.approx(ppca_log_likelihood(eigenvalues, LATENTS), abs=0.01)
    assert model.decoder.log_s2.exp().item() == pytest.approx(eigenvalues[LATENTS:].mean(), rel=0.01)
    W = model.decoder.mean.weight.detach().numpy()
    cosines = np.abs(axes[:, :LATENTS].T @ (W / np.linalg.norm(W, axis=0)))
    assert (cosines.max(axis=0) > 0.999).all() and set(cosines.argmax(axis=0)) == {0, 1, 2}


def test_ppca_log_likelihood_is_that_of_the_best_gaussian():
    x, eigenvalues, axes = gaussian_images()
    s2 = eigenvalues[LATENTS:].mean()
    covariance = torch.from_numpy((axes * np.r_[eigenvalues[:LATENTS], [s2] * (16 - LATENTS)]) @ axes.T)
    flat = x.flatten(1)
    expected = MultivariateNormal(flat.mean(dim=0), covariance).log_prob(flat).mean().item()
    assert ppca_log_likelihood(eigenvalues, LATENTS) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("beta", [0.5, 6.0, 30.0])
def test_linear_beta_vae_is_gaussian_rate_distortion(beta):
    """At s2 = 0.3 the water stands at 0.15, 1.8 and 9: 3, 2 and 0 of the three components are used."""
    x, eigenvalues, _ = gaussian_images()
    model = linear_model(fixed_variance=0.3)
    recon, kl = minimise(model, x, beta)
    rate, squared_error, active = linear_rate_distortion(eigenvalues, LATENTS, 0.3, beta)
    constant = 8 * math.log(2 * math.pi * 0.3)
    assert kl.item() == pytest.approx(rate, rel=0.01, abs=1e-3)
    assert 2 * 0.3 * (recon.item() - constant) == pytest.approx(squared_error, rel=0.01)
    assert (model.encode(x)[0].var(dim=0) > 0.01).sum().item() == active


def test_importance_bounds_with_the_exact_posterior_have_no_variance():
    """With orthogonal columns of W the true posterior is diagonal; set to it, every log w is log p(x)."""
    rng = np.random.default_rng(1)
    W = np.linalg.qr(rng.standard_normal((16, LATENTS)))[0] * [2.0, 1.0, 0.5]
    b, s2 = rng.standard_normal(16), 0.4
    variance = 1 / (1 + (W**2).sum(axis=0) / s2)
    model = linear_model()
    with torch.no_grad():
        model.decoder.log_s2.fill_(math.log(s2))
        model.decoder.mean.weight.copy_(torch.from_numpy(W))
        model.decoder.mean.bias.copy_(torch.from_numpy(b))
        model.encoder.mu.weight.copy_(torch.from_numpy(variance[:, None] * W.T / s2))
        model.encoder.mu.bias.copy_(torch.from_numpy(-variance * (W.T @ b) / s2))
        model.encoder.logvar.copy_(torch.from_numpy(np.log(variance)))
    x = torch.from_numpy(rng.standard_normal((5, 1, SIDE, SIDE)))
    eps = torch.from_numpy(rng.standard_normal((5, 7, LATENTS)))
    _, _, log_w = sample_terms(model, x, eps)
    covariance = torch.from_numpy(W @ W.T + s2 * np.eye(16))
    log_p = MultivariateNormal(torch.from_numpy(b), covariance).log_prob(x.flatten(1))
    torch.testing.assert_close(log_w, log_p[:, None].expand(-1, 7), rtol=0, atol=1e-10)
    torch.testing.assert_close(importance_bound(log_w), log_p, rtol=0, atol=1e-10)
