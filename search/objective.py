"""The objective: what a study's tasks are worth together, and how sure a difference is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evals.results import Results
from evals.statistics import Interval
from evals.tasks import LoadedTask

BITS_PER_BYTE = "gold_bits_per_byte"
GOLD_PROBABILITY = "gold_prob"

Array = NDArray[np.float64]


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
class Objective:
    """The weighted mean of the tasks' utilities, larger is better.

    Attributes:
        terms: Its tasks.
    """

    terms: tuple[Term, ...]

    def value(self, results: Results) -> float:
        """Return the objective of one candidate from its aggregated scores."""
        return float(sum(t.weight * t.utility(results.scores[t.key].value) for t in self.terms))

    def difference(
        self, one: Results, other: Results, *, level: float = 0.95, samples: int = 10_000, seed: int = 0
    ) -> Interval:
        """Return ``value(one) - value(other)`` with a paired percentile bootstrap interval, stratified by task.

        Questions are drawn with replacement inside each task, the same ones for both (Efron & Tibshirani, 1993,
        chapter 13; Koehn, 2004, for the paired form on test sets).
        """
        rng = np.random.default_rng(seed)
        draws = np.zeros(samples)
        for term in self.terms:
            a, b, weight = paired(one.answers, other.answers, term.label, term.metric)
            counts = rng.multinomial(len(a), np.full(len(a), 1 / len(a)), size=samples) * weight
            total = counts.sum(axis=1)
            draws += term.weight * (term.utility(counts @ a / total) - term.utility(counts @ b / total))
        tail = 100 * (1 - level) / 2
        low, high = np.percentile(draws, [tail, 100 - tail])
        return Interval(self.value(one) - self.value(other), float(low), float(high), level)

    def gains(self, one: pd.DataFrame, other: pd.DataFrame) -> Mapping[str, Array]:
        """Return question by question what ``one`` gains over ``other``, per task, in the most telling metric.

        Multiple choice is judged by the gold answer's probability, which moves on every question, where right or
        wrong moves on few.
        """
        gains: dict[str, Array] = {}
        for term in self.terms:
            have = set(one.loc[one["task"] == term.label, "metric"])
            metric = GOLD_PROBABILITY if GOLD_PROBABILITY in have else term.metric
            a, b, _ = paired(one, other, term.label, metric)
            scale = term if metric == term.metric else Term(term.label, metric, term.weight, True)
            gains[term.label] = scale.utility(a) - scale.utility(b)
        return gains


def paired(one: pd.DataFrame, other: pd.DataFrame, label: str, metric: str) -> tuple[Array, Array, Array]:
    """Return both candidates' values, and the weights, on the questions of a task that both answered."""
    columns = ["leaf", "question", "value", "weight"]
    a, b = (frame.loc[(frame["task"] == label) & (frame["metric"] == metric), columns] for frame in (one, other))
    both = a.merge(b, on=["leaf", "question"], suffixes=("_one", "_other"), validate="one_to_one")
    return (
        both["value_one"].to_numpy(np.float64),
        both["value_other"].to_numpy(np.float64),
        both["weight_one"].to_numpy(np.float64),
    )
