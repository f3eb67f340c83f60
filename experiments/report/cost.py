"""What a study cost in questions, tokens and seconds, and what shared prefixes and racing saved."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from evals.scores.results import Cost
from experiments.report.study_facts import Scoring, StudyFacts

PARTS = ("baselines", "trials", "finalists", "verdict")


@dataclass(frozen=True)
class Savings:
    """What shared prefixes and racing saved.

    Attributes:
        tokens: Tokens that were not run, because prompts share a prefix.
        share: The same as a fraction of the tokens of all requests run one by one, 0 to 1.
        stopped: Trials that the race stopped.
        questions: Search questions that these trials were not asked.
        questions_share: The same as a fraction of the questions of all trials, 0 to 1.
        seconds: Estimated scoring time of the questions not asked, at each trial's own rate.
    """

    tokens: int
    share: float
    stopped: int
    questions: int
    questions_share: float
    seconds: float


def cost_table(facts: StudyFacts) -> pd.DataFrame:
    """Return one row per part of the study, and the total.

    Columns: scorings, questions, tokens through the model, tokens without sharing, tokens generated, seconds merging,
    seconds scoring.
    """
    groups = {name: [scoring for scoring in facts.scorings if _part(scoring) == name] for name in PARTS}
    rows = {name: _row(scorings) for name, scorings in groups.items() if scorings}
    table = pd.DataFrame.from_dict(
        {**rows, "total": _row(facts.scorings)},
        orient="index",
        columns=[
            "scorings",
            "questions",
            "tokens run",
            "tokens unshared",
            "tokens generated",
            "seconds merging",
            "seconds scoring",
        ],
    )
    table.index.name = "part"
    return table


def savings(facts: StudyFacts) -> Savings:
    """Return what sharing and racing savings."""
    total = sum((scoring.cost for scoring in facts.scorings), Cost())
    tokens = max(0, total.tokens_full - total.tokens_run)
    per_trial = facts.searched_on
    trials = [scoring for scoring in facts.trials if scoring.asked]
    stopped = [scoring for scoring in trials if scoring.record.state == "stopped"]
    questions = sum(per_trial - scoring.asked for scoring in stopped)
    seconds = sum(scoring.record.parts.get("score", 0.0) * (per_trial / scoring.asked - 1) for scoring in stopped)
    return Savings(
        tokens,
        tokens / total.tokens_full if total.tokens_full else 0.0,
        len(stopped),
        questions,
        questions / (per_trial * len(trials)) if trials and per_trial else 0.0,
        seconds,
    )


def _part(scoring: Scoring) -> str:
    record = scoring.record
    if record.kind == "trial":
        return "trials"
    if record.part == "test":
        return "verdict"
    return "baselines" if record.part == "search" else "finalists"


def _row(scorings: Sequence[Scoring]) -> list[float]:
    cost = sum((scoring.cost for scoring in scorings), Cost())
    merging = sum(scoring.record.parts.get("merge", 0.0) for scoring in scorings)
    scoring = sum(scoring.record.parts.get("score", 0.0) for scoring in scorings)
    asked = sum(scoring.asked for scoring in scorings)
    return [
        len(scorings),
        asked,
        cost.tokens_run,
        cost.tokens_full,
        cost.tokens_generated,
        round(merging, 2),
        round(scoring, 2),
    ]
