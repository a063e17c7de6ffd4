"""The masked decoder: no pixel sees itself or what follows, its images sum to one, it draws what it is measured by."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vae_common.spec import VAESpec
from vae_models.masked_decoder import MaskedDecoder, MaskedVAE


@pytest.fixture
def decoder() -> MaskedDecoder:
    """A window of 4 rows and columns, and three times the initial weights, so that the logits are not all near 0."""
    torch.manual_seed(0)
    decoder = MaskedDecoder(3, reach=4).double()
    for parameter in decoder.parameters():
        parameter.data.mul_(3)
    return decoder


def maps_and_pixels(decoder, images, height, width):
    """Of the size of a test, what z would say at each position and some pixels of 0 and 1."""
    C = decoder.mix.in_channels
    return torch.randn(1, C, height, width).double(), torch.randint(2, (images, 1, height, width)).double()


def test_the_logit_of_a_pixel_depends_on_the_pixels_before_it_in_its_window_and_on_no_other(decoder):
    """The Jacobian of 7 x 11 logits by the pixels, of three images: an entry that should be there is 0 in all three
    only where 16 hidden units are off three times over."""
    H, W, r = 7, 11, decoder.reach
    maps, x = maps_and_pixels(decoder, 3, H, W)
    logits = lambda one: decoder.at(maps, decoder.pad(one[None])).flatten()  # noqa: E731
    jacobian = sum(torch.autograd.functional.jacobian(logits, one).flatten(1).abs() for one in x)  # (H W, H W)
    row, column = np.divmod(np.arange(H * W), W)
    above, aside = row[:, None] - row, column[:, None] - column  # of pixel i, seen from pixel j
    before = (above > 0) | (above == 0) & (aside > 0)
    expected = before & (above <= r) & (abs(aside) <= r)
    assert expected.any() and (expected != np.tri(H * W, k=-1)).any()  # the window ends within these images
    np.testing.assert_array_equal(jacobian.numpy() != 0, expected)


def test_the_probabilities_of_all_images_sum_to_one(decoder):
    """All 4,096 images of 3 x 4 pixels; were a pixel to see itself or one that follows, the sum would be another."""
    maps, _ = maps_and_pixels(decoder, 1, 3, 4)
    x = torch.tensor(list(itertools.product((0.0, 1.0), repeat=12))).double().view(-1, 1, 3, 4)
    recon = F.binary_cross_entropy_with_logits(decoder.at(maps, decoder.pad(x)), x, reduction="none").sum(dim=(1, 2, 3))
    assert torch.exp(-recon).sum().item() == pytest.approx(1, abs=1e-12)
    assert recon.std() > 0.01  # and they are not all alike


@torch.no_grad()
def test_what_is_drawn_pixel_by_pixel_is_what_teacher_forcing_gives(decoder):
    """In the image drawn, every pixel is 1 exactly where its u lies below the probability that the whole image gives
    it in one pass; float64 sums in another order differ by 1e-15, which no u comes near."""
    z, u = torch.randn(4, 3).double(), torch.rand(4, 1, 28, 28).double()
    x = decoder.draw(z, u)
    p = torch.sigmoid(decoder(z, x))
    assert torch.equal(x, (u < p).double())
    assert 0.1 < x.mean() < 0.9 and p.std() > 0.05
    assert (decoder(z, 1 - x) - decoder(z, x)).abs().max() > 0.1  # other pixels, other logits


@torch.no_grad()
def test_a_picture_is_the_same_in_each_call_and_each_image_has_noise_of_its_own():
    model, z = MaskedVAE(VAESpec(3)), torch.randn(1, 3)
    first, second = model.pixels(z.expand(2, 3))
    assert torch.equal(model.pixels(z.expand(2, 3))[0], first) and not torch.equal(first, second)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    with pytest.raises(TypeError, match="logits_of"):
        model.decode(z)


def test_the_gradient_of_the_loss_is_its_slope(digits):
    """Along a random direction of all weights. A step of 1e-9 is so short because of the 100,000 hidden units some
    are near their kink at 0; the loss, of 550 nats, is rounded at 1e-13."""
    torch.manual_seed(0)
    model = MaskedVAE(VAESpec(3)).double()
    x = torch.from_numpy(digits.images[:4] / 255).round()
    eps, h = torch.randn(4, 3).double(), 1e-9
    model.objective(x, None, eps, 0)["loss"].backward()
    before = model.decoder.before
    assert torch.equal((before.weight.grad != 0).any(dim=0)[0], before.mask == 1)
    parameters = list(model.parameters())
    direction = [torch.randn_like(parameter) for parameter in parameters]
    slope = sum((parameter.grad * along).sum() for parameter, along in zip(parameters, direction, strict=True)).item()
    losses = []
    for sign in (1, -2):
        with torch.no_grad():
            for parameter, along in zip(parameters, direction, strict=True):
                parameter += sign * h * along
            losses.append(model.objective(x, None, eps, 0)["loss"].item())
    assert (losses[0] - losses[1]) / (2 * h) == pytest.approx(slope, rel=1e-4)
