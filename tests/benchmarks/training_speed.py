"""Training against the usual way of writing it: `python tests/benchmarks/training_speed.py`.

Images per second of levels 2 and 3, and of level 3 with --amp, over those of usual_way.py: same network, batch size and
optimizer, side by side. The same for level 3's --architecture mlp, a network of cheaper products. Beside them the
roofline: the matrix products of the spec's layers alone, forward and backward, which this PyTorch needs on this machine
however the loop is written.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from math import ceil, prod

import numpy as np
import torch
from torch.utils.data import DataLoader

import timing
import usual_way
import vae_lowlevel
from conv_vae import ConvVAE, Decoder, Encoder
from vae_common.config import RunConfig, whole
from vae_common.data import ImageSet, load_dataset
from vae_common.spec import Layer, VAESpec
from vae_models.mlp import MLP
from vae_training import trainer

BAR = 1.6  # images per second over those of the usual way, at the least
LEVELS_BAR = 0.9  # level 3 over level 2
CONV = (Encoder, Decoder)


def first(data: ImageSet, count: int) -> ImageSet:
    return replace(data, images=data.images[:count], labels=data.labels[:count])


def usual(data: ImageSet, config: RunConfig, architecture: tuple = CONV) -> Callable[[], object]:
    model = usual_way.ConvVAE(architecture=architecture)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    loader = DataLoader(usual_way.Images(data.images, data.labels), batch_size=config.batch_size, shuffle=True)
    return lambda: usual_way.train_epoch(model, optimizer, loader)


def level2(data: ImageSet, config: RunConfig) -> Callable[[], object]:
    params, one_image = vae_lowlevel.to_tensors(VAESpec().init_params(0)), first(data, 1)
    return lambda: list(vae_lowlevel.train(params, data, one_image, config))


def level3(data: ImageSet, config: RunConfig, architecture: tuple = CONV) -> Callable[[], object]:
    model = ConvVAE(architecture=architecture)

    def epoch() -> None:
        state = trainer.RunState.start(model, config)
        list(trainer.train(state, data, config, lambda epoch: {"epoch": epoch}))

    return epoch


def product(layer: Layer, batch_size: int) -> tuple[int, int, int]:
    """(M, K, N) of the product (M, K) @ (K, N) that is this layer's forward pass, as level 1 writes it."""
    if layer.kind == "linear":
        return batch_size, layer.weight[1], layer.weight[0]
    pixels = batch_size * prod(layer.output[1:])
    if layer.kind == "conv":
        return pixels, prod(layer.weight[1:]), layer.weight[0]
    return pixels // 4, layer.weight[0], prod(layer.weight[1:])  # one patch for each pixel that is read; stride 2


def matrix_products(images: int, batch_size: int, dtype: torch.dtype) -> Callable[[], object]:
    """All products of an epoch's steps: every layer's output, and the gradients of its weight and of its input."""
    pairs = []
    for layer in VAESpec().layers:
        M, K, N = product(layer, batch_size)
        x, weight, y = (torch.rand(shape).to(dtype) for shape in ((M, K), (K, N), (M, N)))
        pairs += [(x, weight), (x.T, y)]
        pairs += [(y, weight.T)] if layer.reads != "x" else []  # nobody asks for the gradient of an image
    steps = ceil(images / batch_size)
    return lambda: [a @ b for _ in range(steps) for a, b in pairs]


def usual_of(name: str) -> str:
    return "usual way, mlp" if "mlp" in name else "usual way"


def run(repeats: int = 20, clock: str = "wall", batch_size: int = 128, images: int = 1536) -> int:
    print(timing.machine(clock))
    data = first(load_dataset("digits", "train"), images)
    config = RunConfig(epochs=1, batch_size=batch_size, lr=1e-3)
    amp = replace(config, amp=True)
    calls = {
        "usual way": usual(data, config),
        "level 2": level2(data, config),
        "level 3": level3(data, config),
        "level 3 --amp": level3(data, amp),
        "usual way, mlp": usual(data, config, MLP),
        "level 3, mlp": level3(data, config, MLP),
        "level 3, mlp, --amp": level3(data, amp, MLP),
        "products, float32": matrix_products(len(data), batch_size, torch.float32),
        "products, bfloat16": matrix_products(len(data), batch_size, torch.bfloat16),
    }
    seconds = timing.side_by_side(calls, repeats, clock)
    rows = []
    for name, taken in seconds.items():
        floor = np.median(seconds["products, bfloat16" if "amp" in name or "bf" in name else "products, float32"])
        speed, ratio = len(data) / np.median(taken), timing.spread(seconds[usual_of(name)] / taken)
        share = "" if "mlp" in name else f"{floor / np.median(taken):.0%}"  # the products are those of the spec
        rows.append([name, f"{speed:,.0f}", ratio, f"{np.median(taken):.3f}", share])
    head = (f"{len(data):,} images, batch {batch_size}", "images/s", "over the usual way", "s", "products' share")
    print("\n" + timing.table(head, rows) + "\n(range: 5% to 95% of the rounds)")

    verdicts = timing.Verdicts()
    for name in (name for name in calls if name.startswith("level")):
        ratio = float(np.median(seconds[usual_of(name)] / seconds[name]))
        verdicts.judge(f"{name} over the usual way, images per second", ratio, at_least=BAR)
    ratio = float(np.median(seconds["level 2"] / seconds["level 3"]))
    verdicts.judge("level 3 over level 2, images per second", ratio, at_least=LEVELS_BAR)
    limit = float(np.median(seconds["usual way"] / seconds["products, float32"]))
    print(f"were there nothing but the products in float32, training would be {limit:.2f} times the usual way")
    return verdicts.finish()


def main(argv: list[str] | None = None) -> int:
    repeats = dict(type=whole(1), metavar="N", help="timed rounds (default 20)")
    batch_size = dict(type=whole(1), help="images per step (default 128)")
    images = dict(type=whole(1, 12_000), help="images per epoch (default 1536)")
    return timing.main(__doc__, run, argv, repeats=repeats, batch_size=batch_size, images=images)


if __name__ == "__main__":
    sys.exit(main())
