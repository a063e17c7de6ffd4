"""Compress images with a finished run, without loss, and see -elbo become the size of a file.

`python paper/compress.py RUN --out FILE` takes the test split of the run's data, --images N its first N, and picture
files that are named after RUN take its place. `python paper/compress.py RUN --decode FILE --out PNG` gives the images
back, one below another. The run must be one with --binarize; vae_measures/bits_back.py has the idea.
"""

import argparse
import sys

from vae_common import cli
from vae_common.config import whole
from vae_common.errors import UsageError


def run(decode: str | None = None, **typed) -> None:
    """Choose the direction; refuse what does not go together."""
    if ("images" in typed) + bool(typed["pictures"]) + (decode is not None) > 1:
        raise UsageError("test images (--images), pictures and --decode exclude one another; give one of them.")
    if decode is not None and "data_dir" in typed:
        raise UsageError("--data-dir has no meaning with --decode, which needs no data; leave it out.")
    if decode is None:
        cli.later("vae_commands.compress_images", "compress")(**typed)
    else:
        cli.later("vae_commands.compress_images", "decompress")(typed["run"], decode, typed["out"])


def build_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = cli.parser(__doc__.splitlines()[0], "data_dir")
    parser.add_argument("run", metavar="RUN", help="a run folder written by paper/vae_paper.py, with --binarize")
    parser.add_argument(
        "pictures", metavar="IMAGE", nargs="*", default=[], help="picture files, in place of the test split"
    )
    parser.add_argument("--images", type=whole(1, 10**5), metavar="N", help="the first N test images (default all)")
    parser.add_argument("--decode", metavar="FILE", help="the other way: the images in FILE")
    parser.add_argument("--out", metavar="OUT", required=True, help="the file to write; with --decode a PNG")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return cli.run(build_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
