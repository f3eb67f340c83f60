"""Takes pipe tables out of a page, also those whose lines were joined into one."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_RULE = re.compile(r"\|?[ ]*:?-{2,}:?[ ]*(?:\|[ ]*:?-{2,}:?[ ]*)+\|?")
_MARKS = re.compile(r"(?<![A-Za-z0-9])[*_`~]{1,3}(?=\S)|(?<=\S)[*_`~]{1,3}(?![A-Za-z0-9])")
_LINK = re.compile(r"!?\[([^\]]{0,300})\]\([^)]{0,500}\)")


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
        header: Names of the columns.
        rows: Cells, as many per row as there are columns.
        start: Where it begins on the page.
        end: Where it ends.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    start: int
    end: int


def find_tables(text: str) -> Iterator[Table]:
    """Go through the tables of a page: each is told by the rule of dashes under its header."""
    for rule in _RULE.finditer(text):
        width = rule.group().strip().strip("|").count("|") + 1
        line = text.rfind("\n", 0, rule.start())
        joined = bool(text[line + 1 : rule.start()].strip())
        table = _joined(text, rule, width) if joined else _lines(text, rule, width)
        if table is not None:
            yield table


def _lines(text: str, rule: re.Match[str], width: int) -> Table | None:
    """Read a table that has its lines."""
    start = text.rfind("\n", 0, max(0, text.rfind("\n", 0, rule.start()))) + 1
    header = _cells(text[start : rule.start()].strip())
    rows = []
    place = text.find("\n", rule.end())
    while 0 <= place < len(text) - 1:
        stop = text.find("\n", place + 1)
        stop = len(text) if stop < 0 else stop
        line = text[place + 1 : stop].strip()
        if "|" not in line:
            break
        rows.append(_fitted(_cells(line), width))
        place = stop
    return (
        Table(tuple(_fitted(header, width)), tuple(map(tuple, rows)), start, max(place, rule.end())) if rows else None
    )


def _joined(text: str, rule: re.Match[str], width: int) -> Table | None:
    """Read a table on a single line: between two rows there is an empty cell."""
    before = text[: rule.start()].rstrip().removesuffix("|")
    parts = before.rsplit("|", width)
    header = [plain(cell) for cell in parts[-width:]]
    begin = len(before) - sum(len(cell) + 1 for cell in parts[-width:])
    place, rows = rule.end(), []
    while (row := re.compile(r"\s*\|" + r"([^|\n]*)\|" * width).match(text, place)) is not None:
        rows.append(tuple(plain(cell) for cell in row.groups()))
        place = row.end()
    return Table(tuple(header), tuple(rows), max(0, begin), place) if rows else None


def plain(cell: str) -> str:
    """Return a cell without the marks of Markdown."""
    return " ".join(_MARKS.sub("", _LINK.sub(r"\1", cell.replace("**", ""))).split())


def _cells(line: str) -> list[str]:
    return [plain(cell) for cell in line.removeprefix("|").removesuffix("|").split("|")]


def _fitted(cells: list[str], width: int) -> tuple[str, ...]:
    return tuple((cells + [""] * width)[:width])
