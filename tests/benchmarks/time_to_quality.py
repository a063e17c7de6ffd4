"""Seconds of training to a given quality on MNIST: `VAE_DATA_DIR=... python tests/benchmarks/time_to_quality.py`.

The reference is the MLP of github.com/pytorch/examples, vae/main.py, rewritten in usual_way.py: 784-400-20, Adam at
1e-3, batches of 128 from a DataLoader, ten epochs. Level 3 trains with its own defaults, once for --epochs passes and
once for as many as fit into the seconds that the reference took. Pixels are grey, and -elbo is on the 10,000 test
images, with one sampled z for each. Only training is timed. It takes minutes.
"""

import argparse
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.data import DataLoader

import timing
import trainer
import usual_way
from conv_vae import ConvVAE
from paper_run import measure
from vae_common import cli
from vae_common.data import ImageSet, load_dataset
from vae_common.spec import VAESpec
from vae_lowlevel import to_tensors

QUALITY = 105.6  # -elbo in nats on grey MNIST, about where the reference ends
BAR = 0.5  # seconds to QUALITY over those of the reference's ten epochs, at the most


def timed(call: Callable[[], object], clock: str) -> float:
    start = timing.CLOCKS[clock]()
    call()
    return timing.CLOCKS[clock]() - start


def reference(data: ImageSet, test: ImageSet, epochs: int, clock: str) -> tuple[float, float]:
    """Seconds of training and -elbo of the reference."""
    torch.manual_seed(0)
    model = usual_way.MLPVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(usual_way.Images(data.images, data.labels), batch_size=128, shuffle=True)
    seconds = sum(timed(lambda: usual_way.train_epoch(model, optimizer, loader), clock) for _ in range(epochs))
    return seconds, usual_way.evaluate(model, DataLoader(usual_way.Images(test.images, test.labels), batch_size=128))


def level3(
    data: ImageSet, test: ImageSet, epochs: int, clock: str, batch_size: int, lr: float, amp: bool = False
) -> tuple[float, float]:
    """Seconds of training and -elbo of level 3, whose learning rate falls to 0 within these epochs."""
    model = ConvVAE()
    model.load_state_dict(to_tensors(VAESpec().init_params(0)))
    settings = trainer.Settings(epochs, batch_size, lr, amp=amp)
    state, seconds = trainer.RunState.start(model, settings), 0.0
    for epoch in range(1, epochs + 1):
        seconds += timed(lambda epoch=epoch: trainer.train_epoch(state, data, settings, epoch), clock)
    measured = measure(model, test, argparse.Namespace(seed=0, binarize="none", likelihood="bernoulli"))
    return seconds, float(np.mean(measured.recon + measured.kl, dtype=float))


def run(args: argparse.Namespace) -> int:
    print(timing.machine(args.clock), flush=True)
    data, test = (load_dataset("mnist", split, args.data_dir) for split in ("train", "test"))
    rows, verdicts = [], timing.Verdicts()

    def note(name: str, epochs: int, result: tuple[float, float]) -> tuple[float, float]:
        seconds, quality = result
        row = [f"{name}, {epochs} epoch{'s' * (epochs > 1)}", f"{seconds:.1f}", f"{quality:.2f}"]
        rows.append([*row, f"{seconds / (whole if rows else seconds):.2f}"])
        print(*row, flush=True)  # minutes pass between two rows
        return result

    settings = (args.clock, args.batch_size, args.lr)
    whole, _ = note("reference", args.reference_epochs, reference(data, test, args.reference_epochs, args.clock))
    short, quality = note("level 3", args.epochs, level3(data, test, args.epochs, *settings))
    short_amp, quality_amp = note("level 3 --amp", args.epochs, level3(data, test, args.epochs, *settings, amp=True))
    as_long = max(1, int(whole / short_amp * args.epochs))
    if as_long != args.epochs:
        note("level 3 --amp", as_long, level3(data, test, as_long, *settings, amp=True))
    head = ("grey mnist", "s of training", "-elbo on test", "of the reference's seconds")
    print("\n" + timing.table(head, rows))

    for name, seconds, reached in (("level 3", short, quality), ("level 3 --amp", short_amp, quality_amp)):
        verdicts.judge(f"-elbo of {name}, nats", reached, at_most=QUALITY)
        verdicts.judge(f"seconds of {name} to get there over the reference's", seconds / whole, at_most=BAR)
    return verdicts.finish()


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__.splitlines()[0], "--data-dir", "--batch-size", "--lr")
    parser.add_argument("--clock", **timing.CLOCK_FLAG)
    parser.add_argument("--epochs", type=cli.whole(1), default=2, help="of level 3, to the quality (default 2)")
    parser.add_argument("--reference-epochs", type=cli.whole(1), default=10, help="of the reference (default 10)")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
