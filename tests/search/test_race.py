"""The race: who is stopped, who never is, and what the sampler hears of it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evals.questions import Question
from search.objective import Objective, Term
from search.race import Race, value_of_stopped
from tests.search.answers import answers

TERM = Term("arc", "acc_norm", 1.0, True)
RACE = Race(Objective((TERM,)), level=0.01, blocks=4)


def candidate(probabilities: np.ndarray) -> object:
    return answers({("arc", "gold_prob"): list(probabilities), ("arc", "acc_norm"): list(probabilities > 0.5)}).answers


def questions(counts: dict[str, int]) -> list[Question]:
    return [Question(task, "test", i, f"{task}-{i}") for task, n in counts.items() for i in range(n)]


def test_a_clearly_worse_candidate_is_stopped() -> None:
    rng = np.random.default_rng(0)
    good = rng.uniform(0.4, 0.9, 32)
    assert RACE.lost(candidate(good - 0.2 + rng.normal(0, 0.05, 32)), candidate(good))  # type: ignore[arg-type]


def test_a_better_or_equal_candidate_is_never_stopped() -> None:
    rng = np.random.default_rng(0)
    good = rng.uniform(0.2, 0.7, 32)
    assert not RACE.lost(candidate(good + 0.1), candidate(good))  # type: ignore[arg-type]
    assert not RACE.lost(candidate(good), candidate(good))  # type: ignore[arg-type]


def test_a_handful_of_answers_decides_nothing() -> None:
    bad, good = np.full(5, 0.1), np.full(5, 0.9)
    assert not RACE.lost(candidate(bad), candidate(good))  # type: ignore[arg-type]


def test_candidates_that_are_equal_on_average_are_seldom_stopped() -> None:
    rng = np.random.default_rng(3)
    stopped = 0
    for _ in range(400):
        skill = rng.uniform(0.2, 0.8, 64)
        one, other = skill + rng.normal(0, 0.1, 64), skill + rng.normal(0, 0.1, 64)
        stopped += RACE.lost(candidate(one), candidate(other))  # type: ignore[arg-type]
    assert stopped <= 12  # level 0.01 of 400, plus three standard errors


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 40), min_size=1))
def test_blocks_hold_every_question_once_and_their_share_of_every_task(counts: dict[str, int]) -> None:
    asked = questions(counts)
    blocks = RACE.plan(asked)
    assert sorted(q for block in blocks for q in block) == sorted(asked)
    for task, count in counts.items():
        sizes = [sum(q.task == task for q in block) for block in blocks]
        assert max(sizes) - min(sizes) <= 1 or count < len(blocks)


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_a_stopped_candidate_is_told_less_than_any_fully_scored_one(estimate: float, worst: float) -> None:
    assert value_of_stopped(estimate, worst) < worst or value_of_stopped(estimate, worst) <= estimate < worst
