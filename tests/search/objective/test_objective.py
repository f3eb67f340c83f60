"""The objective: utilities, weights, and the interval of a difference."""

import numpy as np
import pytest

from search.objective.objective import Objective, Term
from search.results.outcome import Scored
from search.verdict.finalists import compare
from tests.search.answers import answers

ACC = Term("arc", "acc", 0.5, True)
BITS = Term("gsm", "gold_bits_per_byte", 0.5, False)


def test_bits_per_byte_become_the_probability_of_a_byte() -> None:
    assert BITS.utility(1.0) == pytest.approx(0.5)
    assert BITS.utility(0.0) == pytest.approx(1.0)


def test_the_objective_is_the_weighted_mean_of_the_utilities() -> None:
    results = answers({("arc", "acc"): [1, 0, 1, 1], ("gsm", "gold_bits_per_byte"): [1.0, 1.0]})
    assert Objective((ACC, BITS)).value(results) == pytest.approx(0.5 * 0.75 + 0.5 * 0.5)


def test_the_interval_holds_the_difference_and_swapping_changes_its_sign() -> None:
    rng = np.random.default_rng(0)
    one = answers({("arc", "acc"): rng.integers(0, 2, 80), ("gsm", "gold_bits_per_byte"): rng.uniform(0.5, 1.0, 40)})
    other = answers({("arc", "acc"): rng.integers(0, 2, 80), ("gsm", "gold_bits_per_byte"): rng.uniform(0.6, 1.2, 40)})
    objective = Objective((ACC, BITS))
    there, back = objective.difference(one, other), objective.difference(other, one)
    assert there.low < there.estimate < there.high
    assert there.estimate == pytest.approx(-back.estimate)
    assert there.low == pytest.approx(-back.high, abs=0.01)


def test_the_interval_has_the_width_of_the_normal_theory() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.6, 0.2, 400), rng.normal(0.5, 0.2, 400)
    term = Term("t", "score", 1.0, True)
    interval = Objective((term,)).difference(answers({("t", "score"): a}), answers({("t", "score"): b}))
    expected = 2 * 1.96 * (a - b).std(ddof=1) / np.sqrt(400)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.05)


def test_equal_candidates_differ_by_nothing() -> None:
    same = answers({("arc", "acc"): [1, 0, 1], ("gsm", "gold_bits_per_byte"): [0.4, 0.5, 0.6]})
    interval = Objective((ACC, BITS)).difference(same, same)
    assert (interval.low, interval.estimate, interval.high) == (0.0, 0.0, 0.0)


def test_a_task_judged_by_a_likelihood_is_compared_by_right_and_wrong_too() -> None:
    columns = {("arc", "gold_prob"): [0.6, 0.2, 0.7], ("arc", "acc"): [1, 0, 1]}
    one = Scored(answers(columns), 0.5)
    (found,) = compare(Objective((Term("arc", "gold_prob", 1.0, True),)), one, {"other": one}, seed=0)
    assert [(task.task, task.test) for task in found.tasks] == [("arc/gold_prob", "wilcoxon"), ("arc/acc", "mcnemar")]
