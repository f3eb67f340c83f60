"""Reads YAML from a card; what is no plain YAML is returned as text and raises nothing."""

from merge.documents import DocumentError, read_yaml


def documents(text: str) -> list[object]:
    """Return the documents of a text; none where it is no plain YAML."""
    try:
        return list(read_yaml(text, "card"))
    except DocumentError:
        return []


def value(text: str) -> object:
    """Return one YAML value, or the text itself where it is none."""
    read = documents(text)
    return read[0] if len(read) == 1 else text
