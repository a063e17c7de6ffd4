"""Measure a finished run of level 3, and say what of it can be believed.

`python paper/evaluate.py RUN` prints one table and writes evaluation.json into the run, in these sections:

terms     recon, kl and elbo of the test split, again, and what no model can go below
bounds    L_K: K codes for each test image are drawn from q(z|x), and their weights averaged inside the logarithm. It
          lies between the elbo and log p(x) and rises with K (Burda, Grosse & Salakhutdinov 2016, theorem 1). -L_K is
          reported as nll, an upper bound of -log p(x) that is close for large K
codes     what the rate consists of, I(x; z) + KL(q(z) || p(z)), and which latent dimensions are used
probes    what mu alone tells of the classes, beside PCA, pixels and an untrained encoder
factors   disentanglement, where the true factors of the data are known
samples   what a classifier makes of samples of the prior, and whether they are copies of training images

A figure outside its bounds is no result but a mistake: it is reported as an error, not as a number, and the exit status
is 1. `--doctor` looks for such mistakes in a run, or in a .py file with an encode and a decode of your own.
"""

import argparse
import itertools
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vae_common import cli
from vae_common.data import DRAWN, ImageSet, binarize, entropy_floor, generator
from vae_common.files import read_whole
from vae_common.measured import PIXELS, Measured, about

SAMPLES = (1, 5, 50, 500, 5000)  # the K for which L_K is shown, as far as they divide the number of samples drawn
GROUP, DECODED_AT_ONCE, WEIGHTS_AT_ONCE = 100, 2000, 2_000_000  # images, codes, log-weights: they bound the memory
CODES, VOTES = 2000, 320  # codes for I(x; z); votes for disentanglement, which its own command takes more of
TOLERATED, ROUNDING = 4, 1e-3  # standard errors and nats (float32 sums over 784 pixels) beyond a bound
SHOWN = 20  # latent dimensions in the table, at the most


@dataclass(frozen=True)
class Run:
    """A finished run, and what was measured of it on the test split: what every section starts from."""

    folder: Path
    config: argparse.Namespace
    model: object
    measured: object  # Measured, or MeasuredVQ
    importance_samples: int
    device: object

    @cached_property
    def train(self) -> ImageSet:
        from vae_common.data import load_dataset

        return load_dataset(self.config.dataset, "train", self.config.data_dir)

    @property
    def on(self) -> str:
        """What every number of the test split is on."""
        return f"{self.config.dataset} test, {len(self.measured.x):,} images, {PIXELS[self.config.binarize]}"

    def draw(self, name: str, figure) -> str:
        from vae_common.canvas import save_figure

        return f"wrote {save_figure(figure, self.folder / 'figures' / f'{name}.png')}"


# --- terms --------------------------------------------------------------------------------------------------------


def terms(run: Run) -> tuple[str, dict]:
    """recon, kl and elbo once more, the floor of recon, and whether they are possible at all."""
    measured, config = run.measured, run.config
    refuse(not np.isfinite(measured.recon).all(), f"recon is not finite for every image of {run.on}")
    if type(measured) is Measured:
        least = measured.kl.min()
        refuse(not least >= -ROUNDING, f"kl is {least:.4f} nats for an image of {run.on}, and no KL is below 0")
    found, lines = measured.evaluation(config), [measured.summary(config)]
    if config.likelihood == "bernoulli":
        found["entropy_floor"] = floor = max(0.0, entropy_floor(measured.x))
        refuse(
            not measured.recon.mean() >= floor - ROUNDING,
            f"recon is {measured.recon.mean():.2f} nats on {run.on}, and "
            f"no decoder goes below {floor:.2f}, the entropy of those pixels",
        )
        of_pixels = "their own entropy" if floor else "as pixels of 0 and 1 have no entropy"
        lines.append(f"  no decoder brings recon below {floor:.2f} on {PIXELS[config.binarize]}, {of_pixels}")
    return "\n".join(lines), found


def refuse(is_so: bool, what: str) -> None:
    from mutual_information import EstimateError

    if is_so:
        raise EstimateError(f"{what}; so the weights, the data or the code that measures are broken.")


# --- bounds -------------------------------------------------------------------------------------------------------


