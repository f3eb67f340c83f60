"""Ready lists of tasks: one YAML per suite, the folder is the registry."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from evals.errors import TaskError, nearest
from evals.scores.results import Results
from evals.tasks.loading import TaskSpec

_FOLDER = Path(__file__).parent


class _File(BaseModel):
    """What a suite's file holds; see ``Suite``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str
    tasks: tuple[TaskSpec, ...]
    names: Mapping[str, str] = {}
    metrics: Mapping[str, tuple[str, ...]] = {}
    choices: Mapping[str, int] = {}
    leaf_means: tuple[str, ...] = ()
    categories: Mapping[str, tuple[str, ...]] = {}


@dataclass(frozen=True)
class Shown:
    """A score as a suite's source shows it.

    Attributes:
        value: Between 0 and 1 for accuracies.
        stderr: Its standard error over questions; None where there is no closed form.
    """

    value: float
    stderr: float | None


@dataclass(frozen=True)
class Suite:
    """A ready list of tasks and the way its source makes one average of them.

    Attributes:
        name: Its name.
        about: What it is, in a sentence.
        tasks: What to run.
        names: Task to the name that its source shows it under.
        metrics: Task to the metrics whose mean is its score, where that is not the spec's own.
        choices: Task or leaf to its number of choices k, where scores are shown as (score - 1/k) / (1 - 1/k), not
            below 0.
        leaf_means: Tasks whose score is the plain mean over their leaves, whatever the size of each.
        categories: Category to its tasks, one listed twice counting double; the average is the mean of the categories'
            means. Empty: of the tasks.
        left_out: Tasks that were taken out with `only`; an average without them is not the source's.
    """

    name: str
    about: str
    tasks: tuple[TaskSpec, ...]
    names: Mapping[str, str]
    metrics: Mapping[str, tuple[str, ...]]
    choices: Mapping[str, int]
    leaf_means: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    left_out: tuple[str, ...] = ()

    def only(self, tasks: Sequence[str]) -> "Suite":
        """Return the suite with some of its tasks.

        Raises:
            TaskError: One of them is not the suite's, or there is none.
        """
        known = [spec.task for spec in self.tasks]
        unknown = [name for name in tasks if name not in known]
        if unknown or not tasks:
            got = ", ".join(unknown) or "none"
            raise TaskError(f"suite {self.name}: tasks must be among {', '.join(known)}, got {got}")
        kept = {
            category: tuple(label for label in labels if label in tasks) for category, labels in self.categories.items()
        }
        return replace(
            self,
            tasks=tuple(spec for spec in self.tasks if spec.task in tasks),
            categories={category: labels for category, labels in kept.items() if labels},
            left_out=(*self.left_out, *(name for name in known if name not in tasks)),
        )

    def shown(self, results: Results) -> dict[str, float]:
        """Return each task's score as the suite's source shows it, normalised where it normalises."""
        return {label: row.value for label, row in self.task_rows(results).items()}

    def task_rows(self, results: Results) -> dict[str, Shown]:
        """Return each task's score with its standard error, in the suite's order."""
        return {spec.task: self._row(spec, results) for spec in self.tasks if self._scored(spec, results)}

    def category_rows(self, results: Results) -> dict[str, Shown]:
        """Return the mean of each category's tasks; nothing for a suite without categories.

        Raises:
            TaskError: A task of the suite has no score.
        """
        rows = self._all_rows(results)
        return {name: _mean([rows[label] for label in labels]) for name, labels in self.categories.items()}

    def average(self, results: Results) -> float:
        """Return the average as the suite's source defines it.

        Raises:
            TaskError: A task of the suite has no score.
        """
        return self.average_row(results).value

    def average_row(self, results: Results) -> Shown:
        """Return the average with its standard error, tasks taken as independent.

        Raises:
            TaskError: A task of the suite has no score.
        """
        return _mean(list((self.category_rows(results) or self._all_rows(results)).values()))

    def _all_rows(self, results: Results) -> dict[str, Shown]:
        missing = [spec.task for spec in self.tasks if not self._scored(spec, results)]
        if missing:
            raise TaskError(f"{self.name}: must have a score for every task, got none for {', '.join(missing)}")
        return self.task_rows(results)

    def _metrics(self, spec: TaskSpec) -> tuple[str, ...]:
        return self.metrics.get(spec.task, (str(spec.metric),))

    def _scored(self, spec: TaskSpec, results: Results) -> bool:
        return all(f"{spec.task}/{metric}" in results.scores for metric in self._metrics(spec))

    def _row(self, spec: TaskSpec, results: Results) -> Shown:
        metrics = self._metrics(spec)
        own = results.answers[(results.answers["task"] == spec.task) & (results.answers["metric"] == metrics[0])]
        if spec.task in self.leaf_means or any(leaf in self.choices for leaf in set(own["leaf"]) - {spec.task}):
            leaves = own.groupby("leaf")["value"]
            return _mean([self._normalised(str(leaf), _of(values.to_numpy(np.float64))) for leaf, values in leaves])
        scores = [results.scores[f"{spec.task}/{metric}"] for metric in metrics]
        # several metrics of the same answers are not independent: their mean has no closed form
        stderr = scores[0].stderr if len(scores) == 1 else None
        return self._normalised(spec.task, Shown(sum(score.value for score in scores) / len(scores), stderr))

    def _normalised(self, name: str, row: Shown) -> Shown:
        if name not in self.choices:
            return row
        chance = 1 / self.choices[name]
        stderr = None if row.stderr is None else row.stderr / (1 - chance)
        return Shown(max(0.0, (row.value - chance) / (1 - chance)), stderr)


def _of(values: np.ndarray) -> Shown:
    """Return the mean of a leaf's questions."""
    n = len(values)
    return Shown(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else None)


def _mean(rows: Sequence[Shown]) -> Shown:
    """Return the plain mean of independent scores; the same one listed twice counts double."""
    counts = [(row, sum(other is row for other in rows)) for row in {id(row): row for row in rows}.values()]
    errors = [row.stderr for row in rows]
    stderr = None
    if None not in errors:
        stderr = math.sqrt(sum((count * (row.stderr or 0.0)) ** 2 for row, count in counts)) / len(rows)
    return Shown(sum(row.value for row in rows) / len(rows), stderr)


def suite_names() -> tuple[str, ...]:
    """Return the names of all suites."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_suite(name: str) -> Suite:
    """Load a suite.

    Raises:
        TaskError: It is not known, or its file is wrong.
    """
    known = suite_names()
    if name not in known:
        raise TaskError(f"suite: must be one of {', '.join(known)}, got {name!r}{nearest(name, known)}")
    try:
        read = _File.model_validate(yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))
    except ValidationError as error:
        raise TaskError(f"suite {name}: its file must fit, got {error}") from error
    fields = {field: getattr(read, field) for field in _File.model_fields}
    return Suite(name, **fields)
