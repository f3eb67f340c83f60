"""The race: who is stopped, who never is, in which order questions are asked."""

from dataclasses import replace
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from evals.scores.statistics import mcnemar_exact
from evals.tasks.sampling import Question
from experiments.running.plain import PlainRenderer
from search.objective.objective import Gains, Objective, Term
from search.objective.racing import MIN_ANSWERS, Race, catches_up, worse, worth_of_questions
from search.results.job import Job, Rivals
from search.results.outcome import Scored
from search.results.trial_records import Reporter
from search.storage.codec import pack, unpack
from tests.search.answers import answers
from tests.search.fake import FakeResources, fake_study, weights_of

TERM = Term("arc", "acc_norm", 1.0, True)
RACE = Race(Objective((TERM,)), level=0.01, blocks=4)


def candidate(probabilities: np.ndarray) -> pd.DataFrame:
    return answers({("arc", "gold_prob"): list(probabilities), ("arc", "acc_norm"): list(probabilities > 0.5)}).answers


def questions(counts: dict[str, int]) -> list[Question]:
    return [Question(task, "test", i, f"{task}-{i}") for task, n in counts.items() for i in range(n)]


def test_a_clearly_worse_candidate_is_stopped() -> None:
    rng = np.random.default_rng(0)
    good = rng.uniform(0.4, 0.9, 64)
    assert RACE.lost(candidate(good[:32] - 0.2 + rng.normal(0, 0.05, 32)), candidate(good))


def test_a_better_or_equal_candidate_is_never_stopped() -> None:
    rng = np.random.default_rng(0)
    good = rng.uniform(0.2, 0.7, 64)
    assert not RACE.lost(candidate(good[:32] + 0.1), candidate(good))
    assert not RACE.lost(candidate(good[:32]), candidate(good))


def test_a_handful_of_answers_decides_nothing() -> None:
    assert not RACE.lost(candidate(np.full(5, 0.1)), candidate(np.full(5, 0.9)))


def part_of(gain: np.ndarray, asked: int) -> dict[str, Gains]:
    keys = tuple(("t", str(index)) for index in range(len(gain)))
    return {"t": Gains(gain[:asked], keys[:asked], keys[asked:])}


def test_what_is_left_decides_how_soon_a_candidate_is_given_up() -> None:
    """The same losses, with many questions left and with few; and with few that nobody disagrees on."""
    gain = np.tile([-1.0, 0.0, 0.0, 1.0, -1.0, 0.0], 20)
    many, few = (catches_up(part_of(gain[:count], 30), {}, {"t": 1.0}) for count in (120, 36))
    assert few < 0.01 < many
    telling = {("t", str(index)): 0.2 if index < 30 else 0.0 for index in range(60)}
    assert catches_up(part_of(gain[:60], 30), telling, {"t": 1.0}) < catches_up(part_of(gain[:60], 30), {}, {"t": 1.0})


def test_with_equal_sizes_and_endless_questions_it_is_the_t_test() -> None:
    gain = np.random.default_rng(5).normal(-0.1, 1.0, 200_000)
    found = catches_up(part_of(gain, 60), {}, {"t": 1.0})
    asked = gain[:60]
    again = 4 * (asked**2).mean()  # the prior's part of the variance
    variance = (((asked - asked.mean()) ** 2).sum() + again) / (59 + 4)
    assert found == pytest.approx(stats.t.cdf(asked.mean() / np.sqrt(variance / 60), 59), abs=1e-3)


@pytest.mark.parametrize("right_or_wrong", [True, False])
def test_who_would_end_ahead_is_stopped_no_more_often_than_the_level_says(right_or_wrong: bool) -> None:  # noqa: FBT001
    """Two candidates of one skill on questions in learned order; of those that end ahead, few were given up before."""
    rng = np.random.default_rng(1)
    stopped = ahead = 0
    for _ in range(400):
        question = rng.normal(0, 1.5, 96)
        crowd = question + rng.normal(0, 0.7, (6, 96))
        values = (crowd > 0) * 1.0 if right_or_wrong else 1 / (1 + np.exp(-crowd))
        worth = values[:4].var(axis=0)
        order = np.argsort(-worth, kind="stable")
        gain, known = (values[4] - values[5])[order], {("t", str(i)): worth[q] for i, q in enumerate(order)}
        chances = [catches_up(part_of(gain, asked), known, {"t": 1.0}) for asked in range(12, 96, 12)]
        ahead += gain.sum() > 0
        stopped += bool(gain.sum() > 0) and min(chances) < 0.01
    assert ahead > 120
    assert stopped <= 0.01 * 400 + 3 * np.sqrt(0.01 * 400)


def test_a_stand_in_must_be_worse_not_only_too_far_behind_to_catch_up() -> None:
    gain = np.tile([-0.3, 0.2, -0.2, 0.2], 16)
    leader = np.full(64, 0.5)
    rows = candidate(leader[:60] + gain[:60])
    race = Race(Objective((Term("arc", "gold_prob", 1.0, True),)))
    assert race.lost(rows, candidate(leader))
    assert not replace(race, decides=False).lost(rows, candidate(leader))


def test_candidates_race_on_the_metric_that_decides() -> None:
    """All right with a lower probability of the right answer: ahead in what is asked for."""
    timid = answers({("arc", "gold_prob"): [0.4] * 32, ("arc", "acc_norm"): [1] * 32}).answers
    bold = answers({("arc", "gold_prob"): [0.9] * 64, ("arc", "acc_norm"): [1, 0] * 32}).answers
    assert not RACE.lost(timid, bold)
    assert Race(Objective((Term("arc", "gold_prob", 1.0, True),))).lost(timid, bold)


