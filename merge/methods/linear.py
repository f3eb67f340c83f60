"""Weighted average of the parents' weights.

    merged = sum_i w_i x_i / sum_i w_i

Source: M. Wortsman et al., "Model soups", ICML 2022.
"""

from dataclasses import dataclass

from torch import Tensor

from merge.kernels.combination import WeightedSum
from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import Kernel
from merge.method import AbstractMethod, flag, per_model, sum_fault


@dataclass(frozen=True)
class Linear(AbstractMethod, name="linear", parents=(1, None), widest=True, cut="common"):
    """Averages the parents, each with its weight.

    Args:
        weight: Share of each parent.
        normalize: Divide by the sum of the weights.
    """

    weight: tuple[float, ...] = per_model("share of the parent", required=True, search_low=0.0, search_high=1.0)
    normalize: bool = flag("divide by the sum of the weights", default=True)

    def kernel(self, inputs: TensorInputs) -> Kernel:
        """Return the function that merges span by span."""
        total = sum(self.weight)
        if inputs.stepwise:
            return self._stepwise(inputs)
        weights = [weight / total for weight in self.weight] if self.normalize else list(self.weight)
        return WeightedSum(inputs, inputs.parents, tuple(weights))

    def fault(self, size: int, *, compat: bool) -> str | None:  # noqa: ARG002
        """Return what is wrong when the weights have no sum to divide by."""
        judged = self.normalize and (not compat or abs(sum(self.weight)) < 1e-8)
        return sum_fault(self.weight) if judged else None

    def _stepwise(self, inputs: TensorInputs) -> Kernel:
        def merged(span: slice) -> Tensor:
            blocks = [parent[span] for parent in inputs.parents]
            mix = inputs.arithmetic.weighted(blocks, self.weight)
            return mix / inputs.arithmetic.rounded(self.weight, blocks[0]).sum() if self.normalize else mix

        return merged
