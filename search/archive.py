"""Where the records of trials are kept: in a database, in a table of their own beside Optuna's.

Optuna holds every finished trial with all its attributes in every process, and a record is several times as large as
the rest of a trial. Each process looks at a record once, so that only a mark stays among the attributes. A journal is
held in memory whole; there, and in stores that began before there was the table, the record is the attribute itself.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import Column, Integer, MetaData, Table, Text, delete, insert, select
from sqlalchemy.dialects.mysql import MEDIUMTEXT

from search.errors import StoreError
from search.storage.codec import RECORD

BATCH = 200
"""Records that are read at once."""
TABLE = Table(
    "mergesearch_records",
    MetaData(),
    Column("trial_id", Integer, primary_key=True, autoincrement=False),
    Column("record", Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb"), nullable=False),
)


class Archive:
    """The records of a storage's trials.

    Args:
        storage: As it was opened, without Optuna's cache around it.
    """

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage
        self._engine = storage.engine if isinstance(storage, RDBStorage) else None
        self._made = False

    def keep(self, trial_id: int, record: Mapping[str, Any]) -> None:
        """Keep the record of a trial that is not finished yet, in the place of an earlier one; the mark comes last."""
        if self._engine is None:
            self._storage.set_trial_user_attr(trial_id, RECORD, dict(record))
            return
        if not self._made:
            TABLE.create(self._engine, checkfirst=True)
            self._made = True
        with self._engine.begin() as connection:
            connection.execute(delete(TABLE).where(TABLE.c.trial_id == trial_id))
            connection.execute(insert(TABLE).values(trial_id=trial_id, record=json.dumps(record)))
        self._storage.set_trial_user_attr(trial_id, RECORD, True)

    def read(self, trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
        """Return the records of finished trials, in their order; at most `BATCH` of them.

        Raises:
            StoreError: One is missing.
        """
        kept = [trial.user_attrs[RECORD] for trial in trials]
        found = self._texts([t._trial_id for t, one in zip(trials, kept, strict=True) if one is True])
        records = []
        for trial, one in zip(trials, kept, strict=True):
            if one is True and trial._trial_id not in found:
                raise StoreError(
                    f"store: table {TABLE.name}: must hold a record of trial {trial.number}, has none; restore the "
                    "database from a copy"
                )
            records.append(json.loads(found[trial._trial_id]) if one is True else one)
        return records

    def _texts(self, ids: Sequence[int]) -> dict[int, str]:
        if self._engine is None or not ids:
            return {}
        with self._engine.connect() as connection:
            rows = connection.execute(select(TABLE.c.trial_id, TABLE.c.record).where(TABLE.c.trial_id.in_(ids)))
            return {row.trial_id: row.record for row in rows}
