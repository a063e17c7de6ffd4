"""One offline HTML page of a finished run, in which its latent space can be explored and its network watched at work.

`python paper/latent_explorer.py RUN` writes RUN/explorer.html: the weights as float16, test images with their posterior
means, and the page of vae_explorer/ around them, which computes everything anew. The page needs no server and no
network. --pretrained makes it from the shipped weights.
"""

import argparse
import sys
import webbrowser
from pathlib import Path

from vae_common import cli
from vae_common.files import write_atomically
from vae_common.weights import PRETRAINED, load_weights
from vae_explorer.builder import explorer_page, refuse_other_models


def shipped(latent_dim: int | None) -> tuple[argparse.Namespace, object, Path]:
    """The settings, the model and the folder to write to for the shipped weights with that Z, 2 by default."""
    from paper_run import load_arrays

    from conv_vae import ConvVAE
    from vae_common.spec import VAESpec

    latent_dim = latent_dim or 2
    path = PRETRAINED / f"digits-z{latent_dim}.safetensors"
    if not path.exists():
        raise cli.UsageError(f"--latent-dim {latent_dim}: weights are shipped for 2 and 20; name a run of your own.")
    config = {"model": "vae", "dataset": "digits", "data_dir": None, "seed": 0, "epochs": 30}  # pretrained/README.md
    config |= {"likelihood": "bernoulli", "binarize": "none", "importance_samples": 1, "mc_samples": 1}
    model = ConvVAE(VAESpec(latent_dim))
    load_arrays(model, load_weights(path, latent_dim))
    return argparse.Namespace(**config), model, Path("runs") / f"pretrained-z{latent_dim}"


def run(args: argparse.Namespace) -> None:
    from paper_run import read_run

    from vae_common.data import load_dataset

    if args.pretrained == (args.run is not None):
        raise cli.UsageError("expected either a run folder or --pretrained, for the shipped weights; give one of them.")
    if args.latent_dim is not None and not args.pretrained:
        raise cli.UsageError("--latent-dim chooses among the shipped weights; leave it out, a run has its own.")
    if args.pretrained:
        config, model, folder = shipped(args.latent_dim)
    else:
        (config, model, _), folder = read_run(args.run), Path(args.run)
    refuse_other_models(model, str(folder))  # before the data is read
    data = load_dataset(config.dataset, "test", args.data_dir or config.data_dir)
    page = explorer_page(model, data, config, str(folder)).encode()
    path = write_atomically(folder / "explorer.html", lambda file: file.write(page))
    print(f"wrote {path}, {len(page) / 1e6:.1f} MB; open it in a browser, no server or network is needed")
    if args.open and not webbrowser.open(path.resolve().as_uri()):
        print(f"no browser could be started here; open {path.resolve()} yourself", file=sys.stderr)


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__.splitlines()[0], "--data-dir", "--latent-dim")
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run folder written by paper/vae_paper.py")
    parser.add_argument("--pretrained", action="store_true", help="the shipped weights instead, --latent-dim 2 or 20")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
