"""GPT-NeoX: its head stands last, its buffers are kept in the reference's mode and otherwise left to the model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from merge.merger import Merger
from merge.recipe.schema import Recipe
from tests.merge.architectures import write_parents

AT = "gpt_neox.layers.{}.attention."
BUFFERS = {AT.format(layer) + name for layer in range(3) for name in ("bias", "masked_bias", "rotary_emb.inv_freq")}
LINEAR = {"merge_method": "linear", "models": [{"model": name, "parameters": {"weight": 0.5}} for name in ("a", "b")]}


@pytest.fixture
def parents(tmp_path: Path) -> Path:
    """Return a models root whose parents store buffers, as checkpoints of older programs do."""
    write_parents(tmp_path, "gpt_neox")
    for place, name in enumerate(("base", "a", "b")):
        file = tmp_path / name / "model.safetensors"
        tensors = load_file(file)
        for layer in range(3):
            at = AT.format(layer)
            tensors[at + "bias"] = torch.ones(8, 8, dtype=torch.bool).tril().view(1, 1, 8, 8)
            tensors[at + "masked_bias"] = torch.tensor(-1e9)
            tensors[at + "rotary_emb.inv_freq"] = torch.tensor([1.0, 0.5]) + place
        save_file(tensors, file, metadata={"format": "pt"})
    return tmp_path


def merged(parents: Path, document: dict[str, Any], *, compat: bool) -> dict[str, Tensor]:
    recipe = Recipe.from_mapping(document, place="r")
    folder = Merger([parents], compat=compat, seed=7).merge_to_folder(recipe, parents / f"out-{compat}")
    return load_file(folder / "model.safetensors")


def test_the_reference_merges_buffers_that_we_leave_to_the_model(parents: Path) -> None:
    theirs, ours = (merged(parents, LINEAR, compat=compat) for compat in (True, False))
    assert theirs.keys() >= BUFFERS
    assert torch.equal(theirs[AT.format(0) + "rotary_emb.inv_freq"], torch.tensor([2.5, 2.0]))
    assert ours.keys() & BUFFERS == {AT.format(layer) + "bias" for layer in range(3)}


def test_a_stated_dtype_makes_numbers_of_a_mask_in_the_reference_only(parents: Path) -> None:
    name, stated = AT.format(0) + "bias", {**LINEAR, "dtype": "bfloat16"}
    assert [merged(parents, stated, compat=compat)[name].dtype for compat in (True, False)] == [
        torch.bfloat16,
        torch.bool,
    ]


@pytest.mark.parametrize("compat", [True, False])
def test_the_head_follows_the_last_slice(parents: Path, *, compat: bool) -> None:
    slices = [{"sources": [{"model": model, "layer_range": [0, 1]}]} for model in ("a", "b")]
    result = merged(parents, {"merge_method": "passthrough", "slices": slices}, compat=compat)
    for name, model in (("embed_in.weight", "a"), ("final_layer_norm.weight", "b")):
        stored = load_file(parents / model / "model.safetensors")
        assert torch.equal(result[f"gpt_neox.{name}"], stored[f"gpt_neox.{name}"])
    assert torch.equal(result["embed_out.weight"], load_file(parents / "b" / "model.safetensors")["embed_out.weight"])


def test_a_mask_that_float16_makes_infinite_stops_nothing(parents: Path) -> None:
    result = merged(parents, {**LINEAR, "dtype": "float16"}, compat=True)
    assert result[AT.format(0) + "masked_bias"].isinf()
