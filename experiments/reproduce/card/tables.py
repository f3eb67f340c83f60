"""Finds the pipe tables of a card, also those whose lines were joined into one."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_RULE = re.compile(r"\|?[ ]*:?-{2,}:?[ ]*(?:\|[ ]*:?-{2,}:?[ ]*)+\|?")
_MARKS = re.compile(r"(?<![A-Za-z0-9])[*_`~]{1,3}(?=\S)|(?<=\S)[*_`~]{1,3}(?![A-Za-z0-9])")
_LINK = re.compile(r"!?\[([^\]]{0,300})\]\([^)]{0,500}\)")


@dataclass(frozen=True)
class Table:
    """A pipe table.

    Attributes:
        header: Names of the columns.
        rows: Cells, as many per row as there are columns.
        start: Offset of its first character.
        end: Offset behind its last character.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    start: int
    end: int


def find_tables(text: str) -> Iterator[Table]:
    """Yield the tables of a text, each recognised by the row of dashes under its header."""
    for rule in _RULE.finditer(text):
        width = rule.group().strip().strip("|").count("|") + 1
        line = text.rfind("\n", 0, rule.start())
        joined = bool(text[line + 1 : rule.start()].strip())
        table = _joined(text, rule, width) if joined else _lines(text, rule, width)
        if table is not None:
            yield table


def _lines(text: str, rule: re.Match[str], width: int) -> Table | None:
    """Read a table with one line per row."""
    start = text.rfind("\n", 0, max(0, text.rfind("\n", 0, rule.start()))) + 1
    header = _cells(text[start : rule.start()].strip())
    rows = []
    offset = text.find("\n", rule.end())
    while 0 <= offset < len(text) - 1:
        stop = text.find("\n", offset + 1)
        stop = len(text) if stop < 0 else stop
        line = text[offset + 1 : stop].strip()
        if "|" not in line:
            break
        rows.append(_fitted(_cells(line), width))
        offset = stop
    return (
        Table(tuple(_fitted(header, width)), tuple(map(tuple, rows)), start, max(offset, rule.end())) if rows else None
    )


def _joined(text: str, rule: re.Match[str], width: int) -> Table | None:
    """Read a table joined into a single line, where an empty cell separates two rows."""
    before = text[: rule.start()].rstrip().removesuffix("|")
    parts = before.rsplit("|", width)
    header = [plain(cell) for cell in parts[-width:]]
    begin = len(before) - sum(len(cell) + 1 for cell in parts[-width:])
    offset, rows = rule.end(), []
    while (row := re.compile(r"\s*\|" + r"([^|\n]*)\|" * width).match(text, offset)) is not None:
        rows.append(tuple(plain(cell) for cell in row.groups()))
        offset = row.end()
    return Table(tuple(header), tuple(rows), max(0, begin), offset) if rows else None


def plain(cell: str) -> str:
    """Return a cell without the marks of Markdown."""
    return " ".join(_MARKS.sub("", _LINK.sub(r"\1", cell.replace("**", ""))).split())


def _cells(line: str) -> list[str]:
    return [plain(cell) for cell in line.removeprefix("|").removesuffix("|").split("|")]


def _fitted(cells: list[str], width: int) -> tuple[str, ...]:
    return tuple((cells + [""] * width)[:width])
