"""The state: who is best, what samplers are told, constraints, the front, and the first rung's agreement."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from evals.scores.statistics import Interval
from experiments.study_folder.verdict_text import verdict_lines
from merge.recipe.schema import Recipe
from search.errors import StudyError
from search.objective.constraints import Bound, Guard
from search.objective.objective import Objective, Term
from search.objective.pareto import dominates, front
from search.objective.rung import ranks
from search.results.job import Job
from search.results.outcome import Failed, Scored
from search.results.search_state import Rules, SearchState
from search.results.verdict import Comparison, Verdict
from search.verdict.conclusion import shown_together
from tests.search.answers import answers
from tests.search.fake import fake_study

RECIPE = Recipe.from_mapping({"merge_method": "passthrough", "models": [{"model": "a"}]}, place="t")
ACC = Objective((Term("t", "acc", 1.0, True),))
TWO = Objective((Term("t", "acc", 0.5, True), Term("u", "acc", 0.5, True)))


def begun(worth: Objective = ACC, **settings: Any) -> SearchState:
    """Return the state of a search without baselines."""
    section = fake_study(search=settings).file.search
    return SearchState(Rules(section, worth, Guard({"t/acc": Bound(at_least=0.1)}, None, "study.yaml"), ()))


def scored(*values: float, stopped_after: int | None = None) -> Scored:
    """Return what answers are worth that have these means, task by task."""
    results = answers({(task, "acc"): [value] * 4 for task, value in zip("tu", values, strict=False)})
    return Scored(results, sum(values) / len(values), stopped_after, values=values)


def after(state: SearchState, *outcomes: Scored | Failed, from_earlier_run: bool = False) -> SearchState:
    """Return the state after some trials."""
    for outcome in outcomes:
        number = state.trials
        candidate = fake_study().space.candidate({"models.a.weight": number / 64, "models.b.weight": 0.5})
        job = Job(f"trial {number}", number, candidate.text(), "search", family="linear")
        state = state.with_outcome(job, outcome, from_earlier_run=from_earlier_run)
    return state


def test_the_first_of_two_equals_is_the_best_and_idle_trials_are_counted() -> None:
    state = after(begun(), *(scored(value) for value in (0.2, 0.5, 0.5, 0.4)))
    assert [one.name for one, _ in state.best] == ["trial 1"]
    assert (state.trials, state.idle) == (4, 2)


def test_a_state_is_a_value() -> None:
    early = after(begun(), scored(0.2))
    late = after(early, scored(0.5), Failed("no", "x"))
    assert ([one.value for one in early.entries], early.failures, early.trials) == ([0.2], (), 1)
    assert ([one.value for one in late.entries], len(late.failures), late.trials) == ([0.2, 0.5], 1, 3)


def test_who_misses_a_constraint_is_never_the_best() -> None:
    state = after(begun(), scored(0.05))
    assert (state.best, [one.violation > 0 for one in state.entries]) == ((), [True])
    assert [one.value for one, _ in after(state, scored(0.2)).best] == [0.2]


@given(st.floats(-1, 1), st.floats(0.1, 1), st.floats(0, 1))
def test_the_sampler_gets_less_for_a_stopped_or_infeasible_candidate_than_for_any_that_was_scored_in_full(
    estimate: float, worst: float, violation: float
) -> None:
    state = after(begun(), scored(worst))
    (value,) = state.penalised((estimate,), stopped=violation == 0, violation=violation)
    assert value < worst


def test_the_more_a_candidate_misses_its_constraints_the_less_the_sampler_gets() -> None:
    state = after(begun(), scored(0.5))
    little, much = (state.penalised((0.9,), stopped=False, violation=v)[0] for v in (0.01, 0.2))
    assert much < little < 0.5
    assert state.penalised((0.9,), stopped=False) == (0.9,)
    assert state.sampler_values(Failed("no", "x")) == ()
    assert state.sampler_values(scored(0.9, stopped_after=8))[0] < 0.5
    assert state.sampler_values(scored(0.05))[0] < 0.05


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    chosen = [points[place] for place in front(points)]
    assert len(set(chosen)) == len(chosen)
    assert not any(dominates(one, other) for one in points for other in chosen)
    assert all(any(one == other or dominates(one, other) for one in chosen) for other in points)


def test_the_best_are_the_whole_front_where_several_values_are_compared() -> None:
    points = ((0.5, 0.5), (0.9, 0.1), (0.4, 0.4), (0.6, 0.6))
    state = after(begun(TWO, objective="pareto", sampler="tpe"), *(scored(*values) for values in points))
    assert [tuple(round(v, 6) for v in one.values) for one, _ in state.best] == [(0.9, 0.1), (0.6, 0.6)]


def test_values_that_do_not_go_together_stop_a_search_later_than_other_failures() -> None:
    wrong, crash = Failed("layer_range is empty", "RecipeError"), Failed("logits are NaN", "ScoringError")
    assert after(begun(), *[wrong] * 24).alike_failure() is None
    assert after(begun(), *[wrong] * 25).alike_failure() == wrong
    assert after(begun(), crash, crash, wrong, crash).alike_failure() is None
    assert after(begun(), crash, crash, crash).alike_failure() == crash
    assert after(begun(), crash, crash, scored(0.5), crash).alike_failure() is None


def test_failures_of_an_earlier_run_stop_nothing() -> None:
    crash = Failed("logits are NaN", "ScoringError")
    assert after(begun(), *[crash] * 7, from_earlier_run=True).alike_failure() is None


def test_baselines_enter_in_their_order_however_they_come() -> None:
    rules = replace(begun().rules, baselines=("a", "b", "c"))
    outcomes = {"a": scored(0.4), "b": scored(0.6), "c": scored(0.6)}
    states = []
    for order in ("abc", "cba"):
        state = SearchState(rules)
        for name in order:
            assert state.entries == () or len(state.entries) < 3
            job = Job(name, -1 - "abc".index(name), RECIPE, "search")
            state = state.with_outcome(job, outcomes[name])
        states.append(state)
    assert states[0].entries == states[1].entries
    assert [[one.name for one, _ in state.best] for state in states] == [["b"], ["b"]]
    assert states[0].worth == states[1].worth


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
