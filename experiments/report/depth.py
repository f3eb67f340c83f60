"""A recipe's parameters from the first layer to the last: t, weights, densities, and whatever else it sets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from merge.planning.parameters import evaluate
from merge.recipe.schema import ListedModel, Recipe, Slice, Source
from search.space.template import short_name

STEPS = 24
"""Points of a curve where the recipe does not say how many layers there are."""
_REST = "other tensors"


@dataclass(frozen=True)
class Curve:
    """A parameter over depth.

    Attributes:
        parameter: ``t``, ``weight``, ``density`` and so on.
        label: Which model and which tensors it applies to.
        depth: Output layer, or depth from 0 to 1 where the recipe does not say how many layers there are.
        values: Value at each depth.
    """

    parameter: str
    label: str
    depth: tuple[float, ...]
    values: tuple[float, ...]


def curves(recipe: Recipe) -> list[Curve]:
    """Return every numeric parameter of a recipe over depth; slices follow each other."""
    module = next(iter(recipe.modules.values())) if recipe.modules else None
    part = module or recipe
    shared = [dict(recipe.parameters or {})]
    if module is not None:
        shared.insert(0, dict(module.parameters or {}))
    pieces: list[tuple[Sequence[ListedModel | Source], list[dict[str, Any]], list[tuple[float, float]]]] = []
    if part.models is not None:
        pieces.append((part.models, shared, [(step / STEPS, step / STEPS) for step in range(STEPS + 1)]))
    start = 0
    for piece in part.slices or ():
        count = _length(piece)
        at = [(float(start + i), i / (count - 1) if count > 1 else 1.0) for i in range(count)]
        pieces.append((piece.sources, [dict(piece.parameters or {}), *shared], at))
        start += count
    by_label: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for models, levels, at in pieces:
        for parameter, label, points in _of_piece(models, levels, at):
            by_label.setdefault((parameter, label), []).extend(points)
    return [
        Curve(parameter, label, tuple(d for d, _ in points), tuple(v for _, v in points))
        for (parameter, label), points in by_label.items()
    ]


def in_layers(recipe: Recipe) -> bool:
    """Tell whether the depth of a recipe's curves is counted in layers."""
    module = next(iter(recipe.modules.values())) if recipe.modules else None
    return (module or recipe).slices is not None


def _length(piece: Slice) -> int:
    first, last = piece.sources[0].layer_range
    return last - first


def _of_piece(
    models: Sequence[ListedModel | Source], levels: Sequence[Mapping[str, Any]], at: Sequence[tuple[float, float]]
) -> Iterator[tuple[str, str, list[tuple[float, float]]]]:
    """Go through the curves of one slice: parameters of each model, then those that all share."""
    own = [(entry.model, entry.parameters or {}) for entry in models]
    names = list(dict.fromkeys(name for _, settings in own for name in settings))
    names += [name for name in dict.fromkeys(n for level in levels for n in level) if name not in names]
    for name in names:
        holders = [(model, settings) for model, settings in own if name in settings]
        lines: list[tuple[str, list[object]]] = [
            (_unique(model, [m for m, _ in own]), [settings[name], *_values(levels, name)])
            for model, settings in holders
        ]
        for who, settings in lines or [("", _values(levels, name))]:
            for tensors in _tensors(settings):
                points = [
                    (x, value)
                    for x, depth in at
                    if (value := _number(_first(settings, "" if tensors == _REST else tensors, depth))) is not None
                ]
                if points:
                    only = len(_tensors(settings)) == 1
                    label = ", ".join(text for text in (who, "" if only and tensors == _REST else tensors) if text)
                    yield name, label or "all tensors", points


def _unique(model: str, models: Sequence[str]) -> str:
    short = short_name(model)
    return short if [short_name(other) for other in dict.fromkeys(models)].count(short) == 1 else model


def _values(levels: Sequence[Mapping[str, Any]], name: str) -> list[object]:
    return [level[name] for level in levels if name in level]


def _tensors(settings: Sequence[object]) -> list[str]:
    """Return the filters of nested settings, in order, and the rest."""
    filters: dict[str, None] = {}
    for setting in settings:
        for item in setting if isinstance(setting, list | tuple) else [setting]:
            wanted = item.get("filter") if isinstance(item, Mapping) else None
            if wanted not in (None, "*"):
                filters[str(wanted)] = None
    return [*filters, _REST]


def _first(settings: Sequence[object], name: str, depth: float) -> object:
    for setting in settings:
        try:
            value = evaluate(setting, name, depth)
        except (KeyError, TypeError, ValueError):
            continue
        if value is not None:
            return value
    return None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
