"""Exercise 13: backpropagation of the whole VAE, by hand. See exercises/13_backpropagation.md."""

import numpy as np  # noqa: F401

from vae_numpy import conv2d, conv_transpose2d, elbo_terms, linear, relu, reparameterize, sigmoid  # noqa: F401


def relu_backward(d_h, h):
    """h = relu(a), d_h of the same shape -> d_a."""
    raise NotImplementedError


def linear_backward(d_y, x, weight):
    """y = linear(x, weight, bias): d_y (B, O), x (B, C), weight (O, C) -> d_x, d_weight, d_bias."""
    raise NotImplementedError


def conv2d_backward(d_y, x, weight, stride=2, padding=1):
    """y = conv2d(x, weight, bias, stride, padding) -> d_x, d_weight, d_bias.

    d_y (B, O, H', W'), x (B, C, H, W), weight (O, C, k, k).
    """
    raise NotImplementedError


def conv_transpose2d_backward(d_y, x, weight, stride=2, padding=1):
    """y = conv_transpose2d(x, weight, bias, stride, padding, any output_padding) -> d_x, d_weight, d_bias.

    d_y (B, O, H', W'), x (B, C, H, W), weight (C, O, k, k).
    """
    raise NotImplementedError


def bce_backward(x, x_logits):
    """x in [0, 1] and x_logits (B, 1, H, W) -> the derivative by x_logits of the batch's mean recon."""
    raise NotImplementedError


def reparameterize_backward(d_z, logvar, eps):
    """z = reparameterize(mu, logvar, eps); all (B, Z) -> d_mu, d_logvar."""
    raise NotImplementedError


def kl_backward(mu, logvar):
    """mu, logvar (B, Z) -> the derivatives by both of the batch's mean kl."""
    raise NotImplementedError


def forward(params, x, eps):
    """Given: level 1's network. -> each layer's output by its name, after the ReLU if it has one, and neg_elbo."""
    h = {"x": x}

    def run(name, primitive, of):
        return primitive(of, params[f"{name}.weight"], params[f"{name}.bias"])

    h["encoder.conv1"] = relu(run("encoder.conv1", conv2d, x))
    h["encoder.conv2"] = relu(run("encoder.conv2", conv2d, h["encoder.conv1"]))
    h["encoder.fc"] = relu(run("encoder.fc", linear, h["encoder.conv2"].reshape(len(x), -1)))
    h["encoder.mu"] = run("encoder.mu", linear, h["encoder.fc"])
    h["encoder.logvar"] = run("encoder.logvar", linear, h["encoder.fc"])
    h["z"] = reparameterize(h["encoder.mu"], h["encoder.logvar"], eps)
    h["decoder.fc1"] = relu(run("decoder.fc1", linear, h["z"]))
    h["decoder.fc2"] = relu(run("decoder.fc2", linear, h["decoder.fc1"])).reshape(len(x), 64, 7, 7)
    h["decoder.deconv1"] = relu(run("decoder.deconv1", conv_transpose2d, h["decoder.fc2"]))
    h["decoder.deconv2"] = run("decoder.deconv2", conv_transpose2d, h["decoder.deconv1"])  # the logits
    recon, kl = elbo_terms(x, h["decoder.deconv2"], h["encoder.mu"], h["encoder.logvar"])
    return h, (recon + kl).mean()


def vae_backward(params, x, eps):
    """params as level 1 has them, x (B, 1, 28, 28), eps (B, Z) -> neg_elbo, the mean over the batch of recon + kl,
    and a dict with the derivative of it by every parameter, under the parameter's name.
    """
    raise NotImplementedError
