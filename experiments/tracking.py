"""The MLflow mirror: one experiment per study, one run for the study, a child run per scored candidate.

The only module that imports mlflow, and only when the first record comes. The mirror is for people's eyes: the study's
own store is the truth, from which the mirror can be made again, so a fault here is told once and never stops a search.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from filelock import FileLock

from evals.results import Results
from experiments.naming import batches, safe_name, safely_named
from merge.card import as_text
from search.records import TrialRecord, Verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Param, Run

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Set before mlflow is imported unless the user has: no reports home, no chatter, no long wait for a server."""

STUDY_ID = "mergesearch.study_id"
RECORD = "mergesearch.record"
PARENT = "mlflow.parentRunId"
DIGEST = "mergesearch.digest"
ALIAS = "best"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Opens the experiment at its table of runs; without it MLflow's page shows tools for chats."""
PARAMS_AT_ONCE, METRICS_AT_ONCE, PARAM, TAG = 100, 900, 6000, 5000
"""MLflow's limits: entries per call, characters of a parameter, of a tag."""


@dataclass(frozen=True)
class _Store:
    """An open MLflow store with this study's run in it.

    Attributes:
        client: Talks to the store.
        experiment: Id of the study's experiment.
        run: Id of the study's run.
        children: Record key to run id and whether the run was written to its end.
    """

    client: "MlflowClient"
    experiment: str
    run: str
    children: dict[str, tuple[str, bool]]


