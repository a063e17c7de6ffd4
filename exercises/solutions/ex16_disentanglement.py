"""Exercise 16: the parts of the KL, the mutual information gap, and a turn. See exercises/16_disentanglement.md."""

import numpy as np


def kl(p, q):
    """p, q, tables of probabilities of one shape -> KL(p || q) in nats; where p is 0, it adds nothing."""
    some = p > 0
    return np.sum(p[some] * np.log(p[some] / q[some]))


def product(p):
    """The product (K1, ..., KD) of the marginals of p (K1, ..., KD)."""
    found = np.ones_like(p)
    for d in range(p.ndim):
        found = found * p.sum(axis=tuple(i for i in range(p.ndim) if i != d), keepdims=True)
    return found


def total_correlation(p):
    """p (K1, ..., KD), the probabilities of all z of D dimensions -> a number: KL(p || product of marginals), nats."""
    return kl(p, product(p))


def split_kl(q, prior):
    """q (N, K1, ..., KD), q(z|x) of N images; prior (K1, ..., KD), a product of its marginals.

    -> information, total correlation and the KL of the dimensions: three numbers, whose sum is the mean kl in nats.
    """
    z = q.mean(axis=0)
    return np.mean([kl(one, z) for one in q]), total_correlation(z), kl(product(z), prior)


def information(factors, codes):
    """factors (N, F), codes (N, Z), whole numbers from 0 on -> (F, Z): the share of the entropy of each factor that
    each dimension tells."""

    def told(a, b):
        counts = np.zeros((a.max() + 1, b.max() + 1))
        np.add.at(counts, (a, b), 1)
        return total_correlation(counts / len(a))

    return np.array([[told(v, z) / told(v, v) for z in codes.T] for v in factors.T])


def mig(share):
    """share (F, Z), with Z of at least 2 -> a number: the mutual information gap."""
    ranked = np.sort(share, axis=1)
    return np.mean(ranked[:, -1] - ranked[:, -2])


def rotated(V, c, W, angle):
    """V (2, P), c (2,), W (P, 2), of the codes V x + c and the reconstructions W z + b -> V, c, W of the same model
    with its codes turned by an angle in radians, counterclockwise: (1, 0) becomes (cos(angle), sin(angle))."""
    R = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return R @ V, R @ c, W @ R.T
