"""Compares two fighters question by question, over masks and tasks: interval, exact test, what could have been seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from evals.scores.results import Results
from evals.scores.statistics import Interval, mcnemar_exact, minimum_detectable_difference, wilcoxon_signed_rank
from experiments.duel.scoring import Fighter
from search.objective.objective import BITS_PER_BYTE, GOLD_PROBABILITY, Objective, Term, paired

Array = NDArray[np.float64]
LEVEL, POWER, SAMPLES = 0.95, 0.8, 10_000
MEAN = "average"


@dataclass(frozen=True)
class Row:
    """One fighter against another on one task, or on the average.

    Attributes:
        score: ``TASK/METRIC``, or ``average``.
        one: The first one's score, mean over its masks.
        other: The second one's.
        difference: First minus second in the metric's own unit.
        test: The paired test; none for the average.
        p_value: Two-sided; of the study's own masks.
        p_values: The same for every pair of masks.
        questions: Number of questions.
        detectable: Smallest true difference that such questions show in four cases of five.
        higher_is_better: Direction of the metric.
        fraction: Whether the score is a share of right answers, so that it may be told in points of a hundred.
    """

    score: str
    one: float
    other: float
    difference: Interval
    test: Literal["mcnemar", "wilcoxon", ""]
    p_value: float
    p_values: tuple[float, ...]
    questions: int
    detectable: float
    higher_is_better: bool
    fraction: bool

    @property
    def outcome(self) -> Literal["better", "worse", "open"]:
        """Return what interval and exact test together say of the first one.

        Few right answers that differ make a bootstrap interval too narrow; the exact test knows how few they are.
        """
        low, high = self.difference.low, self.difference.high
        if not (low > 0 or high < 0) or (self.test == "mcnemar" and self.p_value >= 1 - LEVEL):
            return "open"
        return "better" if (low > 0) == self.higher_is_better else "worse"


@dataclass(frozen=True)
class Meeting:
    """One fighter against another.

    Attributes:
        one: Name of the first.
        other: Name of the second.
        average: On the objective.
        tasks: Task by task.
    """

    one: str
    other: str
    average: Row
    tasks: tuple[Row, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """Return the average, unless it is that of a single score, then task by task."""
        first = self.tasks[0]
        single = first.questions == self.average.questions and (first.one, first.other) == (
            self.average.one,
            self.average.other,
        )
        return self.tasks if single else (self.average, *self.tasks)


def meet(objective: Objective, one: Fighter, other: Fighter, *, seed: int) -> Meeting:
    """Compare two fighters.

    Questions are drawn with replacement inside each task, the same for both, and masks with replacement among those
    that a fighter has, the same mask for all tasks: a two-level paired percentile bootstrap (Efron & Tibshirani, 1993,
    chapters 8.3 and 13). A handful of masks understates their share of the uncertainty somewhat.

    Args:
        objective: What the tasks are worth together.
        one: The first.
        other: The second.
        seed: Seed of the resampling.
    """
    rng = np.random.default_rng(seed)
    masks = _drawn_masks(rng, len(one.seeds)), _drawn_masks(rng, len(other.seeds))
    rows = []
    average, counted, fraction = np.zeros(SAMPLES), 0, True
    for term in _terms(objective, one.results[0]):
        row, utilities = _row(term, one, other, masks, rng)
        rows.append(row)
        if term.weight > 0:
            average += term.weight * utilities
            counted += row.questions
            fraction = fraction and row.fraction
    tail = 100 * (1 - LEVEL) / 2
    low, high = (float(end) for end in np.percentile(average, [tail, 100 - tail]))
    difference = Interval(one.value - other.value, low, high, LEVEL)
    detectable = _quantiles() * float(np.std(average))
    mean = Row(
        score=MEAN,
        one=one.value,
        other=other.value,
        difference=difference,
        test="",
        p_value=math.nan,
        p_values=(),
        questions=counted,
        detectable=detectable,
        higher_is_better=True,
        fraction=fraction,
    )
    return Meeting(one.name, other.name, mean, tuple(rows))


def _terms(objective: Objective, results: Results) -> list[Term]:
    """Return the objective's terms, each likelihood followed by its task's right-or-wrong metrics."""
    found = []
    answers = results.answers
    for term in objective.terms:
        found.append(term)
        if term.metric in (GOLD_PROBABILITY, BITS_PER_BYTE):
            for metric, rows in answers[answers["task"] == term.label].groupby("metric", sort=True):
                if rows["value"].isin((0.0, 1.0)).all():
                    found.append(Term(term.label, str(metric), 0.0, True))
    return found


def _drawn_masks(rng: np.random.Generator, masks: int) -> Array:
    """Return how much each mask counts in each resample; shape (SAMPLES, masks), rows add up to 1."""
    return rng.multinomial(masks, np.full(masks, 1 / masks), size=SAMPLES) / masks


def _row(
    term: Term, one: Fighter, other: Fighter, masks: tuple[Array, Array], rng: np.random.Generator
) -> tuple[Row, Array]:
    """Return one task's row, and the difference of utilities in every resample."""
    first, second, weight = _values(term, one.results, other.results)
    drawn = _drawn_means(rng, first, second, weight)
    metric = _over(drawn[0], masks[0]) - _over(drawn[1], masks[1])
    utilities = _over(term.utility(drawn[0]), masks[0]) - _over(term.utility(drawn[1]), masks[1])
    tail = 100 * (1 - LEVEL) / 2
    low, high = (float(end) for end in np.percentile(metric, [tail, 100 - tail]))
    scores = [float(np.mean([r.scores[term.key].value for r in f.results])) for f in (one, other)]
    right_or_wrong = bool(np.isin(np.concatenate([first, second]), (0.0, 1.0)).all())
    test = mcnemar_exact if right_or_wrong else wilcoxon_signed_rank
    p_values = tuple(test(a, b) for a in first for b in second)
    row = Row(
        score=term.key,
        one=scores[0],
        other=scores[1],
        difference=Interval(scores[0] - scores[1], low, high, LEVEL),
        test="mcnemar" if right_or_wrong else "wilcoxon",
        p_value=p_values[0],
        p_values=p_values,
        questions=first.shape[1],
        detectable=minimum_detectable_difference(first.mean(axis=0), second.mean(axis=0), level=LEVEL, power=POWER),
        higher_is_better=term.higher_is_better,
        fraction=right_or_wrong,
    )
    return row, utilities


