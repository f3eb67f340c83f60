"""A study's sqlite file with a write-ahead log: a trial is a dozen commits, and waits for the disk once.

In sqlite's default mode each commit waits for the disk three times over and shuts readers out. With the log, commits
only have to reach the operating system, which keeps them when a process is killed; ``settle`` has the disk keep them
too, as a finished trial must outlive a power cut.
"""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url


class WriteAhead(sqlite3.Connection):
    """A connection to a database with a write-ahead log; as it was where the file system cannot have one."""

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__(*values, **named)
        (mode,) = self.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode == "wal":
            self.execute("PRAGMA synchronous=NORMAL")


def settling(url: str) -> Callable[[], None]:
    """Return what has the disk keep every commit so far; nothing is to be done for other storages than sqlite."""
    file = make_url(url).database if url.startswith("sqlite") else None
    return (lambda: None) if file in (None, "", ":memory:") else (lambda: _sync(Path(f"{file}-wal")))


def _sync(log: Path) -> None:
    """Sync a log; sqlite's locks are on the database and its index, so that closing the log again frees none."""
    try:
        handle = os.open(log, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
