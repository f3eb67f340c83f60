"""One leader per study: a file's lock on one host, which the kernel frees, and an entry in a shared database.

The entry has a term, a number that every leader raises. A leader whose term is no longer the study's was taken over,
and finds out in the transaction of its next write.
"""

import fcntl
import hashlib
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Column, Connection, Engine, Integer, MetaData, String, Table, insert, select, update
from sqlalchemy.engine import make_url

from search.errors import SearchStoppedError, StoreError

TABLE = Table(
    "mergesearch_leaders",
    MetaData(),
    Column("study", String(120), primary_key=True),
    Column("term", Integer, nullable=False),
    Column("leader", String(1000)),
)


@dataclass(frozen=True)
class Leader:
    """A process that leads a study, or led it.

    Attributes:
        host: Name of its host.
        process: Its number there.
        since: When it began to lead, in UTC.
        machine: What tells machines and containers of one host name apart.
    """

    host: str
    process: int
    since: str
    machine: str

    @classmethod
    def this_process(cls) -> "Leader":
        """Return this process, from now on."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return cls(socket.gethostname(), os.getpid(), now, _machine())

    def __str__(self) -> str:
        return f"process {self.process} on {self.host} since {self.since}"


@contextmanager
def locked_for(paths: tuple[Path, ...], what: str) -> Iterator[None]:
    """Hold the locks of several files, and write into them who does.

    Args:
        paths: The files; their folders are made.
        what: What the lock is for, for messages.

    Raises:
        StoreError: Another process of this host holds one.
    """
    with ExitStack() as stack:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = stack.enter_context(path.open("a+", encoding="utf-8"))
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                handle.seek(0)
                raise StoreError(
                    f"{path.parent}: another process runs this {what}: {_holder(handle.read())}; wait for it or stop it"
                ) from None
            handle.truncate(0)
            handle.write(json.dumps(asdict(Leader.this_process())))
            handle.flush()
        yield


def lock_files(folder: Path, url: str, study: str) -> tuple[Path, ...]:
    """Return the files that a leader locks: one in the study's folder, and one of the store, whatever the folder."""
    digest = hashlib.sha256(f"{url}\n{study}".encode()).hexdigest()[:16]
    if url.startswith("journal:"):
        beside = Path(f"{url.removeprefix('journal:')}.leader-{digest}")
    elif url.startswith("sqlite") and (file := make_url(url).database) not in (None, "", ":memory:"):
        beside = Path(f"{file}.leader-{digest}")
    else:
        beside = Path(tempfile.gettempdir(), f"mergesearch-{os.getuid()}", digest)
    own = folder / ".lock"
    return (own,) if beside.parent.resolve() == folder.resolve() else (own, beside)


class Term:
    """The term of the leader of a study in a shared database.

    Args:
        engine: The database.
        study: Name of the study.
        place: The store, for messages.
    """

    def __init__(self, engine: Engine, study: str, place: str) -> None:
        self._engine = engine
        self._study = study
        self._place = place
        self._number: int | None = None

    def begin(self, *, take_over: bool = False) -> None:
        """Lead the study from now on, whose locks on this host are held.

        Args:
            take_over: Also where another host's process leads it, as far as the store knows.

        Raises:
            StoreError: Another host's process leads it.
        """
        TABLE.create(self._engine, checkfirst=True)
        with self._engine.begin() as connection:
            row = connection.execute(select(TABLE).where(TABLE.c.study == self._study).with_for_update()).first()
            me = Leader.this_process()
            if row is not None and row.leader is not None:
                other = Leader(**json.loads(row.leader))
                if other.machine != me.machine and not take_over:
                    raise StoreError(
                        f"{self._place}: {other} leads this study; stop it, or take the study over with --take-over "
                        "if it is gone"
                    )
            term, leader = 1 if row is None else row.term + 1, json.dumps(asdict(me))
            if row is None:
                connection.execute(insert(TABLE).values(study=self._study, term=term, leader=leader))
            else:
                mine = TABLE.c.study == self._study
                connection.execute(update(TABLE).where(mine).values(term=term, leader=leader))
        self._number = term

    def check(self, connection: Connection) -> None:
        """Make sure in a transaction that this process still leads the study; one that never led it may write.

        Raises:
            SearchStoppedError: Another process took the study over.
        """
        if self._number is None:
            return
        row = connection.execute(select(TABLE).where(TABLE.c.study == self._study).with_for_update()).first()
        if row is None or row.term != self._number:
            by = "another process" if row is None or row.leader is None else str(Leader(**json.loads(row.leader)))
            raise SearchStoppedError(
                f"{self._place}: this study was taken over: {by} leads it; finished trials are kept, and those in "
                "flight here are left to it"
            )

    def end(self) -> None:
        """Say that nobody leads the study, unless another process does."""
        mine = (TABLE.c.study == self._study) & (TABLE.c.term == self._number)
        with suppress(Exception), self._engine.begin() as connection:  # the next leader finds out by itself
            connection.execute(update(TABLE).where(mine).values(leader=None))
        self._number = None


def _holder(text: str) -> str:
    try:
        return str(Leader(**json.loads(text)))
    except (ValueError, TypeError):
        return "it has just begun"


def _machine() -> str:
    """Return what tells this machine, or container, from others of its host name."""
    facts = [socket.gethostname()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        facts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
