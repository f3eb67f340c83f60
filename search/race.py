"""Racing: stop a candidate as soon as its answers show that it is worse than the best so far.

Questions are asked in blocks, in one order for all candidates. After each block the candidate's gains over the
incumbent, question by question, are put through a one-sided paired t test, stratified by task: with shares w,
mean gains g and standard errors s of the tasks, t = sum(w g) / sqrt(sum(w^2 s^2)).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from evals.questions import Question
from search.objective import Objective

LEAST = 8
"""A task with fewer answers than this has no say yet: its standard error is not to be trusted."""


@dataclass(frozen=True)
class Race:
    """The stopping rule of a study.

    Attributes:
        objective: Which tasks count how much.
        level: Level of the one-sided test after each block.
        blocks: Number of blocks.
    """

    objective: Objective
    level: float = 0.01
    blocks: int = 4

    def plan(self, questions: Sequence[Question]) -> list[tuple[Question, ...]]:
        """Cut the questions into blocks of nearly equal size, each with its share of every task."""
        by_task: dict[str, list[Question]] = {}
        for question in questions:
            by_task.setdefault(question.task, []).append(question)
        blocks: list[list[Question]] = [[] for _ in range(self.blocks)]
        offset = 0
        for part in by_task.values():
            for index, question in enumerate(part):
                blocks[(index + offset) % self.blocks].append(question)
            offset += len(part)  # tasks of one or two questions do not all fall into the first block
        return [tuple(block) for block in blocks if block]

    def lost(self, candidate: pd.DataFrame, incumbent: pd.DataFrame) -> bool:
        """Tell whether the candidate is worse than the incumbent on what it has answered, at the level."""
        gains = self.objective.gains(candidate, incumbent)
        if any(len(gain) < LEAST for gain in gains.values()):
            return False
        mean = sum(t.weight * float(gains[t.label].mean()) for t in self.objective.terms)
        variance = sum(
            t.weight**2 * float(gains[t.label].var(ddof=1)) / len(gains[t.label]) for t in self.objective.terms
        )
        if mean >= 0:
            return False
        if variance == 0:
            return True
        freedom = sum(len(gain) - 1 for gain in gains.values())
        return bool(stats.t.cdf(mean / math.sqrt(variance), freedom) < self.level)


def value_of_stopped(estimate: float, worst: float) -> float:
    """Return what the sampler is told of a stopped candidate: never more than any fully scored one has.

    Args:
        estimate: Objective on the questions it answered.
        worst: Lowest objective of the candidates that answered all questions.
    """
    return min(estimate, float(np.nextafter(worst, -math.inf)))
