"""What licence a merge may have, given its parents'."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.errors import InputError
from merge.documents import DocumentError, read_text, read_yaml
from merge.errors import CheckpointError
from merge.recipe.model_reference import resolve

PERMISSIVE = ("apache-2.0", "mit", "bsd-3-clause", "bsd-2-clause", "isc", "cc-by-4.0", "cc0-1.0", "unlicense")
"""Licences that allow the result another one; the strictest first."""
LARGEST = 5_000_000
"""Bytes of a parent's card."""
_FRONT = re.compile(r"\s*---[ ]*\r?\n(.*?)\r?\n---", re.DOTALL)
UNNAMED = ("other", "unknown", "")


@dataclass(frozen=True)
class Licence:
    """What a merge may be offered under.

    Attributes:
        name: The hub's name of a licence; None where it cannot be told.
        parents: Reference to licence; None where a parent names none.
        notes: What a person should look at.
    """

    name: str | None
    parents: Mapping[str, str | None]
    notes: tuple[str, ...]


def parent_licences(references: tuple[str, ...], roots: tuple[Path, ...]) -> dict[str, str | None]:
    """Return what the card beside each model, and beside each adapter, names as its licence."""
    parts = dict.fromkeys(part for reference in references for part in reference.split("+"))
    return {part: _licence_of(part, roots) for part in parts}


def _licence_of(part: str, roots: tuple[Path, ...]) -> str | None:
    try:
        card = resolve(part, roots) / "README.md"
    except CheckpointError:
        return None
    if not card.is_file():
        return None
    try:
        front = _FRONT.match(read_text(card, LARGEST))
        documents = read_yaml(front[1], str(card)) if front else []
    except (DocumentError, OSError):
        return None
    told = documents[0] if len(documents) == 1 and isinstance(documents[0], dict) else {}
    named = told.get("license_name") if told.get("license") in ("other", None) else told.get("license")
    return str(named).lower() if isinstance(named, str) else None


def merged_licence(parents: Mapping[str, str | None], asked: str | None = None) -> Licence:
    """Return the licence of a merge: the only one that binds, else the strictest of permissive ones.

    Args:
        parents: Reference to licence.
        asked: What a person wants it to be.

    Raises:
        InputError: The parents do not allow what is asked for.
    """
    unnamed = [name for name, licence in parents.items() if licence in (None, *UNNAMED)]
    named = {licence for licence in parents.values() if licence is not None and licence not in UNNAMED}
    binding = sorted(named - set(PERMISSIVE))
    notes = [f"the licence of {name} is not told; look it up before sharing the result" for name in unnamed]
    if len(binding) > 1:
        notes.append(f"the parents' licences {' and '.join(binding)} may exclude each other; ask before sharing")
    own = next((licence for licence in PERMISSIVE if licence in named), None)
    result = binding[0] if len(binding) == 1 else "other" if binding else None if unnamed else own
    if asked is None:
        return Licence(result, parents, tuple(notes))
    if binding and asked.lower() != result:
        raise InputError(f"--license: must be {' and '.join(binding)}, as the parents', got '{asked}'")
    return Licence(asked.lower(), parents, tuple(notes))
