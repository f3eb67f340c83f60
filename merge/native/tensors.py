"""One pass over a tensor instead of one per operation, where the compiled loops and the tensors' memory allow it.

Everything here gives the bits that the same formula gives operation by operation; only time differs.
"""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merge.kernels.masks import AbstractKeep, Band, Cut, Random, RankedRandom
from merge.native import compiler as native

if TYPE_CHECKING:
    from merge.kernels.sparsify import TaskVector

LANES = 1024
"""Partial sums of a sum over a tensor: entry i belongs to number i mod LANES."""

MOST = 6
"""Tensors that one pass takes, the base not counted."""

Pass: TypeAlias = Callable[[], object]
"""Writes a merged tensor in one pass; returns something true if every entry is finite."""

_KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_CUT, _BAND, _RANDOM, _RANKED, _ALL = range(5)
_ADDED, _ELECTED, _SHARED = range(3)
DROPS_NOTHING = -1
"""The way of a task vector that keeps all of its entries: any other's."""

_VECTOR = struct.Struct("=11q5f")
"""How the loops are told of one task vector, less its weight; the same record in loops/vectors.h."""
_WEIGHT = struct.Struct("=f")
_SOURCE = struct.Struct("=2q")
_TARGET = struct.Struct("=4q")


def readable(tensors: Sequence[Tensor]) -> bool:
    """Return whether the loops can read these tensors: whole, on the CPU, of a dtype that they know."""
    for x in tensors:
        if not x.is_cpu or x.dtype not in _KINDS or not x.is_contiguous():
            return False
    return native.load() is not None


def way_of(keep: AbstractKeep | None) -> int:
    """Return how the loops are told which entries are kept: a number, the largest of several vectors' holds for all."""
    way = DROPS_NOTHING if keep is None else _way(keep)
    assert way is not None
    return way


def combinable(keeps: Sequence[AbstractKeep | None]) -> bool:
    """Return whether the loops know how these task vectors drop entries: few, and all in one way or not at all."""
    if len(keeps) > MOST:
        return False
    kinds = {_way(keep) for keep in keeps if keep is not None}
    mixed = kinds == {_RANKED} and None in keeps
    return None not in kinds and not mixed and (len(kinds) <= 1 or kinds == {_CUT, _BAND})


def weighted_sum(out: Tensor, dtype: torch.dtype, places: Sequence[tuple[int, int]], weights: Sequence[float]) -> Pass:
    """Return what writes the sum of weight times tensor, rounded to `dtype`, given where the tensors lie."""
    told = b"".join(_SOURCE.pack(*place) for place in places)
    return partial(loops().weighted_sum, target(out, dtype), len(places), told, floats(weights))


def combination(
    out: Tensor,
    dtype: torch.dtype,
    vectors: Sequence[TaskVector],
    weights: Sequence[float],
    *,
    vote: bool,
    normalize: bool,
    scale: float,
) -> Pass:
    """Return what writes base + scale times the combined task vectors, rounded to `dtype`."""
    table = _table(vectors, weights)
    how = _ADDED if not vote else _SHARED if normalize else _ELECTED
    base = _SOURCE.pack(*vectors[0].group.base.place)
    return partial(loops().combination, target(out, dtype), base, len(vectors), table, how, scale)


def norm_of_kept(vector: TaskVector, keep: AbstractKeep | None) -> float:
    """Return the L1 norm of what is kept of a task vector."""
    base, lanes = vector.group.base.raw, np.zeros(LANES)
    way = _ALL if keep is None else _way(keep)
    assert way is not None
    loops().norms(
        base.numel(), sources([base]), _record(vector, keep, way, None) + _WEIGHT.pack(1.0), lanes.ctypes.data
    )
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
    library = native.load()
    assert library is not None
    return library


def sources(tensors: Sequence[Tensor]) -> bytes:
    """Return how the loops are told where tensors lie."""
    return struct.pack(f"={2 * len(tensors)}q", *(word for x in tensors for word in (x.data_ptr(), _KINDS[x.dtype])))


def place_of(tensor: Tensor) -> tuple[int, int]:
    """Return where a tensor lies and of what kind it is."""
    return tensor.data_ptr(), _KINDS[tensor.dtype]


def target(out: Tensor, dtype: torch.dtype) -> bytes:
    """Return how the loops are told where a result goes, and the dtype that it is rounded to first."""
    return _TARGET.pack(out.data_ptr(), _KINDS[out.dtype], _KINDS[dtype], out.numel())


def floats(numbers: Sequence[float]) -> bytes:
    """Return numbers in float32."""
    return struct.pack(f"={len(numbers)}f", *map(_single, numbers))


def _single(number: float) -> float:
    """Return a number as float32 has it: what is too large for that is infinite, as in a tensor, and no error here."""
    return ctypes.c_float(number).value


def _way(keep: AbstractKeep) -> int | None:
    if isinstance(keep, Cut | Band):
        return _CUT if isinstance(keep, Cut) else _BAND
    if isinstance(keep, RankedRandom):
        return _RANKED if keep.rank.dtype == torch.int16 else None
    return _RANDOM if isinstance(keep, Random) else None


def _table(vectors: Sequence[TaskVector], weights: Sequence[float]) -> bytes:
    """Return how the loops are told of task vectors; one that drops nothing is told in the way of the others."""
    way = max([vector.way for vector in vectors])
    way = _ALL if way == DROPS_NOTHING else way
    drawn = None if way != _RANDOM else next(v.keep for v in vectors if isinstance(v.keep, Random))
    records: list[bytes] = []
    for vector, weight in zip(vectors, weights, strict=True):
        record = vector.told.get(way)
        if record is None:
            record = _record(vector, vector.keep, way, drawn)
            if vector.lasting and way in {_CUT, _ALL}:
                vector.told[way] = record
        records += (record, _WEIGHT.pack(_single(weight)))
    return b"".join(records)


def _record(vector: TaskVector, keep: AbstractKeep | None, way: int, drawn: Random | None) -> bytes:
    """Return how the loops are told of one task vector, whose `keep` is None where it takes the way of `drawn`."""
    cut, dropped = Cut(0.0, 0, vector.group.size), Cut(math.inf, 0, 0)
    field = limit = rank = row = 0
    lowest = spread = 0.0
    if isinstance(keep, Cut):
        cut = keep
    elif isinstance(keep, Band):
        cut, dropped = keep.kept, keep.dropped
    elif isinstance(keep, Random):
        field, limit = keep.field.data_ptr(), keep.limit
    elif isinstance(keep, RankedRandom):
        field, rank, row = keep.field.data_ptr(), keep.rank.data_ptr(), keep.row
        lowest, spread = keep.lowest, keep.spread
    elif drawn is not None:
        field, limit = drawn.field.data_ptr(), 1 << 16
    whole = (way, cut.first, cut.last, dropped.first, dropped.last, field, limit, rank, row)
    numbers = (cut.threshold, dropped.threshold, lowest, spread, _single(vector.factor))
    return _VECTOR.pack(*vector.parent.place, *whole, *numbers)
