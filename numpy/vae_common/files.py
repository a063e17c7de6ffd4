"""Writing files so that no reader and no crash ever meets half of one, and no two programs write the same folder."""

import contextlib
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> Path:
    """Call `write(binary file)` on a temporary file beside `path`, flush it to disk, then rename it to `path`.

    A failure or an interrupt leaves what was at `path` untouched and no temporary file behind. Parent folders are
    made. Raises OSError when the disk refuses, and whatever `write` raises.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
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


def check_archive(file: BinaryIO) -> None:
    """Raise an error, of almost any kind, unless `file` is a whole zip archive as torch.save and np.savez write it.

    Nothing is compressed, so no part is longer than the file, whatever its header promises; and the checksum of each
    part is right, which torch.load does not look at. `file` is left at its start.
    """
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED or part.file_size > size for part in parts):
            raise ValueError("a part of it is longer than the file")
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of its part {damaged!r} is wrong")
    file.seek(0)


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut; Windows cannot open a folder, and needs no such call."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class FolderLock:
    """Says that this process writes to `folder`, until `release` or the end of the process, however it ends.

    The lock is the operating system's, on the folder itself: no file is left behind, and a dead process holds none.
    Raises BlockingIOError when another process has it. Where folders cannot be locked (Windows, some network disks) a
    note says so.
    """

    def __init__(self, folder: str | Path):
        self._handle = None
        try:
            import fcntl
        except ImportError:
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
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
