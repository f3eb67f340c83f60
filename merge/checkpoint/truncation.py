"""A mapped file that somebody cuts off while it is read: the process ends in one line that names it, not in silence.

Reading beyond the new end of a mapped file raises SIGBUS, which no exception can stand for: the instruction that read
cannot be given its bytes. All that is left is to say so.
"""

import ctypes
import os
import signal
import sys
from functools import cache
from pathlib import Path
from typing import Any

_MAPS = Path("/proc/self/maps")


@cache
def tell_of_cut_files() -> Any:
    """Have this process say which file was cut off when it dies of it, unless somebody else hears the signal already.

    Returns:
        What must live as long as the process.
    """
    if sys.platform != "linux":
        return None
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
    hear, libc = kind(_end), ctypes.CDLL(None)
    libc.signal.restype = ctypes.c_void_p
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    before = libc.signal(signal.SIGBUS, ctypes.cast(hear, ctypes.c_void_p))
    if before is not None:
        libc.signal(signal.SIGBUS, before)
    return hear


def _end(number: int) -> None:
    """End the process with a line."""
    del number
    try:
        place = cut_file() or "a mapped file"
        told = f"error: {place}: was cut off while it was read; what was finished is kept, restore that file\n"
        os.write(2, told.encode("utf-8", "surrogateescape"))
    finally:
        os._exit(1)


def cut_file() -> str | None:
    """Return the first file that is shorter than what this process maps of it; None where there is none."""
    for line in _MAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        span, _, offset, _, _, *path = line.split(maxsplit=5)
        first, _, last = span.partition("-")
        if path and path[0].startswith("/") and ".so" not in path[0]:  # libraries map more than they have
            end = int(offset, 16) + int(last, 16) - int(first, 16)
            try:
                size = os.stat(path[0]).st_size  # noqa: PTH116 - a Path would be made for each library
            except OSError:
                continue
            if size <= end - os.sysconf("SC_PAGE_SIZE"):
                return path[0]
    return None
