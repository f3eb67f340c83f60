"""Who is told how a search goes, and of what: the terminal, tables, MLflow, a notebook."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from evals.scores.results import Results
from search.results.outcome import Part
from search.results.verdict import Verdict


@dataclass(frozen=True)
class TrialRecord:
    """One scoring of one recipe, as tracking, tables and reports see it.

    Attributes:
        study: Name of the study.
        study_id: Digest of the study's identity.
        number: Trial number; baselines and finalists count below zero.
        name: ``trial 12``, or the name of a baseline.
        family: Family of the candidate, empty for a baseline.
        kind: What was scored, and why.
        params: Values of the holes.
        metrics: ``TASK/METRIC`` to value, and ``objective``.
        recipe_yaml: The plain recipe.
        state: ``stopped`` means that the race stopped it.
        reason: Why it failed or was stopped.
        started: Seconds since the epoch.
        ended: Seconds since the epoch.
        parts: Seconds by part: propose, merge, score, log.
        part: Question set that the metrics were measured on.
        results: Answers, where they are at hand.
    """

    study: str
    study_id: str
    number: int
    name: str
    family: str
    kind: Literal["baseline", "trial", "finalist"]
    params: Mapping[str, object]
    metrics: Mapping[str, float]
    recipe_yaml: str
    state: Literal["complete", "stopped", "failed"]
    reason: str | None
    started: float
    ended: float
    parts: Mapping[str, float]
    part: Part = "search"
    results: Results | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Outlook:
    """What is known before the first candidate.

    Attributes:
        study: Name of the study.
        baselines: Names of the baselines.
        trials: Budget.
        done: Trials that an earlier run finished.
        counts: Number of questions per part.
        metrics: The ``TASK/METRIC`` scores that the objective is made of.
    """

    study: str
    baselines: Sequence[str]
    trials: int
    done: int
    counts: Mapping[str, int]
    metrics: Sequence[str] = ()


class Observer(Protocol):
    """Who wants to know how a search goes. Observers must not raise: a search never stops for its audience."""

    def started(self, outlook: Outlook) -> None:
        """Hear of the study before its first candidate."""

    def scored(self, record: TrialRecord) -> None:
        """Hear of a baseline, trial or finalist that was just scored, or that an earlier run had scored."""

    def finished(self, verdict: Verdict) -> None:
        """Hear of the verdict."""


class NullObserver:
    """Hears nothing: a base class of observers that only want to know some of it."""

    def started(self, outlook: Outlook) -> None:
        """Hear of the study before its first candidate."""

    def scored(self, record: TrialRecord) -> None:
        """Hear of a candidate."""

    def finished(self, verdict: Verdict) -> None:
        """Hear of the verdict."""


@dataclass(frozen=True)
class Observers(NullObserver):
    """Several observers as one, in their order.

    Attributes:
        observers: The observers.
    """

    observers: Sequence[Observer] = ()

    def started(self, outlook: Outlook) -> None:
        """Tell each of the study."""
        for observer in self.observers:
            observer.started(outlook)

    def scored(self, record: TrialRecord) -> None:
        """Tell each of a candidate."""
        for observer in self.observers:
            observer.scored(record)

    def finished(self, verdict: Verdict) -> None:
        """Tell each of the verdict."""
        for observer in self.observers:
            observer.finished(verdict)
