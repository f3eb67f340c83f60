"""Dropping entries of a task vector: by magnitude, at random, outliers, or at random by rank.

Each function returns what makes the mask of a task vector; `make_task_vector` applies it, and rescales if asked.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from merge.kernels.inputs import Operand, TensorInputs
from merge.kernels.mask_norms import norms
from merge.kernels.masks import STEPS, AbstractMask, BandMask, RankedRandomMask, StoredMask
from merge.kernels.task_vector import TaskVector
from merge.kernels.top_k import magnitude_threshold
from merge.native import ranking as fused_ranking

Sparsify = Callable[[TaskVector], AbstractMask | None]
"""Gives the mask of a task vector; None keeps all entries."""

MAX_CACHED = 10_000
"""Settings of each kind that are remembered, so that equal ones are one object."""


def make_task_vector(
    inputs: TensorInputs,
    parent: Operand,
    sparsify: Sparsify | None = None,
    *,
    rescale: bool = False,
    setting: object = None,
) -> TaskVector:
    """Return a parent minus the base with its mask, then the factor that brings back the L1 norm.

    Args:
        inputs: The tensor it belongs to.
        parent: The fine-tuned model's tensor.
        sparsify: Gives the mask; None keeps all entries.
        rescale: Whether the L1 norm is brought back to that before dropping.
        setting: What tells this way of dropping from others, for what is remembered.
    """
    vector = TaskVector(inputs, parent)
    if sparsify is not None and (inputs.stepwise or not vector.is_zero):
        vector.mask = sparsify(vector)
    if rescale and vector.mask is not None:
        vector.factor = _rescaling(vector, vector.mask, setting)
    return vector


def _rescaling(vector: TaskVector, mask: AbstractMask, setting: object) -> Tensor | float | None:
    if vector.inputs.stepwise:
        before, after = (
            vector.computed(entries).abs().sum() for entries in (vector.full(), vector.masked(slice(None)))
        )
        return None if before < 1e-7 or after < 1e-7 else before / after
    whole, kept = norms(vector, mask, setting)
    return None if whole < 1e-7 or kept < 1e-7 else whole / kept


@lru_cache(maxsize=MAX_CACHED)
def largest(density: float) -> Sparsify:
    """Keep the `density` share of entries that are largest in magnitude; of equal ones the first in memory.

    Source: P. Yadav et al., "TIES-Merging", NeurIPS 2023.
    """

    def mask_of(vector: TaskVector) -> AbstractMask | None:
        size = vector.inputs.size
        if density >= 1 or size == 0:
            return None
        if vector.inputs.stepwise:
            order = torch.argsort(vector.full().abs().float(), descending=True)
            return StoredMask.of(order[: int(density * size)], size)
        return magnitude_threshold(vector, max(1, int(density * size)))

    return mask_of


@lru_cache(maxsize=MAX_CACHED)
def at_random(density: float) -> Sparsify:
    """Keep each entry with the probability `density`.

    Source: L. Yu et al., "Language Models are Super Mario" (DARE), ICML 2024.
    """

    def mask_of(vector: TaskVector) -> AbstractMask | None:
        if density >= 1:
            return None
        vector.in_float32 = True
        return vector.inputs.draws.mask(vector.parent.key, density, vector.inputs.size, vector.inputs.base[slice(0)])

    return mask_of


@lru_cache(maxsize=MAX_CACHED)
def between(density: float, gamma: float) -> Sparsify:
    """Drop the `gamma` share of largest entries and as many of the smallest that `density` is left.

    Source: M. Davari, E. Belilovsky, "Model Breadcrumbs", ECCV 2024.
    """

    def mask_of(vector: TaskVector) -> AbstractMask | None:
        size = vector.inputs.size
        if density >= 1 or size == 0:
            return None
        target, top = int(density * size), int(gamma * size)
        bottom = size - target - top
        if bottom < 0:
            top, bottom = top + bottom, 0
        if vector.inputs.stepwise:
            order = torch.argsort(vector.full().abs().float())
            return StoredMask.of(order[bottom : size - top if top else 0], size)
        if target == 0:
            return StoredMask.of(torch.empty(0, dtype=torch.long), size)
        # Of equal entries the last in memory counts as the largest, as in the reference's ascending sort.
        kept = magnitude_threshold(vector, target + top, ties="last")
        return kept if top == 0 else BandMask(kept, magnitude_threshold(vector, top, ties="last"))

    return mask_of


@lru_cache(maxsize=MAX_CACHED)
def by_rank(density: float, epsilon: float) -> Sparsify:
    """Keep each entry with a probability that grows with its rank within its row, from density - epsilon to + epsilon.

    Source: P. T. Deep et al., "DELLA-Merging", 2024.
    """

    def mask_of(vector: TaskVector) -> AbstractMask | None:
        inputs = vector.inputs
        if density >= 1:
            return None
        if density <= 0 or not inputs.size:
            return StoredMask.of(torch.empty(0, dtype=torch.long), inputs.size)
        if inputs.stepwise:
            entries, vector.in_float32 = vector.full(), True
            return inputs.draws.mask(vector.parent.key, _chance(vector, density, epsilon), inputs.size, entries)
        half = min(epsilon, density, 1 - density)
        if half < epsilon:
            # The same words for every tensor and density, so that it is said once.
            warnings.warn("epsilon of della is narrowed where density lies nearer to 0 or 1", stacklevel=2)
        field = inputs.draws.field(vector.parent.key, inputs.size, vector.parent.raw)
        rank = inputs.cache.tensor(("rank", vector.key), lambda: _ranks(vector))
        return RankedRandomMask(field, rank, _row_length(vector), density - half, half)

    return mask_of


def _row_length(vector: TaskVector) -> int:
    shape = vector.inputs.shape
    return shape[-1] if shape else 1


def _ranks(vector: TaskVector) -> Tensor:
    """Return the place of each entry in its row by magnitude; of equal ones the first in memory is smaller.

    Places are counted from -32768 as int16, in rows too long for that from 0 as int32.
    """
    row = _row_length(vector)
    if vector.inputs.fusable and row <= STEPS:
        return fused_ranking.ranks(vector.parent.raw, vector.inputs.base.raw, row)
    rows = vector.full().abs().view(-1, row)
    order = torch.argsort(rows, dim=1, stable=True)
    line = torch.arange(row, device=rows.device, dtype=torch.int32)
    ranks = torch.empty_like(rows, dtype=torch.int32).scatter_(1, order, line.expand_as(order)).reshape(-1)
    return ranks.sub_(STEPS // 2).to(torch.int16) if row <= STEPS else ranks


def _chance(vector: TaskVector, density: float, epsilon: float) -> Tensor:
    """Return the probability of each entry in the reference's steps and dtype."""
    rows = vector.full().abs().view(-1, _row_length(vector))
    work = torch.float32 if rows.dtype == torch.float16 else rows.dtype
    order = torch.argsort(rows.to(work), dim=1)
    ranks = torch.empty_like(rows, dtype=work)
    line = torch.arange(1, rows.shape[1] + 1, device=rows.device).to(work)
    ranks.scatter_(1, order, line.expand_as(order))
    low, high = ranks.min(dim=1, keepdim=True).values, ranks.max(dim=1, keepdim=True).values
    share = ((ranks - low) / (high - low)).nan_to_num(nan=0.5) if rows.shape[1] > 1 else ranks * 0 + 0.5
    return ((density - epsilon) + share * 2 * epsilon).reshape(-1)


def rank_fault(densities: Sequence[float], epsilons: Sequence[float]) -> str | None:
    """Return what is wrong when a probability of `by_rank` leaves (0, 1), where the reference stops."""
    for density, epsilon in zip(densities, epsilons, strict=True):
        if 0 < density < 1 and not (density - epsilon > 0 and density + epsilon < 1):
            return f"density: must lie further than epsilon from 0 and 1, got {density:g} with epsilon {epsilon:g}"
    return None
