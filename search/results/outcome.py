"""What a search leaves behind, as plain values: scored and failed candidates, trials, the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from evals.scores.results import Results
from evals.scores.statistics import Interval
from search.objective.constraints import Check
from search.objective.rung import Agreement

Part = Literal["search", "selection", "test"]
"""Which of the disjoint question sets."""


@dataclass(frozen=True)
class Seconds:
    """Where the time of a trial went.

    Attributes:
        propose: Asking the sampler.
        merge: Writing the candidate into the live model.
        score: Answering questions.
        log: Storing and mirroring.
    """

    propose: float = 0.0
    merge: float = 0.0
    score: float = 0.0
    log: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """Return the parts by name."""
        return {"propose": self.propose, "merge": self.merge, "score": self.score, "log": self.log}


@dataclass(frozen=True)
class Scored:
    """A candidate that was scored.

    Attributes:
        results: Its answers and scores.
        value: Its objective on the questions it answered, larger is better.
        stopped_after: Number of questions after which the race stopped it; None when it answered all.
        seconds: Where the time went.
        values: Utility of each task that counts; empty where it was read back from a store.
        behind: By how much it was behind the candidate that stopped it, on the questions that it answered and in
            the metrics that were raced on; its own value there says little, since the most telling questions come
            first. None when it answered all.
    """

    results: Results
    value: float
    stopped_after: int | None = None
    seconds: Seconds = Seconds()
    values: tuple[float, ...] = ()
    behind: float | None = None

    def metrics(self) -> dict[str, float]:
        """Return the objective and every score by its name ``TASK/METRIC``."""
        return {"objective": self.value, **{name: score.value for name, score in self.results.scores.items()}}


@dataclass(frozen=True)
class Failed:
    """A candidate that could not be scored.

    Attributes:
        reason: One line.
        kind: Short name of the kind of failure; three of a kind in a row stop the search.
    """

    reason: str
    kind: str


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
class TaskComparison:
    """The winner against one opponent on one task's test questions.

    Attributes:
        task: ``TASK/METRIC``.
        winner: The winner's score.
        opponent: The opponent's score.
        difference: Winner minus opponent in the metric's own unit, paired bootstrap.
        test: ``mcnemar`` where answers are right or wrong, else ``wilcoxon``.
        p_value: Two-sided, of that test.
        questions: Number of questions that both answered.
        detectable: Smallest true difference that this many questions show with 80 % power.
        higher_is_better: Direction of the metric.
    """

    task: str
    winner: float
    opponent: float
    difference: Interval
    test: Literal["mcnemar", "wilcoxon"]
    p_value: float
    questions: int
    detectable: float
    higher_is_better: bool


@dataclass(frozen=True)
class Comparison:
    """The winner against one opponent on the test questions.

    Attributes:
        opponent: Name of a baseline.
        objective: Difference of the objective, winner minus opponent, bootstrap stratified by task.
        tasks: The same, task by task.
        holds: Whether the objective's difference is also shown when all that the verdict stands on are corrected for
            their number; None for a comparison that is none of them.
    """

    opponent: str
    objective: Interval
    tasks: tuple[TaskComparison, ...]
    holds: bool | None = None


@dataclass(frozen=True)
class FrontPoint:
    """One candidate of the Pareto front on the search questions.

    Attributes:
        name: Name of the trial or baseline.
        family: Its family, empty for a baseline.
        recipe_yaml: Its plain recipe.
        scores: ``TASK/METRIC`` of every task that counts, in its own unit, on the search questions.
    """

    name: str
    family: str
    recipe_yaml: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Masks:
    """The winner's recipe with other random masks, on the test questions.

    Attributes:
        seeds: Their seeds; the study's own is not among them.
        values: Objective with each.
    """

    seeds: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Verdict:
    """What a study found, on questions that nobody searched on.

    Attributes:
        winner: Name of the winning trial.
        family: Its family; empty when a baseline won.
        recipe: Its plain recipe, as a mapping.
        recipe_yaml: The same as text.
        digest: The recipe's digest.
        search_value: Its objective on the search questions.
        test_value: Its objective on the test questions.
        models: Names of the base and the parents: what is scored as it is, unmerged.
        best_parent: Name of the parent with the best objective on the test questions.
        comparisons: Against the best parent first, then every other baseline.
        scores: Name of a model to its ``TASK/METRIC`` scores and ``objective`` on the test questions.
        higher_is_better: Direction of each ``TASK/METRIC``.
        counts: Number of questions per part.
        ended: Why no more candidates were asked for.
        front: The Pareto front, where the study asks for one.
        constraints: Every constraint with what the winner has on the test questions.
        masks: The winner with other random masks; None where it has none.
        rung: How well the first rung ranks candidates; None for a study without one.
    """

    winner: str
    family: str
    recipe: Mapping[str, object]
    recipe_yaml: str
    digest: str
    search_value: float
    test_value: float
    models: Sequence[str]
    best_parent: str
    comparisons: tuple[Comparison, ...]
    scores: Mapping[str, Mapping[str, float]]
    higher_is_better: Mapping[str, bool]
    counts: Mapping[str, int]
    ended: str = ""
    front: tuple[FrontPoint, ...] = ()
    constraints: tuple[Check, ...] = ()
    masks: Masks | None = None
    rung: Agreement | None = None

    @property
    def optimism(self) -> float:
        """How much of the search score does not hold on new questions: search minus test objective."""
        return self.search_value - self.test_value


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
