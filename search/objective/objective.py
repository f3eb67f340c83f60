"""The objective: what a study's tasks are worth together, and how sure a difference is."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evals.scores.results import Results
from evals.scores.statistics import Interval
from evals.tasks.loading import LoadedTask

BITS_PER_BYTE = "gold_bits_per_byte"
GOLD_PROBABILITY = "gold_prob"

Array = NDArray[np.float64]
Counts = NDArray[np.uint16]
"""How often a question is drawn, shape (draws, questions)."""
KEPT = 64_000_000
"""Counts of a bootstrap that are kept for the next one on as many questions: drawing them is most of its time."""


@dataclass(frozen=True)
class Term:
    """One task of the objective.

    Attributes:
        label: The task or group, as the study names it.
        metric: Its metric.
        weight: Its share, normalised so that all shares add up to 1.
        higher_is_better: Direction of the metric.
    """

    label: str
    metric: str
    weight: float
    higher_is_better: bool

    @property
    def key(self) -> str:
        """Return ``TASK/METRIC``, the name of the score."""
        return f"{self.label}/{self.metric}"

    def utility(self, value: Array | float) -> Array:
        """Turn a metric into something to maximise.

        Bits per byte b become 2 ** -b, the geometric mean of the probability of a byte of the gold text: it
        lies between 0 and 1 as accuracies do, so that a mean over tasks is not ruled by one unit. Any other
        metric where lower is better changes its sign.
        """
        value = np.asarray(value, dtype=np.float64)
        if self.metric == BITS_PER_BYTE:
            return np.exp2(-value)
        return value if self.higher_is_better else -value

    def metric_value(self, utility: float) -> float:
        """Turn a utility back into the metric."""
        if self.metric == BITS_PER_BYTE:
            return -float(np.log2(utility))
        return utility if self.higher_is_better else -utility


def terms_of(tasks: Sequence[LoadedTask]) -> tuple[Term, ...]:
    """Return the terms of a study's tasks; leaves of one group count as one task, shares add up to 1."""
    first = {task.label: task for task in reversed(tasks)}
    total = sum(task.spec.weight for task in first.values())
    found = []
    for label, task in sorted(first.items()):
        metric = task.spec.metric or task.default_metric
        found.append(Term(label, metric, task.spec.weight / total, task.higher_is_better[metric]))
    return tuple(found)


@dataclass(frozen=True)
class Gains:
    """What one candidate gains over another in one task.

    Attributes:
        values: In utility, one for each question that both answered.
        asked: Those questions, by leaf and id.
        left: Questions that only the other answered.
    """

    values: Array
    asked: tuple[tuple[str, str], ...]
    left: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Objective:
    """The weighted mean of the tasks' utilities, larger is better.

    Attributes:
        terms: Its tasks.
    """

    terms: tuple[Term, ...]

    @property
    def counted(self) -> tuple[Term, ...]:
        """Return the terms with a weight; the others are measured for a constraint or to be looked at."""
        return tuple(term for term in self.terms if term.weight > 0)

    def value(self, results: Results) -> float:
        """Return the objective of one candidate from its aggregated scores."""
        return float(sum(t.weight * t.utility(results.scores[t.key].value) for t in self.counted))

    def values(self, results: Results) -> tuple[float, ...]:
        """Return the utility of every term that counts, as a Pareto front compares them."""
        return tuple(float(t.utility(results.scores[t.key].value)) for t in self.counted)

    def difference(
        self, one: Results, other: Results, *, level: float = 0.95, samples: int = 10_000, seed: int = 0
    ) -> Interval:
        """Return ``value(one) - value(other)`` with a paired percentile bootstrap interval, stratified by task.

        Questions are drawn with replacement inside each task, the same ones for both (Efron & Tibshirani, 1993,
        chapter 13; Koehn, 2004, for the paired form on test sets).
        """
        columns = [paired(one.answers, other.answers, term.label, term.metric) for term in self.counted]
        draws = np.zeros(samples)
        for term, column, counts in zip(
            self.counted, columns, _draws(tuple(len(a) for a, _, _ in columns), samples, seed), strict=True
        ):
            mine, theirs, total = _sums(counts, column)
            draws += term.weight * (term.utility(mine / total) - term.utility(theirs / total))
        tail = 100 * (1 - level) / 2
        low, high = np.percentile(draws, [tail, 100 - tail])
        return Interval(self.value(one) - self.value(other), float(low), float(high), level)

    def gains(self, one: pd.DataFrame, other: pd.DataFrame) -> Mapping[str, Gains]:
        """Return question by question what ``one``, which may have answered a part, gains over ``other``, per task."""
        found: dict[str, Gains] = {}
        for term in self.counted:
            a, b = _column(one, term.label, term.metric), _column(other, term.label, term.metric)
            asked = tuple(question for question in a if question in b)
            mine, theirs = (np.array([column[q][0] for q in asked], dtype=np.float64) for column in (a, b))
            values = term.utility(mine) - term.utility(theirs)
            found[term.label] = Gains(values, asked, tuple(question for question in b if question not in a))
        return found


