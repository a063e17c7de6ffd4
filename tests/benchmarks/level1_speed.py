"""Level 1 against PyTorch eager on the same cores: `python tests/benchmarks/level1_speed.py`.

Encode and decode in float32, the two timed in turn in one process; the ratio is taken pair by pair, so that a machine
whose speed drifts does not matter. Below 1 NumPy is faster.
"""

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

import vae_lowlevel
import vae_numpy
from vae_common import cli
from vae_common.spec import VAESpec


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ratios(batch_size: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of level 1 and level 2 for one forward pass each (pairs,), after a warm-up."""
    params = VAESpec().init_params(0)
    tensors = vae_lowlevel.to_tensors(params)
    rng = np.random.default_rng(0)
    x = rng.random((batch_size, 1, 28, 28), dtype=np.float32)
    eps = rng.standard_normal((batch_size, 20), dtype=np.float32)
    x_tensor, eps_tensor = torch.from_numpy(x), torch.from_numpy(eps)

    def level1():
        vae_numpy.forward(params, x, eps)

    @torch.no_grad()
    def level2():
        vae_lowlevel.forward(tensors, x_tensor, eps_tensor)

    for call in (level1, level2, level1, level2):
        call()
    times = np.array([(seconds(level1), seconds(level2)) for _ in range(pairs)])
    return times[:, 0], times[:, 1]


def run(args: argparse.Namespace) -> None:
    print(f"NumPy {np.__version__}, torch {torch.__version__} with {torch.get_num_threads()} threads")
    print(f"{'batch':>6}{'level 1, ms':>13}{'level 2, ms':>13}{'ratio':>8}  (5% to 95% of {args.pairs} pairs)")
    for batch_size in (1, 128, 512):
        one, two = ratios(batch_size, args.pairs)
        low, middle, high = np.quantile(one / two, [0.05, 0.5, 0.95])
        print(
            f"{batch_size:>6}{1e3 * np.median(one):>13.2f}{1e3 * np.median(two):>13.2f}{middle:>8.2f}"
            f"  ({low:.2f} to {high:.2f})"
        )


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=cli.whole(1), default=60, help="timed pairs for each batch size (default 60)")
    return cli.run(parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
