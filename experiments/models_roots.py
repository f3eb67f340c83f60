"""Where model names are looked up: the caller's folders, those of MERGESEARCH_MODELS, the user's cache."""

from collections.abc import Sequence
from pathlib import Path

from experiments.errors import InputError
from merge.recipe.model_reference import models_roots as with_standard_roots


def models_roots(folders: Sequence[str | Path] | None) -> tuple[Path, ...]:
    """Return the folders to look in, the caller's first.

    Args:
        folders: What the caller names.

    Raises:
        InputError: One of them does not exist.
    """
    roots = [Path(folder) for folder in folders or ()]
    for root in roots:
        if not root.is_dir():
            raise InputError(f"--models-root {root}: must be a folder that exists")
    return with_standard_roots(roots)
