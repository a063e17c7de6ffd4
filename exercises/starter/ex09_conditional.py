"""Exercise 9: a VAE that is told the label, and what the label is worth. See exercises/09_conditional.md."""

import numpy as np  # noqa: F401
import torch  # noqa: F401
import torch.nn.functional as F  # noqa: F401


def encode(params, x, y, classes=10):
    """x (B, 1, 28, 28) in [0, 1], y (B,) in 0 .. classes-1 -> mu, logvar (B, Z) of q(z|x, y).

    params: name -> tensor, with the names and shapes of README.md, but encoder.conv1.weight (32, 1 + classes, 3, 3).
    """
    raise NotImplementedError


def decode(params, z, y, classes=10):
    """z (B, Z), y (B,) -> x_logits (B, 1, 28, 28) of p(x|z, y); decoder.fc1.weight is (256, Z + classes)."""
    raise NotImplementedError


def objective(params, x, y, eps, classes=10):
    """x (B, 1, 28, 28), y (B,), eps (B, Z) -> recon (B,), kl (B,), and loss: their sum, a mean over the batch."""
    raise NotImplementedError


def log_p_x(log_p):
    """log p(x|y) for every label, (B, classes) -> log p(x) (B,), the labels being equally likely."""
    raise NotImplementedError


def label_gain(log_p, y):
    """log p(x|y) for every label, (B, classes), and the true labels y (B,) -> log p(x|y) - log p(x) (B,)."""
    raise NotImplementedError


def label_posterior(log_p):
    """log p(x|y) for every label, (B, classes) -> p(y|x) (B, classes)."""
    raise NotImplementedError


def blind_encoder_cost(log_p, mu, var):
    """log p(x|y) (B, classes) and the posteriors p(z|x,y) = N(mu_y, var) of every label: mu (B, classes, Z), var (Z,).

    -> (B,): the nats that the best encoder q(z|x) loses against one that is told the label.
    """
    raise NotImplementedError
