"""The record of a scored candidate as plain values, and back: what the store keeps of every answer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from evals.questions import Question
from evals.results import Cost, Results, Score
from search.records import Scored, Seconds

RECORD = "record"
"""Name under which a trial keeps it."""


def unpack(record: Mapping[str, Any], questions: Sequence[Question]) -> Scored:
    """Return the scored candidate of a record.

    Args:
        record: What ``pack`` gave.
        questions: The questions of its part, in the order of that time.
    """
    by_leaf: dict[str, list[str]] = {}
    for question in questions:
        by_leaf.setdefault(question.task, []).append(question.id)
    rows = [
        (column["task"], column["leaf"], question, column["metric"], value, weight)
        for column in record["answers"]
        for question, value, weight in zip(
            by_leaf[column["leaf"]],
            column["values"],
            column.get("weights") or [1.0] * len(column["values"]),
            strict=True,
        )
        if value is not None
    ]
    answers = pd.DataFrame(rows, columns=["task", "leaf", "question", "metric", "value", "weight"])
    for name in ("value", "weight"):
        answers[name] = answers[name].astype("float32").astype("float64")
    scores = {name: Score(**score) for name, score in record["scores"].items()}
    results = Results(answers=answers, scores=scores, cost=Cost(**record["cost"]))
    return Scored(results, record["value"], record.get("stopped_after"), Seconds(**record["seconds"]))


def pack(scored: Scored, questions: Sequence[Question]) -> dict[str, Any]:
    """Return the record of a scored candidate; answers stand in the order of the questions, as float32."""
    order: dict[str, list[str]] = {}
    for question in questions:
        order.setdefault(question.task, []).append(question.id)
    columns = []
    for (task, leaf, metric), part in scored.results.answers.groupby(["task", "leaf", "metric"], sort=True):
        values = dict(zip(part["question"], part["value"], strict=True))
        column: dict[str, Any] = {
            "task": task,
            "leaf": leaf,
            "metric": metric,
            "values": [_rounded(values.get(question)) for question in order[str(leaf)]],
        }
        if (part["weight"] != 1.0).any():
            weights = dict(zip(part["question"], part["weight"], strict=True))
            column["weights"] = [_rounded(weights.get(question)) for question in order[str(leaf)]]
        columns.append(column)
    return {
        "answers": columns,
        "scores": {name: asdict(score) for name, score in scored.results.scores.items()},
        "cost": asdict(scored.results.cost),
        "value": scored.value,
        "stopped_after": scored.stopped_after,
        "seconds": scored.seconds.as_dict(),
    }


def _rounded(value: float | None) -> float | None:
    """Return the shortest number that is the same float32."""
    return None if value is None else float(str(np.float32(value)))
