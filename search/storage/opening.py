"""Opens Optuna's storages: sqlite with a write-ahead log, PostgreSQL with psycopg 3, journals with a lock that dies."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from search.storage.journal_lock import JournalLock
from search.storage.write_ahead import WriteAhead


def open_storage(url: str) -> BaseStorage:
    """Open an Optuna storage by its URL, or a journal by ``journal:FILE``, without Optuna's cache around it."""
    if url.startswith("journal:"):
        file = url.removeprefix("journal:")
        lock: Any = JournalLock(Path(file))
        return JournalStorage(JournalFileBackend(file, lock_obj=lock))
    if url.startswith("sqlite"):
        return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 3, "factory": WriteAhead}})
    return RDBStorage(_with_driver(url), engine_kwargs={"pool_pre_ping": True})


def _with_driver(url: str) -> str:
    """Name psycopg 3 in a PostgreSQL URL that names no driver, unless only psycopg 2, SQLAlchemy's first, is there."""
    stem, mark, rest = url.partition("://")
    if stem not in ("postgresql", "postgres"):
        return url
    if find_spec("psycopg") is not None:
        return f"postgresql+psycopg{mark}{rest}"
    if find_spec("psycopg2") is None:
        raise ImportError("PostgreSQL needs psycopg; install mergesearch[postgres]")
    return f"postgresql{mark}{rest}"
