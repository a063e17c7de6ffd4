"""Another project's loss and this project's, beta translated: the same gradient direction on the real model."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F

import effective_beta as command
from vae_common.spec import VAESpec
from vae_measures.loss_conventions import PUBLIC, LossConvention, effective_beta
from vae_models.beta_vae import BetaVAE, KLWeight

B, Z, PIXELS = 5, 3, 784
LIKELIHOODS = [("bernoulli", 0.5), ("gaussian", 0.5), ("gaussian", 1.0), ("gaussian", 0.01)]
WEIGHTS = [(1.0, 1.0), (0.00025, 1.0), (3.0, 255.0)]  # of the KL, of recon


@pytest.fixture(scope="module")
def batch(digits):
    """A model in float64 with images, labels and noise."""
    model = BetaVAE(VAESpec(Z)).double()
    model.load_state_dict({name: torch.from_numpy(w).double() for name, w in VAESpec(Z).init_params(3).items()})
    x = torch.from_numpy(digits.images[:B] / 255)
    eps = torch.randn(B, Z, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return model, x, torch.from_numpy(digits.labels[:B]), eps


def gradient(loss, model):
    parts = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([part.flatten() for part in parts])


def reduced(values, over_axis, over_batch):
    """values (B, n) -> a number."""
    return getattr(getattr(values, over_axis)(dim=1), over_batch)(dim=0)


def their_loss(convention, model, x, eps):
    """The loss as other code writes it, with the reductions of torch; the KL is the formula of App. B."""
    x_logits, mu, logvar = model(x, eps)
    if convention.likelihood == "bernoulli":
        pixels = F.binary_cross_entropy_with_logits(x_logits, x, reduction="none").flatten(1)
    else:
        pixels = F.mse_loss(torch.sigmoid(x_logits), x, reduction="none").flatten(1) / (2 * convention.variance)
    kl = -0.5 * (1 + logvar - mu**2 - logvar.exp())
    recon = reduced(pixels, convention.recon_over_pixels, convention.recon_over_batch)
    kl = reduced(kl, convention.kl_over_latents, convention.kl_over_batch)
    return convention.recon_weight * recon + convention.kl_weight * kl


@pytest.mark.parametrize("number", range(16))
def test_translated_losses_have_the_same_gradient_direction(number, batch):
    """Every combination of reductions, the likelihoods in turn. 1e-11: float64 with sums of 784 in other orders."""
    model, x, y, eps = batch
    reductions = list(product(("sum", "mean"), repeat=4))[number]
    likelihood, variance = LIKELIHOODS[(number + number // 4) % 4]
    kl_weight, recon_weight = WEIGHTS[number % 3]
    theirs = LossConvention(*reductions, kl_weight, recon_weight, likelihood, variance)
    model.kl_weight, model.likelihood = KLWeight(effective_beta(theirs, PIXELS, Z, B)), likelihood
    ours = gradient(model.objective(x, y, eps, step=0)["loss"], model)
    other = gradient(their_loss(theirs, model, x, eps), model)
    scale = (other @ ours) / (ours @ ours)
    assert scale > 0 and (other - scale * ours).abs().max() <= 1e-11 * other.abs().max()


@pytest.mark.parametrize(
    ("convention", "sizes", "beta"),
    [
        (LossConvention(), {}, 1),
        (LossConvention(likelihood="gaussian", variance=1.0), {}, 2),
        (LossConvention("mean", kl_over_latents="mean"), {"latent_dim": 8}, 98),
        (LossConvention("mean", likelihood="gaussian", kl_weight=0.00025), {"pixels": 12288}, 3.072),
        (LossConvention("sum", "sum", "sum", "mean"), {"batch_size": 64}, 1 / 64),
    ],
)
def test_betas_worked_out_by_hand(convention, sizes, beta):
    assert effective_beta(convention, **sizes) == pytest.approx(beta, rel=1e-12)


def test_a_mixed_batch_reduction_changes_beta_in_the_last_batch():
    mixed = LossConvention("mean", "mean", "sum", "sum", kl_weight=1 / (128 * 784))
    assert mixed.depends_on_batch_size
    assert effective_beta(mixed, batch_size=128) == pytest.approx(1)
    assert effective_beta(mixed, batch_size=60_000 % 128) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="depends on the batch size"):
        effective_beta(mixed)
    assert not LossConvention("sum", "sum", "sum", "sum").depends_on_batch_size
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        effective_beta(mixed, batch_size=-1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"recon_over_pixels": "none"}, 'recon_over_pixels must be "sum" or "mean"'),
        ({"likelihood": "mse"}, 'likelihood must be "bernoulli" or "gaussian"'),
        ({"kl_weight": -1.0}, "kl_weight must be a finite number of at least 0"),
    ],
)
def test_a_convention_that_makes_no_sense_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        LossConvention(**settings)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--recon mean --likelihood gaussian --kld-weight 0.00025 --pixels 12288", "beta = 3.072"),
        ("--recon mean --likelihood gaussian --kld-weight 0.00025 --pixels 12288", "variance 1.536"),
        ("--kl-batch sum --batch-size 128", "a batch of 64, the last of an epoch perhaps, has beta = 64"),
        ("--kl-weight 0 --likelihood gaussian", "It is not an ELBO. It is an autoencoder with noise"),
    ],
)
def test_the_command_says_it_in_words(flags, words, capsys):
    assert command.main(flags.split()) == 0
    out = capsys.readouterr().out
    assert words in out and ("last of an epoch" in out) == ("128" in flags.split())


def test_the_table_is_computed(capsys):
    assert command.main(["--table"]) == 0
    rows = capsys.readouterr().out.splitlines()
    betas = {loss.where: float(row.split("|")[-2].replace(",", "")) for loss, row in zip(PUBLIC, rows[2:], strict=True)}
    assert betas["pytorch/examples, vae/main.py"] == 1
    assert betas["the same, last batch of an epoch"] == 0.75
    assert betas["AntixK/PyTorch-VAE, configs/vae.yaml"] == 3.072
    assert all(betas[loss.where] == pytest.approx(loss.beta, rel=1e-3) for loss in PUBLIC)
