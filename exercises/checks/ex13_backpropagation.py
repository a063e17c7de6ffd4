"""What exercise 13 asks for, compared with PyTorch's autograd, layer by layer and through level 2's whole network."""

import functools

import numpy as np
import torch
import torch.nn.functional as F

import vae_lowlevel as lowlevel
import vae_numpy as right
from checks.ex03_convolution import lost, overwritten
from checks.judging import Mismatch, agree, agree_on_cases, agree_on_each, misweighed, values_of
from vae_common.spec import VAESpec

FORBIDDEN = ("torch", "vae_lowlevel", "conv_vae")  # autograd gives the answer
OF_A_LAYER = ("d_x", "d_weight", "d_bias")


def by_autograd(function, d_y, *arrays):
    """The derivatives of <d_y, function(*arrays)> by each of the arrays."""
    leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    function(*leaves).backward(torch.tensor(d_y))
    return [leaf.grad.numpy() for leaf in leaves]


def part_relu(work, rng):
    """relu_backward: what was cut off has no derivative"""
    cases = []
    for shape, dtype in (((5, 7), np.float64), ((1, 2, 3, 3), np.float64), ((3, 4), np.float32)):
        d_h, a = (rng.normal(size=shape).astype(dtype) for _ in range(2))
        cases.append(dict(d_h=d_h, h=np.maximum(a, 0)))

    def mistakes(y, d_h, h):
        return {
            "d_h goes through everywhere; where h is 0 the ReLU was flat.": d_h,
            "The ReLU of d_h: what counts is where h is above 0, not d_h.": np.maximum(d_h, 0),
        }

    agree_on_cases("relu_backward", work.relu_backward, lambda d_h, h: d_h * (h > 0), cases, mistakes, "the-maths")


def linear_grads(d_y, x, weight):
    return by_autograd(F.linear, d_y, x, weight, np.zeros(len(weight), x.dtype))


def part_linear(work, rng):
    """linear_backward: two matrix products and a sum"""
    cases = []
    for B, C, O, dtype in ((3, 3, 3, np.float64), (5, 4, 2, np.float64), (1, 3, 1, np.float64), (7, 2, 6, np.float32)):
        d_y, x, weight = (rng.normal(size=shape).astype(dtype) for shape in ((B, O), (B, C), (O, C)))
        cases.append(dict(d_y=d_y, x=x, weight=weight))

    def mistakes(y, d_y, x, weight):
        square = weight.shape[0] == weight.shape[1]
        return {"The weight is transposed: y = x W^T, and the way back is W.": d_y @ weight.T} if square else {}, {}, {}

    agree_on_each(OF_A_LAYER, "linear_backward", work.linear_backward, linear_grads, cases, mistakes, "the-maths")


# B, C, O, H', W', k, stride, padding, remainder: the input is as large as makes H' x W' and leaves `remainder` over
SHAPES = (
    (3, 2, 2, 3, 3, 3, 2, 1, 0),
    (2, 3, 2, 4, 3, 3, 2, 1, 1),
    (1, 1, 4, 3, 4, 4, 3, 0, 2),
    (3, 2, 3, 5, 5, 2, 1, 0, 0),
    (1, 2, 1, 2, 3, 5, 2, 2, 1),
)


def conv_cases(rng, transposed):
    """Cases {d_y, x, weight, stride, padding} for conv2d, or for its transpose; the last leaves the two out."""
    cases = []
    for dtype in (np.float64, np.float32):
        for B, C, O, H, W, k, stride, padding, left in SHAPES:
            large = (B, C, *((side - 1) * stride - 2 * padding + k + left for side in (H, W)))
            shapes = ((B, O, H, W), large, (O, C, k, k))
            small_one, large_one, weight = (rng.normal(size=shape).astype(dtype) for shape in shapes)
            d_y, x = (large_one, small_one) if transposed else (small_one, large_one)
            cases.append(dict(d_y=d_y, x=x, weight=weight, stride=stride, padding=padding))
    return [*cases, {name: cases[0][name] for name in ("d_y", "x", "weight")}]  # the first has the defaults, 2 and 1


def conv_grads(d_y, x, weight, stride=2, padding=1):
    def conv(x, weight, bias):
        return F.conv2d(x, weight, bias, stride, padding)

    return by_autograd(conv, d_y, x, weight, np.zeros(len(weight), x.dtype))


def transpose_grads(d_y, x, weight, stride=2, padding=1):
    (H_out, W_out), (H, W), k = d_y.shape[2:], x.shape[2:], weight.shape[-1]
    extra = tuple(out - ((side - 1) * stride - 2 * padding + k) for out, side in ((H_out, H), (W_out, W)))

    def conv(x, weight, bias):
        return F.conv_transpose2d(x, weight, bias, stride, padding, extra)

    return by_autograd(conv, d_y, x, weight, np.zeros(weight.shape[1], x.dtype))


