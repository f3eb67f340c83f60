"""The recipe language, sentence by sentence: what a recipe says is what comes out, worked out by hand here."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from merge.errors import RecipeError
from merge.merger import Merger
from merge.multi_stage import merge_stages
from merge.recipe.schema import Recipe, load_recipes

UP = "model.layers.{}.mlp.up_proj.weight"
QUERY = "model.layers.{}.self_attn.q_proj.weight"
NORM = "model.norm.weight"
EMBEDDING = "model.embed_tokens.weight"


def stored(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def merged(family: Path, out: Path, document: dict[str, Any], **options: Any) -> dict[str, Tensor]:
    recipe = Recipe.from_mapping(document, place="r.yaml")
    return stored(Merger([family], **options).merge_to_folder(recipe, out))


def entry(model: str, **parameters: Any) -> dict[str, Any]:
    return {"model": model, "parameters": parameters} if parameters else {"model": model}


def layered(model: str, first: int, last: int, **parameters: Any) -> dict[str, Any]:
    return {**entry(model, **parameters), "layer_range": [first, last]}


def linear(weight: object, **more: Any) -> dict[str, Any]:
    return {
        "merge_method": "linear",
        "models": [entry("a", weight=1.0), entry("b", weight=weight)],
        "parameters": {"normalize": False},
        **more,
    }


def test_a_gradient_runs_over_the_layers_and_gives_its_first_value_outside_them(family: Path, tmp_path: Path) -> None:
    result = merged(family, tmp_path / "out", linear([0.25, 9.0, 0.75]))
    a, b = stored(family / "a"), stored(family / "b")
    for name, weight in ((UP.format(0), 0.25), (UP.format(1), 0.75), (EMBEDDING, 0.25), (NORM, 0.25)):
        torch.testing.assert_close(result[name], a[name] + weight * b[name])


def test_a_gradient_in_a_slice_of_one_layer_gives_its_last_value(family: Path, tmp_path: Path) -> None:
    slices = [
        {"sources": [layered("a", n, n + 1, weight=1.0), layered("b", n, n + 1, weight=[0.0, 0.5])]} for n in (0, 1)
    ]
    document = {"merge_method": "linear", "slices": slices, "parameters": {"normalize": False}}
    result = merged(family, tmp_path / "out", document)
    a, b = stored(family / "a"), stored(family / "b")
    torch.testing.assert_close(result[UP.format(0)], a[UP.format(0)] + 0.5 * b[UP.format(0)])
    torch.testing.assert_close(result[EMBEDDING], a[EMBEDDING])


def test_the_first_filter_that_fits_wins_and_what_none_fits_falls_through(family: Path, tmp_path: Path) -> None:
    weight = [{"filter": "mlp", "value": [0.0, 1.0]}, {"filter": "up_proj", "value": 5.0}]
    document = linear(weight)
    document["parameters"]["weight"] = 0.125
    result = merged(family, tmp_path / "out", document)
    a, b = stored(family / "a"), stored(family / "b")
    torch.testing.assert_close(result[UP.format(0)], a[UP.format(0)])
    torch.testing.assert_close(result[UP.format(1)], a[UP.format(1)] + b[UP.format(1)])
    torch.testing.assert_close(result[NORM], a[NORM] + 0.125 * b[NORM])


def test_a_filter_of_a_models_own_parameter_sees_the_name_in_that_model(family: Path, tmp_path: Path) -> None:
    weight = [{"filter": "layers.1.", "value": 1.0}, {"value": 0.0}]
    slices = [{"sources": [layered("a", 0, 1, weight=1.0), layered("b", 1, 2, weight=weight)]}]
    document = {"merge_method": "linear", "slices": slices, "parameters": {"normalize": False}}
    result = merged(family, tmp_path / "out", document)
    a, b = stored(family / "a"), stored(family / "b")
    torch.testing.assert_close(result[UP.format(0)], a[UP.format(0)] + b[UP.format(1)])


def test_the_nearest_level_wins(family: Path, tmp_path: Path) -> None:
    sources = [layered("a", 0, 2), layered("b", 0, 2)]
    part = {"slices": [{"sources": sources, "parameters": {"t": [{"filter": "mlp", "value": 0.25}]}}]}
    module = {**part, "parameters": {"t": [{"filter": "q_proj", "value": 0.5}]}}
    document = {"merge_method": "slerp", "base_model": "a", "modules": {"default": module}, "parameters": {"t": 1.0}}
    result = merged(family, tmp_path / "out", document)
    b = stored(family / "b")
    torch.testing.assert_close(result[NORM], b[NORM])
    assert not torch.allclose(result[UP.format(0)], b[UP.format(0)])
    plan = Merger([family]).plan(Recipe.from_mapping(document, place="r"))
    found: dict[str, Any] = {tensor.name: tensor.method for tensor in plan.tensors}
    assert [found[name].t for name in (UP.format(0), QUERY.format(1), NORM)] == [0.25, 0.5, 1.0]


def test_lambda_scales_what_is_added_and_int8_mask_changes_nothing(family: Path, tmp_path: Path) -> None:
    def document(**parameters: Any) -> dict[str, Any]:
        models = [entry("a", weight=0.5), entry("b", weight=0.5)]
        return {"merge_method": "task_arithmetic", "base_model": "base", "models": models, "parameters": parameters}

    base = stored(family / "base")
    one = merged(family, tmp_path / "1", document())
    two = merged(family, tmp_path / "2", document(**{"lambda": 2.0, "int8_mask": True}))
    torch.testing.assert_close(two[NORM] - base[NORM], 2 * (one[NORM] - base[NORM]))


def test_rescale_keeps_the_norm_of_what_was_trimmed(family: Path, tmp_path: Path) -> None:
    def change(number: int, **parameters: Any) -> Tensor:
        document = {
            "merge_method": "ties",
            "base_model": "base",
            "models": [entry("a", weight=1.0, density=0.25)],
            "parameters": parameters,
        }
        return merged(family, tmp_path / str(number), document)[NORM] - stored(family / "base")[NORM]

    whole = (stored(family / "a")[NORM] - stored(family / "base")[NORM]).abs().sum()
    assert change(1, rescale=False).abs().sum() < 0.9 * whole
    torch.testing.assert_close(change(2, rescale=True).abs().sum(), whole)


@pytest.mark.parametrize(
    ("stated", "wanted"),
    [
        ({}, torch.float32),
        ({"dtype": "bfloat16"}, torch.bfloat16),
        ({"dtype": "float32", "out_dtype": "float16"}, torch.float16),
        ({"out_dtype": "torch.bfloat16"}, torch.bfloat16),
    ],
)
@pytest.mark.parametrize("mode", ["default", "compat"])
def test_dtype_and_out_dtype_say_what_is_written(
    family: Path, tmp_path: Path, stated: dict[str, str], wanted: torch.dtype, mode: str
) -> None:
    result = merged(family, tmp_path / "out", linear(0.5, **stated), compat=mode == "compat")
    assert {tensor.dtype for tensor in result.values()} == {wanted}


def test_a_model_with_an_adapter_can_stand_anywhere(family: Path, tmp_path: Path) -> None:
    slices = [{"sources": [layered("a", 0, 1)]}, {"sources": [layered("base+lora", 1, 2)]}]
    result = merged(family, tmp_path / "out", {"merge_method": "passthrough", "slices": slices})
    name = QUERY.format(1)
    assert torch.equal(result[name], Merger([family]).checkpoint("base+lora").tensor(name))
    assert not torch.equal(result[name], stored(family / "base")[name])
    long = {"model": {"path": "base"}, "lora": {"path": "lora"}}
    again = [slices[0], {"sources": [{**layered("x", 1, 2), "model": long}]}]
    assert torch.equal(
        merged(family, tmp_path / "two", {"merge_method": "passthrough", "slices": again})[name], result[name]
    )


def slerp(first: str, second: str, t: object, **more: Any) -> dict[str, Any]:
    sources = [layered(first, 0, 2), layered(second, 0, 2)]
    return {
        "merge_method": "slerp",
        "base_model": first,
        "slices": [{"sources": sources}],
        "parameters": {"t": t},
        "dtype": "float32",
        **more,
    }


PHIGMENT_T = [
    {"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]},
    {"filter": "mlp", "value": [1, 0.5, 0.7, 0.3, 0]},
    {"value": 0.5},
]


def test_a_chain_of_slerps_gives_what_its_steps_give_one_by_one(family: Path, tmp_path: Path) -> None:
    steps = [
        slerp("base", "a", PHIGMENT_T, name="one"),
        slerp("one", "b", PHIGMENT_T, name="two"),
        slerp("two", "base+lora", PHIGMENT_T),
    ]
    (tmp_path / "chain.yaml").write_text(yaml.safe_dump_all(reversed(steps)))
    out = merge_stages(load_recipes(tmp_path / "chain.yaml"), tmp_path / "out", models_roots=[family])
    for step, place in zip(steps, ("one", "two", "three"), strict=True):
        recipe = Recipe.from_mapping({key: value for key, value in step.items() if key != "name"}, place="r")
        Merger([family]).merge_to_folder(recipe, family / place)
    assert all(torch.equal(tensor, stored(family / "three")[name]) for name, tensor in stored(out).items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chain.yaml", "models", "out"]


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ({"merge_method": "passthrough", "slices": [{"sources": [layered("one", 0, 3)]}]}, "must end at 2 at most"),
        ({"merge_method": "linear", "models": [entry("one", weight=-1.0)]}, "must not sum to less than zero"),
    ],
)
def test_a_later_stage_is_checked_before_the_first_is_merged(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr("merge.checkpoint.reader.Checkpoint.tensor", lambda *_: pytest.fail("a weight was read"))
    (tmp_path / "chain.yaml").write_text(yaml.safe_dump_all([slerp("a", "b", 0.5, name="one"), last]))
    with pytest.raises(RecipeError, match=words):
        merge_stages(load_recipes(tmp_path / "chain.yaml"), tmp_path / "out", models_roots=[family])


def test_a_model_listed_twice_counts_once_and_the_base_has_no_parameters(family: Path, tmp_path: Path) -> None:
    def document(*models: dict[str, Any]) -> dict[str, Any]:
        return {"merge_method": "ties", "base_model": "base", "models": list(models), "parameters": {"density": 0.5}}

    once = merged(family, tmp_path / "1", document(entry("a", weight=0.5), entry("b", weight=0.25)))
    twice = merged(
        family,
        tmp_path / "2",
        document(entry("base"), entry("a", weight=0.5), entry("b", weight=0.25), entry("a", weight=9.0)),
    )
    assert all(torch.equal(tensor, twice[name]) for name, tensor in once.items())


@pytest.mark.parametrize("method", ["nuslerp", "multislerp", "slerp"])
def test_a_base_model_that_a_slice_does_not_list_is_refused(method: str) -> None:
    sources = [layered("a", 0, 2, weight=1.0), layered("b", 0, 2, weight=1.0)]
    sources = [layered("a", 0, 2), layered("b", 0, 2)] if method == "slerp" else sources
    own = {"parameters": {"t": 0.5}} if method == "slerp" else {}
    document = {"merge_method": method, "base_model": "base", "slices": [{"sources": sources}], **own}
    with pytest.raises(RecipeError, match=r"slices\[0\]\.sources: the base model base must be one of the sources"):
        Recipe.from_mapping(document, place="r")


@pytest.mark.parametrize("mode", ["default", "compat"])
def test_an_adapter_can_be_folded_in_a_dtype_of_its_own(family: Path, tmp_path: Path, mode: str) -> None:
    document = {"merge_method": "passthrough", "models": [entry("base+lora")]}
    result = merged(family, tmp_path / "out", document, lora_dtype="bfloat16", compat=mode == "compat")
    base, whole = stored(family / "base"), Merger([family]).checkpoint("base+lora")
    change = whole.adapter.fold(QUERY.format(1), torch.zeros(16, 16)) if whole.adapter else torch.zeros(())
    assert {tensor.dtype for tensor in result.values()} == {torch.bfloat16}
    assert torch.equal(result[NORM], base[NORM].bfloat16())
    rounded = base[QUERY.format(1)].bfloat16().float()
    assert torch.equal(result[QUERY.format(1)], (rounded + change).bfloat16())
    alone = merged(family, tmp_path / "two", {**document, "models": [entry("base")]}, lora_dtype="bfloat16")
    assert alone[NORM].dtype == torch.float32


@pytest.mark.parametrize("density", [0.9, 0.05])
def test_della_narrows_epsilon_near_the_ends_and_the_reference_stops(
    family: Path, tmp_path: Path, density: float
) -> None:
    models = [entry(model, weight=1.0, density=density) for model in ("a", "b")]
    document = {"merge_method": "della_linear", "base_model": "base", "models": models}
    with pytest.warns(UserWarning, match="epsilon of della is narrowed") as said:
        result = merged(family, tmp_path / "out", document)
    assert len({str(warning.message) for warning in said}) == 1
    assert result.keys() == stored(family / "base").keys()
    with pytest.raises(RecipeError, match="must lie further than epsilon from 0 and 1"):
        merged(family, tmp_path / "theirs", document, compat=True)


def test_the_config_says_the_dtype_that_is_written(family: Path, tmp_path: Path) -> None:
    document = {
        "merge_method": "arcee_fusion",
        "base_model": "a",
        "models": [entry("a"), entry("b")],
        "dtype": "bfloat16",
    }
    for mode, wanted in (("ours", torch.bfloat16), ("compat", torch.float32)):
        result = merged(family, tmp_path / mode, document, compat=mode == "compat")
        assert {tensor.dtype for tensor in result.values()} == {wanted}
        assert json.loads((tmp_path / mode / "config.json").read_text())["dtype"] == "bfloat16"
