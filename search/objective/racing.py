"""Racing: stop a candidate as soon as its answers show that it will not catch up with the best so far.

Questions are asked in blocks, in one order for all candidates. What decides is the search score, the mean over all
search questions; the incumbent has answered them all, the candidate a part. So after each block the question is not
whether the candidate is worse on some population that the questions were drawn from, but whether the questions that are
left can still make up for what it lost (``catches_up``): the less they matter, the sooner it is known. Candidates race
on the metric that decides: right or wrong where that is what the study asks for, likelihoods elsewhere.

The order is learned from the baselines' answers: what they disagree on most is asked first. A question that all answer
alike tells no two candidates apart, and what is left towards the end matters little. Where a stand-in is asked before
the metric that decides (``search/objective/rung.py``), the usual one-sided test stops what is ``worse`` in it.

``experiments/bench/racing.py`` measures this on recorded answers, with the usual tests beside it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from evals.tasks.sampling import Question
from search.objective.objective import Gains, Objective, question_values

Array = NDArray[np.float64]
Worth = Mapping[tuple[str, str], float]
"""How telling a question is, by leaf and id."""

MIN_ANSWERS = 8
"""A candidate is never stopped before every task has this many answers: the standard error of fewer is unreliable."""
BLOCKS = 8
PRIOR = 4
"""Pseudo-questions by which the variance is shrunk towards the mean squared gain."""
MOST_SUMS = 200_000
"""An exact distribution of more values than this is replaced by the normal one."""
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Race:
    """The stopping rule of a study.

    Attributes:
        objective: Which tasks count how much.
        level: A candidate is stopped when its chance to catch up is below this after a block.
        blocks: Number of blocks.
        worth: How telling a question is, by leaf and question; asked in falling order. Empty: evenly spread.
        everywhere: Only stop what is worse in every single task, as a Pareto front needs.
        decides: Whether the objective is what decides. A stand-in, such as the likelihood before a text is generated,
            must be clearly worse: what cannot catch up in it by a hair may still win.
    """

    objective: Objective
    level: float = 0.01
    blocks: int = BLOCKS
    worth: Worth = field(default_factory=dict)
    everywhere: bool = False
    decides: bool = True

    def plan(self, questions: Sequence[Question], labels: Mapping[str, str]) -> list[tuple[Question, ...]]:
        """Cut the questions into blocks, each with its share of every task; the first has `MIN_ANSWERS` of each.

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
                end = max(min(MIN_ANSWERS, len(part)), round(len(part) * index / self.blocks))
                block.extend(ordered[begin:end])
                begin = end
        return [tuple(block) for block in blocks if block]

    def lost(self, candidate: pd.DataFrame, incumbent: pd.DataFrame) -> bool:
        """Tell whether the candidate has no chance to catch up with the incumbent, at the level."""
        gains = self.objective.gains(candidate, incumbent)
        if any(len(gain.asked) < MIN_ANSWERS for gain in gains.values()):
            return False
        if self.everywhere:
            return all(self._chance({label: gain}, {label: 1.0}) < self.level for label, gain in gains.items())
        return self._chance(gains, {term.label: term.weight for term in self.objective.counted}) < self.level

    def _chance(self, gains: Mapping[str, Gains], weights: Mapping[str, float]) -> float:
        if self.decides:
            return catches_up(gains, self.worth, weights)
        return worse({label: gain.values for label, gain in gains.items()}, weights)

    def gain(self, candidate: pd.DataFrame, incumbent: pd.DataFrame) -> float:
        """Return the candidate's mean gain on what both answered.

        Answers alone would mislead: what a stopped candidate answered are the most telling questions, which are
        harder or easier than the others.
        """
        gains = self.objective.gains(candidate, incumbent)
        return float(sum(term.weight * gains[term.label].values.mean() for term in self.objective.counted))

    def _ordered(self, questions: Sequence[Question]) -> list[Question]:
        """Return a task's questions, the most telling first; those of equal worth spread over the task."""
        places = {question: (index * GOLDEN) % 1 for index, question in enumerate(questions)}
        return sorted(questions, key=lambda q: (-self.worth.get((q.task, q.id), 0.0), places[q]))


def catches_up(gains: Mapping[str, Gains], worth: Worth, weights: Mapping[str, float]) -> float:
    """Return the chance that the candidate is not behind once the questions that are left are asked too.

    A gain is d_i = s_i z_i: of a size s_i that is known beforehand and a z_i that is alike for all questions of a task,
    with mean m and variance v. With n questions asked, those left will add to the sum of gains

        m S_1   with variance   v (S_2 + S_1^2 / n),   S_k = sum of s_i^k over the questions left,

    and the chance is that of a t distribution: the predictive one under a flat prior. For equal sizes it is the t test
    with the finite population correction. v is drawn towards the mean of z_i^2 with the weight of `PRIOR` questions, as
    a few answers that are right or wrong may happen to be all alike. Sizes come from how much the baselines disagree on
    a question, half of them from its task's mean, as the baselines need not be right about the candidates.

    Args:
        gains: Per task, what the candidate gained so far.
        worth: Variance of the baselines' answers to a question.
        weights: Share of each task.
    """
    total = variance = freedom = 0.0
    for label, gain in gains.items():
        sizes = sizes_of(np.array([worth.get(question, 0.0) for question in (*gain.asked, *gain.left)]))
        asked, left = sizes[: len(gain.asked)], sizes[len(gain.asked) :]
        scaled, first = gain.values / asked, float(left.sum())
        mean, share = float(scaled.mean()), weights[label] / len(sizes)
        again = PRIOR * float((scaled**2).mean())
        spread = (float(((scaled - mean) ** 2).sum()) + again) / (len(scaled) - 1 + PRIOR)
        total += share * (float(gain.values.sum()) + mean * first)
        variance += share**2 * spread * (float((left**2).sum()) + first**2 / len(scaled))
        freedom += len(scaled) - 1
    if variance == 0:
        return float(total >= 0)
    return float(stats.t.cdf(total / math.sqrt(variance), freedom))


def sizes_of(worth: Array) -> Array:
    """Return the expected sizes of gains, from variances; 1 where nobody disagreed on anything."""
    mean = float(worth.mean())
    return np.sqrt((worth + mean) / 2) if mean > 0 else np.ones(len(worth))


def worse(gains: Mapping[str, Array], weights: Mapping[str, float]) -> float:
    """Return the one-sided p-value of the weighted mean gain being below zero; 1 where it is not below.

    A paired t test, stratified by task: with shares w, mean gains g and standard errors s of the tasks,
    t = sum(w g) / sqrt(sum(w^2 s^2)). Where all gains are right or wrong alone, McNemar's exact test; several tasks are
    then combined by the exact distribution of sum(w (wins - losses) / n) when every disagreement is a fair coin.

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
