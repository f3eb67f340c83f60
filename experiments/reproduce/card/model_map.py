"""Maps the models that a card names to local ones; a card cannot name a local folder itself."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.errors import InputError
from merge.recipe.schema import Recipe

_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?(?:@[\w./-]+)?")


def parse_map(entries: Sequence[str]) -> dict[str, str]:
    """Return ``--map`` as a mapping.

    Raises:
        InputError: An entry is not ``NAME=PATH``.
    """
    mapping = {}
    for entry in entries:
        name, sign, location = entry.partition("=")
        if not (name.strip() and sign and location.strip()):
            raise InputError(f"--map {entry}: must be org/name=local/path")
        mapping[name.strip()] = location.strip()
    return mapping


def mapped_recipe(recipe: Recipe, mapped: Mapping[str, str], made: Sequence[str], place: str) -> Recipe:
    """Return a recipe with the mapped models in place of those that it names.

    Raises:
        InputError: It names a local folder that is not mapped: a card may not say what is read on this machine.
    """
    for reference in recipe.references():
        for part in reference.split("+"):
            if part not in mapped and reference not in mapped and part not in made and not _is_hub_id(part):
                raise InputError(
                    f"{place}: names '{part}', which is no hub id; say where it is: --map '{part}=local/path'"
                )
    rename = {reference: _mapped(reference, mapped) for reference in recipe.references()}
    return rewritten(recipe, rename, name=recipe.name)


def _mapped(reference: str, mapped: Mapping[str, str]) -> str:
    """Return where a model is taken from: the whole reference, its parts, or their names without a revision."""
    if reference in mapped:
        return mapped[reference]
    parts = [mapped.get(part, mapped.get(part.partition("@")[0], part)) for part in reference.split("+")]
    return "+".join(parts)


def _is_hub_id(part: str) -> bool:
    return _HUB.fullmatch(part) is not None and ".." not in part


def rewritten(recipe: Recipe, rename: Mapping[str, str], *, name: str | None) -> Recipe:
    """Return a recipe with other names for its models, and under another name itself."""
    if name == recipe.name and all(old == new for old, new in rename.items()):
        return recipe
    document = _renamed(recipe.to_mapping(), rename)
    document.pop("name", None)
    return Recipe.from_mapping(document | ({} if name is None else {"name": name}), place=recipe.place)


def scaled_layers(recipe: Recipe, layers: Callable[[str], int]) -> tuple[Recipe, str]:
    """Return a recipe whose layer ranges fit its models, and a note if they had to be scaled.

    Only ranges that reach beyond a model are scaled: a card's model of 32 layers, tried on one of 30.

    Args:
        recipe: The recipe, its models in place.
        layers: Number of layers of a model.
    """
    if recipe.slices is None:
        return recipe, ""
    deepest: dict[str, int] = {}
    for slice_ in recipe.slices:
        for source in slice_.sources:
            deepest[source.model] = max(deepest.get(source.model, 0), source.layer_range[1])
    have = {model: layers(model) for model in deepest}
    if all(deepest[model] <= have[model] for model in deepest):
        return recipe, ""
    old, new = max(deepest.values()), min(have.values())
    document = recipe.to_mapping()
    for slice_ in document["slices"]:  # type: ignore[attr-defined]
        for source in slice_["sources"]:
            first, last = (min(new, round(layer * new / old)) for layer in source["layer_range"])
            source["layer_range"] = [min(first, last - 1) if last else 0, max(last, 1)]
    return Recipe.from_mapping(document, place=recipe.place), f"layer ranges scaled from {old} to {new} layers"


def _renamed(value: Any, rename: Mapping[str, str]) -> Any:
    """Return a document with its model references renamed, wherever the recipe may name one."""
    if isinstance(value, Mapping):
        return {
            key: rename.get(item, item)
            if key in ("model", "base_model", "tokenizer_source", "source") and isinstance(item, str)
            else _renamed(item, rename)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_renamed(item, rename) for item in value]
    return value
