"""Tasks from the disk cache: names and metrics are read from it, and the tasks themselves are opened late.

lm-eval, its data sets and its templates take most of a study's start; cached prompts and tokens make them needless
until the first answers are judged. An entry holds as long as every file behind it is unchanged.
"""

from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path
from typing import Any

from evals.cache.disk_cache import DiskCache, digest
from evals.cache.fingerprint import arrow_files, code_key, data_files, hashes, sources_key
from evals.errors import DataError
from evals.tasks.loading import LoadedTask, Opened, TaskSpec, load_tasks
from evals.tasks.sampling import Leaf, Question

_FIELDS = ("label", "name", "metrics", "default_metric", "higher_is_better", "multiple_choice")


def remembered_tasks(
    specs: Sequence[TaskSpec], kept: DiskCache | None, *, data: Path | None, include_path: Path | None, place: str
) -> tuple[LoadedTask, ...]:
    """Load tasks as `load_tasks` does, or take what an earlier start kept and open the tasks when they are needed.

    Tasks whose rows come from the hub are always opened: only then is known what they hold, and whether
    cached prompts and tokens are theirs.

    Raises:
        TaskError: As `load_tasks`.
        DataError: As `load_tasks`.
    """

    @cache
    def opened() -> tuple[LoadedTask, ...]:
        return load_tasks(specs, data=data, include_path=include_path, place=place)

    if kept is None or any(folder is not None and not folder.is_dir() for folder in (data, include_path)):
        return opened()
    key = [code_key(), [spec.model_dump() for spec in specs], sources_key(data, include_path)]
    stored = kept.read("tasks", key)
    if stored is not None and _unchanged(stored["files"]):
        fingerprint = digest([key, stored["files"]])
        return tuple(_opened_late(entry, fingerprint, opened) for entry in stored["tasks"])
    tasks = opened()
    named = [data_files(loaded.task) for loaded in tasks]
    held = [arrow_files(task.task) if files is None else files for files, task in zip(named, tasks, strict=True)]
    if any(files is None for files in held):
        return tasks
    files = hashes({path.resolve() for files in held for path in files or ()})
    if all(files is not None for files in named):
        kept.write("tasks", key, {"files": files, "tasks": [_entry(task) for task in tasks]})
    return tuple(replace(task, fingerprint=digest([key, files])) for task in tasks)


def remembered_questions(
    tasks: Sequence[LoadedTask], kept: DiskCache | None, limit: int | None
) -> tuple[Question, ...]:
    """Return the first `limit` questions of every task that lm-eval scores, all for None, in the order of tasks."""

    def read() -> tuple[Question, ...]:
        return tuple(q for task in tasks for q in Leaf.of(task).test.questions(task.name)[:limit])

    fingerprints = [task.fingerprint for task in tasks]
    if kept is None or None in fingerprints:
        return read()
    key = [fingerprints, [task.name for task in tasks], limit]
    return kept.remember("rows", key, read, lambda made: [astuple(q) for q in made], _questions)


def _questions(rows: Sequence[Sequence[Any]]) -> tuple[Question, ...]:
    return tuple(Question(*row) for row in rows)


def _unchanged(files: dict[str, str]) -> bool:
    try:
        return hashes(map(Path, files)) == files
    except OSError:
        return False


def _entry(task: LoadedTask) -> dict[str, Any]:
    return {"spec": task.spec.model_dump(), **{name: getattr(task, name) for name in _FIELDS}}


def _opened_late(entry: dict[str, Any], fingerprint: str, load: Callable[[], tuple[LoadedTask, ...]]) -> LoadedTask:
    name = entry["name"]

    def opened() -> Opened:
        for task in load():
            if task.name == name:
                return task.opened()
        raise DataError(f"{name}: must be among the tasks of an earlier start, got none; the data changed meanwhile")

    values = entry | {"metrics": tuple(entry["metrics"]), "spec": TaskSpec(**entry["spec"])}
    return LoadedTask(**values, opened=opened, fingerprint=fingerprint)