def log_weights_of(
    model, data, config: argparse.Namespace, samples: int, images: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """log w_k of each test image, or of those with the numbers `images`, (G, K) float64, group by group.

    Each image has a noise stream of its own, so the numbers do not depend on how the work is cut up, and the first k
    samples are the same for any K >= k. At one time there are GROUP images, DECODED_AT_ONCE decoded codes and
    WEIGHTS_AT_ONCE weights at the most, so the memory does not grow with K.
    """
    import torch

    from conditional_vae import ConditionalVAE
    from iwae import sample_terms

    like, latent_dim = next(model.parameters()), model.spec.latent_dim
    x = binarize(data.images, config.binarize, generator(config.seed, "evaluation"))
    images = np.arange(len(x)) if images is None else images
    group = max(1, min(GROUP, WEIGHTS_AT_ONCE // samples))
    for start in range(0, len(images), group):
        index = images[start : start + group]
        streams = [generator(config.seed, "importance", int(image)) for image in index]
        x_group = torch.from_numpy(x[index]).to(like)
        y = (torch.from_numpy(data.labels[index]).to(like.device),) if isinstance(model, ConditionalVAE) else ()
        parts, drawn = [], 0
        while drawn < samples:
            count = min(samples - drawn, max(1, DECODED_AT_ONCE // len(index)))
            eps = np.stack([stream.standard_normal((count, latent_dim), dtype=np.float32) for stream in streams])
            with torch.no_grad():
                _, _, log_w = sample_terms(model, x_group, torch.from_numpy(eps).to(like), *y)
            parts.append(log_w.double().cpu().numpy())
            drawn += count
        yield np.concatenate(parts, axis=1)


def importance_bounds(log_w: np.ndarray, k: int) -> np.ndarray:
    """log_w (N, K) -> (N,): L_k of each image, the mean over the K // k disjoint sets of k samples."""
    sets = log_w[:, : log_w.shape[1] // k * k].reshape(len(log_w), -1, k)
    return (np.logaddexp.reduce(sets, axis=2) - np.log(k)).mean(axis=1)


def measured_bounds(model, data, config: argparse.Namespace, samples: int) -> dict[int, np.ndarray]:
    """L_K of each test image (N,), for `samples` and the smaller K of SAMPLES. Several processes divide the images."""
    from tqdm import tqdm

    import processes

    shown = sorted({k for k in SAMPLES if k < samples} | {samples})
    images = np.arange(len(data))[processes.share(len(data))]
    groups = log_weights_of(model, data, config, samples, images)
    disable = None if processes.is_writer() else True
    parts = []
    with tqdm(desc="importance weighting", total=len(images), disable=disable, leave=False) as bar:
        for log_w in groups:
            parts.append([importance_bounds(log_w, k) for k in shown])
            bar.update(len(log_w))
    return dict(zip(shown, np.concatenate(processes.gather(parts), axis=1), strict=True))


def check_bounds(bounds: Mapping[int, np.ndarray], elbo: np.ndarray) -> None:
    """Raise EstimateError unless L_1 agrees with the elbo of each image (N,) and L_K does not fall with K.

    Compared image by image, with 4 standard errors of the mean difference.
    """
    gap = bounds[1] - elbo
    refuse(
        not abs(gap.mean()) <= TOLERATED * error_of(gap) + ROUNDING,  # nan does not agree either
        f"L_1 is {bounds[1].mean():.2f} nats and the elbo {elbo.mean():.2f}, and both estimate the same",
    )
    for low, high in itertools.pairwise(bounds):
        gain = bounds[high] - bounds[low]
        refuse(
            not gain.mean() >= -TOLERATED * error_of(gain) - ROUNDING,
            f"L_{high} is {bounds[high].mean():.2f} nats and L_{low} {bounds[low].mean():.2f}, and L_K rises with K",
        )


def error_of(values: np.ndarray) -> float:
    """The standard error of the mean of values (N,)."""
    return float(values.std() / len(values) ** 0.5)


def constant_of(config: argparse.Namespace) -> float:
    """What recon leaves out of -log p(x|z), in nats: the constant of a Gaussian of variance 1/2, 392 ln(pi), where it
    is a plain squared error; the linear VAE's recon is whole, and so is the Bernoulli's."""
    return 392 * math.log(math.pi) if config.likelihood == "gaussian" and config.trunk != "linear" else 0.0


def bounds(run: Run, found: Mapping[int, np.ndarray]) -> tuple[str, dict]:
    """The table and the picture of L_K, from the bounds of each image."""
    K, config, constant = run.importance_samples, run.config, constant_of(run.config)
    elbo = -(run.measured.recon + run.measured.kl).astype(np.float64)
    check_bounds(found, elbo)
    mean = {k: float(bound.mean()) for k, bound in found.items()}
    gain = {k: error_of(bound - found[1]) for k, bound in found.items()}
    given = " given its label" if run.measured.conditional else ""
    log_p = f"log p(x){given}" + (f" + {constant:.2f}" if constant else "")
    lines = [
        f"bounds   lower bounds of {log_p}, nats per image; {run.on}, {K:,} codes each",
        "            value (standard error)   gain on L_1 (standard error)",
    ]
    for k, bound in found.items():
        more = f"{mean[k] - mean[1]:14.2f} ({gain[k]:.2f})" if k > 1 else ""
        lines.append(f"  L_{k:<6}{mean[k]:9.2f} ({error_of(bound):.2f}){more}")
    most = f"{constant - mean[K]:.2f}, as recon leaves 392 ln(pi) out" if constant else "this"
    nll = f"{-mean[K]:9.2f} ({error_of(found[K]):.2f})   = -L_{K}"
    lines.append(f"  nll     {nll}; the true -log p(x){given} is at most {most}")
    if config.binarize == "none" and config.likelihood == "bernoulli":
        lines.append("  grey pixels have no likelihood under a Bernoulli: not comparable with pixels of 0 and 1")
    lines.append(run.draw("importance-bounds", picture_of_bounds(run, log_p, mean, gain, elbo, error_of(found[K]))))
    keys = {str(k): value for k, value in mean.items()}
    results = {"nll": -mean[K], "nll_error": error_of(found[K]), "importance_samples": K, "importance_bounds": keys}
    return "\n".join(lines), results


def picture_of_bounds(run: Run, log_p: str, mean: dict, gain: dict, elbo: np.ndarray, error: float):
    from evaluate_figures import importance_bounds

    K = run.importance_samples
    return importance_bounds(
        list(mean), np.array(list(mean.values())), np.array(list(gain.values())), float(elbo.mean()),
        f"Bounds of {log_p}: {run.on}",
        f"{log_p} lies above all of them. KL(q(z|x) || p(z|x)) is what L_1 loses, so at the least what L_{K} gains on "
        f"it. Bars: two standard errors of that gain, over the images; the values themselves have one of {error:.2f}, "
        f"in which all K go up and down together. elbo and L_1 estimate the same, from one z an image and from {K}.",
    )  # fmt: skip


# --- codes --------------------------------------------------------------------------------------------------------


def posteriors(model, data: ImageSet, config: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """mu, logvar (N, Z) of all images of `data`."""
    import torch

    from conditional_vae import ConditionalVAE

    like, rng, parts = next(model.parameters()), generator(config.seed, "evaluation"), []
    for start in range(0, len(data), 500):
        chunk = slice(start, start + 500)
        x = torch.from_numpy(binarize(data.images[chunk], config.binarize, rng)).to(like)
        y = (torch.from_numpy(data.labels[chunk]).to(like.device),) if isinstance(model, ConditionalVAE) else ()
        with torch.no_grad():
            parts.append([value.cpu().numpy() for value in model.encode(x, *y)])
    mu, logvar = (np.concatenate(part) for part in zip(*parts, strict=True))
    return mu, logvar


def codes(run: Run) -> tuple[str, dict]:
    """What the rate of each split consists of, and a row for each latent dimension."""
    from mutual_information import decompose

    measured, seed = run.measured, run.config.seed
    sets = {"test": (measured.mu, measured.logvar), "train": posteriors(run.model, run.train, run.config)}
    parts = {name: decompose(*one, CODES, generator(seed, "evaluation", 2)) for name, one in sets.items()}
    rows = {
        "rate R": [f"{part.rate:.2f}" for part in parts.values()],
        "  I(x; z)": [str(part.information) for part in parts.values()],
        "    its bound, ln N": [f"{np.log(part.images):.2f}" for part in parts.values()],
        "  KL(q(z) || p(z))": [str(part.aggregate_kl) for part in parts.values()],
        "    total correlation": [str(part.total_correlation) for part in parts.values()],
    }
    lines = [
        f"codes    R = I(x; z) + KL(q(z) || p(z)), nats per image; {run.on}",
        " " * 24 + "".join(f"{f'{name}, N = {part.images:,}':>20}" for name, part in parts.items()),
        *(f"  {name:22}" + "".join(f"{value:>20}" for value in row) for name, row in rows.items()),
        "  (of these N images: where I(x; z) is near ln N, each code names its image, and more images would show more)",
        dimensions(measured),
        "  " + measured.collapse(),
    ]
    per_dim = {"posterior_std": measured.std.mean(axis=0).tolist(), "mu_variance": measured.mu.var(axis=0).tolist()}
    return "\n".join(lines), {"information": {**{name: asdict(part) for name, part in parts.items()}, **per_dim}}


def dimensions(measured: Measured) -> str:
    """A row for each latent dimension, the largest KL first."""
    kl, std, spread = measured.kl_per_dim, measured.std.mean(axis=0), measured.mu.var(axis=0)
    order = np.argsort(-kl, kind="stable")
    lines = ["  dimension   KL (nats)   std of q(z|x)   variance of mu"]
    lines += [
        f"{dim:11d}{kl[dim]:12.3f}{std[dim]:16.3f}{spread[dim]:17.3f}" + "   not used" * (not measured.active[dim])
        for dim in order[:SHOWN]
    ]
    if len(order) > SHOWN:
        lines.append(f"  and {len(order) - SHOWN} more, {kl[order[SHOWN:]].sum():.3f} nats together")
    return "\n".join(lines)


# --- probes, factors, samples -------------------------------------------------------------------------------------


def probed(run: Run) -> tuple[str, dict]:
    import probes

    encoders = probes.encoders_of(str(run.folder), str(run.device))
    found = probes.probe(*encoders, run.train, run.measured.data, run.config.binarize, run.config.seed)
    count = min(probes.MOST, len(run.train))
    head = f"probes   classes told from the codes of {count:,} labelled training images; {run.on}"
    return f"{head}\n{probes.table(found)}", {"probes": {"images": count, "accuracy": found}}


def factors(run: Run) -> tuple[str, dict]:
    import disentanglement
    import probes

    name, how = run.config.dataset, run.config.binarize
    encoders = probes.encoders_of(str(run.folder), str(run.device))
    rng = generator(run.config.seed, "evaluation", 2)
    found = disentanglement.report(DRAWN[name], *encoders, how, rng, votes=VOTES)
    lines = [
        f"factors  disentanglement, 0 to 1; {disentanglement.POINTS:,} {name} drawn anew, {PIXELS[how]}; {VOTES} votes",
        disentanglement.table(found),
        "  judge each by what it has over the untrained encoder; the first two have standard errors of up to "
        f"{0.5 / (VOTES / 2) ** 0.5:.2f},\n  as they are of {VOTES // 2} votes: paper/disentanglement.py takes more",
        run.draw("factors", disentanglement.picture(found, name)),
    ]
    return "\n".join(lines), {"disentanglement": {"votes": VOTES, **found}}


def samples(run: Run) -> tuple[str, dict]:
    import sample_quality
    from evaluate_figures import classes_of_samples, nearest_images

    config, names = run.config, run.measured.data.class_names
    found, arrays = sample_quality.report(run.measured, run.train, config.binarize, config.seed, run.device)
    copies = arrays["copies"]
    lines = [f"samples  {found['count']:,} samples of the prior; {run.on}", sample_quality.table(found)]
    if copies.suspicious:
        lines.append("  warning: more samples than chance allows lie next to a training image: it was learnt by heart.")
    bars = classes_of_samples(
        {"test images": arrays["shares"]["test"], "samples of the prior": arrays["shares"]["samples"]}, names,
        f"Which classes the samples show: {config.dataset}, {PIXELS[config.binarize]}",
        "A class that the model neglects has a short bar. The classifier names a class for anything, smears between "
        "two classes as well, so look at the samples too.",
    )  # fmt: skip
    pairs = nearest_images(
        arrays["samples"], arrays["train"], copies, "Samples of the prior above their nearest training images",
        "Nearest of all training images by squared error. A copy shows no difference to the image beneath it; the "
        f"closest of {found['count']:,} samples are above, so simple shapes are likely there.",
    )  # fmt: skip
    lines += [run.draw("sample-classes", bars), run.draw("nearest", pairs)]
    return "\n".join(lines), {"sample_quality": found}


SECTIONS = {"bounds": bounds, "codes": codes, "probes": probed, "factors": factors, "samples": samples}
KEYS = {
    "bounds": ("nll", "nll_error", "importance_samples", "importance_bounds"),
    "codes": ("information",),
    "probes": ("probes",),
    "factors": ("disentanglement",),
    "samples": ("sample_quality",),
}


def left_out(name: str, config: argparse.Namespace) -> str | None:
    """Why this section says nothing of such a run; None where it does."""
    model, needs_posterior = config.model, ("bounds", "codes")
    if name == "factors" and config.dataset not in DRAWN:
        return f"nobody knows the true factors of {config.dataset}"
    if model == "ae" and name in (*needs_posterior, "samples"):
        return "an autoencoder has neither a posterior nor a prior"
    if model == "vqvae" and name in needs_posterior:
        return "the codes of a VQ-VAE are not drawn from a density; its elbo, with the learned prior, is a bound"
    if model not in ("vae", "ae") and name in ("probes", "factors"):
        return f"the encoder of --model {model} does not give an image alone a vector"
    return None


# --- the command --------------------------------------------------------------------------------------------------


def same_run(row: Mapping, measured, config: argparse.Namespace, folder: Path) -> None:
    """Raise UsageError unless recon, and what it is on, are what the run itself has recorded last; 0.1% of recon for
    devices that round differently."""
    found, recorded = float(measured.recon.mean()), row["recon"]
    if (
        any(row[name] != value for name, value in about(config).items())
        or not abs(found - recorded) <= 1e-3 * abs(recorded) + ROUNDING
    ):
        raise cli.UsageError(
            f"{folder}: recon is {found:.2f} on {len(measured.x):,} test images, and its metrics.jsonl ends with "
            f"{recorded:.2f}, so the weights or the data are not those of the run; see --data-dir."
        )


def impossible(message: str) -> None:
    """One line on stderr, in red where it is a terminal."""
    line = f"impossible: {message}"
    print(f"\033[31m{line}\033[0m" if sys.stderr.isatty() else line, file=sys.stderr)


def run(args: argparse.Namespace) -> int | None:
    if args.doctor:
        from doctor import diagnose

        if args.only:
            raise cli.UsageError("--only chooses among the measurements, and --doctor makes none; give one of them.")
        if cli.is_one_of_several():
            raise cli.UsageError("--doctor runs in one process; start it with python, without torchrun.")
        return diagnose(args.run, data_dir=args.data_dir)
    if Path(args.run).suffix == ".py":
        raise cli.UsageError(f"{args.run}: a .py file can only be examined; give --doctor with it, or name a run.")
    import processes

    with processes.joined():
        return evaluate(args)


def evaluate(args: argparse.Namespace) -> int | None:
    """All sections; several processes share the terms and the bounds, the writer does the rest."""
    import torch

    import processes
    from mutual_information import EstimateError
    from paper_run import measure, read_run
    from vae_common.data import load_dataset

    device = processes.own_device(cli.torch_device(args.device))
    config, model, rows = read_run(args.run)
    row = [row for row in rows if row["split"] == "test"][-1]
    config.data_dir = args.data_dir or config.data_dir
    test = processes.writer_first(lambda: load_dataset(config.dataset, "test", config.data_dir))
    model.to(device, torch.float32).eval()
    subject = Run(Path(args.run), config, model, measure(model, test, config), args.importance_samples, device)
    same_run(row, subject.measured, config, subject.folder)
    chosen = [name for name in SECTIONS if name in (args.only or SECTIONS)]
    work = dict(SECTIONS)
    if "bounds" in chosen and left_out("bounds", config) is None:
        of_all = measured_bounds(model, test, config, args.importance_samples)
        work["bounds"] = lambda subject: bounds(subject, of_all)
    if not processes.is_writer():
        return None
    try:
        text, found = terms(subject)
    except EstimateError as error:
        impossible(str(error))
        return 1
    print(text)
    wrong = False
    for name in chosen:
        reason = left_out(name, config)
        if reason is not None:
            print(f"\n{name:9}left out: {reason}")
            continue
        try:
            text, keys = work[name](subject)
        except EstimateError as error:
            impossible(str(error))
            wrong = True
            continue
        print(f"\n{text}")
        found.update(keys)
    print()
    cli.write_json(subject.folder / "evaluation.json", {**earlier(subject.folder, chosen), **found})
    return 1 if wrong else None


def earlier(folder: Path, chosen: list[str]) -> dict:
    """What evaluation.json already holds of other sections, and of training."""
    try:
        found = dict(json.loads(read_whole(folder / "evaluation.json")))
    except (OSError, ValueError, TypeError):
        return {}
    for key in (key for name in chosen for key in KEYS[name]):
        found.pop(key, None)
    return found


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Measure a finished run of level 3, and say what can be believed of it.", "--data-dir", "--device"
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="a run folder written by paper/vae_paper.py; with --doctor also a .py file")
    add("--importance-samples", type=cli.whole(1, 10**6), default=500, metavar="K", help="z per image (default 500)")
    add("--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=f"of {', '.join(SECTIONS)} (default all)")
    add("--doctor", action="store_true", help="test what must hold for every VAE, and say what fails")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(build_parser(), run, argv, several=True)


if __name__ == "__main__":
    sys.exit(main())
