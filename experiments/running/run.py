"""Runs a study for a person: reads its file, shows progress, mirrors to MLflow, prints the verdict and the places."""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape

from experiments.atomic_files import write_text_atomically
from experiments.errors import ExperimentError, InputError
from experiments.models_roots import models_roots as all_roots
from experiments.report.page import report_figures, write_report
from experiments.running.progress import ConsoleProgress
from experiments.study_folder.folder import FolderWriter, StudyFolder, read_verdict, verdict_table
from experiments.study_folder.verdict_text import verdict_lines
from experiments.study_folder.versions import library_versions
from experiments.tracking import MlflowMirror
from merge.documents import read_text, read_yaml
from search.errors import StudyError
from search.results.outcome import Observer, Outlook, TrialRecord, Verdict
from search.study.study import LoadedStudy, load_study
from search.workers import run_search


@dataclass(frozen=True)
class Overrides:
    """What the command line says instead of the study file; None leaves the file's word.

    Attributes:
        data: ``evaluate.data``.
        trials: ``search.trials``.
        max_hours: ``search.max_hours``.
        search_on_test: ``evaluate.search_on_test``; False leaves the file's word.
        patience: ``search.patience``.
        workers: ``search.workers``.
    """

    data: str | None = None
    trials: int | None = None
    max_hours: float | None = None
    search_on_test: bool = False
    patience: int | None = None
    workers: int | None = None

    def apply(self, path: Path) -> LoadedStudy:
        """Read a study file and return it with the overrides in place."""
        study = load_study(path)
        document = read_yaml(read_text(path), path.name)[0]
        if self.data is not None:
            document["evaluate"]["data"] = self.data if self.data == "hub" else str(Path(self.data).resolve())
        if self.search_on_test:
            document["evaluate"]["search_on_test"] = True
        changes = {
            "trials": self.trials,
            "max_hours": self.max_hours,
            "patience": self.patience,
            "workers": self.workers,
        }
        given = {key: value for key, value in changes.items() if value is not None}
        if given:
            document["search"] = {**(document.get("search") or {}), **given}
        return LoadedStudy(document, place=study.place)


@dataclass
class _Everyone:
    """Passes what happens on to several observers, and adds up where the time of trials goes."""

    observers: Sequence[Observer]
    trials: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def started(self, outlook: Outlook) -> None:
        for observer in self.observers:
            observer.started(outlook)

    def scored(self, record: TrialRecord) -> None:
        begun = time.perf_counter()
        for observer in self.observers:
            observer.scored(record)
        if record.kind == "trial" and record.parts:
            self.trials += 1
            parts = {**record.parts, "mirror": time.perf_counter() - begun}
            for name, seconds in parts.items():
                self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def finished(self, verdict: Verdict) -> None:
        for observer in self.observers:
            observer.finished(verdict)

    def account(self) -> str:
        """Return one line: mean seconds of a trial by part."""
        parts = ", ".join(f"{name} {seconds / max(1, self.trials):.2f}" for name, seconds in self.seconds.items())
        return f"seconds per trial: {parts}"


@dataclass(frozen=True)
class _StudyCopy:
    """Keeps the study file as it is run, once the store has accepted it, and the versions that began it."""

    study: LoadedStudy
    folder: StudyFolder

    def started(self, outlook: Outlook) -> None:
        del outlook
        document = self.study.file.model_dump(mode="json", exclude_unset=True)
        write_text_atomically(self.folder.study, yaml.safe_dump(document, sort_keys=False, width=120))
        if not self.folder.versions.exists():
            write_text_atomically(self.folder.versions, json.dumps(library_versions(), indent=2) + "\n")

    def scored(self, record: TrialRecord) -> None:
        del record

    def finished(self, verdict: Verdict) -> None:
        del verdict


@dataclass(frozen=True)
class _Report:
    """Writes the report of a finished study; a fault is told in one line, since it can be made again from the store."""

    folder: StudyFolder
    console: Console

    def started(self, outlook: Outlook) -> None:
        del outlook

    def scored(self, record: TrialRecord) -> None:
        del record

    def finished(self, verdict: Verdict) -> None:
        del verdict
        try:
            write_report(self.folder.root)
        except Exception as error:  # noqa: BLE001 - a finished search never fails for its report
            why = " ".join(str(error).split())[:200] or type(error).__name__
            again = f"'mergesearch report {self.folder.root}'"
            self.console.print(f"no report was written: {escape(why)}; make it later with {escape(again)}")


@dataclass(frozen=True)
class _Mirror:
    """Mirrors what happens to MLflow."""

    mirror: MlflowMirror

    def started(self, outlook: Outlook) -> None:
        del outlook

    def scored(self, record: TrialRecord) -> None:
        self.mirror.log_trial(record)

    def finished(self, verdict: Verdict) -> None:
        self.mirror.log_verdict(verdict)


def run_study(
    path: Path,
    *,
    overrides: Overrides,
    models_roots: Sequence[Path] | None,
    out: Path | None,
    device: str,
    ray: str | None = None,
) -> Verdict:
    """Run or resume the study of a file, telling a person everything."""
    roots = all_roots(models_roots)
    return show_study(overrides.apply(path), models_roots=roots, out=out, device=device, ray=ray)


