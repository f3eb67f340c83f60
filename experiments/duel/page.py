"""The page of a duel: the sentence, the plot of differences, the scores of everyone."""

from collections.abc import Sequence

from experiments.duel.comparison import MEAN, Meeting, Row
from experiments.duel.scoring import Fighter
from experiments.report import figures as draw
from experiments.report.render import Figures, number, render
from experiments.report.tables import score_table


def duel_page(study: str, quote: str, fighters: Sequence[Fighter], meetings: Sequence[Meeting]) -> str:
    """Return the page of a duel, which needs no network."""
    figures = Figures()
    columns = {
        fighter.name: {
            "objective": fighter.value,
            **{name: _mean(fighter, name) for name in fighter.results[0].scores},
        }
        for fighter in fighters
    }
    directions = {name: score.higher_is_better for name, score in fighters[0].results[0].scores.items()}
    values = {
        "study": study,
        "quote": quote,
        "plot_name": figures.add("differences", draw.intervals(_points(meetings), "difference, with 95% interval")),
        "table": score_table(columns, directions),
        "fighters": fighters,
        "meetings": [(meeting, [_cells(row) for row in meeting.rows]) for meeting in meetings],
    }
    return render("duel.html", figures, values)


def _points(meetings: Sequence[Meeting]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Return the differences by score and meeting, turned so that the right side is the first one's."""
    found: dict[str, dict[str, tuple[float, float, float]]] = {}
    for meeting in meetings:
        for row in meeting.rows:
            sign = 1 if row.higher_is_better else -1
            ends = sorted((sign * row.difference.low, sign * row.difference.high))
            series = row.score if row.score == MEAN or row.higher_is_better else f"{row.score} (turned)"
            estimate = sign * row.difference.estimate
            found.setdefault(series, {})[f"{meeting.one} − {meeting.other}"] = (estimate, ends[0], ends[1])
    return found


def _mean(fighter: Fighter, name: str) -> float:
    return sum(results.scores[name].value for results in fighter.results) / len(fighter.results)


def _cells(row: Row) -> dict[str, str]:
    return {
        "score": row.score if row.higher_is_better else f"{row.score} ↓",
        "one": number(row.one),
        "other": number(row.other),
        "estimate": number(row.difference.estimate, sign=True),
        "interval": f"{number(row.difference.low, sign=True)} to {number(row.difference.high, sign=True)}",
        "judgement": "" if row.outcome == "open" else row.outcome,
        "test": {"mcnemar": "exact McNemar", "wilcoxon": "Wilcoxon", "": ""}[row.test],
        "p": f"{row.p_value:.3g}" if row.test else "",
        "questions": str(row.questions),
        "detectable": number(row.detectable),
    }
