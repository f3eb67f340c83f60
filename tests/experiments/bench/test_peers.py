"""The comparison with a plain loop, on tiny models: both sides are asked the same, and the clock ends both."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evals.scores.statistics import Interval
from experiments.bench.peers import BASE_NAME, FinalScorer, study_document
from experiments.bench.support.contenders import ContenderResult, ContenderTask, ScoredRecipe, run_loop, run_study
from experiments.bench.support.standings import HEAD, LOOP, Row
from tests.evals.conftest import WORDS, arc_rows, write_rows

TASKS = (("arc_easy", "gold_prob", "2", "10,4,6"), ("gsm8k", "gold_bits_per_byte", "1", "6,4,6"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> dict[str, Any]:
    """Return the study of the comparison, on tiny models and made-up rows."""
    data = tmp_path_factory.mktemp("data")
    for split in ("train", "validation", "test"):
        write_rows(data / "arc_easy" / f"{split}.jsonl", arc_rows(split, 24))
    for split in ("train", "test"):
        rows = [{"question": f"{split} {i}: why {WORDS[i % 9]}?", "answer": f"it is {i}\n#### {i}"} for i in range(24)]
        write_rows(data / "gsm8k" / f"{split}.jsonl", rows)
    names = {BASE_NAME: "base"} | {f"{BASE_NAME}+experiments/demo/adapters/{n}": n for n in ("math", "science")}
    places = {name: str(tiny_models / model) for name, model in names.items()}
    return study_document(places, Namespace(task=TASKS, data=data), seed=0)


def task(study: dict[str, Any], folder: Path, questions: Path, **settings: object) -> ContenderTask:
    document = {**study, "search": {**study["search"], **settings}}
    return ContenderTask("", document, str(folder), 0.0, str(questions), None, 4)


def test_the_loop_and_our_judge_give_a_recipe_one_score(study: dict[str, Any], tmp_path: Path) -> None:
    scorer = FinalScorer(study, tmp_path / "scorer")
    scorer.write_tasks(tmp_path / "questions")
    outcome = run_loop(task(study, tmp_path / "loop", tmp_path / "questions"))
    assert outcome.candidates == len(outcome.recipes) == 1, "the time is up after one candidate"
    named = scorer.named(outcome, select=False)
    assert scorer.score(named.recipe, "search").value == pytest.approx(named.value, abs=1e-5)


def test_ours_ends_when_the_time_is_up_and_leaves_its_answers(study: dict[str, Any], tmp_path: Path) -> None:
    outcome = run_study(task(study, tmp_path / "ours", tmp_path, sampler="random", race=False))
    assert outcome.candidates == len(outcome.ends) == 1
    kinds = [entry.kind for entry in outcome.recipes]
    assert kinds == ["baseline"] * 5 + ["trial"]
    answers = pd.read_csv(tmp_path / "ours" / "answers.csv")
    assert set(answers["name"]) == {entry.name for entry in outcome.recipes}
    assert set(answers["part"]) == {"search"}


def test_the_loop_names_its_best_and_ours_names_on_the_selection_questions(
    study: dict[str, Any], tmp_path: Path
) -> None:
    scorer = FinalScorer(study, tmp_path / "scorer")
    documents = [recipe.to_mapping() for recipe in scorer.bench.recipes]
    recipes = [ScoredRecipe(f"trial {i}", "trial", 0.9 - i / 10, dict(recipe)) for i, recipe in enumerate(documents)]
    assert scorer.named(ContenderResult(recipes), select=False) == recipes[0]
    selection = {entry.name: scorer.score(entry.recipe, "selection").value for entry in recipes}
    assert scorer.named(ContenderResult(recipes), select=True).name == max(selection, key=lambda name: selection[name])


def test_a_row_has_a_cell_for_each_heading() -> None:
    entry = ScoredRecipe("trial 0", "trial", 0.5, {})
    outcome = ContenderResult([entry], candidates=10, stopped=2, begun=100.0, spent=460.0)
    row = Row(0, LOOP, outcome, entry, 0.45, Interval(0.0, -0.1, 0.1, 0.95), 0.0)
    assert row.line().count("|") == HEAD.splitlines()[0].count("|")
    assert row.rate == pytest.approx(3600 * 10 / 460)
    assert row.later_rate == pytest.approx(100)
