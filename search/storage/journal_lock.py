"""The lock of a journal's file, which the kernel frees when its process dies."""

import fcntl
import os
from pathlib import Path
from typing import IO

_CHUNK = 1 << 16


class JournalLock:
    """The lock of a journal's file; Optuna's own outlives its process, and the next one waits half a minute for it.

    Whoever takes it cuts off what a killed process, or a full disk, left of the last line: the next line would be
    written behind it, and both would be lost.

    Args:
        path: Of the journal.
    """

    def __init__(self, path: Path) -> None:
        self._journal = path
        self._path = Path(f"{path}.lock")
        self._handle: IO[str] | None = None

    def acquire(self) -> bool:
        """Wait for the lock."""
        handle = self._path.open("a")
        fcntl.flock(handle, fcntl.LOCK_EX)
        self._handle = handle
        _cut_to_lines(self._journal)
        return True

    def release(self) -> None:
        """Let go of it."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None


def _cut_to_lines(path: Path) -> None:
    """Cut a file off after its last whole line."""
    with path.open("rb+") as stream:
        end = size = stream.seek(0, os.SEEK_END)
        while end > 0:
            begin = max(0, end - _CHUNK)
            stream.seek(begin)
            line_end = stream.read(end - begin).rfind(b"\n")
            if line_end >= 0:
                end = begin + line_end + 1
                break
            end = begin
        if end < size:
            stream.truncate(end)
