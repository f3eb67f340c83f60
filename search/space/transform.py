"""A search space as a box: numbers scaled to [0, 1], grids, and choices; what evolution strategies work on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.space.holes import Scalar

Array = NDArray[np.float64]
MOST_COUNTED = 100_000
"""A grid of more points than this is never written out."""
MOST_POINTS = 1000
"""A grid of more points than this counts as a continuous range."""


@dataclass(frozen=True)
class Point:
    """One place in a box.

    Attributes:
        numbers: Continuous dimensions, then grids, each in [0, 1].
        choices: Index of the chosen value of each choice.
    """

    numbers: Array
    choices: tuple[int, ...]


class Box:
    """Distributions sorted into continuous ranges, grids of at least three points, and choices.

    Dimensions of a single value are left out; a grid of two points is a choice.

    Args:
        distributions: By full name.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self.distributions = {name: d for name, d in distributions.items() if not d.single()}
        self.grids = {n: g for n, d in self.distributions.items() if (g := _grid(d)) is not None and len(g) > 2}
        self.choices = {n: c for n, d in self.distributions.items() if (c := _choices(d)) is not None}
        self.ranges = tuple(n for n in self.distributions if n not in self.grids and n not in self.choices)

    @property
    def numbers(self) -> tuple[str, ...]:
        """Return the names of the numbers, continuous ones first."""
        return (*self.ranges, *self.grids)

    def decode(self, point: Point) -> dict[str, Scalar]:
        """Return the values at a place."""
        values: dict[str, Scalar] = {}
        for name, number in zip(self.numbers, point.numbers, strict=True):
            if name in self.grids:
                grid = self.grids[name]
                values[name] = grid[round(float(np.clip(number, 0, 1)) * (len(grid) - 1))]
            else:
                values[name] = _unscaled(self.distributions[name], float(np.clip(number, 0, 1)))
        for name, index in zip(self.choices, point.choices, strict=True):
            values[name] = self.choices[name][index]
        return values

    def encode(self, values: Mapping[str, Scalar], otherwise: Point | None = None) -> Point:
        """Return where some values lie.

        Args:
            values: By full name.
            otherwise: Where dimensions without a value lie; unset: in the middle, and at the first of the choices.
        """
        if otherwise is None:
            otherwise = Point(np.full(len(self.numbers), 0.5), (0,) * len(self.choices))
        numbers = [
            _scaled(self.distributions[name], values[name]) if name in values else number
            for name, number in zip(self.numbers, otherwise.numbers, strict=True)
        ]
        chosen = [
            _index(self.choices[name], values[name]) if name in values else index
            for name, index in zip(self.choices, otherwise.choices, strict=True)
        ]
        return Point(np.array(numbers), tuple(chosen))


def grid_values(distribution: BaseDistribution) -> Sequence[Scalar] | None:
    """Return every value that a dimension can take; None for a continuous range, and where they are too many."""
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if distribution.step is None:
        return (distribution.low,) if distribution.single() else None
    steps = (distribution.high - distribution.low) / distribution.step
    if not steps < MOST_COUNTED:
        return None
    count = round(steps) + 1
    points = [distribution.low + index * distribution.step for index in range(count)]
    return [int(p) for p in points] if isinstance(distribution, IntDistribution) else points


def _grid(distribution: BaseDistribution) -> Sequence[Scalar] | None:
    if isinstance(distribution, CategoricalDistribution):
        return None
    points = grid_values(distribution)
    return None if points is None or len(points) > MOST_POINTS or _log(distribution) else points


def _choices(distribution: BaseDistribution) -> Sequence[Scalar] | None:
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    points = _grid(distribution)
    return points if points is not None and len(points) == 2 else None


def _log(distribution: BaseDistribution) -> bool:
    return isinstance(distribution, FloatDistribution | IntDistribution) and distribution.log


def _scaled(distribution: BaseDistribution, value: Scalar) -> float:
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    assert isinstance(value, int | float)
    low, high, at = distribution.low, distribution.high, float(value)
    if distribution.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low)


def _unscaled(distribution: BaseDistribution, number: float) -> Scalar:
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    value = low * (high / low) ** number if distribution.log else low + number * (high - low)
    if distribution.step is not None:
        value = low + round((value - low) / distribution.step) * distribution.step
    value = min(max(value, low), high)
    return round(value) if isinstance(distribution, IntDistribution) else value


def _index(choices: Sequence[Scalar], value: Scalar) -> int:
    return next(i for i, choice in enumerate(choices) if choice == value and type(choice) is type(value))
