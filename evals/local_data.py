"""Reads a benchmark from local files: what to override in the registry's task so that it needs no network."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.errors import DataError, MissingDataError


def _plain(name: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name or "").lower())


def folder_of(name: str, config: Mapping[str, Any], data: Path) -> Path | None:
    """Find the folder below `data` that holds the rows of a task.

    A folder of the task's name wins, with or without ``leaderboard_`` before it. Otherwise it is found by the hub's
    names, compared without case and punctuation: for ``cais/mmlu`` and ``anatomy`` that is ``mmlu/anatomy``,
    ``anatomy`` or ``mmlu``.
    """
    for own in (name, name.removeprefix("leaderboard_")):
        if _has_rows(data / own):
            return data / own
    path = _plain(str(config.get("dataset_path", "")).rsplit("/", 1)[-1])
    subset = _plain(config.get("dataset_name"))
    tops = [folder for folder in sorted(data.iterdir()) if folder.is_dir()]
    below = [sub for top in tops if _plain(top.name) == path for sub in sorted(top.iterdir()) if sub.is_dir()]
    candidates = [
        *(folder for folder in below if subset and _plain(folder.name) == subset),
        *(folder for folder in tops if subset and _plain(folder.name) == subset),
        *(folder for folder in tops if _plain(folder.name) == path),
    ]
    return next((folder for folder in candidates if _has_rows(folder)), None)


def _has_rows(folder: Path) -> bool:
    return folder.is_dir() and any(folder.glob("*.jsonl"))


def overrides(name: str, config: Mapping[str, Any], data: Path, *, shots: int | None, place: str) -> dict[str, object]:
    """Return what to change in the task's file so that its rows come from `data`.

    A split that is not there is dropped from the task when nothing needs it.

    Raises:
        DataError: No folder, a split that is needed, or a file that is not JSON Lines.
    """
    if config.get("class") is not None or config.get("custom_dataset") is not None:
        raise MissingDataError(f"{place}: {name}: must read its rows with its own code, got data: {data}; use the hub")
    folder = folder_of(name, config, data)
    if folder is None:
        raise MissingDataError(f"{place}: {name}: must find its rows, got no {data / name}/SPLIT.jsonl; add the files")
    fewshot = config.get("fewshot_config") or {}
    named = {key: config.get(key) for key in ("training_split", "validation_split", "test_split", "fewshot_split")}
    named["fewshot_config"] = fewshot.get("split") if isinstance(fewshot, Mapping) else None
    scored = named["test_split"] or named["validation_split"]
    examples = named["fewshot_config"] or named["fewshot_split"] or named["training_split"] or named["validation_split"]
    wanted = config.get("num_fewshot") if shots is None or config.get("num_fewshot") == 0 else shots
    if isinstance(fewshot, Mapping) and fewshot.get("samples"):
        wanted = 0  # its examples stand in the task's file
    needed = {scored} | ({examples} if wanted else set())
    files = {}
    for split in dict.fromkeys(split for split in named.values() if split):
        file = folder / f"{split}.jsonl"
        if file.is_file():
            count = _check_rows(file, place, name)
            if split == examples and wanted and count < int(wanted) + (split == scored):
                raise DataError(
                    f"{place}: {name}: must have rows for {wanted} few-shot examples, got {count} in {file}; "
                    "add rows or ask for fewer shots"
                )
            files[str(split)] = str(file.resolve())
        elif split in needed:
            what = "questions" if split == scored else "few-shot examples"
            raise MissingDataError(f"{place}: {name}: must find its {what}, got no file {file}; add it")
    changed: dict[str, object] = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
    for key in ("training_split", "validation_split", "fewshot_split"):
        if named[key] and named[key] not in files:
            changed[key] = None
    return changed


def _check_rows(file: Path, place: str, name: str) -> int:
    """Return the number of rows, which must all be objects with the columns of the first."""
    columns: set[str] = set()
    count = 0
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            fault = f"{place}: {name}: {file}: line {number}: must be a JSON object"
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict) or not row:
                raise DataError(f"{fault}, got {line.strip()[:60]!r}; mend or replace the file")
            columns = columns or set(row)
            if missing := columns - set(row):
                raise DataError(f"{fault} with the columns of line 1, got none called {', '.join(sorted(missing))}")
            count += 1
    if not count:
        raise DataError(f"{place}: {name}: {file}: must have rows, got an empty file; mend or replace it")
    return count


def is_hub_failure(error: BaseException) -> bool:
    """Tell whether a data set could not be fetched."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(
        names & {"OfflineModeIsEnabled", "LocalEntryNotFoundError", "DatasetNotFoundError", "HfHubHTTPError"}
        or isinstance(error, ConnectionError | TimeoutError)
        or "Couldn't find cache" in str(error)
        or "Couldn't reach" in str(error)
    )


def is_schema_failure(error: BaseException) -> bool:
    """Tell whether rows lack what the task's template reads."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return "UndefinedError" in names or isinstance(error, KeyError | TypeError | IndexError | AttributeError)


def is_data_failure(error: BaseException) -> bool:
    """Tell whether rows could not be read."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(
        names & {"DatasetGenerationError", "ArrowInvalid", "CastError"}
        or isinstance(error, ValueError | FileNotFoundError | AssertionError)
    )
