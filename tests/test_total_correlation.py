"""The total correlation: the estimates of beta-TCVAE by enumeration, and the discriminator of FactorVAE."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Independent, Normal

from vae_common.spec import VAESpec
from vae_measures.rate_parts import decompose
from vae_models.factor_vae import FactorVAE, shuffled
from vae_models.total_correlation import log_shares, total_correlation

N = 5


def posteriors(images: int = N, latent_dim: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """mu, logvar and one z of each image, all (N, Z), float64; the dimensions depend on one another."""
    rng = np.random.default_rng(0)
    mu = rng.normal(size=(images, 1)) + 0.3 * rng.normal(size=(images, latent_dim))
    logvar = rng.uniform(-2, 0, (images, latent_dim))
    z = mu + np.exp(logvar / 2) * rng.normal(size=mu.shape)
    return tuple(map(torch.from_numpy, (mu, logvar, z)))


@pytest.mark.parametrize("batch", [2, 3, 4, N])
def test_stratified_shares_give_q_of_z_on_average_over_all_batches(batch):
    """Every order of every batch that holds image 0 in its first place, equally likely: the mean of the estimated
    q(z_0) is q(z_0) = 1/N sum_n q(z_0|x_n). The weighted estimate of log q(z_0) is lower than its logarithm."""
    mu, logvar, z = posteriors()
    q = torch.exp(Independent(Normal(mu, torch.exp(logvar / 2)), 1).log_prob(z[0]))  # of z_0 for each image (N,)
    estimates = {}
    for name in ("stratified", "weighted"):
        shares = torch.exp(log_shares(batch, N, name))
        assert name == "weighted" or torch.allclose(shares.sum(dim=1), torch.ones(batch).double(), rtol=1e-12)
        orders = [[0, *others] for others in itertools.permutations(range(1, N), batch - 1)]
        estimates[name] = torch.stack([(shares[0] * q[order]).sum() for order in orders])
    torch.testing.assert_close(estimates["stratified"].mean(), q.mean(), rtol=1e-12, atol=0)
    assert torch.log(estimates["weighted"]).mean() < torch.log(q.mean())


def test_with_all_images_in_a_batch_the_total_correlation_is_exact():
    """Each z under the mixture of all posteriors, by torch; but it is (Z - 1) log N too high, as the model says."""
    mu, logvar, z = posteriors()
    log_q = Normal(mu, torch.exp(logvar / 2)).log_prob(z[:, None])
    exact = torch.logsumexp(log_q.sum(2), 1) - math.log(N) - (torch.logsumexp(log_q, 1) - math.log(N)).sum(1)
    found = total_correlation(z, mu, logvar, log_shares(N, N, "weighted"))
    torch.testing.assert_close(found, exact + 2 * math.log(N), rtol=1e-10, atol=1e-10)


def test_the_mean_over_the_images_is_what_is_measured_of_a_set():
    mu, logvar, _ = posteriors(40)
    measured = decompose(mu.numpy(), logvar.numpy(), 4000, np.random.default_rng(0)).total_correlation
    torch.manual_seed(0)
    shares = log_shares(40, 40, "weighted")
    z = (mu + torch.exp(logvar / 2) * torch.randn_like(mu) for _ in range(100))
    drawn = [total_correlation(one, mu, logvar, shares).mean().item() - 2 * math.log(40) for one in z]
    error = math.hypot(measured.error, np.std(drawn) / 10)
    assert np.mean(drawn) == pytest.approx(measured.value, abs=4 * error) and measured.value > 20 * error


def test_a_batch_is_shuffled_in_each_dimension_for_itself():
    z, order = torch.arange(12.0).view(4, 3), torch.tensor([[3.0, 0, 0], [2, 1, 1], [1, 2, 3], [0, 3, 2]])
    assert shuffled(z, order).T.tolist() == [[9, 6, 3, 0], [1, 4, 7, 10], [2, 5, 11, 8]]


@pytest.mark.slow
def test_the_discriminator_learns_the_log_ratio_of_the_densities():
    """Of a Gaussian with the correlation r, log q(z) - sum_d log q(z_d) is known, and its mean is -1/2 ln(1 - r^2)."""
    torch.manual_seed(0)
    r, model = 0.8, FactorVAE(VAESpec(2))
    optimizer = torch.optim.Adam(model.discriminator.parameters(), 5e-3)

    def drawn(count: int) -> torch.Tensor:
        a, b = torch.randn(2, count)
        return torch.stack([a, r * a + math.sqrt(1 - r**2) * b], dim=1)

    for _ in range(100):
        z = drawn(300)
        logits = model.discriminator(z), model.discriminator(shuffled(z, torch.rand_like(z)))
        labels = torch.ones(300), torch.zeros(300)
        loss = sum(map(torch.nn.functional.binary_cross_entropy_with_logits, logits, labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    z = drawn(5000)
    joint = torch.distributions.MultivariateNormal(torch.zeros(2), torch.tensor([[1, r], [r, 1]]))
    exact = joint.log_prob(z) - Normal(0, 1).log_prob(z).sum(dim=1)
    with torch.no_grad():
        found = model.discriminator(z)
    assert found.mean().item() == pytest.approx(-0.5 * math.log(1 - r**2), abs=0.1)
    assert np.corrcoef(found, exact)[0, 1] > 0.95


def test_the_tc_moves_the_codes_and_the_cross_entropy_the_discriminator(digits):
    """By the slopes of the loss, less those of recon + kl: the encoder's are W times those of tc, with D as a plain
    function of z; the discriminator's are those of its cross-entropy."""
    torch.manual_seed(0)
    model = FactorVAE(VAESpec(3), tc_weight=7.0).double()
    x, eps = torch.from_numpy(digits.images[:6] / 255), torch.randn(6, 2, 3).double()
    terms = model.objective(x, None, eps, 0)
    encoder, discriminator = model.encoder.fc.weight, model.discriminator.net[0].weight
    mu, logvar = model.encode(x)
    z = mu + torch.exp(logvar / 2) * eps[:, 0]
    logit, alone = model.discriminator(z), model.discriminator(shuffled(z, eps[:, 1]).detach())
    entropy = -(F.logsigmoid(model.discriminator(z.detach())) + F.logsigmoid(-alone)).mean() / 2
    torch.testing.assert_close((terms["tc"], terms["discriminator"]), (logit.mean(), entropy))

    def slope(value: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(value, of, retain_graph=True)[0]

    plain = -terms["elbo"]
    torch.testing.assert_close(slope(terms["loss"], encoder), slope(plain + 7 * logit.mean(), encoder))
    torch.testing.assert_close(slope(terms["loss"], discriminator), slope(entropy, discriminator))
