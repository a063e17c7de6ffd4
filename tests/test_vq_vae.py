"""VQ-VAE: gradients by hand, running means against k-means, counts, revival, the chain rule of its prior."""

import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from conv_vae import pixel_loss
from vae_common.config import RunConfig
from vae_common.data import ImageSet
from vae_common.plots import run_pictures
from vae_measures.held_out import label_worth, measure
from vae_models.code_evaluation import code_shares, perplexity
from vae_models.code_prior import CodePrior
from vae_models.vq_vae import VQVAE, nearest_code, rotated
from vae_plots import vq
from vae_plots.run import draw_run
from vae_training.trainer import RunState, train

EPS = np.finfo(float).eps


def small_vqvae(codes: int = 16, seed: int = 0, **options) -> VQVAE:
    """In float64, with codes among the encoder's outputs, but for the last, which is too far off to be the nearest."""
    torch.manual_seed(seed)
    model = VQVAE(codes, code_dim=3, **options).double()
    outputs = model.encode(some_images(2, seed=9))[0].detach().reshape(98, 3)
    model.codebook.data.copy_(outputs[torch.arange(codes) * 5 % 98] + 0.05 * torch.randn(codes, 3))
    model.codebook.data[-1] += 100
    return model


def small_prior(codes: int, seed: int = 0, **options) -> CodePrior:
    return CodePrior(small_vqvae(codes, seed), width=16, blocks=2, **options).double()


def some_images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((count, 1, 28, 28)))


def some_codes(count: int, codes: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, codes, (count, 7, 7)))


@pytest.fixture(scope="module")
def few(digits) -> ImageSet:
    return ImageSet("digits", "train", digits.images[:96], digits.labels[:96], digits.class_names)


def trained(model: torch.nn.Module, data: ImageSet, epochs: int = 2) -> RunState:
    """Train on 3 batches an epoch."""
    config = RunConfig(epochs=epochs, batch_size=32, binarize="dynamic")
    state = RunState.start(model, config)
    for _ in train(state, data, config, lambda epoch: {"epoch": epoch, "split": "test"}):
        pass
    return state