@dataclass
class MlflowMirror:
    """Mirrors a study to MLflow, each record once, however often it is given.

    Nothing is opened before the first record. Any fault of the store is told through ``say`` in one line, and the
    mirror is off from then on.

    Args:
        uri: MLflow tracking URI. Beside a sqlite file, artifacts go to ``mlartifacts``; else where the server says.
        study: Name of the study and of the experiment.
        study_id: Digest of the study's identity; its run is found again by it.
        say: Takes one line for a person.
        folder: The study's folder, for the files that a finished study leaves and for the remedy's wording.
        figures: Makes the Plotly figures of a finished study, by name.
    """

    uri: str
    study: str = field(kw_only=True)
    study_id: str = field(kw_only=True)
    say: Callable[[str], None] = field(kw_only=True)
    folder: Path | None = field(default=None, kw_only=True)
    figures: Callable[[], Mapping[str, Any]] | None = field(default=None, kw_only=True)
    _store: _Store | None = field(default=None, init=False, repr=False)
    _off: bool = field(default=False, init=False, repr=False)
    _best: float | None = field(default=None, init=False, repr=False)

    def log_trial(self, record: TrialRecord) -> None:
        """Mirror a baseline, trial or finalist; one that is mirrored already costs nothing. Never raises."""
        self._guarded(lambda: self._mirror(record))

    def log_verdict(self, verdict: Verdict) -> None:
        """Write the verdict to the study's run and close it. Never raises."""
        self._guarded(lambda: self._conclude(verdict))

    def sync(self, records: Sequence[TrialRecord]) -> int:
        """Mirror whatever is missing of a study's records; return how many are in the mirror afterwards."""
        for record in records:
            self.log_trial(record)
        if self._off or self._store is None:
            return 0
        return sum(1 for _, complete in self._store.children.values() if complete)

    def _guarded(self, action: Callable[[], None]) -> None:
        if self._off:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 - a search never stops for its mirror
            self._off = True
            why = " ".join(str(error).split())[:200] or type(error).__name__
            self.say(
                f"mlflow mirror is off: {self.uri}: {why}; rebuild it later with 'mergesearch mlflow-sync "
                f"{self.folder or self.study}'"
            )

    def _opened(self) -> _Store:
        if self._store is None:
            self._store = _open(self.uri, self.study, self.study_id)
        return self._store

    def _mirror(self, record: TrialRecord) -> None:
        store = self._opened()
        improved = self._improvement(record)
        key = f"{record.kind}/{record.part}/{record.number}/{record.name}"[:TAG]
        run, complete = store.children.get(key, ("", False))
        if complete:
            return
        if not run:
            run = store.client.create_run(
                store.experiment,
                start_time=_milliseconds(record.started),
                tags={PARENT: store.run, STUDY_ID: self.study_id, RECORD: key, **_record_tags(record)},
                run_name=record.name if record.part == "search" else f"{record.name} ({record.part})",
            ).info.run_id
            store.children[key] = run, False
        _log_values(store.client, run, record)
        store.client.log_text(run, record.recipe_yaml, "recipe.yaml")
        if record.results is not None:
            store.client.log_text(run, record.results.answers.to_csv(index=False), "answers.csv")
            if record.state == "complete":
                _log_questions(store.client, run, record.part, record.results)
            if record.kind == "baseline":
                _log_questions(store.client, store.run, record.part, record.results)
        if improved:
            history = {"objective": record.metrics["objective"], "best_objective": self._best or 0.0}
            _log_metrics(store.client, store.run, history, record.ended, step=record.number)
        status = "FAILED" if record.state == "failed" else "FINISHED"
        store.client.set_terminated(run, status=status, end_time=_milliseconds(record.ended))
        store.children[key] = run, True

    def _improvement(self, record: TrialRecord) -> bool:
        """Take up a trial's objective; return whether the study's curve gets a point for it."""
        value = record.metrics.get("objective")
        if record.kind != "trial" or record.part != "search" or record.state != "complete" or value is None:
            return False
        self._best = value if self._best is None else max(self._best, value)
        return True

    def _conclude(self, verdict: Verdict) -> None:
        store = self._opened()
        metrics = {f"test/{name}": value for name, value in verdict.scores.get(verdict.winner, {}).items()}
        metrics |= {"test/objective": verdict.test_value, "optimism": verdict.optimism}
        if verdict.comparisons:
            interval = verdict.comparisons[0].objective
            metrics |= {"against_best_parent": interval.estimate, "against_best_parent/low": interval.low}
        now = time.time()
        _log_metrics(store.client, store.run, metrics, now)
        for name, value in (("winner", verdict.winner), ("family", verdict.family), ("digest", verdict.digest)):
            store.client.set_tag(store.run, name, value[:TAG])
        store.client.log_text(store.run, verdict.recipe_yaml, "best.yaml")
        for name in ("study.yaml", "table.md", "trials.csv", "verdict.json", "report.html"):
            if self.folder is not None and (self.folder / name).is_file():
                store.client.log_artifact(store.run, str(self.folder / name))
        if self.figures is not None:
            for name, figure in self.figures().items():
                kept = {"include_plotlyjs": True}  # by default the page would fetch the library from the network
                store.client.log_figure(store.run, figure, f"plots/{safe_name(name)}.html", save_kwargs=kept)
        _register(store, safe_name(self.study), verdict)
        store.client.set_terminated(store.run, end_time=_milliseconds(now))


def _open(uri: str, study: str, study_id: str) -> _Store:
    """Open the store and find, or begin, the study's experiment and run."""
    database = _sqlite_file(uri)
    if database is not None:
        _check_sqlite(database)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if database is not None:
        _make_whole(database)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    location = None if database is None else (database.parent / "mlartifacts" / safe_name(study)).as_uri()
    experiment = _experiment(client, study, location)
    mine = f"tags.`{STUDY_ID}` = '{study_id}'"
    runs = {run.info.run_id: run for run in _runs(client, experiment, mine)}
    studies = [name for name, run in runs.items() if PARENT not in run.data.tags]
    started = studies[-1] if studies else None
    if started is None:
        tags = {STUDY_ID: study_id, "mlflow.source.name": "mergesearch"}
        started = client.create_run(experiment, tags=tags, run_name=study).info.run_id
    children = {
        run.data.tags[RECORD]: (name, run.info.status in {"FINISHED", "FAILED"})
        for name, run in runs.items()
        if run.data.tags.get(PARENT) == started and RECORD in run.data.tags
    }
    return _Store(client, experiment, started, children)


