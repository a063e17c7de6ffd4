"""Measure a finished run of level 3, section by section, and say what of it can be believed.

A figure outside its bounds is no result but a mistake: it is reported as an error, not as a number, and the exit status
is 1.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vae_common import cli
from vae_common.config import RunConfig
from vae_common.data import DRAWN, ImageSet, binarize, entropy_floor
from vae_common.evaluation import PIXELS, Evaluation, chunks
from vae_common.plots.style import save_figure
from vae_common.randomness import generator
from vae_common.run_folder import read_evaluation, write_json
from vae_measures import disentanglement as scores
from vae_measures import gaps as nats
from vae_measures import latent_space, probes, sample_quality
from vae_measures.held_out import measure, measured_again, posterior_means
from vae_measures.importance_bounds import ROUNDING, TOLERATED, check_bounds, error_of, measured_bounds
from vae_measures.rate_parts import EstimateError, decompose, kl_noise, refuse_impossible
from vae_plots.evaluation import classes_of_samples, factors_by_dimension, importance_bounds, nearest_images
from vae_training import processes
from vae_training.factory import build_model
from vae_training.run_files import read_run

CODES = 2000  # codes drawn for I(x; z)
SHOWN = 20  # latent dimensions in the table, at the most


@dataclass(frozen=True)
class Run:
    """A finished run, and what was measured of it on the test split: what every section starts from."""

    folder: Path
    config: RunConfig
    model: nn.Module
    measured: Evaluation  # or what stands for it where the model has no density q(z|x)
    importance_samples: int
    votes: int
    device: torch.device
    first: "Run | None" = None  # the first of several runs that are compared

    @property
    def seed(self) -> int:
        """What fixes the draws: the same for runs that are compared."""
        return (self.first or self).config.seed

    @cached_property
    def train(self) -> ImageSet:
        """The images that the run was trained on, loaded when a section first asks for them."""
        return self.config.load("train").hold_out(self.config.validation)[0]

    @cached_property
    def classifier(self) -> sample_quality.Classifier:
        """What recognises decoded images, trained when a section first asks for it; one for all that are compared."""
        if self.first is not None:
            return self.first.classifier
        return sample_quality.classifier_of(self.train, self.config.binarize, self.config.seed, self.device)

    @property
    def on(self) -> str:
        """What every number of the test split is on."""
        return self.on_images(len(self.measured.x))

    def on_images(self, count: int) -> str:
        """What a number of so many images of the test split is on."""
        return f"{self.config.dataset} test, {count:,} images, {PIXELS[self.config.binarize]}"

    @property
    def encoders(self) -> tuple:
        """The run's encoder, and one of the same architecture with its initial weights, as functions of arrays."""
        return tuple(posterior_means(model, self.device) for model in (self.model, build_model(self.config)))

    @property
    def log_p(self) -> str:
        """What the bounds of this run are bounds of."""
        constant = self.model.recon_constant
        given = " given its label" if self.measured.conditional else ""
        return f"log p(x){given}" + (f" + {constant:.2f}" if constant else "")

    def draw(self, name: str, figure) -> str:
        """Save a figure in the run; the line that says so."""
        return f"wrote {save_figure(figure, self.folder / 'figures' / f'{name}.png')}"


# --- terms --------------------------------------------------------------------------------------------------------


def terms(run: Run) -> tuple[str, dict]:
    """recon, kl and elbo once more, the floor of recon, and whether they are possible at all."""
    measured, config = run.measured, run.config
    refuse_impossible(not np.isfinite(measured.recon).all(), f"recon is not finite for every image of {run.on}")
    if run.model.has_posterior:
        least, at = measured.kl.min(), "for an image"
        if measured.log_prior_ratio is not None:  # the KL to a learned prior is sampled, and only its mean is bounded
            least, at = measured.kl.mean() + TOLERATED * error_of(measured.kl), "4 standard errors above its mean"
        refuse_impossible(not least >= -ROUNDING, f"kl is {least:.4f} nats {at} of {run.on}, and no KL is below 0")
    found, lines = measured.results(), [measured.summary()]
    if config.likelihood == "bernoulli":
        found["entropy_floor"] = floor = max(0.0, entropy_floor(measured.x))
        refuse_impossible(
            not measured.recon.mean() >= floor - ROUNDING,
            f"recon is {measured.recon.mean():.2f} nats on {run.on}, and "
            f"no decoder goes below {floor:.2f}, the entropy of those pixels",
        )
        of_pixels = "their own entropy" if floor else "as pixels of 0 and 1 have no entropy"
        lines.append(f"  no decoder brings recon below {floor:.2f} on {PIXELS[config.binarize]}, {of_pixels}")
    return "\n".join(lines), found


