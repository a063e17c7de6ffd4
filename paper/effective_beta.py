"""The beta of this project that another project's loss amounts to: `--recon mean --kl-weight 0.00025`, or `--table`."""

import argparse
import sys

from vae_common import cli
from vae_common.config import number, whole
from vae_common.errors import UsageError
from vae_measures.loss_conventions import REDUCTIONS, LossConvention, in_words, table


def run(
    recon: str = "sum",
    recon_batch: str = "mean",
    kl: str = "sum",
    kl_batch: str = "mean",
    kl_weight: float = 1.0,
    recon_weight: float = 1.0,
    likelihood: str = "bernoulli",
    variance: float | None = None,
    pixels: int = 784,
    latent_dim: int = 20,
    batch_size: int | None = None,
    public: bool = False,
) -> None:
    """Print what the convention amounts to, or the table of public losses."""
    if public:
        print(table())
        return
    if variance is not None and likelihood == "bernoulli":
        raise UsageError("--variance is that of a Gaussian likelihood; add --likelihood gaussian or leave it out.")
    convention = LossConvention(
        recon, recon_batch, kl, kl_batch, kl_weight, recon_weight, likelihood, 0.5 if variance is None else variance
    )
    if convention.depends_on_batch_size and batch_size is None:
        raise UsageError("one term is summed over the batch and the other averaged; add --batch-size B.")
    print(in_words(convention, pixels, latent_dim, batch_size))


def build_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = cli.parser(__doc__.splitlines()[0], "likelihood")
    for flag, of, default in (
        ("--recon", "recon over pixels and channels", "sum"),
        ("--recon-batch", "recon over the batch", "mean"),
        ("--kl", "KL over latents", "sum"),
        ("--kl-batch", "KL over the batch", "mean"),
    ):
        parser.add_argument(flag, choices=REDUCTIONS, help=f"reduction of {of} (default {default})")
    positive, size = number(0, above=True), whole(1)
    parser.add_argument("--kl-weight", "--kld-weight", type=number(0), metavar="W", help="before the KL (default 1)")
    parser.add_argument("--recon-weight", type=positive, metavar="W", help="before recon (default 1)")
    parser.add_argument(
        "--variance", type=positive, help="of the Gaussian likelihood (default 0.5, the plain squared error)"
    )
    parser.add_argument("--pixels", type=size, metavar="P", help="numbers per image, channels included (default 784)")
    parser.add_argument("--latent-dim", type=size, metavar="Z", help="latent dimensions (default 20)")
    parser.add_argument("--batch-size", type=size, metavar="B", help="images per step, where it matters")
    parser.add_argument(
        "--table", dest="public", action="store_true", default=argparse.SUPPRESS,
        help="print what some public training loops amount to",
    )  # fmt: skip
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return cli.run(build_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
