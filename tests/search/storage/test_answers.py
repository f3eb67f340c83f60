"""Records stand in a table of their own, out of Optuna's memory; stores that began without it go on."""

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from sqlalchemy import text

from search.errors import StoreError
from search.results.outcome import Failed
from search.storage import answers, store
from search.storage.answers import AnswerTable
from search.storage.codec import RECORD
from search.storage.store import Store
from tests.search.fake import FakeResources, fake_study, run_fake
from tests.search.loop.test_run import ACC, skilled

TIMES = ("started", "ended", "seconds", "cost")


def run(folder: Path, trials: int) -> tuple[Store, Any]:
    """Run a study on a database, or what is left of it."""
    study, url = fake_study(search={"trials": trials}), f"sqlite:///{folder / 'study.db'}"
    verdict, _ = run_fake(FakeResources(study, ACC, skilled), folder, url)
    return Store(url, study), verdict


def trials_of(opened: Store) -> list[Any]:
    """Return what the store's trials are, times left out."""
    return [
        (t.number, t.state, t.params, t.values, {k: v for k, v in record.items() if k not in TIMES})
        for t, record in opened.records(opened.finished())
    ]


def as_before(self: AnswerTable, number: int, record: dict[str, Any]) -> None:
    """Write a record as stores did that began before the table."""
    self._storage.set_trial_user_attr(self._id_of(number), RECORD, record)


def test_optuna_holds_no_records(tmp_path: Path) -> None:
    opened, _ = run(tmp_path, 12)
    assert {trial.user_attrs[RECORD] for trial in opened.finished()} == {True}


def test_a_store_that_began_before_the_table_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, verdict = run(tmp_path, 12)
    before = tmp_path / "before"
    before.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(AnswerTable, "write", as_before)
        run(before, 6)
    opened, again = run(before, 12)
    assert trials_of(opened) == trials_of(whole)
    assert [isinstance(t.user_attrs[RECORD], dict) for t in opened.finished()] == [True] * 6 + [False] * 6
    assert (again.winner, again.digest, again.test_value) == (verdict.winner, verdict.digest, verdict.test_value)


def test_records_are_read_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, _ = run(tmp_path, 12)
    whole, most = trials_of(opened), 0
    read = AnswerTable.read

    def counted(self: AnswerTable, trials: Any) -> Any:
        nonlocal most
        most = max(most, len(trials))
        return read(self, trials)

    monkeypatch.setattr(store, "BATCH", 5)
    monkeypatch.setattr(AnswerTable, "read", counted)
    assert trials_of(opened) == whole
    assert most == 5
    assert answers.BATCH >= 100


def ask(opened: Store) -> int:
    number, _ = opened.ask(lambda trial: trial.suggest_float("x", 0, 1))
    return number


@pytest.mark.parametrize("written", ["nothing", "record", "mark"])
def test_a_trial_cut_off_in_its_tell_is_run_again_and_told_once(
    tmp_path: Path, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Store(f"sqlite:///{tmp_path / 'study.db'}", fake_study())
    number = ask(opened)
    with monkeypatch.context() as patch:
        broken = {"nothing": (AnswerTable, "write"), "record": (opened._storage, "set_trial_user_attr")}
        patch.setattr(*broken.get(written, (opened.trials, "tell")), cut)
        with pytest.raises(KeyboardInterrupt):
            opened.tell(number, Failed("cut off", "x"), (), {}, ())
    assert opened.finished() == []
    assert ask(opened) == number
    opened.tell(number, Failed("in time", "x"), (), {}, ())
    opened.tell(number, Failed("too late", "x"), (), {}, ())
    ((trial, record),) = opened.records(opened.finished())
    assert (trial.state, record["reason"]) == (TrialState.FAIL, "in time")
    assert ask(opened) == number + 1


def cut(*given: Any, **named: Any) -> None:
    """Stand in for a process that is gone at this instant."""
    raise KeyboardInterrupt


def test_a_lost_record_is_said_in_one_line(tmp_path: Path) -> None:
    opened, _ = run(tmp_path, 3)
    assert opened._engine is not None
    with opened._engine.begin() as connection:
        connection.execute(text("DELETE FROM mergesearch_records"))
    with pytest.raises(StoreError, match=r"mergesearch_records: must hold a record of trial \d+, has none; restore"):
        trials_of(opened)
