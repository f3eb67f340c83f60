"""Steps of the reference that no golden merge reaches."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from merge.errors import CompatibilityError, RecipeError
from merge.kernels.arithmetic import Arithmetic
from merge.kernels.inputs import TensorInputs
from merge.merger import Merger
from merge.methods.nuslerp import NuSlerp
from merge.recipe.schema import Recipe
from tests.merge.checkpoint.test_tokenizer import TABLE, write
from tests.merge.parents import recipe_of, tensors_of, write_model


def test_parallel_tensors_in_float16_are_interpolated_linearly() -> None:
    parent = torch.full((4, 4), 0.25, dtype=torch.float16)  # of norm 1, so that the angle is exactly 0
    inputs = TensorInputs.of([parent, parent], arithmetic=Arithmetic(torch.float16, stepwise=True))
    result = NuSlerp(weight=(0.5, 0.5)).kernel(inputs)(slice(0, 16))
    assert torch.equal(result, parent.reshape(-1))


def test_rows_are_rounded_before_they_are_averaged(tmp_path: Path) -> None:
    step = 2**-7  # of bfloat16 above 1: the rows are rounded to 1 and 1 + step, and their mean to 1
    rows = {"one": 1 + 0.375 * step, "two": 1 + 1.375 * step, "three": 0.0}
    for seed, (name, value) in enumerate(rows.items()):
        file = write(tmp_path / name, "ab" if name == "three" else "abx", seed) / "model.safetensors"
        tensors = load_file(file)
        tensors[TABLE] = torch.full_like(tensors[TABLE], value)
        save_file(tensors, file)
    weights = {"one": 0.0, "two": 0.0, "three": 1.0}
    document = {
        "merge_method": "linear",
        "models": [{"model": name, "parameters": {"weight": weight}} for name, weight in weights.items()],
        "tokenizer_source": "union",
        "dtype": "bfloat16",
        "out_dtype": "float32",
    }
    recipe = Recipe.from_mapping(document, place="r")
    x = {
        compat: load_file(
            Merger([tmp_path], compat=compat).merge_to_folder(recipe, tmp_path / f"out-{compat}") / "model.safetensors"
        )[TABLE][2, 0].item()
        for compat in (True, False)
    }
    assert x == {True: 1.0, False: 1 + 0.875 * step}


@pytest.mark.parametrize(
    ("method", "base", "other", "rows"),
    [("linear", None, 44, 40), ("ties", "a", 44, 40), ("ties", "a", 36, None), ("karcher", None, 44, None)],
)
def test_of_several_vocabularies_the_reference_takes_what_its_method_can(
    tmp_path: Path, method: str, base: str | None, other: int, rows: int | None
) -> None:
    for name, size in (("a", 40), ("b", other)):
        write_model(tmp_path / name, tensors_of(1) | {TABLE: torch.ones(size, 16)})
    own: dict[str, object] = {} if method == "karcher" else {"weight": 1.0}
    recipe = recipe_of(method, base=base, models={"a": own, "b": own} if base is None else {"b": own})
    if rows is None:
        with pytest.raises(CompatibilityError, match="tokenizer_source"):
            Merger([tmp_path], compat=True).check(recipe)
        return
    planned = {tensor.name: tensor.shape for tensor in Merger([tmp_path], compat=True).plan(recipe).tensors}
    assert planned[TABLE] == (rows, 16)


def test_a_base_model_that_passthrough_does_not_list_stops_the_reference_only(family: Path) -> None:
    recipe = recipe_of("passthrough", models={"a": {}})
    Merger([family]).check(recipe)
    with pytest.raises(RecipeError, match=r"base_model: must not be given.* passthrough takes 1"):
        Merger([family], compat=True).check(recipe)


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_a_head_that_tied_models_lend_their_embedding_is_drawn_after_it(family: Path, order: tuple[str, str]) -> None:
    file = family / "a" / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"lm_head.weight": tensors[TABLE] + 1}, file)
    recipe = recipe_of("dare_linear", models={name: {"weight": 0.5, "density": 0.5} for name in order})
    names = [tensor.name for tensor in Merger([family], compat=True).plan(recipe).tensors]
    assert names[:2] == [TABLE, "lm_head.weight"]


def test_folding_an_adapter_uses_up_random_numbers_of_the_reference(family: Path) -> None:
    models: dict[str, dict[str, object]] = {name: {"weight": 1.0, "density": 0.5} for name in ("a", "base+lora")}
    recipe = recipe_of("dare_linear", models=models, parameters={"rescale": False})
    folder = Merger([family], compat=True, seed=7).merge_to_folder(recipe, family / "out")
    result, base, a = (
        load_file(place / "model.safetensors")[TABLE] for place in (folder, family / "base", family / "a")
    )
    generator = torch.Generator().manual_seed(7)
    torch.rand(2 * 3 * 16 + 16 * 3, generator=generator)  # lora_A and lora_B of a layer, then lora_A again
    kept = torch.rand(base.shape, generator=generator) < 0.5
    assert torch.equal(result, base + (a - base) * kept)
