"""Recipes: what is refused, with which words, and what comes out as it went in."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from merge.errors import CheckpointError, RecipeError
from merge.recipe.model_reference import ModelReference, parse, resolve
from merge.recipe.schema import Recipe, load_recipes

FEW = settings(max_examples=40, deadline=None)
TIES: dict[str, Any] = {
    "merge_method": "ties",
    "base_model": "base",
    "models": [{"model": "a", "parameters": {"weight": 0.5, "density": 0.5}}],
}


def faults(document: dict[str, Any], place: str = "study.yaml: families.ties") -> list[str]:
    with pytest.raises(RecipeError) as raised:
        Recipe.from_mapping(document, place=place)
    return str(raised.value).splitlines()


def test_every_fault_of_a_document_is_told_at_once_with_its_path() -> None:
    document = {
        **TIES,
        "models": [
            {"model": "a", "parameters": {"weight": 1.0}},
            {"model": "b", "parameters": {"densty": 0.5, "weight": [1, "x"]}},
        ],
        "parameters": {"lambda": {"filter": "mlp", "vaule": 1}},
        "dtyp": "float32",
    }
    found = faults(document)
    assert "study.yaml: families.ties.models[1].parameters.densty: unknown key; did you mean 'density'?" in found
    assert "study.yaml: families.ties.models[1].parameters.weight[1]: must be a number, got 'x'" in found
    assert "study.yaml: families.ties.parameters.lambda.vaule: unknown key; did you mean 'value'?" in found
    assert "study.yaml: families.ties.dtyp: unknown key; did you mean 'dtype'?" in found


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"merge_method": "tie"}, "merge_method: unknown method 'tie'; did you mean 'ties'?"),
        ({"base_model": None}, "base_model: ties needs a base model"),
        ({"models": [{"model": "a"}]}, "models[0].parameters.weight: ties needs it for every model, got none"),
        ({"parameters": {"density": 1.4}}, "parameters.density: must be above 0 and at most 1, got 1.4"),
        ({"parameters": {"weight": 1e308}}, "parameters.weight: must be at most 1e+30 in size, got 1e+308"),
        ({"parameters": {"weight": float("nan")}}, "parameters.weight: must be a number, got nan"),
        ({"parameters": {"normalize": "often"}}, "parameters.normalize: must be true or false, got 'often'"),
        ({"dtype": "bf16"}, "dtype: must be one of float32, float16, bfloat16, float64, got 'bf16'"),
        ({"slices": []}, "exactly one of models, slices and modules must be given, got models and slices"),
    ],
)
def test_a_fault_is_told_in_our_words(change: dict[str, Any], fault: str) -> None:
    assert f"r.yaml: {fault}" in faults({**TIES, **change}, "r.yaml")


def test_layer_ranges_must_hold_layers_and_agree() -> None:
    sources = [{"model": "a", "layer_range": [0, 2]}, {"model": "b", "layer_range": [3, 3]}]
    document = {"merge_method": "slerp", "base_model": "a", "slices": [{"sources": sources, "parameters": {"t": 0.5}}]}
    found = faults(document, "r.yaml")
    assert any("slices[0].sources[1].layer_range" in fault and "got [3, 3]" in fault for fault in found)
    assert any("same number of layers, got [2, 0]" in fault for fault in found)


def test_a_document_comes_out_as_it_went_in() -> None:
    document = {
        **TIES,
        "parameters": {"normalize": True, "lambda": [{"filter": "mlp", "value": [0, 1]}, {"value": 1}]},
        "dtype": "bfloat16",
    }
    recipe = Recipe.from_mapping(document, place="r.yaml")
    assert recipe.to_mapping() == document
    assert recipe.to_mapping()["parameters"]["normalize"] is True  # type: ignore[index]
    assert yaml.safe_load(recipe.to_yaml()) == document
    assert Recipe.from_mapping(yaml.safe_load(recipe.to_yaml()), place="elsewhere") == recipe


@FEW
@given(st.permutations(list(TIES)))
def test_the_digest_does_not_see_the_order_of_keys(keys: list[str]) -> None:
    shuffled = Recipe.from_mapping({key: TIES[key] for key in keys}, place="r")
    assert shuffled.digest() == Recipe.from_mapping(TIES, place="r").digest()


def test_the_digest_sees_values() -> None:
    changed = {**TIES, "models": [{"model": "a", "parameters": {"weight": 0.5, "density": 0.25}}]}
    assert Recipe.from_mapping(changed, place="r").digest() != Recipe.from_mapping(TIES, place="r").digest()


def test_references_are_in_listed_order_with_the_base_last() -> None:
    document = {
        **TIES,
        "models": [
            {"model": "b+l", "parameters": {"weight": 1}},
            {"model": {"model": {"path": "a"}}, "parameters": {"weight": 1}},
        ],
    }
    assert Recipe.from_mapping(document, place="r").references() == ("b+l", "a", "base")


def test_stages_come_in_the_order_they_need_each_other(tmp_path: Path) -> None:
    stage = "merge_method: passthrough\nmodels: [{model: %s}]\nname: %s\n"
    (tmp_path / "r.yaml").write_text(
        "---\n".join([stage % ("two", "three"), stage % ("one", "two"), stage % ("a", "one")])
    )
    assert [recipe.name for recipe in load_recipes(tmp_path / "r.yaml")] == ["one", "two", "three"]


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "merge_method: [\n", "\tx"])
def test_a_file_that_is_no_recipe_is_a_recipe_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=r"r\.yaml"):
        load_recipes(tmp_path / "r.yaml")


@FEW
@given(st.from_regex(r"[a-z]{1,4}(/[a-z]{1,4})?(@[a-z]{1,3})?(\+[a-z]{1,4}(@[a-z]{1,3})?)?", fullmatch=True))
def test_a_reference_is_written_as_it_was_read(text: str) -> None:
    assert str(parse(text)) == text


def test_references_are_found_below_roots(tmp_path: Path) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    assert resolve("org/model", [tmp_path / "nowhere", tmp_path]) == (tmp_path / "org" / "model").resolve()
    assert parse("m@r+l") == ModelReference("m", "r", "l", None)


def test_a_reference_that_leads_nowhere_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="--models-root"):
        resolve("org/not-here", [tmp_path])


@pytest.mark.parametrize("text", ["", "+a", "a+b+c", "a+"])
def test_a_malformed_reference_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError):
        parse(text)
