"""What exercise 13 asks for, compared with PyTorch's autograd, layer by layer and through level 2's whole network."""

import functools

import numpy as np
import torch
import torch.nn.functional as F

import vae_lowlevel as lowlevel
import vae_numpy as right
from checks.judging import Mismatch, Wrong, agree, agree_on_cases, close, numbers
from vae_common.spec import VAESpec

FORBIDDEN = ("torch", "vae_lowlevel", "conv_vae")  # autograd gives the answer
PAGE = "13_backpropagation.md"
PARTS_OF_A_LAYER = ("d_x", "d_weight", "d_bias")


def by_autograd(function, d_y, *arrays):
    """The derivatives of <d_y, function(*arrays)> by each of the arrays."""
    leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    function(*leaves).backward(torch.tensor(d_y))
    return [leaf.grad.numpy() for leaf in leaves]


def pieces(answer, names, name):
    """The answer, which must be as many arrays as there are names."""
    if not isinstance(answer, (tuple, list)) or len(answer) != len(names):
        found = type(answer).__name__ + (f" of {len(answer)}" if isinstance(answer, (tuple, list)) else "")
        raise Mismatch(f"{name}(...)", f"{len(names)} arrays: {', '.join(names)}", found)
    return answer


def agree_on_pieces(name, function, expected, names, cases, mistakes, read):
    """agree_on_cases for each of the arrays that are returned; mistakes: name -> text -> function."""
    for index, piece in enumerate(names):
        agree_on_cases(
            f"{piece} of {name}",
            lambda *case, index=index: pieces(function(*case), names, name)[index],
            lambda *case, index=index: expected(*case)[index],
            cases,
            mistakes=mistakes.get(piece),
            read=read,
        )


# --- relu and linear ----------------------------------------------------------------------------------------------


def part_relu(work, rng):
    """relu_backward: what was cut off has no derivative"""
    cases = []
    for shape, dtype in (((5, 7), np.float64), ((1, 2, 3, 3), np.float64), ((3, 4), np.float32)):
        d_h, a = (rng.normal(size=shape).astype(dtype) for _ in range(2))
        cases.append(dict(d_h=d_h, h=np.maximum(a, 0)))
    mistakes = {
        "d_h goes through everywhere; where h is 0 the ReLU was flat.": lambda d_h, h: d_h,
        "The ReLU of d_h: what counts is where h is above 0, not d_h.": lambda d_h, h: np.maximum(d_h, 0),
        "d_h times h; the slope is 1 where h is above 0, and 0 elsewhere.": lambda d_h, h: d_h * h,
        "The other way round: it goes through where h is above 0.": lambda d_h, h: d_h * (h <= 0),
        "That is the slope alone; it is to be multiplied with d_h.": lambda d_h, h: (h > 0) + 0 * d_h,
    }
    agree_on_cases(
        "relu_backward", work.relu_backward, lambda d_h, h: d_h * (h > 0), cases, mistakes=mistakes,
        read=f"{PAGE}#the-maths",
    )  # fmt: skip


def linear_grads(d_y, x, weight):
    d_x, d_weight, d_bias = by_autograd(F.linear, d_y, x, weight, np.zeros(len(weight), x.dtype))
    return d_x, d_weight, d_bias


def part_linear(work, rng):
    """linear_backward: two matrix products and a sum"""
    cases = []
    for B, C, O, dtype in ((3, 3, 3, np.float64), (5, 4, 2, np.float64), (1, 3, 1, np.float64), (7, 2, 6, np.float32)):
        d_y, x, weight = (rng.normal(size=shape).astype(dtype) for shape in ((B, O), (B, C), (O, C)))
        cases.append(dict(d_y=d_y, x=x, weight=weight))
    over_b = "d_y holds the 1/B of the mean already, from the loss: the images' shares are added up, not averaged."
    mistakes = {
        "d_x": {"The weight is transposed: y = x W^T, and the way back is W.": lambda d_y, x, w: d_y @ w.T},
        "d_weight": {
            "The axes are exchanged: d_weight is (O, C) like the weight.": lambda d_y, x, w: x.T @ d_y,
            over_b: lambda d_y, x, w: d_y.T @ x / len(x),
        },
        "d_bias": {
            over_b: lambda d_y, x, w: d_y.mean(axis=0),
            "The bias is added to every image of the batch, so its derivatives are added up over the batch.": (
                lambda d_y, x, w: d_y
            ),
        },
    }  # fmt: skip
    agree_on_pieces("linear_backward", work.linear_backward, linear_grads, PARTS_OF_A_LAYER, cases, mistakes,
                    f"{PAGE}#the-maths")  # fmt: skip


