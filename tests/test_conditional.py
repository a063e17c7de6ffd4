"""The conditional VAE: the label enters both halves, is worth at most ln(classes), and decides what is drawn."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli

import vae_paper
from conv_vae import ConvVAE
from vae_commands import train_run
from vae_common.config import RunConfig
from vae_common.data import ImageSet, load_dataset
from vae_common.randomness import generator
from vae_common.spec import VAESpec
from vae_measures.held_out import label_worth, measure
from vae_measures.sample_quality import look, train_classifier
from vae_models.conditional_vae import ConditionalVAE, label_report, log_p_given_each_label
from vae_training.factory import build_model
from vae_training.run_files import read_run

Z, CLASSES = 3, 4


@pytest.fixture
def pair() -> tuple[ConvVAE, ConditionalVAE]:
    """A VAE, and a conditional VAE that has its weights and, for the labels, weights of its own; float64."""
    torch.manual_seed(0)
    plain, model = ConvVAE(VAESpec(Z)).double(), ConditionalVAE(VAESpec(Z), classes=CLASSES).double()
    shared, own = plain.state_dict(), model.state_dict()
    own["encoder.conv1.weight"][:, :1] = shared.pop("encoder.conv1.weight")
    own["decoder.fc1.weight"][:, :Z] = shared.pop("decoder.fc1.weight")
    model.load_state_dict({**own, **shared})
    return plain, model


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x (5, 1, 28, 28), y (5,), where class 3 does not occur, eps (5, Z)."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(0, 2, (5, 1, 28, 28)).astype(float))
    return x, torch.tensor([0, 1, 2, 1, 0]), torch.from_numpy(rng.standard_normal((5, Z)))


def test_without_a_label_the_bound_is_the_plain_vaes(pair, batch):
    """The label's inputs are 0, so only the order of summation differs."""
    x, y, eps = batch
    plain, model = pair
    blank = model.elbo_terms(x, *model(x, eps))
    for term, expected in zip(blank, plain.elbo_terms(x, *plain(x, eps)), strict=True):
        torch.testing.assert_close(term, expected, rtol=1e-12, atol=1e-12)
    recon, kl = model.elbo_terms(x, *model(x, eps, y))
    assert ((recon - blank[0]).abs() > 1e-3).all()
    assert ((kl - blank[1]).abs() > 1e-6).all()


@pytest.mark.parametrize("label", [0, CLASSES - 1])
def test_the_label_enters_both_halves_as_a_bias(label, pair, batch):
    """In the encoder it adds to conv1 what its kernels for this label make of an image of ones."""
    plain, model = pair
    (x, _, z), y = batch, torch.full((5,), label)
    ones, kernel = torch.ones_like(x[:1]), model.encoder.conv1.weight[:, 1 + label : 2 + label]
    plain.encoder.conv1.register_forward_hook(lambda *call: call[-1] + F.conv2d(ones, kernel, stride=2, padding=1))
    plain.decoder.fc1.register_forward_hook(lambda *call: call[-1] + model.decoder.fc1.weight[:, Z + label])
    for value, expected in zip(model.encode(x, y), plain.encode(x), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.decode(z, y), plain.decode(z), rtol=1e-12, atol=1e-12)


def test_training_reaches_the_weights_of_just_the_labels_that_occur(pair, batch):
    model = pair[1]
    terms = model.objective(*batch, step=0)
    terms["loss"].backward()
    encoder = model.encoder.conv1.weight.grad[:, 1:].abs().sum(dim=(0, 2, 3))
    decoder = model.decoder.fc1.weight.grad[:, Z:].abs().sum(dim=0)
    assert (encoder > 0).tolist() == (decoder > 0).tolist() == [True, True, True, False]
    assert terms["elbo"] == -terms["loss"] == -(terms["recon"] + terms["kl"])


def test_the_number_of_classes_is_the_datas():
    model = build_model(RunConfig(model="cvae", dataset="sprites").settled())
    assert log_p_given_each_label(model, torch.zeros(2, 1, 28, 28), torch.zeros(2, 1, 20)).shape == (2, 3)


def test_log_p_given_each_label_matches_quadrature():
    """Z = 1: log p(x|y) as a Riemann sum over z, and L_K on K = 200 quantiles of q instead of random draws.

    q is made wide, so that nothing is lost in the tails; then the midpoint rule errs by order 1/K^2 = 2.5e-5.
    """
    torch.manual_seed(3)
    model = ConditionalVAE(VAESpec(1), classes=3).double()
    with torch.no_grad():
        model.encoder.logvar.bias += 1.5
        model.decoder.fc1.weight[:, 1:] *= 3  # an untrained decoder that minds the label
    x = torch.from_numpy((np.random.default_rng(0).random((2, 1, 28, 28)) < 0.3).astype(float))
    quantiles = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(200, dtype=torch.float64) + 0.5) / 200)
    found = log_p_given_each_label(model, x, quantiles[None, :, None].expand(2, -1, -1))

    z = torch.linspace(-8, 8, 641, dtype=torch.float64)[:, None]
    log_prior = -0.5 * z[:, 0] ** 2 - 0.5 * math.log(2 * math.pi) + math.log(16 / 640)
    for label in range(3):
        with torch.no_grad():
            pixels = Bernoulli(logits=model.decode(z, torch.full((641,), label)))
        for i in range(2):
            log_p = torch.logsumexp(pixels.log_prob(x[i]).sum(dim=(1, 2, 3)) + log_prior, dim=0)
            assert found[i, label].item() == pytest.approx(log_p.item(), abs=2e-4)
    assert (found.max(dim=1).values - found.min(dim=1).values > 0.5).all()


