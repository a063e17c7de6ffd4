"""Continuity and completeness: decoders whose answers are known, and the codes at which they are asked."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from vae_measures import latent_space
from vae_measures.latent_space import POINTS, continuity, draw_codes, fitted_codes, report

RNG = np.random.default_rng(0)
STARTS, ENDS = RNG.standard_normal((2, 20, 3)).astype(np.float32)
WEIGHT, BIAS = RNG.standard_normal((3, 5)), RNG.standard_normal(5)


def test_a_linear_decoder_is_continuous():
    found = continuity(lambda z: z @ WEIGHT + BIAS, STARTS, ENDS)
    np.testing.assert_allclose(found, 1, rtol=1e-5)  # float32 codes


def test_a_jump_and_a_detour_have_known_sizes():
    """One step of 50 does it all; half a circle is pi/2 times its diameter, and even; a decoder that ignores z."""
    line = np.zeros((1, 2), np.float32), np.array([[1, 0]], np.float32)
    jump, detour = continuity(lambda z: (z[:, :1] > 0.51).astype(float), *line)
    assert (jump, detour) == (50, 1)
    jump, detour = continuity(lambda z: np.stack([np.cos(np.pi * z[:, 0]), np.sin(np.pi * z[:, 0])], axis=1), *line)
    chords = 50 * np.sin(np.pi / 100)  # of the half circle with 50 chords, whose diameter is 2
    assert jump == pytest.approx(1, abs=1e-5) and detour == pytest.approx(chords, abs=1e-5)
    assert chords == pytest.approx(np.pi / 2, rel=1e-3)
    assert np.ravel(continuity(lambda z: np.ones((len(z), 4)), *line)).tolist() == [1, 1]


def evaluated(mu: np.ndarray, std: np.ndarray, decode=None) -> SimpleNamespace:
    """As much of an evaluation as is asked for."""
    x = np.zeros((len(mu), 1, 28, 28), np.float32)
    drawn = {"as_prior": lambda eps, rng: eps}  # the prior is N(0, I)
    return SimpleNamespace(mu=mu, std=std, decode=decode, binarize="none", x=x, **drawn)


def test_where_codes_are_drawn():
    """The Gaussian has the moments of q(z): those of mu, and the mean variance of the posteriors besides."""
    mix = np.array([[2.0, 0.5], [0.0, 1.0]])
    measured = evaluated(RNG.standard_normal((3000, 2)) @ mix + [5, -1], np.tile([0.3, 0.6], (3000, 1)))
    pairs = RNG.integers(3000, size=(20_000, 2))
    codes = draw_codes(measured, pairs, RNG)
    np.testing.assert_allclose(codes["codes"], measured.mu[pairs[:, 0]], rtol=1e-6)
    np.testing.assert_allclose(2 * codes["midway"], measured.mu[pairs[:, 0]] + measured.mu[pairs[:, 1]], atol=1e-5)
    q = np.repeat(measured.mu, 50, axis=0)
    q = q + np.repeat(measured.std, 50, axis=0) * RNG.standard_normal(q.shape)
    codes["refitted"] = fitted_codes(measured.mu, measured.std)(RNG.standard_normal((20_000, 2)), None)
    of_q, of_prior = (q.mean(axis=0), np.cov(q.T)), (np.zeros(2), np.eye(2))
    for name, (mean, covariance) in {"fitted": of_q, "refitted": of_q, "prior": of_prior}.items():
        np.testing.assert_allclose(codes[name].mean(axis=0), mean, atol=0.08)  # 5 standard errors
        np.testing.assert_allclose(np.cov(codes[name].T), covariance, atol=0.25)  # 5 of a variance of 5


class OfBrightness(nn.Module):
    """Sure of any bright image, and of no dark one."""

    features = staticmethod(lambda x: x.mean(dim=(1, 2, 3))[:, None])
    logits = staticmethod(lambda mean: torch.cat([20 * (mean > 0.5), torch.zeros_like(mean)], dim=1))

    def parameters(self, recurse=True):
        return iter([torch.zeros(1)])


def bright_on_the_right(z: np.ndarray) -> np.ndarray:
    return np.broadcast_to((z[:, 0] > 0)[:, None, None, None], (len(z), 1, 28, 28)).astype(np.float32)


def test_completeness_is_the_share_that_is_recognised():
    """Three codes in four lie on the right; of two of them the middle does when one at least is right of it."""
    mu = np.array([[3, 0], [1, 0], [1, 1], [-2, 0]], np.float32)
    found = report(evaluated(np.tile(mu, (50, 1)), np.full((200, 2), 1e-3), bright_on_the_right), OfBrightness(), 0)
    share = found["recognised"]
    error = 5 * 0.5 / POINTS**0.5
    assert share["test"] == 0 and share["codes"] == pytest.approx(3 / 4, abs=error)
    middles = (mu[:, None, 0] + mu[None, :, 0]) / 2 > 0
    assert share["midway"] == pytest.approx(middles.mean(), abs=error)
    assert share["prior"] == pytest.approx(1 / 2, abs=error)
    z = mu[:, 0].mean() / mu[:, 0].std()
    assert share["fitted"] == pytest.approx(0.5 * (1 + torch.erf(torch.tensor(z / 2**0.5)).item()), abs=error)
    assert found["jump"] > 1 and found["detour"] == 1
    text = latent_space.table(found, has_prior=False)
    assert all(f" {value:.1%}" in text for value in share.values()) and f"{found['jump']:6.2f}" in text
