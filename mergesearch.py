"""Start of the command ``mergesearch``: checks that the four rooms are this project's, then runs the command line.

The rooms are top-level packages with everyday names. Another distribution called ``evals``, say, may stand before
ours on Python's path; this file lies outside of the rooms, so that it can report whichever of them is hidden.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

ROOMS = ("merge", "evals", "search", "experiments")
HOME = Path(__file__).resolve().parent
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


def main() -> None:
    """Run the command line, or end with exit code 2 where a room is hidden."""
    shadowed = shadowed_room()
    if shadowed is not None:
        sys.stderr.write(f"error: {shadowed}\n")
        raise SystemExit(2)
    from experiments.cli import main as run

    run()


if __name__ == "__main__":
    main()
