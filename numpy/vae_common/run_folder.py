"""A run folder: made without losing an earlier run, held by one process at a time, its settings written and read."""

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vae_common.config import RunConfig, flag
from vae_common.errors import UsageError
from vae_common.files import HALF_WRITTEN, FolderLock, read_whole, write_atomically

Config = TypeVar("Config", bound=RunConfig)

RUN_FILES = (
    "config.json",
    "metrics.jsonl",
    "prior-metrics.jsonl",
    "weights.safetensors",
    "prior-weights.safetensors",
    "checkpoint.safetensors",
    "checkpoint-previous.safetensors",
    "prior-checkpoint.safetensors",
    "prior-checkpoint-previous.safetensors",
    "evaluation.json",
    "snapshots.npz",
    "results.json",
    "rate_distortion.json",
    "against.json",
    "explorer.html",
    "figures/*.png",
    "figures/*.gif",
)
FORMAT = 1  # of config.json: raise it when an older version could misread a newer file

# --- making one ---------------------------------------------------------------------------------------------------


def make_run_folder(config: RunConfig, level: str, **more) -> Path:
    """Make the folder of this run and write its config.json: the settings, `more`, and what computes.

    Without config.out it is runs/<level>, and an earlier run there is first moved aside to runs/<level>-1, -2, ...
    A folder that config.out names must be new or empty, unless config.overwrite allows replacing the run in it.
    Raises UsageError when it is neither or cannot be made, OSError when the disk refuses what is written.
    """
    folder = Path(config.out) if config.out is not None else Path("runs") / level
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder}: expected a folder to write to, found a file; choose another name.")
    held = hold_run_folder(folder) if folder.is_dir() else None
    if held and any(folder.iterdir()):
        if config.out is None:
            aside = next(p for n in range(1, sys.maxsize) if not (p := folder.with_name(f"{level}-{n}")).exists())
            folder.rename(aside)
            _held.pop(held).release()
            print(f"moved the earlier run {folder} to {aside}")
        elif not config.overwrite:
            raise UsageError(f"--out {folder}: the folder is not empty; choose another, or allow it with --overwrite.")
        else:
            _clear(folder, config.weights)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"the folder cannot be made ({error.strerror})"
        raise UsageError(f"--out {folder}: {reason}; choose a place that can be written to.") from error
    hold_run_folder(folder)
    settings = {name: value for name, value in asdict(config).items() if name in config.settings(level)}
    if config.data_dir is not None:
        settings["data_dir"] = str(Path(config.data_dir).resolve())  # so that the run can be read from any folder
    computes = {"python": platform.python_version(), "numpy": np.__version__, "threads": threads()}
    write_json(folder / "config.json", {"format": FORMAT, "level": level, **settings, **computes, **more})
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
    elif foreign := [file.name for file in old if "checkpoint" in file.name]:
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


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically, and say so."""
    text = json.dumps(value, indent=2, allow_nan=False, default=str)
    write_atomically(path, lambda file: file.write(f"{text}\n".encode()))
    print(f"wrote {path}")


def write_metrics(path: Path, rows: Sequence[dict]) -> None:
    """Write metrics.jsonl, one JSON object per line, atomically."""
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    write_atomically(path, lambda file: file.write(text.encode()))


def read_evaluation(folder: str | Path) -> dict:
    """What evaluation.json of a run holds; nothing where there is none that can be read."""
    try:
        return dict(json.loads(read_whole(Path(folder) / "evaluation.json")))
    except (OSError, ValueError, TypeError):
        return {}


def short_names(runs: Sequence[str]) -> dict[str, str]:
    """What a picture calls each of these folders: its name, or the path as given where another has that name too.

    Raises UsageError where a folder is given twice.
    """
    paths = [Path(run).resolve() for run in runs]
    for run, path in zip(runs, paths, strict=True):
        if paths.count(path) > 1:
            raise UsageError(f"{run}: this run is named twice; name each once.")
    names = [path.name for path in paths]
    return {run: name if names.count(name) == 1 else run for run, name in zip(runs, names, strict=True)}


def refuse_unlike(configs: Mapping[str, RunConfig], names: Sequence[str]) -> None:
    """Raise UsageError unless all runs, settings by folder, have of the settings `names` what the first one has."""
    first, config = next(iter(configs.items()))
    for folder, found in configs.items():
        for name in names:
            wanted, other = f"{flag(name)} {getattr(config, name)}", getattr(found, name)
            if other != getattr(config, name):
                raise UsageError(f"{folder}: expected {wanted}, as in {first}, found {other}; name like runs.")


# --- one writer at a time -----------------------------------------------------------------------------------------

_held: dict[Path, FolderLock] = {}  # of the command that is running


def hold_run_folder(folder: Path) -> Path:
    """Keep other processes from writing to this run folder until `release_all`, and delete what one that was killed has
    left half-written in it; its path in full.

    Raises UsageError when one is writing to it now, and when this one may not.
    """
    folder = folder.resolve()
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{folder}: this folder, or its disk, is read-only; change that, or copy it elsewhere.")
    if folder not in _held:
        try:
            _held[folder] = FolderLock(folder)
        except BlockingIOError as error:
            raise UsageError(
                f"{folder}: another run is writing to this folder; wait until it ends, or name another with --out."
            ) from error
        for file in [*folder.glob(HALF_WRITTEN), *folder.glob(f"figures/{HALF_WRITTEN}")]:
            file.unlink(missing_ok=True)
    return folder


def release_all() -> None:
    """Let go of the folders that this process holds."""
    while _held:
        _held.popitem()[1].release()


# --- reading its settings -----------------------------------------------------------------------------------------


def read_config(folder: str | Path, level: str = "paper", kind: type[Config] = RunConfig) -> tuple[Config, dict]:
    """The settings of a run of this level, and the rest of its config.json (threads, versions, ...).

    Raises UsageError when the folder holds none that can be read and used.
    """
    path = Path(folder) / "config.json"
    try:
        found = json.loads(read_whole(path))
        if not isinstance(found, dict):
            raise ValueError("it is no JSON object")
        if found.get("level") != level:
            raise ValueError(f"it is a run of level {str(found.get('level'))[:40]!r}")
        if type(found.get("format", 1)) is not int or not 1 <= found.get("format", 1) <= FORMAT:
            raise ValueError("a newer version of this project wrote it")
        declared = {name: how for name, how in kind.settings(level).items() if name in found or not how.get("new")}
        settings = {name: _setting_in(found, name, how) for name, how in declared.items()}
    except (OSError, ValueError, RecursionError) as error:
        wanted = "the settings of a run that this version of the project wrote"
        raise unreadable(path, wanted, error) from error
    config = kind(**settings)
    for name in settings:
        if getattr(config, name) != getattr(config.settled(), name):  # a run has them settled
            raise unreadable(path, "the settings of a run", ValueError(f"{name} is {getattr(config, name)}"))
    return config.settled(), {name: value for name, value in found.items() if name not in settings}


def _setting_in(found: Mapping[str, Any], name: str, declared: Mapping[str, Any]) -> Any:
    """The value of one setting in a config.json; raises ValueError when it is missing or not allowed."""
    key = declared.get("alias") if name not in found else name
    if key not in found:
        raise ValueError(f"it lacks {name}")
    value = found[key]
    values = value if declared.get("nargs") and isinstance(value, list) else [value]
    if not all(map(declared["kind"].allows, values)) and not (value is None and declared["default"] is None):
        raise ValueError(f"{name} is {str(value)[:40]!r}")
    return tuple(value) if isinstance(value, list) else value


def unreadable(path: Path, wanted: str, error: Exception) -> UsageError:
    """The error that says what was expected at `path` and why what is there is not that."""
    reason = " ".join((getattr(error, "strerror", None) or str(error)).split())
    return UsageError(f"{path}: expected {wanted}, found none that can be read ({reason}); name a run folder.")


# --- threads ------------------------------------------------------------------------------------------------------


def threads() -> int:
    """With how many threads this process computes: those of torch where it is imported, else those of NumPy's BLAS."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return torch.get_num_threads()
    from threadpoolctl import threadpool_info

    return max((pool["num_threads"] for pool in threadpool_info()), default=1)


def note_threads(before: object) -> None:
    """Say so when the run to go on with began with another number of threads, as its config.json has it."""
    now = threads()
    if type(before) is int and before > 0 and before != now:
        print(
            f"note: this run began with {before} thread{'' if before == 1 else 's'} and goes on with {now}: the last "
            f"digits may differ from an uninterrupted run; OMP_NUM_THREADS={before} keeps them.",
            file=sys.stderr,
        )
