"""One leader per study: a second one is refused in one line, a dead one is followed, one taken over stops."""

import json
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from sqlalchemy import update

from search.errors import SearchStoppedError, StoreError
from search.results.outcome import Failed
from search.storage.leadership import TABLE, Leader, lock_files, locked_for
from search.storage.store import Store
from tests.faults.forks import context
from tests.faults.made_up import lead
from tests.faults.postgres import running_server
from tests.search.fake import fake_study
from tests.search.workers.test_local_pool import SETTINGS, trials_of

ELSEWHERE = Leader("elsewhere", 7, "2026-01-02 03:04:05 UTC", "another machine")


def opened(folder: Path) -> Store:
    return Store(f"sqlite:///{folder / 'study.db'}", fake_study(search=SETTINGS))


def led_elsewhere(store: Store, leader: Leader = ELSEWHERE) -> None:
    """Have the store say that a process leads the study."""
    assert store._engine is not None
    with store._engine.begin() as connection:
        connection.execute(update(TABLE).values(leader=json.dumps(asdict(leader)), term=TABLE.c.term + 1))


def test_a_second_leader_on_this_host_is_refused_with_host_process_and_time(tmp_path: Path) -> None:
    files = lock_files(tmp_path, f"sqlite:///{tmp_path / 'study.db'}", "fake")
    words = rf"another process runs this study: process {os.getpid()} on {os.uname().nodename} since 2\d\d\d-.* UTC;"
    with locked_for(files, "study"), pytest.raises(StoreError, match=words), locked_for(files, "study"):
        pass
    with locked_for(files, "study"):
        pass


def test_one_store_has_one_leader_whatever_the_folder(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    one, other = (lock_files(tmp_path / name, url, "fake") for name in ("one", "other"))
    with locked_for(one, "study"), pytest.raises(StoreError, match="another process"), locked_for(other, "study"):
        pass
    with locked_for(one, "study"), locked_for(lock_files(tmp_path / "other", url, "another"), "study"):
        pass


def hold(files: tuple[Path, ...], pipe: object) -> None:
    with locked_for(files, "study"):
        pipe.send("held")  # type: ignore[attr-defined]
        pipe.recv()  # type: ignore[attr-defined]


def test_the_lock_of_a_killed_leader_is_free(tmp_path: Path) -> None:
    mine, theirs = context().Pipe()
    process = context().Process(target=hold, args=((tmp_path / ".lock",), theirs))
    process.start()
    assert mine.recv() == "held"
    with pytest.raises(StoreError, match=f"process {process.pid} on"), locked_for((tmp_path / ".lock",), "study"):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with locked_for((tmp_path / ".lock",), "study"):
        pass


def test_a_leader_of_another_host_is_refused_unless_it_is_taken_over(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with store.leading():
        pass
    led_elsewhere(store)
    words = "process 7 on elsewhere since 2026-01-02 03:04:05 UTC leads this study; stop it, or .* --take-over"
    with pytest.raises(StoreError, match=words), opened(tmp_path).leading():
        pass
    with opened(tmp_path).leading(take_over=True):
        pass
    with opened(tmp_path).leading():
        pass


def test_a_dead_leader_of_this_host_needs_no_take_over(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with store.leading():
        pass
    led_elsewhere(store, replace(Leader.this_process(), process=1))
    with opened(tmp_path).leading():
        pass


def test_a_leader_that_was_taken_over_stops_at_its_next_write(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    with first.leading():
        number, _ = first.ask(lambda trial: trial.suggest_float("x", 0, 1))
        with second.leading(take_over=True):
            words = r"this study was taken over: process \d+ on .* leads it; finished trials are kept"
            with pytest.raises(SearchStoppedError, match=words):
                first.tell(number, Failed("late", "x"), (), {}, ())
            with pytest.raises(SearchStoppedError, match="taken over"):
                first.ask(lambda trial: trial.suggest_float("x", 0, 1))
            again, _ = second.ask(lambda trial: trial.suggest_float("x", 0, 1))
            second.tell(again, Failed("in time", "x"), (), {}, ())
            assert again == number
            with pytest.raises(SearchStoppedError, match="taken over"):
                first.tell(number, Failed("late", "x"), (), {}, ())
    assert [record["reason"] for _, record in second.records(second.finished())] == ["in time"]


def test_a_study_on_postgresql_has_one_leader_and_the_trials_of_any_store(tmp_path: Path) -> None:
    with running_server() as server:
        study = fake_study(search=SETTINGS)
        heard = lead(server.url, SETTINGS)
        assert trials_of(heard) == trials_of(lead(f"sqlite:///{tmp_path / 'alone.db'}", SETTINGS))
        store = Store(server.url, study)
        led_elsewhere(store)
        with pytest.raises(StoreError, match="process 7 on elsewhere"), Store(server.url, study).leading():
            pass
        with Store(server.url, study).leading(take_over=True):
            pass
