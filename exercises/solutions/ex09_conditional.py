"""Exercise 9: a VAE that is told the label, and what the label is worth. See exercises/09_conditional.md."""

import numpy as np
import torch
import torch.nn.functional as F


def encode(params, x, y, classes=10):
    """x (B, 1, 28, 28) in [0, 1], y (B,) in 0 .. classes-1 -> mu, logvar (B, Z) of q(z|x, y).

    params: name -> tensor, with the names and shapes of README.md, but encoder.conv1.weight (32, 1 + classes, 3, 3).
    """
    maps = F.one_hot(y, classes).to(x)[:, :, None, None].expand(-1, -1, 28, 28)
    h = torch.cat([x, maps], dim=1)
    h = F.relu(F.conv2d(h, params["encoder.conv1.weight"], params["encoder.conv1.bias"], stride=2, padding=1))
    h = F.relu(F.conv2d(h, params["encoder.conv2.weight"], params["encoder.conv2.bias"], stride=2, padding=1))
    h = F.relu(F.linear(h.flatten(1), params["encoder.fc.weight"], params["encoder.fc.bias"]))
    mu = F.linear(h, params["encoder.mu.weight"], params["encoder.mu.bias"])
    return mu, F.linear(h, params["encoder.logvar.weight"], params["encoder.logvar.bias"])


def decode(params, z, y, classes=10):
    """z (B, Z), y (B,) -> x_logits (B, 1, 28, 28) of p(x|z, y); decoder.fc1.weight is (256, Z + classes)."""
    h = torch.cat([z, F.one_hot(y, classes).to(z)], dim=1)
    h = F.relu(F.linear(h, params["decoder.fc1.weight"], params["decoder.fc1.bias"]))
    h = F.relu(F.linear(h, params["decoder.fc2.weight"], params["decoder.fc2.bias"])).reshape(-1, 64, 7, 7)
    up = dict(stride=2, padding=1, output_padding=1)
    h = F.relu(F.conv_transpose2d(h, params["decoder.deconv1.weight"], params["decoder.deconv1.bias"], **up))
    return F.conv_transpose2d(h, params["decoder.deconv2.weight"], params["decoder.deconv2.bias"], **up)


def objective(params, x, y, eps, classes=10):
    """x (B, 1, 28, 28), y (B,), eps (B, Z) -> recon (B,), kl (B,), and loss: their sum, a mean over the batch."""
    mu, logvar = encode(params, x, y, classes)
    z = mu + torch.exp(0.5 * logvar) * eps
    x_logits = decode(params, z, y, classes)
    recon = F.binary_cross_entropy_with_logits(x_logits, x, reduction="none").sum(dim=(1, 2, 3))
    kl = 0.5 * (mu**2 + torch.exp(logvar) - 1 - logvar).sum(dim=1)
    return recon, kl, (recon + kl).mean()


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
