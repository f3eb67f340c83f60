"""How a merged tensor, and an objective of it, change with the numbers of its method: differences by its own kernels.

    d<G, W>/dv = (<G, W(v + e)> - <G, W(v - e)>) / 2e

where G is the gradient of the objective by the tensor W. Both sides draw the same random numbers, and nothing is
rounded to the model's dtype. One rule serves every method; no method has a derivative of its own. The step e depends
on what it does:

* Where both sides add the same tensors with other factors (weights, positions, scales), only the factors differ, and
  the step is 2^-20 of the parameter's range: the formula's derivative in float64.
* Where it moves a threshold, a random limit or an election, the step is 2^-6 of that range, so that entries cross it.

A step stops at the end of the legal interval; there the difference is one-sided.
"""

import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from merge.execution.projection import AbstractProjection, form
from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import Kernel
from merge.method import AbstractMethod, Parameter
from merge.planning.recipe_values import Argument

COARSE, FINE = 2.0**-6, 2.0**-20
"""Steps as shares of a parameter's range, or of its value where that is larger; rounded to a power of two."""
SHORTER = 2.0**-4
"""By which a step is shortened where the method refuses both of its ends..."""
ATTEMPTS = 6
"""...at most so often, less one."""

HELD = 1 << 30
"""Bytes of random numbers that the kernels of one tensor may hold together, where they are made for each."""


class Difference(NamedTuple):
    """Two instances of a method that differ in one number.

    Args:
        above: With the number larger by a step.
        below: With it smaller by a step.
        distance: Between both numbers; 0 where the number has no room to move.
    """

    above: AbstractMethod
    below: AbstractMethod
    distance: float


def parameter_of(method: AbstractMethod, argument: Argument) -> Parameter:
    """Return the parameter that an argument is a value of."""
    return method.parameters()[argument.field.rstrip("_")]


def number_of(method: AbstractMethod, argument: Argument) -> float:
    """Return the number that a method has for an argument."""
    value = getattr(method, argument.field)
    return float(value if argument.parent is None else value[argument.parent])


def with_number(method: AbstractMethod, argument: Argument, number: float) -> AbstractMethod:
    """Return the method with another number for an argument."""
    if argument.parent is None:
        return replace(method, **{argument.field: number})
    values = list(getattr(method, argument.field))
    values[argument.parent] = number
    return replace(method, **{argument.field: tuple(values)})


def difference(method: AbstractMethod, argument: Argument, size: int, share: float = COARSE) -> Difference:
    """Return the two sides of a difference, both legal for a tensor of so many entries.

    Args:
        method: The method with the parameters of a tensor.
        argument: The number that differs.
        size: Entries of the tensor.
        share: The step as a share of the parameter's range.
    """
    parameter, number = parameter_of(method, argument), number_of(method, argument)
    low, high = parameter.search_low, parameter.search_high
    spread = max(1.0 if low is None or high is None else high - low, abs(number))
    step = 2.0 ** round(math.log2(spread * share))
    for _ in range(ATTEMPTS):
        ends = [_legal_end(parameter, number, number + signed) for signed in (step, -step)]
        sides = [with_number(method, argument, end) for end in ends]
        fits = [side.fault(size, compat=False) is None for side in sides]
        if any(fits):
            above, below = (side if fit else method for side, fit in zip(sides, fits, strict=True))
            return Difference(above, below, number_of(above, argument) - number_of(below, argument))
        step *= SHORTER
    return Difference(method, method, 0.0)


def _legal_end(parameter: Parameter, number: float, wanted: float) -> float:
    """Return the end of a step within the legal interval; half way to an end that is not legal itself."""
    if parameter.low is not None and wanted <= parameter.low:
        return (parameter.low + number) / 2 if parameter.above else parameter.low
    return wanted if parameter.high is None else min(wanted, parameter.high)


def slopes(
    method: AbstractMethod, inputs: TensorInputs, projection: AbstractProjection, arguments: Iterable[Argument]
) -> dict[Argument, float]:
    """Return how the product of a gradient with a merged tensor changes with each number of its method.

    Args:
        method: The method with the parameters of the tensor.
        inputs: The tensor's parents.
        projection: Takes the products.
        arguments: The numbers.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sides that nobody asked to merge
        found: dict[Argument, float] = {}
        for group in _together(method, inputs, list(arguments)):
            sides = {argument: difference(method, argument, inputs.size) for argument in group}
            kernels = {argument: _kernels(two, inputs) for argument, two in sides.items() if two.distance}
            projection.prepare([kernel for two in kernels.values() for kernel in two])
            for argument, two in sides.items():
                moved = kernels.get(argument)
                found[argument] = 0.0 if moved is None else _slope(method, inputs, projection, argument, two, moved)
        return found


def _together(method: AbstractMethod, inputs: TensorInputs, arguments: list[Argument]) -> Iterator[list[Argument]]:
    """Divide arguments into groups whose kernels may be held at once: each may have random numbers of its own."""
    held = 4 * inputs.size * max(len(inputs.parents), 1) if method.random else 0
    count = max(1, HELD // held) if held else max(len(arguments), 1)
    return (arguments[start : start + count] for start in range(0, len(arguments), count))


def _slope(
    method: AbstractMethod,
    inputs: TensorInputs,
    projection: AbstractProjection,
    argument: Argument,
    sides: Difference,
    kernels: tuple[Kernel, Kernel],
) -> float:
    above, below = kernels
    shared = form(above)
    if shared is not None and shared == form(below):
        fine = difference(method, argument, inputs.size, FINE)
        near = _kernels(fine, inputs)
        if fine.distance and all(form(kernel) == shared for kernel in near):
            sides, (above, below) = fine, near
    return (projection.of(above) - projection.of(below)) / sides.distance


def _kernels(sides: Difference, inputs: TensorInputs) -> tuple[Kernel, Kernel]:
    return sides.above.kernel(inputs), sides.below.kernel(inputs)


def direction(method: AbstractMethod, inputs: TensorInputs, argument: Argument, share: float = COARSE) -> Tensor:
    """Return how each entry of a merged tensor changes with one number of its method, in float32.

    `slopes` is the product of a gradient with this, without making it.

    Args:
        method: The method with the parameters of the tensor.
        inputs: The tensor's parents.
        argument: The number.
        share: The step as a share of the parameter's range.
    """
    sides = difference(method, argument, inputs.size, share)
    result = torch.zeros(inputs.size, dtype=torch.float32, device=inputs.operands[0].raw.device)
    if sides.distance:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            above, below = _kernels(sides, inputs)
            for span in inputs.spans():
                result[span] = (above(span) - below(span)) / sides.distance
    return result.view(inputs.shape)
