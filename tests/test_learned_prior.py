"""Learned priors: their densities against enumeration, Jacobians and quadrature, and what they may not change."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import evaluate
from conv_vae import ConvVAE, pixel_loss
from vae_common.config import RunConfig
from vae_common.spec import VAESpec
from vae_doctor.invariants import Exam, log_evidence
from vae_doctor.subject import subject_of_model
from vae_measures.rate_parts import decompose
from vae_models.flow_prior import Coupling, FlowPrior
from vae_models.iwae import IWAE, sample_terms
from vae_models.learned_prior import MixturePrior, PriorIWAE, PriorVAE, VampPrior
from vae_training.factory import build_model
from vae_training.run_files import read_run

B, Z = 6, 3


def moved(prior: nn.Module, scale: float = 0.3) -> nn.Module:
    """The prior in float64, all its parameters moved at random."""
    torch.manual_seed(1)
    for parameter in prior.double().parameters():
        parameter.data += scale * torch.randn_like(parameter)
    return prior


def encode(x: Tensor) -> tuple[Tensor, Tensor]:
    """An encoder that can be seen through: images (B, 1, 28, 28) -> mu, logvar (B, 2)."""
    return 20 * x[:, 0, 0, :2], x[:, 0, 1, :2] - 1


def priors() -> dict[str, nn.Module]:
    """One of each kind with Z = 2."""
    return {
        "mixture": moved(MixturePrior(2, components=5)),
        "vamp": moved(VampPrior(2, components=5), 0.05),
        "flow": moved(FlowPrior(2, couplings=3, hidden=8)),
    }


def log_normal(z: Tensor) -> Tensor:
    return Normal(0.0, 1.0).log_prob(z).sum(dim=-1)


def images(count: int = B) -> tuple[Tensor, Tensor]:
    """x (B, 1, 28, 28) of 0 and 1, eps (B, Z)."""
    torch.manual_seed(0)
    return torch.rand(count, 1, 28, 28, dtype=torch.float64).round(), torch.randn(count, Z, dtype=torch.float64)


def standard_mixture() -> MixturePrior:
    prior = MixturePrior(Z, components=1)
    prior.mu.data.zero_()
    return prior


# --- where the prior is N(0, I), nothing changes ------------------------------------------------------------------


@pytest.mark.parametrize("prior", [lambda: FlowPrior(Z), standard_mixture])
def test_a_prior_that_is_standard_normal_gives_the_plain_vae(prior):
    """In float64, to rounding: the terms, the gradients, the weights of importance sampling."""
    params = {name: torch.from_numpy(value) for name, value in VAESpec(Z).init_params(0).items()}
    x, eps = images()
    for plain, learned, noise in (
        (ConvVAE(VAESpec(Z)), PriorVAE(VAESpec(Z), prior=prior()), eps),
        (IWAE(VAESpec(Z), samples=4), PriorIWAE(VAESpec(Z), samples=4, prior=prior()), torch.randn(B, 4, Z).double()),
    ):
        terms = []
        for model in (plain.double(), learned.double()):
            model.load_state_dict(params, strict=False)
            found = model.objective(x, None, noise, 0)
            found["loss"].backward()
            terms.append({**{k: v.detach() for k, v in found.items()}, "slope": model.encoder.fc.weight.grad})
        for name, expected in terms[0].items():
            torch.testing.assert_close(terms[1][name], expected, rtol=1e-11, atol=1e-11)
        found = learned.evaluate(x, None, eps)
        for name, expected in plain.evaluate(x, None, eps).items():
            torch.testing.assert_close(found[name], expected, rtol=1e-11, atol=1e-11)


# --- densities ----------------------------------------------------------------------------------------------------


def test_log_p_of_mixtures_is_that_of_torch_and_so_is_its_gradient():
    for name in ("mixture", "vamp"):
        prior = priors()[name]
        z = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
        mu, logvar = (prior.mu, prior.logvar) if name == "mixture" else encode(prior.pseudo_inputs.clamp(0, 1))
        parts = Independent(Normal(mu, torch.exp(logvar / 2)), 1)
        expected = MixtureSameFamily(Categorical(torch.ones(5, dtype=torch.float64)), parts).log_prob(z)
        found = prior.log_ratio(z, encode) + log_normal(z)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        leaves = [z, *prior.parameters()]
        for one, other in zip(*(torch.autograd.grad(value.sum(), leaves) for value in (found, expected)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("latent_dim", [2, 3, 5])
def test_a_flow_is_inverted_and_its_determinant_is_that_of_the_jacobian(latent_dim):
    flow = moved(FlowPrior(latent_dim, couplings=4, hidden=16))
    e = torch.randn(4, latent_dim, dtype=torch.float64)
    z = flow.codes(e, None)
    back, log_det = flow.inverse(z)
    torch.testing.assert_close(back, e, rtol=1e-10, atol=1e-10)
    for i in range(4):
        jacobian = torch.autograd.functional.jacobian(lambda v: flow.inverse(v)[0], z[i])
        assert log_det[i].item() == pytest.approx(torch.linalg.slogdet(jacobian)[1].item(), abs=1e-9)
    assert (jacobian.abs() > 1e-6).all()  # each of the dimensions is moved by each


def test_one_coupling_is_the_formula():
    """By hand: the first half stays, the second becomes t + s e."""
    coupling = moved(Coupling(4, hidden=8, swap=False))
    e = torch.randn(3, 4, dtype=torch.float64)
    t, raw = coupling.net(e[:, :2]).chunk(2, dim=1)
    s = torch.exp(2 * torch.tanh(raw / 2))
    torch.testing.assert_close(coupling(e), torch.cat([e[:, :2], t + s * e[:, 2:]], dim=1))


@pytest.mark.parametrize("name", ["mixture", "vamp", "flow"])
def test_densities_integrate_to_one_and_are_those_of_the_draws(name):
    """On a grid of Z = 2: the integral, and the mean and covariance, beside those of 20,000 draws."""
    prior, step = priors()[name], 0.05
    axis = torch.arange(-12, 12, step, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        p = torch.exp(prior.log_ratio(grid, encode) + log_normal(grid)) * step**2
        assert p.sum().item() == pytest.approx(1, abs=2e-3)  # a flow's density has kinks, where ReLUs switch
        drawn = prior.codes(torch.randn(20_000, 2).double(), torch.rand(20_000).double(), encode)
    for f in (lambda z: z, lambda z: z**2, lambda z: z[:, :1] * z[:, 1:]):
        values = f(drawn)
        error = values.std(dim=0) / len(drawn) ** 0.5
        assert ((values.mean(dim=0) - (p[:, None] * f(grid)).sum(dim=0)).abs() < 5 * error + 5e-3).all()


# --- the terms ----------------------------------------------------------------------------------------------------


def test_the_kl_and_the_weights_are_those_of_the_densities():
    """kl is E[log q - log p] over many draws; log w is log p(x|z) + log p(z) - log q(z|x) of each."""
    model = PriorVAE(VAESpec(2), prior=moved(MixturePrior(2, components=3))).double()
    x, _ = images(2)
    eps = torch.randn(2, 20_000, 2, dtype=torch.float64)
    with torch.no_grad():
        mu, logvar = model.encode(x)
        q = Normal(mu[:, None], torch.exp(logvar / 2)[:, None])
        z = mu[:, None] + torch.exp(logvar / 2)[:, None] * eps
        parts = Independent(Normal(model.prior.mu, torch.exp(model.prior.logvar / 2)), 1)
        log_p = MixtureSameFamily(Categorical(torch.ones(3)), parts).log_prob(z)
        sampled = q.log_prob(z).sum(dim=2) - log_p
        ratio = model.log_prior_ratio(z)
        closed = model.kl_terms(mu, logvar).sum(dim=1)
        own = closed[:, None] - ratio
        error = ((own - sampled).std(dim=1) / 20_000**0.5).numpy()
        assert (np.abs((own - sampled).mean(dim=1).numpy()) < 5 * error).all()
        few = eps[:, :4]
        recon, kl, log_w = sample_terms(model, x, few)
    torch.testing.assert_close(log_w, -recon - sampled[:, :4])
    torch.testing.assert_close(kl, own[:, :4].mean(dim=1))
    found = model.evaluate(x, None, few[:, 0])
    torch.testing.assert_close(found["kl"], own[:, 0])


def test_a_prior_cannot_gain_where_the_codes_are_standard_normal_already():
    """The linear-Gaussian model at its optimum: q(z) is N(0, I), so at the identity no parameter of a flow has a
    slope but that of sampling, and a mixture that is fitted to the codes gains nothing on fresh ones."""
    torch.manual_seed(0)
    count, variance = 200_000, torch.tensor([0.2, 0.7], dtype=torch.float64)  # of the posteriors
    mu = torch.randn(count, 2, dtype=torch.float64) * (1 - variance).sqrt()
    z = mu + variance.sqrt() * torch.randn_like(mu)
    flow = FlowPrior(2, couplings=2, hidden=4).double()
    last = [coupling.net[-1] for coupling in flow.couplings]
    slopes = torch.stack([  # of 40 parts of the codes, by the last layers: the others' are 0 at the identity
        torch.cat([g.ravel() for g in torch.autograd.grad(
            flow.log_ratio(part).mean(), [p for layer in last for p in (layer.weight, layer.bias)])])
        for part in z.chunk(40)
    ])  # fmt: skip
    assert (slopes.mean(dim=0).abs() < 5 * slopes.std(dim=0) / 40**0.5).all()
    narrow = (0.5 * z).chunk(40)  # of codes that are not, there is one
    slope = [torch.autograd.grad(flow.log_ratio(part).mean(), last[0].bias)[0][1].item() for part in narrow]
    assert abs(np.mean(slope)) > 100 * np.std(slope) / 40**0.5


def test_the_rate_of_a_set_is_that_to_its_prior():
    """With the mixture of the set's own posteriors as the prior KL(q(z) || p(z)) is 0, and the rate is I(x; z)."""
    rng = np.random.default_rng(0)
    mu, logvar = rng.normal(0, 2, (30, 2)), rng.uniform(-3, 0, (30, 2))
    prior = MixturePrior(2, components=30)
    prior.mu.data, prior.logvar.data = torch.from_numpy(mu), torch.from_numpy(logvar)
    parts = decompose(
        mu, logvar, 3000, rng, lambda z: prior.log_ratio(torch.from_numpy(z).double(), None).detach().numpy()
    )
    assert parts.aggregate_kl.value == pytest.approx(0, abs=5 * parts.aggregate_kl.error + 1e-3)
    assert parts.aggregate_kl.error < 0.1 and parts.rate > 1


