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
from experiments.tracking.mirror_index import Mirrored
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
WORD = "mergesearch.mirror"
"""Tag of the study's run: the word of the file that remembers its children."""
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
        mirrored: Remembers the children that are whole; None where nothing does.
        begun: Whether the study's run is not known to have an end.
    """

    client: "MlflowClient"
    experiment: str
    run: str
    children: dict[str, tuple[str, bool]]
    mirrored: Mirrored | None = None
    begun: bool = True

    def whole(self, key: str, run: str) -> None:
        """Remember that a run holds its record, before it is given its end: one that has no end is looked at again."""
        if self.mirrored is not None and not self.mirrored.add(key, run):
            self.client.set_tag(self.run, WORD, "")


def open_store(uri: str, study: str, study_id: str, began: float, mirrored: Mirrored | None = None) -> OpenStore:
    """Open the store and find, or begin, the study's experiment and run.

    Args:
        uri: MLflow tracking URI.
        study: Name of the study and of the experiment.
        study_id: Digest of the study's identity.
        began: When the study began, in seconds since 1970, for a run that is not there yet.
        mirrored: Remembers what the store holds.
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
    known = None if mirrored is None else _remembered(client, experiment, study_id, mirrored)
    if known is not None:
        return known
    mine = f"tags.`{STUDY_ID}` = '{study_id}'"
    runs = {run.info.run_id: run for run in _runs(client, experiment, mine)}
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
    if mirrored is not None:
        mirrored = _kept_up(client, started, children, mirrored)
    return OpenStore(client, experiment, started, children, mirrored)


def _remembered(client: "MlflowClient", experiment: str, study_id: str, mirrored: Mirrored) -> OpenStore | None:
    """Return the store as a file remembers it; None where another mirror was kept up since, or the run is gone."""
    from mlflow.exceptions import MlflowException

    kept = mirrored.read()
    if kept is None:
        return None
    try:
        run = client.get_run(kept.run)
    except MlflowException:
        return None
    theirs = (run.info.experiment_id, run.info.lifecycle_stage, run.data.tags.get(STUDY_ID), run.data.tags.get(WORD))
    if theirs != (experiment, "active", study_id, kept.word):
        return None
    children = {key: (name, True) for key, name in kept.children.items()}
    for child in _runs(client, experiment, f"tags.`{PARENT}` = '{kept.run}' and attributes.status = 'RUNNING'"):
        if RECORD in child.data.tags:
            children[child.data.tags[RECORD]] = child.info.run_id, False
    return OpenStore(client, experiment, kept.run, children, mirrored, begun=run.info.status == "RUNNING")


def _kept_up(
    client: "MlflowClient", run: str, children: dict[str, tuple[str, bool]], mirrored: Mirrored
) -> Mirrored | None:
    """Have a file remember what the store holds from now on; None where it cannot be written."""
    try:
        mirrored.begin(run, {key: name for key, (name, complete) in children.items() if complete})
    except OSError:
        return None
    client.set_tag(run, WORD, mirrored.word)
    return mirrored


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
