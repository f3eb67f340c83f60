"""What stands in a study's sqlite file, read row by row, without the code that wrote it."""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.question_log import Key

TIMES = ("started", "ended", "seconds", "cost")
RECORD = "record"
FINISHED = ("COMPLETE", "FAIL")


@dataclass(frozen=True)
class Rows:
    """What a store holds; times left out.

    Attributes:
        params: Parameters of every trial by number, as far as they are stored.
        finished: Trials that are done, by number: state, values, parameters, record with every answer.
        recorded: Trials that have a record and are not done.
        outside: Records of what was scored outside the search, by part and digest.
    """

    params: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    finished: Mapping[int, Any] = field(default_factory=dict)
    recorded: tuple[int, ...] = ()
    outside: Mapping[Key, Any] = field(default_factory=dict)


def read_rows(database: Path, study: str) -> Rows:
    """Return what a store holds; nothing where a process was killed while it made the store."""
    if not database.exists():
        return Rows()
    with closing(sqlite3.connect(database)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if "version_info" not in tables:
            return Rows()
        studies = dict(connection.execute("SELECT study_name, study_id FROM studies").fetchall())
        if study not in studies:
            return Rows()
        own = dict(connection.execute("SELECT * FROM mergesearch_records")) if "mergesearch_records" in tables else {}
        trials = _trials(connection, studies[study])
        scores = _trials(connection, studies[f"{study}.scores"]) if f"{study}.scores" in studies else []
    params, finished, recorded = {}, {}, []
    for trial in trials:
        number = trial["number"]
        assert number not in params, f"two trials have the number {number}"
        params[number] = trial["params"]
        if RECORD not in trial["attributes"]:
            continue
        if trial["state"] in FINISHED:
            record = without_times(json.loads(own[trial["id"]]))
            finished[number] = (trial["state"], trial["values"], trial["params"], record)
        else:
            recorded.append(number)
    records = [trial["attributes"][RECORD] for trial in scores]
    outside = {(record["part"], record["digest"]): without_times(record) for record in records}
    assert len(outside) == len(records), "something was scored twice outside the search"
    return Rows(params, finished, tuple(recorded), outside)


def without_times(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without what differs from run to run."""
    return {key: value for key, value in record.items() if key not in TIMES}


def _trials(connection: sqlite3.Connection, study: int) -> list[dict[str, Any]]:
    rows = connection.execute("SELECT trial_id, number, state FROM trials WHERE study_id = ?", (study,))
    trials: dict[int, dict[str, Any]] = {
        trial_id: {"id": trial_id, "number": number, "state": state, "params": {}, "values": [], "attributes": {}}
        for trial_id, number, state in rows
    }
    for trial_id, name, value in connection.execute("SELECT trial_id, param_name, param_value FROM trial_params"):
        if trial_id in trials:
            trials[trial_id]["params"][name] = value
    for trial_id, value in connection.execute("SELECT trial_id, value FROM trial_values ORDER BY objective"):
        if trial_id in trials:
            trials[trial_id]["values"].append(value)
    for trial_id, key, text in connection.execute("SELECT trial_id, key, value_json FROM trial_user_attributes"):
        if trial_id in trials:
            trials[trial_id]["attributes"][key] = json.loads(text)
    return list(trials.values())
