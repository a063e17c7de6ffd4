"""Level 3: train, evaluate and draw one model of the papers."""

import argparse
import sys
import time
from pathlib import Path

from vae_common import cli

# What a run with the default settings reaches, -elbo on the test split: (dataset, latent_dim) -> band over three seeds.
EXPECTED = {}

# torch is imported inside the functions below, so that --help and a mistyped flag answer at once.


def run(args: argparse.Namespace) -> int | None:
    from paper_run import build_model, read_config
    from trainer import RunState, Settings, load_checkpoint
    from vae_common.data import load_dataset
    from vae_common.weights import latent_dim_of, load_weights

    params = None
    if args.resume is not None:
        folder, args = Path(args.resume), resumed(args, read_config(args.resume))
    elif args.weights is not None:
        params = load_weights(args.weights, args.latent_dim)
        args.latent_dim = latent_dim_of(params)
    args.latent_dim = args.latent_dim or 20
    device = cli.torch_device(args.device)
    data, test = (load_dataset(args.dataset, split, args.data_dir) for split in ("train", "test"))

    settings = Settings(args.epochs, args.batch_size, args.lr, args.seed, args.binarize)
    state = RunState.start(build_model(args, params).to(device), settings)
    if args.resume is not None:
        load_checkpoint(state, folder / "checkpoint.pt")
        print(f"resuming {folder} after {state.step:,} steps")
    else:
        folder = cli.make_run_folder(args, "paper")
    print(f"training {args.model} on {len(data):,} images of {data.name} for {args.epochs} epochs on {device}")
    print(expectation(args))
    return train_and_draw(state, data, test, settings, args, folder)


def train_and_draw(state, data, test, settings, args: argparse.Namespace, folder: Path) -> int | None:
    """Train to the end, then evaluate and draw; returns 130 after Ctrl-C."""
    from latent_figures import draw_run
    from paper_run import measure
    from trainer import Interrupted, save_checkpoint, train
    from vae_common.measured import about
    from vae_common.weights import save_weights

    def evaluate(epoch: int) -> dict:
        start = time.perf_counter()
        return measure(state.model, test, args).row(epoch, args, time.perf_counter() - start)

    try:
        for _ in train(state, data, settings, evaluate, about(args)):
            save_checkpoint(state, folder / "checkpoint.pt")
            cli.write_metrics(folder / "metrics.jsonl", state.rows)
            for row in state.rows[-2:]:
                print(cli.format_row(row))
    except Interrupted:
        save_checkpoint(state, folder / "checkpoint.pt")
        print(f"\ninterrupted after step {state.step:,}; go on with --resume {folder}", file=sys.stderr)
        return 130
    print(f"wrote {folder / 'checkpoint.pt'}\nwrote {folder / 'metrics.jsonl'}")
    arrays = {name: value.cpu().numpy() for name, value in state.model.state_dict().items()}
    print(f"wrote {save_weights(arrays, folder / 'weights.safetensors')}")

    measured = measure(state.model, test, args)
    print("\n" + measured.summary(args) + "\n" + expectation(args) + "\n")
    cli.write_json(folder / "evaluation.json", measured.evaluation(args))
    draw_run(folder, measured, state.rows, args.seed)
    print(f"\nlook first at {folder / 'figures' / 'manifold.png'} and {folder / 'figures' / 'reconstructions.png'}")


def resumed(args: argparse.Namespace, config: argparse.Namespace) -> argparse.Namespace:
    """The settings of the run to go on with: its own, but for where data and device are.

    Raises UsageError when the command names another setting: the run would no longer be the one it began as.
    """
    parser = build_parser()
    here = ("resume", "device", "data_dir")
    changed = [name for name, value in vars(args).items() if name not in here and value != parser.get_default(name)]
    if changed:
        flag = "--" + changed[0].replace("_", "-")
        raise cli.UsageError(f"{flag} cannot be given with --resume, which goes on with the settings of the run.")
    given = {name: value for name, value in vars(args).items() if name in here and value != parser.get_default(name)}
    return argparse.Namespace(**{**vars(config), **given})


def expectation(args: argparse.Namespace) -> str:
    """What -elbo to expect on the test split, where the settings are those that were measured."""
    defaults = vars(build_parser().parse_args([]))
    free = ("dataset", "data_dir", "latent_dim", "seed", "device", "out", "overwrite", "resume")
    default = all(getattr(args, name) == value for name, value in defaults.items() if name not in free)
    band = EXPECTED.get((args.dataset, args.latent_dim)) if default else None
    if band is None:
        return "expect: not measured for these settings; README's results table has the nearest ones"
    return f"expect: -elbo of {band[0]:.1f} to {band[1]:.1f} nats on the test split (default settings, three seeds)"


def build_parser() -> argparse.ArgumentParser:
    flags = ("--dataset", "--data-dir", "--weights", "--latent-dim", "--batch-size", "--epochs", "--lr", "--seed")
    parser = cli.parser(
        __doc__.splitlines()[0], *flags, "--device", "--likelihood", "--binarize", "--out", "--overwrite"
    )
    parser.add_argument("--model", choices=("vae",), default="vae", help="which model (default vae)")
    parser.add_argument("--resume", metavar="RUN", help="go on with an interrupted run, exactly as it would have")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
