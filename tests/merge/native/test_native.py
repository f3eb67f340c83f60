"""The fused loops give the bits of the same formula taken operation by operation, for every method and dtype."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from merge.kernels import mask_norms
from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import AbstractFused
from merge.kernels.masks import RandomMask, ThresholdMask, limit_of
from merge.kernels.native_records import masked_norm
from merge.kernels.random_draws import CounterDraws
from merge.kernels.sparsify import largest, make_task_vector
from merge.kernels.task_vector import TaskVector
from merge.kernels.top_k import magnitude_threshold
from merge.memory.cache import ParentCache
from merge.method import AbstractMethod
from merge.methods import get_method, method_names
from merge.methods.ties import Ties
from merge.native import compiler as native
from merge.native import overlap as fused_overlap
from merge.native import ranking as fused_ranking
from merge.native import tensors as fused
from tests.contracts.test_every_method import instance

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
pytestmark = pytest.mark.filterwarnings("ignore:epsilon .* is narrowed")
needs_compiler = pytest.mark.skipif(native.load() is None, reason="no C++ compiler: there are no fused loops to test")


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "load", lambda: None)


def tensors_of(count: int, size: int, dtype: torch.dtype, seed: int) -> list[Tensor]:
    """Return a base and parents near it; coarse numbers, so that magnitudes are often equal or zero."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(size, generator=generator)
    changes = [(torch.randn(size, generator=generator) * 8).round() / 64 for _ in range(count)]
    return [base.to(dtype), *((base + change).to(dtype) for change in changes)]


def merged(
    method: AbstractMethod,
    base: Tensor,
    parents: list[Tensor],
    dtype: torch.dtype,
    *,
    loops: bool,
    live: torch.dtype | None = None,
) -> Tensor:
    """Merge, rounded to a dtype and then to that of the live model."""
    facts = ParentCache(1 << 24)
    root = base if get_method(method.method).base_model == "required" else None
    with pytest.MonkeyPatch.context() as patch:
        if not loops:
            patch.setattr(native, "load", lambda: None)
        inputs = TensorInputs.of(parents, root, draws=CounterDraws(3, facts))
        kernel = method.kernel(inputs)
        out = torch.empty(inputs.size, dtype=live or dtype)
        one_pass = kernel.one_pass(out, dtype) if loops and isinstance(kernel, AbstractFused) else None
        if one_pass is not None:
            assert one_pass()
            return out
        for span in inputs.spans():
            out[span] = kernel(span).to(dtype)
        return out


def summed(out: Tensor, dtype: torch.dtype, tensor: Tensor, weight: float) -> bool:
    """Write a tensor times a weight, rounded to a dtype; return whether all of it is finite."""
    return bool(fused.weighted_sum(out, dtype, [fused.address_of(tensor)], [weight])())


@needs_compiler
@pytest.mark.parametrize("name", method_names())
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_pass_gives_the_bits_of_many(name: str, dtype: torch.dtype) -> None:
    low, high = get_method(name).parents
    for count in range(max(low, 1), min(high or 7, 7) + 1):
        base, *parents = tensors_of(count, 2 * fused.LANES + 77, dtype, seed=count)
        for density in (0.9, 0.31, 1.0):
            method = instance(name, count, density=density, select_topk=density)
            if density < 0.5:  # rows, where a method has them
                base, parents = base.reshape(25, 85), [parent.reshape(25, 85) for parent in parents]
            ways = [merged(method, base, parents, dtype, loops=loops) for loops in (True, False)]
            assert torch.equal(*(way.view(torch.uint8) for way in ways)), (count, density)


@needs_compiler
@settings(max_examples=25, deadline=None)
@given(
    dtypes=st.lists(st.sampled_from(DTYPES), min_size=4, max_size=4),
    size=st.integers(1, 3 * fused.LANES),
    weights=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    densities=st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
    flags=st.tuples(st.booleans(), st.booleans()),
    name=st.sampled_from(["ties", "dare_ties", "dare_linear", "breadcrumbs_ties", "della"]),
)
def test_mixed_dtypes_and_densities_give_the_same_bits(
    dtypes: list[torch.dtype],
    size: int,
    weights: list[float],
    densities: list[float],
    flags: tuple[bool, bool],
    name: str,
) -> None:
    tensors = [x.to(dtype) for x, dtype in zip(tensors_of(3, size, torch.float32, size), dtypes, strict=True)]
    kind = get_method(name)
    given_values: dict[str, object] = {"weight": tuple(weights), "density": tuple(densities)}
    given_values |= {"normalize": flags[0], "rescale": flags[1]}
    known = kind.parameters()
    per_model = {n: (p.default,) * 3 for n, p in known.items() if p.per_model and n not in given_values}
    method = kind(**{n.replace("lambda", "lambda_"): v for n, v in (given_values | per_model).items()})
    ways = [merged(method, tensors[0], tensors[1:], dtypes[0], loops=loops) for loops in (True, False)]
    assert torch.equal(*(way.view(torch.uint8) for way in ways))


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["linear", "ties", "sce", "ram"])
def test_a_large_result_that_passes_the_caches_by_has_the_same_bits(name: str, dtype: torch.dtype) -> None:
    base, *parents = tensors_of(2, (1 << 16) + 77, dtype, seed=4)
    method = instance(name, 2, density=0.4, select_topk=0.4)
    ways = [merged(method, base, parents, dtype, loops=loops) for loops in (True, False)]
    assert torch.equal(*(way.view(torch.uint8) for way in ways))


