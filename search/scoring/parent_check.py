"""The parents of a study, held to what they were: files are pinned by hash, and looked at around each candidate."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from evals.cache.disk_cache import file_digest
from merge.merger import Merger
from search.errors import StoreError
from search.storage.pins import Pins

BESIDE = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
"""Files of a model folder that decide what its weights answer."""
PARENT_PINS = ("parents", "parent_files")
"""Names under which their hashes are pinned: of weights, and of the files beside them."""
REMEDY = "restore that model, or start a new study"


@dataclass(frozen=True)
class _Files:
    """Hashes of a parent's files: of its weights together, and of those beside them by name."""

    weights: str
    beside: Mapping[str, str]


class Parents:
    """Refuses to go on when a file of a parent was changed since the study began.

    Content is read again only where a file's size or time differs, so that a look costs a few microseconds a file.

    Args:
        merger: Has the parents open.
        pins: Has their hashes.
    """

    def __init__(self, merger: Merger, pins: Pins) -> None:
        self._merger = merger
        self._seen = self._look()
        pins.pin(PARENT_PINS[0], {name: found.weights for name, found in self._seen.items()}, REMEDY)
        pins.pin(PARENT_PINS[1], {name: dict(found.beside) for name, found in self._seen.items()}, REMEDY)

    def check(self) -> None:
        """Look at the files; those of models that were opened since are taken as they are.

        Raises:
            StoreError: One was changed, or is gone.
        """
        found = self._look()
        for name, before in self._seen.items():
            if found[name] != before:
                raise StoreError(f"{name}: must not change while a study runs, its files did; {REMEDY}")
        self._seen = found

    def _look(self) -> dict[str, _Files]:
        try:
            weights = self._merger.fingerprints()
            return {name: _Files(told, _beside(self._merger.checkpoint(name).folder)) for name, told in weights.items()}
        except OSError as error:
            place = error.filename or "a parent's file"
            raise StoreError(f"{place}: must stay while a study runs: {error.strerror}; {REMEDY}") from None


def _beside(folder: Path) -> dict[str, str]:
    files = [folder / name for name in BESIDE if (folder / name).is_file()]
    return {file.name: _digest(file, *_stamp(file)) for file in files}


def _stamp(file: Path) -> tuple[int, int, int, int]:
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@lru_cache(maxsize=1024)
def _digest(file: Path, *stamp: int) -> str:
    """Return the SHA-256 of a file; one of another number, size or time is read again."""
    del stamp
    return file_digest(file)
