"""Does another weight on the KL disentangle? Twelve objectives, five seeds each, on sprites, whose factors are known.

`python paper/disentanglement_study.py --out runs/study` trains every model on one core, as many at once as there are,
measures each beside PCA, an untrained encoder and the factors themselves, writes table.json and draws it. Started
again, it goes on with the models that are missing. `--table FILE` draws a finished table again.
"""

import argparse
import sys

from vae_common import cli
from vae_common.config import TEXT, flag, whole
from vae_common.errors import UsageError


def run(table: str | None = None, **typed) -> None:
    """Train a study, or draw the table of one."""
    if table is None:
        return cli.later("vae_commands.disentanglement_study", "study")(**typed)
    for name in typed:
        if name != "out":
            raise UsageError(f"{flag(name)} has no meaning with --table, which trains nothing; leave it out.")
    if "out" not in typed:
        raise UsageError("--table draws into figures/scores.png of a folder; name it with --out.")
    return cli.later("vae_commands.disentanglement_study", "draw_table")(table, typed["out"])


def build_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = cli.parser(__doc__.splitlines()[0], "data_dir", "device")
    add = parser.add_argument
    add(
        "--out",
        type=TEXT,
        metavar="DIR",
        help="folder of the study, with a run folder for each model (default runs/study)",
    )
    add("--seeds", type=whole(2, 1000), metavar="N", help="models of each objective, seeds 0 to N - 1 (default 5)")
    add("--epochs", type=whole(1, 10**6), metavar="N", help="passes over the images (default 12)")
    add("--workers", type=whole(1, 1000), metavar="N", help="models at once (default: one for each core)")
    add("--table", type=TEXT, metavar="FILE", help="draw this table.json of a study into --out, and train nothing")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return cli.run(build_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
