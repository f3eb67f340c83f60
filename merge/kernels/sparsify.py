"""Dropping entries of a task vector: by magnitude, at random, outliers, or at random by rank.

Each function returns which entries are kept; :class:`TaskVector` applies it, and rescales if asked.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from merge.kernels.inputs import Group, Operand
from merge.kernels.mask_norms import norms
from merge.kernels.masks import STEPS, AbstractKeep, Band, Cut, RankedRandom, Stored
from merge.kernels.top_k import magnitude_cut
from merge.native import ranking as fused_ranking
from merge.native import tensors as fused

Sparsify = Callable[["TaskVector"], AbstractKeep | None]

DROPS = 10_000
"""Ways to drop of each kind that are remembered, so that the same one is one object."""


class TaskVector:
    """A parent minus the base, with entries dropped and what is left rescaled.

    Args:
        group: The tensor it belongs to.
        parent: The fine-tuned model's tensor.
        drop: What is dropped, None for nothing.
        rescale: Whether the L1 norm is brought back to that before dropping.
        setting: What tells this dropping from others, for what is remembered.
    """

    def __init__(
        self,
        group: Group,
        parent: Operand,
        drop: Sparsify | None = None,
        *,
        rescale: bool = False,
        setting: object = None,
    ) -> None:
        self.group = group
        self.parent = parent
        self.key = (parent.key, group.base.key)
        self.drawn = False
        self.told: dict[int, bytes] = {}
        self._factor: Tensor | float | None = None
        self.keep: AbstractKeep | None = None if drop is None or (self.is_zero and not group.stepwise) else drop(self)
        if rescale and self.keep is not None:
            self._factor = self._rescaling(setting)

    @cached_property
    def way(self) -> int:
        """How the compiled loops are told what is dropped, where they can be."""
        return fused.way_of(self.keep)

    @property
    def lasting(self) -> bool:
        """Whether it holds no tensor of its own, so that it may be kept beyond one merge."""
        return self.keep is None or isinstance(self.keep, Cut | Band)

    @property
    def factor(self) -> float:
        """What the entries that are left are multiplied with."""
        return 1.0 if self._factor is None else float(self._factor)

    @cached_property
    def is_zero(self) -> bool:
        """Whether the parent shares this tensor with the base."""
        return self.parent.identity == self.group.base.identity

    def full(self, span: slice = slice(None)) -> Tensor:
        """Return the entries of a span before any is dropped."""
        base = self.group.base[span]
        return self.parent[span].to(base.dtype) - base

    def __getitem__(self, span: slice) -> Tensor:
        entries = self.kept(span)
        if self._factor is None:
            return entries
        return self._work(entries).mul_(self._factor).to(entries.dtype)

    def kept(self, span: slice) -> Tensor:
        """Return the entries of a span, those that are dropped as 0, before rescaling."""
        entries = self.full(span)
        return entries if self.keep is None else entries.mul_(self.keep(span, entries))

    def _work(self, entries: Tensor) -> Tensor:
        """Return float16 as float32 where entries are dropped at random: so the reference does it on a CPU."""
        return entries.float() if self.drawn and entries.dtype == torch.float16 else entries

    def _rescaling(self, setting: object) -> Tensor | float | None:
        group = self.group
        if group.stepwise:
            before, after = self._work(self.full()).abs().sum(), self._work(self.kept(slice(None))).abs().sum()
            return None if before < 1e-7 or after < 1e-7 else before / after
        assert self.keep is not None
        whole, kept = norms(self, self.keep, setting)
        return None if whole < 1e-7 or kept < 1e-7 else whole / kept


@lru_cache(maxsize=DROPS)
def largest(density: float) -> Sparsify:
    """Keep the `density` share of entries that are largest in magnitude; of equal ones the first in memory.

    Source: P. Yadav et al., "TIES-Merging", NeurIPS 2023.
    """

    def drop(vector: TaskVector) -> AbstractKeep | None:
        size = vector.group.size
        if density >= 1 or size == 0:
            return None
        if vector.group.stepwise:
            order = torch.argsort(vector.full().abs().float(), descending=True)
            return Stored.of(order[: int(density * size)], size)
        return magnitude_cut(vector, max(1, int(density * size)))

    return drop


@lru_cache(maxsize=DROPS)
def at_random(density: float) -> Sparsify:
    """Keep each entry with the probability `density`.

    Source: L. Yu et al., "Language Models are Super Mario" (DARE), ICML 2024.
    """

    def drop(vector: TaskVector) -> AbstractKeep | None:
        if density >= 1:
            return None
        vector.drawn = True
        return vector.group.draws.mask(vector.parent.key, density, vector.group.size, vector.group.base[slice(0)])

    return drop


@lru_cache(maxsize=DROPS)
def between(density: float, gamma: float) -> Sparsify:
    """Drop the `gamma` share of largest entries and as many of the smallest that `density` is left.

    Source: M. Davari, E. Belilovsky, "Model Breadcrumbs", ECCV 2024.
    """

    def drop(vector: TaskVector) -> AbstractKeep | None:
        size = vector.group.size
        if density >= 1 or size == 0:
            return None
        target, top = int(density * size), int(gamma * size)
        bottom = size - target - top
        if bottom < 0:
            top, bottom = top + bottom, 0
        if vector.group.stepwise:
            order = torch.argsort(vector.full().abs().float())
            return Stored.of(order[bottom : size - top if top else 0], size)
        if target == 0:
            return Stored.of(torch.empty(0, dtype=torch.long), size)
        # Of equal entries the last in memory counts as the largest, as in the reference's ascending sort.
        kept = magnitude_cut(vector, target + top, ties="last")
        return kept if top == 0 else Band(kept, magnitude_cut(vector, top, ties="last"))

    return drop


@lru_cache(maxsize=DROPS)
def by_rank(density: float, epsilon: float) -> Sparsify:
    """Keep each entry with a probability that grows with its rank within its row, from density - epsilon to + epsilon.

    Source: P. T. Deep et al., "DELLA-Merging", 2024.
    """

    def drop(vector: TaskVector) -> AbstractKeep | None:
        group = vector.group
        if density >= 1:
            return None
        if density <= 0 or not group.size:
            return Stored.of(torch.empty(0, dtype=torch.long), group.size)
        if group.stepwise:
            entries, vector.drawn = vector.full(), True
            return group.draws.mask(vector.parent.key, _chance(vector, density, epsilon), group.size, entries)
        half = min(epsilon, density, 1 - density)
        if half < epsilon:
            # The same words for every tensor and density, so that it is said once.
            warnings.warn("epsilon of della is narrowed where density lies nearer to 0 or 1", stacklevel=2)
        field = group.draws.field(vector.parent.key, group.size, vector.parent.raw)
        rank = group.facts.tensor(("rank", vector.key), lambda: _ranks(vector))
        return RankedRandom(field, rank, _row_length(vector), density - half, half)

    return drop


def _row_length(vector: TaskVector) -> int:
    shape = vector.group.shape
    return shape[-1] if shape else 1


def _ranks(vector: TaskVector) -> Tensor:
    """Return the place of each entry in its row by magnitude; of equal ones the first in memory is smaller.

    Places are counted from -32768 as int16, in rows too long for that from 0 as int32.
    """
    row = _row_length(vector)
    if vector.group.fusable and row <= STEPS:
        return fused_ranking.ranks(vector.parent.raw, vector.group.base.raw, row)
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
