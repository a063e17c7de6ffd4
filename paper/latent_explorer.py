"""One offline HTML page of a finished run, in which its latent space can be explored and its network watched at work.

`python paper/latent_explorer.py RUN` writes RUN/explorer.html: the weights as float16, test images with their posterior
means, and a script (vae_explorer/) that computes everything anew. --pretrained makes it from the shipped weights, and
without MNIST at hand shows images that the model drew itself.
"""

import argparse
import sys

from vae_common import cli
from vae_common.errors import UsageError


def run(**typed) -> None:
    """Refuse what does not go together, then make the page."""
    if ("pretrained" in typed) == ("run" in typed):
        raise UsageError("expected either a run folder or --pretrained, for the shipped weights; give one of them.")
    if "latent_dim" in typed and "pretrained" not in typed:
        raise UsageError("--latent-dim chooses among the shipped weights; leave it out, a run has its own.")
    cli.later("vae_commands.explore_run", "explore_run")(**typed)


def build_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = cli.parser(__doc__.splitlines()[0], "data_dir", "latent_dim")
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run folder written by paper/vae_paper.py")
    parser.add_argument(
        "--pretrained", nargs="?", const="digits", choices=("digits", "mnist"),
        help="the shipped weights instead, of digits (default) or mnist, --latent-dim 2 or 20",
    )  # fmt: skip
    cli.add_switch(parser, "open", "open the page in the browser")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return cli.run(build_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
