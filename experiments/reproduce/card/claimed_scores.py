"""Collects the published scores of a card: model-index first, then tables, then text; each score counts once."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from evals.tasks.metrics import GOLD_BITS
from experiments.reproduce.card.benchmarks import (
    AVERAGE,
    CATEGORIES,
    TaskRequest,
    find_name,
    metric_named,
    shots_named,
    task_request,
)
from experiments.reproduce.card.card_text import CardText
from experiments.reproduce.card.front_matter import FrontMatter, ModelIndexResult
from experiments.reproduce.card.score_scanner import scan
from experiments.reproduce.card.tables import Table, find_tables

_OURS = re.compile(r"\bours\b|this model|\bmerged?\b|^value$|^score$|^result", re.IGNORECASE)
_SHOTS = re.compile(r"(?:n|num|#)?[ _-]?(?:few)?[ _-]?shots?", re.IGNORECASE)
_ASIDE = re.compile(
    rf"version|stderr|std|^{_SHOTS.pattern}$|filter|^#|params|rank|type|link|↑|^$|[Δ∆]|\bdelta\b|\bdiff", re.IGNORECASE
)
_MEASURE = re.compile(
    r"acc|acc(?:uracy)?[ _,(]*norm(?:alized)?\)?|normali[sz]ed acc\w*|exact[ _]match|em", re.IGNORECASE
)
"""Heads of columns that each hold another metric of one model."""
_MMLU = re.compile(r"\bmmlu\b(?![ _-]?pro)|hendrycks", re.IGNORECASE)
_AVERAGE = re.compile(rf"^(?:{AVERAGE})\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"^[^\d.+-]{0,3}(-?(?:\d+(?:\.\d+|,\d{1,2}(?!\d))?|\.\d+))\s*%?(?:\s*(?:±|\+/-).*|\s*\([^()]*\)|\s*/\s*100)?[^\w]*$"
)
"""A number, what may stand around it in a cell, and its error or its change behind it; a decimal comma is taken."""


@dataclass(frozen=True)
class PublishedScore:
    """One published score.

    Attributes:
        name: The benchmark as the card calls it.
        asked: lm-eval task, metric and shots that it stands for; None where the name is unknown.
        value: The score as a fraction of 1.
        others: Scores in the other columns of the same row, as (column name, score).
        source: ``model-index``, ``table`` or ``text``.
    """

    name: str
    asked: TaskRequest | None
    value: float
    others: tuple[tuple[str, float], ...] = ()
    source: str = ""


@dataclass(frozen=True)
class PublishedScores:
    """All scores that a card publishes.

    Attributes:
        scores: One per task and metric.
        average: The published average, as a fraction of 1.
        notes: Ambiguities and how they were resolved.
    """

    scores: tuple[PublishedScore, ...]
    average: float | None
    notes: tuple[str, ...]


def find_published_scores(card: CardText, front: FrontMatter, column: str | None = None) -> PublishedScores:
    """Return the scores that a card publishes for its model.

    Args:
        card: The card.
        front: Its front matter.
        column: Name of the column or row of the model in the card's tables, where the card has several models.
    """
    notes: dict[str, None] = {}
    groups = [_fractions([_of_result(result) for result in front.results])]
    body = card.text[front.end :]
    rest = body
    for table in find_tables(body):
        groups.append(_fractions(list(_of_table(table, front.title, column, notes))))
        rest = rest[: table.start] + " " * (table.end - table.start) + rest[table.end :]
    from_text = [
        PublishedScore(read.name, task_request(read.name, read.metric, read.shots), read.value, source="text")
        for read in scan(rest)
    ]
    groups.append(_fractions(from_text))
    every = [score for group in groups for score in group if _possible(score, notes)]
    average = next((score.value for score in every if _is_average(score)), None)
    return PublishedScores(
        _distinct([score for score in every if not _is_average(score)], notes), average, tuple(notes)
    )


def _possible(score: PublishedScore, notes: dict[str, None]) -> bool:
    if score.asked is None or _is_bits(score) or 0 <= score.value <= 1:
        return True
    notes[f"{score.name}: left out, its number is no score between 0 and 100 percent"] = None
    return False


def _is_average(score: PublishedScore) -> bool:
    return score.asked is None and (not score.name or _AVERAGE.match(score.name) is not None)


def _distinct(scores: Sequence[PublishedScore], notes: dict[str, None]) -> tuple[PublishedScore, ...]:
    found: dict[object, PublishedScore] = {}
    for score in scores:
        key = (score.asked.task, score.asked.metric) if score.asked is not None else score.name.casefold()
        first = found.setdefault(key, score)
        if abs(first.value - score.value) > 0.0051 and first.source != score.source:
            notes[
                f"{score.name}: {100 * first.value:.2f} in the {first.source}, {100 * score.value:.2f} in the "
                f"{score.source}; the first counts"
            ] = None
    return tuple(found.values())


def _fractions(scores: list[PublishedScore]) -> list[PublishedScore]:
    """Return scores of one source as fractions: a score above 1 among them means that all are percentages.

    What is no known benchmark may have a scale of its own, and tells nothing of the others. Bits per byte have no
    percentages, and stay as they are.
    """
    known = [score for score in scores if score.asked is not None or _is_average(score)]
    if not any(1 < score.value <= 100 for score in known or scores if not _is_bits(score)):
        return scores
    return [
        score
        if _is_bits(score)
        else PublishedScore(
            score.name, score.asked, score.value / 100, tuple((n, v / 100) for n, v in score.others), score.source
        )
        for score in scores
    ]


def _is_bits(score: PublishedScore) -> bool:
    return score.asked is not None and score.asked.metric == GOLD_BITS


def _of_result(result: ModelIndexResult) -> PublishedScore:
    name = result.dataset or result.dataset_type
    subject = (
        task_request(f"MMLU-{result.config}")
        if result.config and _MMLU.search(f"{name} {result.dataset_type}")
        else None
    )
    if subject is not None and subject.task != "mmlu":
        name = f"MMLU-{result.config}"
    exact = re.fullmatch(r"[a-z0-9]+(?:_[a-z0-9]+)*", result.dataset_type) is not None
    if exact and result.metric_type.startswith("gold_"):
        return PublishedScore(
            name, TaskRequest(result.dataset_type, result.metric_type, result.shots), result.value, (), "model-index"
        )
    known = task_request(name, result.metric, result.shots) or task_request(
        result.dataset_type, result.metric, result.shots
    )
    if known is None and exact:
        known = TaskRequest(result.dataset_type, result.metric_type, result.shots)
    return PublishedScore(name, known, result.value, source="model-index")


def _of_table(table: Table, title: str, column: str | None, notes: dict[str, None]) -> Iterator[PublishedScore]:
    table = _names_first(table)
    heads = [index for index, cell in enumerate(table.header) if _is_benchmark(cell)]
    if len(heads) >= 2 or (heads and heads[0] > 0):
        yield from _models_in_rows(table, heads, title, column, notes)
    else:
        yield from _models_in_columns(table, title, column, notes)


def _names_first(table: Table) -> Table:
    """Return a table whose first column names benchmarks, where another one does and the first holds numbers."""
    if not any(_value(row[0]) is not None for row in table.rows) or any(_is_benchmark(row[0]) for row in table.rows):
        return table
    place = next((i for i in range(len(table.header)) if any(_is_benchmark(row[i]) for row in table.rows)), 0)

    def moved(cells: tuple[str, ...]) -> tuple[str, ...]:
        return (cells[place], *cells[:place], *cells[place + 1 :])

    return replace(table, header=moved(table.header), rows=tuple(map(moved, table.rows)))


def _is_benchmark(cell: str) -> bool:
    return find_name(cell) is not None or cell.casefold() in CATEGORIES


def _models_in_rows(
    table: Table, heads: list[int], title: str, column: str | None, notes: dict[str, None]
) -> Iterator[PublishedScore]:
    rows = [row for row in table.rows if any(_value(row[index]) is not None for index in heads)]
    if not rows:
        return
    chosen = _chosen([row[0] for row in rows], title, column)
    if chosen is None:
        chosen = 0
        notes[f"a table has {len(rows)} models; '{rows[0][0]}' counts, choose another with --column NAME"] = None
    averages = [index for index, cell in enumerate(table.header) if _AVERAGE.match(cell)]
    for index in (*heads, *averages):
        value = _value(rows[chosen][index])
        if value is not None:
            others = tuple((r[0], v) for i, r in enumerate(rows) if i != chosen and (v := _value(r[index])) is not None)
            name = table.header[index]
            yield PublishedScore(name, task_request(name), value, others, "table")


def _models_in_columns(
    table: Table, title: str, column: str | None, notes: dict[str, None]
) -> Iterator[PublishedScore]:
    columns = [
        index
        for index, name in enumerate(table.header)
        if index > 0 and not _ASIDE.search(name) and any(_value(row[index]) is not None for row in table.rows)
    ]
    if not columns or not any(_is_benchmark(row[0]) for row in table.rows):
        return
    chosen = _chosen([table.header[index] for index in columns], title, column)
    measures = [index for index in columns if _MEASURE.fullmatch(table.header[index])]
    if len(measures) == len(columns) and column is None:
        yield from _metrics_in_columns(table, measures)
        return
    if chosen is None and len(columns) > 1:
        names = ", ".join(table.header[index] for index in columns)
        notes[f"a table has the columns {names}; the first counts, choose another with --column NAME"] = None
    own = columns[chosen or 0]
    shots = next((i for i, name in enumerate(table.header) if _SHOTS.fullmatch(name)), None)
    name = ""
    for row in table.rows:
        name = row[0] or name
        value = _value(row[own])
        if value is None or not name:
            continue
        words = " ".join(cell for i, cell in enumerate(row) if i > 0 and _value(cell) is None)
        given_shots = next((n for cell in (name, table.header[own]) if (n := shots_named(cell)) is not None), None)
        if shots is not None and row[shots].isdigit():
            given_shots = int(row[shots])
        others = tuple((table.header[i], v) for i in columns if i != own and (v := _value(row[i])) is not None)
        known = task_request(name, words, given_shots)
        if known is None and re.fullmatch(r"-?\s*[a-z0-9]+(?:_[a-z0-9]+)+", name):
            known = TaskRequest(name.lstrip("- "), metric_named(words) or words.split(" ")[0], given_shots)
        yield PublishedScore(name, known, value, others, "table")


def _metrics_in_columns(table: Table, measures: list[int]) -> Iterator[PublishedScore]:
    for row in table.rows:
        for index in measures:
            value = _value(row[index])
            if value is not None:
                yield PublishedScore(row[0], task_request(row[0], table.header[index]), value, source="table")


def _chosen(names: Sequence[str], title: str, column: str | None) -> int | None:
    """Return which of several models is the card's own; None where that cannot be told."""
    if column is not None:
        return next((i for i, name in enumerate(names) if column.casefold() in name.casefold()), None)
    if len(names) == 1:
        return 0
    own = _key(title.rsplit("/", 1)[-1])
    alike = [i for i, name in enumerate(names) if own and (own in _key(name) or (_key(name) and _key(name) in own))]
    if alike:
        return max(alike, key=lambda i: len(names[i]))
    return next((i for i, name in enumerate(names) if _OURS.search(name)), None)


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _value(cell: str) -> float | None:
    match = _NUMBER.match(cell)
    return None if match is None else float(match.group(1).replace(",", "."))
