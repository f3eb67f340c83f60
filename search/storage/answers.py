"""Where the records of trials stand: in a database, in a table of their own beside Optuna's.

Optuna holds every finished trial with all its attributes in memory, and a record with its answers is several times as
large as the rest of a trial. The leader looks at a record once, so that only a mark stays among the attributes. A
journal is held in memory whole; there, and in stores that began before there was the table, the record is the
attribute itself.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, Text, delete, insert, select
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


class AnswerTable:
    """The records of a study's trials, with every answer.

    Args:
        storage: Optuna's storage.
        engine: Its database; None for a journal.
        id_of: Returns the storage's id of a trial by its number.
        allowed: Called in the transaction that writes a record; it raises where this process may not write any more.
    """

    def __init__(
        self,
        storage: BaseStorage,
        engine: Engine | None,
        id_of: Callable[[int], int],
        allowed: Callable[[Connection], None],
    ) -> None:
        self._storage = storage
        self._engine = engine
        self._id_of = id_of
        self._allowed = allowed
        self._made = False

    def write(self, number: int, record: Mapping[str, Any]) -> None:
        """Write the record of a trial that is not finished yet, in place of an earlier one; the mark comes last."""
        trial_id = self._id_of(number)
        if self._engine is None:
            self._storage.set_trial_user_attr(trial_id, RECORD, dict(record))
            return
        if not self._made:
            TABLE.create(self._engine, checkfirst=True)
            self._made = True
        with self._engine.begin() as connection:
            self._allowed(connection)
            connection.execute(delete(TABLE).where(TABLE.c.trial_id == trial_id))
            connection.execute(insert(TABLE).values(trial_id=trial_id, record=json.dumps(record)))
        self._storage.set_trial_user_attr(trial_id, RECORD, True)

    def read(self, trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
        """Return the records of finished trials, in their order; at most `BATCH` of them.

        Raises:
            StoreError: One is missing.
        """
        attributes = {trial.number: trial.user_attrs[RECORD] for trial in trials}
        ids = {number: self._id_of(number) for number, attribute in attributes.items() if attribute is True}
        texts = self._texts(list(ids.values()))
        for number, trial_id in ids.items():
            if trial_id not in texts:
                raise StoreError(
                    f"store: table {TABLE.name}: must hold a record of trial {number}, has none; restore the database "
                    "from a copy"
                )
        numbers = [trial.number for trial in trials]
        return [json.loads(texts[ids[n]]) if n in ids else attributes[n] for n in numbers]

    def _texts(self, ids: Sequence[int]) -> dict[int, str]:
        if self._engine is None or not ids:
            return {}
        with self._engine.connect() as connection:
            rows = connection.execute(select(TABLE.c.trial_id, TABLE.c.record).where(TABLE.c.trial_id.in_(ids)))
            return {row.trial_id: row.record for row in rows}
