"""Reads what a report is made from: the study, every scoring in its store, its verdict; opens no model."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from evals.scores.results import Cost, Results
from experiments.study_folder.folder import StudyFolder, read_verdict
from search.results.observer import Outlook, TrialRecord
from search.results.verdict import Verdict
from search.storage.replay import replay
from search.study.study import LoadedStudy


@dataclass(frozen=True)
class Scoring:
    """One scoring of one recipe.

    Attributes:
        record: What was scored. To save memory it has its answers for test questions only, and of a trial no recipe.
        asked: Number of questions answered.
        cost: Tokens and seconds that answering took.
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
        scorings: Every scoring in the store, each once.
        verdict: Its verdict; None before it is finished.
    """

    study: LoadedStudy
    folder: StudyFolder
    scorings: tuple[Scoring, ...]
    verdict: Verdict | None

    @property
    def trials(self) -> list[Scoring]:
        """Return the trials in the order of their numbers."""
        return sorted((e for e in self.scorings if e.record.kind == "trial"), key=lambda e: e.record.number)

    @property
    def baselines(self) -> list[Scoring]:
        """Return the baselines' scores on the search questions, in the order in which they were scored."""
        baselines = [e for e in self.scorings if e.record.kind == "baseline" and e.record.part == "search"]
        return sorted(baselines, key=lambda e: -e.record.number)

    @property
    def searched_on(self) -> int:
        """Return the number of search questions: the most that any candidate answered."""
        return max((e.asked for e in self.scorings if e.record.part == "search"), default=0)

    def tested(self, name: str, recipe_yaml: str | None = None) -> Results | None:
        """Return a model's answers to the test questions, found by its name, else by its recipe."""
        tests = [e.record for e in self.scorings if e.record.part == "test" and e.record.results is not None]
        by_name = [record for record in tests if record.name == name]
        by_recipe = [record for record in tests if record.recipe_yaml == recipe_yaml]
        return next((record.results for record in (*by_name, *by_recipe)), None)


@dataclass
class _Collector:
    scorings: list[Scoring] = field(default_factory=list)

    def started(self, outlook: Outlook) -> None:
        del outlook

    def scored(self, record: TrialRecord) -> None:
        results = record.results
        if results is None:
            self.scorings.append(Scoring(record, 0, Cost()))
            return
        reduced = record
        if record.part != "test":
            reduced = replace(record, results=None, recipe_yaml="" if record.kind == "trial" else record.recipe_yaml)
        self.scorings.append(Scoring(reduced, results.asked(), results.cost))

    def finished(self, verdict: Verdict) -> None:
        del verdict


def gather_facts(root: Path) -> StudyFacts:
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
    return StudyFacts(study, folder, _once(collector.scorings), verdict)


def _once(scorings: Sequence[Scoring]) -> tuple[Scoring, ...]:
    """Return the scorings without repetitions: a store may report one twice."""
    first: dict[tuple[str, str, int, str], Scoring] = {}
    for scoring in scorings:
        record = scoring.record
        first.setdefault((record.kind, record.part, record.number, record.name), scoring)
    return tuple(first.values())
