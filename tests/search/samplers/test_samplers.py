"""Every sampler of the folder, by one contract: in range, reproducible, and better than chance where it learns."""

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
import pytest

from search.errors import StudyError
from search.proposals.per_trial_sampler import PerTrialSampler
from search.proposals.trial_budget import budget_of
from search.samplers import SamplerContext, SourceTrial, chosen_sampler, make_sampler, sampler_names
from search.space.family import Family
from search.space.holes import contains
from search.space.search_space import SearchSpace
from search.study.study import LoadedStudy

NUMBER = {"low": 0.0, "high": 1.0}
TWO: dict[str, Any] = {
    "merge_method": "linear",
    "models": [{"model": name, "parameters": {"weight": NUMBER}} for name in "ab"],
}
MIXED: dict[str, Any] = {
    "merge_method": {"choices": ["ties", "task_arithmetic"]},
    "base_model": "base",
    "models": [
        {"model": "a", "parameters": {"weight": NUMBER, "density": {"low": 0.1, "high": 1.0, "log": True}}},
        {"model": "b", "parameters": {"weight": {"low": 0, "high": 4, "int": True}, "density": 0.5}},
    ],
    "parameters": {"normalize": {"choices": [True, False]}},
}
GRID: dict[str, Any] = {
    "merge_method": "linear",
    "models": [
        {"model": "a", "parameters": {"weight": {"choices": [0.25, 0.5, 1.0]}}},
        {"model": "b", "parameters": {"weight": {"low": 0.0, "high": 1.0, "step": 0.25}}},
    ],
}
LEARNERS = {"auto": 48, "cmaes": 48, "gp": 16, "nsga2": 240, "tpe": 48}
"""Samplers that learn, and in how many trials they must have."""


def spaces(**documents: Mapping[str, Any]) -> SearchSpace:
    return SearchSpace({name: Family(name, copy.deepcopy(dict(d)), place=name) for name, d in documents.items()})


def run(
    name: str, space: SearchSpace, value: Callable[[Mapping[str, Any]], float], trials: int, seed: int = 0, **more: Any
) -> list[dict[str, Any]]:
    """Run a study in memory, every trial with a sampler of its own; return what was asked."""
    study = optuna.create_study(direction="maximize")
    memo: dict[str, Any] = {}
    study.sampler = PerTrialSampler(
        lambda s: make_sampler(name, SamplerContext(space, trials, s, seed, memo=memo, **more), {}), seed
    )
    asked = []
    for _ in range(trials):
        trial = study.ask()
        candidate = space.suggest(trial)
        study.tell(trial, value(candidate.values))
        asked.append({"family": candidate.family, **candidate.values})
    return asked


def near(values: Mapping[str, Any]) -> float:
    """Be best where every number is 0.3."""
    return -float(sum((float(v) - 0.3) ** 2 for v in values.values() if isinstance(v, float)))


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    optuna.logging.set_verbosity(verbosity)


def space_for(name: str) -> SearchSpace:
    return spaces(grid=GRID) if name == "brute_force" else spaces(mixed=MIXED, two=TWO)


