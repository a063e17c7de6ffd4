"""Level 3: train, evaluate and draw one model of the papers."""

import argparse
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

from vae_common import cli

# -elbo on the test split with default settings, over three seeds: (dataset, latent_dim) -> after epoch 1, at the end.
EXPECTED = {
    ("digits", 20): ("151 to 168", "96.3 to 97.6"),
    ("digits", 2): ("162 to 166", "144.9 to 145.8"),
    ("mnist", 20): ("110 to 114", "96.8 to 97.3"),
}

# torch is imported inside the functions below, so that --help and a mistyped flag answer at once.


def run(args: argparse.Namespace) -> int | None:
    from processes import joined

    with joined():
        return run_joined(args)


def run_joined(args: argparse.Namespace) -> int | None:
    import torch

    import processes
    from paper_run import build_model, build_prior, load_arrays, measure, save_model
    from trainer import Settings
    from vae_common.data import load_dataset
    from vae_common.weights import load_weights

    args = settled(args)
    device = processes.own_device(cli.torch_device(args.device))
    data, test = processes.writer_first(
        lambda: [load_dataset(args.dataset, split, args.data_dir) for split in ("train", "test")]
    )
    settings = Settings(args.epochs, args.batch_size, args.lr, args.seed, args.binarize, args.amp, args.compile)
    model = build_model(args, steps_per_epoch=settings.steps_per_epoch(len(data))).to(device)
    begun = args.resume is not None and (Path(args.resume) / "checkpoint.pt").exists()
    if args.weights is not None and not begun:
        load_arrays(model, load_weights(args.weights, args.latent_dim))
    if args.resume is None:
        folder = processes.from_writer(lambda: cli.make_run_folder(args, "paper", torch=torch.__version__))
    else:
        folder = Path(args.resume)
        processes.from_writer(lambda: (cli.hold_run_folder(folder), cli.note_threads(args)))

    several = f", {processes.count()} processes" if processes.count() > 1 else ""
    epochs = cli.counted(args.epochs, "epoch")
    print(f"training {args.model} on {len(data):,} images of {data.name} for {epochs} on {device}{several}")
    print(expectation(args))
    rows = fit(model, data, test, settings, args, folder)
    if isinstance(rows, int):
        return rows
    if processes.is_writer():
        print(f"wrote {save_model(model, args.model, folder / 'weights.safetensors')}")
    if args.model == "vqvae":
        model = build_prior(args, model).to(device)
        print(f"\ntraining the prior of its codes for {cli.counted(args.prior_epochs, 'epoch')}")
        ended = fit(model, data, test, replace(settings, epochs=args.prior_epochs), args, folder, "prior-")
        if isinstance(ended, int):
            return ended
        if processes.is_writer():
            print(f"wrote {save_model(model, 'prior', folder / 'prior-weights.safetensors')}")
    measured = measure(model, test, args)
    if processes.is_writer():
        finish(model, measured, rows, args, folder)
    return None


def fit(model, data, test, settings, args: argparse.Namespace, folder: Path, phase: str = "") -> list[dict] | int:
    """Train the model, from its checkpoint when the run is resumed; the rows of its metrics, or the exit status after
    Ctrl-C or SIGTERM."""
    from checkpoints import load_checkpoint, previous, save_checkpoint
    from latent_figures import add_snapshot
    from paper_run import measure
    from processes import is_writer
    from trainer import Interrupted, RunState, train
    from vae_common.measured import about

    def evaluate(epoch: int) -> dict:
        start = time.perf_counter()
        return measure(model, test, args).row(epoch, args, time.perf_counter() - start)

    checkpoint, metrics = folder / f"{phase}checkpoint.pt", folder / f"{phase}metrics.jsonl"
    state = RunState.start(model, settings)
    if args.resume is not None and (checkpoint.exists() or metrics.exists()):
        load_checkpoint(state, checkpoint)
    if args.resume is not None and (state.step or not phase):
        print(f"resuming {folder} after {state.step:,} steps")
    if state.step == 0 and is_writer():
        add_snapshot(folder, model, 0, args)
    try:
        for _ in train(state, data, settings, evaluate, about(args)):
            if not is_writer():
                continue
            add_snapshot(folder, model, state.rows[-1]["epoch"], args)
            save_checkpoint(state, checkpoint)
            cli.write_metrics(metrics, state.rows)
            for row in state.rows[-2:]:
                print(cli.format_row(row))
    except Interrupted as stop:
        if is_writer():
            save_checkpoint(state, checkpoint)
            go_on = f"go on with --resume {shlex.quote(str(folder))}"
            print(f"\ninterrupted after step {state.step:,}; {go_on}", file=sys.stderr)
        return stop.status
    except RuntimeError as error:
        if not settings.compile or not type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
            raise
        reason = str(error).strip().splitlines()[0].rstrip(".:")
        raise cli.UsageError(f"--compile: torch.compile cannot do it here ({reason}); leave --compile out.") from error
    print(f"wrote {checkpoint}\nwrote {metrics}")
    for path in (previous(checkpoint), folder / "snapshots.npz"):
        if path.exists():
            print(f"wrote {path}")
    return state.rows


