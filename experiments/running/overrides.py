"""Reads a study from a file, a mapping or an object, with what the caller says instead of it."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.study.study import LoadedStudy, load_study

StudySource = str | Path | Mapping[str, Any] | LoadedStudy
"""A study: the path of its file, its content as a mapping, or a study that was loaded already."""


def loaded_study(source: StudySource) -> LoadedStudy:
    """Return a study, checked.

    Raises:
        search.errors.StudyError: It cannot be read or does not hold together; one line per fault.
    """
    if isinstance(source, LoadedStudy):
        return source
    if isinstance(source, Mapping):
        return LoadedStudy(deepcopy(dict(source)), place="study")
    return load_study(Path(source))


@dataclass(frozen=True)
class Overrides:
    """What the caller says instead of the study file; None leaves the file's word.

    Attributes:
        data: ``evaluate.data``: ``hub``, or a folder.
        trials: ``search.trials``.
        max_hours: ``search.max_hours``.
        search_on_test: ``evaluate.search_on_test``; False leaves the file's word.
        patience: ``search.patience``.
        workers: ``search.workers``.
    """

    data: str | None = None
    trials: int | None = None
    max_hours: float | None = None
    search_on_test: bool = False
    patience: int | None = None
    workers: int | None = None

    def apply(self, source: StudySource) -> LoadedStudy:
        """Return a study with the overrides in place.

        Raises:
            search.errors.StudyError: The study, or an override, is wrong.
        """
        study = loaded_study(source)
        changes = {
            "trials": self.trials,
            "max_hours": self.max_hours,
            "patience": self.patience,
            "workers": self.workers,
        }
        changed = {key: value for key, value in changes.items() if value is not None}
        if not changed and self.data is None and not self.search_on_test:
            return study
        document = study.file.model_dump(mode="json", exclude_unset=True)
        if self.data is not None:
            document["evaluate"]["data"] = self.data if self.data == "hub" else str(Path(self.data).resolve())
        if self.search_on_test:
            document["evaluate"]["search_on_test"] = True
        if changed:
            document["search"] = {**document.get("search", {}), **changed}
        return LoadedStudy(document, place=study.place)
