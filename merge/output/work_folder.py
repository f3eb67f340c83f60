"""A folder beside the output to work in: locked while in use, cleared when its process died."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from merge.errors import OutputError

if sys.platform != "win32":  # there a dead process's folder stays until somebody deletes it
    import fcntl


@contextmanager
def work_folder(out: Path, suffix: str) -> Iterator[Path]:
    """Make a hidden folder beside an output folder; it is gone afterwards, whatever happens, unless it was renamed.

    What a killed process left there under the same suffix is cleared first.

    Raises:
        OutputError: It cannot be made.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _clear(out, suffix)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=suffix, dir=out.parent))
    except OSError as error:
        raise OutputError(f"{out.parent}: cannot be written: {error.strerror or error}") from None
    lock = _lock(work)
    try:
        yield work
    finally:
        if lock is not None:
            os.close(lock)
        shutil.rmtree(work, ignore_errors=True)


def _clear(out: Path, suffix: str) -> None:
    for left in out.parent.glob(f".{out.name}.*{suffix}"):
        lock = _lock(left)
        if lock is not None:
            os.close(lock)
            shutil.rmtree(left, ignore_errors=True)


def _lock(folder: Path) -> int | None:
    """Return a descriptor that holds the folder's lock, None where another process has it or there are no locks."""
    if sys.platform == "win32":
        return None
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor
    return None
