"""Compares two competitors question by question, over random masks and tasks.

Each comparison has a bootstrap interval, an exact paired test and the smallest difference that could be detected.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from evals.scores.results import Results
from evals.scores.statistics import Interval, mcnemar_exact, minimum_detectable_difference, wilcoxon_signed_rank
from experiments.duel.scoring import ScoredCompetitor
from search.objective.objective import BITS_PER_BYTE, GOLD_PROBABILITY, Objective, Term, paired

Array = NDArray[np.float64]
LEVEL, POWER, SAMPLES = 0.95, 0.8, 10_000
"""Confidence of the intervals, power behind `ScoreComparison.detectable`, bootstrap resamples."""
MEAN = "average"
"""Name of the row that compares the objective."""


@dataclass(frozen=True)
class ScoreComparison:
    """Two competitors compared on one score, or on the average over the tasks.

    Attributes:
        score: ``TASK/METRIC``, or ``average``.
        one: Score of the first competitor, mean over its masks.
        other: Score of the second, mean over its masks.
        difference: First minus second in the metric's own unit.
        test: The paired test; none for the average.
        p_value: Two-sided p-value with the study's own mask seed; NaN for the average.
        p_values: The same for every pair of mask seeds.
        questions: Number of questions.
        detectable: Smallest true difference that a test on these questions detects with a power of 0.8.
        higher_is_better: Direction of the metric.
        fraction: Whether the score is a fraction of right answers, which people read in percent.
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
        """Whether the first is ``better`` or ``worse`` where interval and exact test agree on it, else ``open``.

        With few differing answers the bootstrap interval is too narrow; the exact test is valid at any number.
        """
        low, high = self.difference.low, self.difference.high
        if not (low > 0 or high < 0) or (self.test == "mcnemar" and self.p_value >= 1 - LEVEL):
            return "open"
        return "better" if (low > 0) == self.higher_is_better else "worse"


@dataclass(frozen=True)
class PairComparison:
    """Two competitors compared on every score.

    Attributes:
        one: Name of the first.
        other: Name of the second.
        average: Comparison on the objective.
        tasks: Comparison on each task's scores.
    """

    one: str
    other: str
    average: ScoreComparison
    tasks: tuple[ScoreComparison, ...]

    @property
    def rows(self) -> tuple[ScoreComparison, ...]:
        """Return the average first (left out where a single score makes it), then the tasks."""
        first = self.tasks[0]
        single = first.questions == self.average.questions and (first.one, first.other) == (
            self.average.one,
            self.average.other,
        )
        return self.tasks if single else (self.average, *self.tasks)


def compare_pair(objective: Objective, one: ScoredCompetitor, other: ScoredCompetitor, *, seed: int) -> PairComparison:
    """Compare two scored_competitors.

    Questions are drawn with replacement inside each task, the same for both, and masks with replacement among those
    that a competitor has, the same mask for all tasks: a two-level paired percentile bootstrap (Efron & Tibshirani,
    1993, chapters 8.3 and 13). A handful of masks understates their share of the uncertainty somewhat.

    Args:
        objective: The weighted mean over tasks that the average row compares.
        one: The first.
        other: The second.
        seed: Seed of the resampling.
    """
    rng = np.random.default_rng(seed)
    masks = _mask_shares(rng, len(one.seeds)), _mask_shares(rng, len(other.seeds))
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
    mean = ScoreComparison(
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
    return PairComparison(one.name, other.name, mean, tuple(rows))


def _terms(objective: Objective, results: Results) -> list[Term]:
    """Return the objective's terms, each likelihood followed by its task's right-or-wrong metrics."""
    terms = []
    answers = results.answers
    for term in objective.terms:
        terms.append(term)
        if term.metric in (GOLD_PROBABILITY, BITS_PER_BYTE):
            for metric, rows in answers[answers["task"] == term.label].groupby("metric", sort=True):
                if rows["value"].isin((0.0, 1.0)).all():
                    terms.append(Term(term.label, str(metric), 0.0, True))
    return terms


def _mask_shares(rng: np.random.Generator, masks: int) -> Array:
    """Return the share of each mask in each resample; shape ``(SAMPLES, masks)``, each row sums to 1."""
    return rng.multinomial(masks, np.full(masks, 1 / masks), size=SAMPLES) / masks


def _row(
    term: Term, one: ScoredCompetitor, other: ScoredCompetitor, masks: tuple[Array, Array], rng: np.random.Generator
) -> tuple[ScoreComparison, Array]:
    """Return one task's row, and the difference of utilities in every resample."""
    first, second, weight = _values(term, one.results, other.results)
    drawn = _resampled_means(rng, first, second, weight)
    metric = _over(drawn[0], masks[0]) - _over(drawn[1], masks[1])
    utilities = _over(term.utility(drawn[0]), masks[0]) - _over(term.utility(drawn[1]), masks[1])
    tail = 100 * (1 - LEVEL) / 2
    low, high = (float(end) for end in np.percentile(metric, [tail, 100 - tail]))
    scores = [float(np.mean([r.scores[term.key].value for r in f.results])) for f in (one, other)]
    right_or_wrong = bool(np.isin(np.concatenate([first, second]), (0.0, 1.0)).all())
    test = mcnemar_exact if right_or_wrong else wilcoxon_signed_rank
    p_values = tuple(test(a, b) for a in first for b in second)
    row = ScoreComparison(
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


def _resampled_means(rng: np.random.Generator, first: Array, second: Array, weight: Array) -> tuple[Array, Array]:
    """Return each mask's weighted mean in every resample of the questions; shapes (SAMPLES, masks)."""
    share, step = np.full(len(weight), 1 / len(weight)), 500
    means: list[tuple[Array, Array]] = []
    for _ in range(SAMPLES // step):
        counts = rng.multinomial(len(weight), share, size=step) * weight
        total = counts.sum(axis=1, keepdims=True)
        means.append((counts @ first.T / total, counts @ second.T / total))
    return np.concatenate([a for a, _ in means]), np.concatenate([b for _, b in means])


def _values(term: Term, first: Sequence[Results], second: Sequence[Results]) -> tuple[Array, Array, Array]:
    """Return both scored_competitors' values, shape (masks, questions), and the questions' weights."""
    columns = [paired(results.answers, second[0].answers, term.label, term.metric) for results in first]
    others = [paired(first[0].answers, results.answers, term.label, term.metric) for results in second]
    return np.stack([column[0] for column in columns]), np.stack([column[1] for column in others]), columns[0][2]


def _over(values: Array, masks: Array) -> Array:
    """Return the mean over masks in every resample; both arguments have shape ``(SAMPLES, masks)``."""
    return np.asarray((values * masks).sum(axis=1))


def _quantiles() -> float:
    """Return standard errors by which a true difference must exceed 0 to be detected at `LEVEL` with `POWER`."""
    return float(stats.norm.ppf((1 + LEVEL) / 2) + stats.norm.ppf(POWER))