def finish(model, measured, rows: list[dict], args: argparse.Namespace, folder: Path) -> None:
    """Report and draw what the trained model reaches on the test split."""
    from conditional_vae import label_lines
    from latent_figures import draw_run
    from paper_run import label_worth

    print("\n" + measured.summary(args) + "\n" + expectation(args))
    print(measured.collapse() + "\n")
    evaluation = measured.evaluation(args)
    if args.model == "cvae":
        report = label_worth(model, measured.data, args)
        print(label_lines(report, model.classes) + "\n")
        evaluation.update(report)
    cli.write_json(folder / "evaluation.json", evaluation)
    draw_run(folder, model, measured, rows, args)
    if args.model != "vqvae" and args.trunk == "conv":
        print(f"to explore it in a browser: python paper/latent_explorer.py {shlex.quote(str(folder))}")


# --- what the flags mean together ---------------------------------------------------------------------------------


def settled(args: argparse.Namespace) -> argparse.Namespace:
    """All settings of the run: those of the flags, or of the run to go on with, which args.resume then names."""
    import processes
    from paper_run import read_config
    from vae_common.weights import latent_dim_of, load_weights

    if args.resume is not None:
        return resumed(args, read_config(args.resume))
    refuse_nonsense(args)
    if args.weights is not None:
        args.latent_dim = latent_dim_of(load_weights(args.weights, args.latent_dim))
    fill_in(args)
    name, again = processes.launch()
    if name is not None:
        args.launch = name
    if again:
        args.resume = processes.from_writer(lambda: begun_before(args))
    return args


def refuse_nonsense(args: argparse.Namespace) -> None:
    """Raise UsageError, in one sentence, for flags that contradict one another or the model."""
    price = [flag for flag in ("--beta", "--anneal", "--free-bits", "--capacity") if given(args, flag)]
    many = [flag for flag in ("--importance-samples", "--mc-samples") if given(args, flag)]
    if args.model != "vae" and (price or many):
        refuse(f"{(price + many)[0]} changes the objective of --model vae and has no meaning for --model {args.model}")
    of_codes = [flag for flag in ("--codebook", "--codes", "--prior-epochs") if given(args, flag)]
    if of_codes and args.model != "vqvae":
        refuse(f"{of_codes[0]} is about the codes of --model vqvae; --model {args.model} has none")
    if args.model == "vqvae" and args.latent_dim is not None:
        refuse("--latent-dim has no meaning for --model vqvae, whose latent is 49 codes; --codes says out of how many")
    if args.model in ("cvae", "vqvae") and args.trunk != "conv":
        refuse(f"--trunk {args.trunk} is for --model vae and ae; --model {args.model} has a convolutional trunk only")
    if len(many) == 2:
        refuse("--mc-samples averages outside the logarithm, --importance-samples inside: give one of them")
    if price and many:
        refuse(f"{many[0]} and {price[0]} are two different objectives; give one of them")
    if given(args, "--capacity") and (given(args, "--anneal") or given(args, "--free-bits")):
        other = "--anneal" if given(args, "--anneal") else "--free-bits"
        refuse(f"--capacity already says what the KL should be at each step; leave {other} out")
    if given(args, "--anneal-epochs") and not (given(args, "--anneal") or given(args, "--capacity")):
        refuse("--anneal-epochs is the length of a ramp and needs --anneal or --capacity")
    if args.trunk == "linear" and (args.likelihood != "gaussian" or args.model != "vae" or many):
        refuse("--trunk linear is probabilistic PCA: it needs --likelihood gaussian and --model vae, with one sample")
    scheduled = [*price, *(["--trunk linear"] if args.trunk == "linear" else [])]
    if args.compile and (scheduled or args.model == "vqvae"):
        what = scheduled[0] if scheduled else "--model vqvae"
        refuse(f"--compile takes an objective that is the same at every step, and with {what} it is not: leave one out")
    if args.weights is not None and (args.model not in ("vae", "ae") or args.trunk != "conv"):
        refuse("--weights is a file of the spec's network and starts only --model vae or ae with --trunk conv")


def refuse(sentence: str):
    raise cli.UsageError(sentence + ".")


