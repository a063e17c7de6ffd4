"""Arrays as arguments, checked before they are used."""

import numpy as np


def checked_array(name: str, values: object, *shape: int | None) -> np.ndarray:
    """`values` as a finite array of this shape, where None stands for any size of at least 1."""
    array = np.asarray(values)
    fits = array.ndim == len(shape) and all(s in (None, n) for s, n in zip(shape, array.shape, strict=True))
    if not fits or not array.size or array.dtype.kind not in "biuf":
        wanted = ", ".join("any" if s is None else str(s) for s in shape)
        raise ValueError(f"{name}: expected numbers of shape ({wanted}), found {array.dtype} {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, found {(~np.isfinite(array)).sum()} that are not")
    return array