# --- the command --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mixture", "vamp", "flow"])
def test_the_network_starts_as_the_plain_one(name):
    model = build_model(RunConfig(prior=name, latent_dim=3).settled())
    for key, value in VAESpec(3).init_params(0).items():
        np.testing.assert_array_equal(model.state_dict()[key].numpy(), value)
    assert isinstance(build_model(RunConfig(prior=name, latent_dim=3, importance_samples=5).settled()), PriorIWAE)
    assert math.isfinite(model.log_prior_ratio(torch.zeros(1, 3)).item())


FLAGS = ("--prior", "flow", "--latent-dim", "3", "--epochs", "1", "--batch-size", "32")


def test_an_iwae_goes_on_from_a_run_with_the_same_prior(trained, told, tmp_path):
    """With a learning rate of next to nothing it is that run; another prior's weights are refused."""
    import vae_paper

    weights, out = trained(*FLAGS) / "weights.safetensors", tmp_path / "run"
    more = [*FLAGS, "--weights", str(weights), "--out", str(out)]
    assert vae_paper.main([*more, "--importance-samples", "2", "--lr", "1e-12"]) == 0
    model, start = read_run(out)[1], read_run(trained(*FLAGS))[1].state_dict()
    assert isinstance(model, PriorIWAE)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, start[name], rtol=0, atol=1e-9)
    said = told(vae_paper.main, ["--prior", "mixture", *more[2:], "--overwrite"])
    assert "expected the weights of this vae, found others" in said


