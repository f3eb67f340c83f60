"""Finds task files by name without parsing them all.

lm-eval's own index parses some 14,000 YAML files (5 to 30 s). Here their text is searched for the four keys that
name things (about one second), and only the files that are needed are given to lm-eval.
"""

import importlib.util
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from evals.errors import TaskError, nearest

_NAME = re.compile(r"""^["']?(task|group)["']?[ \t]*:[ \t]*["']?([^\s"'#\[{][^\n"'#]*)""", re.MULTILINE)
_LISTED = re.compile(r"""^["']?(tag|include)["']?[ \t]*:(.*(?:\n[ \t]+\S.*|\n-[ \t].*)*)""", re.MULTILINE)


class _Loader(yaml.SafeLoader):
    """Reads task files without running what ``!function`` names."""


_Loader.add_multi_constructor("!", lambda _loader, _suffix, node: str(node.value))


def read_yaml(path: Path) -> dict[str, object]:
    """Read one task file, includes and functions left as text."""
    document = yaml.load(path.read_bytes(), Loader=_Loader)  # noqa: S506 - a SafeLoader
    return document if isinstance(document, dict) else {}


def lm_eval_folder() -> Path:
    """Return the folder of the installed lm-eval, which is not imported for that."""
    found = importlib.util.find_spec("lm_eval")
    if found is None or found.origin is None:
        raise TaskError("lm_eval: must be installed, got nothing; pip install lm-eval")
    return Path(found.origin).parent


def _listed(text: str) -> dict[str, list[str]]:
    found = {key: _values(value) for key, value in _LISTED.findall(text)}
    return {key: list(values) for key, values in found.items() if values is not None}


@lru_cache(maxsize=4096)  # thousands of files name the same few tags and includes
def _values(text: str) -> tuple[str, ...] | None:
    try:
        parsed = yaml.safe_load(f"x:{text}")["x"]
    except yaml.YAMLError:
        return None
    return tuple(str(item) for item in (parsed if isinstance(parsed, list) else [parsed]) if item)


@dataclass(frozen=True)
class TaskIndex:
    """The task files below one folder, by the names that they define.

    Args:
        files: Name of a task or group to the file that defines it; the first in path order, as in lm-eval.
        tags: Tag to the names of its tasks.
    """

    files: dict[str, Path]
    tags: dict[str, tuple[str, ...]]

    @property
    def names(self) -> set[str]:
        """Everything that can be asked for: tasks, groups and tags."""
        return {*self.files, *self.tags}

    def collect(self, name: str) -> dict[str, Path]:
        """Return the files of `name` and of everything below it; nothing when it is not known."""
        found: dict[str, Path] = {}
        waiting = [name]
        while waiting:
            current = waiting.pop()
            if current in found:
                continue
            if current in self.files:
                found[current] = self.files[current]
                waiting += _members(read_yaml(self.files[current]))
            else:
                waiting += self.tags.get(current, ())
        return found


def _members(document: dict[str, object]) -> list[str]:
    listed = document.get("task")
    names: list[str] = []
    for item in listed if isinstance(listed, list) else []:
        if isinstance(item, str):
            names.append(item)
        elif isinstance(item, dict):
            names += [str(item[key]) for key in ("task", "group") if isinstance(item.get(key), str)]
            names += _members(item)
    return names


@lru_cache(maxsize=8)
def index_folder(folder: Path) -> TaskIndex:
    """Search every YAML file below `folder`."""
    files: dict[str, Path] = {}
    members: defaultdict[str, list[str]] = defaultdict(list)
    templates: dict[Path, dict[str, list[str]]] = {}

    def listed_in(path: Path, depth: int = 0) -> dict[str, list[str]]:
        if path not in templates:
            templates[path] = _listed(path.read_text("utf-8", "replace")) if path.is_file() and depth < 8 else {}
        return templates[path]

    def tags_of(path: Path, listed: dict[str, list[str]], depth: int = 0) -> list[str]:
        if "tag" in listed or depth > 8:
            return listed.get("tag", [])
        for included in listed.get("include", []):
            parent = Path(os.path.normpath(path.parent / included))
            if inherited := tags_of(parent, listed_in(parent), depth + 1):
                return inherited
        return []

    for path in _yaml_files(folder):
        text = path.read_text("utf-8", "replace")
        found = {key: value.strip() for key, value in _NAME.findall(text)}
        name = found.get("group") or found.get("task")
        if name is None or name in files:
            continue
        files[name] = path
        if "group" not in found:
            for tag in tags_of(path, _listed(text)):
                members[tag].append(name)
    return TaskIndex(files, {tag: tuple(sorted(names)) for tag, names in members.items()})


def _yaml_files(folder: Path) -> list[Path]:
    found = [Path(top, file) for top, _, names in os.walk(folder) for file in names if file.endswith(".yaml")]
    return sorted(found, key=lambda path: path.as_posix())


def find_files(name: str, folders: list[Path], place: str) -> dict[str, Path]:
    """Return the task files that `name` needs, from the first of `folders` that knows it.

    Raises:
        TaskError: When none does, with the nearest names.
    """
    indexes = [index_folder(folder) for folder in folders]
    for index in indexes:
        if found := index.collect(name):
            for other in indexes:
                for missing in [member for path in found.values() for member in _members(read_yaml(path))]:
                    if missing not in found:
                        found |= other.collect(missing)
            return found
    known = set().union(*(index.names for index in indexes))
    raise TaskError(f"{place}: must name a task or group of lm-eval, got {name!r}{nearest(name, known)}")
