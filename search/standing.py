"""How a search stands: who answered every question, who leads, and what failed last."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from merge.recipe import Recipe
from search.errors import SearchStoppedError
from search.records import Failed

PATIENCE = 3
"""So many failures of one kind in a row stop the search: the next would fail too."""


@dataclass(frozen=True)
class Entry:
    """A recipe that answered every search question, and its objective there."""

    name: str
    family: str
    recipe: Recipe
    value: float


@dataclass
class Standing:
    """How the search stands: who answered everything, who leads, and what failed last.

    Only the leader's answers are kept; the others' are in the store.
    """

    full: list[Entry] = field(default_factory=list)
    leader: tuple[float, pd.DataFrame] | None = None
    failures: list[Failed] = field(default_factory=list)

    @property
    def worst(self) -> float:
        """Return the lowest objective of those that answered everything."""
        return min(entry.value for entry in self.full)

    def enter(self, entry: Entry, answers: pd.DataFrame) -> None:
        """Take up a recipe that answered every question; the first of two equals leads."""
        self.full.append(entry)
        if self.leader is None or entry.value > self.leader[0]:
            self.leader = entry.value, answers

    def fail(self, failed: Failed) -> None:
        """Take up a failure.

        Raises:
            SearchStoppedError: It is the last of several of one kind in a row.
        """
        self.failures.append(failed)
        last = self.failures[-PATIENCE:]
        if len(last) == PATIENCE and len({failure.kind for failure in last}) == 1:
            raise SearchStoppedError(
                f"{PATIENCE} candidates in a row failed in the same way, the last with: {failed.reason}; finished "
                "trials are kept, and the same command goes on once the cause is mended"
            )


def distinct(entries: Sequence[Entry]) -> list[Entry]:
    """Return the first entry of each recipe: a sampler may propose the same one twice."""
    first: dict[str, Entry] = {}
    for entry in entries:
        first.setdefault(entry.recipe.digest(), entry)
    return list(first.values())
