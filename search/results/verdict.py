"""The verdict of a search, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from evals.scores.statistics import Interval
from search.objective.constraints import Check
from search.objective.rung import Agreement


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
        earlier_looks: How many earlier verdicts of this study looked at the same test questions.
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
    earlier_looks: int = 0

    @property
    def optimism(self) -> float:
        """How much of the search score does not hold on new questions: search minus test objective."""
        return self.search_value - self.test_value
