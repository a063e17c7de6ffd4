"""The conditional VAE: the label is given, and the latent code is left with what the label does not say, the style.

    log p(x|y) >= E_q(z|x,y)[ log p(x|z,y) ] - KL(q(z|x,y) || p(z|y)),  p(z|y) = N(0, I)     Sohn et al. 2015, eq. 4

The label enters both halves. The encoder sees it as constant maps beside the image, one for each class, one of them 1:
a convolution can then use it at every position, for 2,880 more weights with ten classes. The decoder sees the same
numbers beside z. If the encoder forgets the label, training still works, but q has to guess whose style it describes;
if the decoder forgets it, nothing is conditional any more.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conv_vae import ConvVAE
from vae_common.spec import VAESpec
from vae_models.iwae import importance_bound, sample_terms


class ConditionalVAE(ConvVAE):
    """The VAE of the spec with the label y (B,) beside x and beside z. y = None blanks it: all ten inputs are 0."""

    conditional, codes_are_vectors = True, False  # mu tells what the label does not
    title = "Conditional VAE"

    def __init__(self, spec: VAESpec | None = None, likelihood: str = "bernoulli", classes: int = 10):
        super().__init__(spec, likelihood)
        self.classes = classes
        self.encoder.conv1 = nn.Conv2d(1 + classes, 32, 3, stride=2, padding=1)
        self.decoder.fc1 = nn.Linear(self.spec.latent_dim + classes, 256)

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, 1, 28, 28), y (B,) int64 in 0..9 -> mu, logvar (B, Z) of q(z|x, y)."""
        maps = one_hot(y, self.classes, x)[:, :, None, None].expand(-1, -1, 28, 28)  # (B, 10, 28, 28)
        mu, logvar = self.encoder(torch.cat([x, maps], dim=1))
        return mu.to(x.dtype), logvar.to(x.dtype)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (B, Z), y (B,) -> x_logits (B, 1, 28, 28) of p(x|z, y)."""
        return self.decoder(torch.cat([z, one_hot(y, self.classes, z)], dim=1)).to(z.dtype)

    def log_p(self, x: Tensor, y: Tensor, eps: Tensor) -> Tensor:
        """L_K (B,), the importance-weighted estimate of log p(x|y), from eps (B, K, Z)."""
        return importance_bound(sample_terms(self, x, eps, y)[2])


def one_hot(y: Tensor | None, classes: int, like: Tensor) -> Tensor:
    """Labels (B,) -> (B, classes) of 0 and 1 in the dtype and on the device of `like` (B, ...); zeros without y."""
    if y is None:
        return like.new_zeros(len(like), classes)
    return F.one_hot(y, classes).to(like)


@torch.no_grad()
def log_p_given_each_label(model: nn.Module, x: Tensor, eps: Tensor) -> Tensor:
    """x (B, 1, 28, 28), eps (B, K, Z) -> (B, 10): a conditional model's estimates of log p(x|y) for every y.

    With equally likely labels log p(x) = log 1/10 sum_y p(x|y), so log p(x|y) - log p(x) <= ln 10 = 2.303 nats, with
    equality when x can be of one class only; and by Bayes' rule the largest entry is the model's guess of the label.
    """
    each = torch.arange(model.classes, device=x.device)
    return torch.stack([model.log_p(x, label.expand(len(x)), eps) for label in each], dim=1)


def label_report(log_p: Tensor, y: Tensor) -> dict[str, float]:
    """log_p (B, 10) of `log_p_given_each_label` and the true labels y (B,) -> what the label is worth, in nats."""
    given, marginal = log_p.gather(1, y[:, None])[:, 0], torch.logsumexp(log_p, dim=1) - math.log(log_p.shape[1])
    return {
        "log_p_x_given_y": given.mean().item(),
        "log_p_x": marginal.mean().item(),
        "label_gain": (given - marginal).mean().item(),
        "label_accuracy": (log_p.argmax(dim=1) == y).double().mean().item(),
    }


def label_lines(report: dict[str, float], classes: int) -> str:
    """What a run prints of `label_report`."""
    return (
        f"what the label is worth: {report['label_images']:,} test images, bounds L_{report['label_samples']}, "
        f"nats per image\n"
        f"  log p(x|y) {report['log_p_x_given_y']:8.2f}\n  log p(x)   {report['log_p_x']:8.2f}\n"
        f"  gain       {report['label_gain']:8.2f}  (at most ln {classes} = {math.log(classes):.2f})\n"
        f"  labels guessed right by the largest p(x|y): {report['label_accuracy']:.1%}"
    )
