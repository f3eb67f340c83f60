"""What a tensor contributes to the gradient by its method's numbers: every method, every real parameter."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from merge.execution.derivatives import COARSE, difference, direction, number_of, slopes, with_number
from merge.execution.projection import KnownProducts, NeedsGradientError, Projection
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


START_AND_GOAL = {
    ("linear", "weight"): (0.2, 0.7),
    ("ties", "weight"): (0.2, 0.9),
    ("ties", "density"): (0.3, 0.7),
    ("dare_ties", "density"): (0.5, 0.3),
    ("dare_linear", "lambda_"): (0.5, 1.2),
    ("della_linear", "density"): (0.3, 0.6),
    ("della", "epsilon"): (0.05, 0.4),
    ("breadcrumbs", "gamma"): (0.05, 0.2),
    ("nearswap", "t"): (0.01, 0.1),
    ("slerp", "t"): (0.1, 0.9),
    ("sce", "select_topk"): (0.2, 0.7),
    ("ram", "epsilon"): (0.12, 0.2),
    ("ramplus_tl", "r"): (0.1, 0.8),
    ("passthrough", "scale"): (0.6, 1.2),
}


@pytest.mark.parametrize(("name", "field"), START_AND_GOAL)
def test_twenty_steps_of_plain_descent_lower_a_real_objective(name: str, field: str) -> None:
    inputs, (start, goal) = inputs_of(name, (120, 257)), START_AND_GOAL[name, field]
    known = get_method(name).parameters()[field.rstrip("_")]
    argument = Argument(field, 0 if known.per_model else None)
    method = with_number(method_of(name), argument, start)
    target = merged(with_number(method, argument, goal), inputs)
    losses, numbers, rate = list[float](), [start], 0.0
    for _ in range(20):
        rest = merged(method, inputs) - target
        losses.append(0.5 * float(rest.square().sum()))
        found = slope(method, inputs, rest.float(), argument)
        rate = rate or 0.25 * abs(goal - start) / abs(found)
        numbers.append(min(max(numbers[-1] - rate * found, known.low or -1e9), known.high or 1e9))
        method = with_number(method, argument, numbers[-1])
    assert losses[-1] < 0.7 * losses[0]
    assert abs(numbers[-1] - goal) < 0.7 * abs(start - goal)


@pytest.mark.filterwarnings("ignore:epsilon of della")
@pytest.mark.parametrize("name", ["ties", "dare_ties", "della_linear", "breadcrumbs_ties"])
def test_at_an_end_of_its_interval_a_number_moves_inwards_only(name: str) -> None:
    argument = Argument("density", 0)
    inputs, method = inputs_of(name), with_number(method_of(name), argument, 1.0)
    sides = difference(method, argument, inputs.size)
    assert (number_of(sides.below, argument), number_of(sides.above, argument)) == (1 - COARSE, 1.0)
    small = difference(with_number(method, argument, 1e-3), argument, inputs.size)
    assert (number_of(small.below, argument), small.distance) == (5e-4, COARSE + 5e-4)
    weight = weights_of(inputs)
    linear = float((weight * (merged(method, inputs) - merged(sides.below, inputs))).sum()) / COARSE
    found = slope(method, inputs, weight.float(), argument)
    assert found == pytest.approx(linear, rel=1e-5, abs=rounding(weight, merged(method, inputs), COARSE))


def test_weights_that_must_not_sum_to_zero_move_to_where_they_do_not() -> None:
    method = replace(method_of("linear"), weight=(0.004, 0.0))  # type: ignore[call-arg]
    sides = difference(method, Argument("weight", 0), 10)
    assert number_of(sides.below, Argument("weight", 0)) == 0.004
    assert sides.distance == COARSE


@pytest.mark.parametrize("name", ["linear", "task_arithmetic", "slerp", "multislerp", "nuslerp", "dare_linear"])
def test_products_with_parents_replace_the_gradient_where_whole_tensors_are_added(name: str) -> None:
    method, inputs = method_of(name), inputs_of(name)
    weight = weights_of(inputs)
    if name == "dare_linear":
        with pytest.raises(NeedsGradientError):
            slopes(method, inputs, KnownProducts(inputs, (0.0, 0.0), 0.0), arguments_of(method))
        method = replace(method, density=(1.0, 1.0))  # type: ignore[call-arg]
    origin = inputs.operands[-1].whole.double()
    offsets = [float((weight * (parent.whole.double() - origin)).sum()) for parent in inputs.parents]
    products = KnownProducts(inputs, offsets, float((weight * origin).sum()))
    wanted = [argument for argument in arguments_of(method) if argument.field != "density"]
    whole = slopes(method, inputs, Projection(inputs, weight, ReusedBuffer()), wanted)
    assert slopes(method, inputs, products, wanted) == pytest.approx(whole, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("dtypes", [(torch.bfloat16, torch.bfloat16), (torch.float16, torch.float32)], ids=str)
@pytest.mark.parametrize(("name", "parents"), [("ties", 2), ("dare_linear", 3), ("della", 2), ("dare_ties", 7)])
def test_one_pass_over_all_products_gives_what_blocks_give(
    name: str, parents: int, dtypes: tuple[torch.dtype, torch.dtype]
) -> None:
    tensors, base = tensors_for(name, (130, 257), parents=parents)
    assert base is not None
    stored = [tensor.to(dtypes[0]) for tensor in tensors]
    inputs = TensorInputs.of(stored, base.to(dtypes[1]), draws=CounterDraws(3, ParentCache(1 << 24)))
    method = instance(name, parents, density=0.4)
    single = weights_of(inputs).float()
    once, blocks = (
        slopes(method, inputs, Projection(inputs, kind, ReusedBuffer()), arguments_of(method))
        for kind in (single, single.double())
    )
    assert once == pytest.approx(blocks, rel=1e-4, abs=rounding(single, merged(method, inputs), 16 * COARSE))