def _experiment(client: "MlflowClient", study: str, location: str | None) -> str:
    """Return the id of the experiment of that name; one that was deleted is brought back."""
    found = client.get_experiment_by_name(study)
    if found is None:
        return str(client.create_experiment(study, artifact_location=location, tags=KIND))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _runs(client: "MlflowClient", experiment: str, where: str) -> Iterator["Run"]:
    token = None
    while True:
        page = client.search_runs([experiment], where, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _log_values(client: "MlflowClient", run: str, record: TrialRecord) -> None:
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
    _log_metrics(client, run, {**measured, **holes, **seconds}, record.ended, params=head)
    for part in rest:
        client.log_batch(run, params=part)


def _prefix(record: TrialRecord) -> str:
    """Return what sets a record's scores apart: those of a stopped trial, of selection and of test questions."""
    if record.state == "stopped":
        return "partial/"
    return "" if record.part == "search" else f"{record.part}/"


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _register(store: _Store, name: str, verdict: Verdict) -> None:
    """Register the winner as a model version that points at its recipe; no weights are copied.

    The same winner again changes nothing but the alias.
    """
    from mlflow.exceptions import MlflowException

    client, source = store.client, f"runs:/{store.run}/winner"
    client.log_text(store.run, verdict.recipe_yaml, "winner/best.yaml")
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name, description="Winners of a mergesearch study, by reference: recipes only.")
    known = {v.tags.get(DIGEST): v for v in client.search_model_versions(f"name = '{name}'") if v.source == source}
    version = known.get(verdict.digest)
    if version is None:
        tags = {DIGEST: verdict.digest, "winner": verdict.winner[:TAG], "family": verdict.family[:TAG]}
        words = f"{as_text(verdict.winner)}: objective {verdict.test_value:.4f} on test questions; weights: mergesearch export"
        version = client.create_model_version(name, source, store.run, tags=tags, description=words)
    client.set_registered_model_alias(name, ALIAS, version.version)


def _log_metrics(
    client: "MlflowClient",
    run: str,
    metrics: Mapping[str, float],
    when: float,
    *,
    step: int = 0,
    params: Sequence["Param"] = (),
) -> None:
    from mlflow.entities import Metric

    entries = [Metric(name, float(value), _milliseconds(when), step) for name, value in safely_named(metrics).items()]
    head, *rest = batches(entries, METRICS_AT_ONCE)
    client.log_batch(run, metrics=head, params=params)
    for part in rest:
        client.log_batch(run, metrics=part)


def _log_questions(client: "MlflowClient", run: str, part: str, results: Results) -> None:
    """Name a part's questions as inputs of a run, one data set per task; the same ones again change nothing."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for task, questions in results.answers.groupby("task")["question"]:
        known = sorted(set(questions))
        digest = hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]
        profile = json.dumps({"num_rows": len(known)})
        data = Dataset(f"{task} {part}", digest, "lm-eval", json.dumps({"task": task, "part": part}), profile=profile)
        inputs.append(DatasetInput(data, [InputTag("mlflow.data.context", part)]))
    client.log_inputs(run, datasets=inputs)


def _record_tags(record: TrialRecord) -> dict[str, str]:
    tags = {
        "number": str(record.number),
        "kind": record.kind,
        "part": record.part,
        "family": record.family,
        "state": record.state,
        "reason": record.reason or "",
    }
    return {name: value[:TAG] for name, value in tags.items() if value}


def _sqlite_file(uri: str) -> Path | None:
    """Return the file of a sqlite URI; None for other stores."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///")).absolute()


def _check_sqlite(path: Path) -> None:
    """Raise at once what mlflow would try again for minutes: no folder, no right to write, not a database."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=5.0)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        connection.rollback()


def _make_whole(path: Path) -> None:
    """Have mlflow make its tables under another name: half of them, left by a killed process, it never mends."""
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.stat().st_size > 0:
            return
        for left in path.parent.glob(f".{path.name}.*.partial"):
            shutil.rmtree(left, ignore_errors=True)
        from mlflow import MlflowClient

        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".partial") as folder:
            draft = Path(folder) / path.name
            MlflowClient(tracking_uri=f"sqlite:///{draft}").search_experiments(max_results=1)
            draft.replace(path)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
