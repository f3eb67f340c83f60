"""Warm starts: recipes and earlier studies that a study begins with."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from merge.documents import DocumentError, read_text, read_yaml
from search.errors import SpaceError, StudyError
from search.samplers import SourceTrial
from search.space.holes import Scalar
from search.space.search_space import SearchSpace
from search.storage.store import Store, default_url
from search.study.study import LoadedStudy, load_study

BEST_ASKED = 3
"""Best recipes of an earlier study that are asked again, as other questions make other values."""


@dataclass(frozen=True)
class WarmStart:
    """What a study begins with.

    Attributes:
        first: Parameters of candidates to ask first, by full Optuna name.
        sources: Everything that earlier studies scored in this space.
    """

    first: tuple[Mapping[str, Scalar], ...] = ()
    sources: tuple[SourceTrial, ...] = ()

    def to_json(self) -> str:
        """Return it as text, read back by ``from_json``."""
        return json.dumps({"first": list(self.first), "sources": [[dict(s.parameters), s.value] for s in self.sources]})

    @classmethod
    def from_json(cls, text: str) -> "WarmStart":
        """Return what ``to_json`` wrote."""
        read = json.loads(text)
        return cls(tuple(read["first"]), tuple(SourceTrial(parameters, value) for parameters, value in read["sources"]))


def read_warm_start(study: LoadedStudy) -> WarmStart:
    """Read every recipe and every earlier study that ``search.warm_start`` names.

    Raises:
        StudyError: One is missing, fits in no family, or has a value out of its range.
    """
    first: list[Mapping[str, Scalar]] = []
    sources: list[SourceTrial] = []
    for index, name in enumerate(study.file.search.warm_start):
        place, path = f"{study.place}: search.warm_start[{index}]", Path(name)
        if path.is_dir():
            found = _earlier(path, study.space, place)
            sources += found
            best = sorted(found, key=lambda known: -known.value)[:BEST_ASKED]
            first += [known.parameters for known in best]
        elif path.is_file():
            first.append(_recipe(path, study.space, place))
        else:
            raise StudyError(f"{place}: must be the folder of a study or a recipe file, got {name}, which is not there")
    return WarmStart(tuple(first), tuple(sources))


def _recipe(path: Path, space: SearchSpace, place: str) -> Mapping[str, Scalar]:
    try:
        documents = read_yaml(read_text(path), f"{place}: {path}")
    except (OSError, DocumentError) as error:
        raise StudyError(f"{place}: {path}: is no YAML recipe: {error}") from None
    document: Any = documents[0] if len(documents) == 1 else None
    if not isinstance(document, dict):
        raise StudyError(f"{place}: {path}: must be one recipe with merge_method and models")
    reasons = []
    for family in space.families.values():
        try:
            return space.parameters(family.name, family.encode(document))
        except SpaceError as error:
            reasons.append(str(error).removeprefix(f"{place.split(': ')[0]}: "))
    raise StudyError(f"{place}: {path}: fits in no family: {'; '.join(reasons)}")


def _earlier(folder: Path, space: SearchSpace, place: str) -> list[SourceTrial]:
    """Return the fully scored trials of a study whose recipes fit in a family of this one."""
    file = folder / "study.yaml"
    if not file.is_file():
        raise StudyError(f"{place}: {folder}: must be the folder of a study, as in runs/NAME, has no study.yaml")
    earlier = load_study(file)
    store = Store(earlier.file.store or default_url(folder), earlier)
    done = [trial for trial in store.finished() if trial.state == TrialState.COMPLETE]
    full = 0
    found: dict[str, SourceTrial] = {}
    for _, record in store.records(done):
        if record.get("stopped_after") is not None:
            continue
        full += 1
        encoded = space.encode(record["recipe"])
        if encoded is not None:
            parameters = space.parameters(*encoded)
            found.setdefault(json.dumps(parameters, sort_keys=True), SourceTrial(parameters, record["value"]))
    if not found:
        raise StudyError(f"{place}: {folder}: none of its {full} scored recipes fits in a family of this study")
    return list(found.values())
