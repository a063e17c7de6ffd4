"""A normalizing flow as the prior: z = f(e) with e ~ N(0, I) and an invertible network f, that of RealNVP.

    log p(z) = log N(e; 0, I) - sum log s,   e = f^-1(z)            change of variables
    z_b = t(z_a) + s(z_a) * e_b,   z_a = e_a                        one coupling: Dinh et al. 2017, "RealNVP", eq. 4-7

A coupling leaves one half of the vector alone and moves and scales the other by numbers that a network reads off the
first. So its inverse needs no inverse of the network, and its Jacobian is triangular: the determinant is the product of
the s. Couplings with the halves in turn let every dimension depend on every other.

Axes: B batch, Z latent; a and b are the halves of Z.
"""

import torch
from torch import Tensor, nn


class Coupling(nn.Module):
    """One coupling of a vector (..., Z): of the two halves the second moves, or with `swap` the first.

    It begins as the identity: the last layer's weights are 0.
    """

    def __init__(self, latent_dim: int, hidden: int, swap: bool):
        super().__init__()
        self.swap, self.a = swap, latent_dim // 2 if not swap else latent_dim - latent_dim // 2
        widths = (self.a, hidden), (hidden, hidden)
        layers = [layer for width in widths for layer in (nn.Linear(*width), nn.ReLU())]
        last = nn.Linear(hidden, 2 * (latent_dim - self.a))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(*layers, last)

    def halves(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """v (..., Z) -> the half that stays, the half that moves."""
        v = v.flip(-1) if self.swap else v
        return v[..., : self.a], v[..., self.a :]

    def joined(self, v_a: Tensor, v_b: Tensor) -> Tensor:
        """The inverse of `halves`."""
        v = torch.cat([v_a, v_b], dim=-1)
        return v.flip(-1) if self.swap else v

    def shift_and_log_scale(self, v_a: Tensor) -> tuple[Tensor, Tensor]:
        """t, log s of the other half; s between 1/e^2 and e^2, so that no step of training runs away."""
        t, raw = self.net(v_a).chunk(2, dim=-1)
        return t, 2 * torch.tanh(raw / 2)

    def forward(self, e: Tensor) -> Tensor:
        """e (..., Z) -> z (..., Z)."""
        e_a, e_b = self.halves(e)
        t, log_s = self.shift_and_log_scale(e_a)
        return self.joined(e_a, t + torch.exp(log_s) * e_b)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z (..., Z) -> e (..., Z), and log |det de/dz| (...)."""
        z_a, z_b = self.halves(z)
        t, log_s = self.shift_and_log_scale(z_a)
        return self.joined(z_a, (z_b - t) * torch.exp(-log_s)), -log_s.sum(dim=-1)


class FlowPrior(nn.Module):
    """Couplings one after another, the halves in turn; at first N(0, I). latent_dim is 2 or more."""

    name = "flow prior"

    def __init__(self, latent_dim: int, couplings: int = 6, hidden: int = 256):
        super().__init__()
        self.couplings = nn.ModuleList(Coupling(latent_dim, hidden, swap=i % 2 == 1) for i in range(couplings))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z (..., Z) -> e = f^-1(z) (..., Z), and log |det de/dz| (...)."""
        e, log_det = z, z.new_zeros(z.shape[:-1])
        for coupling in reversed(self.couplings):
            e, part = coupling.inverse(e)
            log_det = log_det + part
        return e, log_det

    def log_ratio(self, z: Tensor, encode=None) -> Tensor:
        """log p(z) - log N(z; 0, I) of z (..., Z) -> (...), in nats."""
        e, log_det = self.inverse(z)
        return 0.5 * (z**2 - e**2).sum(dim=-1) + log_det

    def codes(self, eps: Tensor, u: Tensor, encode=None) -> Tensor:
        """Draws of p(z) (B, Z) from eps (B, Z) ~ N(0, I); u is for mixtures."""
        for coupling in self.couplings:
            eps = coupling(eps)
        return eps