# --- bounds -------------------------------------------------------------------------------------------------------


def bounds(run: Run, found: Mapping[int, np.ndarray]) -> tuple[str, dict]:
    """The table and the picture of L_K, from the bounds of each image."""
    K, config, constant = run.importance_samples, run.config, run.model.recon_constant
    elbo = -(run.measured.recon + run.measured.kl).astype(np.float64)
    check_bounds(found, elbo)
    mean = {k: float(bound.mean()) for k, bound in found.items()}
    gain = {k: error_of(bound - found[1]) for k, bound in found.items()}
    given, log_p = " given its label" if run.measured.conditional else "", run.log_p
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
    """L_K against K as a Figure."""
    K = run.importance_samples
    return importance_bounds(
        list(mean), np.array(list(mean.values())), np.array(list(gain.values())), float(elbo.mean()),
        f"Bounds of {log_p}: {run.on}",
        f"{log_p} lies above all of them. KL(q(z|x) || p(z|x)) is what L_1 loses, so at the least what L_{K} gains on "
        f"it. Bars: two standard errors of that gain, over the images; the values themselves have one of {error:.2f}, "
        f"in which all K go up and down together. elbo and L_1 estimate the same, from one z an image and from {K}.",
    )  # fmt: skip


# --- codes --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def posteriors(run: Run, data: ImageSet) -> tuple[np.ndarray, np.ndarray]:
    """mu, logvar (N, Z) of all images of `data`."""
    like, rng, parts = next(run.model.parameters()), generator(run.config.seed, "evaluation"), []
    for chunk in chunks(len(data), 500):
        x = torch.from_numpy(binarize(data.images[chunk], run.config.binarize, rng)).to(like)
        parts.append(run.model.encode(x, torch.from_numpy(data.labels[chunk]).to(like.device)))
    mu, logvar = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return mu, logvar


def codes(run: Run) -> tuple[str, dict]:
    """What the rate of each split consists of, and a row for each latent dimension."""
    measured, seed = run.measured, run.config.seed
    sets = {"test": (measured.mu, measured.logvar), "train": posteriors(run, run.train)}
    ratio = measured.log_prior_ratio
    parts = {name: decompose(*one, CODES, generator(seed, "evaluation", 2), ratio) for name, one in sets.items()}
    rows = {
        "rate R": [f"{part.rate:.2f}" for part in parts.values()],
        "  I(x; z)": [str(part.information) for part in parts.values()],
        "    its bound, ln N": [f"{np.log(part.images):.2f}" for part in parts.values()],
        "  KL(q(z) || p(z))": [str(part.aggregate_kl) for part in parts.values()],
        "total correlation": [str(part.total_correlation) for part in parts.values()],
    }
    sampled, trained = kl_noise(measured.mu, measured.logvar, generator(seed, "evaluation", 3), ratio)
    lines = [
        f"codes    R = I(x; z) + KL(q(z) || p(z)), nats per image; {run.on}",
        " " * 24 + "".join(f"{f'{name}, N = {part.images:,}':>20}" for name, part in parts.items()),
        *(f"  {name:22}" + "".join(f"{value:>20}" for value in row) for name, row in rows.items()),
        f"  (kl of an image at one z: standard deviation {trained:.2f} nats; of log q(z|x) - log p(z) {sampled:.2f})",
        "  (of these N images: where I(x; z) is near ln N, each code names its image, and more images would show more)",
        dimensions(measured),
        "  " + measured.collapse(),
    ]
    per_dim = {"posterior_std": measured.std.mean(axis=0).tolist(), "mu_variance": measured.mu.var(axis=0).tolist()}
    per_dim["kl_noise"] = {"trained_on": trained, "sampled": sampled}
    return "\n".join(lines), {"information": {**{name: asdict(part) for name, part in parts.items()}, **per_dim}}


def dimensions(measured: Evaluation) -> str:
    """A row for each latent dimension, the largest KL first."""
    kl, std, spread = measured.kl_per_dim, measured.std.mean(axis=0), measured.mu.var(axis=0)
    order = np.argsort(-kl, kind="stable")
    lines = ["  dimension   KL (nats)   std of q(z|x)   variance of mu"]
    if measured.prior_codes is not None:
        lines.insert(0, "  (KL of each dimension to N(0, 1), which is not the prior: they are no parts of R)")
    lines += [
        f"{dim:11d}{kl[dim]:12.3f}{std[dim]:16.3f}{spread[dim]:17.3f}" + ("" if measured.active[dim] else "   not used")
        for dim in order[:SHOWN]
    ]
    if len(order) > SHOWN:
        lines.append(f"  and {len(order) - SHOWN} more, {kl[order[SHOWN:]].sum():.3f} nats together")
    return "\n".join(lines)


