"""The table of trials: rows wait in a draft beside it, as lines of JSON, until the study is finished.

Those of thousands of trials would fill a memory, and which columns there are is known at the end.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from experiments.atomic_files import write_text_atomically
from experiments.score_tables import to_csv, trials_table
from search.results.observer import TrialRecord

_LEFT_OUT = ("results", "recipe_yaml")


@dataclass
class TrialsFile:
    """Writes one row per trial of the search.

    Attributes:
        path: The file.
    """

    path: Path

    def begin(self) -> None:
        """Begin anew: every start is told all records."""
        self._draft.unlink(missing_ok=True)

    def add(self, record: TrialRecord) -> None:
        """Add a candidate; baselines too, what was scored on other questions not."""
        if record.part != "search":
            return
        facts = {one.name: getattr(record, one.name) for one in fields(record) if one.name not in _LEFT_OUT}
        try:
            with self._draft.open("a", encoding="utf-8") as draft:
                draft.write(json.dumps(facts, default=dict) + "\n")
        except OSError as error:
            error.filename = error.filename or str(self._draft)  # a write that fails does not name its file
            raise

    def finish(self) -> None:
        """Write the table."""
        write_text_atomically(self.path, to_csv(trials_table(list(self._records()))))
        self._draft.unlink(missing_ok=True)

    @property
    def _draft(self) -> Path:
        return self.path.with_suffix(".csv.partial")

    def _records(self) -> Iterator[TrialRecord]:
        if self._draft.exists():
            with self._draft.open(encoding="utf-8") as draft:
                yield from (TrialRecord(**json.loads(line), recipe_yaml="") for line in draft)
