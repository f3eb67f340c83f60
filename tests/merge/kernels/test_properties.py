"""Laws of merging, on drawn tensors: order of parents, weights, densities, masks, blocks."""

import dataclasses
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import Tensor

from merge.kernels.arithmetic import Arithmetic
from merge.kernels.inputs import BLOCK, Operand, TensorInputs
from merge.kernels.random_draws import CounterDraws
from merge.kernels.sparsify import Sparsify, at_random, between, by_rank, largest, make_task_vector
from merge.memory.cache import ParentCache
from merge.method import AbstractMethod
from merge.methods.breadcrumbs import Breadcrumbs
from merge.methods.dare_linear import DareLinear
from merge.methods.dare_ties import DareTies
from merge.methods.della import Della
from merge.methods.linear import Linear
from merge.methods.slerp import Slerp
from merge.methods.task_arithmetic import TaskArithmetic
from merge.methods.ties import Ties

SHAPES = array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=40)
DENSITIES = st.floats(0.0, 1.0)
FEW = settings(max_examples=40, deadline=None)


@st.composite
def stacks(draw: st.DrawFn, count: int = 3) -> list[Tensor]:
    """Return tensors of one shape; few distinct values, so that magnitudes are often equal."""
    shape = draw(SHAPES)
    values = st.integers(-8, 8).map(lambda number: number / 8)
    return [torch.from_numpy(draw(arrays(np.float32, shape, elements=values))) for _ in range(count)]


def merged(method: AbstractMethod, tensors: list[Tensor], base: Tensor | None = None, seed: int = 0) -> Tensor:
    inputs = TensorInputs.of(tensors, base, draws=CounterDraws(seed, ParentCache()))
    kernel = method.kernel(inputs)
    return torch.cat([kernel(span) for span in inputs.spans()]).reshape(inputs.shape)


def kept(drop: Sparsify, parent: Tensor, base: Tensor, *, seed: int = 0, name: str = "parent 0") -> Tensor:
    """Return which entries of a task vector are kept."""
    facts, how = ParentCache(), Arithmetic()
    one = Operand((name, "tensor"), lambda: parent, how)
    root = Operand(("base", "tensor"), lambda: base, how)
    inputs = TensorInputs("t", parent.shape, [one], root, arithmetic=how, draws=CounterDraws(seed, facts), cache=facts)
    mask = make_task_vector(inputs, one, drop).mask
    if mask is None:
        return torch.ones(parent.numel(), dtype=torch.bool)
    difference = (parent - base).reshape(-1)
    return torch.cat([mask(span, difference[span]) for span in inputs.spans()]).bool()


@FEW
@given(stacks(), st.permutations([0, 1, 2]))
@pytest.mark.parametrize(
    "method",
    [
        Linear((0.25, 0.5, 1.0)),
        TaskArithmetic((0.25, 0.5, 1.0), (1.0,) * 3),
        Ties((0.25, 0.5, 1.0), (0.5, 0.7, 0.9)),
        Breadcrumbs((0.25, 0.5, 1.0), (0.5, 0.7, 0.9), (0.1, 0.2, 0.05)),
    ],
)
def test_the_order_of_parents_does_not_matter(method: AbstractMethod, tensors: list[Tensor], order: list[int]) -> None:
    base = None if isinstance(method, Linear) else torch.zeros_like(tensors[0])
    fields = {
        field.name: tuple(getattr(method, field.name)[index] for index in order)
        for field in dataclasses.fields(method)
        if isinstance(getattr(method, field.name), tuple)
    }
    first = merged(method, tensors, base)
    second = merged(dataclasses.replace(method, **fields), [tensors[index] for index in order], base)
    torch.testing.assert_close(first, second, atol=1e-6, rtol=1e-6)


@FEW
@given(stacks(2))
def test_weights_one_and_zero_return_the_first_parent_bit_for_bit(tensors: list[Tensor]) -> None:
    assert torch.equal(merged(Linear((1.0, 0.0)), tensors), tensors[0])


@FEW
@given(stacks(2), st.sampled_from([0.0, 1.0]))
def test_slerp_ends_at_its_parents(tensors: list[Tensor], t: float) -> None:
    torch.testing.assert_close(merged(Slerp(t), [tensors[1]], tensors[0]), tensors[int(t)], atol=1e-6, rtol=1e-6)


