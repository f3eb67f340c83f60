"""A duel: equal budgets, the same questions, masks that count, and a sentence that says no more than was seen."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given as given_that
from hypothesis import settings
from hypothesis import strategies as st

from evals.scores.results import Results
from evals.scores.statistics import mcnemar_exact
from experiments.duel.comparison import compare_pair
from experiments.duel.scoring import ScoredCompetitor
from experiments.duel.text import comparison_lines, duel_table, headline
from merge.recipe.schema import Recipe
from search.objective.objective import Objective, Term
from tests.experiments.test_cli import run
from tests.search.answers import answers
from tests.search.studies import tiny_study

OBJECTIVE = Objective((Term("arc", "acc", 1.0, True),))
RECIPE = Recipe.from_mapping({"merge_method": "passthrough", "models": [{"model": "a"}]}, place="recipe")


def competitor(name: str, *masks: Any, trials: int = 0) -> ScoredCompetitor:
    results: list[Results] = [answers({("arc", "acc"): values}) for values in masks]
    values = tuple(OBJECTIVE.value(one) for one in results)
    return ScoredCompetitor(name, "family", RECIPE, tuple(range(len(masks))), tuple(results), values, trials)


def test_one_mask_each_is_the_objectives_own_paired_bootstrap() -> None:
    rng = np.random.default_rng(0)
    one, other = competitor("one", rng.integers(0, 2, 200)), competitor("other", rng.integers(0, 2, 200))
    found = compare_pair(OBJECTIVE, one, other, seed=0).average
    expected = OBJECTIVE.difference(one.results[0], other.results[0])
    assert found.difference.estimate == pytest.approx(expected.estimate)
    assert (found.difference.low, found.difference.high) == pytest.approx((expected.low, expected.high), abs=0.006)


def test_masks_widen_the_interval_by_what_they_differ() -> None:
    rng = np.random.default_rng(1)
    other = competitor("other", np.tile([0, 1], 500))
    alike = [np.tile([0, 1], 500)] * 4
    apart = [(rng.random(1000) < share).astype(int) for share in (0.3, 0.45, 0.55, 0.7)]
    widths = []
    for masks in (alike, apart):
        interval = compare_pair(OBJECTIVE, competitor("one", *masks), other, seed=0).average.difference
        widths.append(interval.high - interval.low)
    assert widths[0] == 0
    assert widths[1] > 0.2


def test_the_exact_test_is_told_for_the_studys_own_masks_and_over_all() -> None:
    rng = np.random.default_rng(2)
    masks, other = [rng.integers(0, 2, 60) for _ in range(3)], rng.integers(0, 2, 60)
    (row,) = compare_pair(OBJECTIVE, competitor("one", *masks), competitor("other", other), seed=0).tasks
    expected = [mcnemar_exact(mask, other) for mask in masks]
    assert row.p_value == pytest.approx(expected[0])
    assert row.p_values == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given_that(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=5, max_size=40))
def test_turning_the_pair_round_turns_the_result(pairs: list[tuple[bool, bool]]) -> None:
    one, other = competitor("one", [a for a, _ in pairs]), competitor("other", [b for _, b in pairs])
    there, back = (
        compare_pair(OBJECTIVE, one, other, seed=0).tasks[0],
        compare_pair(OBJECTIVE, other, one, seed=0).tasks[0],
    )
    assert there.difference.estimate == pytest.approx(-back.difference.estimate)
    assert there.difference.low == pytest.approx(-back.difference.high)
    assert there.p_value == back.p_value
    assert {there.outcome, back.outcome} in ({"open"}, {"better", "worse"})


def test_few_differing_answers_prove_nothing_whatever_the_bootstrap_says() -> None:
    one, other = competitor("one", [1] * 4 + [0] * 6), competitor("other", [0] * 10)
    (row,) = compare_pair(OBJECTIVE, one, other, seed=0).tasks
    assert row.difference.low > 0
    assert row.p_value > 0.05
    assert row.outcome == "open"


@pytest.mark.parametrize(
    ("right", "words"),
    [(190, "one beats other in arc/acc: 95.0 % against 50.0 %"), (104, "one and other are not shown to differ")],
)
def test_the_sentence_says_what_was_found_and_what_could_have_been_seen(right: int, words: str) -> None:
    one = competitor("one", [1] * right + [0] * (200 - right), trials=30)
    other = competitor("other", [0, 1] * 100, trials=30)
    comparison = compare_pair(OBJECTIVE, one, other, seed=0)
    sentence = headline(comparison, (one, other))
    assert sentence.startswith("On 200 questions that nobody searched on, after 30 trials each, ")
    assert words in sentence
    assert "95% interval" in sentence
    assert "exact McNemar p = " in sentence
    assert "points in four cases of five." in sentence
    assert "one against other" in next(iter(comparison_lines((comparison,))))


def test_hostile_names_stay_in_their_cell() -> None:
    one, other = competitor("<img src=x>|", [1, 0]), competitor("b\n| c", [0, 1])
    table = duel_table((one, other), (compare_pair(OBJECTIVE, one, other, seed=0),))
    assert "<img" not in table
    assert "\n| c" not in table


def duel_study(home: Path, **changes: Any) -> Path:
    document = yaml.safe_load(tiny_study(trials=2, mask_seeds=2)) | {
        "study": "comparison",
        "tracking": {"mlflow": None},
    }
    document["families"]["dare"] = {**document["families"].pop("ties"), "merge_method": "dare_ties"}
    path = home / "study.yaml"
    path.write_text(yaml.safe_dump(document | changes, sort_keys=False))
    return path


def plain_families() -> dict[str, Any]:
    parts = [{"model": name, "parameters": {"weight": 0.5, "density": 0.5}} for name in ("math", "science")]
    return {
        "dare": {"merge_method": "dare_ties", "base_model": "base", "models": parts},
        "slerp": {
            "merge_method": "slerp",
            "base_model": "math",
            "models": [{"model": "math"}, {"model": "science"}],
            "parameters": {"t": 0.5},
        },
    }


def test_recipes_as_they_are_meet_without_a_search(tiny_models: Path, tmp_path: Path) -> None:
    study, out = duel_study(tmp_path, families=plain_families()), tmp_path / "duel"
    code, told, err = run("duel", study, "--models-root", tiny_models, "--out", out)
    assert (code, err) == (0, "")
    assert "over 3 random masks, " in told
    assert "trials each" not in told
    facts = json.loads((out / "duel.json").read_text())
    names = [one["name"] for one in facts["competitors"]]
    assert names == ["dare", "slerp", "base", "math", "science", "equal weights", "task arithmetic"]
    assert [len(one["seeds"]) for one in facts["competitors"]] == [3, 1, 1, 1, 1, 1, 1]
    assert not (out / "families").exists()
    assert "data-figure" in (out / "duel.html").read_text()
    assert facts["quote"] in (out / "duel.md").read_text()
    before = {name: (out / name).read_bytes() for name in ("duel.json", "duel.csv", "duel.md", "duel.html")}
    code, _, _ = run("duel", study, "--models-root", tmp_path / "nowhere", "--out", out)
    assert code == 2, "a models root that is none is refused"
    code, _, _ = run("duel", study, "--models-root", tiny_models, "--out", out)
    assert code == 0
    assert {name: (out / name).read_bytes() for name in before} == before


def test_searched_families_get_the_same_budget_and_questions(tiny_models: Path, tmp_path: Path) -> None:
    study, out = duel_study(tmp_path), tmp_path / "duel"
    code, told, err = run("duel", study, "--models-root", tiny_models, "--out", out)
    assert (code, err) == (0, "")
    assert "after 2 trials each" in told
    facts = json.loads((out / "duel.json").read_text())
    competitors = [one for one in facts["competitors"] if one["kind"] == "family"]
    assert {one["name"]: one["trials"] for one in competitors} == {"slerp": 2, "dare": 2}
    assert {one["recipe"]["merge_method"] for one in competitors} == {"slerp", "dare_ties"}
    for family in ("slerp", "dare"):
        assert (out / "families" / family / "report.html").is_file()
    assert {row["questions"] for comparison in facts["comparisons"] for row in comparison["tasks"]} == {12}


@pytest.mark.parametrize(
    ("changes", "arguments", "words"),
    [
        ({"families": {"slerp": plain_families()["slerp"]}}, (), "at least two families without holes"),
        ({}, ("--fixed",), "at least two families without holes"),
    ],
)
def test_what_makes_no_duel_is_one_clear_line(
    changes: dict[str, Any], arguments: tuple[str, ...], words: str, tiny_models: Path, tmp_path: Path
) -> None:
    study = duel_study(tmp_path, **changes)
    code, _, err = run("duel", study, *arguments, "--models-root", tiny_models, "--out", tmp_path / "duel")
    assert code == 2
    assert words in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "duel").exists()
