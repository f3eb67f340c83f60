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
    columns: dict[str, object] = {}
    count = 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            fault = f"{place}: {name}: {file}: line {number}: must be a JSON object"
            row = _row(line, fault)
            missing = sorted(set(columns) - set(row)) if count else []
            if missing:
                names = ascii(", ".join(missing)[:80])[1:-1]
                raise DataError(
                    f"{fault} with the columns of line 1, got none called {names}; mend or replace the file"
                )
            for column, value in row.items():
                kind = _kind(value)
                known = columns.setdefault(column, kind)
                columns[column] = _common(known, kind)
                if columns[column] == _MIXED:
                    raise DataError(
                        f"{fault} with the kinds of values of the lines before, got another in column {column[:80]!r}; "
                        "mend or replace the file"
                    )
            count += 1
    if not count:
        raise DataError(f"{place}: {name}: {file}: must have rows, got an empty file; mend or replace it")
    return count


def _row(line: bytes, fault: str) -> dict[str, Any]:
    """Return the object of a line, read as strictly as the library that will read the whole file."""
    try:
        row = json.loads(line.decode("utf-8"), parse_int=_whole, parse_constant=_refused, object_pairs_hook=_object)
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        why = "it is too deep" if isinstance(error, RecursionError) else str(error).partition(": line 1")[0]
        raise DataError(f"{fault}, got {_shown(line)} ({why[:80]}); mend or replace the file") from None
    if not isinstance(row, dict) or not row:
        raise DataError(f"{fault}, got {_shown(line)}; mend or replace the file")
    return row


def _shown(line: bytes) -> str:
    return repr(line.strip()[:60].decode("utf-8", "replace"))


def _whole(text: str) -> int:
    if len(text) > 19 or not -(2**63) <= int(text) < 2**63:
        raise ValueError("a number is beyond 64 bits")
    return int(text)


def _refused(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a column stands twice")
    if not all(made):
        raise ValueError("a column has no name")
    return made


_MIXED = "mixed"


def _kind(value: object) -> object:
    """Return what kind a value is: a word; for lists and objects, with the kinds of what is in them."""
    if value is None:
        return None
    if isinstance(value, list):
        kind: object = None
        for item in value:
            kind = _common(kind, _kind(item))
        return ("list", kind)
    if isinstance(value, dict):
        return {key: _kind(item) for key, item in value.items()}
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def _common(one: object, other: object) -> object:
    """Return the kind of a column that has values of two kinds; ``_MIXED`` where there is none."""
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, dict) and isinstance(other, dict):
        made = {key: _common(one.get(key), other.get(key)) for key in {**one, **other}}
        return _MIXED if _MIXED in made.values() else made
    if isinstance(one, tuple) and isinstance(other, tuple):
        inner = _common(one[1], other[1])
        return _MIXED if inner == _MIXED else ("list", inner)
    return one if one == other else _MIXED


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
