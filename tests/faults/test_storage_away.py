"""A storage that is locked, stopped or cut off in the middle of a line: the search goes on as if nothing had been."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from search.errors import SearchStoppedError
from search.results.observer import TrialRecord
from search.storage.waiting import StorageWaiter
from tests.faults.made_up import lead, processes
from tests.faults.postgres import running_server
from tests.search.recorder import Recorder
from tests.search.workers.test_local_pool import SETTINGS, trials_of

MINUTE = 60.0
AWAY = 65.0 if int(os.environ.get("MERGESEARCH_KILLS", "0")) >= 100 else 4.0
"""Seconds that the storage is away; Optuna itself waits for a lock for 20 seconds or so, and says nothing."""
Record = Callable[[str, object], None]


@dataclass
class Interrupted(Recorder):
    """Has something happen after the third trial, and goes on when that has begun."""

    fault: Callable[[threading.Event], None] = lambda begun: begun.set()
    thread: threading.Thread | None = None

    def scored(self, record: TrialRecord) -> None:
        super().scored(record)
        if self.thread is None and len(self.trials()) == 3:
            begun = threading.Event()
            self.thread = threading.Thread(target=self.fault, args=(begun,))
            self.thread.start()
            assert begun.wait(60)

    def over(self) -> None:
        assert self.thread is not None
        self.thread.join()


def test_a_locked_sqlite_file_is_waited_for(tmp_path: Path, record_property: Record) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"

    def lock(begun: threading.Event) -> None:
        with closing(sqlite3.connect(tmp_path / "study.db", isolation_level=None, timeout=60)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            begun.set()
            time.sleep(AWAY)

    heard = Interrupted(fault=lock)
    lead(url, SETTINGS, heard=heard)
    heard.over()
    assert trials_of(heard) == trials_of(lead(f"sqlite:///{tmp_path / 'alone.db'}", SETTINGS))
    if AWAY > MINUTE:
        assert heard.lines == [f"store {url}: database is locked; waits for it", f"store {url}: answers again"]
    record_property("detail", f"{AWAY:.0f} s")


def test_a_postgresql_server_that_stops_and_starts_is_waited_for(tmp_path: Path, record_property: Record) -> None:
    with running_server() as server:

        def restart(begun: threading.Event) -> None:
            for how, seconds in (("immediate", AWAY), ("fast", 1.0)):
                server.stop(how)
                begun.set()
                time.sleep(seconds)
                server.start()

        heard = Interrupted(fault=restart)
        lead(server.url, SETTINGS, processes(2, SETTINGS, 0.02), heard=heard)
        heard.over()
        assert trials_of(heard) == trials_of(lead(f"sqlite:///{tmp_path / 'alone.db'}", SETTINGS))
        assert any(line.endswith("answers again") for line in heard.lines), heard.lines
    record_property("count", 2)
    record_property("detail", f"{AWAY:.0f} s and 1 s")


def test_a_storage_that_stays_away_or_is_broken_ends_in_one_line() -> None:

    def fail(text: str) -> None:
        raise OperationalError("COMMIT", {}, sqlite3.OperationalError(text))

    lines: list[str] = []
    impatient = StorageWaiter("store s", lines.append, longest=0.1)
    with pytest.raises(SearchStoppedError, match="store s: database is locked, for 0 s; finished trials are kept"):
        impatient(lambda: fail("database is locked"))
    assert lines == ["store s: database is locked; waits for it"]
    with pytest.raises(SearchStoppedError, match="store s: database or disk is full; finished trials are kept"):
        impatient(lambda: fail("database or disk is full"))


def test_a_line_of_a_journal_that_a_killed_process_left_half_written_harms_nothing(tmp_path: Path) -> None:
    url, file = f"journal:{tmp_path / 'journal'}", tmp_path / "journal"
    lead(url, {**SETTINGS, "trials": 5})
    whole = file.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for cut in (1, len(last) // 2, len(last) - 1):
        file.write_bytes(whole + last[:cut])
        assert trials_of(lead(url, SETTINGS)) == trials_of(lead(f"journal:{tmp_path / f'alone{cut}'}", SETTINGS))
        file.write_bytes(whole)
