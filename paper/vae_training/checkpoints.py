"""The state of a run on disk: `checkpoint.safetensors`, and the one before it, for the day when the newer is damaged.

It holds the tensors of the model, `model/NAME`, and what Adam keeps of each parameter, `step/NAME`, `exp_avg/NAME` and
`exp_avg_sq/NAME`; in its metadata the rest as JSON, and a checksum, which a safetensors file does not have of its own.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

from vae_common.errors import UsageError
from vae_common.files import check_size, write_atomically
from vae_common.weights import read_safetensors, write_safetensors
from vae_training import processes
from vae_training.trainer import RunState

ADAM = ("step", "exp_avg", "exp_avg_sq")  # what torch's Adam keeps of a parameter


def previous(path: Path) -> Path:
    """Where the checkpoint before the one at `path` is kept."""
    return path.with_name(f"{path.stem}-previous{path.suffix}")


def save_checkpoint(state: RunState, path: Path) -> None:
    """Write all of `state` to `path`; what was there becomes the previous checkpoint. At every moment one is whole.

    Raises OSError when the disk refuses; what was at `path` is then still there.
    """
    tensors = {f"model/{name}": value for name, value in state.model.state_dict().items()}
    for name, parameter in state.model.named_parameters():
        if parameter in state.optimizer.state:  # else it has had no gradient
            tensors |= {f"{kind}/{name}": state.optimizer.state[parameter][kind] for kind in ADAM}
    arrays = {name: value.cpu().numpy() for name, value in tensors.items()}
    rest = json.dumps({"step": state.step, "sums": state.sums, "rows": state.rows})
    if path.exists():
        _copy(path, previous(path))
    write_safetensors(arrays, _metadata(arrays, rest), path)


def load_checkpoint(state: RunState, path: Path) -> RunState:
    """Put what `save_checkpoint` wrote back into `state`.

    A damaged file is replaced by the previous checkpoint, and a note says so. Raises UsageError when neither can be
    read, or they are of another model.
    """
    try:
        return _load(state, path)
    except (PermissionError, MemoryError):  # of the machine; the file may be whole
        raise
    except Exception as error:  # of a file, or of a model that it does not fit
        reason = " ".join(str(error.__cause__ or error).split())[:200].rstrip(".")
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
    check_size(path)
    path.open("rb").close()  # where it may not be read, this says so; safetensors would say that it is not there
    metadata, arrays = read_safetensors(path)
    rest = metadata.get("state", "")
    if metadata != _metadata(arrays, rest):
        raise ValueError("its version or its checksum is wrong")
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    adam = {
        number: {kind: tensors.pop(f"{kind}/{name}") for kind in ADAM}
        for number, (name, _) in enumerate(state.model.named_parameters())
        if f"step/{name}" in tensors
    }
    state.model.load_state_dict({name.removeprefix("model/"): value for name, value in tensors.items()})
    state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": adam})
    rest = json.loads(rest)
    state.step, state.sums, state.rows = rest["step"], rest["sums"], rest["rows"]
    return state


def _metadata(arrays: dict[str, np.ndarray], rest: str) -> dict[str, str]:
    """What the file says besides its arrays: the rest of the state, as JSON, and the SHA-256 of all of it."""
    checksum = hashlib.sha256(rest.encode())
    for name, array in sorted(arrays.items()):
        checksum.update(f"{name} {array.dtype} {array.shape}".encode())
        checksum.update(np.ascontiguousarray(array))
    return {"format": "paper-checkpoint", "version": "1", "state": rest, "sha256": checksum.hexdigest()}


def _copy(source: Path, target: Path) -> None:
    whole = source.read_bytes()
    write_atomically(target, lambda file: file.write(whole))
