"""The L1 norm of what a random mask keeps of a task vector: for every density at once, where a tensor is large.

The same random numbers decide at every density, so the norm at one density is the sum over the numbers below its limit.
One pass adds up the magnitudes by their entry's number; the sums below each number then answer for all densities.
"""

import numpy as np
import torch
from torch import Tensor

from merge.kernels.masks import STEPS, AbstractMask, RandomMask
from merge.kernels.native_records import combinable, masked_norm
from merge.kernels.task_vector import TaskVector
from merge.native import tensors as fused

SUMS_FROM = 4 * STEPS
"""Entries from which on sums are kept: they take as much memory as so many entries in bfloat16."""


def norms(vector: TaskVector, mask: AbstractMask, setting: object) -> tuple[float, float]:
    """Return the L1 norm of a task vector and that of what is kept of it.

    Args:
        vector: The task vector.
        mask: Which entries are kept.
        setting: What tells this dropping from others, for what is remembered.
    """
    inputs, cache = vector.inputs, vector.inputs.cache
    if isinstance(mask, RandomMask) and inputs.size >= SUMS_FROM and mask.field.device.type == "cpu":
        place, version = ("sums by number", vector.key), inputs.draws.version()
        sums = cache.tensor(place, lambda: _sums_by_number(vector, mask.field), version=version)
        return float(sums[-1]), float(sums[mask.limit + STEPS // 2])
    whole = cache.get(("l1", vector.key), lambda: _norm(vector, None))
    return whole, cache.get(("l1 kept", vector.key, setting), lambda: _norm(vector, mask))


def _norm(vector: TaskVector, mask: AbstractMask | None) -> float:
    inputs = vector.inputs
    if inputs.fusable and combinable([mask]):
        return masked_norm(vector, mask)
    return inputs.sum_of(lambda span: (vector.full(span) if mask is None else vector.masked(span)).abs_())


def _sums_by_number(vector: TaskVector, field: Tensor) -> Tensor:
    """Return the sum of the magnitudes whose number lies below -32768, -32767... up to 32768, in float64."""
    sums = np.zeros(STEPS + 1)
    if vector.inputs.fusable:
        fused.sums_by_number(vector.parent.raw, vector.inputs.base.raw, field, sums[1:])
        return torch.from_numpy(sums)
    for span in vector.inputs.spans():
        numbers = field[span].numpy().astype(np.int64) + STEPS // 2
        np.add.at(sums, numbers + 1, vector.full(span).abs_().double().numpy())
    return torch.from_numpy(sums.cumsum())
