"""The Python door: what notebooks call."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import merge
from merge.errors import CheckpointError, MergeError, RecipeError
from merge.recipe.schema import Recipe

TIES: dict[str, Any] = {
    "merge_method": "ties",
    "base_model": "base",
    "models": [{"model": name, "parameters": {"weight": 0.5, "density": 0.5}} for name in ("math", "science")],
    "dtype": "bfloat16",
}
HALVES: dict[str, Any] = {
    "name": "half",
    "merge_method": "linear",
    "models": [{"model": name, "parameters": {"weight": 0.5}} for name in ("math", "science")],
}
CHAIN: list[dict[str, Any]] = [
    {"merge_method": "slerp", "base_model": "base", "models": [{"model": "half"}], "parameters": {"t": 0.3}},
    HALVES,
]


def test_a_live_model_holds_what_the_folder_would(tiny_models: Path, tmp_path: Path) -> None:
    live = merge.merge(TIES, models_root=tiny_models)
    folder = merge.merge(TIES, tmp_path / "merged", models_root=[tiny_models])
    assert folder == tmp_path / "merged"
    stored = load_file(folder / "model.safetensors")
    assert all(torch.equal(live.state_dict()[name], tensor) for name, tensor in stored.items())
    assert next(live.parameters()).dtype == torch.bfloat16
    assert not live.training
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert type(loaded) is type(live)


def test_a_live_model_and_its_tokenizer_generate(tiny_models: Path) -> None:
    model = merge.merge(TIES, models_root=tiny_models, dtype="float32")
    tokenizer = merge.load_tokenizer(TIES, models_root=tiny_models)
    inputs = tokenizer("2 + 2 =", return_tensors="pt")
    assert model.generate(**inputs, max_new_tokens=3, do_sample=False).shape[1] == inputs["input_ids"].shape[1] + 3


def test_a_recipe_is_taken_as_file_mapping_or_object(tiny_models: Path, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(TIES))
    models = [
        merge.merge(one, models_root=tiny_models)
        for one in (file, str(file), TIES, Recipe.from_mapping(TIES, place="r"))
    ]
    first = models[0].state_dict()
    assert all(torch.equal(other.state_dict()[name], first[name]) for other in models for name in first)


def test_stages_are_merged_in_memory_as_in_a_folder(tiny_models: Path, tmp_path: Path) -> None:
    live = merge.merge(CHAIN, models_root=tiny_models)
    stored = load_file(merge.merge(CHAIN, tmp_path / "chain", models_root=tiny_models) / "model.safetensors")
    assert all(torch.equal(live.state_dict()[name], tensor) for name, tensor in stored.items())
    assert merge.load_tokenizer(CHAIN, models_root=tiny_models).eos_token == "<|end|>"


@pytest.mark.parametrize(
    ("recipe", "options", "error", "words"),
    [
        ({**TIES, "merge_method": "tis"}, {}, RecipeError, "did you mean 'ties'"),
        ({**TIES, "base_model": "no-such-model"}, {}, CheckpointError, "no-such-model"),
        (TIES, {"device": "gpu"}, MergeError, "device gpu: must be a device that torch can use"),
        (TIES, {"compat": "mergekitt"}, MergeError, "compat: must be 'mergekit'"),
        (TIES, {"out_shard_size": 5}, MergeError, "out_shard_size: is for folders"),
        (TIES, {"models_root": "nowhere"}, MergeError, "models_root nowhere: must be a folder"),
        ([], {}, RecipeError, "must hold a document"),
    ],
)
def test_what_is_wrong_is_one_line(
    tiny_models: Path, recipe: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        merge.merge(recipe, **{"models_root": tiny_models, **options})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_no_door() -> None:
    with pytest.raises(AttributeError, match="no attribute 'merg'"):
        merge.merg  # noqa: B018
    assert {"merge", "load_tokenizer"} <= set(dir(merge))
