"""What a tensor contributes to the gradient by its method's numbers: every method, every real parameter."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from merge.execution.derivatives import COARSE, difference, direction, number_of, slopes
from merge.execution.projection import Projection
from merge.kernels.inputs import TensorInputs
from merge.kernels.random_draws import CounterDraws
from merge.memory.cache import ParentCache
from merge.memory.large_pages import ReusedBuffer
from merge.method import AbstractMethod
from merge.methods import get_method, method_names
from merge.planning.recipe_values import Argument
from tests.contracts.test_every_method import count_of, instance, tensors_for

SHAPE = (401, 257)
MOVES_THRESHOLDS = {"density", "gamma", "epsilon", "select_topk", "tol", "eps"}
"""Parameters that decide which entries take part; so do the weights of methods that elect signs."""
USUAL = {"density": 0.5, "gamma": 0.05, "select_topk": 0.5}


def parents_of(name: str) -> int:
    return count_of(name) if get_method(name).parents[1] is not None else max(count_of(name), 2)


def method_of(name: str) -> AbstractMethod:
    method = instance(name, parents_of(name), **USUAL, **({"epsilon": 0.05} if name.startswith("ram") else {}))
    if name == "passthrough":
        return replace(method, scale=(0.9,))  # type: ignore[call-arg]
    if "weight" in method.parameters() and parents_of(name) > 1:
        return replace(method, weight=(0.4, 0.7))  # type: ignore[call-arg]
    return method


def inputs_of(name: str, shape: tuple[int, ...] = SHAPE) -> TensorInputs:
    tensors, base = tensors_for(name, shape, parents=parents_of(name))
    return TensorInputs.of(tensors, base, draws=CounterDraws(3, ParentCache(1 << 24)))


def arguments_of(method: AbstractMethod) -> list[Argument]:
    found = []
    for name, parameter in method.parameters().items():
        if parameter.kind == "float":
            field = "lambda_" if name == "lambda" else name
            count = len(getattr(method, field)) if parameter.per_model else None
            found += [Argument(field, None)] if count is None else [Argument(field, parent) for parent in range(count)]
    return found


def cases() -> list[Any]:
    return [pytest.param(*case, id=f"{case[0]}-{case[1].field}-{case[1].parent}") for case in _cases()]


def _cases() -> Iterator[tuple[str, Argument]]:
    for name in method_names():
        for argument in arguments_of(method_of(name)):
            yield name, argument


def merged(method: AbstractMethod, inputs: TensorInputs) -> Tensor:
    kernel = method.kernel(inputs)
    return torch.cat([kernel(span).double() for span in inputs.spans()]).reshape(inputs.shape)


def weights_of(inputs: TensorInputs) -> Tensor:
    return torch.randn(inputs.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def objective(inputs: TensorInputs, tensor: Tensor) -> float:
    return float((weights_of(inputs) * tensor + 0.2 * tensor.sin()).sum())


def gradient(inputs: TensorInputs, tensor: Tensor) -> Tensor:
    return weights_of(inputs) + 0.2 * tensor.cos()


def rounding(gradient: Tensor, tensor: Tensor, distance: float) -> float:
    """Return six deviations of a difference's error when every entry is rounded to float32 a few times."""
    return 6 * 2**-23 * float((gradient * tensor).norm()) / distance


def slope(method: AbstractMethod, inputs: TensorInputs, gradient: Tensor, argument: Argument) -> float:
    return slopes(method, inputs, Projection(inputs, gradient, ReusedBuffer()), [argument])[argument]


@pytest.mark.parametrize(("name", "argument"), cases())
def test_a_contribution_is_the_gradient_times_the_engines_difference(name: str, argument: Argument) -> None:
    method, inputs = method_of(name), inputs_of(name)
    tensor = merged(method, inputs)
    weight = gradient(inputs, tensor).float()
    moved = difference(method, argument, inputs.size)
    number = number_of(method, argument)
    assert number_of(moved.below, argument) < number or number_of(moved.above, argument) > number
    found = [slope(method, inputs, kind, argument) for kind in (weight, weight.double(), weight.T.contiguous().T)]
    assert found[1:] == pytest.approx([found[0]] * 2, rel=1e-5, abs=rounding(weight, tensor, 16 * moved.distance))

    def change(distance: float) -> tuple[float, float]:
        """Return the objective's linear change over a difference, and its length."""
        sides = difference(method, argument, inputs.size, distance)
        ends = merged(sides.above, inputs), merged(sides.below, inputs)
        return float((weight * (ends[0] - ends[1])).sum()) / sides.distance, sides.distance

    linear, length = change(COARSE)
    tolerance = rounding(weight, tensor, length)
    if not moves_thresholds(name, argument):
        tolerance += 2 * abs(linear - change(COARSE / 2)[0]) + rounding(weight, tensor, length / 2)
    assert found[0] == pytest.approx(linear, rel=1e-5, abs=tolerance)
    whole = float((weight.double() * direction(method, inputs, argument).double()).sum())
    assert whole == pytest.approx(linear, rel=1e-4, abs=rounding(weight, tensor, length))


def moves_thresholds(name: str, argument: Argument) -> bool:
    voting = getattr(get_method(name), "vote", name == "ties")
    return argument.field in MOVES_THRESHOLDS or (voting and argument.field == "weight")


@pytest.mark.parametrize(("name", "argument"), [case for case in cases() if not moves_thresholds(*case.values)])
def test_a_smooth_number_moves_the_whole_objective_as_foretold(name: str, argument: Argument) -> None:
    method, inputs = method_of(name), inputs_of(name)
    tensor = merged(method, inputs)
    first = gradient(inputs, tensor)
    sides = [difference(method, argument, inputs.size, share) for share in (COARSE, COARSE / 2)]
    coarse, fine = (
        (objective(inputs, merged(s.above, inputs)) - objective(inputs, merged(s.below, inputs))) / s.distance
        for s in sides
    )
    tolerance = 2 * abs(coarse - fine) + rounding(first, tensor, sides[1].distance)
    assert slope(method, inputs, first, argument) == pytest.approx(fine, rel=1e-5, abs=tolerance)
    assert tolerance < 0.2 * float((first * direction(method, inputs, argument)).norm()) + 1e-9, "compares something"
