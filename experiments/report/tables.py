"""The report's tables: scores as cells for the page, and every table as CSV and Markdown beside it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from experiments.atomic_files import write_text_atomically
from experiments.score_tables import HIGHER, cell, markdown_table, parents_against_winner, printed_row, to_csv

MAX_MARKDOWN_ROWS = 200
"""Longest table that is written as Markdown too; a longer one is CSV only."""


@dataclass(frozen=True)
class Cell:
    """One score as printed, and whether it is the best of its row."""

    text: str
    best: bool


@dataclass(frozen=True)
class ScoreRow:
    """One metric's score of every model."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ScoreTable:
    """Scores by model, best of each row marked.

    Attributes:
        corner: Heading of the first column.
        columns: Names of the models.
        rows: One row per metric.
    """

    corner: str
    columns: tuple[str, ...]
    rows: tuple[ScoreRow, ...]


def score_table(
    columns: Mapping[str, Mapping[str, float]], higher_is_better: Mapping[str, bool], digits: int = 4
) -> ScoreTable:
    """Return models against scores, the best of each row marked, judged as printed."""
    table = parents_against_winner(columns, higher_is_better)
    directions: Mapping[str, bool] = table.attrs[HIGHER]
    rows = []
    for name, values in zip(table.index, table.to_numpy(), strict=True):
        arrow = "" if directions[str(name)] else " ↓"
        printed = printed_row(list(values), digits, higher=directions[str(name)])
        cells = tuple(Cell(text, best) for text, best in printed)
        rows.append(ScoreRow(f"{name}{arrow}", cells))
    return ScoreTable(str(table.index.name), tuple(map(str, table.columns)), tuple(rows))


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write each table as ``NAME.csv``, and as ``NAME.md`` where it is short enough to read.

    Raises:
        OSError: The disk is full; files that were written stay, each of them whole.
    """
    for name, table in tables.items():
        write_text_atomically(folder / f"{name}.csv", to_csv(table))
        if len(table) <= MAX_MARKDOWN_ROWS:
            write_text_atomically(folder / f"{name}.md", _markdown(table))


def _markdown(table: pd.DataFrame) -> str:
    named = table.reset_index() if table.index.name is not None else table
    rows = [[cell(_text(value)) for value in row] for row in named.itertuples(index=False)]
    return markdown_table([cell(name) for name in named.columns], rows)


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return str(value)