# --- the two convolutions -----------------------------------------------------------------------------------------

# B, C, O, H', W', k, stride, padding, remainder: the input is as large as makes H' x W' and leaves `remainder` over
SHAPES = (
    (3, 2, 2, 3, 3, 3, 2, 1, 0),
    (2, 3, 2, 4, 3, 3, 2, 1, 1),
    (1, 1, 4, 3, 4, 4, 3, 0, 2),
    (3, 2, 3, 5, 5, 2, 1, 0, 0),
    (1, 2, 1, 2, 3, 5, 2, 2, 1),
)


def conv_cases(rng, transposed):
    """d_y, x, weight, stride, padding for conv2d, or for its transpose."""
    cases = []
    for dtype in (np.float64, np.float32):
        for B, C, O, H, W, k, stride, padding, left in SHAPES:
            large = (B, C, *((side - 1) * stride - 2 * padding + k + left for side in (H, W)))
            shapes = ((B, O, H, W), large, (O, C, k, k))
            small_one, large_one, weight = (rng.normal(size=shape).astype(dtype) for shape in shapes)
            d_y, x = (large_one, small_one) if transposed else (small_one, large_one)
            cases.append(dict(d_y=d_y, x=x, weight=weight, stride=stride, padding=padding))
    return cases


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


def flip(kernel):
    return kernel[:, :, ::-1, ::-1].copy()


def bias_mistakes():
    def sums(*axes):
        return lambda d_y, *rest: d_y.sum(axis=axes)

    return {
        "d_y holds the 1/B of the mean already, from the loss: it is added up over batch, rows and columns.": (
            lambda d_y, *rest: d_y.mean(axis=(0, 2, 3)),
            lambda d_y, *rest: d_y.sum(axis=(0, 2, 3)) / len(d_y),
        ),
        "The mean over the pixels was taken; the bias is added to every pixel, so their derivatives are added up.": (
            lambda d_y, *rest: d_y.mean(axis=(2, 3)).sum(axis=0)
        ),
        "The bias is one number for each channel: sum over the batch, the rows and the columns.": (
            sums(0),
            sums(2, 3),
            sums(0, 1),
            lambda d_y, *rest: d_y.sum(),
        ),
    }


def kernel_mistakes(grads):
    """Mistakes of d_weight, from the right d_x, d_weight, d_bias."""
    return {
        "d_weight's kernels are turned round by 180 degrees.": lambda *case: flip(grads(*case)[1]),
        "d_weight's rows and columns are exchanged.": lambda *case: grads(*case)[1].swapaxes(2, 3),
        "d_weight's first two axes are exchanged; it has the weight's layout.": lambda *case: grads(*case)[1].swapaxes(
            0, 1
        ),
        "d_y holds the 1/B of the mean already, from the loss: the images' shares are added up, not averaged.": (
            lambda d_y, *rest: grads(d_y, *rest)[1] / len(d_y)
        ),
    }


def overwritten(d_y, x, weight, stride, padding):
    """d_x where patches were stamped one over the other."""
    (H, W), (H_out, W_out), k = x.shape[2:], d_y.shape[2:], weight.shape[-1]
    canvas = np.zeros((*x.shape[:2], H + 2 * padding, W + 2 * padding), x.dtype)
    for i in range(k):
        for j in range(k):
            stamp = np.einsum("bohw,oc->bchw", d_y, weight[:, :, i, j])
            canvas[:, :, i : i + stride * H_out : stride, j : j + stride * W_out : stride] = stamp
    return canvas[:, :, padding : padding + H, padding : padding + W]