def show_study(
    study: LoadedStudy, *, models_roots: Sequence[Path], out: Path | None, device: str, ray: str | None = None
) -> Verdict:
    """Run or resume a study, telling a person everything."""
    console = Console(soft_wrap=True)
    folder = StudyFolder(out if out is not None else Path("runs") / study.file.study)
    if folder.root.exists() and not folder.root.is_dir():
        raise InputError(f"{folder.root}: must be a folder, is a file; choose another --out")
    if study.file.evaluate.search_on_test:
        console.print("searching on test questions: the verdict's scores are no estimate on anything new")
    progress = ConsoleProgress(console)
    observers: list[Observer] = [_StudyCopy(study, folder), FolderWriter(folder), progress, _Report(folder, console)]
    uri = study.file.tracking.mlflow
    if uri is not None:
        observers.append(_Mirror(open_mirror(study, folder, uri, console)))
    everyone = _Everyone(observers)
    try:
        verdict = run_search(
            study,
            folder.root,
            observer=everyone,
            models_roots=models_roots,
            device=device,
            say=lambda line: console.print(escape(line), highlight=False),
            ray=ray,
        )
    finally:
        progress.close()
    _print_verdict(console, verdict)
    console.print(everyone.account(), highlight=False)
    _print_places(console, study, folder, uri)
    return verdict


def open_mirror(
    study: LoadedStudy, folder: StudyFolder, uri: str, console: Console, *, anew: bool = False
) -> MlflowMirror:
    """Return the MLflow mirror of a study; `anew`, it asks the store for everything."""
    return MlflowMirror(
        uri,
        study=study.file.study,
        study_id=study.digest(),
        say=lambda line: console.print(escape(line)),
        folder=folder.root,
        figures=lambda: report_figures(folder.root),
        anew=anew,
    )


def _print_verdict(console: Console, verdict: Verdict) -> None:
    console.print("\n[bold]Verdict[/] (questions that nobody searched on)")
    for line in verdict_lines(verdict):
        console.print(escape(line), highlight=False)
    console.print()
    if console.is_terminal:
        console.print(Markdown(verdict_table(verdict)))
    else:
        console.print(escape(verdict_table(verdict)), highlight=False)


def _print_places(console: Console, study: LoadedStudy, folder: StudyFolder, uri: str | None) -> None:
    store = folder.store_url(study)
    rows: list[tuple[str, Path | str, str]] = [
        ("recipe", folder.best, f"cat {folder.best}"),
        (
            "answers",
            folder.answers,
            f"{_program('python')} -c \"import pandas; print(pandas.read_csv('{folder.answers}'))\"",
        ),
        ("report", folder.root / "report.html", f"{_program('python')} -m webbrowser {folder.root / 'report.html'}"),
        ("report table", folder.table, f"cat {folder.table}"),
        ("trials", folder.trials, f"{_program('optuna')} trials --storage {store} --study-name {study.file.study}"),
    ]
    if folder.front.is_dir():
        again = f"{_program('mergesearch')} merge {folder.front / '1.yaml'} merged"
        rows.append(("Pareto front", folder.front, again))
    if uri is not None:
        rows.append(("MLflow store", uri, f"{_program('mlflow')} ui --backend-store-uri {uri}"))
    rows.append(("weights", "not written", f"{_program('mergesearch')} export {folder.root} --model merged"))
    console.print("\n[bold]Where things are[/], and how to look at each")
    width = max(len(str(place)) for _, place, _ in rows)
    for what, place, command in rows:
        console.print(f"  {what:13s} {escape(f'{place!s:{width}s}')}  {escape(command)}", highlight=False)


def _program(name: str) -> str:
    """Return how to call a program of this environment: by its name where the environment is active, else by path."""
    mine = Path(sys.executable).parent / name
    found = shutil.which(name)
    if not mine.exists() or (found is not None and Path(found).parent == mine.parent):
        return name
    return str(mine.relative_to(Path.cwd())) if mine.is_relative_to(Path.cwd()) else str(mine)


def sync_mirror(study: Path) -> None:
    """Rebuild the MLflow mirror of a study's folder from its store, without scoring anything.

    Raises:
        InputError: The folder is no study's.
    """
    folder = StudyFolder(study)
    loaded = folder.loaded_study()
    uri = loaded.file.tracking.mlflow
    if uri is None:
        raise StudyError(f"{folder.study}: tracking.mlflow: must name a store to mirror to, got nothing")
    console = Console(soft_wrap=True)
    mirror = open_mirror(loaded, folder, uri, console, anew=True)
    from search.storage.replay import replay

    count = replay(loaded, folder.root, _Mirror(mirror))
    if folder.verdict.is_file():
        mirror.log_verdict(read_verdict(folder))
    if mirror.off:
        raise ExperimentError(f"{uri}: the mirror is not whole, for the reason above; the same command goes on with it")
    console.print(f"{count} runs mirrored to {uri}; look at them with: mlflow ui --backend-store-uri {uri}")
