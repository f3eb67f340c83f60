"""Names and batches as MLflow takes them."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

LONGEST_KEY = 250
"""Characters of a name that every MLflow store takes."""


def safe_name(name: str) -> str:
    """Return a name of letters, digits, ``_ - . /`` and spaces, with no path in it that leads elsewhere."""
    text = re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)
    parts = [part for part in text.split("/") if part.strip(". ")]
    return "/".join(parts)[:LONGEST_KEY] or "unnamed"


def safely_named(values: Mapping[str, T]) -> dict[str, T]:
    """Return the values under names that MLflow takes (commas, say, are refused); no two fall together."""
    named: dict[str, T] = {}
    for name, value in values.items():
        safe = safe_name(name)
        if safe in named:
            safe = f"{safe[: LONGEST_KEY - 9]}.{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        named[safe] = value
    return named


def batches(entries: Sequence[T], size: int) -> list[Sequence[T]]:
    """Return the entries in batches of at most ``size``; at least one batch, which may be empty."""
    return [entries[start : start + size] for start in range(0, max(len(entries), 1), size)]