@pytest.mark.parametrize("classes", [2, 10])
def test_a_label_that_says_all_gains_exactly_that_and_a_misleading_one_costs(classes):
    """p(x|y) is 0 but for the true label: gain ln(classes). p(x|y) does not depend on y: gain 0."""
    y = torch.arange(classes)
    log_p = torch.full((classes, classes), -torch.inf, dtype=torch.float64)
    log_p[y, y] = -90.0
    report = label_report(log_p, y)
    assert report["label_gain"] == pytest.approx(math.log(classes), rel=1e-14)
    assert report["log_p_x"] == pytest.approx(-90 - math.log(classes), rel=1e-14)
    assert (report["log_p_x_given_y"], report["label_accuracy"]) == (-90, 1)
    same = label_report(torch.full((classes, classes), -90.0, dtype=torch.float64), y)
    assert same["label_gain"] == pytest.approx(0, abs=1e-13)
    misled = label_report(torch.tensor([[-90.0, -92.0]], dtype=torch.float64), torch.tensor([1]))
    assert (misled["log_p_x_given_y"], misled["label_accuracy"]) == (-92, 0)
    assert misled["label_gain"] == pytest.approx(-2 - math.log((1 + math.exp(-2)) / 2), rel=1e-12)


def test_label_worth_takes_the_first_images_in_any_chunks(digits):
    """Chunks of the images share one stream of noise, so their size changes nothing but the order of float32 sums."""
    torch.manual_seed(0)
    model = ConditionalVAE(VAESpec(2))
    whole = label_worth(model, digits, "none", seed=0, images=7, samples=3)
    parts = label_worth(model, digits, "none", seed=0, images=7, samples=3, batch_size=2)
    assert (whole.pop("label_images"), whole.pop("label_samples")) == (7, 3)
    for name, value in whole.items():  # recon is a sum of 784 terms, about 550 nats: float32 keeps 1e-3 of it
        assert parts[name] == pytest.approx(value, abs=2e-3)


def test_a_run_reports_what_the_label_is_worth(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_run, "draw_run", lambda *args: None)
    config = RunConfig(model="cvae", latent_dim=Z).settled()
    model = build_model(config)
    data = ImageSet("digits", "test", digits.images[:20], digits.labels[:20], digits.class_names)
    train_run.finish(model, measure(model, data, "none", seed=0), [], config, tmp_path)
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    report = label_worth(model, data, "none", seed=0)
    assert {name: evaluation[name] for name in report} == pytest.approx(report)
    assert (report["label_images"], report["label_samples"]) == (20, 10) and report["label_gain"] <= math.log(10)
    out = capsys.readouterr().out
    assert f"log p(x|y) {report['log_p_x_given_y']:8.2f}\n  log p(x)   {report['log_p_x']:8.2f}\n" in out
    assert f"gain       {report['label_gain']:8.2f}  (at most ln 10 = 2.30)" in out
    assert f"by the largest p(x|y): {report['label_accuracy']:.1%}" in out


@pytest.mark.slow
def test_a_classifier_recognises_what_is_drawn_for_a_label(mnist_dir, tmp_path):
    """MNIST, 20 epochs: a classifier trained on the real images recognises 97% of 1,000 drawn ones, 100 a class.

    Ten latent dimensions: the style needs no more, and a prior in twenty leaves more of its mass where no image is.
    """
    train, test = (load_dataset("mnist", split, mnist_dir) for split in ("train", "test"))
    classifier = train_classifier(train.images, train.labels, 10, seed=0)
    accuracy = (look(classifier, test.images).guess == test.labels).mean()
    run = tmp_path / "cvae"
    flags = ["--model", "cvae", "--dataset", "mnist", "--epochs", "20", "--latent-dim", "10"]
    assert vae_paper.main([*flags, "--data-dir", str(mnist_dir), "--device", "cpu", "--out", str(run)]) == 0
    config, model, _ = read_run(run)
    z = torch.from_numpy(generator(0, "figures").standard_normal((1000, config.latent_dim), dtype=np.float32))
    y = torch.arange(10).repeat_interleave(100)
    with torch.no_grad():
        recognised = (classifier(model.pixels(z, y)).argmax(dim=1) == y).double().mean().item()
    report = label_worth(model, test, config.binarize, config.seed, images=1000, samples=50)
    print(json.dumps({"classifier": accuracy, "recognised": recognised, **report}, indent=2))
    assert accuracy >= 0.985
    assert recognised >= 0.97
    assert 0 < report["label_gain"] <= math.log(10)
    assert report["label_accuracy"] >= 0.95
