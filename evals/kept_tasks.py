"""Tasks known from an earlier start: what they are called and measured by stands on disk, their rows are opened late.

lm-eval, its data sets and its templates cost a study's start most of its time; prompts and tokens that are kept make
them needless until the first answers are judged. What was kept holds as long as every file behind it is unchanged.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from evals.disk_cache import DiskCache, digest
from evals.errors import DataError
from evals.fingerprint import code_key, data_files, hashes, sources_key
from evals.tasks import LoadedTask, Opened, TaskSpec, load_tasks

_FIELDS = ("label", "name", "metrics", "default_metric", "higher_is_better", "multiple_choice")


def remembered_tasks(
    specs: Sequence[TaskSpec], kept: DiskCache, *, data: Path | None, include_path: Path | None, place: str
) -> tuple[LoadedTask, ...]:
    """Load tasks as `load_tasks` does, or take what an earlier start kept and open the tasks when they are needed.

    Tasks whose rows come from the hub are always opened: only then can be told what they hold.

    Raises:
        TaskError: As `load_tasks`.
        DataError: As `load_tasks`.
    """

    @cache
    def opened() -> tuple[LoadedTask, ...]:
        return load_tasks(specs, data=data, include_path=include_path, place=place)

    if any(folder is not None and not folder.is_dir() for folder in (data, include_path)):
        return opened()
    key = [code_key(), [spec.model_dump() for spec in specs], sources_key(data, include_path)]
    known = kept.read("tasks", key)
    if known is not None and _unchanged(known["files"]):
        fingerprint = digest([key, known["files"]])
        return tuple(_late(told, fingerprint, opened) for told in known["tasks"])
    tasks = opened()
    files = _files_of(tasks)
    if files is None:
        return tasks
    kept.write("tasks", key, {"files": files, "tasks": [_told(task) for task in tasks]})
    return tuple(replace(task, fingerprint=digest([key, files])) for task in tasks)


def _files_of(tasks: Sequence[LoadedTask]) -> dict[str, str] | None:
    """Return the hash of every file that rows came from; None when one task's are not known."""
    listed = [data_files(loaded.task) for loaded in tasks]
    if any(files is None for files in listed):
        return None
    return hashes({path.resolve() for files in listed for path in files or ()})


def _unchanged(files: dict[str, str]) -> bool:
    try:
        return hashes(map(Path, files)) == files
    except OSError:
        return False


def _told(task: LoadedTask) -> dict[str, Any]:
    return {"spec": task.spec.model_dump(), **{name: getattr(task, name) for name in _FIELDS}}


def _late(told: dict[str, Any], fingerprint: str, load: Callable[[], tuple[LoadedTask, ...]]) -> LoadedTask:
    name = told["name"]

    def opened() -> Opened:
        for task in load():
            if task.name == name:
                return task.opened()
        raise DataError(f"{name}: must be among the tasks of an earlier start, got none; the data changed meanwhile")

    values = told | {"metrics": tuple(told["metrics"]), "spec": TaskSpec(**told["spec"])}
    return LoadedTask(**values, opened=opened, fingerprint=fingerprint)
