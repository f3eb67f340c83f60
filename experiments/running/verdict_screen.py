"""The verdict on a screen: names, scores, intervals, one line per comparison; the rest stands in the report."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.running.places import Place, place_lines
from experiments.study_folder.verdict_text import judgement, looks_before
from search.results.verdict import Comparison, Verdict

STYLES: Mapping[str, str] = {"better": "green", "worse": "red"}
WIDE = 200
"""Columns of a table that no terminal cuts off."""


def headline(verdict: Verdict) -> str:
    """Return the sentence above the table: who won, and with what score."""
    who = f"{verdict.winner}, family {verdict.family}" if verdict.family else f"{verdict.winner}, a baseline"
    return f"winner: {who}: objective {verdict.test_value:.4f} on {verdict.counts['test']} test questions"


def comparison_table(verdict: Verdict, width: int) -> Table:
    """Return the winner against every baseline, a line each, the best parent first.

    Args:
        verdict: What the study found.
        width: Columns of the screen; long names are cut, nothing else.
    """
    level = max((comparison.objective.level for comparison in verdict.comparisons), default=0.95)
    rows = [_row(verdict, comparison) for comparison in verdict.comparisons]
    titles = ("winner against", "score", "gain", f"{level:.0%} interval", "")
    others = sum(max(len(row[column]) for row in (titles, *rows)) + 2 for column in range(1, len(titles)))
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(titles[0], no_wrap=True, overflow="ellipsis", max_width=max(len(titles[0]), width - others))
    for title in titles[1:]:
        table.add_column(
            title, justify="right" if title in titles[1:3] else "center" if title else "left", no_wrap=True
        )
    for name, score, difference, interval, shown in rows:
        table.add_row(Text(name), score, difference, Text(interval), Text(shown, STYLES.get(shown, "")))
    return table


def _row(verdict: Verdict, comparison: Comparison) -> tuple[str, str, str, str, str]:
    interval, opponent = comparison.objective, comparison.opponent
    score = verdict.scores.get(opponent, {}).get("objective")
    return (
        f"{opponent} (best parent)" if opponent == verdict.best_parent else opponent,
        "" if score is None else f"{score:.4f}",
        f"{interval.estimate:+.4f}",
        f"[{interval.low:+.4f}, {interval.high:+.4f}]",
        judgement(comparison),
    )


def remarks(verdict: Verdict) -> Iterator[str]:
    """Go through what a reader must know beside the comparisons, a line each."""
    if not verdict.family:
        yield "the search found nothing better than this baseline; more trials may"
    if any(judgement(comparison).endswith("alone") for comparison in verdict.comparisons):
        yield "alone: shown by this comparison, not when corrected for their number (Holm)"
    for check in verdict.constraints:
        if check.shortfall:
            yield f"constraint {check.score} {check.limit}: missed by {check.shortfall:.4f}"
    if verdict.front:
        yield f"Pareto front: {len(verdict.front)} candidates; recipes and scores are in the folder"
    yield (
        f"optimism: {verdict.optimism:+.4f} ({verdict.search_value:.4f} on the search questions, "
        f"{verdict.test_value:.4f} on the test questions)"
    )
    yield from looks_before(verdict)
    if verdict.ended:
        yield f"the search ended because {verdict.ended}"


def print_verdict(console: Console, verdict: Verdict) -> None:
    """Print the verdict: a sentence, a table, remarks; no word is broken, and outside of a terminal no line is."""
    console = unbroken(console)
    console.print(Text.assemble(("Verdict", "bold"), " on questions that nobody searched on"))
    console.print(Text(headline(verdict)))
    console.print()
    console.print(comparison_table(verdict, console.width))
    console.print()
    for line in remarks(verdict):
        console.print(Text(line))


def unbroken(console: Console) -> Console:
    """Return a console on the same stream that is wide where that is no terminal, whose lines have no width."""
    if console.is_terminal or console.is_jupyter:
        return console
    return Console(file=console.file, width=WIDE)


def print_places(console: Console, places: Sequence[Place], account: str) -> None:
    """Print where the time of trials went, and where things are; commands are not broken, for copying them."""
    console.print(Text(account), soft_wrap=True)
    console.print()
    console.print(Text.assemble(("Where things are", "bold"), ""))
    for line in place_lines(places, console.width if console.is_terminal else None):
        console.print(Text(line), soft_wrap=True)
