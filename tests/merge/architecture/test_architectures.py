"""Every architecture: the folder loads and generates, the live model holds its bits, layers can be cut and repeated."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from merge.errors import CheckpointError
from merge.live_model import new_live_model
from merge.merger import Merger
from merge.recipe.schema import Recipe
from tests.merge.architectures import ARCHITECTURES, write_parents
from tests.merge.parents import tensors_of, write_model

TOKENS = torch.tensor([[5, 9, 2, 7]])


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def parents(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a models root with three parents of one architecture."""
    return write_parents(tmp_path_factory.mktemp(request.param), request.param)


def recipe(method: str, **more: Any) -> Recipe:
    own = {"weight": 0.5, **({"density": 0.5} if method == "ties" else {})}
    models = [{"model": name, "parameters": own} for name in ("a", "b")]
    base = {"base_model": "base"} if method == "ties" else {}
    return Recipe.from_mapping({"merge_method": method, **base, "models": models, **more}, place="r")


def stack(*ranges: tuple[int, int], **parameters: Any) -> Recipe:
    slices = [
        {"sources": [{"model": "a", "layer_range": list(limits), "parameters": parameters if number else {}}]}
        for number, limits in enumerate(ranges)
    ]
    return Recipe.from_mapping({"merge_method": "passthrough", "slices": slices}, place="r")


def loaded(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    model, said = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not said["missing_keys"]
    assert not said["unexpected_keys"]
    return model.eval()


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(TOKENS).logits
    assert torch.isfinite(found).all()
    return found


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_a_merged_folder_generates_and_the_live_model_holds_the_same_bits(
    parents: Path, tmp_path: Path, method: str
) -> None:
    merger = Merger([parents])
    stored = loaded(merger.merge_to_folder(recipe(method), tmp_path / "out"))
    assert stored.generate(TOKENS, max_new_tokens=3, min_new_tokens=3, do_sample=False).shape == (1, 7)
    live = new_live_model(merger, recipe(method))
    stats = merger.merge_live(recipe(method), live)
    assert stats.tensors_written
    own = live.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in stored.state_dict().items())
    assert torch.equal(logits(live), logits(stored))
    assert merger.merge_live(recipe(method), live).tensors_written == 0


def test_one_changed_weight_in_fused_experts_is_put_right(tmp_path: Path) -> None:
    merger = Merger([write_parents(tmp_path, "mixtral")])
    live = new_live_model(merger, recipe("linear"))
    merger.merge_live(recipe("linear"), live)
    wanted = {name: tensor.clone() for name, tensor in live.state_dict().items()}
    name = next(name for name in wanted if "experts" in name and wanted[name].dim() == 3)
    with torch.no_grad():
        live.get_parameter(name)[2].add_(1)
    merger.merge_live(recipe("linear"), live)
    assert torch.equal(live.state_dict()[name], wanted[name])


def test_layers_are_cut_and_repeated_with_everything_that_counts_them(parents: Path, tmp_path: Path) -> None:
    merger = Merger([parents])
    folder = merger.merge_to_folder(stack((0, 2), (1, 3), (2, 3)), tmp_path / "out")
    config = json.loads((folder / "config.json").read_text())
    assert config["num_hidden_layers"] == 5
    source = json.loads((parents / "a" / "config.json").read_text())
    for key, value in source.items():
        if isinstance(value, list) and "layer" in key and len(value) == 3:
            assert config[key] == [value[layer] for layer in (0, 1, 1, 2, 2)]
    model = loaded(folder)
    assert model.generate(TOKENS, max_new_tokens=2, min_new_tokens=2, do_sample=False).shape == (1, 6)
    live = new_live_model(merger, stack((0, 2), (1, 3), (2, 3)))
    merger.merge_live(stack((0, 2), (1, 3), (2, 3)), live)
    assert torch.equal(logits(live), logits(model))


SILENCED = {"gpt_neox": "dense", "phi": "dense", "mixtral": "w2"}
"""What the halves of a layer end with, where it is not down_proj."""


def test_block_expansion_gives_the_parents_logits(parents: Path, tmp_path: Path) -> None:
    kind = json.loads((parents / "a" / "config.json").read_text())["model_type"]
    names = [SILENCED.get(kind, "down_proj"), "o_proj", *(["fc2"] if kind == "phi" else [])]
    scale: list[dict[str, Any]] = [*({"filter": name, "value": 0.0} for name in names), {"value": 1.0}]
    grown = Merger([parents]).merge_to_folder(stack((0, 3), (2, 3), (2, 3), scale=scale), tmp_path / "out")
    torch.testing.assert_close(logits(loaded(grown)), logits(loaded(parents / "a")), atol=0, rtol=0)


def test_a_model_without_layers_is_refused_in_one_line(tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in tensors_of(0).items() if "layers" not in name}
    write_model(tmp_path / "a", tensors)
    with pytest.raises(CheckpointError, match="a: must have decoder layers numbered from 0, found none"):
        Merger([tmp_path]).check(recipe("linear", models=[{"model": "a", "parameters": {"weight": 1.0}}]))


def test_another_stack_of_numbered_tensors_is_not_taken_for_the_layers(tmp_path: Path) -> None:
    folder = write_parents(tmp_path, "llama") / "a"
    tensors = load_file(folder / "model.safetensors")
    extra = {f"heads.{number}.weight": torch.ones(2, 2) for number in range(5)}
    save_file({**tensors, **extra}, folder / "model.safetensors", metadata={"format": "pt"})
    plan = Merger([tmp_path]).plan(stack((0, 1), (2, 3)))
    assert {t.name for t in plan.tensors} >= {"model.layers.1.mlp.up_proj.weight", "heads.4.weight"}
    assert plan.config["num_hidden_layers"] == 2