def _drawn_means(rng: np.random.Generator, first: Array, second: Array, weight: Array) -> tuple[Array, Array]:
    """Return each mask's weighted mean in every resample of the questions; shapes (SAMPLES, masks)."""
    share, step = np.full(len(weight), 1 / len(weight)), 500
    tops: list[tuple[Array, Array]] = []
    for _ in range(SAMPLES // step):
        counts = rng.multinomial(len(weight), share, size=step) * weight
        total = counts.sum(axis=1, keepdims=True)
        tops.append((counts @ first.T / total, counts @ second.T / total))
    return np.concatenate([a for a, _ in tops]), np.concatenate([b for _, b in tops])


def _values(term: Term, first: Sequence[Results], second: Sequence[Results]) -> tuple[Array, Array, Array]:
    """Return both fighters' values, shape (masks, questions), and the questions' weights."""
    columns = [paired(results.answers, second[0].answers, term.label, term.metric) for results in first]
    others = [paired(first[0].answers, results.answers, term.label, term.metric) for results in second]
    return np.stack([column[0] for column in columns]), np.stack([column[1] for column in others]), columns[0][2]


def _over(values: Array, masks: Array) -> Array:
    return np.asarray((values * masks).sum(axis=1))


def _quantiles() -> float:
    return float(stats.norm.ppf((1 + LEVEL) / 2) + stats.norm.ppf(POWER))
