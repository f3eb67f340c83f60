"""The index of a mirror: which records MLflow holds, in a file beside the study, since asking MLflow is slow.

The file counts only while a tag of the study's run in MLflow holds its token. A mirror that is written from elsewhere
puts another token there, and then MLflow is asked for everything.
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
class IndexContent:
    """What the file of an index holds.

    Attributes:
        run: Id of the study's run.
        token: The token that MLflow's tag of that run held.
        children: Record key to the id of the run that holds all of it.
    """

    run: str
    token: str
    children: dict[str, str]


@dataclass
class MirrorIndex:
    """The file of an index, read once and added to.

    Attributes:
        path: The file.
        token: What MLflow's tag of the study's run holds from the next `begin` on.
    """

    path: Path
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def read(self) -> IndexContent | None:
        """Return its content; None where it is missing or was cut off."""
        try:
            (head, *entries) = map(json.loads, self.path.read_text(encoding="utf-8").splitlines())
            return IndexContent(head["run"], head["word"], dict(entries))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def begin(self, run: str, children: Mapping[str, str]) -> None:
        """Write it anew, with a token of its own."""
        lines = [json.dumps({"run": run, "word": self.token}), *(json.dumps(entry) for entry in children.items())]
        write_text_atomically(self.path, "\n".join(lines) + "\n")

    def add(self, key: str, run: str) -> bool:
        """Add a run that holds all of its record; return whether that was possible, if not the file is deleted."""
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