def given(args: argparse.Namespace, flag: str) -> bool:
    """Whether the flag differs from its default."""
    name = flag.removeprefix("--").replace("-", "_")
    return getattr(args, name) != build_parser().get_default(name)


def fill_in(args: argparse.Namespace) -> None:
    """The defaults that depend on other flags."""
    args.latent_dim = args.latent_dim or 20
    args.prior_epochs = args.prior_epochs or args.epochs
    if args.beta is None:
        args.beta = 1.0 if args.capacity is None else 10.0
    if args.anneal_epochs is None:
        args.anneal_epochs = args.epochs / (8 if args.anneal == "cyclical" else 2)


def resumed(args: argparse.Namespace, config: argparse.Namespace) -> argparse.Namespace:
    """The settings of the run to go on with: its own, but for where data and device are.

    Raises UsageError when the command names another setting: the run would no longer be the one it began as.
    """
    here = ("resume", "device", "data_dir")
    changed = [name for name in args.typed if name not in here]
    if changed:
        flag = "--" + changed[0].replace("_", "-")
        raise cli.UsageError(f"{flag} cannot be given with --resume, which goes on with the settings of the run.")
    given = {name: value for name, value in vars(args).items() if name in here and name in args.typed}
    return argparse.Namespace(**{**vars(args), **vars(config), **given})  # a run of old may lack a newer flag


def begun_before(args: argparse.Namespace) -> str | None:
    """The folder of this very run, which torchrun started again after a process had died; None if it had none yet."""
    from paper_run import read_config

    folder, free = args.out or str(Path("runs") / "paper"), ("resume", "device", "data_dir")
    try:
        config = vars(read_config(folder))
    except cli.UsageError:
        return None
    return folder if all(config.get(name) == value for name, value in vars(args).items() if name not in free) else None


def expectation(args: argparse.Namespace) -> str:
    """What -elbo to expect on the test split, where the settings are those that were measured."""
    defaults = build_parser().parse_args([])
    fill_in(defaults)
    free = ("dataset", "data_dir", "latent_dim", "seed", "device", "out", "overwrite", "resume")
    default = all(getattr(args, name) == value for name, value in vars(defaults).items() if name not in free)
    known = EXPECTED.get((args.dataset, args.latent_dim)) if default else None
    if known is None:
        return "expect: not measured for these settings; README's results table has the nearest ones"
    return "expect: -elbo on the test split of {} nats after epoch 1, {} at the end (three seeds)".format(*known)


def build_parser() -> argparse.ArgumentParser:
    flags = ("--dataset", "--data-dir", "--weights", "--latent-dim", "--batch-size", "--epochs", "--lr", "--seed")
    parser = cli.parser(
        __doc__.splitlines()[0], *flags, "--device", "--likelihood", "--binarize", "--out", "--overwrite"
    )
    add = parser.add_argument
    add("--model", choices=("vae", "ae", "cvae", "vqvae"), default="vae", help="which model (default vae)")
    add("--trunk", choices=("conv", "mlp", "linear"), default="conv", help="encoder and decoder (default conv)")
    add("--beta", type=cli.number(0), metavar="W", help="weight of the KL (default 1, with --capacity 10)")
    add("--anneal", choices=("none", "linear", "sigmoid", "cyclical"), default="none", help="how beta rises from 0")
    add(
        "--anneal-epochs", type=cli.number(0, above=True), metavar="N",
        help="epochs of one ramp of beta or C (default half of --epochs; cyclical an eighth: four cycles)",
    )  # fmt: skip
    add("--free-bits", type=cli.number(0), default=0.0, metavar="F", help="nats per latent dimension that cost nothing")
    add("--capacity", type=cli.number(0), metavar="C", help="nats that the KL is drawn to; C rises to this")
    add("--importance-samples", type=cli.whole(1, 1000), default=1, metavar="K", help="train on L_K (IWAE)")
    add("--mc-samples", type=cli.whole(1, 1000), default=1, metavar="L", help="samples of z per image in the ELBO")
    add("--codes", type=cli.whole(2, 65536), default=512, metavar="K", help="size of the codebook (default 512)")
    add("--codebook", choices=("ema", "gradient"), default="ema", help="how codes move: running means, or gradients")
    add("--prior-epochs", type=cli.whole(1, 10**6), metavar="N", help="epochs of the codes' prior (default --epochs)")
    add("--amp", action="store_true", help="train with bfloat16 autocast: faster on processors that have it")
    add("--compile", action="store_true", help="fuse the objective with torch.compile, which takes a minute; for GPUs")
    add("--resume", metavar="RUN", help="go on with an interrupted run, exactly as it would have")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(build_parser(), run, argv, several=True)


if __name__ == "__main__":
    sys.exit(main())
