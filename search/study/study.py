"""A study whose file holds together: typed sections, search space, known recipes; checked before anything is opened."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evals.suites import load_suite
from merge.documents import DocumentError, one_line, read_text, read_yaml
from merge.errors import RecipeError
from merge.recipe.schema import Recipe
from search.errors import StudyError
from search.space.family import Family
from search.space.search_space import SearchSpace
from search.study.schema import StudyFile, faults

FREE = ("trials", "max_hours", "patience", "finalists", "mask_seeds", "workers")
"""Keys of the search section that may change while a study runs."""


class LoadedStudy:
    """A study file that holds together: typed sections, the search space, the known recipes.

    Attributes:
        file: The typed file.
        space: Its families as one search space.
        known: Plain recipes that it lists as baselines, by name.
        place: Name of the file, for messages.
    """

    def __init__(self, document: object, *, place: str) -> None:
        self.place = place
        if not isinstance(document, dict):
            raise StudyError(f"{place}: must be a YAML mapping that starts with 'study: NAME'")
        try:
            self.file = StudyFile.model_validate(document)
        except ValidationError as error:
            raise StudyError("\n".join(one_line(line, 600) for line in faults(error, place))) from None
        wrong: list[str] = []
        families: dict[str, Family] = {}
        self.known: dict[str, Recipe] = {}
        for name, family in self.file.families.items():
            try:
                families[name] = Family(name, family, place=f"{place}: families.{name}")
            except (StudyError, RecipeError) as error:
                wrong.append(str(error))
        for name, recipe in self.file.baselines.items():
            try:
                self.known[name] = Recipe.from_mapping(recipe, place=f"{place}: baselines.{name}")
            except RecipeError as error:
                wrong.append(str(error))
        if wrong:
            raise StudyError("\n".join(wrong))
        self.space = SearchSpace(families)

    def objectives(self) -> int:
        """Return how many values a trial is told: one, or one per task that counts for a Pareto front."""
        if self.file.search.objective == "mean":
            return 1
        section = self.file.evaluate
        listed = section.tasks if section.suite is None else load_suite(section.suite).tasks
        return sum(spec.weight > 0 for spec in listed)

    def with_search(self, **changes: object) -> "LoadedStudy":
        """Return the study with other values in its search section."""
        document = self.file.model_dump(mode="json", exclude_unset=True)
        document["search"] = {**document.get("search", {}), **changes}
        return LoadedStudy(document, place=self.place)

    def identity(self) -> dict[str, object]:
        """Return what makes two runs the same study: everything but budget, finalists, workers, store and tracking."""
        return _identity(self.file.model_dump(mode="json"))

    def digest(self) -> str:
        """Return the sha256 of what the identity has beside defaults, so that a new key of a later version is none."""
        document = _identity(self.file.model_dump(mode="json", exclude_defaults=True))
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def completed(identity: object) -> object:
    """Return a recorded identity with the defaults of keys that came later; as it is where it fits no longer."""
    try:
        return _identity(StudyFile.model_validate(identity).model_dump(mode="json"))
    except ValidationError:
        return identity


def _identity(document: dict[str, Any]) -> dict[str, object]:
    kept = {key: value for key, value in document.items() if key not in ("store", "tracking")}
    section = {key: value for key, value in document.get("search", {}).items() if key not in FREE}
    return {**kept, "search": section}


def load_study(path: Path) -> LoadedStudy:
    """Read and check a study file.

    Raises:
        StudyError: It cannot be read, is no YAML, or does not hold together; one line per fault.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror or error}") from None
    except DocumentError as error:
        raise StudyError(str(error)) from None
    return parse_study(text, place=path.name)


def parse_study(text: str, *, place: str) -> LoadedStudy:
    """Check the text of a study file; see ``load_study``."""
    try:
        documents = read_yaml(text, place)
    except DocumentError as error:
        raise StudyError(str(error)) from None
    if len(documents) > 1:
        raise StudyError(f"{place}: must hold one study, got {len(documents)} documents; remove '---' and what follows")
    return LoadedStudy(documents[0] if documents else None, place=place)


def differences(old: object, new: object, path: str = "") -> Iterator[str]:
    """Go through what differs between two documents, one ``path: old -> new`` per leaf."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(k for k in new if k not in old)]:
            yield from differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif old != new:
        yield f"{path}: {old!r} -> {new!r}"
