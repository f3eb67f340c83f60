"""Families: names of dimensions, decoding, encoding, and the round trip between them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from merge.recipe.schema import Recipe
from search.errors import SpaceError
from search.space.family import Family
from search.space.holes import Scalar
from search.space.template import Dimension, short_name

TIES: dict[str, object] = {
    "merge_method": "ties",
    "base_model": "org/base",
    "models": [
        {
            "model": "org/math",
            "parameters": {"weight": {"low": 0.0, "high": 1.0}, "density": {"low": 0.1, "high": 1.0}},
        },
        {"model": "org/base+lora/science", "parameters": {"weight": 0.5, "density": {"choices": [0.3, 0.5]}}},
    ],
    "dtype": "float32",
}
SLERP: dict[str, object] = {
    "merge_method": "slerp",
    "base_model": "a",
    "slices": [
        {
            "sources": [
                {"model": "a", "layer_range": [0, {"low": 2, "high": 4, "int": True, "name": "end"}]},
                {"model": "b", "layer_range": [0, {"low": 2, "high": 4, "int": True, "name": "end"}]},
            ]
        }
    ],
    "parameters": {
        "t": [
            {"filter": "self_attn", "value": {"low": 0.0, "high": 1.0, "gradient": 3}},
            {"filter": "mlp", "value": [0.0, {"low": 0.2, "high": 0.8}]},
            {"value": {"low": 0.1, "high": 0.9, "step": 0.1}},
        ]
    },
}
STACK: dict[str, object] = {
    "merge_method": "passthrough",
    "slices": [
        {"sources": [{"model": "a", "layer_range": [0, {"low": 2, "high": 4, "int": True}]}]},
        {"sources": [{"model": "a", "layer_range": [{"low": 0, "high": 3, "int": True}, 4]}]},
    ],
}
METHODS: dict[str, object] = {
    "merge_method": {"choices": ["ties", "dare_linear", "task_arithmetic"]},
    "base_model": "base",
    "models": [
        {
            "model": "a",
            "parameters": {"weight": {"low": 0.0, "high": 1.0, "name": "w"}, "density": {"low": 0.1, "high": 1.0}},
        },
        {"model": "b", "parameters": {"weight": {"low": 0.0, "high": 1.0, "name": "w"}, "density": 0.5}},
    ],
    "parameters": {"normalize": {"choices": [True, False]}},
}


def names(family: Family) -> list[str]:
    return [dimension.name for dimension in family.dimensions]


def test_holes_have_readable_names() -> None:
    assert names(Family("f", TIES, place="f")) == [
        "models.math.weight",
        "models.math.density",
        "models.science.density",
    ]


def test_gradients_filters_and_layer_ranges_have_names() -> None:
    found = names(Family("f", SLERP, place="f"))
    assert found == ["end", "t.self_attn.0", "t.self_attn.1", "t.self_attn.2", "t.mlp.1", "t"]


def test_layer_ranges_have_a_start_and_an_end() -> None:
    family = Family("f", STACK, place="f")
    assert names(family) == ["slices.0.sources.a.layer_range.end", "slices.1.sources.a.layer_range.start"]
    plain: Any = family.decode({"slices.0.sources.a.layer_range.end": 3, "slices.1.sources.a.layer_range.start": 1})
    assert [part["sources"][0]["layer_range"] for part in plain["slices"]] == [[0, 3], [1, 4]]


def test_a_short_name_is_what_people_call_a_model() -> None:
    assert short_name("org/base-1B@main+adapters/math@v2") == "math"
    assert short_name("org/base-1B/") == "base-1B"


def test_decoding_gives_a_plain_recipe_and_changes_nothing_else() -> None:
    family = Family("f", TIES, place="f")
    values: dict[str, Scalar] = {"models.math.weight": 0.25, "models.math.density": 0.5, "models.science.density": 0.3}
    plain: Any = family.decode(values)
    assert plain["models"][0]["parameters"] == {"weight": 0.25, "density": 0.5}
    assert plain["models"][1]["parameters"] == {"weight": 0.5, "density": 0.3}
    assert {key: plain[key] for key in ("merge_method", "base_model", "dtype")} == {
        "merge_method": "ties",
        "base_model": "org/base",
        "dtype": "float32",
    }


def test_a_shared_hole_is_one_dimension_with_one_value() -> None:
    family = Family("f", METHODS, place="f")
    assert names(family).count("w") == 1
    plain: Any = family.decode({**family.middle(), "w": 0.75})
    assert [model["parameters"]["weight"] for model in plain["models"]] == [0.75, 0.75]


def test_parameters_that_the_chosen_method_does_not_use_are_neither_searched_nor_written() -> None:
    family = Family("f", {**METHODS, "merge_method": {"choices": ["ties", "linear"]}}, place="f")
    values: dict[str, Scalar] = {"merge_method": "linear", "w": 0.5, "normalize": True}
    assert "models.a.density" not in [dimension.name for dimension in family.active(values)]
    plain: Any = family.decode(values)
    assert [model["parameters"] for model in plain["models"]] == [{"weight": 0.5}, {"weight": 0.5}]


def test_an_unknown_method_among_choices_is_refused_with_its_place() -> None:
    with pytest.raises(SpaceError, match=r"^f.merge_method.choices: unknown method 'tys'"):
        Family("f", {**METHODS, "merge_method": {"choices": ["ties", "tys"]}}, place="f")


def test_a_parameter_of_no_chosen_method_is_refused() -> None:
    with pytest.raises(SpaceError, match="has a parameter 'gamma'"):
        Family("f", {**METHODS, "parameters": {"gamma": {"low": 0.01, "high": 0.02}}}, place="f")


def test_unequal_shared_holes_are_refused() -> None:
    document: Any = {
        **TIES,
        "models": [
            {"model": "a", "parameters": {"weight": {"low": 0.0, "high": 1.0, "name": "w"}}},
            {"model": "b", "parameters": {"weight": {"low": 0.0, "high": 2.0, "name": "w"}}},
        ],
    }
    with pytest.raises(SpaceError, match="must be the same in every place"):
        Family("f", document, place="f")


def test_an_end_that_is_not_legal_for_the_parameter_is_refused_before_any_model_is_opened() -> None:
    document: Any = {
        **TIES,
        "models": [{"model": "a", "parameters": {"weight": 1.0, "density": {"low": 0.5, "high": 1.5}}}],
    }
    with pytest.raises(SpaceError, match=r"models\[0\].parameters.density"):
        Family("f", document, place="study.yaml: families.f")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"merge_method": "dare_ties"}, "merge_method: the recipe must hold 'ties' here, got 'dare_ties'"),
        ({"extra": 1}, "extra: the family has nothing here"),
        ({"dtype": None}, "dtype"),
    ],
)
def test_a_recipe_of_another_family_is_refused(change: dict[str, object], words: str) -> None:
    family = Family("f", TIES, place="f")
    with pytest.raises(SpaceError) as caught:
        family.encode({**family.decode(family.middle()), **change})
    assert words in str(caught.value)


def test_a_value_out_of_range_is_an_error_not_a_clipped_value() -> None:
    family = Family("f", TIES, place="f")
    recipe: Any = family.decode(family.middle())
    recipe["models"][0]["parameters"]["weight"] = 1.5
    with pytest.raises(SpaceError, match=r"models\[0\].parameters.weight: must be in"):
        family.encode(recipe)


def test_one_number_fits_a_gradient() -> None:
    family = Family("f", SLERP, place="f")
    recipe: Any = family.decode(family.middle())
    recipe["parameters"]["t"][0]["value"] = 0.5
    values = family.encode(recipe)
    assert [values[f"t.self_attn.{i}"] for i in range(3)] == [0.5, 0.5, 0.5]


def drawn(dimension: Dimension) -> st.SearchStrategy[Scalar]:
    distribution = dimension.distribution
    if isinstance(distribution, CategoricalDistribution):
        return st.sampled_from(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if step is not None:
        points = [low + i * step for i in range(int((high - low) / step + 1e-9) + 1)]
        return st.sampled_from([int(p) if isinstance(distribution, IntDistribution) else p for p in points])
    return st.floats(low, high)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), document=st.sampled_from([TIES, SLERP, STACK, METHODS]))
def test_encoding_is_the_inverse_of_decoding_and_yaml_keeps_every_value(
    data: st.DataObject, document: dict[str, object]
) -> None:
    family = Family("f", document, place="f")
    values = {d.name: data.draw(drawn(d), label=d.name) for d in family.dimensions}
    active = {d.name: values[d.name] for d in family.active(values)}
    plain = family.decode(active)
    assert family.encode(plain) == active
    recipe = Recipe.from_mapping(plain, place="f")
    assert family.decode(family.encode(recipe.to_mapping())) == plain
