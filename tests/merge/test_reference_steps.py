"""Steps of the reference that no golden merge reaches."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from merge.arithmetic import Arithmetic
from merge.engine import Merger
from merge.group import Group
from merge.methods.nuslerp import NuSlerp
from merge.recipe import Recipe
from tests.merge.test_tokenizer import TABLE, write


def test_parallel_tensors_in_float16_are_interpolated_linearly() -> None:
    parent = torch.full((4, 4), 0.25, dtype=torch.float16)  # of norm 1, so that the angle is exactly 0
    group = Group.of([parent, parent], arithmetic=Arithmetic(torch.float16, stepwise=True))
    result = NuSlerp(weight=(0.5, 0.5)).kernel(group)(slice(0, 16))
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
