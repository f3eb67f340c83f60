"""Long studies: what a trial asks of the store and of memory does not grow with the trials before it."""

import json
import os
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event

from evals.tasks.sampling import Question
from experiments.study_folder.answers_csv import AnswersFile
from experiments.study_folder.folder import FolderWriter, StudyFolder
from search.loop.leader import Leader
from search.results.observer import TrialRecord
from search.results.outcome import Scored
from search.storage import codec as packed
from search.storage.codec import pack, unpack
from search.storage.store import Store
from search.workers.in_process import InProcess
from tests.faults.made_up import resources_of
from tests.search.answers import answers
from tests.search.fake import fake_study
from tests.search.recorder import Recorder

TRIALS = 36


def led(study: Any, store: Store, observer: Any) -> None:
    """Run a study on made-up answers."""
    resources = resources_of(study)
    Leader(study, store, resources, InProcess(lambda: resources.scorer), observer).run()


@pytest.mark.parametrize("sampler", ["random", "cmaes"])
def test_a_late_trial_asks_no_more_of_the_store_than_an_early_one(
    tmp_path: Path, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = fake_study(search={"trials": TRIALS, "sampler": sampler, "race": False})
    store = Store(f"sqlite:///{tmp_path / 'study.db'}", study)
    asked: Counter[str] = Counter()
    engine: Any = store.trials._storage._backend.engine  # type: ignore[attr-defined]

    def count(connection: object, cursor: object, statement: str, *rest: object) -> None:
        asked["statements"] += 1

    monkeypatch.setattr(os, "fsync", lambda _: asked.update(syncs=1))
    event.listen(engine, "before_cursor_execute", count)
    per_trial: list[Counter[str]] = []

    class Listener(Recorder):
        def scored(self, record: Any) -> None:
            if record.kind == "trial":
                per_trial.append(asked.copy())
                asked.clear()

    led(study, store, Listener())
    early, late = per_trial[12:22], per_trial[-10:]
    assert max(one["statements"] for one in late) <= max(one["statements"] for one in early)
    assert {one["syncs"] for one in late} == {1}, "a finished trial is on the disk, and waits for it once"


def test_a_database_keeps_a_write_ahead_log(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'study.db'}", fake_study())
    engine: Any = store.trials._storage._backend.engine  # type: ignore[attr-defined]
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_a_record_is_small_and_exact() -> None:
    rng = np.random.default_rng(0)
    questions = [Question("t", "test", i, f"t-{i}") for i in range(400)]
    chances = rng.uniform(size=400).astype(np.float32).astype(float)
    chances[[3, 9]] = np.nan, 0.0
    results = answers({("t", "acc"): (chances > 0.5), ("t", "gold_prob"): chances})
    part = results.answers.drop(index=[5, 405]).sample(frac=1.0, random_state=0)
    record = json.loads(json.dumps(pack(Scored(answers({}), 0.5), questions)))
    assert record["answers"] == []
    record = json.loads(json.dumps(pack(Scored(type(results)(part, {}, results.cost), 0.5), questions)))
    assert len(json.dumps(record["answers"])) < 400 * 6
    back = unpack(record, questions).results.answers
    keys = ["metric", "question"]
    expected = part.sort_values(keys)[back.columns].reset_index(drop=True)
    assert back.sort_values(keys).reset_index(drop=True).equals(expected)


def test_a_record_of_the_first_stores_is_still_read() -> None:
    questions = [Question("t", "test", i, f"t-{i}") for i in range(3)]
    column = {"task": "t", "leaf": "t", "metric": "acc", "values": [1.0, None, 0.25], "weights": [2.0, None, 3.0]}
    cost = {"tokens_run": 0, "tokens_full": 0, "tokens_generated": 0, "seconds": 0.0}
    seconds = {"propose": 0.0, "merge": 0.0, "score": 0.0, "log": 0.0}
    record = {"answers": [column], "scores": {}, "cost": cost, "value": 0.5, "seconds": seconds}
    back = unpack(record, questions).results.answers
    assert back[["question", "value", "weight"]].to_numpy().tolist() == [["t-0", 1.0, 2.0], ["t-2", 0.25, 3.0]]


def test_what_writes_the_tables_keeps_no_trials(tmp_path: Path) -> None:
    study = fake_study(search={"trials": 3})
    writer = FolderWriter(StudyFolder(tmp_path))
    store = Store(f"sqlite:///{tmp_path / 'study.db'}", study)
    led(study, store, writer)
    assert len(pickle.dumps(writer)) < 1000
    names = [line.split(",")[1] for line in (tmp_path / "trials.csv").read_text().splitlines()]
    assert sum(name.startswith("trial ") for name in names) == 3
    assert not list(tmp_path.glob("*.partial"))
    assert all(isinstance(c["values"], str) for _, r in store.records(store.finished()) for c in r["answers"])


def a_record(name: str, number: int) -> TrialRecord:
    """Return a trial with answers of its own."""
    results = answers({("t", "acc"): np.arange(5) % (number + 2) == 0})
    facts: dict[str, Any] = {"study": "s", "study_id": "s", "family": "f", "kind": "trial", "params": {}, "metrics": {}}
    times: dict[str, Any] = {"started": 1.0, "ended": 2.0, "parts": {}, "state": "complete", "reason": None}
    return TrialRecord(name=name, number=number, recipe_yaml="", results=results, **facts, **times)


def written(file: Path, records: list[TrialRecord], *, killed: bool = False) -> bytes:
    """Write a file of answers, as a study does from its beginning; return what stands there."""
    told = AnswersFile(file)
    told.begin()
    for record in records:
        told.add(record)
    if not killed:
        told.finish()
    return file.read_bytes() if file.exists() else b""


def test_answers_that_stand_in_the_file_are_not_written_again(tmp_path: Path) -> None:
    file, trials = tmp_path / "answers.csv", [a_record(f"trial {number}", number) for number in range(4)]
    others = [*trials[:2], a_record("finalist", -1), trials[2]]
    whole = written(file, trials)
    changed = file.stat().st_mtime_ns
    assert written(file, trials) == whole
    assert file.stat().st_mtime_ns == changed, "the same answers were written again"
    assert written(file, others) == written(tmp_path / "others.csv", others)
    written(file, trials[:3], killed=True)
    with file.with_suffix(".csv.partial").open("ab") as handle:
        handle.write(b"half a li")
    assert written(file, trials) == whole
    file.write_bytes(whole.replace(b"trial 1", b"trial 9", 1))
    assert written(file, trials) == whole, "what was changed by hand was kept"
    file.unlink()
    assert written(file, trials) == whole


def test_of_many_trials_only_the_leaders_answers_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = fake_study(search={"trials": TRIALS, "race": False})
    url = f"sqlite:///{tmp_path / 'study.db'}"
    led(study, Store(url, study), FolderWriter(StudyFolder(tmp_path)))
    unpacked: list[Any] = []
    table = packed._table

    def counted(*given: Any) -> Any:
        unpacked.append(given)
        return table(*given)

    monkeypatch.setattr(packed, "_table", counted)
    led(study, Store(url, study), FolderWriter(StudyFolder(tmp_path)))
    assert len(unpacked) < TRIALS
