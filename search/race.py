"""Racing: stop a candidate as soon as its answers show that it is worse than the best so far.

Questions are asked in blocks, in one order for all candidates. After each block the candidate's gains over the
incumbent, question by question, are put to a one-sided test:

* likelihoods and other numbers: a paired t test, stratified by task: with shares w, mean gains g and standard errors s
  of the tasks, t = sum(w g) / sqrt(sum(w^2 s^2));
* right or wrong alone, as generation gives: McNemar's exact test; several tasks are combined by the exact distribution
  of sum(w (wins - losses) / n) when every disagreement is a fair coin (a stratified sign test).

The order is learned from the baselines' answers: what they disagree on most is asked first, since a question that
all answer alike tells no two candidates apart. ``experiments/bench/racing.py`` measures both on recorded answers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from evals.questions import Question
from search.objective import Objective, question_values

Array = NDArray[np.float64]

LEAST = 8
"""A task with fewer answers than this has no say yet: its standard error is not to be trusted."""
BLOCKS = 8
MOST_SUMS = 200_000
"""An exact distribution of more values than this is replaced by the normal one."""
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Race:
    """The stopping rule of a study.

    Attributes:
        objective: Which tasks count how much.
        level: Level of the one-sided test after each block.
        blocks: Number of blocks.
        worth: How telling a question is, by leaf and question; asked in falling order. Empty: evenly spread.
        everywhere: Only stop what is worse in every single task, as a Pareto front needs.
    """

    objective: Objective
    level: float = 0.01
    blocks: int = BLOCKS
    worth: Mapping[tuple[str, str], float] = field(default_factory=dict)
    everywhere: bool = False

    def plan(self, questions: Sequence[Question], labels: Mapping[str, str]) -> list[tuple[Question, ...]]:
        """Cut the questions into blocks, each with its share of every task; the first has `LEAST` of each.

        Args:
            questions: What is asked.
            labels: Task of each leaf; a leaf that is not there stands for itself.
        """
        by_task: dict[str, list[Question]] = {}
        for question in questions:
            by_task.setdefault(labels.get(question.task, question.task), []).append(question)
        blocks: list[list[Question]] = [[] for _ in range(self.blocks)]
        for part in by_task.values():
            ordered, begin = self._ordered(part), 0
            for index, block in enumerate(blocks, start=1):
                end = max(min(LEAST, len(part)), round(len(part) * index / self.blocks))
                block.extend(ordered[begin:end])
                begin = end
        return [tuple(block) for block in blocks if block]

    def lost(self, candidate: pd.DataFrame, incumbent: pd.DataFrame) -> bool:
        """Tell whether the candidate is worse than the incumbent on what it has answered, at the level."""
        gains = self.objective.gains(candidate, incumbent)
        if any(len(gain) < LEAST for gain in gains.values()):
            return False
        if self.everywhere:
            return all(worse({label: gain}, {label: 1.0}) < self.level for label, gain in gains.items())
        return worse(gains, {term.label: term.weight for term in self.objective.terms}) < self.level

    def gain(self, candidate: pd.DataFrame, incumbent: pd.DataFrame) -> float:
        """Return the candidate's mean gain on what both answered, in the metrics that are raced on.

        Answers alone would mislead: what a stopped candidate answered are the most telling questions, which are
        harder or easier than the others.
        """
        gains = self.objective.gains(candidate, incumbent)
        return float(sum(term.weight * gains[term.label].mean() for term in self.objective.counted))

    def _ordered(self, questions: Sequence[Question]) -> list[Question]:
        """Return a task's questions, the most telling first; those of equal worth spread over the task."""
        places = {question: (index * GOLDEN) % 1 for index, question in enumerate(questions)}
        return sorted(questions, key=lambda q: (-self.worth.get((q.task, q.id), 0.0), places[q]))


def worse(gains: Mapping[str, Array], weights: Mapping[str, float]) -> float:
    """Return the one-sided p-value of the weighted mean gain being below zero; 1 where it is not below.

    Args:
        gains: Per task, question by question.
        weights: Share of each task.
    """
    shares = {label: weights[label] / len(gain) for label, gain in gains.items()}
    total = sum(shares[label] * float(gain.sum()) for label, gain in gains.items())
    if total >= 0:
        return 1.0
    if all(np.isin(gain, (-1.0, 0.0, 1.0)).all() for gain in gains.values()):
        return _coins({label: int((gain != 0).sum()) for label, gain in gains.items()}, shares, total)
    variance = sum(weights[label] ** 2 * float(gain.var(ddof=1)) / len(gain) for label, gain in gains.items())
    if variance == 0:
        return 0.0
    freedom = sum(len(gain) - 1 for gain in gains.values())
    return float(stats.t.cdf(total / math.sqrt(variance), freedom))


def _coins(counts: Mapping[str, int], shares: Mapping[str, float], total: float) -> float:
    """Return P(sum of share * (heads - tails) over the tasks' coins <= total); one task is McNemar's exact test."""
    if math.prod(count + 1 for count in counts.values()) > MOST_SUMS:
        variance = sum(shares[label] ** 2 * count for label, count in counts.items())
        return float(stats.norm.cdf(total / math.sqrt(variance)))
    sums, chances = np.zeros(1), np.ones(1)
    for label, count in counts.items():
        heads = np.arange(count + 1)
        sums = np.add.outer(sums, shares[label] * (2 * heads - count)).ravel()
        chances = np.multiply.outer(chances, stats.binom.pmf(heads, count, 0.5)).ravel()
    return float(chances[sums <= total + 1e-12].sum())


def worth_of_questions(objective: Objective, answered: Sequence[pd.DataFrame]) -> dict[tuple[str, str], float]:
    """Return how much some candidates disagree on each question: the variance of what they answered."""
    if len(answered) < 2:
        return {}
    columns = [question_values(objective, answers) for answers in answered]
    table = pd.concat(columns, axis=1, join="inner")
    spread = table.to_numpy(np.float64).var(axis=1)
    return {(str(key[0]), str(key[1])): float(value) for key, value in zip(table.index, spread, strict=True)}
