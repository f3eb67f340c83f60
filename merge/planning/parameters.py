"""The value of a parameter for one tensor: precedence of levels, filters, gradients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from merge.method import AbstractMethod, Parameter, as_number

Settings = Mapping[str, Any]


def evaluate(setting: object, name: str, depth: float) -> object:
    """Return what a setting gives for a tensor, None where it says nothing.

    Args:
        setting: A value; a list of numbers, spread over depth; a {filter, value} or a list of them.
        name: The tensor, for filters: the first that is a part of the name decides.
        depth: Position in the slice, from 0 to 1.
    """
    chosen = select(setting, name)
    return _interpolated(chosen, depth) if isinstance(chosen, list | tuple) else chosen


def select(setting: object, name: str) -> object:
    """Return the number, or the list of numbers over depth, that filters leave for a tensor; None for nothing."""
    if isinstance(setting, Mapping):
        setting = [setting]
    if not isinstance(setting, list | tuple) or not any(isinstance(item, Mapping) for item in setting):
        return setting
    for item in setting:
        wanted = item.get("filter")
        if wanted is None or wanted == "*" or wanted in name:
            return select(item["value"], name)
    return None


def shares_over_depth(count: int, depth: float) -> tuple[tuple[int, float], tuple[int, float]]:
    """Return which two entries of a list over depth a tensor's value lies between, each with its share."""
    position = depth * (count - 1)
    lower = int(position)
    share = position - lower
    return (lower, 1 - share), (min(lower + 1, count - 1), share)


def _interpolated(values: Sequence[object], depth: float) -> float:
    numbers = [as_number(value) or 0.0 for value in values]
    (lower, first), (upper, second) = shares_over_depth(len(numbers), depth)
    return first * numbers[lower] + second * numbers[upper]


@dataclass(frozen=True)
class Scope:
    """Where the parameters of a tensor are looked up, nearest first.

    Args:
        own: Reference and parameters of each source, in listed order.
        shared: Parameters of the slice, the module and the recipe.
    """

    own: tuple[tuple[str, Settings], ...]
    shared: tuple[Settings, ...]

    @property
    def uniform(self) -> bool:
        """Whether no value depends on the tensor: there are neither gradients nor filters."""
        levels = (*(settings for _, settings in self.own), *self.shared)
        return not any(isinstance(value, list | tuple | Mapping) for level in levels for value in level.values())

    def of_model(self, parameter: Parameter, reference: str, name: str, depth: float) -> object:
        """Return a per-model parameter; filters see the tensor's name in that model."""
        return self._first(parameter, self.levels_of_model(reference), name, depth)

    def levels_of_model(self, reference: str) -> tuple[Settings, ...]:
        """Return where the per-model parameters of a model are looked up, nearest first."""
        return (*(settings for model, settings in self.own if model == reference), *self.shared)

    def of_all(self, parameter: Parameter, name: str, depth: float) -> object:
        """Return a shared parameter; filters see the name of the output tensor."""
        return self._first(parameter, self.shared, name, depth)

    @staticmethod
    def _first(parameter: Parameter, levels: Sequence[Settings], name: str, depth: float) -> object:
        for level in levels:
            value = evaluate(level.get(parameter.name), name, depth)
            if value is not None:
                return parameter.convert(value)
        return parameter.default


def filled(
    method: type[AbstractMethod], scope: Scope, parents: Sequence[tuple[str, str]], name: str, depth: float
) -> tuple[AbstractMethod | None, list[str]]:
    """Return a method with the parameters of one tensor, or None and what is missing.

    Args:
        method: The kind of merge.
        scope: Where parameters are looked up.
        parents: Reference and tensor name of each parent that has parameters.
        name: The output tensor.
        depth: Position in the slice, from 0 to 1.
    """
    values: dict[str, object] = {}
    missing: list[str] = []
    known = method.parameters()
    for field in fields(method):
        parameter = known[field.name.rstrip("_")]
        if parameter.per_model:
            found = [scope.of_model(parameter, model, tensor, depth) for model, tensor in parents]
            lacking = [model for (model, _), value in zip(parents, found, strict=True) if value is None]
            values[field.name] = tuple(found)
        else:
            shared = scope.of_all(parameter, name, depth)
            lacking = ["the recipe"] if shared is None else []
            values[field.name] = shared
        if parameter.required:
            missing += [f"{parameter.name}: {method.method} needs it, got none for {who}" for who in lacking]
    return (None if missing else method(**values)), missing
