"""What prompts and tokens depend on: libraries, our own sources, data files, tokenizer; the keys of the disk cache."""

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evals.cache.disk_cache import digest, file_digest

_LIBRARIES = ("lm_eval", "datasets", "transformers", "tokenizers", "jinja2")
_ROWS = {"json", "csv", "parquet", "text"}


@lru_cache(maxsize=1)
def code_key() -> str:
    """Return a hash of this package's sources and embedded questions, and of the versions of what they stand on."""
    here = Path(__file__).resolve().parent.parent
    found = {}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "none"
    return digest([found, hashes(_files_below(here, (".py", ".yaml", ".jsonl")), here)])


def hashes(files: Iterable[Path], root: Path | None = None) -> dict[str, str]:
    """Return the hash of each file, by its path (below `root`, where that is given)."""
    return {str(path if root is None else path.relative_to(root)): file_digest(path) for path in sorted(files)}


def _files_below(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in suffixes and path.is_file()]


def sources_key(data: Path | None, include_path: Path | None) -> dict[str, object]:
    """Return what task files and data folder look like from outside: own task files whole, names of data files."""
    own = [] if include_path is None else [path for path in include_path.rglob("*") if path.is_file()]
    names = [] if data is None else [path.relative_to(data).as_posix() for path in data.rglob("*.jsonl")]
    return {
        "data": None if data is None else str(data.resolve()),
        "names": sorted(names),
        "include": hashes(own),
    }


def data_files(task: Any) -> list[Path] | None:
    """Return the files that a task's rows were read from where it names them itself; None where it does not."""
    options = task.get_config("dataset_kwargs") or {}
    listed = options.get("data_files") if isinstance(options, dict) else None
    if task.get_config("dataset_path") not in _ROWS or task.get_config("custom_dataset") is not None or not listed:
        return None
    groups = list(listed.values()) if isinstance(listed, dict) else [listed]
    return _all_there(file for group in groups for file in (group if isinstance(group, list) else [group]))


def arrow_files(task: Any) -> list[Path] | None:
    """Return the files in which ``datasets`` keeps the rows that a task is open on; None when they are in memory.

    They hold what came from the hub, so their content tells whether it is what it was.
    """
    if task.get_config("custom_dataset") is not None:
        return None
    splits = getattr(getattr(task, "dataset", None), "cache_files", None)
    if not isinstance(splits, dict) or not splits or not all(splits.values()):
        return None
    return _all_there(file["filename"] for files in splits.values() for file in files)


def _all_there(files: Iterable[str]) -> list[Path] | None:
    paths = [Path(file) for file in files]
    return paths if all(path.is_file() for path in paths) else None


def tokenizer_key(tokenizer: Any) -> str | None:
    """Return a hash of all that decides the tokens of a text and the rendering of messages; None when unknown."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return None
    options = {name: getattr(tokenizer, name, None) for name in ("add_bos_token", "add_eos_token", "chat_template")}
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return digest([type(tokenizer).__name__, json.loads(fast.to_str()), options, special])
