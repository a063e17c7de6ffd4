"""Level 3: train, evaluate and draw one model of the papers."""

import argparse
import sys
import time

from vae_common import cli

# What a run with the default settings reaches, -elbo on the test split: (dataset, latent_dim) -> band over three seeds.
EXPECTED = {}

# torch is imported inside `run`, so that --help and a mistyped flag answer at once.


def run(args: argparse.Namespace) -> None:
    from latent_figures import draw_run
    from paper_run import build_model, measure
    from trainer import RunState, Settings, train
    from vae_common.data import load_dataset
    from vae_common.weights import latent_dim_of, load_weights, save_weights

    device = cli.torch_device(args.device)
    params = load_weights(args.weights, args.latent_dim) if args.weights is not None else None
    args.latent_dim = latent_dim_of(params) if params else args.latent_dim or 20
    data, test = (load_dataset(args.dataset, split, args.data_dir) for split in ("train", "test"))
    folder = cli.make_run_folder(args, "paper")

    model = build_model(args, params).to(device)
    settings = Settings(args.epochs, args.batch_size, args.lr, args.seed, args.binarize)
    print(f"training {args.model} on {len(data):,} images of {data.name} for {args.epochs} epochs on {device}")
    print(expectation(args))

    def evaluate(epoch: int) -> dict:
        start = time.perf_counter()
        return measure(model, test, args).row(epoch, args, time.perf_counter() - start)

    for state in train(RunState.start(model, settings), data, settings, evaluate):
        cli.write_metrics(folder / "metrics.jsonl", state.rows)
        for row in state.rows[-2:]:
            print(cli.format_row(row))
    print(f"wrote {folder / 'metrics.jsonl'}")
    arrays = {name: value.cpu().numpy() for name, value in model.state_dict().items()}
    print(f"wrote {save_weights(arrays, folder / 'weights.safetensors')}")

    measured = measure(model, test, args)
    print("\n" + measured.summary(args) + "\n" + expectation(args))
    cli.write_json(folder / "evaluation.json", measured.evaluation(args))
    draw_run(folder, measured, state.rows, args.seed)
    print(f"\nlook first at {folder / 'figures' / 'manifold.png'} and {folder / 'figures' / 'reconstructions.png'}")


def expectation(args: argparse.Namespace) -> str:
    """What -elbo to expect on the test split, where the settings are those that were measured."""
    defaults = build_parser().parse_args([])
    free = ("dataset", "data_dir", "latent_dim", "seed", "device", "out", "overwrite")
    known = all(getattr(args, name) == value for name, value in vars(defaults).items() if name not in free)
    band = EXPECTED.get((args.dataset, args.latent_dim)) if known else None
    if band is None:
        return "expect: not measured for these settings; README's results table has the nearest ones"
    return f"expect: -elbo of {band[0]:.1f} to {band[1]:.1f} nats on the test split (default settings, three seeds)"


def build_parser() -> argparse.ArgumentParser:
    flags = (
        "--dataset",
        "--data-dir",
        "--weights",
        "--latent-dim",
        "--batch-size",
        "--epochs",
        "--lr",
        "--seed",
    )
    parser = cli.parser(
        __doc__.splitlines()[0], *flags, "--device", "--likelihood", "--binarize", "--out", "--overwrite"
    )
    parser.add_argument("--model", choices=("vae",), default="vae", help="which model (default vae)")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