@needs_compiler
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rounding", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weights", [(1.0, -1.0), (0.5, 0.0), (0.3, 0.6)], ids=["cancel", "zero", "usual"])
def test_tiny_and_zero_results_into_a_model_of_another_dtype(
    stored: torch.dtype, rounding: torch.dtype, weights: tuple[float, float]
) -> None:
    """Below the smallest normal number, at both zeros, with weights of sum zero, for each dtype of the live model."""
    base, *parents = tensors_of(2, (1 << 16) + 77, torch.float32, seed=8)
    sizes = torch.tensor([1.0, 1e-38, 1e-39, 0.0])[torch.arange(base.numel()) % 4]
    base, *parents = [(x * sizes).to(stored) for x in (base, *parents)]
    base[::8] = -0.0
    method = Ties(weight=weights, density=(0.7, 0.9), lambda_=0.75)
    for live in (torch.float32, torch.bfloat16):
        ways = [merged(method, base, parents, rounding, loops=loops, live=live) for loops in (True, False)]
        assert torch.equal(*(way.view(torch.uint8) for way in ways)), live
        assert 0 < int((ways[0] == 0).sum()) < base.numel() // 2


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_result_that_overflows_is_noticed_wherever_it_lies(dtype: torch.dtype) -> None:
    for place in (0, 31, 40, 5000, (1 << 16) + 76):
        base, *parents = tensors_of(2, (1 << 16) + 77, dtype, seed=9)
        for parent in parents:
            parent[place] = 1e38
        kernel = Ties(weight=(0.5, 0.5), density=(1.0, 1.0), lambda_=8.0).kernel(TensorInputs.of(parents, base))
        assert isinstance(kernel, AbstractFused)
        out = torch.empty_like(base)
        one_pass = kernel.one_pass(out, dtype)
        assert one_pass is not None
        assert not one_pass()


@needs_compiler
def test_what_varies_most_over_the_parents_is_what_sce_keeps() -> None:
    base, *parents = tensors_of(3, 5000, torch.float32, seed=6)
    vectors = torch.stack(parents) - base
    variance = vectors.var(dim=0, unbiased=False)
    assert torch.equal(fused_overlap.variances([base, *parents]), variance)
    count = int(int(variance.count_nonzero()) * 0.3)
    kept = torch.argsort(variance, descending=True, stable=True)[:count]
    result = merged(instance("sce", 3, select_topk=0.3), base, parents, torch.float32, loops=True)
    assert set((result != base).nonzero().reshape(-1).tolist()) <= set(kept.tolist())
    assert int((result != base).sum()) > 0.9 * count


@needs_compiler
def test_counts_of_shared_and_own_changes_are_exact() -> None:
    base, *parents = tensors_of(3, 3000, torch.bfloat16, seed=7)
    active = torch.stack([(parent.float() - base.float()).abs() > 0.05 for parent in parents])
    several, alone = active & (active.sum(dim=0) > 1), active & (active.sum(dim=0) == 1)
    counts = fused_overlap.overlaps([base, *parents], 0.05)
    assert counts.tolist() == [several.sum(dim=1).tolist(), alone.sum(dim=1).tolist()]


@needs_compiler
def test_half_precision_is_rounded_as_torch_does() -> None:
    every_half = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16)
    words = torch.randint(-(1 << 31), (1 << 31) - 1, (1 << 16,), generator=torch.Generator().manual_seed(0))
    for dtype in (torch.bfloat16, torch.float16):
        halves = every_half.view(dtype)
        finite = halves[halves.isfinite()]
        wide = torch.empty(len(finite))
        assert summed(wide, torch.float32, finite, 1.0)
        assert torch.equal(wide, finite.float())
        numbers = words.to(torch.int32).view(torch.float32)
        numbers = numbers[numbers.isfinite()]
        out = torch.empty(len(numbers), dtype=dtype)
        summed(out, dtype, numbers, 1.0)
        assert torch.equal(out.view(torch.int16), numbers.to(dtype).view(torch.int16))


@needs_compiler
def test_a_value_that_overflows_the_result_is_noticed() -> None:
    large = torch.full((5,), 60_000.0)
    for dtype, fits in ((torch.float32, True), (torch.bfloat16, True), (torch.float16, False)):
        assert summed(torch.empty(5, dtype=dtype), dtype, large, 2.0) is fits
    assert not summed(torch.empty(5), torch.float16, large, 2.0)


