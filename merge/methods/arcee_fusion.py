"""Arcee Fusion: take the other model's entries where they matter most, by change times divergence of their row.

    importance = |x - b| KL(softmax(x) || softmax(b)),   taken where importance >= median + 1.5 (q3 - q1)

Source: mergekit's arcee_fusion, Arcee AI 2025. Quantiles are of all entries; the reference samples above a million.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from merge.kernels.inputs import Group
from merge.kernels.kernel import AbstractFused, Kernel, whole_tensor
from merge.method import AbstractMethod
from merge.native import overlap as fused_overlap
from merge.native import tensors as fused

_ROWS = 1 << 17
"""Entries whose divergences are computed in one go."""


@dataclass(frozen=True)
class ArceeFusion(AbstractMethod, name="arcee_fusion", base_model="required", parents=(0, 1), cut="common"):
    """Moves the outlying changes of one model into the base, whole."""

    def kernel(self, group: Group) -> Kernel:
        """Return the function that merges span by span; threshold and divergences are of the pair and kept."""
        if not group.parents:
            return whole_tensor(group.base.whole)
        if group.stepwise:
            return whole_tensor(_stepwise(group.parents[0].whole, group.base.whole))
        keys = tuple(operand.key for operand in group.operands)
        divergences = group.facts.tensor(("divergences", keys), lambda: _divergences(group))
        threshold = group.facts.get(("fusion", keys), lambda: _exact_threshold(group, divergences))
        return _Fusion(group, divergences, threshold)

    def result_dtype(self, dtype: torch.dtype, *, compat: bool) -> torch.dtype:
        """Return float32 where the reference is followed: its mask is float32."""
        return torch.float32 if compat else dtype


@dataclass(frozen=True, eq=False)
class _Fusion(AbstractFused):
    """Takes what reaches the threshold; `divergences` has a number per row, in float32."""

    group: Group
    divergences: Tensor
    threshold: float

    def __call__(self, span: slice) -> Tensor:
        """Return the merged entries of one span."""
        change, importance = _important(self.group, self.divergences, span)
        return self.group.base[span] + change * (importance >= self.threshold).float()

    def one_pass(self, out: Tensor, dtype: torch.dtype) -> fused.Pass | None:
        """Return what writes the merged tensor."""
        if not self.group.fusable:
            return None
        tensors = [self.group.base.raw, self.group.parents[0].raw]
        return fused_overlap.fusion(out, dtype, tensors, self.divergences, _row(self.group), self.threshold)


def _row(group: Group) -> int:
    return group.shape[-1] if group.shape else 1


def _divergences(group: Group) -> Tensor:
    """Return the divergence of each row."""
    row = _row(group)
    step = max(1, _ROWS // row) * row
    parts = [slice(start, min(start + step, group.size)) for start in range(0, group.size, step)]
    base, other = group.base, group.parents[0]
    return torch.cat([_divergence(other[part].view(-1, row), base[part].view(-1, row)).view(-1) for part in parts])


def _important(group: Group, divergences: Tensor, span: slice) -> tuple[Tensor, Tensor]:
    """Return how far the entries of a span moved, and how much that matters."""
    change = group.parents[0][span] - group.base[span]
    rows = torch.arange(span.start, span.start + len(change), device=change.device) // _row(group)
    return change, change.abs() * divergences[rows]


def _exact_threshold(group: Group, divergences: Tensor) -> float:
    importance = np.concatenate([_important(group, divergences, span)[1].cpu().numpy() for span in group.spans()])
    places = [int(q * (len(importance) - 1)) for q in (0.25, 0.5, 0.75)]
    importance.partition(places)
    low, middle, high = importance[places]
    return float(middle + np.float32(1.5) * (high - low))


def _stepwise(other: Tensor, base: Tensor) -> Tensor:
    change = other - base
    importance = change.abs() * _divergence(other, base)
    ordered = importance.reshape(-1).sort().values
    low, middle, high = (ordered[int(q * (len(ordered) - 1))] for q in (0.25, 0.5, 0.75))
    return base + change * (importance >= middle + 1.5 * (high - low)).float()


def _divergence(other: Tensor, base: Tensor) -> Tensor:
    p, q = (tensor.softmax(dim=-1) + 1e-8 for tensor in (other, base))
    return (p * (p / q).log()).sum(dim=-1, keepdim=True)