def _draws(sizes: tuple[int, ...], samples: int, seed: int) -> Iterable[Counts]:
    """Return how often each question is drawn, task by task; kept for the next comparison unless they are many."""
    return _kept_draws(sizes, samples, seed) if sum(sizes) * samples <= KEPT else _drawn(sizes, samples, seed)


@lru_cache(maxsize=1)
def _kept_draws(sizes: tuple[int, ...], samples: int, seed: int) -> tuple[Counts, ...]:
    return tuple(_drawn(sizes, samples, seed))


def _drawn(sizes: tuple[int, ...], samples: int, seed: int) -> Iterator[Counts]:
    rng = np.random.default_rng(seed)
    for size in sizes:
        counts = np.empty((samples, size), np.uint16)
        for part in _chunks(counts):
            part[:] = rng.multinomial(size, np.full(size, 1 / size), size=len(part))
        yield counts


def _sums(counts: Counts, column: tuple[Array, Array, Array]) -> Array:
    """Return the weighted sums of both candidates' values, and of the weights, in every draw, shape (3, draws)."""
    a, b, weight = column
    values = np.stack([a * weight, b * weight, weight], axis=1)
    return np.concatenate([part.astype(np.float64) @ values for part in _chunks(counts)]).T


def _chunks(counts: Counts) -> Iterator[Counts]:
    """Go through some draws at a time, so that no more than a few megabytes are worked on at once."""
    step = max(1, 1_000_000 // max(1, counts.shape[1]))
    return (counts[start : start + step] for start in range(0, len(counts), step))


def question_values(objective: Objective, answers: pd.DataFrame) -> "pd.Series[float]":
    """Return one candidate's utility on every question, by leaf and question."""
    parts = []
    for term in objective.counted:
        rows = answers[(answers["task"] == term.label) & (answers["metric"] == term.metric)]
        values = term.utility(rows["value"].to_numpy(np.float64))
        parts.append(pd.Series(values, index=pd.MultiIndex.from_frame(rows[["leaf", "question"]])))
    return pd.concat(parts)


def paired(one: pd.DataFrame, other: pd.DataFrame, label: str, metric: str) -> tuple[Array, Array, Array]:
    """Return both candidates' values, and the weights, on the questions of a task that both answered."""
    a, b = _column(one, label, metric), _column(other, label, metric)
    both = [question for question in a if question in b]
    values = np.array([(*a[question], b[question][0]) for question in both], dtype=np.float64).reshape(-1, 3)
    return values[:, 0], values[:, 2], values[:, 1]


def _column(frame: pd.DataFrame, label: str, metric: str) -> dict[tuple[str, str], tuple[float, float]]:
    """Return value and weight of every question of a task; plain Python, since the race asks this after each block."""
    rows = (frame["task"].to_numpy() == label) & (frame["metric"].to_numpy() == metric)
    names = ("leaf", "question", "value", "weight")
    leaves, questions, values, weights = (frame[name].to_numpy()[rows] for name in names)
    return dict(zip(zip(leaves, questions, strict=True), zip(values, weights, strict=True), strict=True))
