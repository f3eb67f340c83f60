"""A check at start-up that the four rooms are this project's: ``evals``, say, is also another distribution's name."""

from importlib.util import find_spec
from pathlib import Path

ROOMS = ("search", "merge", "evals")


def foreign_rooms() -> str | None:
    """Return one line about a room that another distribution shadows; None when all are ours."""
    home = Path(__file__).resolve().parents[3]
    for room in ROOMS:
        spec = find_spec(room)
        found = Path(spec.origin).resolve().parent if spec is not None and spec.origin is not None else None
        if found != home / room:
            return (
                f"package '{room}': must be mergesearch's in {home}, got {found or 'nothing'}; "
                "another distribution of that name shadows it: uninstall that one or use a fresh environment"
            )
    return None