def part_conv2d(work, rng):
    """conv2d_backward: scatter d_y, and meet the patches again"""
    turned = "The kernel is turned round: a pixel that was read with weight[.., i, j] gets d_y back with the same one."
    mistakes = {
        "d_x": {
            turned: lambda d_y, x, w, *how: conv_grads(d_y, x, flip(w), *how)[0],
            "The kernel's rows and columns are exchanged.": lambda d_y, x, w, *how: conv_grads(
                d_y, x, w.swapaxes(2, 3).copy(), *how
            )[0],
            "A pixel lies under several places of the kernel, and what comes back from them adds: += instead of =.": (
                overwritten
            ),
        },
        "d_weight": kernel_mistakes(conv_grads),
        "d_bias": bias_mistakes(),
    }
    read = f"{PAGE}#back-through-a-convolution"
    agree_on_pieces(
        "conv2d_backward", work.conv2d_backward, conv_grads, PARTS_OF_A_LAYER, conv_cases(rng, False), mistakes, read
    )
    case = [conv_cases(rng, False)[0][name] for name in ("d_y", "x", "weight")]
    for name, got, expected in zip(PARTS_OF_A_LAYER, work.conv2d_backward(*case), conv_grads(*case), strict=True):
        agree(f"{name} of conv2d_backward without stride and padding (2 and 1)", got, expected, read=read)


def part_conv_transpose2d(work, rng):
    """conv_transpose2d_backward: gather d_y"""
    turned = "The kernel is turned round: what was stamped with weight[.., i, j] is gathered with the same one."
    mistakes = {
        "d_x": {
            turned: lambda d_y, x, w, *how: transpose_grads(d_y, x, flip(w), *how)[0],
            "The kernel's rows and columns are exchanged.": lambda d_y, x, w, *how: transpose_grads(
                d_y, x, w.swapaxes(2, 3).copy(), *how
            )[0],
        },
        "d_weight": kernel_mistakes(transpose_grads),
        "d_bias": bias_mistakes(),
    }
    read, function = f"{PAGE}#back-through-a-convolution", work.conv_transpose2d_backward
    cases = conv_cases(rng, True)
    agree_on_pieces("conv_transpose2d_backward", function, transpose_grads, PARTS_OF_A_LAYER, cases, mistakes, read)
    case = [cases[0][name] for name in ("d_y", "x", "weight")]
    for name, got, expected in zip(PARTS_OF_A_LAYER, function(*case), transpose_grads(*case), strict=True):
        agree(f"{name} of conv_transpose2d_backward without stride and padding (2 and 1)", got, expected, read=read)


# --- the loss and the draw ----------------------------------------------------------------------------------------


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
    mistakes = {
        "The 1/B is missing: recon is averaged over the batch.": lambda x, l: bce_grad(x, l) * len(x),
        "The sign is turned: a pixel that is too bright has to come down, so sigmoid - x.": lambda x, l: (
            -bce_grad(x, l)
        ),
        "Logits are no probabilities: their sigmoid is compared with x.": lambda x, l: (l - x) / len(x),
        "sigmoid's own slope s (1 - s) is in it. It cancels against the derivative of the logarithms; with it, that is "
        "half the derivative of a squared error.": lambda x, l: (
            bce_grad(x, l) * right.sigmoid(l) * (1 - right.sigmoid(l))
        ),
        "The mean over the pixels was taken; recon is their sum.": (
            lambda x, l: bce_grad(x, l) / x[0].size,
            lambda x, l: bce_grad(x, l) * len(x) / x[0].size,
        ),
        "exp(logit) overflows, and inf / inf is nan: level 1's sigmoid does not.": lambda x, l: (
            (np.exp(l) / (1 + np.exp(l)) - x) / len(x)
        ),
    }
    agree_on_cases("bce_backward", work.bce_backward, bce_grad, cases, mistakes=mistakes, read=f"{PAGE}#the-two-ends")


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
    mistakes = {
        "d_mu": {"z moves with mu one to one, whatever the noise: d_mu is d_z.": lambda d_z, v, eps: d_z * eps},
        "d_logvar": {
            "That is the derivative by sigma; by logvar it is times d sigma / d logvar = sigma / 2.": (
                lambda d_z, v, eps: d_z * eps
            ),
            "The 1/2 is missing: sigma = exp(logvar / 2).": lambda d_z, v, eps: d_z * np.exp(0.5 * v) * eps,
            "sigma^2 where sigma belongs.": lambda d_z, v, eps: d_z * 0.5 * np.exp(v) * eps,
            "The noise is missing: dz / d logvar = sigma eps / 2.": lambda d_z, v, eps: d_z * 0.5 * np.exp(0.5 * v),
        },
    }
    names, read = ("d_mu", "d_logvar"), f"{PAGE}#the-two-ends"
    agree_on_pieces("reparameterize_backward", work.reparameterize_backward, draw_grads, names, cases, mistakes, read)


