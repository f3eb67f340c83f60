"""Several documents in one file: each named one becomes a model that later ones may use."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from merge.errors import CheckpointError, RecipeError
from merge.merger import Merger
from merge.output.interrupts import held_interrupts
from merge.output.model_folder import check_free
from merge.output.work_folder import work_folder
from merge.recipe.model_reference import parse
from merge.recipe.schema import Recipe


def merge_stages(  # noqa: D417
    recipes: Sequence[Recipe],
    out: Path,
    *,
    models_roots: Sequence[Path] = (),
    seed: int = 0,
    compat: bool = False,
    merger_options: dict[str, Any] | None = None,
    **folder_options: Any,
) -> Path:
    """Merge the documents in order, intermediate models beside the output, and write the last one.

    Args:
        recipes: As `load_recipes` returns them.
        out: The output folder.
        models_roots: Where relative references are looked up.
        seed: Of the random masks.
        compat: Follow the reference step by step.
        merger_options: Further arguments of the merger.

    Raises:
        MergeError: As of the merger.
    """
    check_free(out, force=bool(folder_options.get("force")))
    how: dict[str, Any] = {"seed": seed, "compat": compat, **(merger_options or {})}
    first = Merger(models_roots, **how)
    if len(recipes) == 1:
        return first.merge_to_folder(recipes[0], out, **folder_options)
    check_stages(first, recipes)
    with work_folder(out, ".stages") as folder:
        merger = Merger([folder, *models_roots], **how)
        merge_early_stages(merger, recipes, folder)
        return merger.merge_to_folder(recipes[-1], out, **folder_options)


def merge_early_stages(merger: Merger, recipes: Sequence[Recipe], folder: Path) -> None:
    """Merge all documents but the last into folders below one that the merger looks in."""
    with held_interrupts() as safe_point:
        for recipe in recipes[:-1]:
            merger.merge_to_folder(recipe, folder / str(recipe.name), write_model_card=False)
            safe_point()


def check_stages(merger: Merger, recipes: Sequence[Recipe]) -> None:
    """Find what is wrong before the first stage is merged, as far as headers tell."""
    names = {recipe.name for recipe in recipes}
    for recipe in recipes:
        if recipe.name is not None and Path(recipe.name).exists():
            said = f"must not be that of a file or folder here, got '{recipe.name}'; rename the stage"
            raise RecipeError(f"{recipe.place}: name: {said}")
    for recipe in recipes:
        staged = [reference for reference in recipe.references() if parse(reference).base in names]
        for reference in recipe.references():
            if reference not in staged:
                _open(merger, reference, recipe.place)
        told = recipe.tokenizer is None and recipe.tokenizer_source is None and recipe.chat_template is None
        if not staged or (told and all(merger.is_open(reference) for reference in staged)):
            plan = merger.plan(recipe)
            if recipe.name is not None:
                merger.register_planned(recipe.name, plan)


def _open(merger: Merger, reference: str, place: str) -> None:
    try:
        merger.checkpoint(reference)
    except CheckpointError as error:
        raise CheckpointError("\n".join(f"{place}: {line}" for line in str(error).splitlines())) from None
