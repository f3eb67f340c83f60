"""What a study cost: questions, tokens and seconds, and what sharing prefixes and racing saved of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from evals.scores.results import Cost
from experiments.report.study_facts import Entry, StudyFacts

PARTS = ("baselines", "trials", "finalists", "verdict")


@dataclass(frozen=True)
class Saved:
    """What was not spent.

    Attributes:
        tokens: Tokens that sharing prefixes kept from the model.
        share: The same as a share of what every request on its own would have taken, 0 to 1.
        stopped: Trials that the race stopped.
        questions: Search questions that they were not asked.
        questions_share: The same as a share of all that the trials would have been asked, 0 to 1.
        seconds: An estimate: the scoring time of the questions not asked, at each trial's own pace.
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
    groups = {name: [entry for entry in facts.entries if _part(entry) == name] for name in PARTS}
    rows = {name: _row(entries) for name, entries in groups.items() if entries}
    table = pd.DataFrame.from_dict(
        {**rows, "total": _row(facts.entries)},
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


def saved(facts: StudyFacts) -> Saved:
    """Return what sharing and racing saved."""
    total = sum((entry.cost for entry in facts.entries), Cost())
    tokens = max(0, total.tokens_full - total.tokens_run)
    everything = facts.searched_on
    trials = [entry for entry in facts.trials if entry.asked]
    stopped = [entry for entry in trials if entry.record.state == "stopped"]
    questions = sum(everything - entry.asked for entry in stopped)
    seconds = sum(entry.record.parts.get("score", 0.0) * (everything / entry.asked - 1) for entry in stopped)
    return Saved(
        tokens,
        tokens / total.tokens_full if total.tokens_full else 0.0,
        len(stopped),
        questions,
        questions / (everything * len(trials)) if trials and everything else 0.0,
        seconds,
    )


def _part(entry: Entry) -> str:
    record = entry.record
    if record.kind == "trial":
        return "trials"
    if record.part == "test":
        return "verdict"
    return "baselines" if record.part == "search" else "finalists"


def _row(entries: Sequence[Entry]) -> list[float]:
    cost = sum((entry.cost for entry in entries), Cost())
    merging = sum(entry.record.parts.get("merge", 0.0) for entry in entries)
    scoring = sum(entry.record.parts.get("score", 0.0) for entry in entries)
    asked = sum(entry.asked for entry in entries)
    return [
        len(entries),
        asked,
        cost.tokens_run,
        cost.tokens_full,
        cost.tokens_generated,
        round(merging, 2),
        round(scoring, 2),
    ]
