"""Draw a finished run again."""

from collections.abc import Sequence
from pathlib import Path

from vae_common.errors import UsageError
from vae_common.plots.style import save_figure
from vae_common.randomness import generator
from vae_common.run_folder import short_names
from vae_measures.held_out import measured_again
from vae_plots.latent import priors
from vae_plots.run import draw_run
from vae_plots.snapshots import animate as animate_snapshots
from vae_training.run_files import read_run


def draw_again(
    run: str, data_dir: str | None = None, animate: bool = False, beside: Sequence[str] | None = None
) -> None:
    """Carry out paper/latent_figures.py: every picture of the run; with `animate` a GIF of how the plane was learnt,
    with `beside` the run's latent plane and prior among those of other runs."""
    runs = {name: read_run(name) for name in (run, *(beside or ()))}
    for name, (config, _, _) in runs.items():
        if beside and (config.model != "vae" or config.latent_dim != 2):
            raise UsageError(f"{name}: --beside draws latent planes, so all runs must be of --model vae with Z = 2.")
    names = short_names((run, *(beside or ())))
    config, _, rows = runs[run]
    if animate:
        print(f"wrote {animate_snapshots(Path(run), config.epochs)}")
    measured = {name: measured_again(name, *found, found[0].load("test", data_dir)) for name, found in runs.items()}
    draw_run(Path(run), measured[run], rows, config)
    if beside:
        titled = {names[one]: found for one, found in measured.items()}
        figure = priors(titled, generator(config.seed, "figures"))
        print(f"wrote {save_figure(figure, Path(run) / 'figures' / 'priors.png')}")
