"""Made-up answers for tests of the search room."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from evals.scores.results import Cost, Results, Score

COST = Cost(tokens_run=0, tokens_full=0, tokens_generated=0, seconds=0.0)


def answers(columns: Mapping[tuple[str, str], Any], weights: Sequence[float] | None = None) -> Results:
    """Return results in which question i of each task has the i-th value of ``(task, metric)``."""
    rows = [
        (task, task, f"{task}-{index}", metric, float(value), 1.0 if weights is None else float(weights[index]))
        for (task, metric), values in columns.items()
        for index, value in enumerate(values)
    ]
    frame = pd.DataFrame(rows, columns=["task", "leaf", "question", "metric", "value", "weight"])
    scores = {}
    for (task, metric), part in frame.groupby(["task", "metric"]):
        mean = float((part["value"] * part["weight"]).sum() / part["weight"].sum())
        higher = metric != "gold_bits_per_byte"
        scores[f"{task}/{metric}"] = Score(value=mean, stderr=None, n=len(part), higher_is_better=higher)
    return Results(answers=frame, scores=scores, cost=COST)
