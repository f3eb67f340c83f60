"""NearSwap: where the other model is close to the base, take its value; where it is far, stay.

    w = clamp(t / |base - x|, 0, 1),   merged = w x + (1 - w) base

Source: mergekit's nearswap, after Alchemonaut's QuartetAnemoi-70B.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import AbstractFused, Kernel
from merge.method import AbstractMethod, number
from merge.native import overlap as fused_overlap
from merge.native import tensors as fused


@dataclass(frozen=True)
class NearSwap(AbstractMethod, name="nearswap", base_model="required", parents=(1, 1), widest=True):
    """Swaps in what is near.

    Args:
        t: Entries closer than this are taken whole.
    """

    t: float = number("distance that is taken whole", required=True, search_low=0.0, search_high=0.01)

    def kernel(self, inputs: TensorInputs) -> Kernel:
        """Return the function that merges span by span."""
        return _Swap(inputs, self.t)


@dataclass(frozen=True, eq=False)
class _Swap(AbstractFused):
    """Takes the parent's share of each entry by its distance from the base's."""

    inputs: TensorInputs
    t: float

    def __call__(self, span: slice) -> Tensor:
        """Return the merged entries of one span."""
        base, other = self.inputs.base[span], self.inputs.parents[0][span]
        weight = (self.t / (base - other).abs().clamp(min=1e-6)).clamp(0, 1)
        return weight * other + (1 - weight) * base

    def one_pass(self, out: Tensor, dtype: torch.dtype) -> fused.OnePass | None:
        """Return what writes the merged tensor."""
        if not self.inputs.fusable:
            return None
        return fused_overlap.nearswap(out, dtype, [self.inputs.base.raw, self.inputs.parents[0].raw], self.t)
