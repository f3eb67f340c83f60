"""Ready lists of tasks: one YAML per suite, the folder is the registry."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from evals.errors import TaskError, nearest
from evals.results import Results
from evals.tasks import TaskSpec

_FOLDER = Path(__file__).parent


class _File(BaseModel):
    """What a suite's file holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str
    tasks: tuple[TaskSpec, ...]
    metrics: Mapping[str, tuple[str, ...]] = {}
    choices: Mapping[str, int] = {}
    categories: Mapping[str, tuple[str, ...]] = {}


@dataclass(frozen=True)
class Suite:
    """A ready list of tasks and the way its source makes one average of them.

    Attributes:
        name: Its name.
        about: What it is, in a sentence.
        tasks: What to run.
        metrics: Task to the metrics whose mean is its score, where that is not the spec's own.
        choices: Task or leaf to its number of choices k, where scores are shown as (score - 1/k) / (1 - 1/k).
        categories: Category to its tasks; the average is the mean of the categories' means. Empty: of the tasks.
    """

    name: str
    about: str
    tasks: tuple[TaskSpec, ...]
    metrics: Mapping[str, tuple[str, ...]]
    choices: Mapping[str, int]
    categories: Mapping[str, tuple[str, ...]]

    def shown(self, results: Results) -> dict[str, float]:
        """Return each task's score as the suite's source shows it, normalised where it normalises."""
        return {spec.task: self._shown(spec, results) for spec in self.tasks if self._scored(spec, results)}

    def average(self, results: Results) -> float:
        """Return the average as the suite's source defines it.

        Raises:
            TaskError: A task of the suite has no score.
        """
        missing = [spec.task for spec in self.tasks if not self._scored(spec, results)]
        if missing:
            raise TaskError(f"{self.name}: must have a score for every task, got none for {', '.join(missing)}")
        shown = self.shown(results)
        groups = self.categories or {label: (label,) for label in shown}
        means = [sum(shown[label] for label in labels) / len(labels) for labels in groups.values()]
        return sum(means) / len(means)

    def _metrics(self, spec: TaskSpec) -> tuple[str, ...]:
        return self.metrics.get(spec.task, (str(spec.metric),))

    def _scored(self, spec: TaskSpec, results: Results) -> bool:
        return all(f"{spec.task}/{metric}" in results.scores for metric in self._metrics(spec))

    def _shown(self, spec: TaskSpec, results: Results) -> float:
        metrics = self._metrics(spec)
        leaves = sorted(set(results.answers.loc[results.answers["task"] == spec.task, "leaf"]))
        if len(leaves) > 1 and any(leaf in self.choices for leaf in leaves):
            own = results.answers[(results.answers["task"] == spec.task) & (results.answers["metric"] == metrics[0])]
            by_leaf = own.groupby("leaf")["value"].mean()
            return sum(self._normalised(str(leaf), float(mean)) for leaf, mean in by_leaf.items()) / len(by_leaf)
        mean = sum(results.scores[f"{spec.task}/{metric}"].value for metric in metrics) / len(metrics)
        return self._normalised(spec.task, mean)

    def _normalised(self, name: str, value: float) -> float:
        if name not in self.choices:
            return value
        chance = 1 / self.choices[name]
        return max(0.0, (value - chance) / (1 - chance))


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
    return Suite(name, read.about, read.tasks, read.metrics, read.choices, read.categories)
