"""Exercise 9: a VAE that is told the label, and what the label is worth. See exercises/09_conditional.md."""

import numpy as np


def label_maps(x, y, classes=10):
    """x (B, C, H, W), y (B,) in 0 .. classes-1 -> (B, C + classes, H, W): x, then one map for each class, 0 or 1."""
    B, _, H, W = x.shape
    maps = np.zeros((B, classes, H, W), x.dtype)
    maps[np.arange(B), y] = 1
    return np.concatenate([x, maps], axis=1)


def label_beside(z, y, classes=10):
    """z (B, Z), y (B,) in 0 .. classes-1 -> (B, Z + classes): z, then one number for each class, 0 or 1."""
    return np.concatenate([z, np.eye(classes, dtype=z.dtype)[y]], axis=1)


def class_by_style(decode, z, classes=10):
    """decode: z (M, Z), y (M,) -> (M, ...); z (N, Z) -> (N, classes, ...): row n has style z_n, column k class k."""
    return np.stack([decode(z, np.full(len(z), label)) for label in range(classes)], axis=1)


def log_p_x(log_p):
    """log p(x|y) for every label, (B, classes) -> log p(x) (B,), the labels being equally likely."""
    highest = log_p.max(axis=1, keepdims=True)
    return highest[:, 0] + np.log(np.exp(log_p - highest).mean(axis=1))


def label_gain(log_p, y):
    """log p(x|y) for every label, (B, classes), and the true labels y (B,) -> log p(x|y) - log p(x) (B,)."""
    return log_p[np.arange(len(y)), y] - log_p_x(log_p)


def label_posterior(log_p):
    """log p(x|y) for every label, (B, classes) -> p(y|x) (B, classes)."""
    return np.exp(log_p - log_p_x(log_p)[:, None]) / log_p.shape[1]


def blind_encoder_cost(log_p, mu, var):
    """log p(x|y) (B, classes) and the posteriors p(z|x,y) = N(mu_y, var) of every label: mu (B, classes, Z), var (Z,).

    -> (B,): the nats that the best encoder q(z|x) loses against one that is told the label.
    """
    p = label_posterior(log_p)[:, :, None]
    mean = (p * mu).sum(axis=1, keepdims=True)
    return 0.5 * (p * (mu - mean) ** 2 / var).sum(axis=(1, 2))
