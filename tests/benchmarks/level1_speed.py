"""Level 1 against PyTorch eager on the same cores: `python tests/benchmarks/level1_speed.py`.

Encode and decode in float32, a ratio below 1 says that NumPy is faster; then the memory that a forward pass over many
images takes, and how long `--help` takes to answer.
"""

import argparse
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import torch

import timing
import vae_lowlevel
import vae_numpy
from vae_common import cli
from vae_common.spec import VAESpec

ROOT = Path(__file__).parents[2]
BARS = {1: 1.0, 128: 1.25, 512: 1.25}  # batch size -> seconds of level 1 over seconds of level 2, at the most
PEAK_BAR = 32  # MB
HELP_BAR = 0.3  # seconds


def forward_seconds(batch_size: int, repeats: int, clock: str) -> dict[str, np.ndarray]:
    """Seconds (repeats,) of one forward pass of levels 1 and 2 on the same images."""
    params = VAESpec().init_params(0)
    tensors = vae_lowlevel.to_tensors(params)
    rng = np.random.default_rng(0)
    x = rng.random((batch_size, 1, 28, 28), dtype=np.float32)
    eps = rng.standard_normal((batch_size, 20), dtype=np.float32)
    x_tensor, eps_tensor = torch.from_numpy(x), torch.from_numpy(eps)
    calls = {
        "level 1": lambda: vae_numpy.forward(params, x, eps),
        "level 2": lambda: vae_lowlevel.forward(tensors, x_tensor, eps_tensor),
    }
    with torch.no_grad():
        return timing.side_by_side(calls, repeats, clock, times=max(1, 32 // batch_size))


def peak_memory(images: int) -> float:
    """MB that `evaluate` of level 1 holds at its peak, in chunks of 128, besides its arguments and its results.

    tracemalloc sees every array of NumPy, and not the buffers that its matrix product keeps for itself.
    """
    params = VAESpec().init_params(0)
    rng = np.random.default_rng(0)
    x = rng.random((images, 1, 28, 28), dtype=np.float32)
    eps = rng.standard_normal((images, 20), dtype=np.float32)
    tracemalloc.start()
    try:
        results = vae_numpy.evaluate(params, x, eps)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (peak - sum(result.nbytes for result in results)) / 1e6


def help_seconds(script: str, repeats: int, clock: str) -> float:
    """Seconds that `python SCRIPT --help` takes; with the cpu clock those of the child on a processor."""
    command = [sys.executable, str(ROOT / script), "--help"]

    def answer() -> None:
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)

    if clock == "wall":
        return float(np.median(timing.side_by_side({"help": answer}, repeats, warm_up=1)["help"]))
    import resource  # not on Windows

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(repeats):
        answer()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / repeats


def run(args: argparse.Namespace) -> int:
    print(timing.machine(args.clock))
    verdicts, rows = timing.Verdicts(), []
    for batch_size, bar in BARS.items():
        seconds = forward_seconds(batch_size, args.repeats, args.clock)
        ratios = seconds["level 1"] / seconds["level 2"]
        milliseconds = (f"{1e3 * np.median(each):.2f}" for each in seconds.values())
        rows.append([batch_size, *milliseconds, timing.spread(ratios)])
        verdicts.judge(f"level 1 over PyTorch eager, batch {batch_size}", float(np.median(ratios)), at_most=bar)
    head = ("batch", "level 1, ms", "level 2, ms", f"ratio (5% to 95% of {args.repeats})")
    print("\n" + timing.table(head, rows))

    peak = peak_memory(args.images)
    print(
        f"\nforward of {args.images:,} images in chunks of 128: {peak:.1f} MB at the peak, besides images and results"
    )
    verdicts.judge("peak memory of level 1, MB", peak, at_most=PEAK_BAR)
    for script in ("numpy/vae_numpy.py", "paper/vae_paper.py"):
        seconds = help_seconds(script, min(args.repeats, 5), args.clock)
        verdicts.judge(f"{script} --help, seconds", seconds, at_most=HELP_BAR)
    return verdicts.finish()


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__.splitlines()[0])
    timing.add_flags(parser, repeats=60)
    parser.add_argument("--images", type=cli.whole(1), default=60_000, help="for the memory (default 60000)")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
