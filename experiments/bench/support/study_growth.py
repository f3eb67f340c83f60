"""Adds trials to a study's store by thousands, in one transaction, as if they had been run.

Optuna adds one trial at a time; its tables are written here as the database itself describes them.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import FloatDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, MetaData, insert, select, text
from sqlalchemy.engine import make_url

from search.storage.answers import TABLE
from search.storage.opening import open_storage
from search.storage.store import Store


def grow(url: str, store: Store, count: int) -> None:
    """Add finished trials at random points with the answers of those that are there.

    Args:
        url: Where the store is, a database.
        store: The study's store, with some finished trials, all of whose parameters are floats.
        count: Number of trials.
    """
    known = [trial for trial in store.finished() if trial.values]
    rng = np.random.default_rng(len(known))
    chosen = [known[i] for i in rng.integers(len(known), size=count)]
    own = {trial.number: json.dumps(record) for trial, record in store.records(known)}
    records = [own[trial.number] for trial in chosen]
    first = len(store.trials.get_trials(deepcopy=False))
    storage = open_storage(url)
    assert isinstance(storage, RDBStorage)
    tables = MetaData()
    tables.reflect(storage.engine)
    study = storage.get_study_id_from_name(store.trials.study_name)
    with storage.engine.begin() as connection:
        ids = _add_trials(connection, tables, study, range(first, first + count))
        rows = {"trial_id": None, "value_type": "FINITE", "objective": 0}
        values = [rows | {"trial_id": i, "value": trial.values[0]} for i, trial in zip(ids, chosen, strict=True)]
        connection.execute(insert(tables.tables["trial_values"]), values)
        connection.execute(insert(tables.tables["trial_params"]), list(_params(ids, chosen, rng)))
        for name, attributes in (
            ("trial_user_attributes", [trial.user_attrs for trial in chosen]),
            ("trial_system_attributes", [trial.system_attrs for trial in chosen]),
        ):
            texts = [
                {"trial_id": i, "key": key, "value_json": json.dumps(value)}
                for i, own in zip(ids, attributes, strict=True)
                for key, value in own.items()
            ]
            if texts:
                connection.execute(insert(tables.tables[name]), texts)
        kept = [{"trial_id": i, "record": record} for i, record in zip(ids, records, strict=True)]
        connection.execute(insert(TABLE), kept)


def _add_trials(connection: Connection, tables: MetaData, study: int, numbers: range) -> list[int]:
    trials, now = tables.tables["trials"], datetime.now(UTC).replace(tzinfo=None)
    facts = {"study_id": study, "state": "COMPLETE", "datetime_start": now, "datetime_complete": now}
    connection.execute(insert(trials), [facts | {"number": number} for number in numbers])
    own = (trials.c.study_id == study) & (trials.c.number >= numbers.start)
    return list(connection.execute(select(trials.c.trial_id).where(own).order_by(trials.c.number)).scalars())


def _params(ids: Sequence[int], trials: Sequence[FrozenTrial], rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for trial_id, trial in zip(ids, trials, strict=True):
        for name, held in trial.distributions.items():
            assert isinstance(held, FloatDistribution)
            value = rng.uniform(held.low, held.high)
            row = {"trial_id": trial_id, "param_name": name, "param_value": value}
            yield row | {"distribution_json": distribution_to_json(held)}


def store_size(url: str) -> int:
    """Return the bytes of a store: a sqlite file with its log, or a PostgreSQL database."""
    if url.startswith("sqlite:///"):
        file = Path(str(make_url(url).database))
        return sum(part.stat().st_size for part in file.parent.glob(f"{file.name}*"))
    storage = open_storage(url)
    assert isinstance(storage, RDBStorage)
    with storage.engine.connect() as connection:
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar() or 0)