def part_kl(work, rng):
    """kl_backward: the pull towards the prior"""
    cases = [dict(mu=mu, logvar=logvar) for mu, logvar, _ in posteriors(rng)]
    summed = "The 1/B is missing: kl is averaged over the batch."
    mistakes = {
        "d_mu": {
            summed: lambda mu, v: mu,
            "kl holds mu^2 / 2, whose derivative is mu.": (
                lambda mu, v: 2 * mu / len(mu),
                lambda mu, v: mu / 2 / len(mu),
            ),
        },
        "d_logvar": {
            summed: lambda mu, v: 0.5 * (np.exp(v) - 1),
            "The -1 is missing; it comes from -logvar, and holds sigma at 1.": lambda mu, v: 0.5 * np.exp(v) / len(mu),
            "The 1/2 is missing.": lambda mu, v: (np.exp(v) - 1) / len(mu),
            "That is the derivative by sigma: by logvar it is times sigma / 2.": lambda mu, v: (
                (np.exp(0.5 * v) - np.exp(-0.5 * v)) / len(mu)
            ),
        },
    }  # fmt: skip
    names, read = ("d_mu", "d_logvar"), f"{PAGE}#the-two-ends"
    agree_on_pieces("kl_backward", work.kl_backward, kl_grads, names, cases, mistakes, read)


# --- the whole network --------------------------------------------------------------------------------------------

BACKWARDS = ("decoder.deconv2", "decoder.deconv1", "decoder.fc2", "decoder.fc1", "encoder.mu", "encoder.logvar",
             "encoder.fc", "encoder.conv2", "encoder.conv1")  # fmt: skip


@functools.lru_cache(maxsize=4)
def network(latent_dim: int, dtype: str) -> dict[str, np.ndarray]:
    return {name: value.astype(dtype) for name, value in VAESpec(latent_dim).init_params(0).items()}


class OpenReLU(torch.autograd.Function):
    """A ReLU that lets every derivative through."""

    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, d_h):
        return d_h


def network_grads(params, x, eps, *, kl=1.0, recon=1.0, open_relu="", cut="", total="mean"):
    """neg_elbo and its derivatives by autograd; the options are mistakes."""
    t = lowlevel.to_tensors(params)
    x, eps = torch.tensor(x), torch.tensor(eps)

    def run(name, function, h, *how):
        y = function(h, t[f"{name}.weight"], t[f"{name}.bias"], *how)
        if name in ("encoder.mu", "encoder.logvar", "decoder.deconv2"):
            return y
        return OpenReLU.apply(y) if name == open_relu else torch.relu(y)

    h = run("encoder.conv2", F.conv2d, run("encoder.conv1", F.conv2d, x, 2, 1), 2, 1)
    h = run("encoder.fc", F.linear, h.flatten(1))
    mu, logvar = (run(name, F.linear, h.detach() if name == cut else h) for name in ("encoder.mu", "encoder.logvar"))
    h = run("decoder.fc2", F.linear, run("decoder.fc1", F.linear, lowlevel.reparameterize(mu, logvar, eps)))
    h = run("decoder.deconv1", F.conv_transpose2d, h.reshape(-1, 64, 7, 7), 2, 1, 1)
    terms = lowlevel.elbo_terms(x, run("decoder.deconv2", F.conv_transpose2d, h, 2, 1, 1), mu, logvar)
    neg_elbo = getattr(recon * terms[0] + kl * terms[1], total)()
    neg_elbo.backward()
    return neg_elbo.item(), {name: value.grad.numpy() for name, value in t.items()}


