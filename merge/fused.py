"""One pass over a tensor instead of one per operation, where the compiled loops and the tensors' memory allow it.

Everything here gives the bits that the same formula gives operation by operation; only time differs.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merge import native
from merge.keeping import AbstractKeep, Band, Cut, Random, RankedRandom

if TYPE_CHECKING:
    from merge.sparsify import TaskVector

LANES = 1024
"""Partial sums of a sum over a tensor: entry i belongs to number i mod LANES."""

MOST = 6
"""Tensors that one pass takes."""

_KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_CUT, _BAND, _RANDOM, _RANKED = range(4)
_VECTOR = struct.Struct("=11q6f")
"""How the loops are told of one task vector; the same record in fused.cpp."""


def readable(tensors: Sequence[Tensor]) -> bool:
    """Return whether the loops can read these tensors: whole, on the CPU, of a dtype that they know."""
    known = all(x.device.type == "cpu" and x.dtype in _KINDS and x.is_contiguous() for x in tensors)
    return known and native.load() is not None


def combinable(keeps: Sequence[AbstractKeep | None]) -> bool:
    """Return whether the loops know how these task vectors drop entries: few, and all in one way or not at all."""
    kinds = {_way(keep) for keep in keeps if keep is not None}
    mixed = kinds == {_RANKED} and None in keeps
    return len(keeps) <= MOST and None not in kinds and not mixed and (len(kinds) <= 1 or kinds == {_CUT, _BAND})


def weighted_sum(out: Tensor, dtype: torch.dtype, tensors: Sequence[Tensor], weights: Sequence[float]) -> bool:
    """Write the sum of weight times tensor, rounded to `dtype`; return whether it is finite."""
    count = len(tensors)
    finite = _loops().weighted_sum(
        *_target(out, dtype),
        count,
        struct.pack(f"={count}q", *(x.data_ptr() for x in tensors)),
        struct.pack(f"={count}q", *(_KINDS[x.dtype] for x in tensors)),
        struct.pack(f"={count}f", *weights),
    )
    return bool(finite)


def combination(
    out: Tensor,
    dtype: torch.dtype,
    vectors: Sequence[TaskVector],
    weights: Sequence[float],
    *,
    vote: bool,
    normalize: bool,
    scale: float,
) -> bool:
    """Write base + scale times the combined task vectors, rounded to `dtype`; return whether it is finite."""
    table = _table(vectors, [vector.keep for vector in vectors], weights)
    finite = _loops().combination(
        *_target(out, dtype),
        *_source(vectors[0].group.base.raw),
        len(vectors),
        table,
        vote,
        normalize,
        scale,
    )
    return bool(finite)


def norm_of_kept(vector: TaskVector, keep: AbstractKeep | None) -> float:
    """Return the L1 norm of what is kept of a task vector."""
    base, lanes = vector.group.base.raw, np.zeros(LANES)
    _loops().norms(base.numel(), *_source(base), _table([vector], [keep], [1.0]), lanes.ctypes.data)
    return float(lanes.sum())


def all_finite(tensor: Tensor) -> bool:
    """Return whether every entry of a tensor is finite."""
    return bool(_loops().all_finite(tensor.numel(), *_source(tensor)))


def product(first: Tensor, second: Tensor, base: Tensor | None = None) -> float:
    """Return the scalar product of two tensors, of their differences from the base if there is one."""
    lanes = np.zeros(LANES)
    root = (0, 0) if base is None else _source(base)
    _loops().products(first.numel(), *_source(first), *_source(second), *root, lanes.ctypes.data)
    return float(lanes.sum())


def histogram(base: Tensor, parent: Tensor) -> npt.NDArray[np.int64]:
    """Return how many entries of a task vector have each value of the upper 16 bits of their magnitude."""
    counts = np.zeros(1 << 15, dtype=np.int64)
    _loops().histogram(base.numel(), *_source(base), *_source(parent), counts.ctypes.data)
    return counts


def refine(base: Tensor, parent: Tensor, number: int) -> npt.NDArray[np.int64]:
    """Return how many entries whose upper 16 bits of magnitude are `number` have each value of the lower 16."""
    counts = np.zeros(1 << 16, dtype=np.int64)
    _loops().refine(base.numel(), *_source(base), *_source(parent), number, counts.ctypes.data)
    return counts


def order(base: Tensor, parent: Tensor) -> Tensor:
    """Return the places of a task vector's entries as int32, largest magnitude first, of equal ones the first first."""
    places = torch.empty(base.numel(), dtype=torch.int32)
    _loops().order(base.numel(), *_source(base), *_source(parent), places.data_ptr())
    return places


def place_of(base: Tensor, parent: Tensor, magnitude: int, number: int) -> int:
    """Return the place of the number-th entry, from 1, whose magnitude has the given bits."""
    return int(_loops().place_of(base.numel(), *_source(base), *_source(parent), magnitude, number))


def _loops() -> Any:
    loops = native.load()
    assert loops is not None
    return loops


def _source(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), _KINDS[tensor.dtype]


def _target(out: Tensor, dtype: torch.dtype) -> tuple[int, int, int, int]:
    return out.data_ptr(), _KINDS[out.dtype], _KINDS[dtype], out.numel()


def _way(keep: AbstractKeep) -> int | None:
    if isinstance(keep, Cut | Band):
        return _CUT if isinstance(keep, Cut) else _BAND
    return _RANDOM if isinstance(keep, Random) else _RANKED if isinstance(keep, RankedRandom) else None


def _table(vectors: Sequence[TaskVector], keeps: Sequence[AbstractKeep | None], weights: Sequence[float]) -> bytes:
    """Return how the loops are told of task vectors; one that drops nothing is told in the way of the others."""
    ways = [None if keep is None else _way(keep) for keep in keeps]
    way = max((way for way in ways if way is not None), default=_CUT)
    drawn = next((keep for keep in keeps if isinstance(keep, Random)), None)
    records = []
    for vector, keep, weight in zip(vectors, keeps, weights, strict=True):
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
        numbers = (cut.threshold, dropped.threshold, lowest, spread, vector.factor, weight)
        records.append(_VECTOR.pack(*_source(vector.parent.raw), *whole, *numbers))
    return b"".join(records)
