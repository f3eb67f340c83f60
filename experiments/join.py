"""Joins a study that another process leads, for a person: what this machine scores, line by line."""

import multiprocessing
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from experiments.errors import InputError
from experiments.models_roots import models_roots as all_roots
from experiments.running.overrides import Overrides
from experiments.study_folder.folder import StudyFolder
from search.results.outcome import Outlook, TrialRecord, Verdict
from search.scoring.resources import SHELF
from search.workers import Joining, Place, run_worker, work


@dataclass
class _Lines:
    """Prints what this process scores."""

    console: Console

    def started(self, outlook: Outlook) -> None:
        del outlook

    def scored(self, record: TrialRecord) -> None:
        value = record.metrics.get("objective")
        told = record.state if value is None else f"{value:.4f} {record.state}"
        self.console.print(f"{escape(record.name)} {escape(record.family)}: {told}", highlight=False)

    def finished(self, verdict: Verdict) -> None:
        del verdict


def join_study(
    path: Path,
    *,
    models_roots: Sequence[Path] | None,
    data: str | None,
    out: Path | None,
    workers: int,
    device: str,
) -> None:
    """Join the study of a file or folder with some processes of this machine, until it gives out no more trials.

    Raises:
        InputError: There is no such study file.
    """
    console = Console(soft_wrap=True)
    file = StudyFolder(path).study if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise InputError(f"{path}: must be the folder of a study, as in runs/NAME, or a study file")
    study = Overrides(data=data).apply(file)
    folder = out or (path if path.is_dir() else Path("runs") / study.file.study)
    joining = Joining.of(study, Place(folder, all_roots(models_roots), device, workers))
    others = [replace(joining, place=replace(joining.place, number=number)) for number in range(1, workers)]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(other,), daemon=True) for other in others]

    def say(line: str) -> None:
        console.print(escape(line), highlight=False)

    console.print(f"joins study [bold]{escape(study.file.study)}[/] with {workers} of this machine's processes")
    for process in processes:
        process.start()
    count = run_worker(joining, observer=_Lines(console), say=say)
    for process in processes:
        process.join()
    if workers > 1:
        shutil.rmtree(folder / SHELF, ignore_errors=True)
    if count is None:
        console.print(f"study {escape(study.file.study)} is finished: it asks for no more candidates", highlight=False)
    else:
        console.print(f"the study asks for no more candidates; this process scored {count}")