def level_2(params, x, eps):
    """neg_elbo and its derivatives as level 2 has them."""
    t, x = lowlevel.to_tensors(params), torch.tensor(x)
    recon, kl = lowlevel.elbo_terms(x, *lowlevel.forward(t, x, torch.tensor(eps)))
    (recon + kl).mean().backward()
    return (recon + kl).mean().item(), {name: value.grad.numpy() for name, value in t.items()}


NETWORK_MISTAKES = {
    "The KL's part is missing on the way to mu and logvar.": dict(kl=0.0),
    "The KL's part alone arrives at mu and logvar; recon's comes through z.": dict(recon=0.0),
    "encoder.fc is read twice: what comes back from encoder.logvar is missing.": dict(cut="encoder.logvar"),
    "encoder.fc is read twice: what comes back from encoder.mu is missing.": dict(cut="encoder.mu"),
    "Summed over the batch, not averaged.": dict(total="sum"),
    **{
        f"The ReLU after {name} is missing on the way back.": dict(open_relu=name)
        for name in BACKWARDS
        if name not in ("decoder.deconv2", "encoder.mu", "encoder.logvar")
    },
}


def judge_network(work, params, x, eps):
    what, read = f"vae_backward with B = {len(x)}, Z = {eps.shape[1]} in {x.dtype}", f"{PAGE}#the-whole-network"
    got_elbo, got = pieces(work.vae_backward(params, x, eps), ("neg_elbo", "gradients"), "vae_backward")
    neg_elbo, expected = level_2(params, x, eps)
    agree(f"neg_elbo of {what}", got_elbo, np.asarray(neg_elbo, x.dtype), read=read, inputs=str(x.dtype))
    if not isinstance(got, dict) or set(got) != set(expected):
        missing = sorted(set(expected) - set(got)) if isinstance(got, dict) else []
        shown = f"without {', '.join(missing)}" if missing else str(type(got).__name__)
        raise Mismatch(f"gradients of {what}", "a dict with every parameter's name and no other", shown, read=read)
    tolerance = 5e-5 if x.dtype == np.float32 else 1e-9
    for layer in BACKWARDS:  # in the order in which they come, so that the first that differs is where to look
        for name in (f"{layer}.bias", f"{layer}.weight"):
            value = numbers(f"the derivative by {name}", got[name], read)
            likely = ""
            if not close(value, expected[name], tolerance):
                for text, options in NETWORK_MISTAKES.items():
                    if not likely and close(value, network_grads(params, x, eps, **options)[1][name], 1e-4):
                        likely = text
            mistakes = {likely: value} if likely else {}
            agree(
                f"the derivative by {name}, {what}", value, expected[name], mistakes=mistakes, read=read, rel=tolerance
            )


def part_vae(work, rng):
    """vae_backward: every parameter, against level 2's backward()"""
    for B, Z, dtype in ((3, 2, "float64"), (1, 1, "float32")):
        params = network(Z, dtype)
        params = {name: value * dtype_of(rng.uniform(0.7, 1.4), dtype) for name, value in params.items()}
        x, eps = rng.random((B, 1, 28, 28)).astype(dtype), 2 * rng.normal(size=(B, Z)).astype(dtype)
        judge_network(work, params, x, eps)


def dtype_of(number, dtype):
    return np.dtype(dtype).type(number)


PARTS = (
    part_relu,
    part_linear,
    part_conv2d,
    part_conv_transpose2d,
    part_bce,
    part_reparameterize,
    part_kl,
    part_vae,
)