@needs_compiler
@pytest.mark.parametrize("ties", ["first", "last"])
@pytest.mark.parametrize("ordered", [True, False])
def test_cuts_are_those_of_a_stable_sort(ties: str, *, ordered: bool) -> None:
    base, parent = tensors_of(1, 5000, torch.float32, seed=5)
    inputs = TensorInputs.of([parent], base)
    inputs.cache.budget = 1 << 20 if ordered else 0
    vector = TaskVector(inputs, inputs.parents[0])
    magnitudes = (parent - base).abs()
    order = torch.argsort(magnitudes, descending=True, stable=True)
    if ties == "last":
        order = 4999 - torch.argsort(magnitudes.flip(0), descending=True, stable=True)
    for count in (1, 2, 700, 2500, 4999, 5000):
        cut = magnitude_threshold(vector, count, ties="first" if ties == "first" else "last")
        kept = torch.cat([cut(span, (parent - base)[span]) for span in inputs.spans()])
        assert set(kept.nonzero().reshape(-1).tolist()) == set(order[:count].tolist())
    assert inputs.cache.holds(("order", vector.key)) is ordered


@needs_compiler
@pytest.mark.parametrize("kind", ["smooth", "mostly zero", "one value", "few values", "sorted", "unlike its sample"])
def test_the_nth_largest_is_found_whatever_the_sample_says(kind: str) -> None:
    """Tensors beyond the size of the sample; the last kind is large just where the sample does not look."""
    size, generator = 100_003, torch.Generator().manual_seed(7)
    entries = torch.randn(size, generator=generator)
    if kind == "mostly zero":
        entries[torch.rand(size, generator=generator) < 0.7] = 0
    elif kind == "one value":
        entries[:] = -2
    elif kind == "few values":
        entries = (entries * 4).round() / 4
    elif kind == "sorted":
        entries = entries.abs().sort().values
    elif kind == "unlike its sample":
        entries += 100 * (torch.arange(size) % ((size - 64) // 255) >= 64)
    magnitudes = entries.abs().sort(descending=True).values
    for count in (1, 2, 1_000, 50_001, 70_000, 99_000, size):
        bits, taken, equal = fused_ranking.nth_largest(entries, None, count)
        edge = magnitudes[count - 1]
        assert bits == edge.view(torch.int32)
        assert (taken, equal) == (int((magnitudes[:count] == edge).sum()), int((magnitudes == edge).sum()))


@pytest.mark.usefixtures("eager")
def test_without_a_compiler_everything_still_works() -> None:
    base, parent = tensors_of(1, 100, torch.float32, seed=1)
    inputs = TensorInputs.of([parent], base)
    assert not inputs.fusable
    assert isinstance(make_task_vector(inputs, inputs.parents[0], largest(0.5)).mask, ThresholdMask)


@needs_compiler
def test_the_library_is_built_once_and_again_when_its_place_is_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERGESEARCH_CACHE", str(tmp_path))
    native.load.cache_clear()
    try:
        assert native.load() is not None
        built = list((tmp_path / "loops").iterdir())
        assert len(built) == 1
        before = built[0].stat().st_mtime_ns
        native.load.cache_clear()
        assert native.load() is not None
        assert built[0].stat().st_mtime_ns == before
        monkeypatch.setenv("CXX", "no-such-compiler")
        native.load.cache_clear()
        assert native.load() is None
    finally:
        monkeypatch.undo()
        native.load.cache_clear()


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_entry_that_is_not_finite_is_found(dtype: torch.dtype) -> None:
    tensor = torch.full((1000,), torch.finfo(dtype).max, dtype=dtype)
    assert fused.all_finite(tensor)
    for value in (torch.inf, -torch.inf, torch.nan):
        spoiled = tensor.clone()
        spoiled[777] = value
        assert not fused.all_finite(spoiled)


@needs_compiler
def test_what_is_dropped_is_no_part_of_a_norm() -> None:
    base, parent = tensors_of(1, 3000, torch.float32, seed=2)
    inputs = TensorInputs.of([parent], base)
    vector = TaskVector(inputs, inputs.parents[0])
    cut = magnitude_threshold(vector, 1000)
    exact = (parent - base).abs().double().sort(descending=True).values[:1000].sum()
    assert masked_norm(vector, cut) == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("density", [0.0, 0.31, 0.99999, 1.0])
def test_sums_by_number_give_the_norm_of_every_random_mask(dtype: torch.dtype, density: float) -> None:
    size = mask_norms.SUMS_FROM + 77
    base, parent = tensors_of(1, size, dtype, seed=2)
    field = CounterDraws(3, ParentCache()).field(("parent 0", "tensor"), size, base)
    mask, found = RandomMask(field, limit_of(density)), []
    for loops in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not loops:
                patch.setattr(native, "load", lambda: None)
            inputs = TensorInputs.of([parent], base, draws=CounterDraws(3, ParentCache()))
            found.append(mask_norms.norms(TaskVector(inputs, inputs.parents[0]), mask, density))
    exact = (parent.float() - base.float()).abs().double()
    assert found[0] == found[1]
    assert found[0] == pytest.approx((float(exact.sum()), float(exact[field < mask.limit].sum())), rel=1e-12)