@FEW
@given(stacks(3))
def test_density_one_is_no_dropping_at_all(tensors: list[Tensor]) -> None:
    base, parents, weights = tensors[2], tensors[:2], (0.7, -0.4)
    wanted = merged(TaskArithmetic(weights, (1.0, 1.0)), parents, base)
    assert torch.equal(merged(DareLinear(weights, (1.0, 1.0)), parents, base), wanted)
    ties = merged(Ties(weights, (1.0, 1.0)), parents, base)
    assert torch.equal(merged(dataclasses.replace(DareTies(weights, (1.0, 1.0)), normalize=True), parents, base), ties)
    assert torch.equal(merged(Della(weights, (1.0, 1.0), (0.1, 0.1)), parents, base), ties)


@FEW
@given(stacks(2), DENSITIES)
def test_the_largest_entries_are_kept_as_many_as_the_density_says(tensors: list[Tensor], density: float) -> None:
    parent, base = tensors
    mask = kept(largest(density), parent, base)
    magnitudes = (parent - base).abs().reshape(-1)
    assert int(mask.sum()) == max(1, int(density * parent.numel())) or density >= 1
    if not mask.all():
        assert magnitudes[mask].min() >= magnitudes[~mask].max()
        order = torch.argsort(magnitudes, descending=True, stable=True)
        assert set(order[: int(mask.sum())].tolist()) == set(mask.nonzero().flatten().tolist())


@FEW
@given(stacks(2), DENSITIES, st.floats(0, 0.4))
def test_outliers_and_noise_are_dropped_as_many_as_asked(tensors: list[Tensor], density: float, gamma: float) -> None:
    parent, base = tensors
    size = parent.numel()
    mask = kept(between(density, gamma), parent, base)
    assert density >= 1 or int(mask.sum()) == int(density * size)


@FEW
@given(st.integers(0, 2**32), DENSITIES, DENSITIES)
def test_random_masks_are_nested_in_density(seed: int, first: float, second: float) -> None:
    parent, base = torch.randn(37, 11), torch.zeros(37, 11)
    low, high = sorted((first, second))
    for drop in (at_random, lambda density: by_rank(density, 0.0)):
        few, many = (kept(drop(density), parent, base, seed=seed) for density in (low, high))
        assert not (few & ~many).any()


@FEW
@given(st.integers(0, 2**32), st.floats(0.01, 0.99))
def test_random_masks_keep_the_share_they_should(seed: int, density: float) -> None:
    parent, base = torch.ones(200, 250), torch.zeros(200, 250)
    count = int(kept(at_random(density), parent, base, seed=seed).sum())
    assert abs(count - density * 50_000) <= 5 * sqrt(50_000 * density * (1 - density)) + 1


def test_masks_of_two_models_or_seeds_are_independent() -> None:
    parent, base = torch.ones(400, 250), torch.zeros(400, 250)
    masks = [kept(at_random(0.5), parent, base, seed=seed, name=name) for seed, name in ((0, "a"), (0, "b"), (1, "a"))]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        both = int((masks[first] & masks[second]).sum())
        assert abs(both - 25_000) < 5 * sqrt(100_000 * 0.25 * 0.75)


@pytest.mark.parametrize("extra", [-1, 0, 1, 1000])
def test_blocks_leave_no_seam(extra: int) -> None:
    generator = torch.Generator().manual_seed(3)
    size = 2 * BLOCK + extra
    parents = [torch.randn(size, generator=generator) for _ in range(2)]
    base = torch.randn(size, generator=generator)
    method = Ties((0.6, 0.3), (0.3, 0.6))
    inputs = TensorInputs.of(parents, base)
    kernel = method.kernel(inputs)
    blocks = torch.cat([kernel(span) for span in inputs.spans()])
    assert torch.equal(blocks, kernel(slice(0, size)))


@FEW
@given(stacks(1))
def test_rescaling_keeps_the_l1_norm(tensors: list[Tensor]) -> None:
    parent, base = tensors[0], torch.zeros_like(tensors[0])
    method = DareLinear((1.0,), (0.5,), rescale=True)
    change = merged(method, [parent], base) - base
    if change.abs().sum() > 0:
        torch.testing.assert_close(change.abs().sum(), parent.abs().sum(), atol=1e-5, rtol=1e-5)
