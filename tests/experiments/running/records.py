"""Records of a made-up search, for the tests of what is shown."""

from typing import Any

from evals.scores.statistics import Interval
from search.results.observer import Outlook, TrialRecord
from search.results.verdict import Comparison, Verdict

OUTLOOK = Outlook("tiny", ("base", "equal weights"), 4, 0, {"search": 8, "selection": 4, "test": 6}, ("arc/acc",))


def record(number: int, objective: float | None = None, **changes: Any) -> TrialRecord:
    """Return a trial's record; without an objective, the race stopped it."""
    done = objective is not None
    metrics = {"objective": objective, "arc/acc": objective} if done else {}
    facts: dict[str, Any] = {
        "study": "tiny", "study_id": "d", "number": number, "name": f"trial {number}", "family": "ties",
        "kind": "trial", "params": {"w": 0.5}, "metrics": metrics,
        "recipe_yaml": "", "state": "complete" if done else "stopped",
        "reason": None if done else "stopped by the race after 4 questions, 0.1000 behind the best on the same ones",
        "started": 100.0 + number, "ended": 101.0 + number, "parts": {"score": 1.0},
    }  # fmt: skip
    return TrialRecord(**{**facts, **changes})


def baseline(name: str, objective: float, **changes: Any) -> TrialRecord:
    """Return a baseline's record."""
    return record(-1, objective, name=name, family="", kind="baseline", params={}, **changes)


def verdict(**changes: Any) -> Verdict:
    """Return a verdict with two comparisons, one of which is shown."""
    better, unsure = Interval(0.05, 0.01, 0.09, 0.95), Interval(0.02, -0.01, 0.05, 0.95)
    facts: dict[str, Any] = {
        "winner": "trial 2", "family": "ties", "recipe": {}, "recipe_yaml": "", "digest": "0", "search_value": 0.5,
        "test_value": 0.45, "models": ["base"], "best_parent": "base",
        "comparisons": (Comparison("base", better, (), True), Comparison("equal weights", unsure, (), False)),
        "scores": {"trial 2": {"objective": 0.45}, "base": {"objective": 0.4}, "equal weights": {"objective": 0.43}},
        "higher_is_better": {"objective": True}, "counts": OUTLOOK.counts, "ended": "the budget of 4 trials is spent",
    }  # fmt: skip
    return Verdict(**{**facts, **changes})
