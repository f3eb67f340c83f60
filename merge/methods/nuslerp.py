"""NuSLERP: spherical interpolation of two models or of two task vectors, with weights instead of a position.

    t = w_2 / (w_1 + w_2),   merged = slerp(x_1, x_2; t)   or   base + slerp(x_1 - base, x_2 - base; t)

Source: K. Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985; the name is mergekit's.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from merge.kernels.combination import Combination, WeightedSum, task_vectors
from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import Kernel, whole_tensor
from merge.method import AbstractMethod, flag, per_model


@dataclass(frozen=True)
class NuSlerp(AbstractMethod, name="nuslerp", base_model="optional", parents=(2, 2), widest=True, cut="common"):
    """Interpolates two parents along the great circle between them, whole tensors or row by row.

    Args:
        weight: Share of each parent; shares that sum to zero count as equal.
        nuslerp_flatten: Take each tensor as one vector.
        nuslerp_row_wise: Otherwise, take vectors along dimension 0 instead of the last.
    """

    weight: tuple[float, ...] = per_model("share of the parent", required=True, search_low=0.0, search_high=1.0)
    nuslerp_flatten: bool = flag("whole tensors as one vector", default=True)
    nuslerp_row_wise: bool = flag("vectors along dimension 0", default=False)

    def kernel(self, inputs: TensorInputs) -> Kernel:
        """Return the function that merges span by span."""
        total = sum(self.weight)
        t = 0.5 if abs(total) < 1e-6 else self.weight[1] / total
        if self.nuslerp_flatten and not inputs.stepwise:
            return self._flat(inputs, t)
        first, second = (parent.whole for parent in inputs.parents)
        if inputs.optional_base is None:
            return whole_tensor(self._slerp(first, second, t))
        base = inputs.base.whole
        return whole_tensor(base + self._slerp(first - base, second - base, t))

    def _flat(self, inputs: TensorInputs, t: float) -> Kernel:
        """Return the kernel for whole tensors: the shares of both follow from their scalar products."""
        offsets = inputs.optional_base is not None
        products = inputs.gram(offsets=offsets)
        norms = [max(math.sqrt(products[i, i]), 1e-7) for i in range(2)]
        angle = math.acos(max(-1.0, min(1.0, products[0, 1] / (norms[0] * norms[1]))))
        sine = math.sin(angle)
        shares = (1 - t, t) if abs(sine) < 1e-8 else (math.sin((1 - t) * angle) / sine, math.sin(t * angle) / sine)
        if not offsets:
            return WeightedSum(inputs, inputs.parents, shares)
        vectors = task_vectors(inputs, [None, None], rescale=False, settings=shares)
        return Combination(vote=False, normalize=False, factor=1.0).kernel(inputs, shares, vectors)

    def _slerp(self, first: Tensor, second: Tensor, t: float) -> Tensor:
        shape = first.shape
        if self.nuslerp_flatten:
            first, second = first.reshape(-1), second.reshape(-1)
        along = 0 if self.nuslerp_row_wise and not self.nuslerp_flatten else -1
        units = [x / x.norm(dim=along, keepdim=True).clamp(min=1e-7) for x in (first, second)]
        angle = (units[0] * units[1]).sum(dim=along, keepdim=True).clamp(-1, 1).acos()
        sine = angle.sin()
        mixed = (((1 - t) * angle).sin() * first + (t * angle).sin() * second) / sine
        # float16 has no 1e-8: there the comparison would be with zero.
        return torch.where(sine.abs().float() < 1e-8, (1 - t) * first + t * second, mixed).reshape(shape)
