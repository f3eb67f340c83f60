"""Opens the MLflow mirror of a study, and makes it again from the study's store."""

from collections.abc import Callable
from pathlib import Path

from experiments.errors import ExperimentError, InputError
from experiments.report.page import report_figures
from experiments.running.observers import MirrorObserver
from experiments.study_folder.folder import StudyFolder, read_verdict
from experiments.tracking.address import how_to_open, tracking_uri
from experiments.tracking.mirror import MlflowMirror
from search.storage.replay import replay
from search.study.study import LoadedStudy


def open_mirror(
    study: LoadedStudy, folder: StudyFolder, uri: str, say: Callable[[str], None], *, anew: bool = False
) -> MlflowMirror:
    """Return the MLflow mirror of a study; `anew`, it asks MLflow for everything, whatever is remembered."""
    return MlflowMirror(
        uri,
        study=study.file.study,
        study_id=study.digest(),
        say=say,
        folder=folder.root,
        figures=lambda: report_figures(folder.root),
        anew=anew,
    )


def sync_mirror(root: Path, say: Callable[[str], None]) -> None:
    """Make the MLflow mirror of a study's folder again from its store, without scoring anything.

    Args:
        root: The study's folder.
        say: Takes one line for a person.

    Raises:
        InputError: The folder is no study's, or the study is not tracked.
        ExperimentError: The mirror could not be made; the reason was told.
    """
    folder = StudyFolder(root)
    study = folder.loaded_study()
    uri = tracking_uri(study)
    if uri is None:
        raise InputError(f"{folder.study}: tracking.mlflow: must name a store to mirror to, got nothing")
    mirror = open_mirror(study, folder, uri, say, anew=True)
    count = replay(study, folder.root, MirrorObserver(mirror))
    if folder.verdict.is_file():
        mirror.log_verdict(read_verdict(folder))
    if mirror.off:
        raise ExperimentError(f"{uri}: the mirror is not whole, for the reason above; the same command goes on with it")
    say(f"{count} runs mirrored to {uri}; look at them with: {how_to_open(uri)}")
