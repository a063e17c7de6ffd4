"""Pictures of the latent space of a finished run: `python paper/latent_figures.py RUN` draws them all again."""

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vae_common import cli, figures, pictures
from vae_common.measured import Measured


def sigma(measured: Measured, rng: np.random.Generator) -> Figure:
    return figures.sigma_per_dimension(
        measured.std, "How precisely each latent coordinate is known",
        caption="A small posterior sigma means the image fixes that coordinate; at 1 it says nothing about it.",
    )  # fmt: skip


ALL = (*pictures.ALL, sigma)


def draw_run(folder: Path, model, measured: Measured, rows: list[dict], args: argparse.Namespace) -> None:
    """Draw every picture of a run into folder/figures."""
    pictures.draw_losses(folder, rows, f"Training on {measured.data.name}")
    pictures.draw(folder, measured, ALL, args.seed)


def run(args: argparse.Namespace) -> None:
    from paper_run import measure, read_run
    from vae_common.data import load_dataset

    config, model, rows = read_run(args.run)
    data = load_dataset(config.dataset, "test", args.data_dir or config.data_dir)
    draw_run(Path(args.run), model, measure(model, data, config), rows, config)


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__.splitlines()[0], "--data-dir")
    parser.add_argument("run", metavar="RUN", help="a run folder written by paper/vae_paper.py")
    return cli.run(parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
