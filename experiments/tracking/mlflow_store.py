"""Opens an MLflow store: the study's experiment and run, found again or begun; a database made whole or not at all."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from experiments.tracking.entries import milliseconds
from experiments.tracking.mirror_index import MirrorIndex
from experiments.tracking.names import safe_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

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
INDEX_TAG = "mergesearch.mirror"
"""Tag of the study's run: the token of the index file that lists its children."""
PARENT = "mlflow.parentRunId"
SOURCE = {"mlflow.source.name": "mergesearch"}
NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a description, Markdown."""
GUIDE = (
    "Model training at the top left leads to the runs; the + beside the study opens its trials. "
    'A hole filters as a metric: `metrics."hole/NAME" > 0.5`'
)
"""The experiment's description: MLflow 3.17 opens an experiment among empty pages for agents and folds child runs."""


@dataclass(frozen=True)
class OpenStore:
    """An open MLflow store with this study's run in it.

    Attributes:
        client: Talks to the store.
        experiment: Id of the study's experiment.
        run: Id of the study's run.
        children: Record key to run id and whether the run was written to its end.
        index: Lists the children that hold all of their record; None where no file can.
        begun: Whether the study's run is not known to have an end.
    """

    client: "MlflowClient"
    experiment: str
    run: str
    children: dict[str, tuple[str, bool]]
    index: MirrorIndex | None = None
    begun: bool = True

    def mark_complete(self, key: str, run: str) -> None:
        """Note that a run holds its record, before it is closed: one that is not closed is looked at again."""
        if self.index is not None and not self.index.add(key, run):
            self.client.set_tag(self.run, INDEX_TAG, "")


def open_store(uri: str, study: str, study_id: str, began: float, index: MirrorIndex | None = None) -> OpenStore:
    """Open the store and find, or begin, the study's experiment and run.

    Args:
        uri: MLflow tracking URI.
        study: Name of the study and of the experiment.
        study_id: Digest of the study's identity.
        began: When the study began, in seconds since 1970, for a run that is not there yet.
        index: Lists what the store holds.
    """
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
    indexed = None if index is None else _from_index(client, experiment, study_id, index)
    if indexed is not None:
        return indexed
    of_this_study = f"tags.`{STUDY_ID}` = '{study_id}'"
    runs = {run.info.run_id: run for run in _runs(client, experiment, of_this_study)}
    studies = [name for name, run in runs.items() if PARENT not in run.data.tags]
    started = studies[-1] if studies else None
    if started is None:
        tags = {STUDY_ID: study_id, **SOURCE}
        started = client.create_run(experiment, milliseconds(began), tags, study).info.run_id
    children = {
        run.data.tags[RECORD]: (name, run.info.status in {"FINISHED", "FAILED"})
        for name, run in runs.items()
        if run.data.tags.get(PARENT) == started and RECORD in run.data.tags
    }
    if index is not None:
        index = _indexed(client, started, children, index)
    return OpenStore(client, experiment, started, children, index)


def _from_index(client: "MlflowClient", experiment: str, study_id: str, index: MirrorIndex) -> OpenStore | None:
    """Return the store as its index says; None where another mirror wrote since, or the run is gone."""
    from mlflow.exceptions import MlflowException

    content = index.read()
    if content is None:
        return None
    try:
        run = client.get_run(content.run)
    except MlflowException:
        return None
    found = (
        run.info.experiment_id,
        run.info.lifecycle_stage,
        run.data.tags.get(STUDY_ID),
        run.data.tags.get(INDEX_TAG),
    )
    if found != (experiment, "active", study_id, content.token):
        return None
    children = {key: (name, True) for key, name in content.children.items()}
    for child in _runs(client, experiment, f"tags.`{PARENT}` = '{content.run}' and attributes.status = 'RUNNING'"):
        if RECORD in child.data.tags:
            children[child.data.tags[RECORD]] = child.info.run_id, False
    return OpenStore(client, experiment, content.run, children, index, begun=run.info.status == "RUNNING")


def _indexed(
    client: "MlflowClient", run: str, children: dict[str, tuple[str, bool]], index: MirrorIndex
) -> MirrorIndex | None:
    """Begin an index of what the store holds; None where its file cannot be written."""
    try:
        index.begin(run, {key: name for key, (name, complete) in children.items() if complete})
    except OSError:
        return None
    client.set_tag(run, INDEX_TAG, index.token)
    return index


def _experiment(client: "MlflowClient", study: str, location: str | None) -> str:
    """Return the id of the experiment of that name; one that was deleted is brought back."""
    found = client.get_experiment_by_name(study)
    if found is None:
        return str(client.create_experiment(study, artifact_location=location, tags={NOTE: GUIDE}))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if NOTE not in found.tags:
        client.set_experiment_tag(found.experiment_id, NOTE, GUIDE)
    return str(found.experiment_id)


def _runs(client: "MlflowClient", experiment: str, where: str) -> Iterator["Run"]:
    token = None
    while True:
        page = client.search_runs([experiment], where, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


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
