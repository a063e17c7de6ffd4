"""The state of a run on disk: `checkpoint.pt`, and the one before it, for the day when the newer is damaged."""

import contextlib
import os
import pickletools
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import torch

from vae_common.errors import UsageError
from vae_common.files import check_archive, read_whole, temporary_name, write_atomically
from vae_training import processes
from vae_training.trainer import RunState


def previous(path: Path) -> Path:
    """Where the checkpoint before the one at `path` is kept."""
    return path.with_name(f"{path.stem}-previous{path.suffix}")


def save_checkpoint(state: RunState, path: Path) -> None:
    """Write all of `state` to `path`; what was there becomes the previous checkpoint. At every moment one is whole.

    Raises OSError when the disk refuses; what was at `path` is then still there.
    """
    saved = {
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "step": state.step,
        "sums": state.sums,
        "rows": state.rows,
    }
    whole = BytesIO()  # first in memory: torch.save reports a full disk as almost anything
    torch.save(saved, whole)
    if path.exists():
        _copy(path, previous(path))
    write_atomically(path, lambda file: file.write(whole.getbuffer()))


def load_checkpoint(state: RunState, path: Path) -> RunState:
    """Put what `save_checkpoint` wrote back into `state`; the files are read without running code from them.

    A damaged file is replaced by the previous checkpoint, and a note says so. Raises UsageError when neither can be
    read, or they are of another model.
    """
    try:
        return _load(state, path)
    except (PermissionError, MemoryError):  # of the machine; the file may be whole
        raise
    except Exception as error:  # torch reports a damaged file as almost any exception
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    try:
        _load(state, previous(path))
    except Exception as error:
        raise UsageError(
            f"{path}: expected the checkpoint of this run, found none that can be read ({reason}), nor a previous one; "
            "begin the run anew."
        ) from error
    if processes.is_writer():
        _copy(previous(path), path)
        print(f"note: {path} is damaged ({reason}); going on from the checkpoint before it.", file=sys.stderr)
    return state


def _load(state: RunState, path: Path) -> RunState:
    whole = BytesIO(read_whole(path))  # once, so that what is checked is what is read
    check_archive(whole)
    _check_names(whole)
    saved = torch.load(whole, map_location="cpu", weights_only=True)
    step, sums, rows = int(saved["step"]), dict(saved["sums"]), list(saved["rows"])
    parameters = list(state.model.parameters())
    for number, moments in saved["optimizer"]["state"].items():
        shape = tuple(parameters[number].shape)
        if {name: tuple(value.shape) for name, value in moments.items()} != {
            "step": (), "exp_avg": shape, "exp_avg_sq": shape,
        }:  # fmt: skip
            raise ValueError("its optimizer is of another model")
    if not all(_is_plain(value) for terms in (sums, *rows) for value in terms.values()):
        raise ValueError("its metrics are no numbers")
    state.model.load_state_dict(saved["model"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.step, state.sums, state.rows = step, sums, rows
    return state


def _is_plain(value: object) -> bool:
    """Whether this is a number, a word, or a list of numbers: lists of lists may unfold to any length."""
    values = value if isinstance(value, list) else [value]
    return all(isinstance(one, int | float) for one in values) or isinstance(value, str)


def _check_names(whole: BytesIO) -> None:
    """Raise ValueError when what torch.load is to build is anything but tensors in dicts.

    With weights_only it runs no foreign code, but calls, for instance, bytearray(10**12).
    """
    with zipfile.ZipFile(whole) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        found = {argument for code, argument, _ in pickletools.genops(archive.read(name)) if "GLOBAL" in code.name}
    whole.seek(0)
    allowed = {"torch._utils _rebuild_tensor_v2", "collections OrderedDict"}
    for name in found - allowed:
        if not (name and name.startswith("torch ") and name.endswith("Storage")):
            raise ValueError(f"it holds {name}")


def _copy(source: Path, target: Path) -> None:
    """Give the file at `source` to `target` too, atomically: by a second name, or where a disk has none by a copy."""
    temporary = temporary_name(target)
    try:
        os.link(source, temporary)
        os.replace(temporary, target)
    except OSError:  # also where another process took the name, which it cannot find locked, for a leftover
        whole = source.read_bytes()
        write_atomically(target, lambda file: file.write(whole))
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)  # os.replace leaves it where both are one file already
