"""The study store: an Optuna storage that holds every trial, every answer and every score, and is the truth.

Two Optuna studies share the storage. ``NAME`` holds the trials, as samplers and optuna-dashboard read them;
``NAME.scores`` holds what was scored outside the search: baselines, finalists, and both on the test questions.
"""

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from evals.questions import Question
from evals.results import Cost, Results, Score
from search.errors import StoreError
from search.records import Failed, Part, Scored, Seconds
from search.study import LoadedStudy, differences

RECORD = "record"
OWNER = "owner"
_IDENTITY = "identity"


class Store:
    """What a study has found so far.

    Args:
        url: An Optuna storage URL, or ``journal:FILE``.
        study: The study that runs on it.

    Raises:
        StoreError: The storage cannot be opened, or its study of this name is another one.
    """

    def __init__(self, url: str, study: LoadedStudy) -> None:
        self.url = url
        name = study.file.study
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            storage = _open(url)
            self.trials = optuna.create_study(
                study_name=name, storage=storage, direction="maximize", load_if_exists=True
            )
            self._scores = optuna.create_study(
                study_name=f"{name}.scores", storage=storage, direction="maximize", load_if_exists=True
            )
        except (SQLAlchemyError, OSError, ImportError, ValueError) as error:
            raise StoreError(f"store {url}: cannot be opened: {_first_line(error)}") from None
        self._claim(study)
        self._known = {
            (r["part"], r["digest"]): r for r in (t.user_attrs[RECORD] for t in self._scores.get_trials(deepcopy=False))
        }

    def _claim(self, study: LoadedStudy) -> None:
        mine = study.identity()
        theirs = self.trials.user_attrs.get(_IDENTITY)
        if theirs is None:
            self.trials.set_user_attr(_IDENTITY, mine)
        elif theirs != mine:
            changes = list(differences(theirs, mine))
            raise StoreError(
                f"store {self.url}: holds another study called '{study.file.study}'; it differs in "
                + "; ".join(changes[:5])
                + (f" and {len(changes) - 5} more" if len(changes) > 5 else "")
                + "; choose another study name or another --out, or restore the file (trials, finalists and "
                "max_hours may change)"
            )

    def pin(self, key: str, value: object, remedy: str) -> None:
        """Record a fact of the study once, such as the hashes of its parents, and refuse a later different one.

        Raises:
            StoreError: The store has another value.
        """
        value = json.loads(json.dumps(value))
        theirs = self.trials.user_attrs.get(key)
        if theirs is None:
            self.trials.set_user_attr(key, value)
        elif theirs != value:
            changes = list(differences(theirs, value))
            raise StoreError(f"store {self.url}: {key} changed since the study began: {changes[0]}; {remedy}")

    def pinned(self, key: str) -> object:
        """Return a pinned fact, None before it is pinned."""
        return self.trials.user_attrs.get(key)

    def finished(self) -> list[FrozenTrial]:
        """Return the trials that are done, in the order of their numbers."""
        states = (TrialState.COMPLETE, TrialState.FAIL)
        return [t for t in self.trials.get_trials(deepcopy=False, states=states) if RECORD in t.user_attrs]

    def abandoned(self) -> list[FrozenTrial]:
        """Return the trials that a process of this host began and did not live to finish, oldest first."""
        running = self.trials.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [t for t in running if not _alive(t.user_attrs.get(OWNER))]

    def own(self, trial: optuna.Trial) -> None:
        """Note which process runs a trial, so that another can tell when it died."""
        trial.set_user_attr(OWNER, {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()})

    def tell(
        self,
        trial: optuna.Trial,
        outcome: Scored | Failed,
        told: float,
        record: Mapping[str, Any],
        questions: Sequence[Question],
    ) -> None:
        """Finish a trial: its record first, then its state, so that a told trial always has its answers.

        Args:
            trial: The trial.
            outcome: What became of it.
            told: Value for the sampler.
            record: Plain facts worth keeping: recipe, times.
            questions: The questions of its part, in order.
        """
        if isinstance(outcome, Failed):
            trial.set_user_attr(RECORD, {**record, "reason": outcome.reason, "failure": outcome.kind})
            self.trials.tell(trial, state=TrialState.FAIL)
            return
        trial.set_user_attr(RECORD, {**record, **_pack(outcome, questions)})
        self.trials.tell(trial, told)

    def learn(self, parameters: Mapping[str, Any], distributions: Mapping[str, Any], value: float, note: str) -> None:
        """Give the samplers a scored recipe to learn from that no trial asked for (a baseline inside the space)."""
        self.trials.add_trial(
            create_trial(
                params=dict(parameters), distributions=dict(distributions), value=value, user_attrs={"baseline": note}
            )
        )

    def learned(self) -> set[str]:
        """Return the names of the baselines that the samplers know."""
        found = (t.user_attrs.get("baseline") for t in self.trials.get_trials(deepcopy=False))
        return {name for name in found if isinstance(name, str)}

    def recall(self, part: Part, digest: str, questions: Sequence[Question]) -> tuple[Scored, Mapping[str, Any]] | None:
        """Return what a recipe scored on a part outside the search, if it was scored."""
        record = self._known.get((part, digest))
        return None if record is None else (unpack(record, questions), record)

    def outside(self) -> list[dict[str, Any]]:
        """Return the records of everything that was scored outside the search."""
        return list(self._known.values())

    def remember(
        self, part: Part, digest: str, scored: Scored, questions: Sequence[Question], record: Mapping[str, Any]
    ) -> None:
        """Keep what a recipe scored on a part outside the search."""
        packed = {**record, "part": part, "digest": digest, **_pack(scored, questions)}
        self._scores.add_trial(create_trial(value=scored.value, user_attrs={RECORD: packed}))
        self._known[part, digest] = packed


def default_url(folder: Path) -> str:
    """Return the store of a study that names none: ``study.db`` in its folder."""
    return f"sqlite:///{(folder / 'study.db').resolve()}"


def unpack(record: Mapping[str, Any], questions: Sequence[Question]) -> Scored:
    """Return the scored candidate of a record.

    Args:
        record: What ``Store.tell`` or ``Store.remember`` kept.
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


def _pack(scored: Scored, questions: Sequence[Question]) -> dict[str, Any]:
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


def _open(url: str) -> BaseStorage:
    if url.startswith("journal:"):
        return JournalStorage(JournalFileBackend(url.removeprefix("journal:")))
    return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None)


def _alive(owner: Mapping[str, Any] | None) -> bool:
    if owner is None or owner["host"] != socket.gethostname():
        return owner is not None
    if owner["pid"] == os.getpid():
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
