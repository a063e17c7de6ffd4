"""Every picture of a finished run: `python paper/latent_figures.py RUN` draws them again, with --animate a GIF too."""

import argparse
import sys

from vae_common import cli


def build_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = cli.parser(__doc__.splitlines()[0], "data_dir")
    parser.add_argument("run", metavar="RUN", help="a run folder written by paper/vae_paper.py")
    parser.add_argument(
        "--beside",
        nargs="+",
        metavar="RUN",
        help="also figures/priors.png, its latent plane beside those of these",
    )
    cli.add_switch(parser, "animate", "also figures/manifold.gif, how the plane was learnt")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return cli.run(build_parser(), argv, cli.later("vae_commands.draw_again", "draw_again"))


if __name__ == "__main__":
    sys.exit(main())
