"""All that a scorer in another process, or on another host, is told to open what it needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.hardware import device_of, share_cores
from search.scoring.candidate_scorer import CandidateScorer
from search.scoring.resources import Resources
from search.storage.pins import FixedPins
from search.study.study import LoadedStudy


@dataclass(frozen=True)
class ScorerSetup:
    """Opens a scorer wherever it is called.

    Attributes:
        document: The study file; paths in it are whole.
        name: Its name, for messages.
        pins: What the leader fixed: questions, objective, hashes of the parents.
        folder: The study's folder, with prompts that were built before.
        models_roots: Folders in which model names are looked up.
        device: Where live models run; ``cuda`` stands for all accelerators of a host, one after the other.
        share: Number of scorers on a host, which share its memory and cores.
    """

    document: Mapping[str, Any]
    name: str
    pins: FixedPins
    folder: Path
    models_roots: Sequence[Path]
    device: str
    share: int

    @classmethod
    def of(
        cls, study: LoadedStudy, pins: FixedPins, folder: Path, *, models_roots: Sequence[Path], device: str, share: int
    ) -> "ScorerSetup":
        """Return what opens scorers of a study, wherever they start: paths are whole."""
        document = study.file.model_dump(mode="json", exclude_unset=True)
        section = document["evaluate"]
        for key in ("data", "include_path"):
            if section.get(key) not in (None, "hub"):
                section[key] = str(Path(section[key]).resolve())
        roots = tuple(root.resolve() for root in models_roots)
        return cls(document, study.place, pins, folder.resolve(), roots, device, share)

    def __call__(self, number: int) -> CandidateScorer:
        """Open the scorer of a number, counted from 0 on each host."""
        share_cores(self.share)
        study = LoadedStudy(dict(self.document), place=self.name)
        device = device_of(self.device, number)
        resources = Resources(study, self.models_roots, device, self.folder, self.share)
        resources.use(self.pins)
        return resources.scorer
