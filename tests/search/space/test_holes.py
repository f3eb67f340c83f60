"""Holes: what is accepted, what is refused and in which words."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search.errors import SpaceError
from search.space.holes import contains, is_hole, middle, parse_hole


def test_a_range_becomes_a_float_distribution() -> None:
    assert parse_hole({"low": 0.0, "high": 1.0}, "x").distribution == FloatDistribution(0.0, 1.0)


def test_an_int_range_becomes_an_int_distribution() -> None:
    assert parse_hole({"low": 16, "high": 24, "int": True}, "x").distribution == IntDistribution(16, 24)


def test_choices_become_a_categorical_distribution() -> None:
    assert parse_hole({"choices": [True, 0.5, "a"]}, "x").distribution == CategoricalDistribution([True, 0.5, "a"])


def test_a_mapping_of_a_recipe_is_no_hole() -> None:
    assert not is_hole({"filter": "mlp", "value": 0.5})


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"low": 1.0, "high": 0.0}, "low <= high must hold, but"),
        ({"low": 1.0}, "high is missing"),
        ({"low": 0.0, "hihg": 1.0, "high": 1.0}, "did you mean 'high'"),
        ({"low": 0.0, "high": 1.0, "log": True}, "must be above 0 where log is true"),
        ({"low": 0.5, "high": 2, "int": True}, "must be a whole number"),
        ({"low": 0.0, "high": float("inf")}, "must be a finite number"),
        ({"low": "a", "high": 1}, "must be a finite number"),
        ({"low": 0.0, "high": 1.0, "step": -0.1}, "step: must be above 0"),
        ({"low": 0.0, "high": 1.0, "step": 1e-300}, "step: must divide the range into at most 1,000,000,000 steps"),
        ({"low": 0.1, "high": 1.0, "step": 0.1, "log": True}, "cannot stand with log"),
        ({"choices": []}, "must be a list of at least one value"),
        ({"choices": [[1]]}, "choices[0]"),
        ({"choices": [1, 1]}, "is there twice"),
        ({"choices": [1], "low": 0}, "unknown key in a hole"),
        ({"low": 0.0, "high": 1.0, "gradient": 0}, "gradient: must be a whole number of at least 1"),
        ({"low": 0.0, "high": 1.0, "name": ""}, "name: must be a text"),
    ],
)
def test_a_wrong_hole_is_refused_with_its_place(node: dict[str, object], words: str) -> None:
    with pytest.raises(SpaceError) as caught:
        parse_hole(node, "study.yaml: families.f.t")
    assert str(caught.value).startswith("study.yaml: families.f.t")
    assert words.replace(", but", "") in str(caught.value)


def test_a_grid_holds_its_points_only() -> None:
    grid = parse_hole({"low": 0.1, "high": 1.0, "step": 0.3}, "x").distribution
    assert contains(grid, 0.7)
    assert not contains(grid, 0.8)
    assert contains(grid, middle(grid))


def test_true_is_not_the_number_one() -> None:
    assert not contains(CategoricalDistribution([1, 2]), True)
    assert not contains(FloatDistribution(0, 1), True)
