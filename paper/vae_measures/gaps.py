"""Where the nats go: what the elbo loses on log p(x), and whether the encoder or the shape of q(z|x) loses it.

    log p(x)  =  elbo  +  ( best Gaussian - elbo )  +  ( log p(x) - best Gaussian )
                            amortization gap            family gap                  Cremer, Li & Duvenaud 2018, sec. 3

One encoder answers for all images. The best Gaussian is found for each image alone, by gradient ascent on its own mu
and logvar, so the amortization gap is what sharing a network loses. The family gap is what every diagonal Gaussian
loses. Part of it comes back with a richer q, that Gaussian bent by a small flow of the image's own:

    z = mu + std * f(e),  e ~ N(0, I),      log q(z|x) = log N(e; 0, I) - log |det df/de| - sum log std

An optimizer is not judged by the noise that it has seen. An image keeps the q it began with unless the new one is
better on other draws, and all of them are measured on fresh ones. log p(x) is L_K with K draws of the richer q: still
a lower bound, so the family gap is this or more.

Axes: B images, K draws, Z latent.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from tqdm import trange

from vae_measures.importance_bounds import DECODED_AT_ONCE, check_bounds, error_of, importance_bounds
from vae_measures.rate_parts import TOLERATED, refuse_impossible
from vae_models.flow_prior import FlowPrior
from vae_models.iwae import log_weights

IMAGES = 100  # of the test split
STEPS, DRAWS = 200, 4  # steps of Adam, and draws of z for each image in a step
RATES = {"gaussian": 0.05, "flow": 0.01}  # of learning, at first; they fall to 0
JUDGING = 50  # draws that decide whether an image keeps its new q
BOUNDS = {"elbo": "elbo", "best_gaussian": "best Gaussian", "richer_q": "richer q", "log_p": "log p(x)"}  # in order
Q = dict[str, Tensor]  # of B images: mu, logvar (B, Z), and where q is richer the parameters (B, ...) of its flows


class Flow(FlowPrior):
    """e (K, Z) -> f(e) (K, Z) and log |det df/de| (K,): couplings, in the direction whose determinant they tell."""

    def __init__(self, latent_dim: int):
        super().__init__(latent_dim, couplings=4, hidden=32)

    def forward(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """The identity at first."""
        return self.inverse(e)


class Images(NamedTuple):
    """Images x (B, 1, 28, 28), their labels y (B,), the model they are given to, and a flow of its latent_dim."""

    model: nn.Module
    x: Tensor
    y: Tensor
    flow: Flow

    def log_w(self, q: Q, e: Tensor) -> Tensor:
        """log p(x, z) - log q(z|x) (B, K) at the z that q makes of noise e (B, K, Z): their mean is q's elbo."""
        (mu, logvar), flows = (q["mu"], q["logvar"]), {k: value for k, value in q.items() if k not in ("mu", "logvar")}
        moved, log_det = vmap(lambda own, e: functional_call(self.flow, own, e))(flows, e) if flows else (e, 0.0)
        z = mu[:, None] + torch.exp(0.5 * logvar)[:, None] * moved  # (B, K, Z)
        x, y = (value.repeat_interleave(e.shape[1], dim=0) for value in (self.x, self.y))  # (B K, ...)
        recon, _ = self.model.elbo_terms(x, self.model.logits_of(x, z.flatten(0, 1), y), mu, logvar)
        return log_weights(recon.view(e.shape[:2]), z, logvar, e) + log_det + self.model.log_prior_ratio(z)

    def noise(self, K: int, rng: np.random.Generator) -> Tensor:
        """e (B, K, Z) ~ N(0, I)."""
        e = rng.standard_normal((len(self.x), K, self.model.spec.latent_dim), dtype=np.float32)
        return torch.from_numpy(e).to(self.x)

    def measured(self, qs: list[Q], draws: int, rng: np.random.Generator) -> list[np.ndarray]:
        """log_w (B, K) float64 of each q, at the same noise; in bounded memory."""
        parts, at_once = [], max(1, DECODED_AT_ONCE // len(self.x))
        with torch.no_grad():
            for start in range(0, draws, at_once):
                e = self.noise(min(at_once, draws - start), rng)
                parts.append([self.log_w(q, e).double().cpu().numpy() for q in qs])
        return [np.concatenate(part, axis=1) for part in zip(*parts, strict=True)]

    def improved(self, old: Q, what: str, rng: np.random.Generator) -> Q:
        """The q that Adam climbs to from `old`, for each image where it is the better one on draws of their own."""
        new = {name: value.detach().clone().requires_grad_() for name, value in old.items()}
        optimizer = torch.optim.Adam(new.values(), lr=RATES[what])
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for _ in trange(STEPS, desc=f"the best {what} of each image", disable=None, leave=False):
            elbo = self.log_w(new, self.noise(DRAWS, rng)).mean(dim=1)
            optimizer.zero_grad()
            (-elbo.sum()).backward(inputs=list(new.values()))  # and not to the weights of the model
            optimizer.step()
            schedule.step()
        before, after = (log_w.mean(axis=1) for log_w in self.measured([old, new], JUDGING, rng))
        worse = torch.from_numpy(~(after > before)).to(self.x.device)  # or not finite
        for name, value in new.items():
            value.data[worse] = old[name][worse]
        return {name: value.detach() for name, value in new.items()}


def bounds_of_images(
    model: nn.Module, x: np.ndarray, y: np.ndarray, samples: int, rng: np.random.Generator, seed: int
) -> dict[str, np.ndarray]:
    """Each of BOUNDS (B,) of images x (B, 1, 28, 28) with labels y (B,), in nats, from `samples` fresh draws."""
    like, latent_dim = next(model.parameters()), model.spec.latent_dim
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        flows, _ = stack_module_state([Flow(latent_dim).to(like) for _ in x])
        images = Images(model, torch.from_numpy(x).to(like), torch.from_numpy(y).to(like.device), Flow(latent_dim))
        encoder = dict(zip(("mu", "logvar"), model.encode(images.x, images.y), strict=True))
    gaussian = images.improved(encoder, "gaussian", rng)
    richer = images.improved(gaussian | flows, "flow", rng)
    log_w = images.measured([encoder, gaussian, richer], samples, rng)
    found = [*(one.mean(axis=1) for one in log_w), importance_bounds(log_w[2], samples)]
    return dict(zip(BOUNDS, found, strict=True))


def report(bounds: dict[str, np.ndarray], elbo: np.ndarray) -> dict:
    """The means of the bounds (B,), and of the gaps with their standard errors. Raises EstimateError unless the bounds
    rise, in the mean and but for 4 standard errors, and the first is the elbo (B,) that was measured before."""
    amortization, richer, rest = np.diff(list(bounds.values()), axis=0)
    check_bounds({1: bounds["elbo"]}, elbo)
    found = {name: float(value.mean()) for name, value in bounds.items()}
    for gap, (low, high) in zip((amortization, richer, rest), pairwise(BOUNDS), strict=True):
        refuse_impossible(
            not gap.mean() >= -TOLERATED * error_of(gap),
            f"{BOUNDS[high]} is {found[high]:.2f} nats and {BOUNDS[low]} {found[low]:.2f}, and that is the wrong order",
        )
    for name, gap in {"amortization": amortization, "richer": richer, "family": richer + rest}.items():
        found |= {f"{name}_gap": float(gap.mean()), f"{name}_gap_error": error_of(gap)}
    return found


def table(found: dict) -> str:
    """The report as lines."""
    a, r, f = (
        f"{found[f'{name}_gap']:9.2f} ({found[f'{name}_gap_error']:.2f})"
        for name in ("amortization", "richer", "family")
    )
    return "\n".join(
        [
            f"  elbo                 {found['elbo']:9.2f}          the encoder's q(z|x)",
            f"    amortization gap   {a}   what one encoder for all images loses on the next line",
            f"  best Gaussian        {found['best_gaussian']:9.2f}          of each image alone",
            f"    family gap         {f}   what every Gaussian loses, at the least",
            f"    of it              {r}   come back with a flow for each image",
            f"  log p(x), at least   {found['log_p']:9.2f}          L_{found['samples']:,} with that flow",
        ]
    )
