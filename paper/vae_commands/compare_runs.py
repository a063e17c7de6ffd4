"""Set finished runs of the same data side by side: where their nats go, and which of them draws best."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vae_commands.compare_codes import refuse_other_settings
from vae_commands.evaluate_run import SECTIONS, Run, opened, posteriors, report
from vae_common import cli
from vae_common.randomness import generator
from vae_common.run_folder import read_config, read_evaluation
from vae_measures import gaps as nats
from vae_measures.latent_space import fitted_codes
from vae_measures.sample_quality import prior_samples
from vae_plots.several_runs import FORMS, SHOWN, gaps_of_runs, samples_of_runs

SAME = {"samples": ("dataset", "invert", "binarize"), "gaps": ("dataset", "invert", "binarize", "likelihood")}


def compare_runs(
    runs: Sequence[str],
    only: Sequence[str],
    data_dir: str | None = None,
    device: str = "auto",
    importance_samples: int = 500,
) -> int:
    """Carry out paper/evaluate.py RUN RUN ... --only gaps samples; returns the exit status.

    Each run is measured and reported as if alone, but with the noise and the classifier of the first. Then follow one
    table of all, and one picture in the figures of the first.
    """
    configs = {run: read_config(run)[0] for run in runs}
    for run, name in [(run, name) for run in configs for name in only]:
        refuse_other_settings(runs[0], configs[runs[0]], run, configs[run], SAME[name])
    first, status, found, strips, fitted = None, 0, {}, [], []
    for run in configs:
        subject = opened(run, data_dir, cli.torch_device(device), importance_samples, 0, first)
        first = first or subject
        if not subject.model.has_prior and "samples" in only:
            codes, _ = posteriors(subject, subject.train)
            subject = replace(subject, measured=replace(subject.measured, prior_codes=fitted_codes(codes, 0 * codes)))
            fitted.append(run)
        print(f"--- {run}: {subject.model.title} ---\n")
        status |= report(subject, {name: SECTIONS[name] for name in only})
        found[run] = read_evaluation(run)
        if "samples" in only:
            rng = generator(first.seed, "figures")
            strips.append(prior_samples(subject.measured, SHOWN, subject.config.binarize, rng)[0])
    if "gaps" in only:
        print(compared_gaps(first, {run: one["gaps"] for run, one in found.items() if "gaps" in one}))
    if "samples" in only and status == 0:
        print(
            compared_samples(
                first, {run: one["sample_quality"] for run, one in found.items()}, np.stack(strips), fitted
            )
        )
    return status


def compared_gaps(first: Run, found: dict[str, dict]) -> str:
    """The gaps of all runs that have some, as lines of text and as a picture."""
    width, parts = max(map(len, found), default=0), ("family", "richer", "amortization")
    on = first.on_images(nats.IMAGES)
    lines = [
        f"gaps     of {first.log_p}, nats per image (standard error over the images); {on}",
        f"  {'':{width}} -log p(x) + family gap (a flow regains) + amortization gap = -elbo",
    ]
    for run, one in found.items():
        family, regained, amortization = (f"{one[f'{k}_gap']:.2f} ({one[f'{k}_gap_error']:.2f})" for k in parts)
        lines.append(
            f"  {run:{width}}{-one['log_p']:10.2f}{family:>13}{regained:>18}{amortization:>19}{-one['elbo']:9.2f}"
        )
    if found:
        lines.append(first.draw("compared-gaps", gaps_of_runs(found, first.log_p, on)))
    return "\n".join(lines)


def compared_samples(first: Run, found: dict[str, dict], strips: list[np.ndarray], fitted: Sequence[str]) -> str:
    """Who draws best, as lines of text and as a picture; strips: some samples (M, 1, 28, 28) of each run; fitted: the
    runs that have no prior."""
    one = next(iter(found.values()))
    rows = {
        "real images": of_samples({**one, "class_kl": 0.0}, "test"),
        **{run: of_samples(found[run]) for run in found},
    }
    width = max(map(len, rows))
    lines = [
        f"samples  who draws best: {one['count']:,} samples each; {first.on}",
        f"  one classifier for all, which names {one['classifier_accuracy']:.1%} of the test images right",
        f"  {'':{width}}" + "".join(f"{name:>14}" for name in FORMS),
    ]
    for name, row in rows.items():
        lines.append(f"  {name:{width}}" + "".join(f"{form.format(row[key]):>14}" for key, form in FORMS.items()))
    lines += [
        f"  {run} has no prior: it draws from the Gaussian fitted to its codes of training images" for run in fitted
    ]
    real = (255 * first.measured.x[:SHOWN]).astype(np.uint8)
    lines.append(first.draw("compared-samples", samples_of_runs(rows, np.stack([real, *strips]), first.on)))
    return "\n".join(lines)


def of_samples(found: dict, of: str = "samples") -> dict[str, float]:
    """The figures of FORMS in a `sample_quality.report`, of "samples" or of "test" images; the distance of the test
    images is that of training images to them."""
    recognised, distance, near = (
        found[key] for key in ("recognised_with_confidence", "frechet_distance", "nearest_training_image")
    )
    values = (recognised[of], distance["train" if of == "test" else of], found["class_kl"], near[of])
    return dict(zip(FORMS, values, strict=True))
