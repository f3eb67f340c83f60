"""The folder of a study: what lies where, and writing what a finished study leaves behind."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from experiments.atomic_files import write_text_atomically
from experiments.errors import InputError
from experiments.score_tables import parents_against_winner, to_markdown
from experiments.study_folder.answers_csv import AnswersFile
from experiments.study_folder.trials_csv import TrialsFile
from experiments.study_folder.verdict_text import verdict_lines
from merge.documents import one_line
from search.results.observer import Outlook, TrialRecord
from search.results.verdict import Verdict
from search.storage.store import default_url
from search.study.study import LoadedStudy, parse_study


@dataclass(frozen=True)
class StudyFolder:
    """Paths of a study's files.

    Attributes:
        root: The folder.
    """

    root: Path

    @property
    def study(self) -> Path:
        """The study file as it was run."""
        return self.root / "study.yaml"

    @property
    def best(self) -> Path:
        """The winner's recipe."""
        return self.root / "best.yaml"

    @property
    def answers(self) -> Path:
        """Every answer of every candidate."""
        return self.root / "answers.csv"

    @property
    def table(self) -> Path:
        """Parents against winner."""
        return self.root / "table.md"

    @property
    def trials(self) -> Path:
        """One row per trial."""
        return self.root / "trials.csv"

    @property
    def front(self) -> Path:
        """A recipe for each candidate of the Pareto front, where the study has one."""
        return self.root / "front"

    @property
    def versions(self) -> Path:
        """The versions of libraries when the study began."""
        return self.root / "versions.json"

    @property
    def verdict(self) -> Path:
        """The verdict as data."""
        return self.root / "verdict.json"

    @property
    def report(self) -> Path:
        """The report, one page that needs no network."""
        return self.root / "report.html"

    def store_url(self, study: LoadedStudy) -> str:
        """Return the Optuna URL of a study's store: the one that it names, else ``study.db`` in this folder."""
        return study.file.store or default_url(self.root)

    def loaded_study(self) -> LoadedStudy:
        """Return the study that was run here.

        Raises:
            InputError: The folder is no study's.
            search.errors.StudyError: Its study file was changed and is wrong.
        """
        if not self.study.is_file():
            raise InputError(f"{self.root}: must be the folder of a study, as in runs/NAME")
        return parse_study(self.study.read_text(encoding="utf-8"), place=str(self.study))


def find_finished(study: Path) -> StudyFolder:
    """Return the folder of a finished study.

    Raises:
        InputError: There is none, or it has no winner yet.
    """
    folder = StudyFolder(study)
    if not study.is_dir():
        raise InputError(
            f"{study}: must be the folder of a study, as in runs/NAME; see what 'mergesearch search' printed"
        )
    if not folder.best.is_file():
        raise InputError(f"{study}: has no winner yet; run 'mergesearch search' on its study file to the end first")
    return folder


def read_verdict(folder: StudyFolder) -> Verdict:
    """Return a finished study's verdict from ``verdict.json``.

    Raises:
        InputError: The file is missing or damaged.
    """
    again = "run 'mergesearch search' on the study again"
    try:
        return TypeAdapter(Verdict).validate_json(folder.verdict.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the verdict"
        raise InputError(f"{folder.verdict}: {key}: {first['msg'].lower()}; {again}") from None
    except OSError as error:
        raise InputError(f"{folder.verdict}: must hold the verdict, got {error.strerror or error}; {again}") from None


@dataclass
class FolderWriter:
    """Keeps answers as they come and writes the tables, recipe and verdict when the study is finished.

    Attributes:
        folder: Where to write.
    """

    folder: StudyFolder
    _answers: AnswersFile = field(init=False)
    _trials: TrialsFile = field(init=False)

    def __post_init__(self) -> None:
        self._answers, self._trials = AnswersFile(self.folder.answers), TrialsFile(self.folder.trials)

    def started(self, outlook: Outlook) -> None:
        """Go on with the file of answers, under another name until the study is finished."""
        del outlook
        self._answers.begin()
        self._trials.begin()

    def scored(self, record: TrialRecord) -> None:
        """Add the answers and the row of one candidate."""
        self._answers.add(record)
        self._trials.add(record)

    def finished(self, verdict: Verdict) -> None:
        """Write what a finished study leaves behind; the winner's recipe last, since others look for it.

        The recipe of an earlier verdict goes first: it must not stand beside the files of another one.
        """
        told = json.dumps(asdict(verdict), indent=2, default=str) + "\n"
        if not (self.folder.verdict.is_file() and self.folder.verdict.read_text(encoding="utf-8") == told):
            self.folder.best.unlink(missing_ok=True)
        self._answers.finish()
        self._trials.finish()
        write_text_atomically(self.folder.table, verdict_page(verdict))
        self._write_front(verdict)
        write_text_atomically(self.folder.verdict, told)
        write_text_atomically(self.folder.best, verdict.recipe_yaml)

    def _write_front(self, verdict: Verdict) -> None:
        """Write the front's recipes, in the order of its table; those of an earlier front go."""
        for old in self.folder.front.glob("*.yaml"):
            old.unlink()
        for number, point in enumerate(verdict.front, start=1):
            scores = ", ".join(f"{name} {value:.4f}" for name, value in point.scores.items())
            told = one_line(f"{point.name}: {scores} on the search questions")
            write_text_atomically(self.folder.front / f"{number}.yaml", f"# {told}\n{point.recipe_yaml}")


def verdict_table(verdict: Verdict, names: Sequence[str] | None = None) -> str:
    """Return the Markdown table of parents against winner on the test questions, best in bold."""
    titles = {name: f"winner ({name})" if name == verdict.winner else name for name in verdict.scores}
    columns = {titles[name]: verdict.scores[name] for name in (names or verdict.scores)}
    return to_markdown(parents_against_winner(columns, verdict.higher_is_better))


def verdict_page(verdict: Verdict) -> str:
    """Return the verdict as Markdown: its sentences as a list, then the table."""
    told = (line.replace("&", "&amp;").replace("<", "&lt;").replace("](", "]\\(") for line in verdict_lines(verdict))
    lines = (f"  * {line.strip()}" if line.startswith(" ") else f"* {line}" for line in told)
    return "\n".join(lines) + f"\n\n{verdict_table(verdict)}"