# --- probes, factors, samples, space ------------------------------------------------------------------------------


def probed(run: Run) -> tuple[str, dict]:
    """What classifiers tell from the codes, beside PCA, pixels and an untrained encoder."""
    found = probes.probe(*run.encoders, run.train, run.measured.data, run.config.binarize, run.config.seed)
    count = min(probes.MOST, len(run.train))
    head = f"probes   classes told from the codes of {count:,} labelled training images; {run.on}"
    return f"{head}\n{probes.table(found)}", {"probes": {"images": count, "accuracy": found}}


def factors(run: Run) -> tuple[str, dict]:
    """The scores of disentanglement, trained beside untrained, and the MIG as others would have taken it."""
    name, binarization, votes = run.config.dataset, run.config.binarize, run.votes
    rng = generator(run.config.seed, "evaluation", 2)
    encoders = dict(zip(("trained", "untrained"), run.encoders, strict=True))
    found = scores.report(DRAWN[name], encoders, binarization, rng, votes=votes)
    choices = scores.mig_by_choice(*posteriors(run, run.train), run.train.factors, rng)
    lines = [
        f"factors  disentanglement, 0 to 1; {scores.POINTS:,} {name} drawn anew, {PIXELS[binarization]}; {votes} votes",
        scores.table(found),
        "  judge each by what it has over the untrained encoder; the first two have standard errors of up to "
        f"{0.5 / (votes / 2) ** 0.5:.2f},\n  as they are of {votes // 2} votes: --votes takes more",
        "  MIG of the training images, as it is published: "
        + ", ".join(f"{choice} {value:.3f}" for choice, value in choices.items()),
        run.draw("factors", factors_by_dimension(found, name)),
    ]
    return "\n".join(lines), {"disentanglement": {"votes": votes, **found, "mig_by_choice": choices}}


def samples(run: Run) -> tuple[str, dict]:
    """What a classifier makes of samples of the prior, and whether they are copies."""
    config, names = run.config, run.measured.data.class_names
    found, arrays = sample_quality.report(run.measured, run.train, run.classifier, config.binarize, run.seed)
    copies, of = arrays["copies"], "the prior" if run.model.has_prior else "a Gaussian fitted to its codes"
    lines = [f"samples  {found['count']:,} samples of {of}; {run.on}", sample_quality.table(found)]
    if copies.suspicious:
        lines.append("  warning: more samples than chance allows lie next to a training image: it was learnt by heart.")
    bars = classes_of_samples(
        {"test images": arrays["shares"]["test"], f"samples of {of}": arrays["shares"]["samples"]}, names,
        f"Which classes the samples show: {config.dataset}, {PIXELS[config.binarize]}",
        "A class that the model neglects has a short bar. The classifier names a class for anything, smears between "
        "two classes as well, so look at the samples too.",
    )  # fmt: skip
    pairs = nearest_images(
        arrays["samples"], arrays["train"], copies, f"Samples of {of} above their nearest training images",
        "Nearest of all training images by squared error. A copy shows no difference to the image beneath it; the "
        f"closest of {found['count']:,} samples are above, so simple shapes are likely there.",
    )  # fmt: skip
    lines += [run.draw("sample-classes", bars), run.draw("nearest", pairs)]
    return "\n".join(lines), {"sample_quality": found}


def space(run: Run) -> tuple[str, dict]:
    """How continuous the latent space is, and how complete."""
    found = latent_space.report(run.measured, run.classifier, run.config.seed)
    lines = [f"space    continuity and completeness; {run.on}", latent_space.table(found, run.model.has_prior)]
    return "\n".join(lines), {"latent_space": found}


def gaps(run: Run) -> tuple[str, dict]:
    """What the elbo of some test images loses: the encoder's part, and that of its family."""
    measured, K, rng = run.measured, run.importance_samples, generator(run.seed, "evaluation", 5)
    some = np.sort(rng.permutation(len(measured.x))[: nats.IMAGES])
    each = nats.bounds_of_images(run.model, measured.x[some], measured.data.labels[some], K, rng, run.seed)
    found = {"images": len(some), "samples": K, **nats.report(each, -(measured.recon + measured.kl)[some])}
    head = f"gaps     what the elbo loses on {run.log_p}, nats per image (standard error); {run.on_images(len(some))}"
    return f"{head}\n{nats.table(found)}", {"gaps": found}


