"""How a search stands: who answered every question, who leads, what failed last, and since when nothing got better."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from evals.scores.results import Results
from merge.recipe.schema import Recipe
from search.errors import SearchStoppedError
from search.objective.pareto import front
from search.results.outcome import Failed
from search.space.search_space import RecipeText

PATIENCE = 3
"""So many failures of one kind in a row stop the search: the next would fail too."""
RECIPE_PATIENCE = 25
"""The same for values that do not go together, such as an empty layer range: the space has others."""


@dataclass(frozen=True)
class Entry:
    """A recipe that answered every search question.

    Attributes:
        name: What tables call it.
        family: Its family, empty for a baseline.
        filled: The recipe, or its text.
        value: Its objective on the search questions.
        values: What is compared: the objective alone, or every task's utility for a Pareto front.
        violation: By how much it misses the constraints; 0 when it holds them.
    """

    name: str
    family: str
    filled: Recipe | RecipeText
    value: float
    values: tuple[float, ...] = ()
    violation: float = 0.0

    @property
    def recipe(self) -> Recipe:
        """Return the recipe."""
        return self.filled if isinstance(self.filled, Recipe) else self.filled.recipe()


@dataclass
class Standing:
    """How the search stands.

    Only the leaders' answers are kept; the others' are in the store.

    Attributes:
        full: Everyone who answered every question, in the order told.
        leaders: The best so far with its answers; all of the front where several values are compared.
        failures: The failures since the last success.
        idle: Trials since the leaders changed.
    """

    full: list[Entry] = field(default_factory=list)
    leaders: list[tuple[Entry, pd.DataFrame]] = field(default_factory=list)
    failures: list[Failed] = field(default_factory=list)
    idle: int = 0

    def enter(self, entry: Entry, results: Results, *, leads: bool = True) -> None:
        """Take up a recipe that answered every question; the first of two equals leads.

        Args:
            entry: The recipe.
            results: What it answered; of one that does not lead, nobody looks at the table.
            leads: Whether candidates may race against it.
        """
        self.full.append(entry)
        if entry.violation > 0 or not leads:
            return
        contenders = [*(leader for leader, _ in self.leaders), entry]
        leading = front([_compared(one) for one in contenders])
        new = [] if leading[-1] < len(self.leaders) else [(entry, results.answers)]
        if new:
            self.idle = 0
        self.leaders = [self.leaders[place] for place in leading if place < len(self.leaders)] + new

    def told(self, values: Sequence[float], *, beaten: bool, violation: float = 0.0) -> tuple[float, ...]:
        """Return what the sampler is told of a candidate.

        A stopped candidate, and one that misses a constraint, is told less than the worst that was scored in full
        and holds the constraints, the more it misses the less (Deb, 2000: no penalty has to be tuned).
        """
        if not beaten and violation == 0:
            return tuple(values)
        holding = [_compared(entry) for entry in self.full if entry.violation == 0]
        worst = [min(column) for column in zip(*holding, strict=True)] if holding else list(values)
        below = [float(np.nextafter(limit, -math.inf)) for limit in worst]
        return tuple(min(value, limit) - violation for value, limit in zip(values, below, strict=True))

    def fail(self, failed: Failed, *, past: bool = False) -> None:
        """Take up a failure.

        Args:
            failed: The failure.
            past: It is of an earlier run: its cause may be mended, so that it stops nothing.

        Raises:
            SearchStoppedError: It is the last of several of one kind in a row.
        """
        self.failures.append(failed)
        patience = RECIPE_PATIENCE if failed.kind == "RecipeError" else PATIENCE
        last = self.failures[-patience:]
        if len(last) < patience or len({failure.kind for failure in last}) > 1:
            return
        if past:
            self.failures.clear()
            return
        raise SearchStoppedError(
            f"{patience} candidates in a row failed in the same way, the last with: {failed.reason}; finished "
            "trials are kept, and the same command goes on once the cause is mended"
        )


def _compared(entry: Entry) -> tuple[float, ...]:
    return entry.values or (entry.value,)


def distinct(entries: Sequence[Entry]) -> list[Entry]:
    """Return the first entry of each recipe: a sampler may propose the same one twice."""
    first: dict[str, Entry] = {}
    for entry in entries:
        first.setdefault(entry.recipe.digest(), entry)
    return list(first.values())
