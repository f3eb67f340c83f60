"""The HTML page of a duel: the sentence to quote, the plot of differences, all scores, the recipes."""

from collections.abc import Sequence

from experiments.duel.comparison import MEAN, PairComparison, ScoreComparison
from experiments.duel.scoring import ScoredCompetitor
from experiments.number_format import TESTS, p_value, score, signed
from experiments.report import figures as draw
from experiments.report.render import Figures, render
from experiments.report.tables import score_table


def duel_page(
    study: str, quote: str, competitors: Sequence[ScoredCompetitor], comparisons: Sequence[PairComparison]
) -> str:
    """Return the page of a duel, which needs no network."""
    figures = Figures()
    columns = {
        competitor.name: {
            "objective": competitor.value,
            **{name: _mean(competitor, name) for name in competitor.results[0].scores},
        }
        for competitor in competitors
    }
    directions = {name: score.higher_is_better for name, score in competitors[0].results[0].scores.items()}
    values = {
        "study": study,
        "quote": quote,
        "plot_name": figures.add("differences", draw.intervals(_points(comparisons), "difference, with 95% interval")),
        "table": score_table(columns, directions),
        "competitors": competitors,
        "comparisons": [(comparison, [_cells(row) for row in comparison.rows]) for comparison in comparisons],
    }
    return render("duel.html", figures, values)


def _points(comparisons: Sequence[PairComparison]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Return the differences by score and comparison, signed so that a positive one favours the first competitor."""
    points: dict[str, dict[str, tuple[float, float, float]]] = {}
    for comparison in comparisons:
        for row in comparison.rows:
            sign = 1 if row.higher_is_better else -1
            ends = sorted((sign * row.difference.low, sign * row.difference.high))
            series = row.score if row.score == MEAN or row.higher_is_better else f"{row.score} (sign reversed)"
            estimate = sign * row.difference.estimate
            points.setdefault(series, {})[f"{comparison.one} − {comparison.other}"] = (estimate, ends[0], ends[1])
    return points


def _mean(competitor: ScoredCompetitor, name: str) -> float:
    return sum(results.scores[name].value for results in competitor.results) / len(competitor.results)


def _cells(row: ScoreComparison) -> dict[str, str]:
    return {
        "score": row.score if row.higher_is_better else f"{row.score} ↓",
        "one": score(row.one),
        "other": score(row.other),
        "estimate": signed(row.difference.estimate),
        "interval": f"{signed(row.difference.low)} to {signed(row.difference.high)}",
        "judgement": "" if row.outcome == "open" else row.outcome,
        "test": TESTS[row.test],
        "p": p_value(row.p_value),
        "questions": str(row.questions),
        "detectable": score(row.detectable),
    }
