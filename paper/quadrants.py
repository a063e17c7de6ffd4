"""Predict the missing quadrants of an image from the given ones: a plain network beside a conditional VAE.

    log p(y|x) >= E_q(z|x,y)[ log p(y|x,z) ] - KL(q(z|x,y) || p(z|x))       Sohn, Lee & Yan 2015

x is the given part of an image and y the missing one. Many y fit one x. A network that gives each pixel a mean must
answer with the average of them; one with a latent z can say "this one or that one". Unlike in conditional_vae.py the
prior is learned: p(z|x) knows which answers are open once x is seen, and the KL is what y tells of z beyond that.

Setting and published figures are those of the example "cvae" of Pyro (https://pyro.ai/examples/cvae.html): given are
the lower left quadrant; the left half; all but the lower right quadrant. Its figure for the CVAE is the -elbo of
Trace_ELBO with ten samples (called Monte Carlo there), of the epoch that was best on the test split itself; ours are of
the last epoch. Two differences more: our p(y|x,z) sees x, and starts from the plain network's logits.

Axes: B batch, G given pixels, M missing pixels, K samples, Z latent.
"""

import argparse
import sys
import time
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from iwae import importance_bound
from trainer import RunState, Settings, train
from vae_common import canvas, cli, figures
from vae_common.data import ImageSet, binarize, generator, load_dataset
from vae_common.measured import PIXELS, about

GIVEN = {1: "lower left", 2: "left half", 3: "all but lower right"}
PUBLISHED = {1: (100.4, 71.8), 2: (61.9, 51.0), 3: (25.4, 24.2)}  # Pyro, MNIST, grey pixels: plain, CVAE (-elbo)
WIDTH = 500  # of the hidden layers, as in Pyro


def given_pixels(quadrants: int) -> np.ndarray:
    """Which pixels (28, 28) are given: those of 1, 2 or 3 quadrants, as GIVEN names them."""
    given = np.zeros((28, 28), bool)
    given[14:, :14] = True
    given[:14, :14] = quadrants >= 2
    given[:14, 14:] = quadrants >= 3
    return given


# --- the model ----------------------------------------------------------------------------------------------------


def mlp(*sizes: int) -> nn.Sequential:
    layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


