"""Workers that hang, whose clocks are off, or that a cluster loses: each trial is there once, as if nothing was."""

import datetime as dt
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from search.claims import Claims, Pulse
from search.errors import SearchStoppedError
from search.owners import Owner
from search.results.outcome import Failed
from search.storage.store import Store
from search.study.study import parse_study
from search.workers import run_search
from tests.faults.forks import context
from tests.faults.made_up import Helpers, help_out, lead
from tests.search.fake import fake_study
from tests.search.recorder import Recorder
from tests.search.studies import tiny_study
from tests.search.test_workers import SETTINGS, trials_of

HOUR = 3600.0


def claims_of(store: Store, me: Owner | None = None) -> Claims:
    return Claims(store.trials, store.claims.locked, far=True, me=me, pulse=Pulse(0.02, 0.4))


def soon(look: Callable[[], Any]) -> Any:
    """Return the first answer that is not empty; an empty one after a long time."""
    deadline = time.monotonic() + 30
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def reasons_of(store: Store) -> list[str]:
    """Return why the trials that are done failed."""
    return [record["reason"] for _, record in store.records(store.finished())]


def hold_a_trial(url: str, word: Any) -> None:
    """Take a trial, wait to be told, tell it late, and say whether that was taken."""
    store = Store(url, fake_study(search=SETTINGS))
    trial = store.claims.claim()
    assert trial is not None
    word.send(trial.number)
    word.recv()
    word.send(store.tell(trial, Failed("late", "x"), (), {}, ()))


@contextmanager
def holder(url: str) -> Iterator[tuple[Any, Any]]:
    """Give a process that holds a trial, and the pipe to it; it is gone afterwards, also one that is stopped."""
    mine, theirs = context().Pipe()
    process = context().Process(target=hold_a_trial, args=(url, theirs))
    process.start()
    try:
        yield process, mine
    finally:
        process.kill()
        process.join()


def test_a_worker_that_was_stopped_for_longer_than_the_pulse_loses_its_trial_and_its_late_result(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    store = Store(url, fake_study(search=SETTINGS))
    here = claims_of(store)
    here.open(12)
    with holder(url) as (process, pipe):
        number = pipe.recv()
        assert here.sweep() == []
        os.kill(process.pid, signal.SIGSTOP)
        lines = soon(here.sweep)
        assert lines == [f"process {process.pid} on {os.uname().nodename} is gone; its trial {number} is run again"]
        again = here.claim()
        assert again is not None
        assert again.number == number
        os.kill(process.pid, signal.SIGCONT)
        pipe.send("go on")
        assert pipe.recv() is False
    store.claims = here
    assert store.tell(again, Failed("in time", "x"), (), {}, ())
    assert reasons_of(store) == ["in time"]


def test_a_worker_that_was_stopped_for_a_moment_keeps_its_trial(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    store = Store(url, fake_study(search=SETTINGS))
    store.claims.open(12)
    with holder(url) as (process, pipe):
        pipe.recv()
        os.kill(process.pid, signal.SIGSTOP)
        assert store.claims.sweep() == []
        os.kill(process.pid, signal.SIGCONT)
        pipe.send("go on")
        assert pipe.recv() is True


def test_the_last_trial_of_a_process_that_died_between_its_record_and_its_state_is_run_again(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'study.db'}", fake_study(search=SETTINGS))
    store.claims.open(1)
    trial = store.claims.claim()
    assert trial is not None
    store._archive.keep(trial._trial_id, {"reason": "half told"})
    store.claims.release()
    store.claims.sweep()
    again = store.claims.claim()
    assert again is not None
    assert again.number == trial.number
    assert store.tell(again, Failed("in time", "x"), (), {}, ())
    assert reasons_of(store) == ["in time"]
    assert store.claims.claim() is None


def test_a_leader_that_stood_still_gives_way_to_the_one_that_leads_now(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'study.db'}", fake_study(search=SETTINGS))
    late, now = claims_of(store, Owner("elsewhere", 7)), claims_of(store, Owner("third", 8))
    late._lead()
    now._lead()
    soon(lambda: now._lead() is None)
    with pytest.raises(SearchStoppedError, match="process 8 on third leads this study now, since this process stood"):
        late.sweep()
    late._beat_as_leader(5)
    late._step_down()
    assert store.trials.user_attrs["leader"]["host"] == "third"


def skewed(url: str, search: dict[str, Any], seconds: float, together: Any, off: float) -> None:
    """Help out with a clock that is off, as every library in the process sees it."""
    import optuna.storages._rdb.storage as rdb

    real = time.time

    class Shifted(dt.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Shifted":
            return cls.fromtimestamp(real() + off, tz)

    time.time = lambda: real() + off
    setattr(rdb, "datetime", Shifted)  # noqa: B010 - its own name for the class
    help_out(url, search, seconds, together)


class Skewed(Helpers):
    """Two helpers, one whose clock is an hour slow and one whose clock is an hour fast."""

    def start(self) -> None:
        self.together = context().Barrier(2)
        for off in (-HOUR, HOUR):
            url, search, seconds = self.arguments
            process = context().Process(target=skewed, args=(url, search, seconds, self.together, off), daemon=True)
            process.start()
            self.processes.append(process)


def test_clocks_that_are_an_hour_off_change_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    heard = lead(url, SETTINGS, Skewed(2, url, SETTINGS, 0.002))
    assert trials_of(heard) == trials_of(lead(f"sqlite:///{tmp_path / 'alone.db'}", SETTINGS))
    began = [record.started - time.time() for record in heard.trials()]
    assert min(began) < -HOUR / 2
    assert max(began) > HOUR / 2
    assert all(0 <= record.ended - record.started < HOUR / 2 for record in heard.trials())


def test_an_actor_that_ray_loses_is_started_again(
    tmp_path: Path, tiny_models: Path, record_property: Callable[[str, object], None]
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: mergesearch[ray]")
    study = parse_study(tiny_study(sampler="random", race=False, workers=2, trials=8), place="tiny.yaml")
    killed: list[int] = []

    def kill_one() -> None:
        store, deadline = None, time.monotonic() + 240
        while not killed and time.monotonic() < deadline:
            time.sleep(0.05)
            if not (tmp_path / "study" / "study.db").exists():
                continue
            store = store or Store(f"sqlite:///{tmp_path / 'study' / 'study.db'}", study)
            owners = {Owner.of(t.user_attrs["owner"]).pid for t in store.claims.running() if "owner" in t.user_attrs}
            for pid in owners - {os.getpid()}:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return

    killer = threading.Thread(target=kill_one)
    killer.start()
    heard = Recorder()
    options: dict[str, Any] = {"models_roots": [tiny_models], "say": heard.lines.append}
    run_search(study, tmp_path / "study", observer=heard, ray="local", **options)
    killer.join()
    alone = Recorder()
    one = parse_study(tiny_study(sampler="random", race=False, trials=8), place="tiny.yaml")
    run_search(one, tmp_path / "alone", observer=alone, models_roots=[tiny_models])
    assert trials_of(heard) == trials_of(alone)
    assert killed, "no actor was seen at work"
    assert any("is gone; its trial" in line for line in heard.lines), heard.lines
    record_property("count", len(killed))