@pytest.mark.parametrize("name", sampler_names())
def test_a_sampler_asks_inside_the_space_and_the_same_again_for_the_same_seed(name: str) -> None:
    space = space_for(name)
    trials = 8 if name == "gp" else 20
    asked = run(name, space, near, trials)
    for one in asked:
        family = space.families[one["family"]]
        used = {d.name: d.distribution for d in family.active(one)}
        assert set(used) == set(one) - {"family"}
        assert all(contains(distribution, one[hole]) for hole, distribution in used.items())
    assert run(name, space, near, trials) == asked
    assert run(name, space, near, trials, seed=1) != asked


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learning_sampler_beats_chance(name: str) -> None:
    space = spaces(two=TWO)

    def late(sampler: str, seed: int) -> float:
        asked = [near(one) for one in run(sampler, space, near, LEARNERS[name], seed)]
        return float(np.mean(asked[-len(asked) // 4 :]))

    seeds = range(1 if name == "gp" else 3)
    learned, chance = ([late(sampler, seed) for seed in seeds] for sampler in (name, "random"))
    assert np.mean(learned) > np.mean(chance) / 2


def test_cmaes_learns_choices_and_whole_numbers() -> None:
    def value(values: Mapping[str, Any]) -> float:
        number = (float(values["models.a.weight"]) - 0.3) ** 2 + (values["models.b.weight"] - 3) ** 2 / 16
        return float(-number - (values["merge_method"] != "ties") - (values["normalize"] is not True))

    late = run("cmaes", spaces(mixed=MIXED), value, 160)[-24:]
    assert np.mean([one["merge_method"] == "ties" for one in late]) > 0.7
    assert np.mean([one["models.b.weight"] == 3 for one in late]) > 0.5


def test_cmaes_learns_from_a_generation_that_the_race_stopped_but_for_one() -> None:
    best = iter([0.0] * 3 + [1.0] + [0.0] * 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(run("cmaes", spaces(two=TWO), lambda _: next(best), 12)) == 12


def test_cmaes_is_separable_above_twenty_dimensions() -> None:
    models = [{"model": f"m{i}", "parameters": {"weight": NUMBER}} for i in range(24)]
    space = spaces(many={"merge_method": "linear", "models": models})
    asked = [near(one) for one in run("cmaes", space, near, 240)]
    assert np.mean(asked[-24:]) > np.mean(asked[:24]) / 2


def test_cmaes_begins_where_an_earlier_study_ended() -> None:
    rng = np.random.default_rng(0)
    places = [{"models.a.weight": float(a), "models.b.weight": float(b)} for a, b in rng.uniform(0, 1, (40, 2))]
    sources = [SourceTrial(place, near(place)) for place in places]
    cold, warm = (
        np.mean([near(one) for one in run("cmaes", spaces(two=TWO), near, 8, sources=given)]) for given in ((), sources)
    )
    assert warm > cold / 2


@pytest.mark.parametrize("document", [TWO, MIXED])
def test_cmaes_made_anew_for_every_trial_proposes_what_one_that_ran_through_does(document: dict[str, Any]) -> None:
    """Three trials are under way at a time, come back in another order, and some fail."""
    space = spaces(one=document)

    def proposals(*, anew: bool) -> list[dict[str, Any]]:
        study = optuna.create_study(direction="maximize")
        memo: dict[str, Any] = {}
        study.sampler = PerTrialSampler(
            lambda s: make_sampler("cmaes", SamplerContext(space, 60, s, 0, memo={} if anew else memo), {}), 0
        )
        asked, running = [], []
        for number in range(60):
            trial = study.ask()
            asked.append(dict(space.suggest(trial).values))
            running.append((trial, near(asked[-1])))
            if len(running) == 3:
                done, value = running.pop(number % 2)
                failed = number % 7 == 3
                study.tell(done, None if failed else value, optuna.trial.TrialState.FAIL if failed else None)
        return asked

    assert proposals(anew=True) == proposals(anew=False)


@pytest.mark.parametrize("weight", [NUMBER, {"low": 0, "high": 8, "int": True}])
def test_cmaes_reaches_the_edge_of_a_range(weight: dict[str, Any]) -> None:
    models = [{"model": name, "parameters": {"weight": weight}} for name in "abc"]
    space = spaces(one={"merge_method": "linear", "models": models})
    asked = run("cmaes", space, lambda values: float(sum(values.values())), 120)
    assert max(sum(one[f"models.{name}.weight"] for name in "abc") for one in asked) == 3 * weight["high"]


def test_brute_force_asks_every_candidate_once() -> None:
    space = spaces(grid=GRID)
    assert space.count() == 15
    asked = run("brute_force", space, near, 15)
    assert len({tuple(sorted(one.items())) for one in asked}) == 15


@pytest.mark.parametrize(
    ("document", "trials", "objectives", "expected"),
    [
        (TWO, 100, 1, "cmaes"),
        (TWO, 20, 1, "tpe"),
        (MIXED, 100, 1, "tpe"),
        (GRID, 15, 1, "brute_force"),
        (GRID, 10, 1, "tpe"),
        (MIXED, 100, 2, "nsga2"),
        (MIXED, 30, 2, "tpe"),
    ],
)
def test_auto_suits_space_budget_and_objective(
    document: dict[str, Any], trials: int, objectives: int, expected: str
) -> None:
    assert chosen_sampler("auto", SamplerContext(spaces(one=document), trials, 0, 0, objectives)) == expected


@pytest.mark.parametrize(
    ("name", "document", "objectives", "arguments", "words"),
    [
        ("brute_force", TWO, 1, {}, "brute_force needs holes with choices, int or step"),
        ("cmaes", TWO, 2, {}, "cmaes has one objective"),
        ("cmaes", TWO, 1, {"popsize": 2}, "popsize must be at least 4"),
        ("tpe", TWO, 1, {"n_startup": 2}, "sampler 'tpe' refuses them"),
    ],
)
def test_a_sampler_that_does_not_suit_is_refused_in_one_line(
    name: str, document: dict[str, Any], objectives: int, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(StudyError, match=words):
        make_sampler(name, SamplerContext(spaces(one=document), 50, 0, 0, objectives), arguments)


def test_a_large_mixed_space_and_a_long_gaussian_process_are_warned_of() -> None:
    def warnings_of(sampler: str, trials: int, **more: object) -> list[str]:
        models = [{"model": f"m{i}", "parameters": {"weight": NUMBER}} for i in range(24)]
        document = {
            "study": "large",
            "families": {"many": {"merge_method": "linear", "models": models, "parameters": more}},
            "evaluate": {"tasks": [{"task": "t", "metric": "acc"}]},
            "search": {"sampler": sampler, "trials": trials},
        }
        return list(budget_of(LoadedStudy(document, place="large.yaml")).warnings())

    mixed = {"normalize": {"choices": [True, False]}}
    (warned,) = warnings_of("cmaes", 300, **mixed)
    assert "24 dimensions go together in about 1152 trials" in warned
    assert warnings_of("cmaes", 300) == []
    assert warnings_of("cmaes", 1200, **mixed) == []
    assert warnings_of("gp", 500) == []
    assert "a second of CPU after 500 trials" in warnings_of("gp", 501)[0]
