"""What the command lines share: flags with checked ranges, one-line errors, the run folder.

Bad input ends in one line on stderr and exit status 2, an interrupt in one line and 130; no traceback is for the user.
"""

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vae_common.data import BINARIZE, DATASETS, DatasetError
from vae_common.files import FolderLock, read_whole, remove_leftovers, write_atomically
from vae_common.spec import MAX_LATENT_DIM
from vae_common.weights import WeightsError


class UsageError(Exception):
    """A command that cannot be carried out as it was typed; the message is one sentence."""


class NotFiniteError(Exception):
    """A term of the objective became NaN or infinite; the message names the term, the step, and what to try."""


# --- flags: one meaning and one default at every level ------------------------------------------------------------


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """An argparse type: an integer from `low` to `high`."""
    wanted = f"an integer from {low} to {high}" if high is not None else f"an integer of at least {low}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"expected {wanted}, got {text!r}")
        return value

    return parse


def number(low: float, high: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """An argparse type: a finite number of at least `low`, or above it, and at most `high`."""
    wanted = f"a finite number {'above' if above else 'of at least'} {low:g}"
    wanted += f" and at most {high:g}" if high < math.inf else ""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not low <= value <= high or (above and value == low):
            raise argparse.ArgumentTypeError(f"expected {wanted}, got {text!r}")
        return value

    return parse


FLAGS = {
    "--dataset": dict(choices=DATASETS, default="digits", help="data set (default digits: drawn here, no download)"),
    "--data-dir": dict(metavar="DIR", help="where data lies or is put (default: the user's cache folder)"),
    "--latent-dim": dict(type=whole(1, MAX_LATENT_DIM), metavar="Z", help="latent dimensions (default 20)"),
    "--batch-size": dict(type=whole(1, 10**6), default=64, metavar="B", help="images per step (default 64)"),
    "--epochs": dict(type=whole(1, 10**6), default=10, metavar="N", help="passes over the images (default 10)"),
    "--lr": dict(type=number(0, 1000, above=True), default=2e-3, help="peak learning rate (default 2e-3)"),
    "--seed": dict(type=whole(0, 2**32 - 1), default=0, help="fixes weights, order and noise (default 0)"),
    "--device": dict(default="auto", help="cpu, cuda, cuda:1, mps, or auto: cuda where there is one (default auto)"),
    "--out": dict(metavar="RUN", help="run folder to write (default runs/<level>, an earlier one is moved aside)"),
    "--overwrite": dict(action="store_true", help="write into --out even if it holds an earlier run"),
    "--weights": dict(metavar="FILE", help="a weights.safetensors to start from"),
    "--likelihood": dict(
        choices=("bernoulli", "gaussian"), default="bernoulli", help="p(x|z) of a pixel (default bernoulli)"
    ),
    "--binarize": dict(
        choices=BINARIZE, default="none", help="none keeps grey pixels; threshold, dynamic make them 0 or 1"
    ),
}


class Arguments(argparse.Namespace):
    """The settings, as attributes; `typed`, which is none of them, holds the names of those that were typed."""

    __slots__ = ("typed",)


class Parser(argparse.ArgumentParser):
    """Of a value that is the default it can be told whether it was typed: `Arguments.typed`."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: None = None) -> Arguments:
        found, unset = super().parse_args(args, Arguments()), object()
        marked = super().parse_args(args, Arguments(**dict.fromkeys(vars(found), unset)))
        found.typed = [name for name, value in vars(marked).items() if value is not unset and value is not None]
        return found


def parser(description: str, *flags: str) -> Parser:
    """An argument parser with those of the shared flags; a level adds its own."""
    result = Parser(description=description, allow_abbrev=False)
    for flag in flags:
        result.add_argument(flag, **FLAGS[flag])
    return result


# --- running a command --------------------------------------------------------------------------------------------


def run(
    arguments: argparse.ArgumentParser,
    body: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] | None,
    several: bool = False,
) -> int:
    """Parse `argv`, call `body(args)`, return its exit status (None is 0); tell what a user can cause in one line.

    several: whether the processes that torchrun starts share the work of this command; if not, only one may start it.
    """
    try:
        args = arguments.parse_args(argv)
    except SystemExit as stop:  # argparse has already said why
        return stop.code or 0
    if not several and is_one_of_several():
        first = os.environ.get("RANK", "0") == "0"
        return _fail(arguments, "it runs in one process; start it with python, without torchrun.") if first else 2
    try:
        return body(args) or 0
    except (UsageError, NotFiniteError, WeightsError, DatasetError) as error:
        return _fail(arguments, str(error))
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = None
        return 1
    except OSError as error:
        return _fail(arguments, f"{error.filename}: {error.strerror}." if error.filename else str(error))
    except KeyboardInterrupt:
        print("\ninterrupted; files already reported are whole.", file=sys.stderr)
        return 130
    finally:
        while _held:
            _held.popitem()[1].release()


def is_one_of_several() -> bool:
    """Whether torchrun started this process together with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def _fail(arguments: argparse.ArgumentParser, message: str) -> int:
    print(f"{arguments.prog}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def torch_device(name: str):
    """The torch device that --device names; "auto" is cuda where there is one, else cpu.

    Raises UsageError for a name that is no device and for a device that this machine does not have.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"--device: expected cpu, cuda, cuda:N, mps or auto, got {name!r}.")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[device.type]
    if (device.index or 0) >= count:
        raise UsageError(
            f"--device {name}: torch finds {count or 'no'} {device.type} device(s) here; use --device cpu."
        )
    return device


# --- the run folder -----------------------------------------------------------------------------------------------

RUN_FILES = (
    "config.json",
    "metrics.jsonl",
    "prior-metrics.jsonl",
    "weights.safetensors",
    "prior-weights.safetensors",
    "checkpoint.pt",
    "checkpoint-previous.pt",
    "prior-checkpoint.pt",
    "prior-checkpoint-previous.pt",
    "evaluation.json",
    "snapshots.npz",
    "results.json",
    "rate_distortion.json",
    "disentanglement.json",
    "probes.json",
    "explorer.html",
    "figures/*.png",
    "figures/*.gif",
)


FORMAT = 1  # of config.json: raise it when an older version could misread a newer file


def make_run_folder(args: argparse.Namespace, level: str, **versions) -> Path:
    """Make the folder of this run and write its config.json: the settings, and the `versions` of what computes.

    Without --out it is runs/<level>, and an earlier run there is first moved aside to runs/<level>-1, -2, ...
    A folder named with --out must be new or empty, unless --overwrite allows replacing the run in it.
    Raises UsageError when it is neither or cannot be made, OSError when the disk refuses what is written.
    """
    folder = Path(args.out) if args.out is not None else Path("runs") / level
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder}: expected a folder to write to, found a file; choose another name.")
    if folder.is_dir():
        remove_leftovers(folder)
    if folder.is_dir() and any(folder.iterdir()):
        held = hold_run_folder(folder)
        if args.out is None:
            aside = next(p for n in range(1, sys.maxsize) if not (p := folder.with_name(f"{level}-{n}")).exists())
            folder.rename(aside)
            _held.pop(held).release()
            print(f"moved the earlier run {folder} to {aside}")
        elif not args.overwrite:
            raise UsageError(f"--out {folder}: the folder is not empty; choose another, or allow it with --overwrite.")
        else:
            _clear(folder, getattr(args, "weights", None))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"the folder cannot be made ({error.strerror})"
        raise UsageError(f"--out {folder}: {reason}; choose a place that can be written to.") from error
    hold_run_folder(folder)
    if getattr(args, "data_dir", None) is not None:
        args.data_dir = str(Path(args.data_dir).resolve())  # so that the run can be read from any folder
    config = {
        "format": FORMAT,
        "level": level,
        **vars(args),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "threads": threads(),
    }
    write_json(folder / "config.json", config | versions)
    return folder


def _clear(folder: Path, weights: str | None) -> None:
    """Delete the files of the run in `folder`, where there is one; whatever else lies there is not ours to delete.

    Raises UsageError where a file is needed, or would be taken for a checkpoint of the new run.
    """
    old = [file for pattern in RUN_FILES for file in folder.glob(pattern)]
    if weights is not None and Path(weights).resolve() in [file.resolve() for file in old]:
        raise UsageError(
            f"--weights {weights} is of the run that --overwrite would replace; choose another --out, or copy it."
        )
    if _is_run(folder):
        for file in reversed(old):  # config.json last: until then it is a run
            file.unlink()
    elif foreign := [file.name for file in old if file.suffix == ".pt"]:
        raise UsageError(
            f"--out {folder}: --overwrite replaces a run, and this folder holds {foreign[0]} but no config.json of a "
            "run; choose another folder."
        )


def _is_run(folder: Path) -> bool:
    try:
        config = json.loads(read_whole(folder / "config.json"))
        return isinstance(config["level"], str) and "numpy" in config
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def threads() -> int:
    """With how many threads this process computes: those of torch where it is imported, else those of NumPy's BLAS."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return torch.get_num_threads()
    from threadpoolctl import threadpool_info

    return max((pool["num_threads"] for pool in threadpool_info()), default=1)


def note_threads(args: argparse.Namespace) -> None:
    """Say so when the settings of the run to go on with, as its config.json has them, name other threads than now."""
    before, now = getattr(args, "threads", None), threads()
    if type(before) is int and before > 0 and before != now:
        print(
            f"note: this run began with {counted(before, 'thread')} and goes on with {now}: the last digits may differ "
            f"from an uninterrupted run; OMP_NUM_THREADS={before} keeps them.",
            file=sys.stderr,
        )


_held: dict[Path, FolderLock] = {}  # of the command that is running


def hold_run_folder(folder: Path) -> Path:
    """Keep other processes from writing to this run folder until the command ends; its path in full.

    Raises UsageError when one is writing to it now.
    """
    folder = folder.resolve()
    if folder not in _held:
        try:
            _held[folder] = FolderLock(folder)
        except BlockingIOError as error:
            raise UsageError(
                f"{folder}: another run is writing to this folder; wait until it ends, or name another with --out."
            ) from error
    return folder


def write_json(path: Path, value) -> None:
    """Write `value` as readable JSON, atomically, and say so."""
    text = json.dumps(value, indent=2, allow_nan=False, default=str)
    write_atomically(path, lambda file: file.write(f"{text}\n".encode()))
    print(f"wrote {path}")


def write_metrics(path: Path, rows: Sequence[dict]) -> None:
    """Write metrics.jsonl, one JSON object per line, atomically."""
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    write_atomically(path, lambda file: file.write(text.encode()))


def counted(count: int, thing: str) -> str:
    """1 epoch, 2 epochs."""
    return f"{count:,} {thing}{'s' * (count != 1)}"


def format_row(row: dict) -> str:
    """A row of metrics.jsonl as the line that is printed after an epoch: its numbers, in order."""
    names = [name for name, value in row.items() if isinstance(value, float) and name not in ("seconds", "loss")]
    text = "  ".join(f"{name} {row[name]:{'.5f' if name == 'mse' else '8.2f'}}" for name in names)
    return f"epoch {row['epoch']:3d} {row['split']:5}  {text}  {row['seconds']:6.1f} s"