def test_candidates_that_are_equal_on_average_are_seldom_called_worse() -> None:
    rng = np.random.default_rng(3)
    stopped = 0
    for _ in range(400):
        skill = rng.uniform(0.2, 0.8, 64)
        one, other = skill + rng.normal(0, 0.1, 64), skill + rng.normal(0, 0.1, 64)
        stopped += worse({"arc": one - other}, {"arc": 1.0}) < 0.01
    assert stopped <= 12  # level 0.01 of 400, plus three standard errors


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=60))
def test_right_or_wrong_alone_is_judged_by_mcnemars_exact_test(gains: list[float]) -> None:
    gain = np.array(gains)
    found = worse({"gsm": gain}, {"gsm": 1.0})
    if gain.sum() >= 0:
        assert found == 1.0
    else:
        assert min(1.0, 2 * found) == pytest.approx(mcnemar_exact((gain > 0) * 1.0, (gain < 0) * 1.0))


def test_several_tasks_of_right_or_wrong_keep_the_level() -> None:
    rng = np.random.default_rng(0)
    draws = [
        worse({t: rng.choice([-1.0, 0.0, 1.0], n, p=[0.1, 0.8, 0.1]) for t, n in (("a", 40), ("b", 25))}, SHARES)
        for _ in range(2000)
    ]
    assert np.mean(np.array(draws) < 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)
    assert np.mean(np.array(draws) < 0.05) > 0.01


SHARES = {"a": 0.7, "b": 0.3}


def test_a_pareto_race_only_stops_what_is_worse_everywhere() -> None:
    terms = (Term("a", "acc", 0.5, True), Term("b", "acc", 0.5, True))
    race = Race(Objective(terms), everywhere=True)
    leader = answers({("a", "acc"): [1] * 20, ("b", "acc"): [1] * 20}).answers
    half = answers({("a", "acc"): [0] * 20, ("b", "acc"): [1] * 20}).answers
    none = answers({("a", "acc"): [0] * 20, ("b", "acc"): [0] * 20}).answers
    assert not race.lost(half, leader)
    assert race.lost(none, leader)


def test_a_task_without_weight_has_no_say() -> None:
    race = Race(Objective((Term("a", "acc", 1.0, True), Term("guard", "acc", 0.0, True))))
    one = answers({("a", "acc"): [1] * 20, ("guard", "acc"): [0] * 20}).answers
    assert not race.lost(one, answers({("a", "acc"): [1] * 20, ("guard", "acc"): [1] * 20}).answers)


def test_a_stopped_candidate_says_how_far_behind_it_was_and_shows_no_score() -> None:
    """The questions come in learned order, so that its own score says nothing: here the most telling ones are easy."""
    study = fake_study()
    term = Term("t", "gold", 1.0, True)
    bench = FakeResources(study, Objective((term,)), lambda recipe, *_: {"gold": 0.9 - 0.1 * weights_of(recipe)[0]})
    good, bad = (study.space.candidate({"models.a.weight": w, "models.b.weight": 0.5}) for w in (0.0, 1.0))
    leader = bench.scorer.score(Job("good", 0, good.recipe(), "search"))
    assert isinstance(leader, Scored)
    rivals = Rivals(Race(bench.objective), [leader.results.answers])
    scored = bench.scorer.score(Job("bad", 1, bad.recipe(), "search", rivals=rivals))
    assert isinstance(scored, Scored)
    assert scored.stopped_after is not None
    assert scored.behind == pytest.approx(0.1, abs=1e-6)
    asked = bench.questions("search")
    assert unpack(pack(scored, asked), asked).behind == scored.behind

    record = Reporter("s", "id").trial("trial 8", 8, bad, scored, times={"started": 0.0, "ended": 1.0})
    console = Console(file=StringIO(), width=200)
    PlainRenderer(console).scored(record)
    line = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"stopped: after {scored.stopped_after} questions, 0.1000 behind the best on the same ones" in line
    assert "0.8000" not in line


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 40), min_size=1))
def test_blocks_hold_every_question_once_and_their_share_of_every_task(counts: dict[str, int]) -> None:
    asked = questions(counts)
    blocks = RACE.plan(asked, {})
    assert sorted(q for block in blocks for q in block) == sorted(asked)
    for task, count in counts.items():
        sizes = [sum(q.task == task for q in block) for block in blocks]
        assert sizes[0] == max(min(MIN_ANSWERS, count), round(count / 4))
        assert max(sizes[1:], default=0) <= count / 4 + 1


def test_what_the_baselines_disagree_on_is_asked_first() -> None:
    asked = questions({"arc": 20})
    one = answers({("arc", "acc"): [1] * 20}).answers
    other = answers({("arc", "acc"): [1] * 12 + [0] * 8}).answers
    worth = worth_of_questions(Objective((Term("arc", "acc", 1.0, True),)), [one, other])
    first = Race(RACE.objective, blocks=2, worth=worth).plan(asked, {})[0]
    assert {q.index for q in first} >= set(range(12, 20))
    assert len(first) == 10


def test_leaves_of_a_group_are_one_task() -> None:
    asked = questions({"mmlu_a": 6, "mmlu_b": 6})
    blocks = RACE.plan(asked, {"mmlu_a": "mmlu", "mmlu_b": "mmlu"})
    assert len(blocks[0]) == MIN_ANSWERS
    assert {q.task for q in blocks[0]} == {"mmlu_a", "mmlu_b"}
