"""What a method sees of one output tensor: its parents, its base, what is known of them, and random numbers."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cached_property
from math import prod
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from merge.kernels.arithmetic import Arithmetic
from merge.kernels.random_draws import AbstractDraws, CounterDraws
from merge.memory.cache import ParentCache
from merge.native import tensors as fused

BLOCK = 1 << 15
"""Entries per block: temporaries stay in a core's cache, and torch runs operations of this size on one thread.

Two threads per operation were tried with larger blocks: on a busy machine the barriers made it 10 to 50 times slower.
"""

Key = tuple[str, str]
Matrix: TypeAlias = "np.ndarray[tuple[int, int], np.dtype[np.float64]]"


class Operand:
    """One parent's tensor, read when it is needed.

    Args:
        key: Model reference and tensor name.
        load: Reads the tensor.
        arithmetic: Dtype of what is handed out.
        identity: What the bytes are; parents that share a tensor (an adapter that leaves it alone) are equal here.
        cache_key: Where the tensor is kept if it was computed or moved; None if it is mapped from a file.
    """

    def __init__(
        self,
        key: Key,
        load: Callable[[], Tensor],
        arithmetic: Arithmetic,
        identity: Key | None = None,
        *,
        cache_key: Hashable | None = None,
    ) -> None:
        self.key = key
        self.identity = key if identity is None else identity
        self.cache_key = cache_key
        self._load = load
        self._arithmetic = arithmetic

    @cached_property
    def raw(self) -> Tensor:
        """The tensor as stored."""
        return self._load()

    @cached_property
    def flat(self) -> Tensor:
        """The tensor as stored, as one row."""
        return self.raw.reshape(-1)

    @cached_property
    def address(self) -> tuple[int, int]:
        """Where the compiled loops find the tensor as stored, and the number of its dtype there."""
        return fused.address_of(self.raw)

    def __getitem__(self, span: slice) -> Tensor:
        return self._arithmetic.operand(self.flat[span])

    @cached_property
    def whole(self) -> Tensor:
        """The whole tensor in the dtype of the arithmetic."""
        return self._arithmetic.operand(self.raw)


class TensorInputs:
    """The parents of one output tensor.

    Args:
        name: Name of the output tensor.
        shape: Its shape.
        parents: The parents in listed order; without the base, unless the method ignores base models.
        base: The base model's tensor, if the method has one.
        arithmetic: How numbers are computed.
        draws: Where random masks come from.
        cache: What is known of the parents already.
    """

    def __init__(
        self,
        name: str,
        shape: Sequence[int],
        parents: Sequence[Operand],
        base: Operand | None,
        *,
        arithmetic: Arithmetic,
        draws: AbstractDraws,
        cache: ParentCache,
    ) -> None:
        self.name = name
        self.shape = torch.Size(shape)
        self.parents = tuple(parents)
        self.optional_base = base
        self.arithmetic = arithmetic
        self.draws = draws
        self.cache = cache
        self.vectors: dict[int, tuple[Hashable, object]] | None = None
        """Task vectors made last, by parent; None in a inputs that goes after its use, since they hold it in turn."""

    @classmethod
    def of(
        cls,
        parents: Sequence[Tensor],
        base: Tensor | None = None,
        *,
        arithmetic: Arithmetic | None = None,
        draws: AbstractDraws | None = None,
    ) -> "TensorInputs":
        """Build a inputs from tensors in memory, the parents called ``parent 0``, ``parent 1``..."""
        how, cache = arithmetic or Arithmetic(), ParentCache()
        operands = [_in_memory(f"parent {index}", tensor, how) for index, tensor in enumerate(parents)]
        first = None if base is None else _in_memory("base", base, how)
        shape = (parents[0] if base is None else base).shape
        source = draws or CounterDraws(0, cache)
        return cls("tensor", shape, operands, first, arithmetic=how, draws=source, cache=cache)

    @cached_property
    def operands(self) -> tuple[Operand, ...]:
        """The parents, then the base if there is one."""
        return self.parents if self.optional_base is None else (*self.parents, self.optional_base)

    @cached_property
    def nbytes(self) -> int:
        """Bytes that the parents and the base hold as stored."""
        return sum(operand.raw.nbytes for operand in self.operands)

    @property
    def base(self) -> Operand:
        """The base model's tensor, of a method that requires one."""
        assert self.optional_base is not None
        return self.optional_base

    @property
    def stepwise(self) -> bool:
        """Whether the reference is followed step by step."""
        return self.arithmetic.stepwise

    @cached_property
    def size(self) -> int:
        """Number of entries."""
        return prod(self.shape)

    def spans(self) -> Iterator[slice]:
        """Return the blocks of the flattened tensor; one block when following the reference, or on a GPU."""
        size = self.size
        block = max(size, 1) if self.stepwise or self._on_accelerator() else BLOCK
        return (slice(start, min(start + block, size)) for start in range(0, size, block))

    @cached_property
    def fusable(self) -> bool:
        """Whether formulas over the parents can run as one pass."""
        return not self.stepwise and fused.readable([operand.raw for operand in self.operands])

    def sum_of(self, values: Callable[[slice], Tensor]) -> float:
        """Return the sum over all blocks in float64; on a CPU in an order that the compiled loops have too."""
        if self._on_accelerator():
            return sum(float(values(span).double().sum()) for span in self.spans())
        lanes = np.zeros(fused.LANES)
        for span in self.spans():
            block = values(span).double().numpy()
            whole = len(block) // fused.LANES * fused.LANES
            lanes = np.add.reduce(np.vstack((lanes, block[:whole].reshape(-1, fused.LANES))), axis=0)
            lanes[: len(block) - whole] += block[whole:]
        return float(lanes.sum())

    def gram(self, *, offsets: bool = False) -> Matrix:
        """Return the scalar products of the parents, or of their offsets from the base; remembered."""
        count = len(self.parents)
        root = self.base if offsets else None
        products = np.empty((count, count))
        for i in range(count):
            for j in range(i + 1):
                products[i, j] = products[j, i] = self.product(self.parents[i], self.parents[j], root)
        return products

    def product(self, first: Operand, second: Operand, base: Operand | None = None) -> float:
        """Return the scalar product of two tensors, or of their offsets from the base, in float64; remembered."""
        key = ("product", first.key, second.key, None if base is None else base.key)
        return self.cache.get(key, lambda: self._product(first, second, base))

    def _product(self, first: Operand, second: Operand, base: Operand | None) -> float:
        if self.fusable:
            return fused.product(first.raw, second.raw, None if base is None else base.raw)

        def block(operand: Operand, span: slice) -> Tensor:
            return (operand[span] if base is None else operand[span] - base[span]).double()

        return self.sum_of(lambda span: block(first, span).mul_(block(second, span)))

    def _on_accelerator(self) -> bool:
        return any(operand.raw.device.type != "cpu" for operand in self.operands[:1])


def _in_memory(name: str, tensor: Tensor, arithmetic: Arithmetic) -> Operand:
    return Operand((name, "tensor"), lambda: tensor, arithmetic)
