"""Learned priors: their densities against enumeration, Jacobians and quadrature, and what they may not change."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
import zuko
from matplotlib.contour import QuadContourSet
from torch import Tensor, nn
from torch.distributions import AffineTransform, Categorical, Independent, MixtureSameFamily, Normal, Transform

import evaluate
import latent_figures
from conv_vae import ConvVAE, pixel_loss
from vae_common.config import RunConfig
from vae_common.plots import charts
from vae_common.spec import VAESpec
from vae_doctor.invariants import Exam, log_evidence
from vae_doctor.subject import subject_of_model
from vae_measures.rate_parts import decompose, kl_noise
from vae_models.flow_prior import FlowPrior
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


def test_a_flow_with_its_networks_in_zuko_has_the_same_density_and_the_same_draws():
    """zuko composes transforms of its own; the halves are masks there, and only the conditioner is ours."""
    flow, transforms = moved(FlowPrior(5, couplings=3, hidden=16)), []
    for coupling in flow.couplings:
        order = torch.arange(5).flip(0) if coupling.swap else torch.arange(5)

        def moves(v_a: Tensor, coupling=coupling, order=order) -> Transform:
            """The map of the half that moves, in zuko's order of the dimensions, given the half that stays."""
            t, raw = coupling.net(v_a.flip(-1) if coupling.swap else v_a).chunk(2, dim=-1)
            t, raw = (part.flip(-1) if coupling.swap else part for part in (t, raw))
            return zuko.transforms.DependentTransform(AffineTransform(t, torch.exp(2 * torch.tanh(raw / 2))), 1)

        mask = torch.zeros(5, dtype=torch.bool)
        mask[order[: coupling.a]] = True  # what stays
        transforms.append(zuko.transforms.CouplingTransform(moves, mask))
    backwards = zuko.transforms.ComposedTransform(*(one.inv for one in reversed(transforms)))  # zuko's run from z to e
    base = zuko.distributions.DiagNormal(torch.zeros(5).double(), torch.ones(5).double())
    theirs = zuko.distributions.NormalizingFlow(backwards, base)
    z, e = torch.randn(2, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(flow.log_ratio(z) + log_normal(z), theirs.log_prob(z), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(flow.codes(e, None), backwards.inv(e), rtol=1e-10, atol=1e-10)


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


def test_the_noise_of_a_sampled_kl():
    """log q - log p of N(mu, s^2) to N(0, 1) has the variance (s^2 - 1)^2 / 2 + mu^2 s^2 in each dimension; a prior
    N(0, v) adds log p(z) - log N(z; 0, 1) = z^2 (1 - 1/v) / 2 and a constant to that, and that alone to what is trained
    on, whose variance is (1 - 1/v)^2 (s^4 / 2 + mu^2 s^2)."""
    rng, v = np.random.default_rng(0), 3.0
    mu, logvar = rng.normal(0, 1, (20_000, 4)), rng.uniform(-2, 0.5, (20_000, 4))
    s2 = np.exp(logvar)

    def std(z_squared_by: float, eps_squared_by: float) -> float:
        """Of 1/2 (a z^2 - b eps^2) = 1/2 (a s^2 - b) eps^2 + a mu s eps, over all images."""
        a, b = z_squared_by, eps_squared_by
        return np.sqrt(((a * s2 - b) ** 2 / 2 + a**2 * mu**2 * s2).sum(axis=1).mean())

    assert kl_noise(mu, logvar, rng) == (pytest.approx(std(1, 1), rel=0.03), 0)  # 20,000 pairs: 1 % and less
    prior = kl_noise(mu, logvar, rng, lambda z: (z**2).sum(axis=1) * (1 - 1 / v) / 2)
    assert prior == (pytest.approx(std(1 / v, 1), rel=0.03), pytest.approx(std(1 - 1 / v, 0), rel=0.03))


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


@pytest.mark.slow
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
        each = (torch.from_numpy(one).expand(len(grid), -1, -1, -1) for one in x)
        log_joint = [log_p - pixel_loss(one, x_logits, "bernoulli") for one in each]
    expected = torch.logsumexp(torch.stack(log_joint), dim=1) + 2 * math.log(0.2)
    np.testing.assert_allclose(log_evidence(exam, 3), expected, atol=0.02)  # of steps of half a std


def test_the_contours_of_a_prior_hold_their_shares():
    """Those of N(0, I) are circles: a share p lies within the radius sqrt(-2 ln(1 - p))."""
    axis = np.linspace(-4, 4, 101)
    density = np.exp(-(axis[:, None] ** 2 + axis**2) / 2)
    z = np.random.default_rng(0).standard_normal((50, 2))
    fig = charts.planes({"a": z}, {"a": density}, {"a": np.zeros((24, 1, 28, 28))}, axis, "title")
    (contours,) = (one for one in fig.axes[0].collections if isinstance(one, QuadContourSet))
    for path, share in zip(contours.get_paths(), (0.99, 0.9, 0.5), strict=True):
        radius = np.linalg.norm(path.vertices, axis=1)
        np.testing.assert_allclose(radius, np.sqrt(-2 * np.log(1 - share)), atol=0.08)  # a step of the axis


def test_planes_beside_one_another_are_of_runs_with_two_dimensions(trained, told, tmp_path):
    folder = shutil.copytree(trained(*FLAGS), tmp_path / "run")
    said = told(latent_figures.main, [str(folder), "--beside", str(folder)])
    assert "--beside draws latent planes, so all runs must be of --model vae with Z = 2" in said


@pytest.mark.slow
def test_priors_beside_one_another(trained, tmp_path, small_digits):
    flags = ("--latent-dim", "2", "--epochs", "1", "--batch-size", "32")
    first, second = (shutil.copytree(trained(*flags, "--prior", name), tmp_path / name) for name in ("normal", "flow"))
    assert latent_figures.main([str(first), "--beside", str(second)]) == 0
    assert (first / "figures" / "priors.png").exists()
