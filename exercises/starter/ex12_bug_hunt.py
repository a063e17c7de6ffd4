"""Exercise 12: fourteen programs with one mistake each. See exercises/12_bug_hunt.md."""

from statistics import NormalDist

import numpy as np
import torch
from torch.nn import functional as F

DIAGNOSIS = {  # program: the invariant that it breaks
    "sample_with_gradient": "",
    "training_terms": "",
    "warmup_terms": "",
    "decode": "",
    "bytes_recon": "",
    "evaluate": "",
    "capacity": "",
    "mutual_information": "",
    "importance_bound": "",
    "vq_terms": "",
    "critic_losses": "",
    "label_information": "",
    "quantile_walk": "",
    "gradient_error": "",
}

# --- two terms that several programs use; both are right ----------------------------------------------------------


def recon_of(x, x_logits):
    """-log p(x|z) of x, x_logits (B, 1, H, W) -> (B,), in nats."""
    return (np.maximum(x_logits, 0) - x_logits * x + np.log1p(np.exp(-np.abs(x_logits)))).sum(axis=(1, 2, 3))


def kl_of(mu, logvar):
    """KL(N(mu, std^2) || N(0, I)) of mu, logvar (B, Z) -> (B,), in nats."""
    return 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum(axis=1)


# --- the programs -------------------------------------------------------------------------------------------------


def sample_with_gradient(mu, logvar, eps, grad_z):
    """z ~ N(mu, exp(logvar)) from eps ~ N(0, I), and from dL/dz the gradients dL/dmu, dL/dlogvar; all (B, Z)."""
    std = np.exp(logvar)
    z = mu + std * eps
    grad_mu = grad_z
    grad_logvar = grad_z * eps * std
    return z, grad_mu, grad_logvar


def training_terms(x, x_logits, mu, logvar):
    """The loss to minimise, and recon and KL for the log; (B,) each, in nats."""
    recon = recon_of(x, x_logits)
    kl = 0.5 * (1 + logvar - mu**2 - np.exp(logvar)).sum(axis=1)
    return recon - kl, recon, kl


def warmup_terms(x, x_logits, mu, logvar, step, warmup=1000):
    """The objective, whose KL has a weight that grows from 0 to 1 in `warmup` steps, and recon and KL for the log."""
    weight = min(1.0, step / warmup)
    recon = recon_of(x, x_logits)
    kl = weight * kl_of(mu, logvar)
    return recon + kl, recon, kl


def decode(layers, z):
    """z (B, Z) through layers [(weight, bias), ...] -> x_logits for the loss, x_mean in [0, 1] for pictures."""
    h = z
    for weight, bias in layers:
        h = 1 / (1 + np.exp(-(h @ weight + bias)))
    x_logits = h
    return x_logits, 1 / (1 + np.exp(-x_logits))


def bytes_recon(pixels, x_logits):
    """recon (B,), in nats, of pixels (B, 1, H, W) from a file: uint8, black is 0 and white 255."""
    x = pixels.astype(x_logits.dtype)
    return recon_of(x, x_logits)


def evaluate(x, x_logits, mu, logvar, batch=25):
    """recon and KL of a test set of any size: means over its images, gathered `batch` images at a time."""
    recon = kl = 0.0
    for start in range(0, len(x), batch):
        part = slice(start, start + batch)
        recon += recon_of(x[part], x_logits[part]).sum()
        kl += kl_of(mu[part], logvar[part]).sum()
        return recon / len(x), kl / len(x)


def capacity(most, steps):
    """penalty(kl, training) = |kl - C| with a C that grows: in training step n it is most n / steps, at last `most`.

    kl (B,) -> (B,). Validation, training=False, has the C of the training step before it, and 0 before the first.
    """
    step = 0

    def penalty(kl, training):
        nonlocal step
        step += 1
        return np.abs(kl - most * min(1, step / steps))

    return penalty


def mutual_information(z, mu, logvar):
    """I(x; z) of N images in nats, from one z of each: E[log q(z|x) - log q(z)], where q(z) = 1/N sum_n q(z|x_n)."""
    N = len(mu)
    log_q = -0.5 * ((z[:, None] - mu) ** 2 / np.exp(logvar) + logvar)  # (N, N, Z): of z_i under q(z|x_n)
    own = log_q.sum(axis=2).diagonal()
    mixture = np.logaddexp.reduce((log_q - np.log(N)).sum(axis=2), axis=1)
    return (own - mixture).mean()


def importance_bound(log_w):
    """L_K = log 1/K sum_k w_k of log_w (B, K) -> (B,), in nats."""
    loss = -log_w
    most = loss.max(axis=1, keepdims=True)
    mean = np.exp(loss - most).mean(axis=1)
    return -(most[:, 0] + np.log(mean))


def vq_terms(x, x_out, h, codes, commitment=0.25):
    """recon and vq of x, x_out (B, ...), h (B, L, D) and codes (K, D): sums over an image, means over the batch."""
    distance = ((h[:, :, None] - codes) ** 2).sum(axis=3)  # (B, L, K)
    nearest = codes[distance.argmin(axis=2)]
    recon = ((x - x_out) ** 2).sum() / len(x)
    codebook = ((h - nearest) ** 2).sum()
    return recon, codebook + commitment * codebook


def critic_losses(z, order, critic):
    """tc trains the encoder, which made z (B, Z); loss trains the critic alone, to tell z from independent latents.

    critic(z) (B, 2): logits for "z" and "independent". order (B, Z): which image each latent is taken from.
    """
    joint = critic(z)
    tc = (joint[:, 0] - joint[:, 1]).mean()
    mixed = critic(z.detach().gather(0, order))
    labels = torch.zeros(len(z), dtype=torch.long)
    loss = F.cross_entropy(joint, labels) + F.cross_entropy(mixed, labels + 1)
    return tc, 0.5 * loss


def label_information(mu, labels, bins=8):
    """What each latent tells of the label: mu (N, Z), cut into bins at its quantiles; labels (N,) -> (Z,), in nats."""
    N, Z = mu.shape
    nats = np.zeros(Z)
    for d, codes in enumerate(mu.reshape(Z, N)):
        edges = np.quantile(codes, np.arange(1, bins) / bins)
        joint = np.zeros((bins, labels.max() + 1))
        np.add.at(joint, (np.searchsorted(edges, codes), labels), 1 / N)
        independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
        seen = joint > 0
        nats[d] = (joint[seen] * np.log(joint[seen] / independent[seen])).sum()
    return nats


def quantile_walk(mu, dim, steps=7):
    """Codes (steps, Z): the mean of the codes mu (N, Z), with `dim` walking through its quantiles, 5 % to 95 %."""
    z = np.repeat(mu.mean(axis=0, keepdims=True), steps, axis=0)
    shares = np.linspace(0.05, 0.95, steps)
    z[:, dim] = [NormalDist().inv_cdf(share) for share in shares]
    return z


def gradient_error(loss, gradient, x, step=1e-5):
    """How far gradient(x) is from central differences of loss(x): the largest error over the largest difference."""
    analytic = gradient(x)
    numeric = np.asarray(analytic)
    for index in np.ndindex(x.shape):
        h = np.zeros_like(x)
        h[index] = step
        numeric[index] = (loss(x + h) - loss(x - h)) / (2 * step)
    return np.abs(numeric - analytic).max() / np.abs(numeric).max()
