"""What the benchmarks share: calls timed side by side, the machine in one line, a table, and PASS or FAIL.

A ratio is taken repeat by repeat between calls that ran next to each other, so that a machine whose speed drifts does
not matter; its median is judged, its range is printed. No benchmark is part of the tests' default run.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vae_common import cli

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main(
    doc: str, run: Callable[..., int | None], argv: list[str] | None, *names: str, several: bool = False, **flags: dict
) -> int:
    """The command line of a benchmark: --clock, the settings of these names, and flags of its own."""
    parser = cli.parser(doc.splitlines()[0], *names)
    busy = "cpu leaves out the time that other programs took: for a busy machine, with OMP_NUM_THREADS=1"
    parser.add_argument("--clock", choices=CLOCKS, help=busy)
    for name, declared in flags.items():
        parser.add_argument(cli.flag(name), **declared)
    return cli.run(parser, argv, run, several)


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
    aligned = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in cells)
    return "\n".join("  ".join(row) for row in aligned)


class Verdicts:
    """The bars that a program's numbers are held against."""

    def __init__(self):
        self.lines: list[str] = []

    def judge(self, what: str, value: float, *, at_most: float | None = None, at_least: float | None = None) -> None:
        passed = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
        bar = f"<= {at_most:g}" if at_most is not None else f">= {at_least:g}"
        self.lines.append(f"{'PASS' if passed else 'FAIL'}  {what}: {value:.4g}, bar {bar}")

    def finish(self) -> int:
        """Print the lines; the exit status, 1 where a bar was missed."""
        print("\n" + "\n".join(self.lines))
        return int(any(line.startswith("FAIL") for line in self.lines))
