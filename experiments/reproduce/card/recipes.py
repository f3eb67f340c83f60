"""Finds the recipes on a card: fenced blocks, bare YAML, and what is left of YAML on a flattened page."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.errors import InputError
from experiments.reproduce.card.card_text import Page
from experiments.reproduce.card.flattened_recipe import DOCUMENT, find_flattened
from experiments.reproduce.card.prose_recipe import read_prose
from experiments.reproduce.card.safe_yaml import documents
from experiments.reproduce.card.tolerance import tolerated
from merge.errors import RecipeError
from merge.recipe.schema import Recipe

_FENCE = re.compile(r"(```+|~~~+)[ ]*(\w*)(.*?)\1", re.DOTALL)
_BARE = re.compile(rf"^[ ]*(?:{'|'.join(sorted(DOCUMENT))})[ ]?:(?:[ ]|$)", re.MULTILINE)
_YAML_LINE = re.compile(r"\s*$|\s*#|\s*-\s|\s+\S|[A-Za-z_]\w*\s?:(\s|$)|---\s*$")
BEFORE = 300
"""Characters before a recipe in which its name is looked for."""


@dataclass(frozen=True)
class FoundRecipe:
    """A recipe on a page.

    Attributes:
        recipe: The recipe.
        line: Line of the page on which it starts, from 1.
        how: How it was read, in words.
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


def find_recipes(page: Page, text_start: int = 0, parents: Sequence[str] = ()) -> tuple[FoundRecipe, ...]:
    """Return every recipe of a page, in its order.

    Args:
        page: The card.
        text_start: Where its text begins, after the front matter.
        parents: Models that the front matter names, for a recipe told in prose.

    Raises:
        InputError: There is none, or what looks like one is wrong; one line each.
    """
    found: list[FoundRecipe] = []
    faults: list[str] = []
    previous = 0
    for region in sorted(_regions(page.text, text_start), key=lambda region: region.start):
        line = page.line(region.start)
        document, notes = tolerated(region.document)
        try:
            recipe = Recipe.from_mapping(document, place=f"{page.name}:{line}: recipe")
        except RecipeError as error:
            faults += str(error).splitlines()
            continue
        before = page.text[max(previous, region.start - BEFORE) : region.start]
        if all(recipe.digest() != other.recipe.digest() for other in found):  # told twice, it is one recipe
            found.append(FoundRecipe(recipe, line, region.how, before, notes))
        previous = region.end
    if not found and faults:
        raise InputError("\n".join(faults))
    return tuple(found) or (_from_prose(page, text_start, parents),)


def _from_prose(page: Page, start: int, parents: Sequence[str]) -> FoundRecipe:
    told = read_prose(page.text[start:], parents)
    if told.document is None:
        why = f"got sentences on {told.method} that do not say {told.missing}" if told.method else "got none"
        raise InputError(f"{page.name}: must hold a mergekit recipe (merge_method with models or slices), {why}")
    recipe = Recipe.from_mapping(told.document, place=f"{page.name}: recipe in prose")
    return FoundRecipe(recipe, page.line(start), "sentences: check it with --dry-run", "", ())


def _regions(text: str, start: int) -> Iterator[_Region]:
    place = start
    for fence in _FENCE.finditer(text, start):
        yield from _outside(text, place, fence.start())
        yield from _inside(text, fence.start(3), fence.end(3))
        place = fence.end()
    yield from _outside(text, place, len(text))


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
    place = start
    while (match := _BARE.search(text, place, end)) is not None:
        stop = _last_yaml_line(text, match.start(), end)
        run = documents(_dedented(text[match.start() : stop]))
        if len(run) == 1 and _is_recipe(run[0]):
            assert isinstance(run[0], dict)
            yield from _flattened(text, place, match.start(), "flattened text")
            yield _Region(run[0], match.start(), stop, "YAML without a fence")
            place = stop
        else:
            break
    yield from _flattened(text, place, end, "flattened text")


def _flattened(text: str, start: int, end: int, how: str) -> Iterator[_Region]:
    for found in find_flattened(text[start:end]):
        yield _Region(found.document, start + found.start, start + found.end, how)


def _last_yaml_line(text: str, start: int, end: int) -> int:
    """Return the end of the lines from `start` that look like YAML; two empty lines in a row end them."""
    place = start
    empty = 0
    while place < end:
        stop = text.find("\n", place, end)
        stop = end if stop < 0 else stop
        line = text[place:stop]
        empty = empty + 1 if not line.strip() else 0
        if empty > 1 or not _YAML_LINE.match(line):
            return place
        place = stop + 1
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
        Recipe.from_mapping(tolerated(document)[0], place="recipe")
    except RecipeError:
        return False
    return True
