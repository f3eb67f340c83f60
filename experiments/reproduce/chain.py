"""Finds the recipe of a card that makes the model, and the order in which the recipes it needs are built."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.errors import InputError
from experiments.reproduce.card.model_map import rewritten
from experiments.reproduce.card.recipes import FoundRecipe
from merge.recipe.schema import Recipe

NEAR = 200
"""Characters before a recipe in which the name of its result is looked for."""


@dataclass(frozen=True)
class Chain:
    """The recipes that make a card's model.

    Attributes:
        stages: Recipes in build order; each but the last has a name, by which later ones refer to its result.
        made: Name of a stage to the card's name for its result.
        chosen: The recipe that makes the card's model.
    """

    stages: tuple[Recipe, ...]
    made: Mapping[str, str]
    chosen: FoundRecipe


def order_recipes(found: Sequence[FoundRecipe], *, place: str, number: int | None, mapped: Mapping[str, str]) -> Chain:
    """Put the recipes of a card in the order of building.

    Args:
        found: The recipes of the card.
        place: The card's name, for messages.
        number: Which of them makes the model, from 1; None to infer it.
        mapped: Models that are taken from elsewhere, and so need no building.

    Raises:
        InputError: Several recipes could be meant, or they need each other in a circle.
    """
    if number is not None and not 1 <= number <= len(found):
        raise InputError(f"--recipe {number}: must be between 1 and {len(found)}, the recipes of {place}")
    makers = _makers(found, mapped)
    used = {maker for needs in makers.values() for maker in needs.values()}
    last = found[number - 1] if number is not None else _last(found, used, place)
    order: list[int] = []
    _visit(found.index(last), makers, order, (), place)
    names = {index: f"mergesearch-stage-{rank}" for rank, index in enumerate(order[:-1], start=1)}
    stages: list[Recipe] = []
    made: dict[str, str] = {}
    for index in order:
        rename = {reference: names[maker] for reference, maker in makers[index].items()}
        made |= {names[maker]: reference for reference, maker in makers[index].items()}
        stages.append(rewritten(found[index].recipe, rename, name=names.get(index)))
    return Chain(tuple(stages), made, last)


def _makers(found: Sequence[FoundRecipe], mapped: Mapping[str, str]) -> dict[int, dict[str, int]]:
    """Return, for every recipe, which of its models another recipe of the card makes."""
    wanted = {reference for one in found for reference in one.recipe.references() if reference not in mapped}
    results = {index: _made_by(one, wanted) for index, one in enumerate(found)}
    makers: dict[int, dict[str, int]] = {}
    for index, one in enumerate(found):
        own = [reference for reference in one.recipe.references() if reference not in mapped]
        makers[index] = {
            reference: maker
            for reference in own
            for maker, made in results.items()
            if maker != index and reference in made
        }
    return makers


def _made_by(found: FoundRecipe, wanted: set[str]) -> set[str]:
    """Return what of the wanted models a recipe makes: by its ``name``, or by the name that stands before it."""
    own = set(found.recipe.references())
    if found.recipe.name is not None:
        name = found.recipe.name.casefold()
        return {reference for reference in wanted - own if name in (reference.casefold(), _short(reference))}
    text = found.before[-NEAR:].casefold()
    offsets = {
        reference: max(text.rfind(reference.casefold()), _word(_short(reference), text)) for reference in wanted - own
    }
    best = max(offsets.values(), default=-1)
    rivals = max((_word(_short(reference), text) for reference in own), default=-1)
    return set() if best < 0 or best < rivals else {reference for reference, at in offsets.items() if at == best}


def _short(reference: str) -> str:
    return reference.rstrip("/").rsplit("/", 1)[-1].casefold()


def _word(name: str, text: str) -> int:
    """Return the last offset of a name that stands on its own in a text, -1 for none."""
    found = [match.start() for match in re.finditer(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text)]
    return found[-1] if found else -1


def _last(found: Sequence[FoundRecipe], used: set[int], place: str) -> FoundRecipe:
    """Return the recipe that no other needs; a repeated recipe counts once."""
    free = {one.recipe.digest(): one for index, one in enumerate(found) if index not in used}
    if len(free) == 1:
        return next(iter(free.values()))
    if not free:
        raise InputError(f"{place}: recipes must not need each other, got a circle; choose the last with --recipe N")
    listed = "; ".join(f"{n}: {one.about()} (line {one.line})" for n, one in enumerate(found, start=1))
    raise InputError(f"{place}: must hold one recipe, got {len(found)}: {listed}; choose with --recipe N")


def _visit(
    index: int, makers: Mapping[int, Mapping[str, int]], order: list[int], above: tuple[int, ...], place: str
) -> None:
    if index in above:
        raise InputError(f"{place}: recipes must not need each other, got a circle; choose the last with --recipe N")
    if index not in order:
        for maker in makers[index].values():
            _visit(maker, makers, order, (*above, index), place)
        order.append(index)
