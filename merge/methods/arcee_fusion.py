"""Arcee Fusion: take the other model's entries where they matter most, by change times divergence of their row.

    importance = |x - b| KL(softmax(x) || softmax(b)),   taken where importance >= median + 1.5 (q3 - q1)

Source: mergekit's arcee_fusion, Arcee AI 2025. Quantiles are of all entries; the reference samples above a million.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import AbstractFused, Kernel, whole_tensor
from merge.method import AbstractMethod
from merge.native import overlap as fused_overlap
from merge.native import tensors as fused

_ROWS = 1 << 17
"""Entries whose divergences are computed in one go."""


@dataclass(frozen=True)
class ArceeFusion(AbstractMethod, name="arcee_fusion", base_model="required", parents=(0, 1), cut="common"):
    """Moves the outlying changes of one model into the base, whole."""

    def kernel(self, inputs: TensorInputs) -> Kernel:
        """Return the function that merges span by span; threshold and divergences are of the pair and kept."""
        if not inputs.parents:
            return whole_tensor(inputs.base.whole)
        if inputs.stepwise:
            return whole_tensor(_stepwise(inputs.parents[0].whole, inputs.base.whole))
        keys = tuple(operand.key for operand in inputs.operands)
        divergences = inputs.cache.tensor(("divergences", keys), lambda: _divergences(inputs))
        threshold = inputs.cache.get(("fusion", keys), lambda: _exact_threshold(inputs, divergences))
        return _Fusion(inputs, divergences, threshold)

    def result_dtype(self, dtype: torch.dtype, *, compat: bool) -> torch.dtype:
        """Return float32 where the reference is followed: its mask is float32."""
        return torch.float32 if compat else dtype


@dataclass(frozen=True, eq=False)
class _Fusion(AbstractFused):
    """Takes what reaches the threshold; `divergences` has a number per row, in float32."""

    inputs: TensorInputs
    divergences: Tensor
    threshold: float

    def __call__(self, span: slice) -> Tensor:
        """Return the merged entries of one span."""
        change, importance = _important(self.inputs, self.divergences, span)
        return self.inputs.base[span] + change * (importance >= self.threshold).float()

    def one_pass(self, out: Tensor, dtype: torch.dtype) -> fused.OnePass | None:
        """Return what writes the merged tensor."""
        if not self.inputs.fusable:
            return None
        tensors = [self.inputs.base.raw, self.inputs.parents[0].raw]
        return fused_overlap.fusion(out, dtype, tensors, self.divergences, _row(self.inputs), self.threshold)


def _row(inputs: TensorInputs) -> int:
    return inputs.shape[-1] if inputs.shape else 1


def _divergences(inputs: TensorInputs) -> Tensor:
    """Return the divergence of each row."""
    row = _row(inputs)
    step = max(1, _ROWS // row) * row
    parts = [slice(start, min(start + step, inputs.size)) for start in range(0, inputs.size, step)]
    base, other = inputs.base, inputs.parents[0]
    return torch.cat([_divergence(other[part].view(-1, row), base[part].view(-1, row)).view(-1) for part in parts])


def _important(inputs: TensorInputs, divergences: Tensor, span: slice) -> tuple[Tensor, Tensor]:
    """Return how far the entries of a span moved, and how much that matters."""
    change = inputs.parents[0][span] - inputs.base[span]
    rows = torch.arange(span.start, span.start + len(change), device=change.device) // _row(inputs)
    return change, change.abs() * divergences[rows]


def _exact_threshold(inputs: TensorInputs, divergences: Tensor) -> float:
    importance = np.concatenate([_important(inputs, divergences, span)[1].cpu().numpy() for span in inputs.spans()])
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
