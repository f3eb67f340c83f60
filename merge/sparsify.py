"""Dropping entries of a task vector: by magnitude, at random, outliers, or at random by rank.

Each function returns which entries are kept; :class:`TaskVector` applies it, and rescales if asked.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from merge.group import Group, Operand
from merge.masks import Keep
from merge.selection import magnitude_cut

Sparsify = Callable[["TaskVector"], Keep | None]


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
        self._factor: Tensor | float | None = None
        self._keep = None if drop is None or (self.is_zero and not group.stepwise) else drop(self)
        if rescale and self._keep is not None:
            self._factor = self._rescaling(setting)

    @property
    def is_zero(self) -> bool:
        """Whether the parent shares this tensor with the base."""
        return self.parent.identity == self.group.base.identity

    def full(self, span: slice = slice(None)) -> Tensor:
        """Return the entries of a span before any is dropped."""
        base = self.group.base[span]
        return self.parent[span].to(base.dtype) - base

    def __getitem__(self, span: slice) -> Tensor:
        entries = self._kept(span)
        if self._factor is None:
            return entries
        return self._work(entries).mul_(self._factor).to(entries.dtype)

    def _kept(self, span: slice) -> Tensor:
        entries = self.full(span)
        return entries if self._keep is None else entries.mul_(self._keep(span, entries))

    @staticmethod
    def _work(entries: Tensor) -> Tensor:
        """Return float16 as float32, in which the reference drops and rescales on a CPU."""
        return entries.float() if entries.dtype == torch.float16 else entries

    def _rescaling(self, setting: object) -> Tensor | float | None:
        facts, group = self.group.facts, self.group
        if group.stepwise:
            before, after = self._work(self.full()).abs().sum(), self._work(self._kept(slice(None))).abs().sum()
            return None if before < 1e-7 or after < 1e-7 else before / after
        whole = facts.get(("l1", self.key), lambda: group.sum_of(lambda span: self.full(span).abs_()))
        kept = facts.get(("l1 kept", self.key, setting), lambda: group.sum_of(lambda span: self._kept(span).abs_()))
        return None if whole < 1e-7 or kept < 1e-7 else whole / kept


def largest(density: float) -> Sparsify:
    """Keep the `density` share of entries that are largest in magnitude; of equal ones the first in memory.

    Source: P. Yadav et al., "TIES-Merging", NeurIPS 2023.
    """

    def drop(vector: TaskVector) -> Keep | None:
        size = vector.group.size
        if density >= 1 or size == 0:
            return None
        if vector.group.stepwise:
            order = torch.argsort(vector.full().abs().float(), descending=True)
            return _stored(order[: int(density * size)], size)
        return magnitude_cut(vector.group, vector.key, vector.full, max(1, int(density * size))).mask

    return drop


def at_random(density: float) -> Sparsify:
    """Keep each entry with the probability `density`.

    Source: L. Yu et al., "Language Models are Super Mario" (DARE), ICML 2024.
    """

    def drop(vector: TaskVector) -> Keep | None:
        if density >= 1:
            return None
        return vector.group.draws.mask(vector.parent.key, density, vector.group.base[slice(None)])

    return drop


def between(density: float, gamma: float) -> Sparsify:
    """Drop the `gamma` share of largest entries and as many of the smallest that `density` is left.

    Source: M. Davari, E. Belilovsky, "Model Breadcrumbs", ECCV 2024.
    """

    def drop(vector: TaskVector) -> Keep | None:
        size = vector.group.size
        if density >= 1 or size == 0:
            return None
        target, top = int(density * size), int(gamma * size)
        bottom = size - target - top
        if bottom < 0:
            top, bottom = top + bottom, 0
        magnitudes = vector.full().abs()
        order = torch.argsort(magnitudes.float(), stable=not vector.group.stepwise)
        end = size - top if top or not vector.group.stepwise else 0
        return _stored(order[bottom:end], size)

    return drop


def by_rank(density: float, epsilon: float) -> Sparsify:
    """Keep each entry with a probability that grows with its rank within its row, from density - epsilon to + epsilon.

    Source: P. T. Deep et al., "DELLA-Merging", 2024.
    """

    def drop(vector: TaskVector) -> Keep | None:
        group = vector.group
        if density >= 1:
            return None
        entries = vector.full()
        if density <= 0 or not entries.numel():
            return _stored(torch.empty(0, dtype=torch.long), group.size)
        half = epsilon if group.stepwise else min(epsilon, density, 1 - density)
        if half < epsilon:
            warnings.warn(f"epsilon {epsilon:g} is narrowed to fit density {density:g}", stacklevel=2)
        rows = entries.abs().view(-1, group.shape[-1] if group.shape else 1)
        work = torch.float32 if rows.dtype == torch.float16 else rows.dtype
        order = torch.argsort(rows.to(work), dim=1, stable=not group.stepwise)
        ranks = torch.empty_like(rows, dtype=work)
        line = torch.arange(1, rows.shape[1] + 1, device=rows.device).to(work)
        ranks.scatter_(1, order, line.expand_as(order))
        low, high = ranks.min(dim=1, keepdim=True).values, ranks.max(dim=1, keepdim=True).values
        share = ((ranks - low) / (high - low)).nan_to_num(nan=0.5) if rows.shape[1] > 1 else ranks * 0 + 0.5
        chance = (density - half) + share * 2 * half
        return group.draws.mask(vector.parent.key, chance.reshape(-1), entries)

    return drop


def _stored(kept: Tensor, size: int) -> Keep:
    mask = torch.zeros(size, dtype=torch.float32, device=kept.device)
    mask[kept] = 1
    return lambda span, entries: mask[span].to(entries.dtype)


def rank_fault(densities: Sequence[float], epsilons: Sequence[float]) -> str | None:
    """Return what is wrong when a probability of `by_rank` leaves (0, 1), where the reference stops."""
    for density, epsilon in zip(densities, epsilons, strict=True):
        if 0 < density < 1 and not (density - epsilon > 0 and density + epsilon < 1):
            return f"density: must lie further than epsilon from 0 and 1, got {density:g} with epsilon {epsilon:g}"
    return None
