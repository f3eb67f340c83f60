"""Observers of a search that write what it leaves: the study's copy, the report, the MLflow mirror."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import yaml
from typing_extensions import override

from experiments.atomic_files import write_text_atomically
from experiments.report.page import write_report
from experiments.study_folder.folder import StudyFolder
from experiments.study_folder.versions import library_versions
from experiments.tracking.mirror import MlflowMirror
from search.results.observer import NullObserver, Observer, Outlook, TrialRecord
from search.results.verdict import Verdict
from search.study.study import LoadedStudy


@dataclass
class Everyone:
    """Passes what happens on to several observers, in their order, and adds up where the time of trials goes.

    Attributes:
        observers: Who hears of it.
        trials: Number of trials whose time was added up.
        seconds: Seconds by part of a trial, over all trials.
    """

    observers: Sequence[Observer]
    trials: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def started(self, outlook: Outlook) -> None:
        """Pass on."""
        for observer in self.observers:
            observer.started(outlook)

    def scored(self, record: TrialRecord) -> None:
        """Pass on, and add up."""
        began = time.perf_counter()
        for observer in self.observers:
            observer.scored(record)
        if record.kind == "trial" and record.parts:
            self.trials += 1
            parts = {**record.parts, "mirror": time.perf_counter() - began}
            for name, seconds in parts.items():
                self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def finished(self, verdict: Verdict) -> None:
        """Pass on."""
        for observer in self.observers:
            observer.finished(verdict)

    def account(self) -> str:
        """Return one line: mean seconds of a trial by part."""
        parts = ", ".join(f"{name} {seconds / max(1, self.trials):.2f}" for name, seconds in self.seconds.items())
        return f"seconds per trial: {parts}"


@dataclass(frozen=True)
class StudyCopy(NullObserver):
    """Keeps the study file as it is run, once the store has accepted it, and the versions that began it.

    Attributes:
        study: The study.
        folder: Where to keep it.
    """

    study: LoadedStudy
    folder: StudyFolder

    @override
    def started(self, outlook: Outlook) -> None:
        """Write both."""
        document = self.study.file.model_dump(mode="json", exclude_unset=True)
        write_text_atomically(self.folder.study, yaml.safe_dump(document, sort_keys=False, width=120))
        if not self.folder.versions.exists():
            write_text_atomically(self.folder.versions, json.dumps(library_versions(), indent=2) + "\n")


@dataclass(frozen=True)
class ReportWriter(NullObserver):
    """Writes the report of a finished study; a fault is told in one line, since it can be made again from the store.

    Attributes:
        folder: The study's folder.
        say: Takes one line for a person.
    """

    folder: StudyFolder
    say: Callable[[str], None]

    @override
    def finished(self, verdict: Verdict) -> None:
        """Write the report."""
        try:
            write_report(self.folder.root)
        except Exception as error:  # noqa: BLE001 - a finished search never fails for its report
            why = " ".join(str(error).split())[:200] or type(error).__name__
            self.say(f"no report was written: {why}; make it later with 'mergesearch report {self.folder.root}'")


@dataclass(frozen=True)
class MirrorObserver(NullObserver):
    """Mirrors what happens to MLflow.

    Attributes:
        mirror: The mirror.
    """

    mirror: MlflowMirror

    def scored(self, record: TrialRecord) -> None:
        """Mirror one scoring."""
        self.mirror.log_trial(record)

    def finished(self, verdict: Verdict) -> None:
        """Mirror the verdict."""
        self.mirror.log_verdict(verdict)
