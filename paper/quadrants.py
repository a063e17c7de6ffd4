"""Predict the missing quadrants of an image from the given ones: a plain network beside a conditional VAE.

The models are in vae_models/quadrant_cvae.py.

Setting and published figures are those of the example "cvae" of Pyro (https://pyro.ai/examples/cvae.html): given are
the lower left quadrant; the left half; all but the lower right quadrant. Its figure for the CVAE is the -elbo of
Trace_ELBO with ten samples (called Monte Carlo there), of the epoch that was best on the test split itself; ours are of
the last epoch. Two differences more: our p(y|x,z) sees x, and starts from the plain network's logits.
"""

import sys

from vae_common import cli
from vae_common.config import QuadrantConfig


def run(**typed) -> None:
    """Train and measure with what was typed."""
    cli.later("vae_commands.quadrants_run", "predict_quadrants")(QuadrantConfig(**typed))


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = cli.parser(__doc__.splitlines()[0], *QuadrantConfig.settings("quadrants"), config=QuadrantConfig)
    return cli.run(parser, argv, run)


if __name__ == "__main__":
    sys.exit(main())
