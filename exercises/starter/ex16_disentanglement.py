"""Exercise 16: the parts of the KL, the mutual information gap, and a turn. See exercises/16_disentanglement.md."""

import numpy as np


def kl(p, q):
    """p, q, tables of probabilities of one shape -> KL(p || q) in nats; where p is 0, it adds nothing."""
    some = p > 0
    return np.sum(p[some] * np.log(p[some] / q[some]))


def total_correlation(p):
    """p (K1, ..., KD), the probabilities of all z of D dimensions -> a number: KL(p || product of marginals), nats."""
    raise NotImplementedError


def split_kl(q, prior):
    """q (N, K1, ..., KD), q(z|x) of N images; prior (K1, ..., KD), a product of its marginals.

    -> information, total correlation and the KL of the dimensions: three numbers, whose sum is the mean kl in nats.
    """
    raise NotImplementedError


def information(factors, codes):
    """factors (N, F), codes (N, Z), whole numbers from 0 on -> (F, Z): the share of the entropy of each factor that
    each dimension tells."""
    raise NotImplementedError


def mig(share):
    """share (F, Z), with Z of at least 2 -> a number: the mutual information gap."""
    raise NotImplementedError


def rotated(V, c, W, angle):
    """V (2, P), c (2,), W (P, 2), of the codes V x + c and the reconstructions W z + b -> V, c, W of the same model
    with its codes turned by an angle in radians, counterclockwise: (1, 0) becomes (cos(angle), sin(angle))."""
    raise NotImplementedError
