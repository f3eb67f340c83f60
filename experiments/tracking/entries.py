"""What of a record goes into an MLflow run: parameters, metrics, tags, and its questions as data sets."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeGuard

from evals.scores.results import Results
from experiments.tracking.names import batches, safely_named
from search.results.observer import TrialRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Param

PARAMS_AT_ONCE, METRICS_AT_ONCE, PARAM, TAG = 100, 900, 6000, 5000
"""MLflow's limits: entries per call, characters of a parameter, of a tag."""


def log_values(client: "MlflowClient", run: str, record: TrialRecord) -> None:
    """Log parameters and metrics under names that only mean the same where they are the same.

    MLflow compares parameters as text alone; numeric holes are therefore metrics as well (``hole/NAME``), so that
    ``metrics."hole/models.math.weight" > 0.5`` filters. What was not measured on all search questions has a prefix.
    """
    from mlflow.entities import Param

    measured = {f"{_prefix(record)}{name}": value for name, value in record.metrics.items()}
    seconds = {f"seconds/{name}": value for name, value in record.parts.items()}
    holes = {f"hole/{name}": float(value) for name, value in record.params.items() if _is_number(value)}
    params = [Param(name, str(value)[:PARAM]) for name, value in safely_named(record.params).items()]
    head, *rest = batches(params, PARAMS_AT_ONCE)
    log_metrics(client, run, {**measured, **holes, **seconds}, record.ended, params=head)
    for part in rest:
        client.log_batch(run, params=part)


def _prefix(record: TrialRecord) -> str:
    """Return what sets a record's scores apart: those of a stopped trial, of selection and of test questions."""
    if record.state == "stopped":
        return "partial/"
    return "" if record.part == "search" else f"{record.part}/"


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def log_metrics(
    client: "MlflowClient",
    run: str,
    metrics: Mapping[str, float],
    when: float,
    *,
    step: int = 0,
    params: Sequence["Param"] = (),
) -> None:
    """Log metrics, and parameters with them, in as many calls as MLflow needs.

    Args:
        client: The store.
        run: Id of the run.
        metrics: Values by name.
        when: Seconds since 1970.
        step: Place on the curve of each metric.
        params: Parameters to log in the first call; at most `PARAMS_AT_ONCE`.
    """
    from mlflow.entities import Metric

    entries = [Metric(name, float(value), milliseconds(when), step) for name, value in safely_named(metrics).items()]
    head, *rest = batches(entries, METRICS_AT_ONCE)
    client.log_batch(run, metrics=head, params=params)
    for part in rest:
        client.log_batch(run, metrics=part)


def log_questions(client: "MlflowClient", run: str, part: str, results: Results) -> None:
    """Name a part's questions as inputs of a run, one data set per task; the same ones again change nothing."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for task, questions in results.answers.groupby("task")["question"]:
        ids = sorted(set(questions))
        digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
        profile = json.dumps({"num_rows": len(ids)})
        data = Dataset(f"{task} {part}", digest, "lm-eval", json.dumps({"task": task, "part": part}), profile=profile)
        inputs.append(DatasetInput(data, [InputTag("mlflow.data.context", part)]))
    client.log_inputs(run, datasets=inputs)


def record_tags(record: TrialRecord) -> dict[str, str]:
    """Return what a run is found by: number, kind, part, family, state and reason."""
    tags = {
        "number": str(record.number),
        "kind": record.kind,
        "part": record.part,
        "family": record.family,
        "state": record.state,
        "reason": record.reason or "",
    }
    return {name: value[:TAG] for name, value in tags.items() if value}


def milliseconds(seconds: float) -> int:
    """Return seconds since 1970 as MLflow counts them."""
    return round(seconds * 1000)
