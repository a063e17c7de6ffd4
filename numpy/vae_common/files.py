"""Files: never half-written, in a folder of one run at a time; never read where they are larger than they may be."""

import contextlib
import errno
import math
import os
import secrets
import stat
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

HALF_WRITTEN = f".*.{16 * '[0-9a-f]'}.tmp"  # temporary files; one that is left is of a killed process
MOST = 2**30  # bytes of one file that is read; ours are smaller: 60,000 images take 47 MB, a checkpoint at most 534 MB

# --- writing ------------------------------------------------------------------------------------------------------


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> Path:
    """Call `write(binary file)` on a temporary file beside `path`, flush it to disk, then rename it to `path`.

    A failure or an interrupt leaves what was at `path` untouched and no temporary file behind. Parent folders are made.
    Raises OSError when the disk refuses, and whatever `write` raises.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)  # a full disk is reported without a name
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return path


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut; Windows cannot open a folder, and needs no such call."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot
            raise
    finally:
        os.close(handle)


# --- reading: nothing is taken into memory that is larger than the file may be --------------------------------------


def check_size(path: str | Path) -> None:
    """Raise ValueError for what is no plain file or has more than MOST bytes, OSError for what is not there."""
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise ValueError("it is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is a device or a pipe, and no file")
    if found.st_size > MOST:
        raise ValueError(f"it has {found.st_size:,} bytes, where {MOST:,} are the most")


def read_whole(path: str | Path) -> bytes:
    """All bytes of a file that `check_size` lets pass; raises what that raises."""
    check_size(path)
    return Path(path).read_bytes()


def load_arrays(file: BinaryIO, most: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The arrays of an archive that np.savez wrote: of each name in `most`, if it has at most so many bytes.

    Raises an error, of almost any kind, for a damaged archive and for one that promises more, before that is unpacked.
    """
    with zipfile.ZipFile(file) as archive:
        for name, size in most.items():
            part = archive.getinfo(f"{name}.npy")
            if part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack at any length
                raise ValueError(f"{name} is packed in another way")
            with archive.open(part) as start:
                if np.lib.format.read_magic(start) != (1, 0):
                    raise ValueError(f"{name} is of another version")
                shape, _, dtype = np.lib.format.read_array_header_1_0(start)
            if math.prod(shape) * dtype.itemsize > size:
                raise ValueError(f"{name} of {shape} {dtype} is larger than it may be")
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in most}


# --- one writer ---------------------------------------------------------------------------------------------------


class FolderLock:
    """Says that this process writes to `folder`, until `release` or the end of the process, however it ends.

    The lock is the operating system's, on the folder itself: no file is left behind, and a dead process holds none.
    Raises BlockingIOError when another process has it. Where folders cannot be locked (Windows, some network disks) a
    note says so.
    """

    def __init__(self, folder: str | Path):
        self._handle = None
        if fcntl is None:
            print(f"note: {folder} cannot be locked on this system; start no second run on it.", file=sys.stderr)
            return
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if isinstance(error, BlockingIOError):
                raise
            print(f"note: {folder} cannot be locked ({error.strerror}); start no second run on it.", file=sys.stderr)
        else:
            self._handle = handle

    def release(self) -> None:
        """Let go of the folder; a second call does nothing."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