SECTIONS = {
    "bounds": bounds, "codes": codes, "probes": probed, "factors": factors, "samples": samples, "space": space,
    "gaps": gaps,
}  # fmt: skip
DEFAULT = [name for name in SECTIONS if name != "gaps"]  # which takes minutes
KEYS = {
    "bounds": ("nll", "nll_error", "importance_samples", "importance_bounds"),
    "codes": ("information",),
    "probes": ("probes",),
    "factors": ("disentanglement",),
    "samples": ("sample_quality",),
    "space": ("latent_space",),
    "gaps": ("gaps",),
}


def left_out(name: str, run: Run) -> str | None:
    """Why this section says nothing of such a run; None where it does."""
    model = run.model
    if name == "factors" and run.config.dataset not in DRAWN:
        return f"nobody knows the true factors of {run.config.dataset}"
    if name == "samples" and not model.has_prior and run.measured.prior_codes is None:
        return f"an {model.title.lower()} has neither a posterior nor a prior"
    if name == "probes" and len(run.measured.data.class_names) == 1:
        return "there is one class, so there is nothing to tell apart"
    if name in ("bounds", "codes", "gaps") and not model.has_posterior:
        if not model.has_prior:
            return f"an {model.title.lower()} has neither a posterior nor a prior"
        return (
            f"the codes of a {model.title} are not drawn from a density; its elbo, with the learned prior, is a bound"
        )
    if name in ("probes", "factors", "space") and not model.codes_are_vectors:
        return f"the encoder of --model {run.config.model} does not give an image alone a vector"
    if name == "gaps" and model.spec.latent_dim == 1:
        return "the richer q moves one half of z by the other, and one latent dimension has no halves"
    if name == "space" and model.sees_pixels:
        return "the decoder draws images, and has no mean image that could change evenly"
    return None


# --- the command --------------------------------------------------------------------------------------------------


def impossible(message: str) -> None:
    """One line on stderr, in red where it is a terminal."""
    line = f"impossible: {message}"
    print(f"\033[31m{line}\033[0m" if sys.stderr.isatty() else line, file=sys.stderr)


def evaluate_run(
    run: str,
    data_dir: str | None = None,
    device: str = "auto",
    importance_samples: int = 500,
    votes: int = 320,
    only: list[str] | None = None,
) -> int:
    """Carry out paper/evaluate.py RUN: all sections but gaps, or those named in `only`; returns the exit status.

    Several processes share the terms and the bounds, the writer does the rest.
    """
    with processes.joined():
        on = processes.own_device(cli.torch_device(device))
        subject = opened(run, data_dir, on, importance_samples, votes)
        chosen = [name for name in SECTIONS if name in (only or DEFAULT)]
        sections, config = dict(SECTIONS), subject.config
        if "bounds" in chosen and left_out("bounds", subject) is None:
            test = subject.measured.data
            of_all = measured_bounds(subject.model, test, config.binarize, config.seed, importance_samples)
            sections["bounds"] = lambda subject: bounds(subject, of_all)
        if not processes.is_writer():
            return 0
        status, _ = report(subject, {name: sections[name] for name in chosen})
        return status


def opened(
    run: str, data_dir: str | None, on: torch.device, importance_samples: int, votes: int = 0, first: Run | None = None
) -> Run:
    """The finished run in the folder `run`, measured; among several runs with the draws of the first."""
    config, model, rows = read_run(run)
    config = replace(config, data_dir=data_dir or config.data_dir)
    test = processes.writer_first(lambda: config.load("test"))
    model.to(on, torch.float32).eval()
    measured = measured_again(run, config, model, rows, test)
    if first is not None and first.seed != config.seed:
        measured = measure(model, test, config.binarize, first.seed)
    return Run(Path(run), config, model, measured, importance_samples, votes, on, first)


def report(subject: Run, sections: Mapping) -> tuple[int, dict]:
    """Print the sections, and write what they found into evaluation.json; the exit status, which is 1 where a figure is
    impossible, and what was found."""
    try:
        text, found = terms(subject)
    except EstimateError as error:
        impossible(str(error))
        return 1, {}
    print(text)
    status = 0
    for name, section in sections.items():
        reason = left_out(name, subject)
        if reason is not None:
            print(f"\n{name:9}left out: {reason}")
            continue
        try:
            text, keys = section(subject)
        except EstimateError as error:
            impossible(str(error))
            status = 1
            continue
        print(f"\n{text}")
        found.update(keys)
    print()
    write_json(subject.folder / "evaluation.json", {**earlier(subject.folder, sections), **found})
    return status, found


def earlier(folder: Path, chosen: Iterable[str]) -> dict:
    """What evaluation.json already holds of other sections, and of training."""
    found = read_evaluation(folder)
    for key in (key for name in chosen for key in KEYS[name]):
        found.pop(key, None)
    return found