HINTS = (
    "relu_backward: h > 0 is an array of True and False, and counts as 1 and 0 in a product.",
    "linear_backward: only one product of d_y (B, O) and weight (O, C) has the shape of x, and only one of d_y and x "
    "has that of weight. The bias was added to every row.",
    "conv2d_backward: write the forward as in exercise 3, a loop over the places (i, j) of the kernel, each with the "
    "pixels `under` it. There, d_y times weight[:, :, i, j] is added to these pixels of a canvas, and the product of "
    'd_y with them, summed over b, h, w, is d_weight[:, :, i, j]: np.einsum("bohw,bchw->oc", d_y, under).',
    "conv_transpose2d_backward: it was the adjoint of a conv2d, so d_x is that conv2d of d_y. And d_weight is that of "
    "the conv2d which takes d_y to x: call conv2d_backward with the two exchanged.",
    "bce_backward: differentiate max(l, 0) - l x + log(1 + exp(-|l|)): for either sign of l that is sigmoid(l) - x.",
    "reparameterize_backward: z = mu + exp(logvar / 2) eps, entry by entry: what is its derivative by mu, by logvar?",
    "kl_backward: an image's kl is (mu^2 + exp(logvar) - logvar - 1) / 2, summed over Z; then the mean over B.",
    "vae_backward: call forward, begin with bce_backward, and go through the layers from the last to the first: first "
    "its primitive's backward with what it has read, then relu_backward with that same array, which is what the "
    "ReLU before it gave.",
    "vae_backward: where an array was reshaped on the way, reshape its derivative back. At mu and logvar add the KL's "
    "derivatives; at encoder.fc add what comes from both.",
)

CANVAS = "d_padded[under] += np"
PLACE = "d_weight[:, :, i, j] = np"
CUT = "d_padded[:, :, padding : padding + H, padding : padding + W]"
BIAS = "W], d_weight, d_y.sum(axis=(0, 2, 3))"
LINEAR = "return d_y @ weight, d_y.T @ x, d_y.sum(axis=0)"
BCE = "(sigmoid(x_logits) - x) / len(x)"
DRAW = "d_z * 0.5 * np.exp(0.5 * logvar) * eps"
KL = "return mu / len(mu), 0.5 * (np.exp(logvar) - 1) / len(mu)"
GATHER = "d_x = conv2d(d_y, weight, np.zeros(len(weight), d_y.dtype), stride, padding)"
SWAPPED = "_, d_weight, _ = conv2d_backward(x, d_y, weight, stride, padding)"
AT_MU = "of_z[0] + of_kl[0], h"
BOTH = 'd = through(d + back("encoder.logvar", linear_backward, of_z[1] + of_kl[1], h["encoder.fc"]), "encoder.fc")'

