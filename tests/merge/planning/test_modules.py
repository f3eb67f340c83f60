"""Models of several modules: each has its own models, slices, parameters and layers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from merge.architecture.layers import with_layers
from merge.errors import CheckpointError, RecipeError
from merge.merger import Merger
from merge.recipe.schema import Recipe
from tests.merge.parents import CONFIG, tensors_of

PROJECTOR = "multi_modal_projector.linear_1.weight"
VISION = "vision_tower.encoder.layers.{}.mlp.weight"
TEXT = "language_model.model.layers.{}.mlp.up_proj.weight"
NORM = "language_model.model.norm.weight"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a models root with ``a`` and ``b``: three layers that see, two that read, and what lies between."""
    for seed, name in enumerate(("a", "b")):
        generator = torch.Generator().manual_seed(seed)
        tensors = {f"language_model.{key}": tensor for key, tensor in tensors_of(seed).items()}
        tensors |= {VISION.format(layer): torch.randn(8, 8, generator=generator) for layer in range(3)}
        tensors[PROJECTOR] = torch.randn(16, 8, generator=generator)
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "model.safetensors")
        vision = {"num_hidden_layers": 3, "fullatt_block_indexes": [2]}
        config = {"architectures": ["X"], "model_type": "x", "text_config": CONFIG, "vision_config": vision}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    return tmp_path


def models(first: object, second: object) -> dict[str, Any]:
    weights = {"a": first, "b": second}
    return {"models": [{"model": name, "parameters": {"weight": weight}} for name, weight in weights.items()]}


def layers(*ranges: tuple[str, int, int]) -> dict[str, Any]:
    return {"slices": [{"sources": [{"model": name, "layer_range": [low, high]}]} for name, low, high in ranges]}


def merged(root: Path, document: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    recipe = Recipe.from_mapping(document, place="r.yaml")
    out = Merger([root]).merge_to_folder(recipe, root / "out")
    return load_file(out / "model.safetensors"), json.loads((out / "config.json").read_text())


def expect(found: dict[str, Tensor], root: Path, shares: dict[str, float]) -> None:
    a, b = (load_file(root / name / "model.safetensors") for name in ("a", "b"))
    for name, share in shares.items():
        torch.testing.assert_close(found[name], (1 - share) * a[name] + share * b[name])


@pytest.mark.parametrize("names", [("text_decoder", "vision_tower"), ("language_model", "vision_tower")])
def test_each_module_has_its_own_parameters_and_gradients(pictures: Path, names: tuple[str, str]) -> None:
    text, vision = names
    modules = {
        text: models([1.0, 0.0], [0.0, 1.0]),
        vision: {**models(0.25, 0.75), "parameters": {"normalize": False}},
        "multi_modal_projector": models(0.0, 1.0),
    }
    found, _ = merged(pictures, {"merge_method": "linear", "modules": modules})
    wanted = {TEXT.format(0): 0.0, TEXT.format(1): 1.0, NORM: 0.0, VISION.format(1): 0.75, PROJECTOR: 1.0}
    expect(found, pictures, wanted)


def test_without_modules_a_gradient_runs_over_the_layers_of_each(pictures: Path) -> None:
    found, _ = merged(pictures, {"merge_method": "linear", **models([1.0, 0.0], [0.0, 1.0])})
    wanted = {TEXT.format(0): 0.0, TEXT.format(1): 1.0, PROJECTOR: 0.0}
    expect(found, pictures, wanted | {VISION.format(layer): layer / 2 for layer in range(3)})


def test_slices_of_a_module_renumber_its_layers_and_the_section_of_the_config_that_counts_them(pictures: Path) -> None:
    modules = {
        "text_decoder": layers(("a", 0, 2), ("b", 1, 2)),
        "vision_tower": layers(("b", 2, 3), ("a", 0, 1)),
        "default": {"models": [{"model": "b"}]},
    }
    found, config = merged(pictures, {"merge_method": "passthrough", "modules": modules})
    a, b = (load_file(pictures / name / "model.safetensors") for name in ("a", "b"))
    assert torch.equal(found[TEXT.format(2)], b[TEXT.format(1)])
    assert torch.equal(found[VISION.format(0)], b[VISION.format(2)])
    assert torch.equal(found[VISION.format(1)], a[VISION.format(0)])
    assert torch.equal(found[PROJECTOR], b[PROJECTOR])
    assert VISION.format(2) not in found
    assert config["text_config"]["num_hidden_layers"] == 3
    assert config["vision_config"] == {"num_hidden_layers": 2, "fullatt_block_indexes": [0]}


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        (["text_decoder", "visoin"], "r.yaml: modules.visoin: no tensor belongs to it; a has "),
        (["text_decoder", "vision_tower"], f"r.yaml: modules: must hold every tensor, got none for {PROJECTOR} (1 in"),
    ],
)
def test_modules_that_do_not_fit_the_model_are_refused(pictures: Path, modules: list[str], words: str) -> None:
    document = {"merge_method": "linear", "modules": dict.fromkeys(modules, models(1.0, 1.0))}
    with pytest.raises(RecipeError) as error:
        Merger([pictures]).check(Recipe.from_mapping(document, place="r.yaml"))
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_layers_outside_a_module_are_refused_with_its_path(pictures: Path) -> None:
    modules = {"vision_tower": layers(("a", 1, 4)), "default": {"models": [{"model": "a"}]}}
    with pytest.raises(
        RecipeError, match=r"r: modules.vision_tower.slices\[0\].sources\[0\].layer_range: must end at 3"
    ):
        Merger([pictures]).check(Recipe.from_mapping({"merge_method": "passthrough", "modules": modules}, place="r"))


def test_a_plain_model_is_one_module(family: Path) -> None:
    modules = {"text": models(1.0, 1.0), "vision": models(1.0, 1.0)}
    with pytest.raises(RecipeError, match=r"modules\.text: no tensor belongs to it; a has one module, default"):
        Merger([family]).check(Recipe.from_mapping({"merge_method": "linear", "modules": modules}, place="r"))


def test_lists_of_layer_numbers_follow_the_layers() -> None:
    config = {"num_hidden_layers": 4, "mlp_only_layers": [0, 3], "moe_layers": [1, 2], "layer_types": list("abcd")}
    wanted = {"num_hidden_layers": 3, "mlp_only_layers": [0, 1], "moe_layers": [2], "layer_types": ["d", "a", "b"]}
    assert with_layers(config, [3, 0, 1]) == wanted
    dense = {"num_hidden_layers": 4, "first_k_dense_replace": 1}
    assert with_layers(dense, [0, 0, 1])["first_k_dense_replace"] == 2
    with pytest.raises(CheckpointError, match="dense layers must come before"):
        with_layers(dense, [1, 0])
