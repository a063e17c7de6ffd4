"""Draw a finished run again."""

from pathlib import Path

from vae_measures.held_out import measure, refuse_other_data
from vae_plots.run import draw_run
from vae_plots.snapshots import animate as animate_snapshots
from vae_training.run_files import read_run


def draw_again(run: str, data_dir: str | None = None, animate: bool = False) -> None:
    """Carry out paper/latent_figures.py: every picture of the run; with `animate` a GIF of how the plane was learnt."""
    config, model, rows = read_run(run)
    if animate:
        print(f"wrote {animate_snapshots(Path(run), config.epochs)}")
    measured = measure(model, config.load("test", data_dir), config.binarize, config.seed)
    refuse_other_data(run, rows, measured)
    draw_run(Path(run), measured, rows, config)