WRONG = (
    Wrong("no mask", "d_h * (h > 0)", "d_h * (h >= 0)", "everywhere"),
    Wrong("a ReLU of the derivative", "d_h * (h > 0)", "np.maximum(d_h, 0)", "ReLU of d_h"),
    Wrong("times h", "d_h * (h > 0)", "d_h * h", "d_h times h"),
    Wrong("d_weight transposed", LINEAR, LINEAR.replace("d_y.T @ x", "x.T @ d_y"), "axes are exchanged"),
    Wrong("d_x transposed", LINEAR, LINEAR.replace("d_y @ weight", "d_y @ weight.T"), "transposed"),
    Wrong("averaged again", LINEAR, LINEAR.replace("d_y.T @ x", "d_y.T @ x / len(x)"), "not averaged"),
    Wrong("bias averaged", LINEAR, LINEAR.replace("d_y.sum", "d_y.mean"), "not averaged"),
    Wrong("bias not summed", LINEAR, LINEAR.replace("d_y.sum(axis=0)", "d_y"), "every image"),
    Wrong("two of three", LINEAR, "return d_y @ weight, d_y.T @ x", "3 arrays"),
    Wrong("overwritten", CANVAS, "d_padded[under] = np", "+= instead of ="),
    Wrong("a flipped kernel", "d_y, weight[:, :, i, j]", "d_y, weight[:, :, k - 1 - i, k - 1 - j]", "turned round"),
    Wrong("a flipped d_weight", PLACE, "d_weight[:, :, k - 1 - i, k - 1 - j] = np", "turned round"),
    Wrong("d_weight's rows", PLACE, "d_weight[:, :, j, i] = np", "rows and columns"),
    Wrong("bias over the batch alone", BIAS, BIAS.replace("(0, 2, 3)", "0"), "one number for each channel"),
    Wrong("bias's mean", BIAS, BIAS.replace("sum", "mean"), "batch, rows and columns"),
    Wrong("the padding left on", f"return {CUT}", "return d_padded", "shape"),
    Wrong(
        "gathered turned round", GATHER, GATHER.replace("weight, np", "weight[:, :, ::-1, ::-1], np"), "turned round"
    ),
    Wrong("deconv averaged", SWAPPED, f"{SWAPPED}\n    d_weight = d_weight / len(x)", "not averaged"),
    Wrong("no 1/B", BCE, BCE.removesuffix(" / len(x)"), "1/B is missing"),
    Wrong("dark for bright", BCE, "(x - sigmoid(x_logits)) / len(x)", "too bright"),
    Wrong("a slope too many", BCE, f"sigmoid(x_logits) * (1 - sigmoid(x_logits)) * {BCE}", "own slope"),
    Wrong("logits for means", BCE, "(x_logits - x) / len(x)", "no probabilities"),
    Wrong("overflow", BCE, "(np.exp(x_logits) / (1 + np.exp(x_logits)) - x) / len(x)", "overflows"),
    Wrong("by sigma", DRAW, "d_z * eps", "derivative by sigma"),
    Wrong("no half", DRAW, "d_z * np.exp(0.5 * logvar) * eps", "1/2 is missing"),
    Wrong("no noise", DRAW, "d_z * 0.5 * np.exp(0.5 * logvar)", "noise is missing"),
    Wrong("KL summed", KL, "return mu, 0.5 * (np.exp(logvar) - 1)", "1/B is missing"),
    Wrong("no pull to 1", KL, KL.replace("(np.exp(logvar) - 1)", "np.exp(logvar)"), "-1 is missing"),
    Wrong("no KL", "of_z, of_kl = ", "of_kl = (0, 0)\n    of_z, _ = ", "KL's part is missing"),
    Wrong("logvar's share", BOTH, f"{BOTH.replace('d + back', 'd + 0 * back')}", "from encoder.logvar is missing"),
    Wrong("mu's share", BOTH, f"{BOTH.replace('d + back', '0 * d + back')}", "from encoder.mu is missing"),
    Wrong(
        "a ReLU forgotten",
        'd = through(back("decoder.fc2", linear_backward, d.reshape(len(x), -1), h["decoder.fc1"]), "decoder.fc1")',
        'd = back("decoder.fc2", linear_backward, d.reshape(len(x), -1), h["decoder.fc1"])',
        "ReLU after decoder.fc1",
    ),
    Wrong("a layer forgotten", '    back("encoder.conv1", conv2d_backward, d, x)\n', "", "without encoder.conv1"),
)

SQUARE, MINUS = "kernels are square", "NumPy takes any negative size for the one that is left over"
EQUIVALENT = {
    "conv2d_backward: 1 -> 2 in (H, W), (H_out, W_out), k = x.shape[2:], d_y.shape[2:], weight.shape[-1]": SQUARE,
    'forward: 1 -> 2 in h["encoder.fc"] = relu(run("encoder.fc", linear, h["encoder.conv2"].reshape(len(x), '
    "-1)))": MINUS,
    'vae_backward: 1 -> 2 in d = through(back("decoder.fc2", linear_backward, d.reshape(len(x), -1), '
    'h["decoder.fc1"]), "decoder.fc1")': MINUS,
    'vae_backward: 1 -> 2 in flat = h["encoder.conv2"].reshape(len(x), -1)': MINUS,
}

ALSO_RIGHT = (
    Wrong(
        "d_x by level 1's transposed convolution, where that can be",
        f"return {CUT}",
        "left = (H + 2 * padding - k) % stride\n    if H - (H_out - 1) * stride == W - (W_out - 1) * stride:\n"
        "        other = conv_transpose2d(d_y, weight, np.zeros(x.shape[1], x.dtype), stride, padding, left)\n"
        "        return other, d_weight, d_y.sum(axis=(0, 2, 3))\n"
        f"    return {CUT}",
    ),
    Wrong("the mask as a choice", "d_h * (h > 0)", "np.where(h > 0, d_h, 0)"),
)
