"""What every merge method owes, whatever it does: parametrised over the registry, so that a new file is tested too."""

import dataclasses

import pytest
import torch
from torch import Tensor

from merge.kernels.arithmetic import Arithmetic
from merge.kernels.inputs import TensorInputs
from merge.kernels.random_draws import CounterDraws, StreamDraws
from merge.memory.cache import ParentCache
from merge.method import AbstractMethod
from merge.methods import get_method, method_names, source_of

SHAPES = [(6, 5), (7,), (1,), (1, 1), (300, 257)]


def instance(name: str, parents: int, **given: object) -> AbstractMethod:
    """Return a method with its defaults, or the middle of its search range, for a number of parents."""
    kind = get_method(name)
    values: dict[str, object] = {}
    known = kind.parameters()
    for field in dataclasses.fields(kind):
        parameter = known[field.name.rstrip("_")]
        value: object = parameter.default
        if value is None and parameter.required:
            assert parameter.search_low is not None
            assert parameter.search_high is not None
            value = (parameter.search_low + parameter.search_high) / 2
        value = given.get(parameter.name, value)
        values[field.name] = (value,) * parents if parameter.per_model else value
    return kind(**values)


def count_of(name: str) -> int:
    low, high = get_method(name).parents
    return max(low, 1) if high is None or high > 1 else high


def tensors_for(name: str, shape: tuple[int, ...], *, parents: int | None = None) -> tuple[list[Tensor], Tensor | None]:
    """Return random parents, and a base where the method needs one."""
    generator = torch.Generator().manual_seed(len(shape) + sum(shape))
    base = torch.randn(shape, generator=generator)
    tensors = [base + 0.1 * torch.randn(shape, generator=generator) for _ in range(parents or count_of(name))]
    return tensors, base if get_method(name).base_model == "required" else None


def merged(method: AbstractMethod, tensors: list[Tensor], base: Tensor | None, *, seed: int = 0) -> Tensor:
    facts = ParentCache(1 << 20)
    inputs = TensorInputs.of(tensors, base, draws=CounterDraws(seed, facts))
    kernel = method.kernel(inputs)
    out = torch.full(inputs.shape, torch.nan).reshape(-1)
    for span in inputs.spans():
        out[span] = kernel(span)
    return out.reshape(inputs.shape)


@pytest.mark.parametrize("name", method_names())
@pytest.mark.parametrize("shape", SHAPES)
def test_a_result_has_the_parents_shape_and_is_finite(name: str, shape: tuple[int, ...]) -> None:
    tensors, base = tensors_for(name, shape)
    before = [tensor.clone() for tensor in tensors]
    result = merged(instance(name, len(tensors)), tensors, base)
    assert result.shape == torch.Size(shape)
    assert result.dtype == torch.float32
    assert torch.isfinite(result).all()
    assert all(torch.equal(now, then) for now, then in zip(tensors, before, strict=True)), "a parent was written to"


@pytest.mark.parametrize("name", method_names())
def test_equal_parents_give_themselves(name: str) -> None:
    _, base = tensors_for(name, (6, 5))
    parent = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)) if base is None else base
    result = merged(instance(name, count_of(name)), [parent] * count_of(name), base)
    torch.testing.assert_close(result, parent, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("name", method_names())
def test_an_empty_tensor_stays_empty(name: str) -> None:
    if name in {"arcee_fusion", "model_stock", "nuslerp", "multislerp", "sce"}:
        pytest.skip("needs an entry to look at; a checkpoint's empty tensors are copied before a method sees them")
    tensors, base = tensors_for(name, (0, 4))
    assert merged(instance(name, len(tensors)), tensors, base).shape == (0, 4)


@pytest.mark.parametrize("name", method_names())
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    tensors, base = tensors_for(name, (300, 257))
    method = instance(name, len(tensors), density=0.4)
    first, again, other = (merged(method, tensors, base, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert torch.equal(first, other) != get_method(name).random


@pytest.mark.parametrize("name", method_names())
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_following_the_reference_keeps_its_dtype(name: str, dtype: torch.dtype) -> None:
    tensors, base = tensors_for(name, (6, 5))
    inputs = TensorInputs.of(
        [tensor.to(dtype) for tensor in tensors],
        None if base is None else base.to(dtype),
        arithmetic=Arithmetic(dtype, stepwise=True),
        draws=StreamDraws(0),
    )
    method = instance(name, len(tensors), density=0.5)
    result = method.kernel(inputs)(slice(0, inputs.size))
    assert result.dtype == method.result_dtype(dtype, compat=True)
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("name", method_names())
def test_every_parameter_has_interval_default_search_range_and_the_method_a_source(name: str) -> None:
    assert get_method(name).method == name
    assert len(source_of(name)) > 20
    for parameter in get_method(name).parameters().values():
        assert parameter.about
        assert not (parameter.required and parameter.default is not None)
        if parameter.default is not None:
            assert parameter.fault(parameter.default) is None
        if parameter.kind == "bool":
            assert parameter.default in (True, False)
            assert parameter.fault("perhaps") is not None
            continue
        assert parameter.search_low is not None
        assert parameter.search_high is not None
        assert parameter.search_low < parameter.search_high
        assert parameter.fault(parameter.search_low) is None
        assert parameter.fault(parameter.search_high) is None
        assert parameter.fault(float("nan")) is not None
        outside = [None if end is None else end + step for end, step in ((parameter.low, -1), (parameter.high, 1))]
        assert all(parameter.fault(value) is not None for value in outside if value is not None)


@pytest.mark.parametrize("name", [n for n in method_names() if "density" in get_method(n).parameters()])
def test_a_density_is_above_zero_and_at_most_one(name: str) -> None:
    density = get_method(name).parameters()["density"]
    assert density.fault(0.0) is not None
    assert density.fault(1.0 + 1e-9) is not None
    assert density.fault(1e-9) is None


@pytest.mark.parametrize("name", [n for n in method_names() if "weight" in get_method(n).parameters()])
def test_a_parent_of_weight_zero_does_not_count(name: str) -> None:
    if get_method(name).parents[1] == 1:
        pytest.skip("takes one parent")
    tensors, base = tensors_for(name, (6, 5), parents=2)
    method = instance(name, 2)
    weighted = dataclasses.replace(method, weight=(1.0, 0.0))  # type: ignore[call-arg]
    result = merged(weighted, tensors, base)
    torch.testing.assert_close(result, tensors[0], atol=2e-6, rtol=2e-6)
