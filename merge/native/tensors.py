"""One pass over a tensor instead of one per operation, where the compiled loops and the tensors' memory allow it.

Everything here gives the bits that the same formula gives operation by operation; only time differs.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merge.native import compiler

LANES = 1024
"""Partial sums of a sum over a tensor: entry i belongs to number i mod LANES."""

MAX_TENSORS = 6
"""Tensors that one pass takes, the base not counted."""

OnePass: TypeAlias = Callable[[], object]
"""Writes a merged tensor in one pass; returns something true if every entry is finite."""

_KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
ADDED, ELECTED, SHARED = range(3)
"""How terms become one: all are added; those of the elected sign are; these over the sum of their weights."""

_SOURCE = struct.Struct("=2q")
_MIXTURE = struct.Struct("=4q")
_TARGET = struct.Struct("=4q")


def readable(tensors: Sequence[Tensor]) -> bool:
    """Return whether the loops can read these tensors: whole, on the CPU, of a dtype that they know."""
    for x in tensors:
        if not x.is_cpu or x.dtype not in _KINDS or not x.is_contiguous():
            return False
    return compiler.load() is not None


def weighted_sum(
    out: Tensor, dtype: torch.dtype, addresses: Sequence[tuple[int, int]], weights: Sequence[float]
) -> OnePass:
    """Return what writes the sum of weight times tensor, rounded to `dtype`, given where the tensors lie."""
    records = b"".join(_SOURCE.pack(*address) for address in addresses)
    return partial(loops().weighted_sum, target(out, dtype), len(addresses), records, floats(weights))


def combination(
    out: Tensor, dtype: torch.dtype, base: tuple[int, int], count: int, records: bytes, *, how: int, scale: float
) -> OnePass:
    """Return what writes base + scale times the combined task vectors, rounded to `dtype`.

    Args:
        out: Where the result goes.
        dtype: What it is rounded to first.
        base: Address and kind of the base.
        count: Number of task vectors.
        records: One after the other, as ``kernels/native_records.py`` packs them.
        how: `ADDED`, `ELECTED` or `SHARED`.
        scale: Factor of the sum.
    """
    return partial(loops().combination, target(out, dtype), _SOURCE.pack(*base), count, records, how, scale)


def projections(
    gradient: Tensor, tensors: Sequence[Tensor], base: Tensor, mixtures: Sequence[tuple[int, bytes, int, float]]
) -> list[float]:
    """Return the scalar products of a gradient with tensors, then with mixtures, in one pass over all of them.

    Args:
        gradient: Like all tensors here it is `readable`, and they have the same shape.
        tensors: Their products come first.
        base: What each mixture is added to.
        mixtures: Number of task vectors, their records, how they become one and the factor, as for `combination`.
    """
    sums, records = np.zeros(len(tensors) + len(mixtures)), [np.frombuffer(m[1], dtype=np.uint8) for m in mixtures]
    packed = b"".join(
        _MIXTURE.pack(record.ctypes.data, count, how, int(np.float32(scale).view(np.uint32)))
        for record, (count, _, how, scale) in zip(records, mixtures, strict=True)
    )
    given = len(tensors), sources(tensors), sources([base]), len(mixtures), packed, sums.ctypes.data
    loops().projections(gradient.numel(), sources([gradient]), *given)
    result: list[float] = sums.tolist()
    return result


def masked_norm(base: Tensor, record: bytes) -> float:
    """Return the L1 norm of what a mask keeps of a task vector, given the record of both."""
    lanes = np.zeros(LANES)
    loops().norms(base.numel(), sources([base]), record, lanes.ctypes.data)
    return float(lanes.sum())


def sums_by_number(tensor: Tensor, base: Tensor, field: Tensor, sums: npt.NDArray[np.float64]) -> None:
    """Add up the magnitudes of tensor - base whose number is at most -32768, -32767... into sums of zero."""
    loops().sums_by_number(base.numel(), sources([tensor]), sources([base]), field.data_ptr(), sums.ctypes.data)


def all_finite(tensor: Tensor) -> bool:
    """Return whether every entry of a tensor is finite."""
    return bool(loops().all_finite(tensor.numel(), sources([tensor])))


def product(first: Tensor, second: Tensor, base: Tensor | None = None) -> float:
    """Return the scalar product of two tensors, of their differences from the base if there is one."""
    lanes = np.zeros(LANES)
    root = None if base is None else sources([base])
    loops().products(first.numel(), sources([first]), sources([second]), root, lanes.ctypes.data)
    return float(lanes.sum())


def loops() -> Any:
    """Return the compiled loops, which must be there."""
    library = compiler.load()
    assert library is not None
    return library


def sources(tensors: Sequence[Tensor]) -> bytes:
    """Return how the loops are told where tensors lie."""
    return struct.pack(f"={2 * len(tensors)}q", *(word for x in tensors for word in (x.data_ptr(), _KINDS[x.dtype])))


def address_of(tensor: Tensor) -> tuple[int, int]:
    """Return the address of a tensor's first entry and the number of its dtype in the loops."""
    return tensor.data_ptr(), _KINDS[tensor.dtype]


def target(out: Tensor, dtype: torch.dtype) -> bytes:
    """Return how the loops are told where a result goes, and the dtype that it is rounded to first."""
    return _TARGET.pack(out.data_ptr(), _KINDS[out.dtype], _KINDS[dtype], out.numel())


def floats(numbers: Sequence[float]) -> bytes:
    """Return numbers in float32."""
    return struct.pack(f"={len(numbers)}f", *map(single, numbers))


def single(number: float) -> float:
    """Return a number as float32 has it: what is too large for that is infinite, as in a tensor, and no error here."""
    return ctypes.c_float(number).value
