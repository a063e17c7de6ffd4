"""Rate and distortion: the trade-off that beta sets, from codes that say nothing to codes that copy the image.

`python paper/rate_distortion.py --sweep` trains one beta-VAE after another, each from the weights of the one before,
and draws them in the plane of rate and distortion (vae_measures/rate_distortion_plane.py), both in nats per image.
`python paper/rate_distortion.py RUN` places a finished run there, and RUN RUN ... several runs in one picture.
"""

import argparse
import sys

from vae_common import cli
from vae_common.config import SweepConfig, flag
from vae_common.errors import UsageError

WHERE = ("device", "data_dir")  # what may be named anew with a run that keeps its settings


def run(**typed) -> None:
    """Place runs, train a sweep, or go on with one; refuse settings that do not apply."""
    if typed.get("run"):
        refuse_others(typed, "RUN", "run", "samples", *WHERE)
        cli.later("vae_commands.rate_distortion_runs", "place_runs")(**typed)
    elif "resume" in typed:
        refuse_others(typed, "--resume", "resume", *WHERE)
        cli.later("vae_commands.rate_distortion_runs", "resume_sweep")(**typed)
    elif "sweep" in typed:
        cli.later("vae_commands.rate_distortion_runs", "train_new_sweep")(SweepConfig(**typed))
    else:
        raise UsageError("name a finished RUN to place in the plane, or train a row of them with --sweep.")


def refuse_others(typed: dict, what: str, *allowed: str) -> None:
    """Raise UsageError when a setting other than the allowed ones was typed."""
    for name in typed:
        if name not in allowed:
            raise UsageError(f"{flag(name)} cannot be given with {what}, which keeps the settings it was trained with.")


def build_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = cli.parser(__doc__.splitlines()[0], *SweepConfig.settings("rate_distortion"), config=SweepConfig)
    parser.add_argument("run", metavar="RUN", nargs="*", help="run folders written by paper/vae_paper.py")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return cli.run(build_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
