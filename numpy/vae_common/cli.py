"""What the command lines share: flags made of settings, errors in one line, lines of numbers.

Bad input ends in one line on stderr and exit status 2, an interrupt in one line and 130; no traceback is for the user.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from vae_common import run_folder
from vae_common.config import SWITCH, RunConfig, flag
from vae_common.errors import UsageError, UserError

# --- flags --------------------------------------------------------------------------------------------------------


def parser(description: str, *names: str, config: type[RunConfig] = RunConfig) -> argparse.ArgumentParser:
    """A parser with the flags of these settings; a command adds its own.

    What was not typed does not appear among the parsed arguments: the defaults are those of `config`, or of the
    function that is given the arguments.
    """
    result = argparse.ArgumentParser(description=description, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    declared = {one.name: one.metadata for one in config.__dataclass_fields__.values()}
    for name in names:
        if declared[name].get("typed", True):
            add_setting(result, name, **declared[name])
    return result


def add_setting(to: argparse.ArgumentParser, name: str, kind, help: str, metavar=None, nargs=None, alias=None, **_):
    """Add the flag of one setting, as `config.setting` declares it."""
    flags = [flag(one) for one in (name, alias) if one is not None]
    if kind is SWITCH:
        add_switch(to, name, help)
    elif kind.choices:
        to.add_argument(*flags, choices=kind.choices, dest=name, help=help)
    else:
        to.add_argument(*flags, type=kind, metavar=metavar, nargs=nargs, dest=name, help=help)


def add_switch(to: argparse.ArgumentParser, name: str, help: str) -> None:
    """Add a flag without a value; the argument is there, and true, only when it was typed."""
    to.add_argument(flag(name), action="store_true", default=argparse.SUPPRESS, help=help)


def later(module: str, function: str) -> Callable[..., Any]:
    """module.function, imported when it is called: so --help and a mistyped flag need neither torch nor matplotlib."""

    def call(*args, **kwargs):
        return getattr(importlib.import_module(module), function)(*args, **kwargs)

    return call


# --- running a command --------------------------------------------------------------------------------------------


def run(
    arguments: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    body: Callable[..., int | None],
    several: bool = False,
) -> int:
    """Parse `argv`, call `body` with what was typed, by name; return its exit status (None is 0).

    What a user can cause is told in one line. several: whether the processes that torchrun starts share the work of
    this command; if not, only one may start it.
    """
    try:
        typed = vars(arguments.parse_args(argv))
    except SystemExit as stop:  # argparse has already said why
        return stop.code or 0
    if not several and is_one_of_several():
        first = os.environ.get("RANK", "0") == "0"
        return _fail(arguments, "it runs in one process; start it with python, without torchrun.") if first else 2
    try:
        return body(**typed) or 0
    except UserError as error:
        return _fail(arguments, str(error))
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = None
        return 1
    except OSError as error:
        return _fail(arguments, f"{error.filename}: {error.strerror}." if error.filename else str(error))
    except KeyboardInterrupt as stop:
        print(f"\n{str(stop) or 'interrupted; files already reported are whole.'}", file=sys.stderr)
        return getattr(stop, "status", 130)
    finally:
        run_folder.release_all()


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
    import torch  # only levels 2 and 3 have devices

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


# --- what is printed ----------------------------------------------------------------------------------------------


def counted(count: int, thing: str) -> str:
    """1 epoch, 2 epochs."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def format_row(row: dict) -> str:
    """A row of metrics.jsonl as the line that is printed after an epoch: its numbers, in order."""
    names = [name for name, value in row.items() if isinstance(value, float) and name not in ("seconds", "loss")]
    text = "  ".join(f"{name} {row[name]:{'.5f' if name == 'mse' else '8.2f'}}" for name in names)
    return f"epoch {row['epoch']:3d} {row['split']:5}  {text}  {row['seconds']:6.1f} s"
