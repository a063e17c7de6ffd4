"""Exercise 13: backpropagation of the whole VAE, by hand. See exercises/13_backpropagation.md."""

import numpy as np

from vae_numpy import conv2d, conv_transpose2d, elbo_terms, linear, relu, reparameterize, sigmoid


def relu_backward(d_h, h):
    """h = relu(a), d_h of the same shape -> d_a."""
    return d_h * (h > 0)


def linear_backward(d_y, x, weight):
    """y = linear(x, weight, bias): d_y (B, O), x (B, C), weight (O, C) -> d_x, d_weight, d_bias."""
    return d_y @ weight, d_y.T @ x, d_y.sum(axis=0)


def conv2d_backward(d_y, x, weight, stride=2, padding=1):
    """y = conv2d(x, weight, bias, stride, padding) -> d_x, d_weight, d_bias.

    d_y (B, O, H', W'), x (B, C, H, W), weight (O, C, k, k).
    """
    (H, W), (H_out, W_out), k = x.shape[2:], d_y.shape[2:], weight.shape[-1]
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    d_padded, d_weight = np.zeros_like(padded), np.zeros_like(weight)
    for i in range(k):
        for j in range(k):
            under = np.s_[:, :, i : i + stride * H_out : stride, j : j + stride * W_out : stride]
            d_padded[under] += np.einsum("bohw,oc->bchw", d_y, weight[:, :, i, j], optimize=True)
            d_weight[:, :, i, j] = np.einsum("bohw,bchw->oc", d_y, padded[under], optimize=True)
    return d_padded[:, :, padding : padding + H, padding : padding + W], d_weight, d_y.sum(axis=(0, 2, 3))


def conv_transpose2d_backward(d_y, x, weight, stride=2, padding=1):
    """y = conv_transpose2d(x, weight, bias, stride, padding, any output_padding) -> d_x, d_weight, d_bias.

    d_y (B, O, H', W'), x (B, C, H, W), weight (C, O, k, k).
    """
    d_x = conv2d(d_y, weight, np.zeros(len(weight), d_y.dtype), stride, padding)
    _, d_weight, _ = conv2d_backward(x, d_y, weight, stride, padding)
    return d_x, d_weight, d_y.sum(axis=(0, 2, 3))


def bce_backward(x, x_logits):
    """x in [0, 1] and x_logits (B, 1, H, W) -> the derivative by x_logits of the batch's mean recon."""
    return (sigmoid(x_logits) - x) / len(x)


def reparameterize_backward(d_z, logvar, eps):
    """z = reparameterize(mu, logvar, eps); all (B, Z) -> d_mu, d_logvar."""
    return d_z, d_z * 0.5 * np.exp(0.5 * logvar) * eps


def kl_backward(mu, logvar):
    """mu, logvar (B, Z) -> the derivatives by both of the batch's mean kl."""
    return mu / len(mu), 0.5 * (np.exp(logvar) - 1) / len(mu)


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
    h, neg_elbo = forward(params, x, eps)
    mu, logvar, gradients = h["encoder.mu"], h["encoder.logvar"], {}

    def back(name, backward, d_y, of):
        d_x, *d_params = backward(d_y, of, params[f"{name}.weight"])
        gradients[f"{name}.weight"], gradients[f"{name}.bias"] = d_params
        return d_x

    def through(d_h, name):
        return relu_backward(d_h.reshape(h[name].shape), h[name])

    d = bce_backward(x, h["decoder.deconv2"])
    d = through(back("decoder.deconv2", conv_transpose2d_backward, d, h["decoder.deconv1"]), "decoder.deconv1")
    d = through(back("decoder.deconv1", conv_transpose2d_backward, d, h["decoder.fc2"]), "decoder.fc2")
    d = through(back("decoder.fc2", linear_backward, d.reshape(len(x), -1), h["decoder.fc1"]), "decoder.fc1")
    d_z = back("decoder.fc1", linear_backward, d, h["z"])
    of_z, of_kl = reparameterize_backward(d_z, logvar, eps), kl_backward(mu, logvar)
    d = back("encoder.mu", linear_backward, of_z[0] + of_kl[0], h["encoder.fc"])
    d = through(d + back("encoder.logvar", linear_backward, of_z[1] + of_kl[1], h["encoder.fc"]), "encoder.fc")
    flat = h["encoder.conv2"].reshape(len(x), -1)
    d = through(back("encoder.fc", linear_backward, d, flat), "encoder.conv2")
    d = through(back("encoder.conv2", conv2d_backward, d, h["encoder.conv1"]), "encoder.conv1")
    back("encoder.conv1", conv2d_backward, d, x)
    return neg_elbo, gradients
