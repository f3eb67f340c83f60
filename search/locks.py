"""One process at a time: the lock under which trials are given out, taken back and finished.

The operating system, or the database server, lets go of it when its process dies.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO

from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal._file import BaseJournalFileLock
from sqlalchemy import text
from sqlalchemy.engine import make_url

from search.errors import StoreError

_CHUNK = 1 << 16

Lock = Callable[[], AbstractContextManager[None]]


def make_lock(url: str, storage: BaseStorage, name: str) -> Lock | None:
    """Return the lock of a study on a storage; None for a kind of storage that a single process must have alone.

    Args:
        url: Of the storage.
        storage: The storage.
        name: Of the study.
    """
    if url.startswith("journal:"):
        return _of_file(Path(f"{url.removeprefix('journal:')}.turn"))
    if not isinstance(storage, RDBStorage):
        return None
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        file = parsed.database
        return nullcontext if file in (None, "", ":memory:") else _of_file(Path(f"{file}.turn"))
    return _of_server(storage, name) if parsed.get_backend_name() == "postgresql" else None


class JournalLock(BaseJournalFileLock):
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
            found = stream.read(end - begin).rfind(b"\n")
            if found >= 0:
                end = begin + found + 1
                break
            end = begin
        if end < size:
            stream.truncate(end)


def across_hosts(url: str) -> bool:
    """Tell whether processes of several hosts can share a storage."""
    return not url.startswith(("journal:", "sqlite"))


def _of_file(path: Path) -> Lock:
    @contextmanager
    def held() -> Iterator[None]:
        with path.open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    return held


def _of_server(storage: RDBStorage, name: str) -> Lock:
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)

    @contextmanager
    def held() -> Iterator[None]:
        with storage.engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})
            yield

    return held


@contextmanager
def only_one(folder: Path, what: str = "study") -> Iterator[None]:
    """Hold the folder's lock, which the operating system lets go of when the process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreError(f"{folder}: another process runs this {what}; wait for it or stop it") from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
