"""The record of a scored candidate as plain values, and back: what the store keeps of every answer.

Answers are kept as float32 in the order of the questions, compressed: as JSON numbers a store would be three times as
large, and a journal, which every process of a study holds in memory, eight times.
"""

import base64
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evals.scores.results import Cost, Results, Score
from evals.tasks.sampling import Question
from search.results.outcome import Scored, Seconds

RECORD = "record"
"""Name under which a trial keeps it."""
NOT_ASKED = np.uint32(0xFFFFFFFF)
"""The bits of an answer that is not there; no answer that is not a number has them."""


class StoredResults(Results):
    """Answers as the store keeps them: their table is made when it is first asked for.

    Of thousands of trials that a study goes through when it is opened, only the leaders' tables are.
    """

    _columns: Sequence[Mapping[str, Any]]
    _questions: Sequence[Question]

    def __init__(self, record: Mapping[str, Any], questions: Sequence[Question]) -> None:
        scores = {name: Score(**score) for name, score in record["scores"].items()}
        fields = {"scores": scores, "cost": Cost(**record["cost"]), "items": (), "aggregate": None}
        for name, value in {**fields, "_columns": record["answers"], "_questions": questions}.items():
            object.__setattr__(self, name, value)  # as a frozen dataclass does itself

    @cached_property
    def answers(self) -> pd.DataFrame:
        """Return the table of answers."""
        return _table(self._columns, self._questions)

    def asked(self) -> int:
        """Return the number of questions that were answered."""
        found: dict[str, NDArray[np.bool_]] = {}
        for column in self._columns:
            leaf = column["leaf"]
            mask = _bits(column["values"]) != NOT_ASKED
            found[leaf] = mask if leaf not in found else found[leaf] | mask
        return int(sum(mask.sum() for mask in found.values()))


def unpack(record: Mapping[str, Any], questions: Sequence[Question]) -> Scored:
    """Return the scored candidate of a record.

    Args:
        record: What ``pack`` gave.
        questions: The questions of its part, in the order of that time.
    """
    seconds, stopped_after, behind = Seconds(**record["seconds"]), record.get("stopped_after"), record.get("behind")
    return Scored(StoredResults(record, questions), record["value"], stopped_after, seconds, behind=behind)


def _table(columns: Sequence[Mapping[str, Any]], questions: Sequence[Question]) -> pd.DataFrame:
    by_leaf = {leaf: np.array(ids, dtype=object) for leaf, ids in _by_leaf(questions).items()}
    bits = [_bits(column["values"]) for column in columns]
    asked = [one != NOT_ASKED for one in bits]
    weights = [
        _bits(column["weights"]) if "weights" in column else np.ones(len(one), "<f4").view("<u4")
        for column, one in zip(columns, bits, strict=True)
    ]
    counts = [int(mask.sum()) for mask in asked]

    def named(key: str) -> NDArray[np.object_]:
        return np.repeat(np.array([column[key] for column in columns], dtype=object), counts)

    ids = [by_leaf[column["leaf"]][mask] for column, mask in zip(columns, asked, strict=True)]
    return pd.DataFrame(
        {
            "task": named("task"),
            "leaf": named("leaf"),
            "question": np.concatenate([*ids, np.array([], dtype=object)]),
            "metric": named("metric"),
            "value": _numbers(one[mask] for one, mask in zip(bits, asked, strict=True)),
            "weight": _numbers(one[mask] for one, mask in zip(weights, asked, strict=True)),
        }
    )


def pack(scored: Scored, questions: Sequence[Question]) -> dict[str, Any]:
    """Return the record of a scored candidate; answers stand in the order of the questions, as float32."""
    order = _by_leaf(questions)
    columns = []
    for (task, leaf, metric), part in scored.results.answers.groupby(["task", "leaf", "metric"], sort=True):
        places = {question: place for place, question in enumerate(order[str(leaf)])}
        asked = [places[question] for question in part["question"]]
        column = {"task": task, "leaf": leaf, "metric": metric, "values": _packed(part["value"], asked, len(places))}
        if (part["weight"] != 1.0).any():
            column["weights"] = _packed(part["weight"], asked, len(places))
        columns.append(column)
    return {
        "answers": columns,
        "scores": {name: asdict(score) for name, score in scored.results.scores.items()},
        "cost": asdict(scored.results.cost),
        "value": scored.value,
        "stopped_after": scored.stopped_after,
        "behind": scored.behind,
        "seconds": scored.seconds.as_dict(),
    }


def _by_leaf(questions: Sequence[Question]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for question in questions:
        found.setdefault(question.task, []).append(question.id)
    return found


def _packed(values: "pd.Series[float]", places: Sequence[int], count: int) -> str:
    """Return numbers at places as text: float32, first bytes first, which are alike, deflated, base64."""
    bits = np.full(count, NOT_ASKED, dtype="<u4")
    bits[places] = values.to_numpy(dtype="<f4").view("<u4")
    planes = bits.view(np.uint8).reshape(count, 4).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 6)).decode("ascii")


def _bits(kept: str | Sequence[float | None]) -> NDArray[np.uint32]:
    """Return the bits of what ``_packed`` gave, or of the list that the first stores have instead."""
    if not isinstance(kept, str):
        numbers = np.array([0.0 if value is None else value for value in kept], dtype="<f4").view("<u4")
        return np.where([value is None for value in kept], NOT_ASKED, numbers)
    planes = np.frombuffer(zlib.decompress(base64.b64decode(kept)), dtype=np.uint8)
    return np.ascontiguousarray(planes.reshape(4, -1).T).view("<u4").ravel()


def _numbers(parts: Iterable[NDArray[np.uint32]]) -> NDArray[np.float64]:
    return np.concatenate([*parts, np.array([], "<u4")]).astype("<u4").view("<f4").astype(np.float64)
