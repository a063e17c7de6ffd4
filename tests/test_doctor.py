"""The doctor: correct models pass, and every invariant catches and names a model with the defect it is there for."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import evaluate
import vae_paper
from conv_vae import ConvVAE
from run_folders import finished_run
from vae_common.config import RunConfig
from vae_common.data import entropy_floor
from vae_common.errors import UsageError
from vae_common.spec import VAESpec
from vae_common.weights import PRETRAINED, load_weights
from vae_doctor import invariants, report
from vae_doctor.invariants import INVARIANTS, Exam, Fails, Skip
from vae_doctor.report import eval_mode, examine, first_failure
from vae_doctor.subject import Subject, subject_of_model, subject_of_module
from vae_measures.rate_parts import Estimate
from vae_models.autoencoder import Autoencoder
from vae_models.beta_vae import BetaVAE
from vae_models.conditional_vae import ConditionalVAE
from vae_models.iwae import IWAE
from vae_models.linear_vae import LinearVAE
from vae_models.masked_decoder import MaskedVAE
from vae_models.mlp import MLP
from vae_models.vq_vae import VQVAE

N, Z = 60, 20


def with_weights(model, params):
    model.load_state_dict({name: torch.from_numpy(value) for name, value in params.items()})
    return model


@pytest.fixture(scope="module")
def model():
    """The shipped weights: a correct VAE that has learned."""
    return with_weights(ConvVAE(VAESpec(Z)), load_weights(PRETRAINED / "digits-z20.safetensors"))


@pytest.fixture(scope="module")
def x(digits):
    return digits.images[:N] / np.float32(255)


@pytest.fixture(scope="module")
def subject(model):
    return subject_of_model(model)


@pytest.fixture
def few_draws(monkeypatch):
    """The bounds from 10 draws of z, and 2 images integrated: quicker, and no less exact."""
    monkeypatch.setattr(invariants, "DRAWS", 10)
    monkeypatch.setattr(invariants, "QUADRATURE_IMAGES", 2)


def exam_of(subject, x):
    return Exam.of(subject, x, None, np.random.default_rng(0))


def failed(findings):
    return [finding.name for finding in findings if finding.status == "failed"]


@pytest.mark.parametrize("latent_dim", [2, 20])
def test_the_shipped_models_pass_every_invariant(latent_dim, x, few_draws):
    weights = load_weights(PRETRAINED / f"digits-z{latent_dim}.safetensors")
    findings = examine(subject_of_model(with_weights(ConvVAE(VAESpec(latent_dim)), weights)), x)
    assert [(finding.name, finding.status) for finding in findings] == [(name, "ok") for name in INVARIANTS]


@pytest.mark.slow
def test_a_correct_model_never_fails_by_chance(subject, x, few_draws):
    """All that is sampled is allowed 5 standard errors; 20 seeds at 3 would show."""
    assert [failed(examine(subject, x, seed)) for seed in range(20)] == [[]] * 20


UNTRAINED = {
    "vae": lambda: ConvVAE(VAESpec(3)),
    "vae of one latent": lambda: ConvVAE(VAESpec(1)),
    "mlp": lambda: ConvVAE(VAESpec(5), architecture=MLP),
    "gaussian": lambda: BetaVAE(VAESpec(5), "gaussian"),
    "iwae": lambda: IWAE(VAESpec(5), samples=3),
    "linear": lambda: LinearVAE(VAESpec(3), "gaussian"),
    "cvae": lambda: ConditionalVAE(VAESpec(4)),
    "masked": lambda: MaskedVAE(VAESpec(3)),
}


FEW = [(name, 1) for name in ("vae of one latent", "cvae", "masked")]
ALL = [pytest.param(name, 3, marks=pytest.mark.slow) for name in UNTRAINED]


@pytest.mark.parametrize(("name", "seeds"), [*FEW, *ALL])
def test_an_untrained_model_is_accused_of_nothing_but_being_untrained(name, seeds, x, digits, few_draws):
    for seed in range(seeds):
        torch.manual_seed(seed)
        labels = digits.labels[:N] if name == "cvae" else None
        findings = examine(subject_of_model(UNTRAINED[name]()), x, seed, labels)
        assert set(failed(findings)) <= set(report.UNTRAINED_MAY_FAIL)
        assert ("look at the training first" in report.report(findings)) == bool(failed(findings))


def test_a_decoder_that_sees_pixels_is_given_those_of_the_image_it_is_measured_on(x):
    torch.manual_seed(0)
    model = MaskedVAE(VAESpec(3))
    for parameter in model.decoder.parameters():
        parameter.data.mul_(3)  # else the logits are near 0 whatever the pixels
    exam = exam_of(subject_of_model(model), x[:6])
    again = invariants._recon_at(exam, np.arange(6), exam.z[:, None])
    np.testing.assert_allclose(again[:, 0], exam.recon, rtol=invariants.ROUNDING)


def test_the_model_is_left_as_it_was(x, few_draws):
    """Batch norm in the encoder moves its running means in train mode."""
    normed = ConvVAE(VAESpec(3)).train()
    normed.encoder = nn.Sequential(nn.BatchNorm2d(1), normed.encoder)
    before = copy.deepcopy(normed.state_dict())
    findings = {finding.name: finding for finding in examine(subject_of_model(normed), x)}
    assert findings["train-eval"].status == "ok" and "batch norm" in findings["train-eval"].sentence
    assert normed.training
    assert all(torch.equal(value, before[name]) for name, value in normed.state_dict().items())


def nan_weight(subject):
    model = copy.deepcopy(subject.model)
    model.decoder.fc1.weight.data[3, 4] = math.nan
    return subject_of_model(model)


def weight_in_train_mode(subject):
    def elbo_terms(*values):
        recon, kl = subject.elbo_terms(*values)
        return recon, (2.5e-4 if subject.model.training else 1) * kl

    return replace(subject, elbo_terms=elbo_terms)


def with_terms(change):
    """A subject whose recon and kl (B,) go through `change`."""
    return lambda subject: replace(subject, elbo_terms=lambda *values: change(*subject.elbo_terms(*values)))


def with_kl(kl):
    """A subject whose KL is that function of mu and logvar."""

    def broken(subject):
        return replace(subject, elbo_terms=lambda *values: (subject.elbo_terms(*values)[0], kl(*values[2:])))

    return broken


def with_noise(noise):
    """A subject whose z is mu and that function of std and eps."""
    return lambda subject: replace(subject, reparameterize=lambda mu, logvar, eps: mu + noise((logvar / 2).exp(), eps))


def decoded(change):
    return lambda subject: replace(subject, decode=lambda z: change(subject.decode, z), forward=None)


def encoded(change):
    """A subject whose mu and logvar go through `change`."""
    return lambda subject: replace(subject, encode=lambda x: change(*subject.encode(x)), forward=None)


def in_twenties(mu, logvar):
    return [part.view(-1, 20, Z).flatten(0, 1) for part in (mu, logvar)]


def log_sigma(mu, logvar):
    return -0.5 * (1 + 2 * logvar - mu**2 - (2 * logvar).exp()).sum(1)


def log_sigma_in_exp(mu, logvar):
    return -0.5 * (1 + logvar - mu**2 - (2 * logvar).exp()).sum(1)


def weight_per_dimension(subject):
    """The log-weight -ln N of each image, meant for the mixture, comes in once for each latent dimension."""

    def mutual_information(z, mu, logvar):
        log_q = -0.5 * ((z[:, None] - mu) ** 2 / logvar.exp() + logvar + math.log(2 * math.pi))  # (N, N, Z)
        own = log_q.diagonal().sum(0)
        return (own - torch.logsumexp((log_q - math.log(len(z))).sum(2), dim=1)).mean()

    return replace(subject, mutual_information=mutual_information)


def log_weights_with_the_wrong_sign(subject):
    return replace(subject, importance_bound=lambda log_w: math.log(log_w.shape[1]) - torch.logsumexp(-log_w, dim=1))


BROKEN = {  # and those of test_common_mistakes.py
    "NaN in a weight": (nan_weight, "finite-weights", "decoder.fc1.weight"),
    "logvar overflows": (encoded(lambda mu, logvar: (mu, logvar + 3000)), "finite-weights", "numbers of z"),
    "dropout left on": (decoded(lambda decode, z: decode(F.dropout(z, 0.1))), "train-eval", "dropout"),
    "noise in encode": (encoded(lambda mu, lv: (mu + torch.randn_like(mu), lv)), "train-eval", "noise drawn inside"),
    "KL weighed in train mode only": (weight_in_train_mode, "train-eval", "self.training"),
    "summed over the batch": (with_terms(lambda r, k: (r.sum(), k.sum())), "batch-size", f"{N} times the mean"),
    "reshaped with one batch size": (encoded(in_twenties), "batch-size", "a batch of 1 cannot be computed"),
    "squeezed": (encoded(lambda *parts: [part.squeeze() for part in parts]), "batch-size", "squeeze()"),
    "mu less its mean": (encoded(lambda mu, logvar: (mu - mu.mean(0), logvar)), "batch-size", "mu of an image"),
    "sigmoid in decode": (decoded(lambda decode, z: decode(z).sigmoid()), "logits", "take the sigmoid out"),
    "tanh in decode": (decoded(lambda decode, z: decode(z).tanh()), "logits", "take the tanh out"),
    "KL with the wrong sign": (with_terms(lambda r, k: (r, -k)), "kl-not-negative", "its sign"),
    "KL averaged over latents": (with_terms(lambda r, k: (r, k / Z)), "kl-monte-carlo", "averaged over the 20 latents"),
    "kld_weight": (with_terms(lambda r, k: (r, 2.5e-4 * k)), "kl-monte-carlo", "0.00025 times the KL of every image"),
    "logvar read as log sigma": (with_kl(log_sigma), "kl-monte-carlo", "log of sigma"),
    "the same in exp alone": (with_kl(log_sigma_in_exp), "kl-monte-carlo", "in one place only"),
    "recon with the wrong sign": (with_terms(lambda r, k: (-r, k)), "entropy-floor", "the sign"),
    "recon times 2": (with_terms(lambda r, k: (2 * r, k)), "recon-sum", "a weight"),
    "std = exp(logvar)": (with_noise(lambda std, eps: std**2 * eps), "sampling", "sigma^2"),
    "noise of variance 1/4": (with_noise(lambda std, eps: std * eps / 2), "sampling", "0.5 times"),
    "noise of one size": (with_noise(lambda std, eps: eps), "sampling", "whatever logvar says"),
    "z = mu": (with_noise(lambda std, eps: 0 * eps), "sampling", "the noise is not used"),
    "one noise per batch": (with_noise(lambda std, eps: std * eps[:1]), "sampling", "noise of shape (1, Z)"),
    "uniform noise": (with_noise(lambda std, eps: std * torch.rand_like(eps)), "sampling", "the mean of z is off"),
    "forward decodes mu": (
        lambda subject: replace(subject, forward=lambda x, eps: subject.forward(x, 0 * eps)),
        "forward-samples",
        "it decodes mu",
    ),
    "encoder is given nothing": (
        lambda subject: replace(subject, encode=lambda x: subject.encode(0 * x), forward=None),
        "encoder-uses-x",
        "the same to every image",
    ),
    "collapsed posterior": (encoded(lambda mu, lv: (mu / 100, lv / 100)), "encoder-uses-x", "posterior collapse"),
    "decoder is given nothing": (decoded(lambda decode, z: decode(0 * z)), "decoder-uses-z", "ignores z"),
    "a log-weight per dimension": (weight_per_dimension, "index-information", "once per latent"),
    "more than which image it is": (
        lambda subject: replace(subject, mutual_information=lambda z, mu, logvar: math.log(len(z)) + 0.1),
        "index-information",
        "of ln 60 = 4.09 at the most",
    ),
    "log-weights with the wrong sign": (log_weights_with_the_wrong_sign, "bound-order", "the sign of log_w"),
    "logvar holds std": (encoded(lambda mu, lv: (mu, (lv / 2).exp())), "beats-mean-image", "called logvar"),
    "logvar holds log std": (encoded(lambda mu, lv: (mu, lv / 2)), "stationary", "all std are 1.5 times smaller"),
    "logvar is 4 too small": (encoded(lambda mu, lv: (mu, lv - 4)), "stationary", "all std are 1.5 times larger"),
    "mu is twice too large": (encoded(lambda mu, lv: (2 * mu, lv)), "stationary", "all mu are 1.5 times smaller"),
}


def first_to_fail(subject, x) -> tuple[str, str]:
    """The invariant that fails first, and its sentence: what `examine` begins with, without all that comes after."""
    with eval_mode(subject.model), np.errstate(all="ignore"):
        exam = exam_of(subject, x)
        for name, invariant in INVARIANTS.items():
            try:
                invariant(exam)
            except Skip:
                pass
            except Fails as failure:
                return name, str(failure)
    return "none", "all hold"


@pytest.mark.parametrize("defect", BROKEN)
def test_a_broken_model_is_caught_and_named(defect, subject, x, few_draws):
    broken, expected, words = BROKEN[defect]
    name, sentence = first_to_fail(broken(subject), x)
    assert name == expected and words in sentence


def test_every_invariant_has_a_broken_model():
    assert {expected for _, expected, _ in BROKEN.values()} == set(INVARIANTS)


def test_nothing_else_is_accused(subject, x, few_draws):
    broken, expected, _ = BROKEN["std = exp(logvar)"]
    findings = examine(broken(subject), x)
    assert failed(findings) == [expected]
    assert (first_failure(findings).name, first_failure(findings).sentence) == first_to_fail(broken(subject), x)


def test_recon_is_compared_with_the_likelihood_where_its_floor_is_0(subject, x, few_draws):
    binary = (x >= 0.5).astype(np.float32)
    findings = {finding.name: finding for finding in examine(subject, binary)}
    assert failed(findings.values()) == [] and "can go below 0.00" in findings["entropy-floor"].sentence
    name, sentence = first_to_fail(with_terms(lambda r, k: (r / 784, k))(subject), binary)
    assert name == "recon-sum" and "a mean over the pixels" in sentence
    gaussian = subject_of_model(with_weights(ConvVAE(VAESpec(3), "gaussian"), VAESpec(3).init_params(0)))
    name, sentence = first_to_fail(with_terms(lambda r, k: (r / 2, k))(gaussian), x)
    assert name == "recon-sum" and "half the squared error" in sentence


def test_a_mistake_of_the_sampler_shows_where_std_is_about_one(x, few_draws):
    """Untrained, exp(logvar) and exp(logvar / 2) are nearly the same; the doctor brings its own mu and logvar."""
    subject = subject_of_model(ConvVAE(VAESpec(3)))
    assert first_to_fail(BROKEN["std = exp(logvar)"][0](subject), x)[0] == "sampling"


def linear_gaussian(latent_dim, s2=0.5):
    """x = W z + noise with orthonormal columns of W: the posterior is N(W'x / (1 + s2), s2 / (1 + s2)), exactly.

    Its log p(x) is that of N(0, W W' + s2 I), and every importance weight equals p(x).
    """
    W, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((784, latent_dim)))

    def encode(x):
        mu = x.reshape(len(x), -1) @ W / (1 + s2)
        return mu, np.full_like(mu, math.log(s2 / (1 + s2)))

    def elbo_terms(x, mean, mu, logvar):
        pixels = (x - mean) ** 2 / s2 + math.log(2 * math.pi * s2)
        return 0.5 * pixels.sum(axis=(1, 2, 3)), 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum(axis=1)

    def log_p(x):
        flat = x.reshape(len(x), -1).astype(float)
        along = ((flat @ W) ** 2).sum(axis=1)
        log_det = latent_dim * math.log(1 + s2) + (784 - latent_dim) * math.log(s2)
        square = along / (1 + s2) + ((flat**2).sum(axis=1) - along) / s2
        return -0.5 * (784 * math.log(2 * math.pi) + log_det + square)

    subject = Subject("linear", encode, lambda z: z @ W.T, elbo_terms=elbo_terms, likelihood="other", mean_output=True)
    return subject, log_p


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_quadrature_and_bounds_of_a_model_whose_likelihood_is_known(latent_dim, x):
    """With the exact posterior all bounds are log p(x). 0.001 nats: terms of about 1000 in float32. Where weights are
    not divided by K, L_K is ln K nats too large: the order of the bounds hides it, log p(x) does not."""
    subject, log_p = linear_gaussian(latent_dim)
    exam = exam_of(subject, x)
    np.testing.assert_allclose(invariants.log_evidence(exam, 10), log_p(x[:10]), atol=1e-3)
    findings = examine(subject, x)
    assert set(failed(findings)) <= {"encoder-uses-x", "decoder-uses-z"}  # a W that was not learned
    bound_order = next(finding for finding in findings if finding.name == "bound-order")
    assert bound_order.status == "ok" and "by quadrature" in bound_order.sentence
    undivided = replace(subject, importance_bound=lambda log_w: np.logaddexp.reduce(log_w, axis=1))
    with pytest.raises(Fails, match=r"above log p.* not divided by K"):
        invariants.bound_order(exam_of(undivided, x))


def best_linear(x, latent_dim, beta, s2=0.05):
    """The linear VAE at its optimum for images x and a fixed s2: in units of eigenvalue l of their covariance, W is
    sqrt(l - beta s2) along the eigenvector, mu that over l times the projection, std^2 beta s2 / l."""
    flat = x.reshape(len(x), -1).astype(float)
    mean = flat.mean(axis=0)
    _, sizes, axes = np.linalg.svd(flat - mean, full_matrices=False)
    l, U = sizes[:latent_dim] ** 2 / len(x), axes[:latent_dim].T
    w = np.sqrt(l - beta * s2)

    def encode(x):
        mu = (x.reshape(len(x), -1) - mean) @ U * (w / l)
        return mu, np.broadcast_to(np.log(beta * s2 / l), mu.shape)

    def elbo_terms(x, means, mu, logvar):
        pixels = (x - means) ** 2 / s2 + math.log(2 * math.pi * s2)
        return 0.5 * pixels.sum(axis=(1, 2, 3)), 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum(axis=1)

    decode = lambda z: (z * w) @ U.T + mean  # noqa: E731
    return Subject("linear", encode, decode, elbo_terms=elbo_terms, likelihood="other", beta=beta, mean_output=True)


@pytest.mark.parametrize("beta", [0.5, 1, 4])
def test_at_a_known_optimum_a_factor_costs_what_the_closed_form_says(beta, x):
    """Everything is quadratic here: with all std times a it is beta Z (a^2 - 1 - 2 ln a) / 2 nats, to sampling."""
    exam = exam_of(best_linear(x, 8, beta), x)
    assert invariants.stationary(exam)
    for a in (1.5, 1 / 1.5):
        rise = Estimate.of(invariants._objective(exam, times_std=a) - invariants._objective(exam))
        assert abs(rise.value - beta * 8 * (a**2 - 1 - 2 * math.log(a)) / 2) < 5 * rise.error
    for off, words in ((2, "all std are 1.5 times smaller"), (1 / 2, "all std are 1.5 times larger")):
        more = replace(exam, logvar=exam.logvar + 2 * math.log(off))
        with pytest.raises(Fails, match=words):
            invariants.stationary(more)
    with pytest.raises(Fails, match="another beta"):
        invariants.stationary(replace(exam, subject=replace(exam.subject, beta=3 * beta)))


def test_images_that_are_transposed_are_worse_than_the_mean_image(subject, x):
    with pytest.raises(Fails, match="images that are transposed"):
        invariants.beats_mean_image(exam_of(decoded(lambda decode, z: decode(z).transpose(2, 3))(subject), x))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_mean_image_is_the_best_constant_one(likelihood, x):
    """Its recon has a closed form: the entropy of the means, and the pixels' variance."""
    with pytest.raises(Fails) as failure:
        invariants.beats_mean_image(exam_of(subject_of_model(ConvVAE(VAESpec(3), likelihood)), x))
    mean = x.astype(float).mean(axis=0)
    best = entropy_floor(mean[None]) if likelihood == "bernoulli" else x.astype(float).var(axis=0).sum()
    assert f"and {best:.2f} of the mean image" in str(failure.value)


TRAINED = {
    "vae": ["--epochs", "1"],
    "beta 4": ["--beta", "4"],
    "beta 0.5": ["--beta", "0.5"],
    "cvae": ["--model", "cvae"],
    "mlp": ["--architecture", "mlp"],
    "masked": ["--architecture", "masked", "--binarize", "dynamic"],
    "gaussian": ["--likelihood", "gaussian"],
    "binary": ["--binarize", "threshold"],
    "two latents": ["--latent-dim", "2", "--epochs", "4"],
    "linear": ["--architecture", "linear", "--likelihood", "gaussian", "--epochs", "40"],  # its logvar are slow
}
OTHER_LOSSES = {
    "iwae": ["--importance-samples", "3"],
    "free bits": ["--free-bits", "0.5"],
    "capacity": ["--capacity", "15"],
    "annealed": ["--anneal", "linear"],
}


@pytest.mark.slow
@pytest.mark.parametrize("flags", (TRAINED | OTHER_LOSSES).values(), ids=(TRAINED | OTHER_LOSSES).keys())
def test_a_right_model_of_a_few_epochs_is_not_accused(flags, tmp_path, capsys):
    """12,000 drawn digits are enough to beat the mean image, and to be near the optimum of all std and all mu."""
    run = tmp_path / "run"
    assert vae_paper.main(["--epochs", "2", "--out", str(run), *flags]) == 0
    assert evaluate.main([str(run), "--doctor"]) == 0
    out = capsys.readouterr().out
    asked = flags in TRAINED.values()
    assert ("ok       stationary" in out, "skipped  stationary" in out) == (asked, not asked)


def test_a_kl_below_the_information_is_found_by_itself(subject, x):
    """Were the KL not sampled, I(x; z) <= KL would find a mean over the latents."""
    with pytest.raises(Fails, match="more than the KL"):
        invariants.index_information(exam_of(with_terms(lambda r, k: (r, k / Z))(subject), x))


NUMPY_MODULE = """
import numpy as np
import vae_numpy
from vae_common.weights import load_weights
from vae_numpy import elbo_terms, reparameterize

params = load_weights("digits-z20")
encode, decode = lambda x: vae_numpy.encode(params, x), lambda z: vae_numpy.decode(params, z)
forward = lambda x, eps: vae_numpy.forward(params, x, eps)
"""

TORCH_MODULE = """
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.ModuleDict({"encoder": nn.Linear(784, 6), "decoder": nn.Linear(3, 784)})

def encode(x):
    return model["encoder"](x.flatten(1)).chunk(2, dim=1)

def decode(z):
    return model["decoder"](z)

def reparameterize(mu, logvar, eps):
    return mu + torch.exp(0.5 * logvar) * eps

def elbo_terms(x, x_logits, mu, logvar):
    recon = F.binary_cross_entropy_with_logits(x_logits, x, reduction="sum") / len(x)
    return recon, -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum() / len(x)
"""


def written(tmp_path, text):
    path = tmp_path / "my_vae.py"
    path.write_text(text)
    return path


def test_a_torch_file_with_means_over_the_batch(tmp_path, x, few_draws):
    findings = examine(subject_of_module(written(tmp_path, TORCH_MODULE)), x)
    found = {finding.name: finding.status for finding in findings}
    assert set(failed(findings)) <= set(report.UNTRAINED_MAY_FAIL)
    assert (found["train-eval"], found["batch-size"], found["forward-samples"]) == ("ok", "ok", "skipped")
    configured = written(tmp_path, TORCH_MODULE.replace("/ len(x)", "/ 64"))
    assert first_to_fail(subject_of_module(configured), x)[0] == "batch-size"


def test_encode_and_decode_are_enough(tmp_path, x, few_draws):
    text = NUMPY_MODULE.replace("from vae_numpy import elbo_terms, reparameterize", "").partition("forward =")[0]
    findings = examine(subject_of_module(written(tmp_path, text)), x[:50])
    skipped = {finding.name for finding in findings if finding.status == "skipped"}
    assert skipped == {"kl-not-negative", "kl-monte-carlo", "recon-sum", "sampling", "forward-samples"}
    assert {finding.status for finding in findings} == {"ok", "skipped"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def encode(x) return", "cannot be imported (SyntaxError"),
        ("def encode(x): return x", "found no decode"),
        ("encode = decode = lambda x: 1 / 0", "encode failed on arrays (2, 1, 28, 28): ZeroDivisionError"),
        ("encode = decode = lambda x: x", "encode must return mu and logvar, both (2, Z)"),
        ("encode = lambda x: (x[:, 0, 0], x[:, 0, :5, 0])\ndecode = encode", "but returned (2, 28) and (2, 5)"),
        ("encode = lambda x: (x[:, 0, 0],) * 2\ndecode = lambda z: z", "decode must return x_logits (2, 1, 28, 28)"),
        (NUMPY_MODULE + "elbo_terms = lambda *values: 3", "elbo_terms must return recon and kl"),
        (NUMPY_MODULE + "elbo_terms = lambda *values: undefined", "elbo_terms failed on arrays"),
        (NUMPY_MODULE + "likelihood = 'laplace'", 'likelihood must be "bernoulli" or "gaussian"'),
    ],
)
def test_a_file_that_cannot_be_examined_is_refused_in_one_sentence(text, words, tmp_path, x):
    with pytest.raises(UsageError) as error:
        examine(subject_of_module(written(tmp_path, text)), x)
    assert words in str(error.value) and "my_vae.py" in str(error.value) and "\n" not in str(error.value)


def test_images_that_cannot_be_used_are_refused(subject):
    for images in (np.zeros((10, 1, 28, 28)), np.full((60, 1, 28, 28), 255.0), np.zeros((60, 784))):
        with pytest.raises(UsageError, match="the doctor needs 50 images"):
            examine(subject, images)


def test_a_model_without_a_gaussian_posterior_is_refused():
    for model in (Autoencoder(VAESpec(3)), VQVAE(), nn.Linear(2, 2)):
        with pytest.raises(UsageError, match="models with a posterior"):
            subject_of_model(model)


def test_the_command_examines_a_file(tmp_path, capsys, few_draws):
    path = written(tmp_path, NUMPY_MODULE)
    assert evaluate.main([str(path), "--doctor", "--images", "50"]) == 0
    out = capsys.readouterr().out
    assert "50 test images of digits, grey pixels" in out and "16 invariants hold, 0 fail" in out
    path.write_text(NUMPY_MODULE + "\ndef reparameterize(mu, logvar, eps):\n    return mu + np.exp(logvar) * eps\n")
    assert evaluate.main([str(path), "--doctor", "--images", "50"]) == 1
    out = capsys.readouterr().out
    assert "FAILED   sampling" in out and "begin with sampling" in out and "look at the training first" not in out


@pytest.mark.parametrize("settings", [dict(model="cvae", binarize="threshold"), dict(free_bits=0.5)])
def test_the_command_examines_a_run(settings, small_digits, tmp_path, capsys, few_draws):
    """An untrained one; of what --free-bits does not minimise it is not asked."""
    run, asked = finished_run(tmp_path / "run", latent_dim=2, **settings), "model" in settings
    capsys.readouterr()
    assert evaluate.main([str(run), "--doctor"]) == 1
    out = capsys.readouterr().out
    assert f"50 test images of digits, {'thresholded' if asked else 'grey'} pixels" in out
    found = [line.split()[1] for line in out.splitlines() if "FAILED" in line]
    assert found == ["encoder-uses-x", "decoder-uses-z", "beats-mean-image"][: 2 + asked]
    assert ("skipped  beats-mean-image" in out, "skipped  stationary" in out) == (not asked, not asked)


def test_the_beta_that_was_minimised():
    of_this = [{}, {"beta": 4.0}, {"mc_samples": 4}]
    of_another = [{"importance_samples": 4}, {"free_bits": 0.5}, {"free_nats": 0.5}, {"capacity": 15.0}]
    found = [RunConfig(**settings).settled().plain_beta for settings in (*of_this, *of_another)]
    assert found == [1, 4, 1, None, None, None, None]


@pytest.mark.parametrize(("line", "beta"), [("", 1.0), ("beta = 4", 4), ("beta = lambda step: step / 100", None)])
def test_a_file_says_its_beta(line, beta, tmp_path):
    assert subject_of_module(written(tmp_path, f"{NUMPY_MODULE}\n{line}\n")).beta == beta


def test_a_run_that_cannot_be_examined_is_refused_in_one_sentence(tmp_path, told):
    finished_run(tmp_path / "ae", latent_dim=2, model="ae")
    for name, words in (("ae", "name a run of --model vae or cvae"), ("none", "expected the settings of a run")):
        assert words in told(evaluate.main, [str(tmp_path / name), "--doctor"])
