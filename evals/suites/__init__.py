"""Ready lists of tasks: one YAML per suite, the folder is the registry."""

from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from evals.errors import TaskError, nearest
from evals.tasks import TaskSpec

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Average:
    """How a leaderboard puts one task into its average.

    Attributes:
        task: Label of the task.
        metric: Its metric.
        chance: Score of guessing; the leaderboard shows (score - chance) / (1 - chance), not below 0.
    """

    task: str
    metric: str
    chance: float = 0.0

    def normalised(self, value: float) -> float:
        """Return `value` between chance (0) and perfect (1)."""
        return max(0.0, (value - self.chance) / (1.0 - self.chance))


@dataclass(frozen=True)
class Suite:
    """A ready list of tasks.

    Attributes:
        name: Its name.
        about: What it is, in a sentence.
        tasks: What to run.
        average: What its average is made of; every task alike.
    """

    name: str
    about: str
    tasks: tuple[TaskSpec, ...]
    average: tuple[Average, ...]


def suite_names() -> tuple[str, ...]:
    """Return the names of all suites."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_suite(name: str) -> Suite:
    """Load a suite.

    Raises:
        TaskError: It is not known, or its file is wrong.
    """
    if name not in suite_names():
        known = suite_names()
        raise TaskError(f"suite: must be one of {', '.join(known)}, got {name!r}{nearest(name, known)}")
    document = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    chances = [float(task.pop("chance", 0.0)) for task in document["tasks"]]
    try:
        tasks = tuple(TaskSpec.model_validate(task) for task in document["tasks"])
    except ValidationError as error:
        raise TaskError(f"{name}.yaml: tasks must fit TaskSpec, got {error}") from error
    average = tuple(Average(t.task, t.metric or "", chance) for t, chance in zip(tasks, chances, strict=True))
    return Suite(name, document["about"], tasks, average)
