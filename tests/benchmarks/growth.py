"""Time and peak memory of training as it grows: `python tests/benchmarks/growth.py`.

Level 2 takes --steps steps on drawn digits, with one of three sizes changed at a time: images per step, latent
dimensions, images in memory. Each point is a process of its own, so that its peak memory is its own; memory counts
from the moment everything is imported and one step is taken. Level 3 takes as many steps of 256 images in 1, 2 and 4
processes with one thread each, and memory is that of the first. Writes a picture where --out says.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import timing
from vae_common.config import RunConfig, whole
from vae_common.errors import UsageError

SIZES = {
    "images per step": (16, 64, 256, 1024),
    "latent dimensions": (2, 8, 32, 128),
    "images in memory": (10_000, 60_000, 200_000, 600_000),
    "processes": (1, 2, 4),
}
SHARED_BATCH = 256
BASE = {"images per step": 64, "latent dimensions": 20, "images in memory": 10_000}


def measure_point(point: dict[str, int], steps: int, clock: str) -> dict[str, float]:
    """Run in the point's own process: seconds per step, and the MB by which its peak memory grew."""
    batch_size, latent_dim, count = point.values()
    import torch

    import vae_lowlevel
    from vae_common.spec import VAESpec

    config = RunConfig(epochs=1, batch_size=batch_size, lr=1e-3)
    params = vae_lowlevel.to_tensors(VAESpec(latent_dim).init_params(0))
    optimizer = torch.optim.Adam(params.values(), lr=1e-3, fused=True)

    def take(images: np.ndarray, steps: int) -> None:
        epoch = vae_lowlevel.train_epoch(params, optimizer, images, 1, config)
        for _, _ in zip(range(steps), epoch, strict=False):
            pass

    return measured(take, count, steps, clock)


def measure_shared(steps: int) -> dict[str, float]:
    """The same of level 3 in the processes that torchrun started; the clock on the wall, which all of them share."""
    import torch

    from conv_vae import ConvVAE
    from vae_common.data import ImageSet
    from vae_training import processes, trainer

    torch.manual_seed(0)
    config = RunConfig(epochs=1, batch_size=SHARED_BATCH)
    with processes.joined():
        state = trainer.RunState.start(ConvVAE(), config)

        def take(images: np.ndarray, steps: int) -> None:
            data = ImageSet("digits", "train", images, np.zeros(len(images), np.int64), ())
            for index in np.split(np.arange(SHARED_BATCH * steps) % len(images), steps):
                trainer.train_step(state, data, index, config, 10**6)

        return measured(take, BASE["images in memory"], steps, "wall")


def measured(take: Callable[[np.ndarray, int], None], count: int, steps: int, clock: str) -> dict[str, float]:
    """Seconds per step of take(images, steps), and MB by which `count` images and the steps raise the peak memory."""
    import resource  # not on Windows

    from vae_common import digits

    take(digits.draw(digits.sample_factors(16, seed=1)), 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images = digits.draw(digits.sample_factors(count, seed=0))
    take(images, 1)
    seconds = timing.side_by_side({"steps": lambda: take(images, steps)}, 5, clock, warm_up=1)["steps"] / steps
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB here
    return {"seconds": float(np.median(seconds)), "megabytes": grown * unit / 1e6}


def in_own_process(point: dict[str, int], steps: int, clock: str) -> dict[str, float]:
    env = os.environ
    command = [__file__, "--steps", str(steps), "--clock", clock, "--point", json.dumps(point)]
    if "processes" in point:
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(point["processes"])]
        command, env = [*launch, *command], {**env, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=env)
    if done.returncode:
        raise UsageError(f"the process that measured {point} failed: {done.stderr.strip().splitlines()[-1:]}.")
    return json.loads(done.stdout.splitlines()[-1])


def slope(sizes: tuple[int, ...], values: list[float]) -> float:
    """d log(value) / d log(size) between the two largest sizes: 1 is linear, 0 is constant."""
    return float(np.log(values[-1] / values[-2]) / np.log(sizes[-1] / sizes[-2]))


def draw(results: dict[str, list[dict]], sizes: dict[str, tuple[int, ...]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.5), layout="constrained")
    axes = figure.subplots(2, len(results), sharey="row")
    for column, (name, points) in zip(axes.T, results.items(), strict=True):
        for ax, key, scale in zip(column, ("seconds", "megabytes"), (1e3, 1), strict=True):
            values = [scale * point[key] for point in points]
            ax.loglog(sizes[name], values, "o-", color="tab:blue")
            if name != "processes" and slope(sizes[name], values) > 0.5:  # where it grows at all
                ax.loglog(sizes[name], [values[-1] * size / sizes[name][-1] for size in sizes[name]], ":", color="0.4")
            ax.set_xticks(sizes[name], [f"{size:,}" for size in sizes[name]])
            ax.minorticks_off()
            ax.grid(alpha=0.3)
        column[0].set_title(f"{name}, {os.cpu_count()} cores" if name == "processes" else name)
        column[1].set_xlabel(name)
    axes[0, 0].set_ylabel("ms per step")
    axes[1, 0].set_ylabel("peak memory, MB")
    axes[0, 0].legend(["measured", "linear growth"], fontsize=8)
    figure.savefig(path, dpi=100)
    print(f"wrote {path}")


def run(
    clock: str = "wall", steps: int = 8, sizes: int = 4, out: str | None = None, point: str | None = None
) -> int | None:
    if point is not None:
        point = json.loads(point)
        found = measure_shared(steps) if "processes" in point else measure_point(point, steps, clock)
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps(found))
        return None
    print(timing.machine(clock))
    sizes_of = {name: values[:sizes] for name, values in SIZES.items()}
    results, rows, verdicts = {}, [], timing.Verdicts()
    for name, values in sizes_of.items():
        base = {} if name == "processes" else BASE
        results[name] = [in_own_process({**base, name: size}, steps, clock) for size in values]
        for size, point in zip(values, results[name], strict=True):
            images = {**base, name: size}.get("images per step", SHARED_BATCH)
            times = f"{1e3 * point['seconds']:.1f}", f"{1e6 * point['seconds'] / images:.0f}"
            rows.append([name, f"{size:,}", *times, f"{point['megabytes']:.0f}"])
        for key, what in (("seconds", "time per step"), ("megabytes", "peak memory")) if base else ():
            exponent = slope(values, [point[key] for point in results[name]])
            bar = 0.15 if (name, key) == ("images in memory", "seconds") else 1.1
            verdicts.judge(f"{what} grows with {name} to the power", exponent, at_most=bar)
    ratio = results["processes"][1]["seconds"] / results["processes"][0]["seconds"]
    verdicts.judge("time per step of 2 processes over that of 1, with a core for each", ratio, at_most=0.75)
    print("\n" + timing.table(("size changed", "", "ms per step", "us per image", "peak memory, MB"), rows))
    if out is not None:
        draw(results, sizes_of, Path(out))
    return verdicts.finish()


def main(argv: list[str] | None = None) -> int:
    flags = {
        "steps": dict(type=whole(1), help="timed steps of a point (default 8)"),
        "sizes": dict(type=whole(2, 4), help="sizes of each kind, from the smallest (default 4)"),
        "out": dict(metavar="PNG", help="picture to write"),
        "point": dict(help=argparse.SUPPRESS),
    }
    return timing.main(__doc__, run, argv, several=True, **flags)


if __name__ == "__main__":
    sys.exit(main())
