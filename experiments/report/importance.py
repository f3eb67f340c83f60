"""Which holes mattered: fANOVA importances by Optuna, family by family, on trials that answered every question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from experiments.report.study_facts import Scoring, StudyFacts
from search.space.search_space import SearchSpace

MIN_TRIALS = 12
"""Fewest fully scored trials of a family for which importances are computed."""
MAX_TRIALS = 500
"""Most trials used, evenly spaced over the study: the time grows faster than their number."""


@dataclass(frozen=True)
class Importances:
    """Importances of one family's holes.

    Attributes:
        family: The family.
        trials: Number of fully scored trials that were used.
        shares: Hole to the fraction of the objective's variance it explains, largest first; empty with too few trials.
    """

    family: str
    trials: int
    shares: dict[str, float]

    @property
    def remark(self) -> str:
        """Return why there are no importances; empty where there are."""
        if self.shares:
            return ""
        if self.trials < MIN_TRIALS:
            are = "1 fully scored trial is" if self.trials == 1 else f"{self.trials} fully scored trials are"
            return f"{are} too few to compute importances; {MIN_TRIALS} are needed"
        return (
            "every fully scored trial has the same objective or the same values, so that no importance can be computed"
        )


def importances(facts: StudyFacts) -> list[Importances]:
    """Return the importances of every family, on trials that answered all search questions."""
    full = [scoring for scoring in facts.trials if scoring.record.state == "complete"]
    by_family = []
    for family in facts.study.space.families:
        of_family = _evenly_spaced([scoring for scoring in full if scoring.record.family == family])
        shares = _shares(facts.study.space, family, of_family) if len(of_family) >= MIN_TRIALS else {}
        by_family.append(Importances(family, len(of_family), shares))
    return by_family


def _evenly_spaced(scorings: Sequence[Scoring]) -> list[Scoring]:
    """Return all, or `MAX_TRIALS` of them, evenly spaced over the study."""
    if len(scorings) <= MAX_TRIALS:
        return list(scorings)
    return [scorings[index * len(scorings) // MAX_TRIALS] for index in range(MAX_TRIALS)]


def _shares(space: SearchSpace, family: str, scorings: Sequence[Scoring]) -> dict[str, float]:
    distributions = {d.name: d.distribution for d in space.families[family].dimensions}
    trials = tuple((tuple(scoring.record.params.items()), scoring.record.metrics["objective"]) for scoring in scorings)
    return dict(_fanova(tuple(distributions.items()), trials))


@lru_cache(maxsize=8)  # the page and the tables ask for the same
def _fanova(
    dimensions: tuple[tuple[str, BaseDistribution], ...],
    trials: tuple[tuple[tuple[tuple[str, object], ...], float], ...],
) -> Mapping[str, float]:
    """Return the importance of every hole, from each trial's values and objective; empty where all objectives agree."""
    if len({objective for _, objective in trials}) < 2:
        return {}
    distributions = dict(dimensions)
    previous = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize")
        for values, objective in trials:
            params: dict[str, Any] = dict(values)
            used = {name: distributions[name] for name in params}
            study.add_trial(create_trial(params=params, distributions=used, value=objective))
        return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)))
    except (ValueError, RuntimeError):
        return {}
    finally:
        optuna.logging.set_verbosity(previous)
