"""A duel as text: the sentence to quote, one line per comparison, and the Markdown tables."""

from collections.abc import Iterator, Sequence

from experiments.duel.comparison import PairComparison, ScoreComparison
from experiments.duel.scoring import ScoredCompetitor
from experiments.number_format import TESTS, p_value, score, signed
from experiments.score_tables import cell, markdown_table


def headline(comparison: PairComparison, competitors: Sequence[ScoredCompetitor]) -> str:
    """Return the sentence to quote: the result, its interval, and the difference that the questions could detect."""
    by_name = {competitor.name: competitor for competitor in competitors}
    row = comparison.rows[0]
    one, other = by_name[comparison.one], by_name[comparison.other]
    score = "on average over the tasks" if row is comparison.average else f"in {row.score}"
    if row.outcome == "open":
        found = (
            f"{one.name} and {other.name} are not shown to differ {score}: {amount(row.one, row)} against "
            f"{amount(row.other, row)}, difference {_interval(row)}"
        )
    else:
        verb = "beats" if row.outcome == "better" else "loses to"
        found = (
            f"{one.name} {verb} {other.name} {score}: {amount(row.one, row)} against {amount(row.other, row)}, "
            f"difference {_interval(row)}"
        )
    exact = f", exact McNemar p = {p_value(row.p_value)}" if row.test == "mcnemar" else ""
    return (
        f"On {row.questions} questions that nobody searched on, {_budget(one, other)}{found} (95% interval{exact}); "
        f"{_reach(row)}."
    )


def _reach(row: ScoreComparison) -> str:
    """Return how large a difference the questions could have shown."""
    if row.detectable == 0:
        return "both answered every question alike"
    return f"this many questions show a true difference of {_size(row.detectable, row)} in four cases of five"


def _budget(one: ScoredCompetitor, other: ScoredCompetitor) -> str:
    """Return what both were given, as the beginning of a clause."""
    masks = max(len(one.seeds), len(other.seeds))
    parts = []
    if one.trials and one.trials == other.trials:
        parts.append(f"after {one.trials} trials each")
    elif one.trials or other.trials:
        parts.append(f"after {one.trials} and {other.trials} trials")
    if masks > 1:
        parts.append(f"over {masks} random masks")
    return f"{' and '.join(parts)}, " if parts else ""


def comparison_lines(comparisons: Sequence[PairComparison]) -> Iterator[str]:
    """Go through the comparisons, one line each, the tasks below."""
    for comparison in comparisons:
        first, *more = comparison.rows
        yield f"{comparison.one} against {comparison.other}: {first.score} {_sentence(first)}"
        for row in more:
            yield f"  {row.score}{'' if row.higher_is_better else ' (lower is better)'}: {_sentence(row)}"


def _sentence(row: ScoreComparison) -> str:
    outcome = {"better": "better", "worse": "worse", "open": "not shown to differ"}[row.outcome]
    test = ""
    if row.test:
        others = f" ({min(row.p_values):.2g} to {max(row.p_values):.2g} over masks)" if len(row.p_values) > 1 else ""
        test = f", {TESTS[row.test]} p = {p_value(row.p_value)}{others}"
    return (
        f"{outcome}, {score(row.one)} against {score(row.other)}, difference {signed(row.difference.estimate)} "
        f"[{signed(row.difference.low)}, {signed(row.difference.high)}]{test}; detectable {score(row.detectable)}"
    )


def duel_table(competitors: Sequence[ScoredCompetitor], comparisons: Sequence[PairComparison]) -> str:
    """Return everyone's scores and each comparison as two Markdown tables."""
    keys = _keys(competitors)
    best = {key: (max if higher else min)(_mean(f, key) for f in competitors) for key, higher in keys.items()}
    header = ["", "trials", "masks", *(cell(k) + ("" if keys[k] else " ↓") for k in keys)]
    rows = [
        [
            cell(f.name),
            str(f.trials or ""),
            str(len(f.seeds)) if len(f.seeds) > 1 else "",
            *(_marked(f, key, best[key]) for key in keys),
        ]
        for f in competitors
    ]
    shown = ["score", "difference", "95% interval", "test", "p", "questions", "detectable"]
    tables = [markdown_table(header, rows)]
    for comparison in comparisons:
        title = f"\n{cell(comparison.one)} against {cell(comparison.other)}\n\n"
        tables.append(title + markdown_table(shown, [_cells(row) for row in comparison.rows]))
    return "".join(tables)


def _keys(competitors: Sequence[ScoredCompetitor]) -> dict[str, bool]:
    first = competitors[0].results[0]
    return {"objective": True, **{name: score.higher_is_better for name, score in first.scores.items()}}


def _values(competitor: ScoredCompetitor, key: str) -> tuple[float, ...]:
    return competitor.values if key == "objective" else tuple(r.scores[key].value for r in competitor.results)


def _mean(competitor: ScoredCompetitor, key: str) -> float:
    values = _values(competitor, key)
    return sum(values) / len(values)


def _marked(competitor: ScoredCompetitor, key: str, best: float) -> str:
    values = _values(competitor, key)
    text = score(_mean(competitor, key))
    bold = f"**{text}**" if text == score(best) else text
    return f"{bold} ({score(min(values))} to {score(max(values))})" if len(values) > 1 else bold


def _cells(row: ScoreComparison) -> list[str]:
    return [
        cell(row.score) + ("" if row.higher_is_better else " ↓"),
        signed(row.difference.estimate),
        f"{signed(row.difference.low)} to {signed(row.difference.high)}",
        TESTS[row.test],
        p_value(row.p_value),
        str(row.questions),
        score(row.detectable),
    ]


def amount(value: float, row: ScoreComparison) -> str:
    """Return a score as people say it: shares of right answers in percent."""
    return f"{100 * value:.1f} %" if row.fraction else score(value)


def _size(value: float, row: ScoreComparison) -> str:
    return f"{100 * value:.1f} points" if row.fraction else score(value)


def _interval(row: ScoreComparison) -> str:
    scale, digits = (100, 1) if row.fraction else (1, 4)
    unit = " points" if row.fraction else ""
    low, high = scale * row.difference.low, scale * row.difference.high
    return f"{scale * row.difference.estimate:+.{digits}f}{unit} [{low:+.{digits}f}, {high:+.{digits}f}]"
