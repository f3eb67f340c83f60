"""Arcee Fusion: take the other model's entries where they matter most, by change times divergence of their row.

    importance = |x - b| KL(softmax(x) || softmax(b)),   taken where importance >= median + 1.5 (q3 - q1)

Source: mergekit's arcee_fusion, Arcee AI 2025. Quantiles are of all entries; the reference samples above a million.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from merge.group import Group
from merge.method import AbstractMethod, Kernel, whole_tensor


@dataclass(frozen=True)
class ArceeFusion(AbstractMethod, name="arcee_fusion", base_model="required", parents=(0, 1)):
    """Moves the outlying changes of one model into the base, whole."""

    def kernel(self, group: Group) -> Kernel:
        """Return the function that merges span by span."""
        base = group.base.whole
        if not group.parents:
            return whole_tensor(base)
        other = group.parents[0].whole
        change = other - base
        importance = change.abs() * _divergence(other, base)
        mask = (importance >= _threshold(importance)).float()
        return whole_tensor(base + change * mask)

    def result_dtype(self, dtype: torch.dtype, *, compat: bool) -> torch.dtype:
        """Return float32 where the reference is followed: its mask is float32."""
        return torch.float32 if compat else dtype


def _divergence(other: Tensor, base: Tensor) -> Tensor:
    p, q = (tensor.softmax(dim=-1) + 1e-8 for tensor in (other, base))
    return (p * (p / q).log()).sum(dim=-1, keepdim=True)


def _threshold(importance: Tensor) -> Tensor:
    ordered = importance.reshape(-1).sort().values
    low, middle, high = (ordered[int(q * (len(ordered) - 1))] for q in (0.25, 0.5, 0.75))
    return middle + 1.5 * (high - low)
