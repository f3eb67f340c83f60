"""The door of this room for notebooks and scripts: a recipe becomes a folder, or a live model in memory."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch

from merge.errors import MergeError, RecipeError
from merge.live_model import load_tokenizer as tokenizer_of
from merge.live_model import new_live_model
from merge.merger import Merger
from merge.multi_stage import check_stages, merge_early_stages, merge_stages
from merge.planning.planner import torch_dtype
from merge.recipe.model_reference import models_roots
from merge.recipe.schema import Recipe, load_recipes, recipes_in_order

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

RecipeSource = str | Path | Recipe | Mapping[str, Any] | Sequence[Mapping[str, Any] | Recipe]
"""A YAML file, a recipe, mergekit's YAML as Python values, or a list of those: the stages of one merge."""
Folders = str | Path | Sequence[str | Path]


@overload
def merge_recipe(
    recipe: RecipeSource, out: None = None, *, models_root: Folders = (), device: str = "cpu", **options: Any
) -> "PreTrainedModel": ...


@overload
def merge_recipe(
    recipe: RecipeSource, out: str | Path, *, models_root: Folders = (), device: str = "cpu", **options: Any
) -> Path: ...


def merge_recipe(
    recipe: RecipeSource,
    out: str | Path | None = None,
    *,
    models_root: Folders = (),
    device: str = "cpu",
    dtype: str | None = None,
    random_seed: int = 0,
    compat: Literal["mergekit"] | None = None,
    lora_merge_dtype: str | None = None,
    allow_crimes: bool = False,
    allow_nan: bool = False,
    allow_pickle: bool = False,
    **folder_options: Any,
) -> "Path | PreTrainedModel":
    """Merge a recipe into a folder, or into a live model in memory.

    Args:
        recipe: A YAML file, a recipe, or mergekit's YAML as Python values; several documents are stages.
        out: Folder to write, which must not hold anything yet; None for a live model.
        models_root: Folders in which model names are looked up, before those of ``MERGESEARCH_MODELS``, the user's
            cache and the hub's cache.
        device: Where the arithmetic runs, and where a live model is.
        dtype: Of a live model, such as ``float32``; None for that in which the result would be stored.
        random_seed: Seed of random masks.
        compat: ``"mergekit"`` follows mergekit step by step; None computes in float32 and rounds once.
        lora_merge_dtype: What models with an adapter are rounded to, before and after folding.
        allow_crimes: Let architectures and vocabularies differ.
        allow_nan: Merge parents that hold NaN or infinity.
        allow_pickle: Read ``.bin`` checkpoints too.
        folder_options: For a folder: ``out_shard_size`` in bytes, ``copy_tokenizer``, ``write_model_card``, ``force``
            to replace a folder, as of `merge.merger.Merger.merge_to_folder`.

    Returns:
        The folder; or a transformers model of the class that fits the recipe, in evaluation mode, ready to generate.
        `load_tokenizer` gives its tokenizer.

    Raises:
        merge.errors.MergeError: The recipe, a parent, the device or the folder is wrong; nothing is written.
    """
    if compat not in (None, "mergekit"):
        raise MergeError(f"compat: must be 'mergekit' or None, got {compat!r}")
    stages, roots = read_stages(recipe), models_roots(_listed(models_root))
    options: dict[str, Any] = {
        "device": usable_device(device),
        "allow_crimes": allow_crimes,
        "allow_nan": allow_nan,
        "allow_pickle": allow_pickle,
        "lora_dtype": lora_merge_dtype,
    }
    if out is not None:
        return merge_stages(
            stages, Path(out), models_roots=roots, seed=random_seed, compat=compat is not None,
            merger_options=options, **folder_options,
        )  # fmt: skip
    if folder_options:
        raise MergeError(f"{next(iter(folder_options))}: is for folders; give out=, or leave it away")
    with tempfile.TemporaryDirectory(prefix="mergesearch-stages-") as folder:
        how = {"seed": random_seed, "compat": compat is not None, **options}
        check_stages(Merger(roots, **how), stages)
        merger = Merger([Path(folder), *roots], **how)
        merge_early_stages(merger, stages, Path(folder))
        stored = torch_dtype(str(merger.plan(stages[-1]).config["dtype"]) if dtype is None else dtype)
        model = new_live_model(merger, stages[-1], dtype=stored, device=device)
        merger.merge_live(stages[-1], model)
    return model


def load_tokenizer(recipe: RecipeSource, *, models_root: Folders = ()) -> "PreTrainedTokenizerBase":
    """Return the tokenizer of a recipe's result.

    Args:
        recipe: As for `merge`.
        models_root: As for `merge`.

    Raises:
        merge.errors.MergeError: The recipe is wrong, or the model that gives the tokenizer has none.
    """
    stages = read_stages(recipe)
    merger = Merger(models_roots(_listed(models_root)))
    check_stages(merger, stages)
    tokenizer: PreTrainedTokenizerBase = tokenizer_of(merger, stages[-1])
    return tokenizer


def read_stages(recipe: RecipeSource) -> tuple[Recipe, ...]:
    """Return the documents of a recipe, in the order to merge them.

    Raises:
        RecipeError: One of them is wrong.
    """
    if isinstance(recipe, str | Path):
        return load_recipes(Path(recipe))
    given = [recipe] if isinstance(recipe, Recipe | Mapping) else list(recipe)
    if not given:
        raise RecipeError("recipe: must hold a document, got an empty list")
    names = ["recipe"] if len(given) == 1 else [f"recipe: document {n}" for n in range(1, len(given) + 1)]
    documents = [
        one if isinstance(one, Recipe) else Recipe.from_mapping(one, place=name)
        for one, name in zip(given, names, strict=True)
    ]
    return recipes_in_order(documents, "recipe")


def usable_device(name: str) -> str:
    """Return the name of a device that torch can compute on here.

    Raises:
        MergeError: There is no such device.
    """
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise MergeError(f"device {name}: must be a device that torch can use here, got: {reason}; use cpu") from None
    return name


def _listed(folders: Folders) -> list[Path]:
    roots = [Path(folders)] if isinstance(folders, str | Path) else [Path(folder) for folder in folders]
    for root in roots:
        if not root.is_dir():
            raise MergeError(f"models_root {root}: must be a folder that exists")
    return roots
