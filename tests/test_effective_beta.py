"""Another project's loss and this project's, beta translated: the same gradient direction on the real model."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F

import effective_beta as command
from vae_common.spec import VAESpec
from vae_measures.loss_conventions import PUBLIC, LossConvention, effective_beta, loss_scale
from vae_models.beta_vae import BetaVAE, KLWeight

B, Z, PIXELS = 5, 3, 784
REDUCTIONS = [LossConvention(*kinds) for kinds in product(("sum", "mean"), repeat=4)]
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


def our_loss(model, x, y, eps, beta, likelihood):
    model.kl_weight, model.likelihood = KLWeight(beta), likelihood
    return model.objective(x, y, eps, step=0)["loss"]


def cosine(one, other):
    return (one @ other / (one.norm() * other.norm())).item()


# --- the translation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(REDUCTIONS)))
def test_translated_losses_have_the_same_gradient_direction(number, batch):
    """Every combination of reductions, the likelihoods in turn. 1e-12: float64 with sums of 784 in other orders."""
    model, x, y, eps = batch
    likelihood, variance = LIKELIHOODS[(number + number // 4) % 4]
    kl_weight, recon_weight = WEIGHTS[number % len(WEIGHTS)]
    weighted = dict(likelihood=likelihood, variance=variance, kl_weight=kl_weight, recon_weight=recon_weight)
    theirs = replace(REDUCTIONS[number], **weighted)
    scale = loss_scale(theirs, PIXELS, B)
    ours = gradient(our_loss(model, x, y, eps, effective_beta(theirs, PIXELS, Z, B), likelihood), model)
    other = gradient(their_loss(theirs, model, x, eps), model)
    assert cosine(ours, other) == pytest.approx(1, abs=1e-12)
    assert (other.norm() / ours.norm()).item() == pytest.approx(scale, rel=1e-11)
    assert (other - scale * ours).abs().max() <= 1e-11 * other.abs().max()


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 2, 784])
def test_another_beta_turns_the_gradient(factor, batch):
    """What the test above could not see, it would not test: a beta 10% off turns the gradient by 1e-7 and more, five
    orders of magnitude over the rounding that is allowed there."""
    model, x, y, eps = batch
    theirs = LossConvention("mean", kl_weight=0.01)
    other = gradient(their_loss(theirs, model, x, eps), model)
    beta = factor * effective_beta(theirs, PIXELS, Z)
    assert cosine(gradient(our_loss(model, x, y, eps, beta, "bernoulli"), model), other) < 1 - 1e-7


def test_the_reductions_of_torch_are_those_that_are_meant(batch):
    """F.mse_loss(reduction="mean") is the mean over pixels and batch; reduction="sum" the sum over both."""
    model, x, _, eps = batch
    x_hat = torch.sigmoid(model(x, eps)[0])
    for reduction in ("mean", "sum"):
        kind = LossConvention(reduction, reduction, likelihood="gaussian", kl_weight=0.0)
        expected = F.mse_loss(x_hat, x, reduction=reduction).item()
        assert their_loss(kind, model, x, eps).item() == pytest.approx(expected, rel=1e-12)


# --- known values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("convention", "sizes", "beta"),
    [
        (LossConvention(), {}, 1),
        (LossConvention(likelihood="gaussian"), {}, 1),
        (LossConvention(likelihood="gaussian", variance=1.0), {}, 2),
        (LossConvention("mean"), {}, 784),
        (LossConvention("mean", kl_weight=1 / 784), {}, 1),
        (LossConvention("mean", kl_over_latents="mean"), {"latent_dim": 8}, 98),
        (LossConvention("mean", likelihood="gaussian", kl_weight=0.00025), {"pixels": 12288}, 3.072),
        (LossConvention("sum", "sum", "sum", "sum"), {}, 1),
        (LossConvention("sum", "sum", "sum", "mean"), {"batch_size": 64}, 1 / 64),
        (LossConvention("sum", "mean", "sum", "sum"), {"batch_size": 64}, 64),
        (LossConvention(recon_weight=255), {}, 1 / 255),
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
    with pytest.raises(ValueError, match="the scale depends on the batch size"):
        loss_scale(LossConvention("sum", "sum", "sum", "sum"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"recon_over_pixels": "none"}, 'recon_over_pixels must be "sum" or "mean"'),
        ({"kl_over_batch": "average"}, "kl_over_batch must be"),
        ({"likelihood": "mse"}, 'likelihood must be "bernoulli" or "gaussian"'),
        ({"kl_weight": -1.0}, "kl_weight must be a finite number of at least 0"),
        ({"kl_weight": math.nan}, "kl_weight must be"),
        ({"variance": 0.0}, "variance must be a finite number above 0"),
        ({"recon_weight": math.inf}, "recon_weight must be"),
    ],
)
def test_a_convention_that_makes_no_sense_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        LossConvention(**settings)


@pytest.mark.parametrize("sizes", [{"pixels": 0}, {"latent_dim": 0}, {"batch_size": -1}])
def test_sizes_are_positive(sizes):
    with pytest.raises(ValueError, match=f"{next(iter(sizes))} must be at least 1"):
        effective_beta(LossConvention(), **sizes)


# --- command line --------------------------------------------------------------------------------------------------


def test_the_command_says_it_in_words(capsys):
    argv = ["--recon", "mean", "--likelihood", "gaussian", "--kld-weight", "0.00025", "--pixels", "12288"]
    assert command.main(argv) == 0
    out = capsys.readouterr().out
    assert "beta = 3.072" in out and "variance 1.536" in out and "std 1.239" in out
    assert command.main([]) == 0
    assert "It is the exact ELBO." in capsys.readouterr().out
    weight = str(1 / (128 * 784))
    assert command.main(["--recon", "mean", "--kl-batch", "sum", "--kl-weight", weight, "--batch-size", "128"]) == 0
    out = capsys.readouterr().out
    assert "beta = 1 " in out and "a batch of 64, the last of an epoch perhaps, has beta = 0.5" in out


def test_no_kl_is_no_elbo_and_a_batch_of_one_has_no_smaller(capsys):
    assert command.main(["--kl-weight", "0", "--likelihood", "gaussian"]) == 0
    out = capsys.readouterr().out
    assert "It is not an ELBO. It is an autoencoder with noise" in out and "variance" not in out
    assert command.main(["--kl-batch", "sum", "--batch-size", "1"]) == 0
    assert "last of an epoch" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--recon-batch", "sum"], "add --batch-size"),
        (["--variance", "1"], "add --likelihood gaussian"),
        (["--kl-weight", "nan"], "expected a finite number"),
        (["--recon", "none"], "invalid choice"),
    ],
)
def test_the_command_refuses_in_one_line(argv, words, capsys):
    assert command.main(argv) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_the_table_is_computed(capsys):
    assert command.main(["--table"]) == 0
    rows = capsys.readouterr().out.splitlines()
    betas = {loss.where: float(row.split("|")[-2].replace(",", "")) for loss, row in zip(PUBLIC, rows[2:], strict=True)}
    assert betas["pytorch/examples, vae/main.py"] == 1
    assert betas["the same, last batch of an epoch"] == 0.75
    assert betas["AntixK/PyTorch-VAE, configs/vae.yaml"] == 3.072
    assert all(betas[loss.where] == pytest.approx(loss.beta, rel=1e-3) for loss in PUBLIC)
