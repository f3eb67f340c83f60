"""Answers question by question, and the scores that lm-eval's own aggregation makes of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

COLUMNS = ("task", "leaf", "question", "metric", "value", "weight")


@dataclass(frozen=True)
class Cost:
    """What scoring took.

    Attributes:
        tokens_run: Tokens that went through the model.
        tokens_full: Tokens that would have without sharing: every request on its own, unpadded.
        tokens_generated: Tokens that were generated and kept.
        seconds: Wall-clock time.
    """

    tokens_run: int = 0
    tokens_full: int = 0
    tokens_generated: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.tokens_run + other.tokens_run,
            self.tokens_full + other.tokens_full,
            self.tokens_generated + other.tokens_generated,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True)
class Score:
    """One aggregated score.

    Attributes:
        value: In the metric's own unit.
        stderr: Standard error over questions; None where there is no closed form.
        n: Questions behind it.
        higher_is_better: Direction.
    """

    value: float
    stderr: float | None
    n: int
    higher_is_better: bool


class Item(NamedTuple):
    """What lm-eval's metric gave for one question, before it became a number."""

    label: str
    leaf: str
    question: str
    metric: str
    raw: Any
    weight: float

    @property
    def value(self) -> float:
        """A number for the table: lists are averaged, a (gold, predicted) pair is right or wrong."""
        return _number(self.raw)


def _number(raw: Any) -> float:
    if isinstance(raw, tuple) and len(raw) == 2:
        gold, predicted = raw
        return float(gold == predicted) if not hasattr(predicted, "__len__") else float("nan")
    if isinstance(raw, list | tuple):
        return float(sum(raw) / len(raw)) if raw and all(isinstance(x, int | float) for x in raw) else float("nan")
    return float(raw) if isinstance(raw, int | float) or hasattr(raw, "__float__") else float("nan")


Aggregate = Callable[[Sequence[Item]], dict[str, Score]]


@dataclass(frozen=True)
class Results:
    """What one candidate answered.

    Attributes:
        answers: One row per question and metric: ``task`` (label), ``leaf``, ``question`` (id), ``metric``,
            ``value``, and ``weight`` (bytes of the gold text for ``gold_bits_per_byte``, else 1).
        scores: ``label/metric`` to its aggregated score.
        cost: What it took.
        items: The metrics' raw values, which aggregation needs.
        aggregate: Makes scores of items.
    """

    answers: pd.DataFrame
    scores: dict[str, Score]
    cost: Cost
    items: tuple[Item, ...] = field(default=(), repr=False, compare=False)
    aggregate: Aggregate | None = field(default=None, repr=False, compare=False)

    def asked(self) -> int:
        """Return the number of questions that were answered."""
        return len(self.answers[["leaf", "question"]].drop_duplicates())


def results_of(items: Sequence[Item], aggregate: Aggregate, cost: Cost) -> Results:
    """Make the table and the scores of `items`."""
    rows = [(i.label, i.leaf, i.question, i.metric, i.value, float(i.weight)) for i in items]
    return Results(pd.DataFrame(rows, columns=list(COLUMNS)), aggregate(items), cost, tuple(items), aggregate)


def merge_results(parts: Sequence[Results]) -> Results:
    """Put blocks of one evaluation together; scores are recomputed from all answers.

    Raises:
        ValueError: Without parts, or when a part was read back from a store and has lost its raw values.
    """
    aggregate = parts[0].aggregate if parts else None
    if aggregate is None or not all(part.items for part in parts):
        raise ValueError("merge_results: parts must come from Evaluation.run, got none or some without raw values")
    cost = sum((part.cost for part in parts), Cost())
    return results_of([item for part in parts for item in part.items], aggregate, cost)
