"""How the parameters of each tensor follow from the numbers of a recipe: which of them, each with its share.

A tensor's parameter is one number of the document, or lies between two entries of a list over depth, so that it is a
linear combination of the document's numbers. Levels, filters and slices decide which; booleans, whole numbers, names
and defaults are no values.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeAlias

from merge.method import AbstractMethod, Parameter, as_number
from merge.methods import get_method
from merge.planning.parameters import Settings, select, shares_over_depth
from merge.planning.planner import Planner
from merge.recipe.schema import Recipe
from merge.recipe.validation import Path, yaml_path


@dataclass(frozen=True)
class RecipeValue:
    """One real number of a recipe.

    Args:
        path: Where it stands in the document, as ``models[1].parameters.weight[0].value[3]``.
        value: The number.
        parameter: What it is: name, legal interval, range that a search tries.
    """

    path: str
    value: float
    parameter: Parameter


class Argument(NamedTuple):
    """One number of a method's instance.

    Args:
        field: Name of the field, such as ``weight``.
        parent: Which parent's, for a per-model parameter; None for one that all share.
    """

    field: str
    parent: int | None


Shares: TypeAlias = tuple[tuple[str, float], ...]
"""Paths of recipe values, each with the factor it enters with."""
Chain: TypeAlias = dict[Argument, Shares]
"""Where the numbers of one tensor's method come from; those that no value of the recipe decides are left out."""


class _Located(float):
    """A number that knows its path."""

    path: str

    @classmethod
    def at(cls, path: str, number: float) -> "_Located":
        located = cls(number)
        located.path = path
        return located


def recipe_values(recipe: Recipe) -> tuple[RecipeValue, ...]:
    """Return the real numbers of a recipe's parameters, in the order of the document."""
    return _labelled(recipe)[1]


def chains(planner: Planner, recipe: Recipe) -> dict[str, Chain]:
    """Return, for each output tensor by name, where the numbers of its method come from.

    Args:
        planner: Has planned a recipe of this structure.
        recipe: The recipe.
    """
    method = get_method(recipe.merge_method)
    labelled = Recipe.from_mapping(_labelled(recipe)[0], place=recipe.place)
    result: dict[str, Chain] = {}
    for slot, tensor, scope in planner.scopes(labelled):
        chain = result[tensor.name] = {}
        for argument, parameter in _arguments(method, len(tensor.parents)):
            levels, name = scope.shared, slot.output
            if argument.parent is not None:
                reference, name = tensor.parents[argument.parent]
                levels = scope.levels_of_model(reference)
            shares = _shares(levels, parameter, name, slot.depth)
            if shares:
                chain[argument] = shares
    return result


def _labelled(recipe: Recipe) -> tuple[Mapping[str, object], tuple[RecipeValue, ...]]:
    """Return the document with numbers that know their paths, and these numbers."""
    document, known = recipe.to_mapping(), get_method(recipe.merge_method).parameters()
    values: list[RecipeValue] = []
    for settings, path in _settings(document, ()):
        for name, parameter in known.items():
            if parameter.kind == "float" and name in settings:
                settings[name] = _label(settings[name], (*path, name), parameter, values)
    return document, tuple(values)


def _settings(part: Any, path: Path) -> Iterator[tuple[dict[str, object], Path]]:
    """Go through the ``parameters`` of a part of a document and of the parts within it."""
    for key in part:
        if key == "parameters":
            yield part[key], (*path, key)
        elif key in ("models", "slices", "sources", "modules"):
            entries = part[key].items() if isinstance(part[key], Mapping) else enumerate(part[key])
            for step, entry in entries:
                yield from _settings(entry, (*path, key, step))


def _label(setting: object, path: Path, parameter: Parameter, values: list[RecipeValue]) -> object:
    """Return a setting with its numbers labelled; they are added to the values."""
    if isinstance(setting, Mapping):
        return {k: _label(v, (*path, k), parameter, values) if k == "value" else v for k, v in setting.items()}
    if isinstance(setting, list | tuple):
        return [_label(item, (*path, index), parameter, values) for index, item in enumerate(setting)]
    number = None if isinstance(setting, bool) else as_number(setting)
    if number is None:
        return setting
    values.append(RecipeValue(yaml_path(path), number, parameter))
    return _Located.at(values[-1].path, number)


def _arguments(method: type[AbstractMethod], parents: int) -> Iterator[tuple[Argument, Parameter]]:
    """Go through the real numbers of a method's instance."""
    known = method.parameters()
    for field in fields(method):
        parameter = known[field.name.rstrip("_")]
        if parameter.kind == "float":
            for parent in range(parents) if parameter.per_model else (None,):
                yield Argument(field.name, parent), parameter


def _shares(levels: Sequence[Settings], parameter: Parameter, name: str, depth: float) -> Shares:
    """Return what a parameter is made of: the nearest level that says something about a tensor decides."""
    chosen = next((c for c in (select(level.get(parameter.name), name) for level in levels) if c is not None), None)
    entries: Sequence[object] = chosen if isinstance(chosen, list | tuple) else (chosen,)
    shares: dict[str, float] = {}
    for index, share in shares_over_depth(len(entries), depth):
        entry = entries[index]
        if share and isinstance(entry, _Located):
            shares[entry.path] = shares.get(entry.path, 0.0) + share
    return tuple(shares.items())
