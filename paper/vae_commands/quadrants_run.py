"""Train, draw and measure the prediction of missing quadrants."""

import time

import numpy as np
import torch
from matplotlib.figure import Figure

from vae_common import cli
from vae_common.config import QuadrantConfig
from vae_common.data import ImageSet, binarize
from vae_common.evaluation import PIXELS
from vae_common.plots import charts
from vae_common.plots.style import save_figure
from vae_common.randomness import generator
from vae_common.run_folder import make_run_folder, write_json, write_metrics
from vae_models.quadrant_cvae import QuadrantCVAE, estimates
from vae_training.trainer import RunState, train

GIVEN = {1: "lower left", 2: "left half", 3: "all but lower right"}
PUBLISHED = {1: (100.4, 71.8), 2: (61.9, 51.0), 3: (25.4, 24.2)}  # Pyro, MNIST, grey pixels: plain, CVAE (-elbo)


def predict_quadrants(config: QuadrantConfig) -> None:
    """Carry out paper/quadrants.py: for each count of given quadrants train, draw, measure; print the comparison."""
    config = config.settled()
    device = cli.torch_device(config.device)
    data, test = (config.load(split) for split in ("train", "test"))
    folder = make_run_folder(config, "quadrants", likelihood=config.likelihood)
    rows, results = [], {}
    for quadrants in sorted(set(config.quadrants)):
        print(f"\ngiven: {GIVEN[quadrants]}; training on {len(data):,} images of {data.name} on {device}")
        model = train_one(quadrants, data, test, config, device, rows)
        write_metrics(folder / "metrics.jsonl", rows)
        drawn = picture(model, test, config.binarize, config.seed, quadrants)
        print(f"wrote {save_figure(drawn, folder / 'figures' / f'quadrants-{quadrants}.png')}")
        print(f"measuring with {config.samples} samples of z for each test image ...")
        results[quadrants] = measure(model, test, config.binarize, config.seed, config.samples)
    print(f"wrote {folder / 'metrics.jsonl'}")
    evaluation = {**on_of(config), "images": len(test), "samples": config.samples, "given": results}
    write_json(folder / "evaluation.json", evaluation)
    print("\n" + table(results, test, config))


def train_one(quadrants: int, data: ImageSet, test: ImageSet, config: QuadrantConfig, device, rows: list[dict]):
    """Train for one count of given quadrants; appends to `rows`, those of metrics.jsonl."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = QuadrantCVAE(quadrants, config.latent_dim).to(device)

    def evaluate(epoch: int) -> dict:
        start, terms = time.perf_counter(), measure(model, test, config.binarize, config.seed, samples=1)
        terms = {name: terms[name] for name in ("plain", "recon", "kl", "elbo")}
        return {
            "epoch": epoch,
            "split": "test",
            **terms,
            "seconds": round(time.perf_counter() - start, 3),
            **on_of(config),
        }

    for state in train(RunState.start(model, config), data, config, evaluate):
        rows += [{"quadrants": quadrants, **row} for row in state.rows[-2:]]
        print("\n".join(cli.format_row(row) for row in rows[-2:]))
    return model


def table(results: dict[int, dict[str, float]], test: ImageSet, config: QuadrantConfig) -> str:
    """The printed comparison: negative log-likelihoods, so smaller is better."""
    comparable = config.dataset == "mnist" and config.binarize == "none"
    lines = [
        f"{test.name} test: {len(test):,} images, {PIXELS[config.binarize]}, nats per image over the missing pixels;",
        f"-log p(y|x), or bounds above it, K = {config.samples} samples; smaller is better",
        f"{'given':20}  plain  CVAE: -elbo   -L_K  from prior" + ("   Pyro: plain  -elbo" if comparable else ""),
    ]
    for quadrants, found in results.items():
        line = f"{GIVEN[quadrants]:20} {found['plain']:6.1f} {-found['elbo']:12.1f} {-found['bound']:6.1f}"
        line += f" {-found['prior_bound']:11.1f}"
        lines.append(line + ("  {:12.1f} {:6.1f}".format(*PUBLISHED[quadrants]) if comparable else ""))
    return "\n".join(lines)


def on_of(config: QuadrantConfig) -> dict[str, str]:
    """What the numbers are on."""
    return {"dataset": config.dataset, "binarize": config.binarize, "likelihood": config.likelihood}


def measure(model: QuadrantCVAE, data: ImageSet, binarization: str, seed: int, samples: int) -> dict[str, float]:
    """The means of `estimates` over a split, with `samples` draws of seeded noise for each image."""
    model.eval()
    like, sums, batch_size = next(model.parameters()), {}, 100
    x = binarize(data.images, binarization, generator(seed, "evaluation"))
    for start in range(0, len(x), batch_size):
        chunk = torch.from_numpy(x[start : start + batch_size]).to(like)
        rng = generator(seed, "evaluation", 1 + start)
        eps = rng.standard_normal((len(chunk), samples, model.latent_dim), dtype=np.float32)
        for name, value in estimates(model, chunk, torch.from_numpy(eps).to(like)).items():
            sums[name] = sums.get(name, 0.0) + value.double().sum().item()
    return {name: total / len(x) for name, total in sums.items()}


@torch.no_grad()
def picture(
    model: QuadrantCVAE, data: ImageSet, binarization: str, seed: int, quadrants: int, samples: int = 6
) -> Figure:
    """Rows of: what is given, the truth, the plain network's answer, samples of z from p(z|x), decoded."""
    like, rows = next(model.parameters()), np.unique(data.labels, return_index=True)[1][:10]
    rng = generator(seed, "figures")
    image = torch.from_numpy(binarize(data.images[rows], binarization, rng)).to(like)
    x, _ = model.split(image)
    eps = torch.from_numpy(rng.standard_normal((len(rows), samples, model.latent_dim), dtype=np.float32)).to(like)
    guess, y_logits = model.predict(x, eps)  # (B, M), (B, K, M)
    tiles = image.flatten(1)[:, None].repeat(1, 3 + samples, 1)  # (B, 3 + K, 784)
    tiles[:, 0, ~model.given] = 0.5
    tiles[:, 2, ~model.given] = torch.sigmoid(guess)
    tiles[:, 3:, ~model.given] = torch.sigmoid(y_logits)
    return charts.image_grid(
        tiles.reshape(-1, 28, 28).cpu().numpy(), 3 + samples, f"Test images of {data.name}, given: {GIVEN[quadrants]}",
        row_labels=[data.class_names[label] for label in data.labels[rows]],
        column_labels=["given", "truth", "plain", *(f"z {k + 1}" for k in range(samples))],
        caption="The plain network predicts the average of all possible answers, so it blurs. "
        "Each sample of z is one answer, and they differ where x leaves the answer open.",
    )  # fmt: skip
