"""Which holes mattered: Optuna's importances (fANOVA) on the fully scored trials, family by family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from experiments.report.study_facts import Entry, StudyFacts
from search.space.search_space import SearchSpace

ENOUGH = 12
"""Fewer fully scored trials of a family tell nothing about its holes."""
MOST = 500
"""Of more trials than this so many are taken: the time that importances take grows faster than the trials."""


@dataclass(frozen=True)
class Importances:
    """Importances of one family's holes.

    Attributes:
        family: The family.
        trials: Fully scored trials behind them, all or as many as are taken.
        shares: Hole to its share of the objective's variance, largest first; empty where there are too few trials.
    """

    family: str
    trials: int
    shares: dict[str, float]

    @property
    def remark(self) -> str:
        """Return what is to be said about them, nothing where they stand for themselves."""
        if self.shares:
            return ""
        if self.trials < ENOUGH:
            are = "1 fully scored trial is" if self.trials == 1 else f"{self.trials} fully scored trials are"
            return f"{are} too few to tell importances; {ENOUGH} are needed"
        return "every fully scored trial has the same objective or the same values: nothing to tell"


def importances(facts: StudyFacts) -> list[Importances]:
    """Return the importances of every family, on trials that answered all search questions."""
    full = [entry for entry in facts.trials if entry.record.state == "complete"]
    found = []
    for family in facts.study.space.families:
        mine = _spread([entry for entry in full if entry.record.family == family])
        shares = _shares(facts.study.space, family, mine) if len(mine) >= ENOUGH else {}
        found.append(Importances(family, len(mine), shares))
    return found


def _spread(entries: Sequence[Entry]) -> list[Entry]:
    """Return all, or `MOST` of them that lie evenly over the study."""
    if len(entries) <= MOST:
        return list(entries)
    return [entries[place * len(entries) // MOST] for place in range(MOST)]


def _shares(space: SearchSpace, family: str, entries: Sequence[Entry]) -> dict[str, float]:
    known = {d.name: d.distribution for d in space.families[family].dimensions}
    told = tuple((tuple(entry.record.params.items()), entry.record.metrics["objective"]) for entry in entries)
    return dict(_fanova(tuple(known.items()), told))


@lru_cache(maxsize=8)  # the page and the tables ask for the same
def _fanova(
    known: tuple[tuple[str, BaseDistribution], ...], told: tuple[tuple[tuple[tuple[str, object], ...], float], ...]
) -> Mapping[str, float]:
    """Return the share of every hole, from the values and the objective of each trial; nothing where all are alike."""
    if len({objective for _, objective in told}) < 2:
        return {}
    distributions = dict(known)
    previous = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize")
        for values, objective in told:
            params: dict[str, Any] = dict(values)
            mine = {name: distributions[name] for name in params}
            study.add_trial(create_trial(params=params, distributions=mine, value=objective))
        return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)))
    except (ValueError, RuntimeError):
        return {}
    finally:
        optuna.logging.set_verbosity(previous)
