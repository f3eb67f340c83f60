"""Suites: every file loads, every name is known, averages as their sources define them."""

import pandas as pd
import pytest

from evals.errors import TaskError
from evals.results import Cost, Results, Score
from evals.suites import load_suite, suite_names
from evals.task_index import index_folder, lm_eval_folder
from evals.tasks import MINI


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_names_known_tasks(name: str) -> None:
    suite = load_suite(name)
    known = index_folder(lm_eval_folder() / "tasks").names | index_folder(MINI).names
    assert {spec.task for spec in suite.tasks} <= known
    assert all(spec.metric for spec in suite.tasks)
    assert {label for labels in suite.categories.values() for label in labels} <= {spec.task for spec in suite.tasks}


def test_an_unknown_suite_is_named_with_the_nearest() -> None:
    with pytest.raises(TaskError, match="did you mean 'open-llm-v1'"):
        load_suite("open-llm-1")


def results_of(suite: str, value: float) -> Results:
    loaded = load_suite(suite)
    keys = [f"{s.task}/{m}" for s in loaded.tasks for m in loaded.metrics.get(s.task, (s.metric or "",))]
    rows = [(s.task, s.task, "0", s.metric, value, 1.0) for s in loaded.tasks]
    answers = pd.DataFrame(rows, columns=["task", "leaf", "question", "metric", "value", "weight"])
    return Results(answers, {key: Score(value, None, 1, True) for key in keys}, Cost())


def test_averages_are_those_of_their_sources() -> None:
    assert load_suite("open-llm-v1").average(results_of("open-llm-v1", 0.6)) == pytest.approx(0.6)
    assert load_suite("nous").average(results_of("nous", 0.6)) == pytest.approx(0.6)
    shown = load_suite("open-llm-v2").shown(results_of("open-llm-v2", 0.6))
    assert shown["leaderboard_mmlu_pro"] == pytest.approx((0.6 - 0.1) / 0.9)
    assert shown["leaderboard_gpqa"] == pytest.approx((0.6 - 0.25) / 0.75)
    assert shown["leaderboard_ifeval"] == 0.6


def test_subtasks_are_normalised_each_by_its_own_chance() -> None:
    suite = load_suite("open-llm-v2")
    leaves = {"leaderboard_musr_murder_mysteries": 0.75, "leaderboard_musr_team_allocation": 0.1}
    rows = [("leaderboard_musr", leaf, "0", "acc_norm", value, 1.0) for leaf, value in leaves.items()]
    answers = pd.DataFrame(rows, columns=["task", "leaf", "question", "metric", "value", "weight"])
    results = Results(answers, {"leaderboard_musr/acc_norm": Score(0.4, None, 2, True)}, Cost())
    assert suite.shown(results) == {"leaderboard_musr": pytest.approx((0.5 + 0.0) / 2)}
    with pytest.raises(TaskError, match="leaderboard_bbh"):
        suite.average(results)