def part_conv2d(work, rng):
    """conv2d_backward: scatter d_y, and meet the patches again"""

    def mistakes(y, d_y, x, weight, stride=2, padding=1):
        extra, none = lost(x.shape[2], weight.shape[3], stride, padding), np.zeros(x.shape[1], x.dtype)
        stamped = overwritten(d_y, weight, none, stride, padding, extra)
        turned = conv_grads(d_y, x, weight[:, :, ::-1, ::-1].copy(), stride, padding)[0]
        of_x = {
            "The kernel is turned round: what was read with weight[.., i, j] gets d_y back with the same one.": turned,
            "A pixel lies under several places, and what comes back from them adds: += instead of =.": stamped,
        }
        return of_x, {}, {}

    read, function, cases = "back-through-a-convolution", work.conv2d_backward, conv_cases(rng, False)
    agree_on_each(OF_A_LAYER, "conv2d_backward", function, conv_grads, cases, mistakes, read)


def part_conv_transpose2d(work, rng):
    """conv_transpose2d_backward: gather d_y"""

    def mistakes(y, d_y, x, weight, stride=2, padding=1):
        turned = transpose_grads(d_y, x, weight[:, :, ::-1, ::-1].copy(), stride, padding)[0]
        said = "The kernel is turned round: what was stamped with weight[.., i, j] is gathered with the same one."
        return {said: turned}, {}, {}

    read, function, cases = "back-through-a-convolution", work.conv_transpose2d_backward, conv_cases(rng, True)
    agree_on_each(OF_A_LAYER, "conv_transpose2d_backward", function, transpose_grads, cases, mistakes, read)


def bce_grad(x, x_logits):
    [d_logits] = by_autograd(
        lambda logits: lowlevel.bernoulli_recon(torch.tensor(x), logits).mean(), np.ones((), x.dtype), x_logits
    )
    return d_logits


def part_bce(work, rng):
    """bce_backward: where the chain begins"""
    cases = []
    for B, side, dtype, scale in ((5, 4, np.float64, 3), (1, 3, np.float64, 3), (3, 5, np.float32, 200)):
        x, x_logits = rng.random((B, 1, side, side)), scale * rng.uniform(-1, 1, (B, 1, side, side))
        x[:, :, 0], x[:, :, 1] = 0, 1
        cases.append(dict(x=x.astype(dtype), x_logits=x_logits.astype(dtype)))

    def mistakes(y, x, l):
        return {
            "Logits are no probabilities: their sigmoid is compared with x.": (l - x) / len(x),
            "sigmoid's own slope s (1 - s) is in it. It cancels against the derivative of the logarithms; with it, "
            "that is half the derivative of a squared error.": y * right.sigmoid(l) * (1 - right.sigmoid(l)),
        }

    agree_on_cases("bce_backward", work.bce_backward, bce_grad, cases, mistakes, "the-two-ends")


OF_Q = ("d_mu", "d_logvar")


def posteriors(rng):
    for B, Z, dtype in ((5, 3, np.float64), (1, 4, np.float64), (3, 1, np.float32)):
        yield [rng.normal(size=(B, Z)).astype(dtype) for _ in range(3)]


def draw_grads(d_z, logvar, eps):
    return by_autograd(
        lambda mu, logvar: lowlevel.reparameterize(mu, logvar, torch.tensor(eps)), d_z, 0 * logvar, logvar
    )


def kl_grads(mu, logvar):
    return by_autograd(lambda *q: lowlevel.gaussian_kl(*q).mean(), np.ones((), mu.dtype), mu, logvar)


def part_reparameterize(work, rng):
    """reparameterize_backward: along the path through z"""
    cases = [dict(zip(("d_z", "logvar", "eps"), case, strict=True)) for case in posteriors(rng)]

    def mistakes(y, d_z, v, eps):
        by_sigma = "That is the derivative by sigma; by logvar it is times d sigma / d logvar = sigma / 2."
        return (
            {"z moves with mu one to one, whatever the noise: d_mu is d_z.": d_z * eps},
            {by_sigma: d_z * eps, "sigma^2 where sigma belongs.": d_z * 0.5 * np.exp(v) * eps},
        )

    function = work.reparameterize_backward
    agree_on_each(OF_Q, "reparameterize_backward", function, draw_grads, cases, mistakes, "the-two-ends")


def part_kl(work, rng):
    """kl_backward: the pull towards the prior"""
    cases = [dict(mu=mu, logvar=logvar) for mu, logvar, _ in posteriors(rng)]

    def mistakes(y, mu, v):
        B, std = len(mu), np.exp(0.5 * v)
        by_sigma = "That is the derivative by sigma: by logvar it is times sigma / 2."
        minus_1 = {"the -1, which comes from -logvar and holds sigma at 1": -0.5 / B}
        return {}, {by_sigma: (std - 1 / std) / B, **misweighed(y[1], minus_1)}

    agree_on_each(OF_Q, "kl_backward", work.kl_backward, kl_grads, cases, mistakes, "the-two-ends")


BACKWARDS = ("decoder.deconv2", "decoder.deconv1", "decoder.fc2", "decoder.fc1", "encoder.mu", "encoder.logvar",
             "encoder.fc", "encoder.conv2", "encoder.conv1")  # fmt: skip


