"""The standing: who leads, what samplers are told, constraints, the front, and the first rung's agreement."""

from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from evals.scores.results import Cost, Results
from evals.scores.statistics import Interval
from experiments.study_folder.verdict_text import verdict_lines
from merge.recipe.schema import Recipe
from search.errors import SearchStoppedError, StudyError
from search.objective.constraints import Bound, Guard
from search.objective.pareto import dominates, front
from search.objective.rung import ranks
from search.results.outcome import Comparison, Failed, Verdict
from search.results.search_state import Entry, Standing
from search.verdict.conclusion import shown_together

NOTHING = Results(pd.DataFrame(), {}, Cost())
RECIPE = Recipe.from_mapping({"merge_method": "passthrough", "models": [{"model": "a"}]}, place="t")


def entry(value: float, *values: float, violation: float = 0.0) -> Entry:
    return Entry(f"trial {value}", "f", RECIPE, value, values, violation)


def test_the_first_of_two_equals_leads_and_idle_trials_are_counted() -> None:
    standing = Standing()
    for number, value in enumerate((0.2, 0.5, 0.5, 0.4)):
        standing.idle += 1
        standing.enter(Entry(str(number), "f", RECIPE, value), NOTHING)
    assert [one.name for one, _ in standing.leaders] == ["1"]
    assert standing.idle == 2


def test_who_misses_a_constraint_never_leads() -> None:
    standing = Standing()
    standing.enter(entry(0.9, violation=0.1), NOTHING)
    assert standing.leaders == []
    standing.enter(entry(0.2), NOTHING)
    assert [one.value for one, _ in standing.leaders] == [0.2]


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1))
def test_a_stopped_or_infeasible_candidate_is_told_less_than_any_that_was_scored_in_full(
    estimate: float, worst: float, violation: float
) -> None:
    standing = Standing()
    standing.enter(entry(worst), NOTHING)
    (told,) = standing.told((estimate,), beaten=violation == 0, violation=violation)
    assert told < worst


def test_the_more_a_candidate_misses_its_constraints_the_less_it_is_told() -> None:
    standing = Standing()
    standing.enter(entry(0.5), NOTHING)
    little, much = (standing.told((0.9,), beaten=False, violation=v)[0] for v in (0.01, 0.2))
    assert much < little < 0.5
    assert standing.told((0.9,), beaten=False) == (0.9,)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    chosen = [points[place] for place in front(points)]
    assert len(set(chosen)) == len(chosen)
    assert not any(dominates(one, other) for one in points for other in chosen)
    assert all(any(one == other or dominates(one, other) for one in chosen) for other in points)


def test_leaders_are_the_whole_front_where_several_values_are_compared() -> None:
    standing = Standing()
    for values in ((0.5, 0.5), (0.9, 0.1), (0.4, 0.4), (0.6, 0.6)):
        standing.enter(entry(sum(values) / 2, *values), NOTHING)
    assert [one.values for one, _ in standing.leaders] == [(0.9, 0.1), (0.6, 0.6)]


def test_values_that_do_not_go_together_stop_a_search_later_than_other_failures() -> None:
    standing = Standing()
    for _ in range(24):
        standing.fail(Failed("layer_range is empty", "RecipeError"))
    with pytest.raises(SearchStoppedError, match="25 candidates in a row"):
        standing.fail(Failed("layer_range is empty", "RecipeError"))


def guard(**bounds: Any) -> Guard:
    return Guard({"t/acc": Bound(**bounds)}, "base-1B", "study.yaml")


def test_limits_are_numbers_or_parts_of_a_baseline() -> None:
    references = {"base-1B": {"t/acc": 0.5}, "math": {"t/acc": 0.4}}
    assert guard(at_least="0.98 of base").violation({"t/acc": 0.45}, references) == pytest.approx(0.04)
    assert guard(at_least="0.98 of math").violation({"t/acc": 0.45}, references) == 0
    assert guard(at_most=0.4).violation({"t/acc": 0.45}, references) == pytest.approx(0.05)
    (check,) = guard(at_least=0.4).check({"t/acc": 0.45}, references)
    assert (check.limit, check.shortfall) == ("at least 0.4", 0.0)


def test_a_limit_of_something_unknown_is_refused() -> None:
    with pytest.raises(StudyError, match=r"study.yaml: constraints.t/acc: is not measured, got u/acc"):
        guard(at_least=0.4).check({"u/acc": 0.45}, {})
    with pytest.raises(StudyError, match="'nobody' must be one of base-1B"):
        guard(at_least="0.9 of nobody").check({"t/acc": 0.45}, {"base-1B": {"t/acc": 0.5}})
    with pytest.raises(ValueError, match="FACTOR of BASELINE"):
        Bound(at_least="most of base")


def test_the_rung_is_trusted_when_it_ranks_enough_candidates_as_the_metric_does() -> None:
    assert ranks([1, 2, 3, 4, 5], [2, 3, 4, 6, 9]).trusted
    assert not ranks([1, 2, 3, 4], [2, 3, 4, 6]).trusted
    assert not ranks([1, 2, 3, 4, 5], [5, 4, 3, 2, 1]).trusted
    assert ranks([1, 2, 3], [0, 0, 0]).correlation is None


def test_differences_are_corrected_for_their_number_step_by_step() -> None:
    """Half-widths of a normal estimate with standard error 1: three of 2.3 pass at 5 % alone, none at 5 % / 3."""

    def again(estimates: dict[str, float]) -> set[str]:
        def interval(name: str, level: float) -> Interval:
            half = float(norm.ppf((1 + level) / 2))
            return Interval(estimates[name], estimates[name] - half, estimates[name] + half, level)

        return shown_together({name: interval(name, 0.95) for name in estimates}, interval)

    assert again({"a": 2.3, "b": -2.3, "c": 2.3}) == set()
    assert again({"a": 2.5, "b": -2.3, "c": 2.0}) == {"a", "b", "c"}
    assert again({"a": 2.5, "b": -2.3, "c": 1.9}) == {"a", "b"}
    assert again({"a": 2.0}) == {"a"}


def test_the_verdict_calls_better_only_what_holds_together() -> None:
    near = Comparison("math", Interval(0.02, 0.001, 0.04, 0.95), (), holds=False)
    far = Comparison("equal weights", Interval(0.2, 0.1, 0.3, 0.95), (), holds=True)
    scores: dict[str, dict[str, float]] = {name: {} for name in ("trial 1", "math", "equal weights")}
    counts = {"search": 1, "test": 1}
    verdict = Verdict("trial 1", "f", {}, "", "", 0.5, 0.5, ["math"], "math", (near, far), scores, {}, counts)
    text = "\n".join(verdict_lines(verdict))
    assert "'math': better taken alone, not shown to differ when corrected" in text
    assert "against 'equal weights': better, objective +0.2" in text
    assert "corrected for 2 comparisons (Holm)" in text