class QuadrantCVAE(nn.Module):
    """The plain network and, on top of its prediction, the CVAE; no gradient of the CVAE reaches the plain network."""

    def __init__(self, quadrants: int, latent_dim: int = 20):
        super().__init__()
        given = torch.from_numpy(given_pixels(quadrants).ravel())
        self.latent_dim, missing = latent_dim, int((~given).sum())
        self.register_buffer("given", given, persistent=False)
        self.plain = mlp(784 - missing, WIDTH, WIDTH, missing)
        self.prior_net = mlp(784, WIDTH, WIDTH, 2 * latent_dim)
        self.posterior_net = mlp(784, WIDTH, WIDTH, 2 * latent_dim)
        self.from_guess, self.from_z = nn.Linear(784, WIDTH), nn.Linear(latent_dim, WIDTH)
        self.decoder = mlp(WIDTH, WIDTH, missing)

    def split(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image (B, 1, 28, 28) -> x (B, G), y (B, M)."""
        pixels = image.flatten(1)
        return pixels[:, self.given], pixels[:, ~self.given]

    def prior(self, x: Tensor, guess: Tensor) -> Normal:
        """p(z|x), (B, 1, Z); guess (B, M), the plain network's logits, is a function of x."""
        return normal(self.prior_net(torch.cat([x, torch.sigmoid(guess)], dim=1)))

    def posterior(self, x: Tensor, y: Tensor) -> Normal:
        """q(z|x, y), (B, 1, Z)."""
        return normal(self.posterior_net(torch.cat([x, y], dim=1)))

    def decode(self, x: Tensor, guess: Tensor, z: Tensor) -> Tensor:
        """x (B, G), guess (B, M), z (B, K, Z) -> y_logits (B, K, M) of p(y|x, z)."""
        from_guess = self.from_guess(torch.cat([x, torch.sigmoid(guess)], dim=1))
        h = F.relu(from_guess[:, None] + self.from_z(z))  # (B, K, 500)
        return guess[:, None] + self.decoder(h)

    def predict(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, G), eps (B, K, Z) -> logits of y: the plain network's (B, M), and (B, K, M) for K draws of p(z|x)."""
        guess = self.plain(x)
        p = self.prior(x, guess)
        return guess, self.decode(x, guess, p.loc + p.scale * eps)

    def forward(self, image: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """image (B, 1, 28, 28), eps (B, K, Z) -> plain (B,), recon (B, K), kl (B,), log_w (B, K), nats per image.

        log_w = log p(y|x,z_k) + log p(z_k|x) - log q(z_k|x,y), z_k from q; the closed-form kl has no part in it.
        """
        x, y = self.split(image)
        guess = self.plain(x)
        plain, guess = bernoulli_recon(y, guess), guess.detach()
        p, q = self.prior(x, guess), self.posterior(x, y)
        z = q.loc + q.scale * eps  # (B, K, Z)
        recon = bernoulli_recon(y[:, None], self.decode(x, guess, z))
        log_w = (p.log_prob(z) - q.log_prob(z)).sum(dim=2) - recon
        return plain, recon, kl_divergence(q, p).sum(dim=(1, 2)), log_w

    # --- training: what the trainer asks of every model ---

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (1, self.latent_dim)

    def objective(self, image: Tensor, label: Tensor, eps: Tensor, step: int) -> dict[str, Tensor]:
        """Both losses at once, each with weights of its own, so both networks learn what they would learn alone."""
        plain, recon, kl, _ = self(image, eps)
        plain, neg_elbo = plain.mean(), recon.mean() + kl.mean()
        return {"plain": plain, "recon": recon.mean(), "kl": kl.mean(), "elbo": -neg_elbo, "loss": plain + neg_elbo}


def normal(h: Tensor) -> Normal:
    """Mean and log-variance side by side, (B, 2 Z) -> the Gaussian (B, 1, Z), ready for K samples."""
    mu, logvar = h[:, None].chunk(2, dim=2)
    return Normal(mu, torch.exp(0.5 * logvar), validate_args=False)


def bernoulli_recon(y: Tensor, y_logits: Tensor) -> Tensor:
    """-log p(y|...) in nats per image, summed over the missing pixels, the last axis."""
    return F.binary_cross_entropy_with_logits(y_logits, y.expand_as(y_logits), reduction="none").sum(dim=-1)


# --- measuring ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def estimates(model: QuadrantCVAE, image: Tensor, eps: Tensor) -> dict[str, Tensor]:
    """image (B, 1, 28, 28), eps (B, K, Z) -> estimates (B,) in nats per image.

    plain: -log p(y|x) of the plain network. recon, kl, elbo: the CVAE's bound, recon averaged over K samples of q.
    bound: L_K, log 1/K sum_k p(y|x,z_k) p(z_k|x) / q(z_k|x,y). prior_bound: log 1/K sum_k p(y|x,z_k), z_k ~ p(z|x);
    it too is below log p(y|x) in the mean, and far below where few samples of the prior come near the true y.
    """
    plain, recon, kl, log_w = model(image, eps)
    x, y = model.split(image)
    from_prior = bernoulli_recon(y[:, None], model.predict(x, eps)[1])
    terms = {"plain": plain, "recon": recon.mean(dim=1), "kl": kl, "elbo": -(recon.mean(dim=1) + kl)}
    return {**terms, "bound": importance_bound(log_w), "prior_bound": importance_bound(-from_prior)}


def measure(model: QuadrantCVAE, data: ImageSet, args: argparse.Namespace, samples: int) -> dict[str, float]:
    """The means of `estimates` over a split, with `samples` draws of seeded noise for each image."""
    model.eval()
    like, sums, batch_size = next(model.parameters()), {}, 100
    x = binarize(data.images, args.binarize, generator(args.seed, "evaluation"))
    for start in range(0, len(x), batch_size):
        chunk = torch.from_numpy(x[start : start + batch_size]).to(like)
        rng = generator(args.seed, "evaluation", 1 + start)
        eps = rng.standard_normal((len(chunk), samples, model.latent_dim), dtype=np.float32)
        for name, value in estimates(model, chunk, torch.from_numpy(eps).to(like)).items():
            sums[name] = sums.get(name, 0.0) + value.double().sum().item()
    return {name: total / len(x) for name, total in sums.items()}


@torch.no_grad()
def picture(model: QuadrantCVAE, data: ImageSet, args: argparse.Namespace, quadrants: int, samples: int = 6):
    """Rows of: what is given, the truth, the plain network's answer, samples of z from p(z|x), decoded."""
    like, rows = next(model.parameters()), np.unique(data.labels, return_index=True)[1][:10]
    rng = generator(args.seed, "figures")
    image = torch.from_numpy(binarize(data.images[rows], args.binarize, rng)).to(like)
    x, _ = model.split(image)
    eps = torch.from_numpy(rng.standard_normal((len(rows), samples, model.latent_dim), dtype=np.float32)).to(like)
    guess, y_logits = model.predict(x, eps)  # (B, M), (B, K, M)
    tiles = image.flatten(1)[:, None].repeat(1, 3 + samples, 1)  # (B, 3 + K, 784)
    tiles[:, 0, ~model.given] = 0.5
    tiles[:, 2, ~model.given] = torch.sigmoid(guess)
    tiles[:, 3:, ~model.given] = torch.sigmoid(y_logits)
    return figures.image_grid(
        tiles.reshape(-1, 28, 28).cpu().numpy(), 3 + samples, f"Test images of {data.name}, given: {GIVEN[quadrants]}",
        row_labels=[data.class_names[label] for label in data.labels[rows]],
        column_labels=["given", "truth", "plain", *(f"z {k + 1}" for k in range(samples))],
        caption="The plain network answers with the average of all that could follow, so it blurs. "
        "Each sample of z is one answer, and where x leaves it open they differ.",
    )  # fmt: skip


# --- command line -------------------------------------------------------------------------------------------------


def run(args: argparse.Namespace) -> None:
    device = cli.torch_device(args.device)
    data, test = (load_dataset(args.dataset, split, args.data_dir) for split in ("train", "test"))
    folder = cli.make_run_folder(args, "quadrants")
    rows, results = [], {}
    for quadrants in sorted(set(args.quadrants)):
        print(f"\ngiven: {GIVEN[quadrants]}; training on {len(data):,} images of {data.name} on {device}")
        model = train_one(quadrants, data, test, args, device, rows)
        cli.write_metrics(folder / "metrics.jsonl", rows)
        drawn = picture(model, test, args, quadrants)
        print(f"wrote {canvas.save_figure(drawn, folder / 'figures' / f'quadrants-{quadrants}.png')}")
        print(f"measuring with {args.samples} samples of z for each test image ...")
        results[quadrants] = measure(model, test, args, args.samples)
    print(f"wrote {folder / 'metrics.jsonl'}")
    evaluation = {**about(args), "images": len(test), "samples": args.samples, "given": results}
    cli.write_json(folder / "evaluation.json", evaluation)
    print("\n" + table(results, test, args))


def train_one(quadrants: int, data: ImageSet, test: ImageSet, args: argparse.Namespace, device, rows: list[dict]):
    """Train for one count of given quadrants; appends to `rows`, those of metrics.jsonl."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(args.seed)
        model = QuadrantCVAE(quadrants, args.latent_dim or 20).to(device)
    settings, what = Settings(args.epochs, args.batch_size, args.lr, args.seed, args.binarize), about(args)

    def evaluate(epoch: int) -> dict:
        start, terms = time.perf_counter(), measure(model, test, args, samples=1)
        terms = {name: terms[name] for name in ("plain", "recon", "kl", "elbo")}
        return {"epoch": epoch, "split": "test", **terms, "seconds": round(time.perf_counter() - start, 3), **what}

    for state in train(RunState.start(model, settings), data, settings, evaluate, what):
        rows += [{"quadrants": quadrants, **row} for row in state.rows[-2:]]
        print("\n".join(cli.format_row(row) for row in rows[-2:]))
    return model


def table(results: dict[int, dict[str, float]], test: ImageSet, args: argparse.Namespace) -> str:
    """The printed comparison: negative log-likelihoods, so smaller is better."""
    comparable = args.dataset == "mnist" and args.binarize == "none"
    lines = [
        f"{test.name} test: {len(test):,} images, {PIXELS[args.binarize]}, nats per image over the missing pixels;",
        f"-log p(y|x), or bounds above it, K = {args.samples} samples; smaller is better",
        f"{'given':20}  plain  CVAE: -elbo   -L_K  from prior" + ("   Pyro: plain  -elbo" if comparable else ""),
    ]
    for quadrants, found in results.items():
        line = f"{GIVEN[quadrants]:20} {found['plain']:6.1f} {-found['elbo']:12.1f} {-found['bound']:6.1f}"
        line += f" {-found['prior_bound']:11.1f}"
        lines.append(line + ("  {:12.1f} {:6.1f}".format(*PUBLISHED[quadrants]) if comparable else ""))
    return "\n".join(lines)


def build_parser() -> argparse.ArgumentParser:
    flags = ("--dataset", "--data-dir", "--latent-dim", "--batch-size", "--epochs", "--lr", "--seed", "--device")
    parser = cli.parser(__doc__.splitlines()[0], *flags, "--binarize", "--out", "--overwrite")
    parser.set_defaults(likelihood="bernoulli")
    parser.add_argument("--quadrants", type=int, nargs="+", choices=(1, 2, 3), default=[1, 2, 3], help="how many given")
    parser.add_argument("--samples", type=cli.whole(1, 1000), default=50, metavar="K", help="for L_K (default 50)")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
