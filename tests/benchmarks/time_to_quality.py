"""Seconds of training to a given quality on MNIST: `VAE_DATA_DIR=... python tests/benchmarks/time_to_quality.py`.

The reference is the MLP of github.com/pytorch/examples, vae/main.py, rewritten in usual_way.py: 784-400-20, Adam at
1e-3, batches of 128 from a DataLoader, ten epochs. Level 3 trains as paper/vae_paper.py does with the flags of ROUTES,
of which the last has a network of the reference's kind, and once more for about as long as the reference. Pixels are
grey, and -elbo is on the 10,000 test images, with one sampled z for each. Only training is timed. It takes minutes.
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.data import DataLoader

import timing
import usual_way
from vae_common import cli
from vae_common.config import RunConfig, whole
from vae_common.data import ImageSet, load_dataset
from vae_measures.held_out import measure
from vae_training import trainer
from vae_training.factory import build_model

QUALITY = 105.6  # -elbo in nats on grey MNIST, about where the reference ends
BAR = 0.5  # seconds to QUALITY over those of the reference's ten epochs, at the most
ROUTES = (
    "--epochs 2",
    "--epochs 2 --amp",
    "--epochs 4 --amp --architecture mlp --batch-size 128 --lr 4e-3",
)
AS_LONG = "--epochs 16 --amp --architecture mlp --batch-size 128 --lr 4e-3"  # about as long as the reference


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


def level3(data: ImageSet, test: ImageSet, flags: str, clock: str) -> tuple[float, float]:
    """Seconds of training and -elbo of vae_paper.py with these flags."""
    parser = cli.parser("", *RunConfig.settings("paper"))
    config = RunConfig(**vars(parser.parse_args(flags.split()))).settled()
    model = build_model(config, len(data))
    state, seconds = trainer.RunState.start(model, config), 0.0
    for epoch in range(1, config.epochs + 1):
        seconds += timed(lambda epoch=epoch: trainer.train_epoch(state, data, config, epoch), clock)
    measured = measure(model, test, config.binarize, config.seed)
    return seconds, float(np.mean(measured.recon + measured.kl, dtype=float))


def run(data_dir: str | None = None, clock: str = "wall", reference_epochs: int = 10) -> int:
    print(timing.machine(clock), flush=True)
    data, test = (load_dataset("mnist", split, data_dir) for split in ("train", "test"))
    rows, verdicts = [], timing.Verdicts()

    def note(name: str, result: tuple[float, float]) -> tuple[float, float]:
        rows.append((name, *result))
        print(f"{name} {result[0]:.1f} {result[1]:.2f}", flush=True)  # minutes pass between two rows
        return result

    epochs = cli.counted(reference_epochs, "epoch")
    of_reference, _ = note(f"reference, {epochs}", reference(data, test, reference_epochs, clock))
    for flags in ROUTES:
        seconds, quality = note(flags, level3(data, test, flags, clock))
        verdicts.judge(f"{flags}: -elbo, nats", quality, at_most=QUALITY)
        verdicts.judge(f"{flags}: seconds to get there over the reference's", seconds / of_reference, at_most=BAR)
    note(AS_LONG, level3(data, test, AS_LONG, clock))
    head = ("grey mnist", "s of training", "-elbo on test", "of the reference's seconds")
    lines = [(name, f"{one:.1f}", f"{nats:.2f}", f"{one / of_reference:.2f}") for name, one, nats in rows]
    print("\n" + timing.table(head, lines))
    return verdicts.finish()


def main(argv: list[str] | None = None) -> int:
    epochs = dict(type=whole(1), help="of the reference (default 10)")
    return timing.main(__doc__, run, argv, "data_dir", reference_epochs=epochs)


if __name__ == "__main__":
    sys.exit(main())
