"""Print, layer by layer, how closely the three levels agree: `python tests/compare_levels.py`.

One set of weights, the same images and the same noise go through each level. The exit status is 0 when every
difference can be explained by rounding, else 1, and the first layer that cannot is named.
"""

import sys

import numpy as np

import recorder
from vae_common import cli
from vae_common.data import load_dataset
from vae_common.randomness import generator
from vae_common.spec import shape_text
from vae_common.weights import chosen_weights, latent_dim_of

LEVELS = {"2": recorder.level2, "3": recorder.level3}


def compare(params: dict, x: np.ndarray, eps: np.ndarray) -> bool:
    """Print the table of levels 2 and 3 against level 1; returns whether all three agree."""
    dtype = x.dtype
    params = {name: value.astype(dtype) for name, value in params.items()}
    one, allowed = recorder.level1(params, x, eps), recorder.rounding(params, x, eps, dtype)
    others = {level: run(params, x, eps) for level, run in LEVELS.items()}
    guilty = {level: recorder.first_difference(one, other, allowed) for level, other in others.items()}

    print(f"{dtype}: largest difference from level 1, and the largest that rounding explains")
    print(f"{'layer':<17}{'shape':<18}{'1 - 2':>9}{'1 - 3':>9}{'rounding':>10}")
    for name in recorder.QUANTITIES:
        limit = recorder.allowed(allowed[name]).reshape(one[name].shape)
        differences = {level: np.abs(one[name].astype(np.float64) - other[name]) for level, other in others.items()}
        fine = all((difference <= limit).all() for difference in differences.values())
        numbers = "".join(f"{difference.max():9.1e}" for difference in differences.values())
        print(f"{name:<17}{shape_text(one[name].shape):<18}{numbers}{limit.max():10.1e}  {'OK' if fine else 'DIFFERS'}")
    for level, name in guilty.items():
        if name is not None:
            print(f"levels 1 and {level} differ: {name} is the first to differ by more than rounding")
    return not any(guilty.values())


def run(weights: str | None = None, latent_dim: int | None = None, batch_size: int = 64, seed: int = 0) -> int:
    params, _ = chosen_weights(weights, latent_dim)
    images = load_dataset("digits", "test").images[:batch_size]
    eps = generator(seed, "evaluation").standard_normal((len(images), latent_dim_of(params)))
    agreed = [compare(params, (images / 255).astype(dtype), eps.astype(dtype)) for dtype in (np.float64, np.float32)]
    verdict = "agree" if all(agreed) else "DIFFER"
    print(f"the three levels {verdict} on {len(images)} images, Z = {latent_dim_of(params)}")
    return 0 if all(agreed) else 1


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__.splitlines()[0], "weights", "latent_dim", "batch_size", "seed")
    return cli.run(parser, argv, run)


if __name__ == "__main__":
    sys.exit(main())
