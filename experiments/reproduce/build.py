"""Builds the model of a card: all stages but the last as folders on disk, the last one in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.reproduce.card.model_map import scaled_layers
from merge.architecture.layers import layer_count
from merge.live_model import load_tokenizer, new_live_model
from merge.merger import Merger
from merge.recipe.schema import Recipe


@dataclass(frozen=True)
class RebuiltModel:
    """A rebuilt model in memory.

    Attributes:
        recipe: Its last stage, with mapped model names.
        model: The live model.
        tokenizer: Its tokenizer.
        merger: The merger that built it.
        notes: Changes that were needed to build it.
        device: Torch device.
    """

    recipe: Recipe
    model: Any
    tokenizer: Any
    merger: Merger
    notes: tuple[str, ...]
    device: str

    def parent(self, reference: str) -> "RebuiltModel":
        """Return one of the models that it was merged from, in a model of its own."""
        document = {"merge_method": "passthrough", "models": [{"model": reference}]}
        return _live(self.merger, Recipe.from_mapping(document, place=reference), (), self.device)

    def write(self, folder: Path) -> None:
        """Write its weights as a model folder."""
        self.merger.merge_to_folder(self.recipe, folder)


def build_chain(
    stages: Sequence[Recipe], folder: Path, roots: Sequence[Path], *, seed: int, compat: bool, device: str
) -> RebuiltModel:
    """Build the stages in order.

    Args:
        stages: Recipes in build order, from `order_recipes`.
        folder: An empty folder for the intermediate models.
        roots: Folders in which model names are looked up.
        seed: Of random masks.
        compat: Reproduce mergekit's bits.
        device: Where the live model runs.

    Raises:
        merge.errors.MergeError: A parent is missing or does not fit.
    """
    merger = Merger([folder, *roots], seed=seed, compat=compat, device=device)
    notes: dict[str, None] = {}

    def layers(reference: str) -> int:
        return layer_count(merger.checkpoint(reference).config) or 0

    for stage in stages[:-1]:
        fitted, note = scaled_layers(stage, layers)
        notes |= {note: None} if note else {}
        merger.merge_to_folder(fitted, folder / str(stage.name), write_model_card=False)
    fitted, note = scaled_layers(stages[-1], layers)
    notes |= {note: None} if note else {}
    return _live(merger, fitted, tuple(notes), device)


def _live(merger: Merger, recipe: Recipe, notes: tuple[str, ...], device: str) -> RebuiltModel:
    model = new_live_model(merger, recipe, dtype=torch.float32, device=device)
    merger.merge_live(recipe, model)
    return RebuiltModel(recipe, model, load_tokenizer(merger, recipe), merger, notes, device)
