"""The verdict in words: what was found, how sure it is, and what this many questions could have shown."""

from collections.abc import Iterator

from evals.statistics import Interval
from search.records import Comparison, TaskComparison, Verdict


def verdict_lines(verdict: Verdict) -> Iterator[str]:
    """Go through the sentences of a verdict, the most important first."""
    counts = verdict.counts
    who = f"{verdict.winner} of family {verdict.family}" if verdict.family else f"{verdict.winner} (a baseline)"
    yield (
        f"winner: {who}, objective {verdict.test_value:.4f} on {counts['test']} test questions "
        "that were not searched on"
    )
    if not verdict.family:
        yield "the search found nothing better than this baseline on the selection questions; more trials may"
    for comparison in _headline(verdict):
        yield _against(comparison, best_parent=comparison.opponent == verdict.best_parent)
        for task in comparison.tasks:
            yield f"  {_task(task)}"
    yield (
        f"optimism: {verdict.optimism:+.4f} (objective {verdict.search_value:.4f} on {counts['search']} search "
        f"questions minus {verdict.test_value:.4f} on test questions)"
    )


def _headline(verdict: Verdict) -> list[Comparison]:
    """Return the comparisons that the verdict stands on: the best parent, then every merge among the baselines."""
    merges = {name for name in verdict.scores if name not in verdict.models}
    return [c for c in verdict.comparisons if c.opponent == verdict.best_parent or c.opponent in merges]


def _against(comparison: Comparison, *, best_parent: bool) -> str:
    interval = comparison.objective
    if interval.low > 0:
        judgement = "better"
    elif interval.high < 0:
        judgement = "worse"
    else:
        judgement = "not shown to differ"
    who = f"best parent '{comparison.opponent}'" if best_parent else f"'{comparison.opponent}'"
    return f"against {who}: {judgement}, objective {_interval(interval)}"


def _task(task: TaskComparison) -> str:
    name = {"mcnemar": "exact McNemar", "wilcoxon": "Wilcoxon"}[task.test]
    direction = "" if task.higher_is_better else " (lower is better)"
    return (
        f"{task.task}{direction}: {task.winner:.4f} against {task.opponent:.4f}, difference "
        f"{_interval(task.difference)}, {name} p = {task.p_value:.3g}; {task.questions} questions would show a true "
        f"difference of {task.detectable:.3f} in four cases of five"
    )


def _interval(interval: Interval) -> str:
    return f"{interval.estimate:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}] ({interval.level:.0%} interval)"
