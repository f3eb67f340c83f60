"""What lies outside the layers, where the reference infers an architecture or counts a merger as a layer."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from merge.merger import Merger
from merge.recipe.schema import Recipe
from tests.merge.architectures import write_parents
from tests.merge.parents import recipe_of


@pytest.mark.parametrize(
    ("kind", "compat", "last"), [("qwen2_moe", True, "a"), ("qwen2_moe", False, "b"), ("qwen3", True, "b")]
)
def test_an_inferred_model_takes_norm_and_head_from_the_first_slice(
    tmp_path: Path, kind: str, last: str, *, compat: bool
) -> None:
    write_parents(tmp_path, kind)
    slices = [{"sources": [{"model": model, "layer_range": [0, 2]}]} for model in ("a", "b")]
    recipe = Recipe.from_mapping({"merge_method": "passthrough", "slices": slices}, place="r")
    folder = Merger([tmp_path], compat=compat).merge_to_folder(recipe, tmp_path / "out")
    result, wanted = (load_file(place / "model.safetensors") for place in (folder, tmp_path / last))
    assert all(result[name].equal(wanted[name]) for name in ("model.norm.weight", "lm_head.weight"))
    count = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
    assert count == (3 if compat and last == "a" else 4)


@pytest.mark.parametrize("compat", [True, False])
def test_a_gradient_ends_in_the_merger_of_the_reference(family: Path, *, compat: bool) -> None:
    name, other = (f"visual.merger.mlp.{place}.weight" for place in (0, 2))
    for model in ("a", "b"):
        file = family / model / "model.safetensors"
        tensors = load_file(file)
        save_file(
            {**tensors, name: tensors["model.norm.weight"] * 2, other: tensors["model.norm.weight"].clone()}, file
        )
    recipe = recipe_of("linear", base=None, models={"a": {"weight": 1.0}, "b": {"weight": [0.0, 1.0]}})
    folder = Merger([family], compat=compat).merge_to_folder(recipe, family / "out")
    a, b = (load_file(family / model / "model.safetensors")[name] for model in ("a", "b"))
    result = load_file(folder / "model.safetensors")[name]
    assert result.equal((a + b) / 2 if compat else a)
