"""Is a VAE right? Invariants of every correct and trained one, and in words which of them fails and where to look.

`python paper/evaluate.py TARGET --doctor` examines a run folder of vae_paper.py, or a Python file of yours that defines

    encode(x) -> (mu, logvar)             x (B, 1, 28, 28) in [0, 1]; mu, logvar (B, Z)
    decode(z) -> x_logits                 (B, 1, 28, 28) or (B, 784)

and as far as it has them, each with one more invariant to hold it to,

    reparameterize(mu, logvar, eps) -> z                  forward(x, eps) -> (x_logits, mu, logvar)
    elbo_terms(x, x_logits, mu, logvar) -> (recon, kl)    per image (B,), or means over the batch
    importance_bound(log_w) -> L_K                        log_w (B, K) -> (B,)
    mutual_information(z, mu, logvar) -> number           all (N, Z): an estimate of I(x; z) in nats
    model, params, likelihood                             an nn.Module; a dict of weights; "bernoulli" or "gaussian"
    beta                                                  a number, 1 if missing: recon + beta kl was minimised; or None

in NumPy or in torch. The invariants are ordered: begin with the first that fails, the later ones may follow from it.
"""

import contextlib
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from torch import nn

from vae_common.config import RunConfig
from vae_common.data import binarize
from vae_common.errors import UsageError
from vae_common.evaluation import PIXELS
from vae_common.randomness import generator
from vae_doctor.invariants import INVARIANTS, Exam, Fails, Finding, Skip
from vae_doctor.subject import Subject, subject_of_model, subject_of_module
from vae_training.run_files import read_run

# What training is for; no defect in the code.
UNTRAINED_MAY_FAIL = ("encoder-uses-x", "decoder-uses-z", "beats-mean-image", "stationary")

# --- examine and report -------------------------------------------------------------------------------------------


def examine(subject: Subject, x: np.ndarray, seed: int = 0, y: np.ndarray | None = None) -> list[Finding]:
    """All invariants over images x (N, 1, 28, 28) in [0, 1], N >= 50, and for a conditional model their labels y (N,).

    A few hundred to a few thousand images: they are computed in one batch. Raises UsageError for other images, and
    SubjectError when a function of the subject raises or answers with something else than it should.
    """
    if x.ndim != 4 or x.shape[1:] != (1, 28, 28) or len(x) < 50 or not (x.min() >= 0 and x.max() <= 1):
        raise UsageError(f"the doctor needs 50 images (N, 1, 28, 28) or more, from 0 to 1; got {x.shape}.")
    with eval_mode(subject.model), np.errstate(all="ignore"):  # what is not finite is found, not warned of
        exam = Exam.of(subject, x.astype(np.float32), y, np.random.default_rng(seed))
        findings = []
        for name, invariant in INVARIANTS.items():
            if findings and findings[0].status == "failed":
                findings.append(Finding(name, "skipped", "the numbers are not finite."))
            else:
                findings.append(_look(name, invariant, exam))
    return findings


def _look(name: str, invariant: Callable[[Exam], str], exam: Exam) -> Finding:
    try:
        return Finding(name, "ok", invariant(exam))
    except Fails as failure:
        return Finding(name, "failed", str(failure))
    except Skip as reason:
        return Finding(name, "skipped", str(reason))


@contextlib.contextmanager
def eval_mode(model: nn.Module | None) -> Iterator[None]:
    """The model in eval mode, and afterwards as it was."""
    training = model is not None and model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def first_failure(findings: list[Finding]) -> Finding | None:
    """The failure to begin with; those after it may follow from it."""
    return next((finding for finding in findings if finding.status == "failed"), None)


def report(findings: list[Finding]) -> str:
    """The findings as a table of 120 columns, with what to begin with."""
    lines = []
    for finding in findings:
        mark = "FAILED" if finding.status == "failed" else finding.status
        head = f"  {mark:<8} {finding.name:<18} "
        lines.append(textwrap.fill(finding.sentence, 120, initial_indent=head, subsequent_indent=" " * len(head)))
    counts = {status: sum(f.status == status for f in findings) for status in ("ok", "failed", "skipped")}
    lines.append(f"{counts['ok']} invariants hold, {counts['failed']} fail, {counts['skipped']} skipped.")
    worst = first_failure(findings)
    if worst is not None:
        lines.append(f"begin with {worst.name}: what fails after it may follow from it.")
        if all(f.name in UNTRAINED_MAY_FAIL for f in findings if f.status == "failed"):
            lines.append("look at the training first: a right VAE, hardly trained or collapsed, fails there too.")
    return "\n".join(lines)


def diagnose(target: str | Path, images: int = 1000, data_dir: str | None = None, **typed) -> int:
    """Examine a run folder, or a Python file that ends in .py, on test images; print the report.

    A run has settings of its own; for a file `typed` are those of RunConfig that say on which images. Returns the exit
    status: 0 when every invariant holds, 1 when one fails. Raises UsageError, DatasetError or WeightsError for what
    cannot be examined.
    """
    labels = False
    if Path(target).suffix == ".py":
        subject, config = subject_of_module(target), RunConfig(**typed)
    else:
        config, model, _ = read_run(target)
        beta = config.plain_beta if config.anneal == "none" else None
        subject, labels = subject_of_model(model, str(target), beta), model.conditional
    test = config.load("test", data_dir)
    x = binarize(test.images[:images], config.binarize, generator(config.seed, "evaluation"))
    print(f"doctor: {subject.name} on {len(x):,} test images of {test.name}, {PIXELS[config.binarize]}")
    findings = examine(subject, x, config.seed, test.labels[: len(x)] if labels else None)
    print(report(findings))
    return int(first_failure(findings) is not None)
