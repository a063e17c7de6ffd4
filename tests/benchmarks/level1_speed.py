"""Level 1 against PyTorch eager on the same cores: `python tests/benchmarks/level1_speed.py`.

Encode and decode in float32, a ratio below 1 says that NumPy is faster; then the memory that measuring many images
takes, and how long `--help` takes to answer. The bar is 1 for a single image. In batches it is 1.5: level 1 gathers and
scatters with k x k shifted slices, which can be read, and that is its price over convolutions written for speed.
"""

import subprocess
import sys
import tracemalloc
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

import timing
import vae_lowlevel
import vae_numpy
from vae_common import evaluation
from vae_common.config import RunConfig, whole
from vae_common.data import ImageSet
from vae_common.spec import VAESpec
from vae_common.weights_shown import evaluate_weights

ROOT = Path(__file__).parents[2]
BARS = {1: 1.0, 128: 1.5, 512: 1.5}  # batch size -> seconds of level 1 over seconds of level 2, at the most
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
    """MB that measuring so many images with level 1 holds at its peak, in chunks of 128, besides x, eps and results.

    tracemalloc sees every array of NumPy, and not the buffers that its matrix product keeps for itself.
    """
    rng, params = np.random.default_rng(0), VAESpec().init_params(0)
    x = rng.random((images, 1, 28, 28), dtype=np.float32)
    inputs = x, rng.standard_normal((images, 20), dtype=np.float32)
    data = ImageSet("noise", "test", x, np.zeros(images, np.int64), ("noise",))
    with patch.object(evaluation, "held_out_inputs", lambda *_: inputs):  # they are made before memory is counted
        tracemalloc.start()
        measured = evaluate_weights(params, vae_numpy.measure, vae_numpy.pixels, data, RunConfig(batch_size=128))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    results = (measured.recon, measured.kl, measured.mu, measured.logvar)
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


def run(repeats: int = 60, clock: str = "wall", images: int = 60_000) -> int:
    print(timing.machine(clock))
    verdicts, rows = timing.Verdicts(), []
    for batch_size, bar in BARS.items():
        seconds = forward_seconds(batch_size, repeats, clock)
        ratios = seconds["level 1"] / seconds["level 2"]
        milliseconds = (f"{1e3 * np.median(each):.2f}" for each in seconds.values())
        rows.append([batch_size, *milliseconds, timing.spread(ratios)])
        verdicts.judge(f"level 1 over PyTorch eager, batch {batch_size}", float(np.median(ratios)), at_most=bar)
    head = ("batch", "level 1, ms", "level 2, ms", f"ratio (5% to 95% of {repeats})")
    print("\n" + timing.table(head, rows))

    peak = peak_memory(images)
    print(f"\n{images:,} images measured in chunks of 128: {peak:.1f} MB at the peak, besides images and results")
    verdicts.judge("peak memory of level 1, MB", peak, at_most=PEAK_BAR)
    for script in ("numpy/vae_numpy.py", "paper/vae_paper.py"):
        seconds = help_seconds(script, min(repeats, 5), clock)
        verdicts.judge(f"{script} --help, seconds", seconds, at_most=HELP_BAR)
    return verdicts.finish()


def main(argv: list[str] | None = None) -> int:
    repeats = dict(type=whole(1), metavar="N", help="timed rounds (default 60)")
    images = dict(type=whole(1), help="for the memory (default 60000)")
    return timing.main(__doc__, run, argv, repeats=repeats, images=images)


if __name__ == "__main__":
    sys.exit(main())
