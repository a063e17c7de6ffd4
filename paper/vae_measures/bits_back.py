"""Bits back: a VAE as a lossless compressor whose files are as long as -elbo says.

Whoever knows z can send x in -log p(z) - log p(x|z) nats. That is more than need be, as many z would do and the choice
among them says something too. So the sender lets bits that are to be sent anyway make the choice: z is *decoded* from
them with q(z|x). The receiver, who ends up with x and z, encodes z with q(z|x) and has these bits back. An image costs

    -log p(z) - log p(x|z) + log q(z|x)  nats,   z ~ q(z|x),   whose mean is -elbo;  divided by ln 2, in bits

An ANS coder (Duda 2009) is a stack of bits: push a symbol with a distribution, or pop one, and each undoes the other.

    push x:   pop z with q(z|x)     push x with p(x|z)     push z with p(z)
    pop x:    pop z with p(z)       pop x with p(x|z)      push z with q(z|x)

The bits for an image's z are those of the images before it; only the first needs some from elsewhere.
Townsend, Bird & Barber 2019, "Practical lossless compression with latent variables using bits back coding",
https://arxiv.org/abs/1901.04866. They cut z into bins of equal prior mass; here z lies on a grid of equal steps, which
serves every prior: a cell's width cancels between p(z) and q(z|x).

What the receiver computes must be what the sender computed, bit by bit, so both do it one image at a time. Another
processor, another build of torch or a GPU may round a mean differently, and then nothing that follows can be read.

Axes: K components of the prior, Z latent.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from constriction import stream
from torch import nn

from vae_models.learned_prior import MixturePrior

GRID = 64  # steps of the grid in a unit of z: a step is small beside any std that a decoder would notice
REACH = 32 * GRID  # the grid goes from z = -32 to 32
TAIL = 8  # std of q(z|x) on either side: a wider window costs, as each cell of it gets 2^-24 at least
PIXEL, Z_CELL = stream.model.Bernoulli(perfect=False), stream.model.QuantizedGaussian(-REACH, REACH)


def can_code(model: nn.Module) -> bool:
    """Whether p(z) is N(0, I) or a mixture, q(z|x) a Gaussian, and each pixel of p(x|z) a Bernoulli of its own."""
    known_prior = isinstance(getattr(model, "prior", None), MixturePrior | None)
    plain = model.has_posterior and not (model.conditional or model.sees_pixels)
    return known_prior and plain and model.likelihood == "bernoulli"


class BitsBack:
    """Pushes images onto a coder, a constriction.stream.stack.AnsCoder, and pops them, by a VAE that `can_code` knows.

    An image x is int32 (784,), of 0 and 1; z is a place on the grid, int32 (Z,), in steps of 1 / GRID.
    """

    @torch.no_grad()
    def __init__(self, model: nn.Module):
        self.model = model.cpu().eval()
        mu = logvar = torch.zeros(2, model.spec.latent_dim)  # N(0, I) twice, as a symbol has two values at least
        if hasattr(model, "prior"):
            mu, logvar = model.prior.components(model.encode)
        self.mu, self.std = GRID * mu.double().numpy(), GRID * np.exp(0.5 * logvar.double().numpy())  # (K, Z)

    def push(self, coder, x: np.ndarray) -> None:
        """Put x on top: the coder grows by about -elbo / ln 2 bits."""
        z = np.array([coder.decode(q) for q in self.posterior(x)], np.int32)
        coder.encode_reverse(x, PIXEL, self.pixel_means(z))
        self.push_code(coder, z)

    def pop(self, coder) -> np.ndarray:
        """Take the topmost x off: the coder is what it was before x was pushed."""
        z = self.pop_code(coder)
        x = coder.decode(PIXEL, self.pixel_means(z))
        for place, q in reversed([*zip(z, self.posterior(x), strict=True)]):
            coder.encode_reverse(int(place), q)
        return x

    @torch.no_grad()
    def posterior(self, x: np.ndarray) -> Iterator:
        """q(z|x) of each latent dimension, over the cells within TAIL std of its mean."""
        mu, logvar = self.model.encode(torch.from_numpy(x).float().view(1, 1, 28, 28))
        for mean, log_variance in zip(mu[0].tolist(), logvar[0].tolist(), strict=True):
            mean = min(max(GRID * mean, 2 - REACH), REACH - 2)
            std = min(max(GRID * math.exp(0.5 * log_variance), 0.1), REACH)  # 0.1: all in one cell or two
            low, high = round(mean) - math.ceil(TAIL * std), round(mean) + math.ceil(TAIL * std)
            yield stream.model.QuantizedGaussian(max(low, -REACH), min(high, REACH), mean, std)

    @torch.no_grad()
    def pixel_means(self, z: np.ndarray) -> np.ndarray:
        """The means of p(x|z) (784,)."""
        return torch.sigmoid(self.model.decode(torch.from_numpy(z / GRID).float()[None]).double()).flatten().numpy()

    # --- p(z) = 1/K sum_k N(z; mu_k, std_k^2): bits back once more, for k, so that it does not cost ln K ---

    def push_code(self, coder, z: np.ndarray) -> None:
        """Put z on top, in -log p(z) nats: pop k with p(k|z), push z with p(z|k), push k with 1/K."""
        k = coder.decode(self.component(z))
        coder.encode_reverse(z, Z_CELL, self.mu[k], self.std[k])
        coder.encode_reverse(k, stream.model.Uniform(len(self.mu)))

    def pop_code(self, coder) -> np.ndarray:
        """Take z off again."""
        k = coder.decode(stream.model.Uniform(len(self.mu)))
        z = coder.decode(Z_CELL, self.mu[k], self.std[k])
        coder.encode_reverse(k, self.component(z))
        return z

    def component(self, z: np.ndarray):
        """p(k|z), by Bayes."""
        log_p = -(0.5 * ((z - self.mu) / self.std) ** 2 + np.log(self.std)).sum(axis=1)
        p = np.exp(log_p - log_p.max())
        return stream.model.Categorical(p / p.sum(), perfect=False)
