"""The first rung: before a model writes its answers, the likelihood of the right ones is asked, which costs far less.

A candidate that is clearly worse there is stopped before it generates anything, as long as the study's own
candidates show that the rung ranks them as the real metric does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from evals.scores.results import Results
from evals.tasks.loading import LoadedTask
from evals.tasks.metrics import GOLD_BITS
from search.objective.objective import Objective, Term

TRUSTED = 0.5
"""Rank correlation from which on the rung may stop a candidate."""
LEAST_SCORED = 5
"""So many candidates must have been scored both ways before the rank correlation means anything."""


@dataclass(frozen=True)
class Agreement:
    """How well the rung ranks candidates.

    Attributes:
        correlation: Spearman's rank correlation of the rung's objective with the real one; None where one of them is
            the same for all.
        candidates: Number of candidates behind it.
    """

    correlation: float | None
    candidates: int

    @property
    def trusted(self) -> bool:
        """Tell whether the rung may stop candidates."""
        return self.candidates >= LEAST_SCORED and self.correlation is not None and self.correlation >= TRUSTED


def climbs(task: LoadedTask) -> bool:
    """Tell whether a task has a rung: its metric needs generated text, and it has a gold text."""
    return not task.multiple_choice and task.default_metric != GOLD_BITS and GOLD_BITS in task.metrics


def on_the_rung(tasks: Sequence[LoadedTask]) -> tuple[LoadedTask, ...]:
    """Return the tasks as the rung asks them: the likelihood in place of generated text."""
    return tuple(replace(task, default_metric=GOLD_BITS) if climbs(task) else task for task in tasks)


def rung_objective(objective: Objective, tasks: Sequence[LoadedTask]) -> Objective:
    """Return the objective with the likelihood in place of every metric that needs generated text."""
    labels = {task.label for task in tasks if climbs(task)}
    return Objective(
        tuple(Term(t.label, GOLD_BITS, t.weight, False) if t.label in labels else t for t in objective.terms)
    )


def agreement(rung: Objective, objective: Objective, scored: Sequence[Results]) -> Agreement:
    """Return how well the rung ranks candidates that answered everything."""
    return ranks([rung.value(results) for results in scored], [objective.value(results) for results in scored])


def ranks(low: Sequence[float], high: Sequence[float]) -> Agreement:
    """Return the rank correlation of two lists of objectives."""
    if len(low) < 2 or np.ptp(low) == 0 or np.ptp(high) == 0:
        return Agreement(None, len(low))
    return Agreement(float(stats.spearmanr(low, high).statistic), len(low))
