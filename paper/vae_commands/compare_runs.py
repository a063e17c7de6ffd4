"""Set finished runs of the same data side by side: where their nats go, and which of them draws best."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vae_commands.evaluate_run import SECTIONS, Run, opened, posteriors, report
from vae_common import cli
from vae_common.errors import UsageError
from vae_common.randomness import generator
from vae_common.run_folder import read_config, refuse_unlike, short_names
from vae_measures.latent_space import fitted_codes
from vae_measures.sample_quality import prior_samples
from vae_plots.several_runs import FORMS, SHOWN, gaps_of_runs, samples_of_runs

SAME = {"samples": ("dataset", "binarize"), "gaps": ("dataset", "binarize", "likelihood")}


def compare_runs(
    runs: Sequence[str],
    only: Sequence[str],
    data_dir: str | None = None,
    device: str = "auto",
    importance_samples: int = 500,
) -> int:
    """Carry out paper/evaluate.py RUN RUN ... --only gaps samples; returns the exit status.

    Each run is measured and reported as if alone, but with the noise and the classifier of the first. Then follow a
    table of all, and a picture in the figures of the first.
    """
    short_names(runs)  # refuses one that is named twice
    configs = {run: read_config(run)[0] for run in runs}
    for name in only:
        refuse_unlike(configs, SAME[name])
    first = opened(runs[0], data_dir, cli.torch_device(device), importance_samples)
    rest = [opened(run, data_dir, first.device, importance_samples, first=first) for run in runs[1:]]
    subjects = dict(zip(runs, [first, *rest], strict=True))
    refuse_other_images(subjects)
    log_p = log_p_of_all(subjects) if "gaps" in only else ""

    status, found, strips, notes = 0, {}, [], []
    for run, subject in subjects.items():
        if "samples" in only and not subject.model.has_prior:
            mu, _ = posteriors(subject, subject.train)
            subject = replace(subject, measured=replace(subject.measured, prior_codes=fitted_codes(mu, 0 * mu)))
            notes.append(f"  {run} has no prior: it draws from the Gaussian fitted to its codes of training images")
        print(f"--- {run}: {subject.model.title} ---\n")
        failed, found[run] = report(subject, {name: SECTIONS[name] for name in only})
        status |= failed
        if "sample_quality" in found[run]:
            rng = generator(first.seed, "figures")
            strips.append(prior_samples(subject.measured, SHOWN, subject.config.binarize, rng)[0])
    compare_gaps(first, log_p, {run: one["gaps"] for run, one in found.items() if "gaps" in one})
    if strips:
        sampled = {run: one["sample_quality"] for run, one in found.items() if "sample_quality" in one}
        compare_samples(first, sampled, np.stack(strips))
    print(*notes, sep="\n")
    return status


def refuse_other_images(subjects: Mapping[str, Run]) -> None:
    """Raise UsageError unless all runs were measured on the same test images."""
    first, *_ = subjects
    for run, subject in subjects.items():
        if not np.array_equal(subject.measured.data.images, subjects[first].measured.data.images):
            raise UsageError(f"{run}: its test images are not those of {first}; compare runs of the same data.")


def log_p_of_all(subjects: Mapping[str, Run]) -> str:
    """What the bounds of those runs that have some are bounds of. Raises UsageError unless it is the same for all."""
    expected = ""
    for run, subject in subjects.items():
        if subject.model.has_posterior:
            expected = expected or subject.log_p
            if subject.log_p != expected:
                raise UsageError(f"{run}: expected bounds of {expected}, found those of {subject.log_p}.")
    return expected


def compare_gaps(first: Run, log_p: str, found: Mapping[str, Mapping]) -> None:
    """Print and draw the gaps of the runs that have some."""
    parts = {"family gap": "family", "a flow regains": "richer", "amortization gap": "amortization"}
    rows = {}
    for run, one in found.items():
        gaps = {name: f"{one[f'{key}_gap']:.2f} ({one[f'{key}_gap_error']:.2f})" for name, key in parts.items()}
        rows[run] = {f"-{log_p}": f"{-one['log_p']:.2f}", **gaps, "-elbo": f"{-one['elbo']:.2f}"}
    if rows:
        on = first.on_images(next(iter(found.values()))["images"])
        print(table(f"gaps     where the nats go, per image (standard error); {on}", rows))
        print(first.draw("compared-gaps", gaps_of_runs(found, log_p, on)))


def compare_samples(first: Run, found: Mapping[str, Mapping], strips: np.ndarray) -> None:
    """Print and draw what a classifier makes of the samples of each run; strips (R, M, 1, 28, 28): some of them."""
    one = next(iter(found.values()))
    figures = {"real images": of_samples({**one, "class_kl": 0.0}, "test")}
    figures |= {run: of_samples(sampled, "samples") for run, sampled in found.items()}
    rows = {run: {name: FORMS[name].format(value) for name, value in row.items()} for run, row in figures.items()}
    print(table(f"samples  who draws best: {one['count']:,} samples each, one classifier for all; {first.on}", rows))
    real = (255 * first.measured.x[None, :SHOWN]).astype(np.uint8)
    print(first.draw("compared-samples", samples_of_runs(figures, np.concatenate([real, strips]), first.on)))


def of_samples(found: Mapping, of: str) -> dict[str, float]:
    """The figures of FORMS in a `sample_quality.report`; of test images, which are 0 from themselves, the distance is
    that of training images to them."""
    distance = found["frechet_distance"]["train" if of == "test" else of]
    near = found["nearest_training_image"][of]
    return dict(zip(FORMS, (found["recognised_with_confidence"][of], distance, found["class_kl"], near), strict=True))


def table(head: str, rows: Mapping[str, Mapping[str, str]]) -> str:
    """A line for each run, a column for each of its figures."""
    width, columns = max(map(len, rows)), next(iter(rows.values()))
    lines = [head, f"  {'':{width}}" + "".join(f"{name:>18}" for name in columns)]
    return "\n".join(
        lines + [f"  {run:{width}}" + "".join(f"{v:>18}" for v in row.values()) for run, row in rows.items()]
    )
