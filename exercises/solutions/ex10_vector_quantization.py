"""Exercise 10: discrete codes, and a prior over them. See exercises/10_vector_quantization.md."""

import numpy as np


def nearest_code(z_e, codebook):
    """z_e (..., D), codebook (K, D) -> (...,) in 0 .. K-1: the nearest code of each row; of equal codes the first."""
    z_e, codebook = z_e.astype(np.float64), codebook.astype(np.float64)
    return (np.square(codebook).sum(axis=1) - 2 * z_e @ codebook.T).argmin(axis=-1)


def straight_through(z_e, e):
    """Tensors (B, T, D): the encoder's output and its nearest codes -> the value of e, with the gradient of z_e."""
    return z_e + (e - z_e).detach()


def vq_loss(z_e, e, beta=0.25):
    """Tensors (B, T, D) -> (B,): ||sg[z_e] - e||^2 + beta ||z_e - sg[e]||^2, summed over positions and dimensions."""
    return ((z_e.detach() - e).square() + beta * (z_e - e.detach()).square()).sum(dim=(1, 2))


def vq_gradients(d_z_q, z_e, codes, codebook, beta=0.25):
    """d_z_q, z_e (B, T, D), codes (B, T), codebook (K, D); d_z_q: what comes back to the decoder's input.

    -> (B, T, D), (K, D): the derivatives of recon + vq_loss, mean over the batch, by z_e and by the codebook.
    """
    apart = 2 * (z_e - codebook[codes]) / len(z_e)
    d_codebook = np.zeros_like(codebook)
    np.add.at(d_codebook, codes, -apart)
    return d_z_q + beta * apart, d_codebook


def ema_step(usage, sums, codebook, z_e, codes, decay=0.99):
    """usage (K,), sums (K, D), codebook (K, D), z_e (N, D), codes (N,) -> usage, sums and codebook after the step."""
    members = np.eye(len(codebook))[codes]
    usage = decay * usage + (1 - decay) * members.mean(axis=0)
    sums = decay * sums + (1 - decay) * members.T @ z_e / len(z_e)
    alive = usage > 0
    codebook = codebook.copy()
    codebook[alive] = sums[alive] / usage[alive, None]
    return usage, sums, codebook


def revive(usage, sums, codebook, outputs, dead_below=0.1):
    """usage (K,), sums, codebook (K, D), outputs (N, D) of the encoder, in random order -> usage, sums and codebook.

    Codes with usage < dead_below / K become outputs, the first dead one the first output, as far as there are any.
    """
    dead = np.flatnonzero(usage < dead_below / len(usage))[: len(outputs)]
    usage, sums, codebook = usage.copy(), sums.copy(), codebook.copy()
    usage[dead] = 1 / len(usage)
    sums[dead] = outputs[: len(dead)] / len(usage)
    codebook[dead] = outputs[: len(dead)]
    return usage, sums, codebook


def perplexity(codes):
    """codes (any shape) -> how many codes, all used alike, have the entropy of these: from 1 (one does all) to K."""
    share = np.unique(codes, return_counts=True)[1] / codes.size
    return np.exp(-(share * np.log(share)).sum())


def fit_markov(codes, count, extra=0.1):
    """codes (N, T) in 0 .. count-1 -> first (K,) = p(c_1), transition (K, K): row i is p(c_t | c_(t-1) = i).

    `extra` is added to each count, so that nothing is impossible.
    """
    first = np.bincount(codes[:, 0], minlength=count) + extra
    pairs = np.full((count, count), extra)
    np.add.at(pairs, (codes[:, :-1], codes[:, 1:]), 1)
    return first / first.sum(), pairs / pairs.sum(axis=1, keepdims=True)


def markov_nats(codes, first, transition):
    """codes (N, T), first (K,), transition (K, K) -> -ln p(codes) (N,)."""
    return -np.log(first[codes[:, 0]]) - np.log(transition[codes[:, :-1], codes[:, 1:]]).sum(axis=1)


def sample_markov(uniforms, first, transition):
    """uniforms (N, T) in [0, 1), first (K,), transition (K, K) -> codes (N, T), position by position.

    A uniform picks a code with its probability: 0 picks the first that can occur, larger ones later codes.
    """
    codes, p = np.zeros(uniforms.shape, int), first[None]
    for t in range(uniforms.shape[1]):
        before = (p.cumsum(axis=1) <= uniforms[:, t, None]).sum(axis=1)
        codes[:, t] = before.clip(max=len(first) - 1)  # a row that adds up to 1 - 1e-16
        p = transition[codes[:, t]]
    return codes
