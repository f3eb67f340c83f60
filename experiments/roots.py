"""Where model names are looked up: the command line's folders, then those of MERGESEARCH_MODELS."""

import os
from collections.abc import Sequence
from pathlib import Path

from experiments.errors import InputError


def models_roots(given: Sequence[Path] | None) -> tuple[Path, ...]:
    """Return the folders to look in.

    Raises:
        InputError: One of them does not exist.
    """
    roots = list(given or ())
    for root in roots:
        if not root.is_dir():
            raise InputError(f"--models-root {root}: must be a folder that exists")
    roots += [Path(part) for part in os.environ.get("MERGESEARCH_MODELS", "").split(os.pathsep) if part]
    return tuple(roots)
