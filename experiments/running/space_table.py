"""Prints a study's search space: every dimension, its range, the budget it deserves, and what the trials cover."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.running.verdict_screen import unbroken
from search.proposals.trial_budget import Budget, budget_of
from search.study.study import load_study


def print_space(study: Path) -> None:
    """Print the search space of a study file; opens no model.

    Raises:
        StudyError: The file is wrong.
    """
    budget = budget_of(load_study(study))
    console = unbroken(Console(soft_wrap=True))
    console.print(_table(budget))
    for line in space_lines(budget):
        console.print(escape(line), highlight=False)


def space_lines(budget: Budget) -> list[str]:
    """Return the sentences below the table."""
    families = ", ".join(f"{name} {trials}" for name, trials in budget.families.items())
    count = "more candidates than can be counted" if budget.candidates is None else f"{budget.candidates} candidates"
    lines = [
        f"{len(budget.rows)} dimensions, {count}; sampler {budget.sampler}",
        f"trials: {budget.trials}; deserved: {budget.deserved} ({families})",
    ]
    return lines + [f"warning: {warning}" for warning in budget.warnings()]


def _table(budget: Budget) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("family", "hole", "kind", "range", "used by", "places"):
        table.add_column(title, no_wrap=title in ("family", "hole"))
    table.add_column("trials", justify="right")
    for row in budget.rows:
        used = ", ".join(row.used_by) or "all"
        cells = (row.family, row.name, row.kind, row.range, used, str(row.places), str(row.trials))
        table.add_row(*map(escape, cells))
    return table
