"""Tables of scores: parents against winner, one row per trial; as Markdown with the best in bold, or as CSV."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from experiments.number_format import score
from merge.output.model_card import as_text
from search.results.observer import TrialRecord

LEADING = ("number", "name", "family", "kind", "part", "state", "reason", "seconds")
HIGHER = "higher_is_better"
"""Key of a table's ``attrs``: direction of each row, for `to_markdown`."""


def parents_against_winner(
    columns: Mapping[str, Mapping[str, float]], higher_is_better: Mapping[str, bool]
) -> pd.DataFrame:
    """Return one column per model, one row per metric.

    Args:
        columns: Model name to its scores by metric. A score that a model does not have is left empty.
        higher_is_better: Direction of each metric; one that is not listed counts as higher is better.

    Returns:
        The table, rows and columns in the order given, the directions in ``attrs["higher_is_better"]``.
    """
    metrics = list(dict.fromkeys(metric for scores in columns.values() for metric in scores))
    rows = [[scores.get(metric, math.nan) for scores in columns.values()] for metric in metrics]
    table = pd.DataFrame(rows, index=pd.Index(metrics, name="metric"), columns=list(columns), dtype=float)
    table.attrs[HIGHER] = {metric: higher_is_better.get(metric, True) for metric in metrics}
    return table


def to_markdown(table: pd.DataFrame, *, digits: int = 4) -> str:
    """Return a Markdown table with the best of each row in bold.

    The best is judged as printed: equal ones are all bold, and a row whose values all print alike has no best.

    Args:
        table: From `parents_against_winner`, or any table of numbers.
        digits: Digits after the point.
    """
    directions: Mapping[str, bool] = table.attrs.get(HIGHER, {})
    lower = any(not higher for higher in directions.values())
    header = [cell(table.index.name or ""), *(cell(name) for name in table.columns)]
    rows = []
    for name, values in zip(table.index, table.to_numpy(), strict=True):
        higher = directions.get(name, True)
        arrow = (" ↑" if higher else " ↓") if lower else ""
        row = printed_row([float(value) for value in values], digits, higher=higher)
        rows.append([cell(name) + arrow, *(f"**{text}**" if best else text for text, best in row)])
    return markdown_table(header, rows)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table of cells that are safe already; all but the first column stand to the right."""
    ruler = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, ruler, *rows))


def to_csv(table: pd.DataFrame) -> str:
    """Return the table as CSV, full precision, the index first when it has a name."""
    return str(table.to_csv(index=table.index.name is not None, lineterminator="\n"))


def trials_table(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Return one row per record: what it was, its metrics, its parameters, where its time went.

    Columns of parameters are named ``param:NAME``, of metrics ``TASK/METRIC``, of times ``seconds:PART``, so that
    no hole can take another column's name. Their order is that of the records' numbers, whichever was finished first.
    """
    rows = [_trial_row(record) for record in records]
    numbered = sorted(zip(records, rows, strict=True), key=lambda pair: pair[0].number)
    names = list(dict.fromkeys([*LEADING, *(name for _, row in numbered for name in row)]))
    return pd.DataFrame(rows, columns=names)


def _trial_row(record: TrialRecord) -> dict[str, object]:
    facts: dict[str, object] = {
        "number": record.number,
        "name": record.name,
        "family": record.family,
        "kind": record.kind,
        "part": record.part,
        "state": record.state,
        "reason": record.reason,
        "seconds": record.ended - record.started,
    }
    facts.update({f"{'metric:' if name in facts else ''}{name}": value for name, value in record.metrics.items()})
    facts.update({f"param:{name}": value for name, value in record.params.items()})
    facts.update({f"seconds:{name}": value for name, value in record.parts.items()})
    return facts


def printed_row(values: Sequence[float], digits: int, *, higher: bool) -> list[tuple[str, bool]]:
    """Return each value as printed, and whether it is the best of the row, judged as printed.

    A row has no best where all its values print alike.
    """
    texts = [score(value, digits) for value in values]
    present = [value for value in values if not math.isnan(value)]
    best = score((max if higher else min)(present), digits) if len(set(texts) - {""}) > 1 else None
    return [(text, text == best) for text in texts]


def cell(name: object) -> str:
    """Return a name that cannot break out of its cell."""
    return as_text(name)
