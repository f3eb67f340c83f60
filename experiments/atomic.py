"""Files that are there whole or not at all: written beside the target, flushed to the disk, then renamed over it."""

import os
import tempfile
from pathlib import Path


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
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".partial")
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        beside.chmod(_mode_of(path))
        beside.replace(path)
    except BaseException:  # also Ctrl-C: nothing half-written may stay; it is raised again
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


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
