"""Measure a finished run of level 3, and say what can be trusted.

`python paper/evaluate.py RUN` prints one table and writes evaluation.json into the run, in these sections:

terms     recon, kl and elbo of the test split, again, and the floor that no model can beat
bounds    L_K, the importance-weighted bounds of log p(x); -L_K is reported as nll
codes     the parts of the rate, I(x; z) + KL(q(z) || p(z)), and which latent dimensions are used
probes    what mu alone says about the classes, beside PCA, pixels and an untrained encoder
factors   disentanglement, where the true factors of the data are known
samples   what a classifier makes of samples of the prior, and whether they are copies of training images
space     continuity and completeness of the latent space
gaps      what the elbo loses: the encoder's part and that of its Gaussian, on 100 images; takes minutes, only if named

With several runs of the same data, `--only gaps` or `--only samples` measures each and sets them side by side.
`--doctor` tests what must hold for every VAE instead, for a run or a .py file with an encode and a decode of your own;
`--against VAE ...` compares an autoencoder's run with PCA, with the run of a VAE, and with further runs of either.
"""

import argparse
import sys
from pathlib import Path

from vae_common import cli
from vae_common.config import whole
from vae_common.errors import UsageError

SECTIONS = ("bounds", "codes", "probes", "factors", "samples", "space", "gaps")
COMPARED = {"samples", "gaps"}  # the sections in which several runs are set side by side
MEASURING, EXAMINING = (
    ("device", "importance_samples", "only", "votes"),
    ("dataset", "invert", "binarize", "seed", "images"),
)


def run(runs: list[str], doctor: bool = False, against: list[str] | None = None, **typed) -> int | None:
    """Choose what to do from what was typed; refuse the flags that do not apply."""
    run, several, one = runs[0], len(runs) > 1, "--doctor" if doctor else "--against"
    if several and (doctor or against is not None):
        raise UsageError(f"{one} takes one RUN; {runs[1]} is another.")
    if several and not set(typed.get("only", SECTIONS)) <= COMPARED:
        raise UsageError("several runs are set side by side in their gaps or samples: add --only gaps, or samples.")
    if doctor and against is not None:
        raise UsageError("--doctor examines one run, and --against compares two; give one of them.")
    if (doctor or several or against is not None) and cli.is_one_of_several():
        what = "a comparison" if several else one
        raise UsageError(f"{what} runs in one process; start it with python, without torchrun.")
    if doctor:
        refuse(typed, "--doctor", MEASURING)
        return cli.later("vae_doctor.report", "diagnose")(run, **typed)
    refuse(typed, "a run, whose own settings hold", EXAMINING)
    if against is not None:
        refuse(typed, "--against", MEASURING)
        return cli.later("vae_commands.compare_codes", "compare_codes")(run, against, **typed)
    if Path(run).suffix == ".py":
        raise UsageError(f"{run}: a .py file can only be examined; give --doctor with it, or name a run.")
    if several:
        refuse(typed, "several runs", ("votes",))
        return cli.later("vae_commands.compare_runs", "compare_runs")(runs, **typed)
    return cli.later("vae_commands.evaluate_run", "evaluate_run")(run, **typed)


def refuse(typed: dict, what: str, names: tuple[str, ...]) -> None:
    """Raise UsageError when one of the settings `names` was typed."""
    for name in names:
        if name in typed:
            raise UsageError(f"--{name.replace('_', '-')} has no meaning with {what}; leave it out.")


def build_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = cli.parser(__doc__.splitlines()[0], "data_dir", "device", "dataset", "invert", "binarize", "seed")
    add = parser.add_argument
    run = "a run folder written by paper/vae_paper.py; with --doctor also a .py file"
    add("runs", metavar="RUN", nargs="+", help=f"{run}; several are compared in their gaps or samples")
    add("--importance-samples", type=whole(1, 10**6), metavar="K", help="z per image (default 500)")
    sections = f"of {', '.join(SECTIONS)} (default all but gaps)"
    add("--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=sections)
    add("--votes", type=whole(100, 10**6), metavar="V", help="votes of 64 images for the factors (default 320)")
    add(
        "--against", nargs="+", metavar="VAE",
        help="compare the autoencoder RUN with PCA and with this run of --model vae, and with more of vae or ae",
    )  # fmt: skip
    cli.add_switch(parser, "doctor", "test what must hold for every VAE, and say what fails")
    add("--images", type=whole(50, 10_000), metavar="N", help="test images for --doctor (default 1000)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return cli.run(build_parser(), argv, run, several=True)


if __name__ == "__main__":
    sys.exit(main())
