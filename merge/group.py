"""What a method sees of one output tensor: its parents, its base, what is known of them, and random numbers."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from merge.arithmetic import Arithmetic
from merge.masks import AbstractDraws, CounterDraws
from merge.prepared import Facts

BLOCK = 1 << 15
"""Entries per block: temporaries stay in a core's cache, and torch runs operations of this size on one thread.

Two threads per operation were tried with larger blocks: on a busy machine the barriers made it 10 to 50 times slower.
"""

Key = tuple[str, str]


class Operand:
    """One parent's tensor, read when it is needed.

    Args:
        key: Model reference and tensor name.
        load: Reads the tensor.
        arithmetic: Dtype of what is handed out.
        identity: What the bytes are; parents that share a tensor (an adapter that leaves it alone) are equal here.
    """

    def __init__(
        self, key: Key, load: Callable[[], Tensor], arithmetic: Arithmetic, identity: Key | None = None
    ) -> None:
        self.key = key
        self.identity = key if identity is None else identity
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

    def __getitem__(self, span: slice) -> Tensor:
        return self._arithmetic.operand(self.flat[span])

    @cached_property
    def whole(self) -> Tensor:
        """The whole tensor in the dtype of the arithmetic."""
        return self._arithmetic.operand(self.raw)


class Group:
    """The parents of one output tensor.

    Args:
        name: Name of the output tensor.
        shape: Its shape.
        parents: The parents in listed order; without the base, unless the method ignores base models.
        base: The base model's tensor, if the method has one.
        arithmetic: How numbers are computed.
        draws: Where random masks come from.
        facts: What is known of the parents already.
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
        facts: Facts,
    ) -> None:
        self.name = name
        self.shape = torch.Size(shape)
        self.parents = tuple(parents)
        self.optional_base = base
        self.arithmetic = arithmetic
        self.draws = draws
        self.facts = facts

    @classmethod
    def of(
        cls,
        parents: Sequence[Tensor],
        base: Tensor | None = None,
        *,
        arithmetic: Arithmetic | None = None,
        draws: AbstractDraws | None = None,
    ) -> "Group":
        """Build a group from tensors in memory, the parents called ``parent 0``, ``parent 1``..."""
        how, facts = arithmetic or Arithmetic(), Facts()
        operands = [_in_memory(f"parent {index}", tensor, how) for index, tensor in enumerate(parents)]
        first = None if base is None else _in_memory("base", base, how)
        shape = (parents[0] if base is None else base).shape
        source = draws or CounterDraws(0, facts)
        return cls("tensor", shape, operands, first, arithmetic=how, draws=source, facts=facts)

    @property
    def base(self) -> Operand:
        """The base model's tensor, of a method that requires one."""
        assert self.optional_base is not None
        return self.optional_base

    @property
    def stepwise(self) -> bool:
        """Whether the reference is followed step by step."""
        return self.arithmetic.stepwise

    @property
    def size(self) -> int:
        """Number of entries."""
        return prod(self.shape)

    def spans(self) -> Iterator[slice]:
        """Return the blocks of the flattened tensor; one block when following the reference, or on a GPU."""
        size = self.size
        block = max(size, 1) if self.stepwise or self._on_accelerator() else BLOCK
        return (slice(start, min(start + block, size)) for start in range(0, size, block))

    def sum_of(self, values: Callable[[slice], Tensor]) -> float:
        """Return the sum over all blocks; the same for any number of threads."""
        return sum(_block_sum(values(span)) for span in self.spans())

    def _on_accelerator(self) -> bool:
        operands = [*self.parents, *([] if self.optional_base is None else [self.optional_base])]
        return any(operand.raw.device.type != "cpu" for operand in operands[:1])


def _in_memory(name: str, tensor: Tensor, arithmetic: Arithmetic) -> Operand:
    return Operand((name, "tensor"), lambda: tensor, arithmetic)


def _block_sum(block: Tensor) -> float:
    rows = block.numel() // 1024
    cut = rows * 1024
    head = block[:cut].view(rows, 1024).sum(dim=1) if rows else block[:0]
    return float(head.double().sum()) + float(block[cut:].double().sum())
