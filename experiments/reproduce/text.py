"""The result of a reproduction as Markdown tables, a sentence and JSON."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from evals.tasks.metrics import GOLD_BITS
from experiments.reproduce.card.card_text import CardText
from experiments.reproduce.card.claimed_scores import PublishedScores
from experiments.reproduce.card.front_matter import FrontMatter
from experiments.reproduce.chain import Chain
from experiments.reproduce.measure import MeasuredScore

MIN_SIMILARITY = 0.5
"""Least similarity, from 0 to 1, of a column's heading and a model's name that counts as a match."""


@dataclass(frozen=True)
class Reproduction:
    """A card and what was measured for it.

    Attributes:
        card: The card.
        front: Its front matter.
        chain: The recipes that were built.
        claims: Its published scores.
        measured: Every published score with what was measured.
        parents: The same for each parent, by its reference; empty where they were not asked.
    """

    card: CardText
    front: FrontMatter
    chain: Chain
    claims: PublishedScores
    measured: Sequence[MeasuredScore]
    parents: Mapping[str, Sequence[MeasuredScore]]


def score_table(measured: Sequence[MeasuredScore], average: float | None) -> str:
    """Return the Markdown table of published and measured scores, in percent."""
    lines = [
        "| task | metric | shots | published | measured | 95% interval | questions | verdict |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for one in measured:
        asked = one.published.asked
        name = one.published.name if asked is None else asked.task
        metric = "" if asked is None else asked.metric or "as the suite"
        shots = "" if asked is None or asked.shots is None else str(asked.shots)
        found = ["", "", ""]
        if one.value is not None:
            count = str(one.questions) + (f" of {one.available}" if one.questions < one.available else "")
            found = [_shown(one, one.value), f"{_shown(one, one.low)} to {_shown(one, one.high)}", count]
        cells = [name, metric, shots, _shown(one, one.published.value), *found, verdict(one)]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    if average is not None:
        known = [one.value for one in measured if one.value is not None]
        whole = bool(known) and len(known) == len(measured)
        told = _percent(sum(known) / len(known)) if whole else ""
        reason = "plain mean" if whole else "not measured: a task is missing"
        lines.append(f"| average |  |  | {_percent(average)} | {told} |  |  | {reason} |")
    return "\n".join(lines) + "\n"


def verdict(one: MeasuredScore) -> str:
    """Return the verdict of one score in words."""
    if one.outcome == "not measured":
        return "not measured"
    if one.outcome == "reproduced":
        return "reproduced" if one.questions == one.available else "agrees on these questions"
    assert one.value is not None
    return f"{one.outcome} than published by {_shown(one, abs(one.value - one.published.value))}"


def summary(measured: Sequence[MeasuredScore]) -> str:
    """Return one sentence on all scores."""
    counts = Counter[str](one.outcome for one in measured)
    parts = [
        f"{counts[outcome]} {word}"
        for outcome, word in (
            ("reproduced", "within the interval"),
            ("lower", "lower than published"),
            ("higher", "higher than published"),
            ("not measured", "not measured"),
        )
        if counts[outcome]
    ]
    return f"verdict: of {len(measured)} published scores, {', '.join(parts)}"


def parent_table(
    measured: Sequence[MeasuredScore], parents: Mapping[str, Sequence[MeasuredScore]], originals: Mapping[str, str]
) -> str:
    """Return the Markdown table of the rebuilt model and its parents; what the card publishes stands in brackets."""
    names = {reference: originals.get(reference, reference) for reference in parents}
    lines = [
        f"| task | metric | rebuilt | {' | '.join(names.values())} |",
        f"| --- | --- | ---: |{' ---: |' * len(parents)}",
    ]
    for index, one in enumerate(measured):
        if one.value is None or one.published.asked is None:
            continue
        cells = [
            one.published.asked.task,
            one.published.asked.metric or "as the suite",
            _both(one, one.value, one.published.value),
        ]
        told = _columns(one, names)
        cells += [_both(one, scores[index].value, told.get(reference)) for reference, scores in parents.items()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _both(one: MeasuredScore, value: float | None, published: float | None) -> str:
    told = "" if published is None else f" ({_shown(one, published)})"
    return "" if value is None else _shown(one, value) + told


def _shown(one: MeasuredScore, value: float) -> str:
    """Return a score in percent; bits per byte as they are."""
    asked = one.published.asked
    return f"{value:.4f}" if asked is not None and asked.metric == GOLD_BITS else _percent(value)


def _columns(claim: MeasuredScore, references: Mapping[str, str]) -> dict[str, float]:
    """Return what the card publishes for its parents: each column belongs to the model whose name is most like it."""
    found: dict[str, float] = {}
    for column, value in claim.published.others:
        likeness = {
            reference: SequenceMatcher(None, _key(column), _key(name.rsplit("/", 1)[-1])).ratio()
            for reference, name in references.items()
        }
        best = max(likeness, key=lambda reference: likeness[reference])
        if likeness[best] >= MIN_SIMILARITY:
            found.setdefault(best, value)
    return found


def _key(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def as_json(found: Reproduction) -> dict[str, object]:
    """Return everything as plain data; scores as fractions of 1."""
    return {
        "card": found.card.name,
        "title": found.front.title,
        "recipe": [stage.to_mapping() for stage in found.chain.stages],
        "made": dict(found.chain.made),
        "average": found.claims.average,
        "scores": [_one(one) for one in found.measured],
        "parents": {name: [_one(one) for one in scores] for name, scores in found.parents.items()},
    }


def _one(one: MeasuredScore) -> dict[str, object]:
    asked = one.published.asked
    return {
        "name": one.published.name,
        "task": None if asked is None else asked.task,
        "metric": None if asked is None else asked.metric,
        "num_fewshot": None if asked is None else asked.shots,
        "published": one.published.value,
        "measured": one.value,
        "low": None if math.isnan(one.low) else one.low,
        "high": None if math.isnan(one.high) else one.high,
        "questions": one.questions,
        "available": one.available,
        "verdict": one.outcome,
        "reason": one.reason,
    }
