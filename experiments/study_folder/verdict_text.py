"""The verdict in words: what was found, how sure it is, and what this many questions could have shown."""

from collections.abc import Iterator
from statistics import fmean

from evals.scores.statistics import Interval
from experiments.number_format import TESTS, p_value, signed
from search.results.verdict import Comparison, TaskComparison, Verdict


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
    headline = _headline(verdict)
    for comparison in headline:
        yield _against(comparison, best_parent=comparison.opponent == verdict.best_parent)
        for task in comparison.tasks:
            if task.detectable > 0:
                yield f"  {_task(task)}"
        alike = [task.task for task in comparison.tasks if task.detectable == 0]
        if alike:
            yield f"  answered alike in every question: {', '.join(alike)}"
    if len(headline) > 1 and all(comparison.holds is not None for comparison in headline):
        yield (
            f"'better' and 'worse' are corrected for {len(headline)} comparisons (Holm); intervals and p-values are "
            "of each comparison alone"
        )
    yield (
        f"optimism: {verdict.optimism:+.4f} (objective {verdict.search_value:.4f} on {counts['search']} search "
        f"questions minus {verdict.test_value:.4f} on test questions)"
    )
    yield from _more(verdict)


def looks_before(verdict: Verdict) -> Iterator[str]:
    """Say that the test questions were looked at before, where they were."""
    if verdict.earlier_looks:
        times = "once" if verdict.earlier_looks == 1 else f"{verdict.earlier_looks} times"
        yield (
            f"the test questions were looked at {times} before, by the verdict of a smaller budget; who goes on after "
            "such a look is judged too kindly by the same questions"
        )


def _more(verdict: Verdict) -> Iterator[str]:
    """Go through what only some studies have: masks, constraints, a front, a rung, and why the search ended."""
    yield from looks_before(verdict)
    if verdict.masks is not None:
        values = verdict.masks.values
        yield (
            f"random masks: the winner's own give {verdict.test_value:.4f} on the test questions, {len(values)} others "
            f"{min(values):.4f} to {max(values):.4f}, mean {fmean(values):.4f}"
        )
    for check in verdict.constraints:
        held = "held" if check.shortfall == 0 else f"missed by {check.shortfall:.4f}"
        yield f"constraint {check.score} {check.limit} ({check.bound:.4f}): {held}, {check.value:.4f} on test questions"
    if verdict.front:
        yield f"Pareto front on the search questions: {len(verdict.front)} candidates"
        for point in verdict.front:
            yield f"  {point.name}: " + ", ".join(f"{name} {value:.4f}" for name, value in point.scores.items())
    if verdict.rung is not None:
        rung, known = verdict.rung, verdict.rung.correlation is not None
        ranked = f"rank correlation {rung.correlation:.2f}" if known else "no rank correlation, all scored alike"
        verb = "was" if rung.trusted else "was not"
        yield f"likelihood rung: {ranked} with the real metric over {rung.candidates} candidates; it {verb} trusted"
    if verdict.ended:
        yield f"the search ended because {verdict.ended}"


def _headline(verdict: Verdict) -> list[Comparison]:
    """Return the comparisons that the verdict stands on: the best parent, then every merge among the baselines."""
    merges = {name for name in verdict.scores if name not in verdict.models}
    return [c for c in verdict.comparisons if c.opponent == verdict.best_parent or c.opponent in merges]


def judgement(comparison: Comparison) -> str:
    """Return what a comparison shows: ``better``, ``worse``, either ``, alone``, or ``not shown to differ``.

    ``alone`` means that the interval leaves zero out, but not when all that the verdict stands on are corrected for
    their number.
    """
    interval = comparison.objective
    if interval.low <= 0 <= interval.high:
        return "not shown to differ"
    return ("better" if interval.low > 0 else "worse") + (", alone" if comparison.holds is False else "")


def _against(comparison: Comparison, *, best_parent: bool) -> str:
    corrected = " taken alone, not shown to differ when corrected for the number of comparisons"
    shown = judgement(comparison).replace(", alone", corrected)
    who = f"best parent '{comparison.opponent}'" if best_parent else f"'{comparison.opponent}'"
    return f"against {who}: {shown}, objective {_interval(comparison.objective)}"


def _task(task: TaskComparison) -> str:
    direction = "" if task.higher_is_better else " (lower is better)"
    return (
        f"{task.task}{direction}: {task.winner:.4f} against {task.opponent:.4f}, difference "
        f"{_interval(task.difference)}, {TESTS[task.test]} p = {p_value(task.p_value)}; {task.questions} questions "
        f"would show a true difference of {task.detectable:.3f} in four cases of five"
    )


def _interval(interval: Interval) -> str:
    low, high = signed(interval.low), signed(interval.high)
    return f"{signed(interval.estimate)} [{low}, {high}] ({interval.level:.0%} interval)"
