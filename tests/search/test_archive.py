"""Records stand in a table of their own, out of Optuna's memory; stores that began without it go on."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import text

from search import archive, lean
from search.archive import Archive
from search.errors import StoreError
from search.results.outcome import Failed
from search.results.search_state import Entry
from search.storage.codec import RECORD
from search.storage.store import Store
from tests.search.fake import FakeBench, fake_study, run_fake
from tests.search.test_run import ACC, skilled

TIMES = ("started", "ended", "seconds", "cost")


def run(folder: Path, trials: int) -> tuple[Store, Any]:
    """Run a study on a database, or what is left of it."""
    study, url = fake_study(search={"trials": trials}), f"sqlite:///{folder / 'study.db'}"
    verdict, _ = run_fake(FakeBench(study, ACC, skilled), folder, url)
    return Store(url, study), verdict


def kept(store: Store) -> list[Any]:
    """Return what the store's trials are, times left out."""
    return [
        (t.number, t.state, t.params, t.values, {k: v for k, v in record.items() if k not in TIMES})
        for t, record in store.records(store.finished())
    ]


def as_before(self: Archive, trial_id: int, record: dict[str, Any]) -> None:
    """Keep a record as stores did that began before the table."""
    self._storage.set_trial_user_attr(trial_id, RECORD, record)


def test_a_process_holds_no_records_and_one_of_what_is_alike(tmp_path: Path) -> None:
    done = run(tmp_path, 12)[0].finished()
    assert {trial.user_attrs[RECORD] for trial in done} == {True}
    assert len({id(trial.distributions) for trial in done}) == 1
    assert len({id(trial.user_attrs["owner"]) for trial in done}) == 1
    assert len({id(name) for trial in done for name in trial.params}) == len(done[0].params)


def test_a_store_that_began_before_the_table_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, verdict = run(tmp_path, 12)
    before = tmp_path / "before"
    before.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(Archive, "keep", as_before)
        run(before, 6)
    store, again = run(before, 12)
    assert kept(store) == kept(whole)
    assert [isinstance(t.user_attrs[RECORD], dict) for t in store.finished()] == [True] * 6 + [False] * 6
    assert (again.winner, again.digest, again.test_value) == (verdict.winner, verdict.digest, verdict.test_value)


def test_trials_read_in_parts_are_those_that_optuna_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, 12)
    plain = optuna.load_study(study_name="fake", storage=f"sqlite:///{tmp_path / 'study.db'}").get_trials()
    monkeypatch.setattr(lean, "PART", 5)
    monkeypatch.setattr(archive, "BATCH", 5)
    store = Store(f"sqlite:///{tmp_path / 'study.db'}", fake_study())
    assert store.trials.get_trials() == plain
    assert len(kept(store)) == 12


def test_finished_trials_share_what_is_alike_and_keep_what_samplers_need(tmp_path: Path) -> None:
    url, study = f"sqlite:///{tmp_path / 'study.db'}", fake_study()
    store = Store(url, study)
    for number in range(4):
        trial = store.trials.ask()
        trial.suggest_float("x", 0, 1)
        trial.set_user_attr("owner", "host 1")
        trial.storage.set_trial_system_attr(trial._trial_id, "tpe:relative_params:0", f'{{"x": 0.{number}}}')
        trial.storage.set_trial_system_attr(trial._trial_id, "cma:solution", {"generation": number})
        if number < 3:
            store.trials.tell(trial, 0.5)
    *done, running = Store(url, study).trials.get_trials(deepcopy=False)
    assert [trial.system_attrs for trial in done] == [{"cma:solution": {"generation": n}} for n in range(3)]
    assert running.system_attrs["tpe:relative_params:0"] == '{"x": 0.3}'
    assert len({id(trial.user_attrs) for trial in done}) == len({id(trial.distributions) for trial in done}) == 1
    assert len({trial.params["x"] for trial in done}) == 3


@pytest.mark.parametrize("written", ["nothing", "record", "mark"])
def test_a_trial_cut_off_in_its_tell_is_run_again_and_told_once(
    tmp_path: Path, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"sqlite:///{tmp_path / 'study.db'}", fake_study())
    store.claims.open(1)
    trial = store.claims.claim()
    assert trial is not None
    with monkeypatch.context() as patch:
        broken = {"nothing": (Archive, "keep"), "record": (store._archive._storage, "set_trial_user_attr")}
        patch.setattr(*broken.get(written, (store.trials, "tell")), cut)
        with pytest.raises(KeyboardInterrupt):
            store.tell(trial, Failed("cut off", "x"), (), {}, ())
    assert store.finished() == []
    store.claims.release()
    store.claims.sweep()
    again = store.claims.claim()
    assert again is not None
    assert again.number == trial.number
    assert store.tell(again, Failed("in time", "x"), (), {}, ())
    ((told, record),) = store.records(store.finished())
    assert (told.state, record["reason"]) == (TrialState.FAIL, "in time")
    assert store.claims.claim() is None


def cut(*given: Any, **named: Any) -> None:
    """Stand in for a process that is gone at this instant."""
    raise KeyboardInterrupt


def test_a_lost_record_is_said_in_one_line(tmp_path: Path) -> None:
    store, _ = run(tmp_path, 3)
    with store._archive._engine.begin() as connection:  # type: ignore[union-attr]
        connection.execute(text("DELETE FROM mergesearch_records"))
    with pytest.raises(StoreError, match=r"mergesearch_records: must hold a record of trial \d+, has none; restore"):
        kept(store)


def test_a_recipe_kept_as_text_is_the_same_recipe() -> None:
    family = fake_study().space.families["linear"]
    candidate = fake_study().space.candidate(dict.fromkeys(family.middle(), 1 / 3))
    entry = Entry("trial 1", "linear", candidate.text(), 0.5)
    assert entry.recipe == candidate.recipe()
    assert entry.recipe.place == candidate.recipe().place