def test_every_section_of_evaluate_is_about_the_learned_prior(trained, small_digits, capsys):
    """bounds: L_1 agrees with the elbo, which evaluate checks; codes: R is the kl that was measured."""
    folder = trained(*FLAGS)
    copy = shutil.copytree(folder, folder.parent / "copy")
    assert evaluate.main([str(copy), "--only", "bounds", "codes", "--importance-samples", "20"]) == 0
    found = json.loads((copy / "evaluation.json").read_text())
    rate = found["information"]["test"]["rate"]
    assert found["information"]["test"]["aggregate_kl"]["error"] > 0 and rate == pytest.approx(found["kl"], abs=0.2)
    assert "(the prior's is 1)" not in capsys.readouterr().out


def test_the_doctor_integrates_with_the_learned_prior(digits):
    """log p(x) by its quadrature around the posterior, beside a sum over a wide grid with torch's density."""
    torch.manual_seed(0)
    model = PriorVAE(VAESpec(2), prior=moved(MixturePrior(2, components=3)).float())
    x = digits.images[:3] / np.float32(255)
    exam = Exam.of(subject_of_model(model), x, None, np.random.default_rng(0))
    axis = torch.arange(-8, 8, 0.2)
    grid = torch.cartesian_prod(axis, axis)
    parts = Independent(Normal(model.prior.mu, torch.exp(model.prior.logvar / 2)), 1)
    with torch.no_grad():
        log_p = MixtureSameFamily(Categorical(torch.ones(3)), parts).log_prob(grid)
        x_logits = model.decode(grid)
        log_joint = [
            log_p - pixel_loss(torch.from_numpy(one).expand(len(grid), -1, -1, -1), x_logits, "bernoulli") for one in x
        ]
    expected = torch.logsumexp(torch.stack(log_joint), dim=1) + 2 * math.log(0.2)
    np.testing.assert_allclose(log_evidence(exam, 3), expected, atol=0.02)  # of steps of half a std
