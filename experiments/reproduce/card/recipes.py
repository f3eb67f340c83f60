"""Finds the recipes of a card: fenced blocks, YAML without a fence, flattened YAML, else sentences."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.errors import InputError
from experiments.reproduce.card.card_text import CardText
from experiments.reproduce.card.flattened_recipe import DOCUMENT, find_flattened
from experiments.reproduce.card.prose_recipe import read_prose
from experiments.reproduce.card.safe_yaml import documents
from experiments.reproduce.card.tolerance import without_unknown_parameters
from merge.errors import RecipeError
from merge.recipe.schema import Recipe

_FENCE = re.compile(r"(```+|~~~+)[ ]*(\w*)(.*?)\1", re.DOTALL)
_BARE = re.compile(rf"^[ ]*(?:{'|'.join(sorted(DOCUMENT))})[ ]?:(?:[ ]|$)", re.MULTILINE)
_YAML_LINE = re.compile(r"\s*$|\s*#|\s*-\s|\s+\S|[A-Za-z_]\w*\s?:(\s|$)|---\s*$")
CONTEXT = 300
"""Characters before a recipe in which its name is looked for."""


@dataclass(frozen=True)
class FoundRecipe:
    """A recipe of a card.

    Attributes:
        recipe: The recipe.
        line: Line on which it starts, from 1.
        how: How it was read, as text.
        before: The text before it, back to the recipe before.
        notes: What was left out of it, and why.
    """

    recipe: Recipe
    line: int
    how: str
    before: str
    notes: tuple[str, ...]

    def about(self) -> str:
        """Return method and models in a few words."""
        return f"{self.recipe.merge_method} of {', '.join(self.recipe.references())}"


@dataclass(frozen=True)
class _Region:
    document: Mapping[str, Any]
    start: int
    end: int
    how: str


def find_recipes(card: CardText, text_start: int = 0, parents: Sequence[str] = ()) -> tuple[FoundRecipe, ...]:
    """Return every recipe of a card, in its order.

    Args:
        card: The card.
        text_start: Offset behind the front matter.
        parents: Models that the front matter names, for a recipe in prose.

    Raises:
        InputError: There is none, or what looks like one is wrong; one line each.
    """
    found: list[FoundRecipe] = []
    faults: list[str] = []
    previous = 0
    for region in sorted(_regions(card.text, text_start), key=lambda region: region.start):
        line = card.line(region.start)
        document, notes = without_unknown_parameters(region.document)
        try:
            recipe = Recipe.from_mapping(document, place=f"{card.name}:{line}: recipe")
        except RecipeError as error:
            faults += str(error).splitlines()
            continue
        before = card.text[max(previous, region.start - CONTEXT) : region.start]
        if all(recipe.digest() != other.recipe.digest() for other in found):  # a repeated recipe counts once
            found.append(FoundRecipe(recipe, line, region.how, before, notes))
        previous = region.end
    if not found and faults:
        raise InputError("\n".join(faults))
    return tuple(found) or (_from_prose(card, text_start, parents),)


def _from_prose(card: CardText, start: int, parents: Sequence[str]) -> FoundRecipe:
    prose = read_prose(card.text[start:], parents)
    if prose.document is None:
        why = f"got sentences on {prose.method} that do not say {prose.missing}" if prose.method else "got none"
        raise InputError(f"{card.name}: must hold a mergekit recipe (merge_method with models or slices), {why}")
    recipe = Recipe.from_mapping(prose.document, place=f"{card.name}: recipe in prose")
    return FoundRecipe(recipe, card.line(start), "sentences: check it with --dry-run", "", ())


def _regions(text: str, start: int) -> Iterator[_Region]:
    offset = start
    for fence in _FENCE.finditer(text, start):
        yield from _outside(text, offset, fence.start())
        yield from _inside(text, fence.start(3), fence.end(3))
        offset = fence.end()
    yield from _outside(text, offset, len(text))


def _inside(text: str, start: int, end: int) -> Iterator[_Region]:
    """Go through the recipes of one fenced block, as YAML where it is YAML."""
    block = text[start:end]
    first = start + len(block) - len(block.lstrip())
    plain = [document for document in documents(_dedented(block)) if _is_recipe(document)]
    if plain:
        for document in plain:
            assert isinstance(document, dict)
            yield _Region(document, first, end, "a YAML block")
    else:
        yield from _flattened(text, start, end, "a YAML block that lost its shape")


def _outside(text: str, start: int, end: int) -> Iterator[_Region]:
    """Go through the recipes of running text: whole YAML lines first, then flattened ones."""
    offset = start
    while (match := _BARE.search(text, offset, end)) is not None:
        stop = _last_yaml_line(text, match.start(), end)
        run = documents(_dedented(text[match.start() : stop]))
        if len(run) == 1 and _is_recipe(run[0]):
            assert isinstance(run[0], dict)
            yield from _flattened(text, offset, match.start(), "flattened text")
            yield _Region(run[0], match.start(), stop, "YAML without a fence")
            offset = stop
        else:
            break
    yield from _flattened(text, offset, end, "flattened text")


def _flattened(text: str, start: int, end: int, how: str) -> Iterator[_Region]:
    for found in find_flattened(text[start:end]):
        yield _Region(found.document, start + found.start, start + found.end, how)


def _last_yaml_line(text: str, start: int, end: int) -> int:
    """Return the end of the lines from `start` that look like YAML; two empty lines in a row end them."""
    offset = start
    empty = 0
    while offset < end:
        stop = text.find("\n", offset, end)
        stop = end if stop < 0 else stop
        line = text[offset:stop]
        empty = empty + 1 if not line.strip() else 0
        if empty > 1 or not _YAML_LINE.match(line):
            return offset
        offset = stop + 1
    return end


def _dedented(text: str) -> str:
    lines = text.split("\n")
    widths = [len(line) - len(line.lstrip(" ")) for line in lines if line.strip()]
    cut = min(widths, default=0)
    return "\n".join(line[cut:] for line in lines)


def _is_recipe(document: object) -> bool:
    """Tell whether a document is a recipe as it stands, once what mergekit ignores is left out."""
    if not isinstance(document, dict) or "merge_method" not in document:
        return False
    try:
        Recipe.from_mapping(without_unknown_parameters(document)[0], place="recipe")
    except RecipeError:
        return False
    return True
