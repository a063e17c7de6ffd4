"""Exercise 10: discrete codes, and a prior over them. See exercises/10_vector_quantization.md."""

import numpy as np  # noqa: F401


def nearest_code(z_e, codebook):
    """z_e (..., D), codebook (K, D) -> (...,) in 0 .. K-1: the nearest code of each row; of equal codes the first."""
    raise NotImplementedError


def straight_through(z_e, e):
    """Tensors (B, T, D): the encoder's output and its nearest codes -> the value of e, with the gradient of z_e."""
    raise NotImplementedError


def vq_loss(z_e, e, beta=0.25):
    """Tensors (B, T, D) -> (B,): ||sg[z_e] - e||^2 + beta ||z_e - sg[e]||^2, summed over positions and dimensions."""
    raise NotImplementedError


def vq_gradients(d_z_q, z_e, codes, codebook, beta=0.25):
    """d_z_q, z_e (B, T, D), codes (B, T), codebook (K, D); d_z_q: what comes back to the decoder's input.

    -> (B, T, D), (K, D): the derivatives of recon + vq_loss, mean over the batch, by z_e and by the codebook.
    """
    raise NotImplementedError


def ema_step(usage, sums, codebook, z_e, codes, decay=0.99):
    """usage (K,), sums (K, D), codebook (K, D), z_e (N, D), codes (N,) -> usage, sums and codebook after the step."""
    raise NotImplementedError


def revive(usage, sums, codebook, outputs, dead_below=0.1):
    """usage (K,), sums, codebook (K, D), outputs (N, D) of the encoder, in random order -> usage, sums and codebook.

    Codes with usage < dead_below / K become outputs, the first dead one the first output, as far as there are any.
    """
    raise NotImplementedError


def perplexity(codes):
    """codes (any shape) -> how many codes, all used alike, have the entropy of these: from 1 (one does all) to K."""
    raise NotImplementedError


def fit_markov(codes, count, extra=0.1):
    """codes (N, T) in 0 .. count-1 -> first (K,) = p(c_1), transition (K, K): row i is p(c_t | c_(t-1) = i).

    `extra` is added to each count, so that nothing is impossible.
    """
    raise NotImplementedError


def markov_nats(codes, first, transition):
    """codes (N, T), first (K,), transition (K, K) -> -ln p(codes) (N,)."""
    raise NotImplementedError


def sample_markov(uniforms, first, transition):
    """uniforms (N, T) in [0, 1), first (K,), transition (K, K) -> codes (N, T), position by position.

    A uniform picks a code with its probability: 0 picks the first that can occur, larger ones later codes.
    """
    raise NotImplementedError
