"""One parent's tensors as they are, or scaled; with slices, layers are stacked from several models.

merged = scale * x

Source: C. Wu et al., "LLaMA Pro: Progressive LLaMA with Block Expansion", ACL 2024, for layers repeated with a scale of
zero; the name is mergekit's.
"""

from dataclasses import dataclass

from merge.kernels.combination import WeightedSum
from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import Kernel
from merge.method import AbstractMethod, per_model


@dataclass(frozen=True)
class Passthrough(AbstractMethod, name="passthrough", parents=(1, 1)):
    """Takes each tensor from the one model its slice names.

    Args:
        scale: Factor; None leaves the bits alone.
    """

    scale: tuple[float | None, ...] = per_model("factor of the tensor", search_low=0.5, search_high=1.5)

    def kernel(self, inputs: TensorInputs) -> Kernel:
        """Return the function that merges span by span."""
        parent, scale = inputs.parents[0], self.scale[0]
        if scale is None:
            return lambda span: parent[span]
        if inputs.stepwise:
            return lambda span: parent[span] * scale
        return WeightedSum(inputs, (parent,), (scale,))
