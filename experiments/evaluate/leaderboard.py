"""Tables of an evaluation: a suite as its leaderboard shows it, in percent, or every metric of every task."""

import math
from collections.abc import Mapping, Sequence

from evals.scores.results import Results
from evals.suites import Shown, Suite
from evals.tasks.loading import LoadedTask
from experiments.score_tables import cell, markdown_table, printed_row


def suite_table(suite: Suite, results: Mapping[str, Results], shots: Mapping[str, int]) -> str:
    """Return one row per task and the average, one column per model, in percent with standard errors, best in bold.

    Args:
        suite: The suite, without tasks that were not asked.
        results: Column to its results.
        shots: Task to the number of examples in its prompts.
    """
    by_task = {name: suite.task_rows(found) for name, found in results.items()}
    rows = [
        _row(
            f"{suite.names.get(spec.task, spec.task)} ({shots[spec.task]}-shot)",
            [by_task[n][spec.task] for n in results],
        )
        for spec in suite.tasks
    ]
    categories = {name: suite.category_rows(found) for name, found in results.items()}
    rows += [_row(f"*{category}*", [categories[name][category] for name in results]) for category in suite.categories]
    rows.append(_row(_average_name(suite), [suite.average_row(found) for found in results.values()]))
    return markdown_table([f"{suite.name}, %", *(cell(name) for name in results)], rows)


def _average_name(suite: Suite) -> str:
    if not suite.left_out:
        return "**Average**"
    return f"**Mean of {len(suite.tasks)} of {len(suite.tasks) + len(suite.left_out)} tasks**"


def metric_table(tasks: Sequence[LoadedTask], results: Mapping[str, Results]) -> str:
    """Return one row per task and metric, one column per model, with standard errors, best in bold."""
    known = dict.fromkeys(f"{task.label}/{metric}" for task in tasks for metric in task.metrics)
    keys = [key for key in known if any(key in found.scores for found in results.values())]
    directions = {key: score.higher_is_better for found in results.values() for key, score in found.scores.items()}
    lower = not all(directions.values())
    rows = []
    for key in keys:
        scores = [found.scores.get(key) for found in results.values()]
        shown = [None if score is None else Shown(score.value, score.stderr) for score in scores]
        arrow = (" ↑" if directions[key] else " ↓") if lower else ""
        rows.append(_row(cell(key) + arrow, shown, scale=1.0, digits=4, higher=directions[key]))
    return markdown_table(["metric", *(cell(name) for name in results)], rows)


def _row(
    name: str, shown: Sequence[Shown | None], *, scale: float = 100.0, digits: int = 2, higher: bool = True
) -> list[str]:
    """Return cells of ``value ± standard error``; the best value, as printed, in bold."""
    values = [math.nan if one is None else one.value * scale for one in shown]
    cells = []
    for one, (text, best) in zip(shown, printed_row(values, digits, higher=higher), strict=True):
        error = "" if one is None or one.stderr is None else f" ± {one.stderr * scale:.{digits}f}"
        cells.append(f"**{text}**{error}" if best else f"{text}{error}")
    return [name, *cells]
