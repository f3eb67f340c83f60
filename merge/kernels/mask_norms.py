"""The L1 norm of what a random mask keeps of a task vector: for every density at once, where a tensor is large.

The same random numbers decide at every density, so the norm at one density is the sum over the numbers below its limit.
One pass adds up the magnitudes by their entry's number; the sums below each number then answer for all densities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from merge.kernels.masks import STEPS, AbstractKeep, Random
from merge.native import tensors as fused

if TYPE_CHECKING:
    from torch import Tensor

    from merge.kernels.sparsify import TaskVector

FROM = 4 * STEPS
"""Entries from which on sums are kept: they take as much memory as so many entries in bfloat16."""


def norms(vector: TaskVector, keep: AbstractKeep, setting: object) -> tuple[float, float]:
    """Return the L1 norm of a task vector and that of what is kept of it.

    Args:
        vector: The task vector.
        keep: What is kept.
        setting: What tells this dropping from others, for what is remembered.
    """
    group, facts = vector.group, vector.group.facts
    if isinstance(keep, Random) and group.size >= FROM and keep.field.device.type == "cpu":
        place, version = ("sums by number", vector.key), group.draws.version()
        sums = facts.tensor(place, lambda: _sums_by_number(vector, keep.field), version=version)
        return float(sums[-1]), float(sums[keep.limit + STEPS // 2])
    whole = facts.get(("l1", vector.key), lambda: _norm(vector, None))
    return whole, facts.get(("l1 kept", vector.key, setting), lambda: _norm(vector, keep))


def _norm(vector: TaskVector, keep: AbstractKeep | None) -> float:
    group = vector.group
    if group.fusable and fused.combinable([keep]):
        return fused.norm_of_kept(vector, keep)
    return group.sum_of(lambda span: (vector.full(span) if keep is None else vector.kept(span)).abs_())


def _sums_by_number(vector: TaskVector, field: Tensor) -> Tensor:
    """Return the sum of the magnitudes whose number lies below -32768, -32767... up to 32768, in float64."""
    sums = np.zeros(STEPS + 1)
    if vector.group.fusable:
        fused.sums_by_number(vector.parent.raw, vector.group.base.raw, field, sums[1:])
        return torch.from_numpy(sums)
    for span in vector.group.spans():
        numbers = field[span].numpy().astype(np.int64) + STEPS // 2
        np.add.at(sums, numbers + 1, vector.full(span).abs_().double().numpy())
    return torch.from_numpy(sums.cumsum())
