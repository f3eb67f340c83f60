"""RAM+ (tensor level): as RAM, with what only one parent changed made larger where it also shares much.

    factor_m = 1 + r clamp(shared_m / max(unique_m, epsilon), 0, alpha)

where shared_m and unique_m count the entries of a tensor that m changed with others and alone.

Source: mergekit's method of this name.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import Kernel, whole_tensor
from merge.kernels.overlap import Overlap, counted
from merge.method import AbstractMethod, number


@dataclass(frozen=True)
class RamPlus(AbstractMethod, name="ramplus_tl", base_model="required", parents=(0, None), widest=True):
    """Keeps and strengthens what only one parent learned, and averages what several did.

    Args:
        r: How much larger unique changes become.
        alpha: Bound of the ratio of shared to unique changes.
        epsilon: Changes up to it count as none.
    """

    r: float = number("growth of unique changes", default=0.1, low=0.0, search_high=1.0)
    alpha: float = number("bound of shared to unique", default=0.2, low=0.0, search_high=1.0)
    epsilon: float = number("changes up to it are none", default=1e-5, low=0.0, search_high=1e-3)

    def kernel(self, inputs: TensorInputs) -> Kernel:
        """Return the function that merges span by span."""
        if inputs.parents and not inputs.stepwise:
            return Overlap(inputs, self.epsilon, self._factors(inputs))
        return self._stepwise(inputs)

    def _factors(self, inputs: TensorInputs) -> tuple[float, ...]:
        """Return what each parent's own changes are multiplied with, rounded in each step as float32 is."""
        shared, unique = counted(inputs, self.epsilon).astype(np.float32)
        ratio = np.clip(shared / np.maximum(unique, np.float32(self.epsilon)), np.float32(0), np.float32(self.alpha))
        return tuple((np.float32(1) + np.float32(self.r) * ratio).tolist())

    def _stepwise(self, inputs: TensorInputs) -> Kernel:
        base = inputs.base.whole.reshape(-1)
        if not inputs.parents:
            return whole_tensor(base)
        vectors = torch.stack([parent.whole.reshape(-1) - base for parent in inputs.parents])
        active = (vectors.abs() > self.epsilon).float()
        count = active.sum(dim=0)
        alone = active * (count == 1)
        shared, unique = (active * (count > 1)).sum(dim=1), alone.sum(dim=1)
        ratio = (shared / unique.clamp(min=self.epsilon)).clamp(0, self.alpha)
        factors = (1 + self.r * ratio).unsqueeze(-1)
        several = (vectors * active).sum(dim=0) / count.clamp(min=1) * (count > 1)
        change: Tensor = (vectors * alone * factors).sum(dim=0) + several
        return whole_tensor(base + change)

    def result_dtype(self, dtype: torch.dtype, *, compat: bool) -> torch.dtype:
        """Return float32 where the reference is followed: its masks are float32."""
        return torch.float32 if compat else dtype
