"""What the benchmarks share: calls timed side by side, the machine in one line, a table, and PASS or FAIL.

A ratio is taken repeat by repeat between calls that ran next to each other, so that a machine whose speed drifts does
not matter; its median is judged, its range is printed. No benchmark is part of the tests' default run.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vae_common import cli
from vae_common.config import whole

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


CLOCK_FLAG = dict(
    choices=CLOCKS,
    help="cpu leaves out the time that other programs took: for a busy machine, with OMP_NUM_THREADS=1",
)


def add_flags(parser: argparse.ArgumentParser, repeats: int) -> None:
    text = f"timed rounds (default {repeats})"
    parser.add_argument("--repeats", type=whole(1), metavar="N", help=text)
    parser.add_argument("--clock", **CLOCK_FLAG)


def side_by_side(
    calls: Mapping[str, Callable[[], object]], repeats: int, clock: str = "wall", times: int = 1, warm_up: int = 2
) -> dict[str, np.ndarray]:
    """Seconds of each call (repeats,). A round runs every call, in an order drawn anew, `times` times over."""
    now, rng = CLOCKS[clock], np.random.default_rng(0)
    seconds = {name: np.empty(repeats) for name in calls}
    for call in calls.values():
        for _ in range(warm_up):
            call()
    for repeat in range(repeats):
        for name in rng.permutation(list(calls)):
            start = now()
            for _ in range(times):
                calls[name]()
            seconds[name][repeat] = (now() - start) / times
    return seconds


def spread(ratios: np.ndarray) -> str:
    """The median of `ratios` and, in brackets, where nine tenths of them lie."""
    low, middle, high = np.quantile(ratios, [0.05, 0.5, 0.95])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def machine(clock: str) -> str:
    """What the numbers are of: processor, threads, versions, the clock, and how busy the machine was."""
    import torch

    processor = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            processor = next((line.split(":", 1)[1].strip() for line in file if "model name" in line), processor)
    cores, threads = os.cpu_count(), torch.get_num_threads()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{processor}, {cores} cores{load}; {cli.counted(threads, 'thread')}; NumPy {np.__version__}, "
        f"torch {torch.__version__}; {clock} clock"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as their widest cell, the first to the left, the others to the right."""
    cells = [list(map(str, row)) for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligned = [
        [cell.ljust(widths[0]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row)] for row in cells
    ]
    return "\n".join("  ".join(row) for row in aligned)


@dataclass
class Verdicts:
    """The bars that a program's numbers are held against."""

    lines: list[str] = field(default_factory=list)
    failed: int = 0

    def judge(self, what: str, value: float, *, at_most: float | None = None, at_least: float | None = None) -> None:
        passed = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
        bar = f"<= {at_most:g}" if at_most is not None else f">= {at_least:g}"
        self.lines.append(f"{'PASS' if passed else 'FAIL'}  {what}: {value:.4g}, bar {bar}")
        self.failed += not passed

    def finish(self) -> int:
        """Print the lines; the exit status, 1 where a bar was missed."""
        print("\n" + "\n".join(self.lines))
        return 1 if self.failed else 0
