"""Gathers what a report tells: the study, every record of its store, its verdict; opens no model."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from evals.scores.results import Cost, Results
from experiments.study_folder.folder import StudyFolder, read_verdict
from search.results.outcome import Outlook, TrialRecord, Verdict
from search.storage.replay import replay
from search.study.study import LoadedStudy


@dataclass(frozen=True)
class Entry:
    """One scoring of one recipe.

    Attributes:
        record: What was scored; without its answers, but for test questions, and of a trial without its recipe.
        asked: Number of questions that it answered.
        cost: What answering took.
    """

    record: TrialRecord
    asked: int
    cost: Cost


@dataclass(frozen=True)
class StudyFacts:
    """Everything that a report is made from.

    Attributes:
        study: The study.
        folder: Its folder.
        entries: Every scoring, baselines and finalists first.
        verdict: Its verdict; None before it is finished.
    """

    study: LoadedStudy
    folder: StudyFolder
    entries: tuple[Entry, ...]
    verdict: Verdict | None

    @property
    def trials(self) -> list[Entry]:
        """Return the trials in the order of their numbers."""
        return sorted((e for e in self.entries if e.record.kind == "trial"), key=lambda e: e.record.number)

    @property
    def baselines(self) -> list[Entry]:
        """Return the baselines' scores on the search questions, in the order in which they were scored."""
        found = [e for e in self.entries if e.record.kind == "baseline" and e.record.part == "search"]
        return sorted(found, key=lambda e: -e.record.number)

    @property
    def searched_on(self) -> int:
        """Return the number of search questions."""
        return max((e.asked for e in self.entries if e.record.part == "search"), default=0)

    def tested(self, name: str, recipe_yaml: str | None = None) -> Results | None:
        """Return a model's answers to the test questions, found by its name, else by its recipe."""
        tests = [e.record for e in self.entries if e.record.part == "test" and e.record.results is not None]
        named = [record for record in tests if record.name == name]
        alike = [record for record in tests if record.recipe_yaml == recipe_yaml]
        return next((record.results for record in (*named, *alike)), None)


@dataclass
class _Collector:
    entries: list[Entry] = field(default_factory=list)

    def started(self, outlook: Outlook) -> None:
        del outlook

    def scored(self, record: TrialRecord) -> None:
        results = record.results
        if results is None:
            self.entries.append(Entry(record, 0, Cost()))
            return
        kept = record
        if record.part != "test":
            kept = replace(record, results=None, recipe_yaml="" if record.kind == "trial" else record.recipe_yaml)
        self.entries.append(Entry(kept, results.asked(), results.cost))

    def finished(self, verdict: Verdict) -> None:
        del verdict


def gather(root: Path) -> StudyFacts:
    """Return the facts of the study in a folder, finished or not.

    Raises:
        InputError: The folder is no study's.
        search.errors.StoreError: Its store cannot be opened or is empty.
    """
    folder = StudyFolder(root)
    study = folder.loaded_study()
    collector = _Collector()
    replay(study, root, collector)
    verdict = read_verdict(folder) if folder.verdict.is_file() else None
    return StudyFacts(study, folder, _once(collector.entries), verdict)


def _once(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the entries without those that a store tells twice."""
    first: dict[tuple[str, str, int, str], Entry] = {}
    for entry in entries:
        record = entry.record
        first.setdefault((record.kind, record.part, record.number, record.name), entry)
    return tuple(first.values())
