"""Which tasks of a list have their data: one error names all that is missing, or they are left out on request."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.cache.disk_cache import DiskCache
from evals.errors import DataError, MissingDataError
from evals.tasks.cached import remembered_tasks
from evals.tasks.loading import LoadedTask, TaskSpec


@dataclass(frozen=True)
class Available:
    """The tasks that could be loaded, and the names of those whose data are missing."""

    tasks: tuple[LoadedTask, ...]
    missing: tuple[str, ...] = ()


def load_available(
    specs: Sequence[TaskSpec],
    *,
    data: Path | None,
    include_path: Path | None,
    place: str,
    skip_missing: bool = False,
    kept: DiskCache | None,
) -> Available:
    """Load tasks as ``remembered_tasks`` does; all that is missing in `data` is named in one line.

    Args:
        specs: What to load.
        data: Folder with the data; unset: the hub.
        include_path: Folder with more task files.
        place: Where `specs` was written, for error messages.
        skip_missing: Leave out tasks whose files are not in `data`.
        kept: What an earlier start knew of the tasks, and where it goes; None to load them anew.

    Raises:
        TaskError: A task or metric is not known.
        DataError: Data are missing or wrong.
    """
    try:
        return Available(remembered_tasks(specs, kept, data=data, include_path=include_path, place=place))
    except MissingDataError:
        if data is None:
            raise
    loaded: list[LoadedTask] = []
    missing: list[str] = []
    faults: list[str] = []
    for spec in specs:
        try:
            loaded += remembered_tasks([spec], kept, data=data, include_path=include_path, place=place)
        except MissingDataError as error:
            missing.append(spec.task)
            reason = str(error)
        except DataError as error:
            faults.append(str(error))
    if faults or not loaded or not skip_missing:
        if len(missing) == 1:
            faults.insert(0, reason)
        elif missing:
            faults.insert(0, _missing_line(missing, len(specs), data, place))
        raise MissingDataError("\n".join(faults))
    return Available(tuple(loaded), tuple(missing))


def _missing_line(missing: Sequence[str], count: int, data: Path, place: str) -> str:
    what = f"{len(missing)} of {count} tasks" if len(missing) < count else f"all {count} tasks"
    return (
        f"{place}: must find the rows of every task in {data}, got none for {what}: {', '.join(missing)}; "
        f"add {data}/TASK/SPLIT.jsonl for each, name others with --tasks a,b"
        + ("" if len(missing) == count else ", or leave them out with --skip-missing")
    )