@functools.lru_cache(maxsize=4)
def network(latent_dim: int, dtype: str) -> dict[str, np.ndarray]:
    return {name: value.astype(dtype) for name, value in VAESpec(latent_dim).init_params(0).items()}


def level_2(params, x, eps):
    """neg_elbo and its derivatives as level 2 has them."""
    t, x = lowlevel.to_tensors(params), torch.tensor(x)
    recon, kl = lowlevel.elbo_terms(x, *lowlevel.forward(t, x, torch.tensor(eps)))
    (recon + kl).mean().backward()
    return (recon + kl).mean().item(), {name: value.grad.numpy() for name, value in t.items()}


def judge_network(work, params, x, eps):
    what, read = f"vae_backward with B = {len(x)}, Z = {eps.shape[1]} in {x.dtype}", "the-whole-network"
    got_elbo, got = values_of(("neg_elbo", "gradients"), "vae_backward", work.vae_backward(params, x, eps), read)
    neg_elbo, expected = level_2(params, x, eps)
    agree(f"neg_elbo of {what}", got_elbo, np.asarray(neg_elbo, x.dtype), read=read, inputs=str(x.dtype))
    if not isinstance(got, dict) or set(got) != set(expected):
        shown = sorted(got)[:3] if isinstance(got, dict) else type(got).__name__
        raise Mismatch(f"gradients of {what}", "a dict with every parameter's name and no other", shown, read=read)
    for layer in BACKWARDS:  # in the order in which they come, so that the first that differs is where to look
        for name in (f"{layer}.bias", f"{layer}.weight"):
            said, sizes = f"the derivative by {name}, {what}", {"the number of images": len(x)}
            agree(said, got[name], expected[name], read=read, inputs=str(x.dtype), sizes=sizes)


def part_vae(work, rng):
    """vae_backward: every parameter, against level 2's backward()"""
    for B, Z, dtype in ((3, 2, "float64"), (1, 1, "float32")):
        params = {name: value * value.dtype.type(rng.uniform(0.7, 1.4)) for name, value in network(Z, dtype).items()}
        x, eps = rng.random((B, 1, 28, 28)).astype(dtype), 2 * rng.normal(size=(B, Z)).astype(dtype)
        judge_network(work, params, x, eps)


HINTS = (
    "relu_backward: where h is above 0 the derivative goes through, elsewhere nothing does.",
    "relu_backward: h > 0 is an array of True and False, of the shape of d_h, and counts as 1 and 0 in a product.",
    "relu_backward: d_h * (h > 0)",
    "linear_backward: x and weight were multiplied, so each gets d_y times the other. The bias was added to every row.",
    "linear_backward: only one product of d_y (B, O) and weight (O, C) has the shape of x, and only one of d_y and x "
    "has that of weight.",
    "linear_backward: d_y @ weight, d_y.T @ x, d_y.sum(axis=0)",
    "conv2d_backward: write the forward as in exercise 3, a loop over the places (i, j), each with the pixels `under` "
    "it. There, d_y times weight[:, :, i, j] is added to these pixels of a canvas, and d_y times them is d_weight's.",
    "conv2d_backward: the canvas has the padded image's shape; cut the padding off. The bias gets a sum over b, h, w.",
    'conv2d_backward: d_weight[:, :, i, j] = np.einsum("bohw,bchw->oc", d_y, under); for the pixels '
    'np.einsum("bohw,oc->bchw", d_y, weight[:, :, i, j]).',
    "conv_transpose2d_backward: it was the adjoint of a conv2d, so d_x is that conv2d of d_y.",
    "conv_transpose2d_backward: d_weight is that of the conv2d which takes d_y to x: its input is d_y, its d_y is x.",
    "conv_transpose2d_backward: conv2d_backward(x, d_y, weight, stride, padding)[1]; d_bias d_y.sum(axis=(0, 2, 3)).",
    "bce_backward: differentiate max(l, 0) - l x + log(1 + exp(-|l|)), for l above 0 and below. Is it one expression?",
    "bce_backward: the shape of x_logits. The batch's mean brings a 1/B, the sum over the pixels nothing.",
    "bce_backward: (sigmoid(x_logits) - x) / len(x)",
    "reparameterize_backward: z = mu + exp(logvar / 2) eps, entry by entry: what is its derivative by mu, by logvar?",
    "reparameterize_backward: both (B, Z), each d_z times that derivative.",
    "reparameterize_backward: d_z, d_z * 0.5 * np.exp(0.5 * logvar) * eps",
    "kl_backward: an image's kl is (mu^2 + exp(logvar) - logvar - 1) / 2, summed over Z; then the mean over B.",
    "kl_backward: both (B, Z); a sum over Z brings no factor, the mean over B a 1/B.",
    "kl_backward: mu / len(mu), 0.5 * (np.exp(logvar) - 1) / len(mu)",
    "vae_backward: call forward, begin with bce_backward, and go through the layers from the last to the first: first "
    "its primitive's backward with what it has read, then relu_backward with that same array.",
    "vae_backward: where an array was reshaped on the way, reshape its derivative back. A dict of every parameter.",
    "vae_backward: at mu and logvar add kl_backward's; at encoder.fc add the d_x of both before its relu_backward.",
)
