"""Reads YAML out of a card: what is no plain document is text, and no error."""

from merge.documents import DocumentError, read_yaml


def documents(text: str) -> list[object]:
    """Return the documents of a text; none where it is no plain YAML."""
    try:
        return list(read_yaml(text, "card"))
    except DocumentError:
        return []


def value(text: str) -> object:
    """Return one YAML value, or the text itself where it is none."""
    found = documents(text)
    return found[0] if len(found) == 1 else text
