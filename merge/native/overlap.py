"""The compiled loops of methods that look at how far each parent moved an entry.

In all of them the tensors are the base and then the parents, at most `MAX_TENSORS`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merge.native.tensors import LANES, OnePass, floats, loops, sources, target

Threshold: TypeAlias = tuple[float, int, int]
"""Entries above the first number are kept, and those equal to it from the second, an index, up to without the third."""


def ram(
    out: Tensor, dtype: torch.dtype, tensors: Sequence[Tensor], epsilon: float, factors: Sequence[float]
) -> OnePass:
    """Return what writes the base plus what one parent changed, times its factor, or the mean of what several did."""
    count = len(tensors) - 1
    return partial(loops().ram, target(out, dtype), count, sources(tensors), epsilon, floats(factors))


def overlaps(tensors: Sequence[Tensor], epsilon: float) -> npt.NDArray[np.int64]:
    """Return how many entries each parent changed with others, and how many alone: shape (2, parents)."""
    counts = np.zeros((2, len(tensors) - 1), dtype=np.int64)
    loops().overlaps(tensors[0].numel(), len(tensors) - 1, sources(tensors), epsilon, counts.ctypes.data)
    return counts


def nearswap(out: Tensor, dtype: torch.dtype, tensors: Sequence[Tensor], t: float) -> OnePass:
    """Return what writes the base with what is near taken from the one parent."""
    return partial(loops().nearswap, target(out, dtype), sources(tensors), t)


def sce(
    out: Tensor,
    dtype: torch.dtype,
    tensors: Sequence[Tensor],
    shares: Sequence[float],
    kept: tuple[Tensor, Threshold] | None,
) -> OnePass:
    """Return what writes the elected changes, each weighed by its parent's share; of all or those with a kept score."""
    read = tensors if kept is None else [*tensors, kept[0]]
    threshold = None if kept is None else _packed(kept[1])
    return partial(loops().sce, target(out, dtype), len(tensors) - 1, sources(read), threshold, floats(shares))


def variances(tensors: Sequence[Tensor]) -> Tensor:
    """Return each entry's population variance over the parents in float32."""
    out = torch.empty(tensors[0].numel())
    loops().variances(out.numel(), len(tensors) - 1, sources(tensors), out.data_ptr())
    return out


def energies(tensors: Sequence[Tensor], scores: Tensor, threshold: Threshold) -> list[float]:
    """Return the sum of squares of each parent's changes where the score is kept."""
    count = len(tensors) - 1
    lanes = np.zeros((count, LANES))
    loops().energies(scores.numel(), count, sources([*tensors, scores]), _packed(threshold), lanes.ctypes.data)
    return [float(row.sum()) for row in lanes]


def fusion(
    out: Tensor, dtype: torch.dtype, tensors: Sequence[Tensor], divergences: Tensor, row: int, threshold: float
) -> OnePass:
    """Return what writes the base, or the parent's entry where change times the row's divergence is enough."""
    return partial(loops().fusion, target(out, dtype), sources(tensors), divergences.data_ptr(), row, threshold)


def _packed(threshold: Threshold) -> bytes:
    value, first, last = threshold
    return struct.pack("=2qf4x", first, last, value)
