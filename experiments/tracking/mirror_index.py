"""What a mirror holds already, remembered beside the study: MLflow reads every run whole to tell its name.

The file counts only while the study's run bears its word. A mirror kept up from elsewhere puts another word there, and
then MLflow is asked for everything.
"""

import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from experiments.atomic_files import write_text_atomically


@dataclass(frozen=True)
class Remembered:
    """What a file says.

    Attributes:
        run: Id of the study's run.
        word: What that run bears.
        children: Record key to the id of the run that holds it whole.
    """

    run: str
    word: str
    children: dict[str, str]


@dataclass
class Mirrored:
    """The file, read once and added to.

    Attributes:
        path: The file.
        word: What the study's run will bear when this file is written anew.
    """

    path: Path
    word: str = field(default_factory=lambda: uuid.uuid4().hex)

    def read(self) -> Remembered | None:
        """Return what it says; None where it is missing or was cut off."""
        try:
            (head, *entries) = map(json.loads, self.path.read_text(encoding="utf-8").splitlines())
            return Remembered(head["run"], head["word"], dict(entries))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def begin(self, run: str, children: Mapping[str, str]) -> None:
        """Write it anew, with a word of its own."""
        lines = [json.dumps({"run": run, "word": self.word}), *(json.dumps(entry) for entry in children.items())]
        write_text_atomically(self.path, "\n".join(lines) + "\n")

    def add(self, key: str, run: str) -> bool:
        """Add a run that is whole but for its end; tell whether that was possible, if not the file is gone."""
        try:
            with self.path.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps([key, run]) + "\n")
                handle.flush()
                os.fsync(handle.fileno())
        except OSError:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            return False
        return True
