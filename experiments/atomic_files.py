"""Files that are there whole or not at all: written beside the target, flushed to the disk, then renamed over it."""

import glob
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

if sys.platform != "win32":  # there a killed process's file stays until somebody deletes it
    import fcntl

PARTIAL = ".partial"
STALE = 600.0
"""Age in seconds from which on a file that nobody holds was left by a killed process."""


def write_text_atomically(path: Path, text: str) -> None:
    """Write text as UTF-8; a reader sees the old content or the new, never a part.

    Args:
        path: The file; its folder is made when missing.
        text: The content.

    Raises:
        OSError: The disk is full or the folder cannot be written; what stood under ``path`` is still there.
    """
    write_bytes_atomically(path, text.encode("utf-8"))


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write bytes; a reader sees the old content or the new, never a part.

    Args:
        path: The file; its folder is made when missing.
        content: The content.

    Raises:
        OSError: The disk is full or the folder cannot be written; what stood under ``path`` is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name[:100]}."
    _sweep(path.parent, prefix)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=PARTIAL)
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            _hold(handle.fileno())
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        beside.chmod(_mode_of(path))
        beside.replace(path)
    except BaseException as error:  # also Ctrl-C: nothing half-written may stay; it is raised again
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
    sync_folder(path.parent)


def _sweep(folder: Path, prefix: str) -> None:
    """Delete what killed processes left beside a file: nobody holds it, and it is old."""
    for left in folder.glob(f"{glob.escape(prefix)}*{PARTIAL}"):
        with suppress(OSError), left.open("rb") as handle:
            if time.time() - left.stat().st_mtime > STALE and _hold(handle.fileno()):
                left.unlink()


def _hold(descriptor: int) -> bool:
    """Lock an open file for as long as it is open; tell whether nobody else had it locked."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename survives a power cut; where folders can be flushed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)


def _mode_of(path: Path) -> int:
    """Return the permissions that the file has, or that an ordinary new file would get."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