def gradients(model: VQVAE, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """z_e, the codes, z_q and the gradients of the model's loss to z_e and of recon alone to a free z_q."""
    kept = []
    hook = model.encoder.register_forward_hook(lambda module, args, z_e: (z_e.retain_grad(), kept.append(z_e))[0])
    model.eval().objective(x, None, None, 0)["loss"].backward()
    hook.remove()
    _, codes = model.encode(x)
    z_q = model.codebook.detach()[codes].requires_grad_()
    (to_z_q,) = torch.autograd.grad(pixel_loss(x, model.decode(z_q), model.likelihood).mean(), z_q)
    return kept[0].detach().movedim(1, -1), codes, z_q.detach(), kept[0].grad.movedim(1, -1), to_z_q


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_encoder_gets_the_decoders_gradient_and_the_commitments(codebook, likelihood):
    """d loss / d z_e = d recon / d z_q + 2 beta (z_e - e) / B: nothing else, and nothing through the codebook term."""
    model = small_vqvae(codebook=codebook, likelihood=likelihood)
    z_e, _, e, to_z_e, to_z_q = gradients(model, some_images(5))
    assert model.codebook.requires_grad is (codebook == "gradient")
    assert to_z_q.abs().max() > 1e-3 and (z_e - e).abs().max() > 1e-3
    np.testing.assert_allclose(to_z_e, to_z_q + 2 * 0.25 * (z_e - e) / 5, rtol=1e-9, atol=1e-15)


def test_codebook_gradient_pulls_each_code_to_its_members():
    """d loss / d e_k = sum over k's members of 2 (e_k - z_e) / B: none from recon, none from commitment."""
    model = small_vqvae(codebook="gradient")
    z_e, codes, e, _, _ = gradients(model, some_images(5))
    expected = torch.stack([2 * (e - z_e)[codes == k].sum(dim=0) / 5 for k in range(16)])
    assert 8 <= (expected != 0).any(dim=1).sum() < 16  # most codes have members, the last has none
    np.testing.assert_allclose(model.codebook.grad, expected, rtol=1e-12, atol=1e-15)


def test_the_nearest_of_a_grid_is_each_entry_rounded():
    """Against rounding one number at a time; the number of a vector counts with the last level first."""
    levels = (4, 3, 2)
    model = VQVAE(levels=levels).double()
    z = torch.tanh(torch.from_numpy(2 * np.random.default_rng(0).standard_normal((500, 3))))
    steps = [[round((value + 1) / 2 * (n - 1)) for value, n in zip(row, levels, strict=True)] for row in z.tolist()]
    codes = nearest_code(z, model.codebook)
    assert codes.tolist() == [6 * a + 2 * b + c for a, b, c in steps]
    assert len(model.codebook) == len(codes.unique()) == 24 == len(model.codebook.unique(dim=0))  # one for each
    np.testing.assert_allclose(model.codebook[codes], 2 * np.array(steps) / (np.array(levels) - 1) - 1, atol=1e-7)


def test_a_grid_is_trained_by_recon_through_tanh_and_stays():
    """d recon / d (z before tanh) = d recon / d z_q (1 - tanh^2), and nothing else."""
    model, x = VQVAE(levels=(5, 4, 3)).double(), some_images(5)
    before = model.codebook.clone()
    _, _, _, to_z, to_z_q = gradients(model, x)
    through_tanh = to_z_q * (1 - torch.tanh(model.encoder(x)).detach().movedim(1, -1).square())
    np.testing.assert_allclose(to_z, through_tanh, rtol=1e-9, atol=1e-15)
    terms = model.train().objective(x, None, torch.zeros(5, 7, 7), 0)
    assert terms["loss"] == terms["recon"] and torch.equal(model.codebook, before)


def turned(z_e: torch.Tensor, z_q: torch.Tensor) -> torch.Tensor:
    """The matrix (D, D) that turns z_e's direction to that of z_q, as sines and cosines in the plane of the two."""
    u = z_e / z_e.norm()
    v = z_q - (z_q @ u) * u
    v, cos = v / v.norm(), (u @ z_q) / z_q.norm()
    plane = (cos - 1) * (torch.outer(u, u) + torch.outer(v, v))
    return torch.eye(len(u)).double() + (1 - cos**2).sqrt() * (torch.outer(v, u) - torch.outer(u, v)) + plane


def test_the_rotation_takes_the_output_to_its_code_and_the_gradient_along():
    """As a function of z_e it is s R, with R orthogonal, R z_e / |z_e| = z_q / |z_q| and s the ratio of the lengths."""
    z_e, z_q = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 6, 4)))
    found = torch.autograd.functional.jacobian(lambda z: rotated(z, z_q).sum(dim=0), z_e).movedim(1, 0)  # (6, 4, 4)
    for J, e, q in zip(found, z_e, z_q, strict=True):
        R = J * e.norm() / q.norm()
        np.testing.assert_allclose(R, turned(e, q), atol=1e-12)
        np.testing.assert_allclose(R @ R.T, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(rotated(z_e, z_q), z_q, rtol=1e-12)
    np.testing.assert_allclose(rotated(z_e, -2 * z_e), -2 * z_e, rtol=1e-12)  # the other way round
    model = small_vqvae(code_gradient="rotation")
    z_e, _, e, to_z_e, to_z_q = gradients(model, some_images(2))
    outputs, codes = z_e.flatten(0, 2), e.flatten(0, 2)
    each = zip(outputs, codes, to_z_q.flatten(0, 2), strict=True)
    back = [q.norm() / z.norm() * turned(z, q).T @ g for z, q, g in each]
    expected = torch.stack(back) + 0.25 * (outputs - codes)
    np.testing.assert_allclose(to_z_e.flatten(0, 2), expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_the_codebook_does_not_change_with_the_batch_size(codebook):
    """A batch given twice over: means over the batch, so each number stays (to rounding)."""
    x, eps = some_images(3), torch.from_numpy(np.random.default_rng(1).standard_normal((3, 7, 7)))
    once, twice = (small_vqvae(codebook=codebook, dead_below=0.0) for _ in range(2))
    once.objective(x, None, eps, 0)
    twice.objective(x.repeat(2, 1, 1, 1), None, eps.repeat(2, 1, 1), 0)
    for name in ("codebook", "usage", "sums"):
        np.testing.assert_allclose(twice.state_dict()[name], once.state_dict()[name], rtol=1e-12, atol=1e-15)


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match='"ema" or "gradient", got \'kmeans\''):
        VQVAE(codebook="kmeans")
    with pytest.raises(ValueError, match='"bernoulli" or "gaussian", got \'poisson\''):
        VQVAE(likelihood="poisson")
    with pytest.raises(ValueError, match='"straight" or "rotation", got \'gumbel\''):
        VQVAE(code_gradient="gumbel")


def test_perplexity_of_a_known_assignment():
    """Shares 1/2, 1/4, 1/8, 1/8 have an entropy of 1.75 bits."""
    codes = torch.tensor([0, 0, 0, 0, 1, 1, 3, 5])
    assert code_shares(codes, 6).tolist() == [0.5, 0.25, 0, 0.125, 0, 0.125]
    assert perplexity(code_shares(codes, 6)).item() == pytest.approx(2**1.75, rel=4 * EPS)


def clustered(model: VQVAE, points: np.ndarray, centres: np.ndarray, steps: int) -> np.ndarray:
    """The codebook after `steps` updates on the same points (98, 3), from these centres, all of the same weight."""
    model.codebook.copy_(torch.from_numpy(centres))
    model.usage.fill_(1 / len(centres))
    model.sums.copy_(model.codebook / len(centres))
    z_e = torch.from_numpy(points).view(2, 7, 7, 3)
    for _ in range(steps):
        model.update_codes(z_e, nearest_code(z_e, model.codebook), torch.zeros(2, 7, 7))
    return model.codebook.numpy()


def k_means(points: np.ndarray, centres: np.ndarray, steps: int) -> np.ndarray:
    fitted = KMeans(len(centres), init=centres, n_init=1, max_iter=steps, tol=0, algorithm="lloyd").fit(points)
    return fitted.cluster_centers_


CLOSE = dict(rtol=0, atol=98 * 4 * EPS)  # a mean of at most 98 numbers below 4, summed in another order


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_without_decay_each_update_is_a_step_of_k_means(steps):
    points = np.random.default_rng(0).uniform(-1, 1, (98, 3))
    found = clustered(small_vqvae(6, decay=0.0, dead_below=0.0), points, points[:6], steps)
    np.testing.assert_allclose(found, k_means(points, points[:6], steps), **CLOSE)


@pytest.mark.parametrize("seed", [0, 2])
def test_running_means_settle_where_k_means_does(seed):
    """Decay 0.9: 500 steps leave 0.9^500 = 1e-23 of the start. The clusters are separate, the centres the same."""
    rng = np.random.default_rng(seed)
    corners = np.array([[a, b, c] for a in (-2, 2) for b in (-2, 2) for c in (-2, 2)])[: 5 + seed]
    points = corners[np.arange(98) % len(corners)] + rng.uniform(-0.9, 0.9, (98, 3))
    found = clustered(small_vqvae(len(corners), decay=0.9, dead_below=0.0), points, points[: len(corners)], 500)
    np.testing.assert_allclose(found, k_means(points, points[: len(corners)], 300), **CLOSE)


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_dead_codes_and_only_they_are_revived(codebook):
    model = small_vqvae(8, codebook=codebook, decay=1.0, dead_below=0.5)  # decay 1: the means stand still
    model.usage.fill_(0.5001 / 8)
    model.usage[[2, 5]] = 0.4999 / 8
    model.sums.copy_(model.codebook.detach() * model.usage[:, None])
    before = model.codebook.detach().clone()
    rng = np.random.default_rng(0)
    z_e, eps = torch.from_numpy(rng.standard_normal((2, 7, 7, 3))), torch.from_numpy(rng.standard_normal((2, 7, 7)))
    model.update_codes(z_e, nearest_code(z_e, before), eps)
    after, alive = model.codebook.detach(), [0, 1, 3, 4, 6, 7]
    np.testing.assert_allclose(after[alive], before[alive], rtol=2 * EPS)
    assert torch.equal(after[[2, 5]], z_e.reshape(98, 3)[eps.flatten().argsort()[:2]])
    assert model.usage[[2, 5]].tolist() == [1 / 8] * 2 and torch.equal(model.sums[[2, 5]] * 8, after[[2, 5]])


def test_the_first_batch_fills_the_codebook():
    """Also where more codes are dead than there are outputs, 49 an image."""
    for codes, images in ((64, 2), (64, 1)):
        model = small_vqvae(codes, dead_below=1e9)  # whatever is used less than always is dead
        x, eps = some_images(images), torch.from_numpy(np.random.default_rng(0).standard_normal((images, 7, 7)))
        start, outputs = model.codebook.clone(), model.encode(x)[0].detach().reshape(-1, 3)
        model.train().objective(x, None, eps, 0)
        if images == 2:
            assert torch.equal(model.codebook, outputs[eps.flatten().argsort()[:64]])
        assert torch.isfinite(model.codebook).all() and (model.codebook != start).any(dim=1).sum() >= 49


def test_measuring_changes_nothing():
    model = small_vqvae().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.objective(some_images(3), None, torch.zeros(3, 7, 7), 0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_logits_of_a_position_depend_on_earlier_codes_only():
    """Each of the 49 codes is changed in turn: logits up to and with its own position stay, the next ones move; without
    attention only those on its right, and below it three."""
    prior, codes = small_prior(8), some_codes(1, 8)
    changed = codes.flatten(1).repeat(49, 1)
    changed[range(49), range(49)] += 1

    def moves() -> torch.Tensor:
        logits = prior(codes.flatten(1)[:, :48])
        return (prior(changed[:, :48] % 8) - logits).abs().amax(dim=2)  # (49 changed, 49 positions)

    moved, prior.blocks = moves(), torch.nn.Sequential()
    of, at = (moves() > 1e-9).nonzero().T
    assert set((at - of).tolist()) == {1, 6, 7, 8}
    assert moved.tril().max() < 1e-12
    assert moved.diagonal(1).min() > 1e-6 and moved[0, 1:].min() > 1e-9


@pytest.mark.parametrize(("classes", "label"), [(0, None), (10, 4), (10, 7), (10, None)])
def test_probabilities_of_all_completions_sum_to_that_of_the_beginning(classes, label):
    """p(c_0 .. c_45) = sum over all 3^3 ends of p(c): the chain rule, with every conditional normalised."""
    prior = small_prior(3, classes=classes)
    y = None if label is None else torch.full((27,), label)
    codes = some_codes(1, 3).flatten(1).repeat(27, 1)
    codes[:, 46:] = torch.cartesian_prod(*[torch.arange(3)] * 3)
    log_p = prior(codes[:1, :46], None if y is None else y[:1]).log_softmax(dim=2)[0, :46]
    whole = torch.logsumexp(-prior.nats(codes.view(-1, 7, 7), y), dim=0).item()
    assert whole == pytest.approx(log_p.gather(1, codes[0, :46, None]).sum().item(), rel=1e-12)


def test_a_prior_that_is_given_the_label(few):
    """All positions hear it; p(x) is the mean over the labels, by Bayes the rest."""
    prior, codes = small_prior(3, classes=10), some_codes(1, 3).flatten(1)
    apart = prior(codes[:, :48], torch.tensor([4])) - prior(codes[:, :48], torch.tensor([7]))
    assert apart.abs().amax(dim=2).min() > 1e-4  # all 49 positions hear the label

    report, x = label_worth(prior, few, "none", seed=0, images=30), torch.from_numpy(few.images[:30] / 255)
    found = prior.vqvae.evaluate(x, None, None)
    nats = [prior.nats(found["codes"], torch.full((30,), label)).detach() for label in range(10)]
    log_p = -np.stack([found["recon"].detach() + one for one in nats], axis=1)
    given, marginal = log_p[np.arange(30), few.labels[:30]], np.log(np.exp(log_p - log_p.max()).mean(axis=1))
    gain = (given - marginal - log_p.max()).mean()
    assert report["label_gain"] == pytest.approx(gain, rel=1e-4)  # x is float32 there
    assert (report["label_samples"], report["log_p_x_given_y"]) == (1, pytest.approx(given.mean(), rel=1e-5))


def test_samples_are_the_inverse_cdf_of_the_given_uniforms():
    """Each sampled code's interval of the CDF, given the codes before it, holds the uniform number drawn for it."""
    prior, uniforms = small_prior(5, classes=3), torch.from_numpy(np.random.default_rng(0).random((6, 49)))
    uniforms[0], uniforms[1], y = 0, 1 - EPS, torch.arange(6) % 3
    codes = prior.sample(uniforms, y)
    assert codes.shape == (6, 7, 7) and torch.equal(codes, prior.sample(uniforms, y))
    share = prior(codes.flatten(1)[:, :48], y).softmax(dim=2)
    upper = share.cumsum(dim=2)
    chosen = codes.flatten(1)[..., None]
    high = upper.gather(2, chosen)[..., 0]
    low = high - share.gather(2, chosen)[..., 0]
    assert (low - 1e-12 <= uniforms).all() and (uniforms <= high + 1e-12).all()
    with torch.no_grad():
        prior.out.bias[0] = -1e6  # code 0 has probability 0, so that even 0 draws another
    assert (prior.sample(torch.zeros(1, 49)) == 1).all()


def test_a_trained_prior_knows_more_than_the_uniform_one_and_leaves_the_vqvae_alone(few):
    torch.manual_seed(0)
    prior = CodePrior(VQVAE(16, 3), width=32, blocks=1)
    before = {name: value.clone() for name, value in prior.vqvae.state_dict().items()}
    rows = trained(prior, few, epochs=3).rows
    assert all(torch.equal(value, before[name]) for name, value in prior.vqvae.state_dict().items())
    assert rows[-2]["nats"] < rows[0]["nats"] and rows[-2]["nats"] < 49 * math.log(16)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_measured_numbers_are_those_of_the_model(few, likelihood):
    torch.manual_seed(0)
    vqvae = VQVAE(16, 3, likelihood=likelihood)
    trained(vqvae, few)
    prior = CodePrior(vqvae, width=16, blocks=1)
    uniform, learned = measure(vqvae, few, "none", seed=0), measure(prior, few, "none", seed=0, batch_size=7)
    x = torch.from_numpy(few.images.astype(np.float32) / 255)
    terms = vqvae.objective(x, None, None, 0)
    # float32: each image's recon is a sum of 784 numbers, the batch's a mean of 96
    assert uniform.terms["recon"] == pytest.approx(terms["recon"].item(), rel=1e-5)
    assert uniform.terms["elbo"] == pytest.approx(terms["elbo"].item(), rel=1e-5)
    assert uniform.codebook_use["perplexity"] == pytest.approx(terms["perplexity"].item(), rel=1e-5)
    assert uniform.codebook_use["codes_used"] == len(np.unique(uniform.codes)) == terms["codes_used"]
    assert learned.terms["kl"] == pytest.approx(prior.objective(x, None, None, 0)["nats"].item(), rel=1e-5)
    assert np.array_equal(learned.codes, uniform.codes)
    np.testing.assert_allclose(learned.recon, uniform.recon, rtol=1e-5)
    pixels = learned.decode(learned.codes)
    np.testing.assert_allclose(learned.squared_error, ((pixels - learned.x) ** 2).mean(axis=(1, 2, 3)), rtol=1e-4)
    if likelihood == "gaussian":
        np.testing.assert_allclose(learned.recon, 784 * learned.squared_error, rtol=1e-4)
    assert uniform.results()["prior"] == "uniform" and learned.results()["prior"] == "learned"
    for measured in (uniform, learned):
        report = measured.results()
        assert report["elbo"] == -(report["recon"] + report["kl"]) == measured.row(3, 1.0)["elbo"]
        assert report["elbo_uniform"] == -(report["recon"] + 49 * math.log(16))


def test_code_maps_show_each_code_in_its_colour():
    rng = np.random.default_rng(0)
    x, x_hat, codes = rng.random((2, 1, 28, 28)), rng.random((2, 1, 28, 28)), rng.integers(0, 9, (2, 7, 7))
    colours = vq.code_colours(rng.standard_normal((9, 4)))
    assert len(np.unique(colours, axis=0)) == 9 and colours.min() >= 0 and colours.max() <= 1
    picture = np.asarray(vq.code_maps(x, codes, x_hat, colours, "codes").axes[0].images[0].get_array())
    assert np.array_equal(picture[:28, 30:58], np.stack([x[1, 0]] * 3, axis=-1))
    assert np.array_equal(picture[30:58:4, 30:58:4], colours[codes[1]])
    assert np.array_equal(picture[60:, :28], np.stack([x_hat[0, 0]] * 3, axis=-1))


def test_every_picture_is_drawn_with_and_without_a_prior(few, tmp_path, monkeypatch, not_laid_out):
    torch.manual_seed(0)
    vqvae, drawn = VQVAE(16, 3), {}
    prior = CodePrior(vqvae, width=16, blocks=1)
    monkeypatch.setattr(run_pictures, "save_figure", lambda figure, path: drawn.setdefault(path.stem, figure))
    draw_run(tmp_path, measure(prior, few, "none", seed=0), [], RunConfig(model="vqvae").settled())
    assert list(drawn) == ["reconstructions", "codes", "usage", "samples"]
    heights = [bar.get_height() for bar in drawn["usage"].axes[0].patches]
    assert heights == sorted(heights, reverse=True) and sum(heights) == pytest.approx(100)
    without = vq.samples(measure(vqvae, few, "none", seed=0), np.random.default_rng(0))
    classes = measure(CodePrior(vqvae, width=16, blocks=1, classes=10), few, "none", seed=0)
    by_class = vq.samples(classes, np.random.default_rng(0))
    assert [tick.get_text() for tick in by_class.axes[0].get_yticklabels()][:10] == list(few.class_names)
    assert classes.results()["prior"] == "learned, given the label" and "given the label" in classes.summary()
    for figure, rows in ((drawn["samples"], 9), (without, 6), (by_class, 16)):
        assert figure.axes[0].images[0].get_array().shape == (30 * rows - 2, 30 * 16 - 2)
