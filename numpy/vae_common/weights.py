"""Weights files that every level reads and writes: safetensors, float32 (shipped ones float16), never pickle."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vae_common.errors import UsageError, WeightsError
from vae_common.files import check_size, write_atomically
from vae_common.spec import MAX_LATENT_DIM, VAESpec

FORMAT, VERSION = "conv-vae", "1"
PRETRAINED = Path(__file__).parent / "pretrained"
SHIPPED = {path.stem: path for path in sorted(PRETRAINED.glob("*.safetensors"))}  # by name: digits-z2, mnist-z20, ...


def save_weights(params: Mapping[str, np.ndarray], path: str | Path, dtype: str = "float32") -> Path:
    """Write `params` (names and shapes of the spec) to `path` as "float32" or "float16"; return the path.

    The write is atomic: whatever `path` held stays whole until the new file is complete on disk.
    Raises WeightsError when a key, a shape or a value is not what the spec allows, OSError when the disk refuses.
    """
    path = Path(path)
    if dtype not in ("float32", "float16"):
        raise ValueError(f'dtype must be "float32" or "float16", got {dtype!r}.')
    latent_dim = _checked_latent_dim(params, path)
    with np.errstate(over="ignore"):  # what does not fit becomes inf, which the check below names
        tensors = {name: np.asarray(value, dtype=dtype, order="C") for name, value in params.items()}
    _check_params(tensors, VAESpec(latent_dim), path)
    return write_safetensors(tensors, {"format": FORMAT, "version": VERSION, "latent_dim": str(latent_dim)}, path)


def load_weights(path: str | Path, latent_dim: int | None = None) -> dict[str, np.ndarray]:
    """Read a weights file into {name: float32 array} in the spec's order; `latent_dim` asks for that Z.

    path: a file, or a name in SHIPPED.
    Raises WeightsError, one sentence naming the file and the remedy, for: a missing file, a directory, something
    that is not safetensors, a truncated file, another format or version, a missing or extra key, a wrong shape,
    a dtype other than float32 or float16, a non-finite value, a Z other than `latent_dim`.
    """
    path = SHIPPED.get(str(path), Path(path))
    metadata, tensors = read_safetensors(path)
    found = {key: metadata.get(key) for key in ("format", "version")}
    if found != {"format": FORMAT, "version": VERSION}:
        raise WeightsError(
            f"{path}: expected metadata format {FORMAT!r} version {VERSION!r}, found format {found['format']!r} "
            f"version {found['version']!r}; give a file written by this project's training commands."
        )
    spec = VAESpec(_latent_dim_in(metadata, path))
    _check_params(tensors, spec, path)
    if latent_dim is not None and latent_dim != spec.latent_dim:
        raise WeightsError(
            f"{path}: expected latent_dim {latent_dim}, found {spec.latent_dim}; "
            f"pass --latent-dim {spec.latent_dim} or choose other weights."
        )
    return {name: tensors[name].astype(np.float32) for name in spec.shapes}


def chosen_weights(path: str | None, latent_dim: int | None) -> tuple[dict, dict | None]:
    """The parameters at `path`, a file or a name in SHIPPED, by default the digits' of that Z (default 20); and
    parameters with Z = 2 for the same data, for the picture of the latent plane, if there are any.

    Raises WeightsError as `load_weights` does, UsageError for a Z that is not shipped.
    """
    path = shipped("digits", latent_dim or 20) if path is None else path
    params = load_weights(path, latent_dim)
    if latent_dim_of(params) == 2:
        return params, params
    return params, load_weights(f"{trained_on(path)}-z2") if path in SHIPPED else None


def shipped(dataset: str, latent_dim: int) -> str:
    """The name in SHIPPED of the weights for a data set and Z; UsageError where there are none."""
    name = f"{dataset}-z{latent_dim}"
    if name not in SHIPPED:
        raise UsageError(
            f"--latent-dim {latent_dim}: weights are shipped for 2 and 20; train others with level 2 or 3, "
            "and name their run or, with --weights, their file."
        )
    return name


def trained_on(weights: str | None) -> str | None:
    """The data set that shipped weights were trained on, by their name; None for other weights."""
    return weights.rpartition("-")[0] if weights in SHIPPED else None


def latent_dim_of(params: Mapping[str, np.ndarray]) -> int:
    """The Z of a parameter dict of the spec that `load_weights` returned."""
    return params["encoder.mu.bias"].shape[0]


def write_safetensors(tensors: Mapping[str, np.ndarray], metadata: dict[str, str], path: str | Path) -> Path:
    """Write any arrays as a safetensors file, atomically; return the path. The same arrays give the same bytes."""
    tensors = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    return write_atomically(path, lambda file: file.write(_in_order(save(tensors, metadata))))


def _in_order(whole: bytes) -> bytes:
    """A safetensors file with its metadata sorted by name: the library writes it in an order of chance."""
    start = 8 + int.from_bytes(whole[:8], "little")  # a length, a header in JSON, then the arrays
    header = json.loads(whole[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return whole[:8] + text.ljust(start - 8) + whole[start:]


def read_safetensors(path: str | Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Read any safetensors file into (metadata, {name: array}).

    Raises WeightsError for a missing file, a directory, an unreadable, foreign or truncated file.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path}: expected a weights file, found a folder; name the weights.safetensors in it.")
    if not path.exists():
        raise WeightsError(f"{path}: expected a weights file, found nothing there; check the path, or train one.")
    try:
        check_size(path)
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}, {name: _read_tensor(file, name, path) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise WeightsError(
            f"{path}: expected a whole safetensors file, found one that cannot be read ({reason}); "
            "copy it again or train anew."
        ) from error


def _read_tensor(file, name: str, path: Path) -> np.ndarray:
    try:
        return file.get_tensor(name)
    except (TypeError, AttributeError, KeyError) as error:  # bfloat16 and the like, which NumPy does not have
        raise WeightsError(
            f"{path}: expected key {name!r} as float32 or float16, found {file.get_slice(name).get_dtype()}; "
            "save it as float32."
        ) from error


def _checked_latent_dim(params: Mapping[str, np.ndarray], path: Path) -> int:
    if "encoder.mu.bias" not in params:
        raise WeightsError(f"{path}: expected key 'encoder.mu.bias', found none; pass the parameters of the spec.")
    shape = np.shape(params["encoder.mu.bias"])
    if len(shape) != 1 or not 1 <= shape[0] <= MAX_LATENT_DIM:
        raise WeightsError(
            f"{path}: expected key 'encoder.mu.bias' of shape (Z,) with Z from 1 to {MAX_LATENT_DIM}, "
            f"found {shape}; pass the parameters of the spec."
        )
    return shape[0]


def _latent_dim_in(metadata: Mapping[str, str], path: Path) -> int:
    text = metadata.get("latent_dim")
    if text is None or text not in map(str, range(1, MAX_LATENT_DIM + 1)):
        raise WeightsError(
            f"{path}: expected metadata latent_dim from 1 to {MAX_LATENT_DIM}, found {text!r}; "
            "give a file written by this project's training commands."
        )
    return int(text)


def _check_params(tensors: Mapping[str, np.ndarray], spec: VAESpec, path: Path) -> None:
    expected = spec.shapes
    remedy = f"give weights of the spec with latent_dim {spec.latent_dim}"
    for name in expected:
        if name not in tensors:
            raise WeightsError(f"{path}: expected key {name!r}, found it missing; {remedy}.")
    for name, value in tensors.items():
        if name not in expected:
            raise WeightsError(f"{path}: expected only the spec's keys, found the extra key {name!r}; {remedy}.")
        if value.shape != expected[name]:
            raise WeightsError(
                f"{path}: expected key {name!r} of shape {expected[name]}, found {value.shape}; {remedy}."
            )
        if value.dtype not in (np.float32, np.float16):
            raise WeightsError(
                f"{path}: expected key {name!r} as float32 or float16, found {value.dtype}; save it as float32."
            )
        if not np.isfinite(value).all():
            raise WeightsError(
                f"{path}: expected finite numbers in key {name!r}, found NaN or infinity; "
                "train again with a smaller --lr or use an earlier file."
            )
