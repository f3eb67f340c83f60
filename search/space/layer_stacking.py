"""Layer stacking: three keys by which a family's slices can be searched, and what plain slices they become.

    slices:
    - repeat: {low: 0, high: 2, int: true}        # so many times in a row; 0 leaves the slice out
      order: {low: 0.0, high: 1.0}                # slices stand in rising order; without it where they are written
      sources:
      - model: org/a
        layer_range: {start: {low: 0, high: 20, int: true}, length: {low: 1, high: 4, int: true}}

This is data-flow search (Akiba et al., "Evolutionary optimization of model merging recipes", 2024) done in weights:
``repeat`` is their indicator, ``scale`` with filters their input scaling per block, and ``order`` encodes a
permutation by random keys (Bean, 1994).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from merge.errors import RecipeError
from merge.recipe.schema import Recipe

REPEAT, ORDER = "repeat", "order"
MOST = 1000
"""How often a slice may stand in a row."""
_RANGE = {"start", "length"}


def is_stack(template: object) -> bool:
    """Tell whether a family's document has slices with one of the keys above."""
    slices = template.get("slices") if isinstance(template, Mapping) else None
    return isinstance(slices, list) and any(_is_extended(piece) for piece in slices)


def unrolled(document: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return a filled document with plain slices; none at all where every slice is left out, which is no recipe.

    Raises:
        RecipeError: A key has a value that it cannot have.
    """
    ordered = sorted(document["slices"], key=lambda piece: _number(piece, ORDER, 0.0, f"{place}.slices"))
    plain: list[dict[str, Any]] = []
    for index, piece in enumerate(ordered):
        times = _number(piece, REPEAT, 1, f"{place}.slices[{index}]")
        if not 0 <= times <= MOST or times != int(times):
            raise RecipeError(f"{place}.slices[{index}].repeat: must be a whole number from 0 to {MOST}, got {times:g}")
        plain += [_plain(piece) for _ in range(int(times))]
    return {**document, "slices": plain}


def plain_recipe(document: Mapping[str, object], place: str) -> Recipe:
    """Return the recipe of a plain document.

    Raises:
        RecipeError: It is none, or every slice was left out.
    """
    if document.get("slices") == []:
        raise RecipeError(f"{place}.slices: at least one must be repeated once, got 0 everywhere")
    return Recipe.from_mapping(document, place=place)


def rolled(example: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Go through the ways in which plain slices can be written in a family's form.

    Args:
        example: A filled document of the family, before it was unrolled; a slice that is left out is taken from it.
        document: The plain document.
    """
    forms, found = example["slices"], document.get("slices")
    if isinstance(found, list) and not any(ORDER in piece for piece in forms):
        for slices in _rolled(forms, found):
            yield {**document, "slices": slices}


def _rolled(forms: Sequence[Mapping[str, Any]], found: Sequence[Any]) -> Iterator[list[dict[str, Any]]]:
    if not forms:
        if not found:
            yield []
        return
    form, most = forms[0], 1
    if REPEAT in form:
        most = next((n for n, piece in enumerate(found) if piece != found[0]), len(found))
    for times in range(most, -1 if REPEAT in form else 0, -1):
        if times <= len(found):
            first = {**form, REPEAT: 0} if times == 0 else _shaped(form, found[0], times)
            for rest in _rolled(forms[1:], found[times:]):
                yield [first, *rest]


def _shaped(form: Mapping[str, Any], piece: Mapping[str, Any], times: int) -> dict[str, Any]:
    """Return a plain slice with the keys of the family's."""
    shaped = dict(piece)
    sources = list(piece.get("sources") or ())
    for index, (source, like) in enumerate(zip(sources, form.get("sources") or (), strict=False)):
        bounds = source.get("layer_range")
        if isinstance(like.get("layer_range"), Mapping) and isinstance(bounds, list | tuple) and len(bounds) == 2:
            sources[index] = {**source, "layer_range": {"start": bounds[0], "length": bounds[1] - bounds[0]}}
    shaped["sources"] = sources
    return {**shaped, REPEAT: times} if REPEAT in form else shaped


def _plain(piece: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in piece.items() if key not in (REPEAT, ORDER)}
    if isinstance(kept.get("sources"), list):
        kept["sources"] = [_plain_source(source) for source in kept["sources"]]
    return kept


def _plain_source(source: Any) -> Any:
    bounds = source.get("layer_range") if isinstance(source, Mapping) else None
    if not isinstance(source, Mapping) or not isinstance(bounds, Mapping) or set(bounds) != _RANGE:
        return dict(source) if isinstance(source, Mapping) else source
    if not all(type(value) is int for value in bounds.values()):
        return dict(source)  # what is wrong with it is told by the recipe's own check
    return {**source, "layer_range": [bounds["start"], bounds["start"] + bounds["length"]]}


def _is_extended(piece: object) -> bool:
    if not isinstance(piece, Mapping):
        return False
    sources = piece.get("sources")
    ranges = [s.get("layer_range") for s in sources if isinstance(s, Mapping)] if isinstance(sources, list) else []
    return REPEAT in piece or ORDER in piece or any(isinstance(r, Mapping) and set(r) == _RANGE for r in ranges)


def _number(piece: Any, key: str, default: float, place: str) -> float:
    if not isinstance(piece, Mapping):
        raise RecipeError(f"{place}: must be a mapping with sources, got {piece!r}")
    value = piece.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecipeError(f"{place}.{key}: must be a number, got {value!r}")
    return float(value)
