"""Checks that the four rooms are this project's before anything of them is imported.

The rooms are top-level packages with everyday names: another distribution called ``evals``, say, may stand before ours
on Python's path.
"""

from importlib.util import find_spec
from pathlib import Path

ROOMS = ("merge", "evals", "search", "experiments")
HOME = Path(__file__).resolve().parent.parent
"""Folder that holds the rooms: the checkout, or site-packages."""


def shadowed_room(home: Path = HOME) -> str | None:
    """Return one line about the first room that another package hides; None when all are the ones in ``home``.

    Nothing is imported: only the places where Python would look are compared.
    """
    for room in ROOMS:
        spec = find_spec(room)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin is not None else None
        if origin != home / room / "__init__.py":
            return (
                f"package '{room}': must be mergesearch's in {home}, got {origin or 'nothing'}; "
                f"another package of that name stands first on Python's path: "
                "uninstall or rename that one, or use a fresh environment"
            )
    return None
