"""Adding task vectors by how many of them change an entry: alone, each times its factor; several, their mean."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import AbstractFused
from merge.native import overlap as fused_overlap
from merge.native import tensors as fused


@dataclass(frozen=True, eq=False)
class Overlap(AbstractFused):
    """Adds to the base what one parent changed, or the mean of what several did.

    Args:
        inputs: The tensor it belongs to.
        epsilon: Changes up to it count as none.
        factors: Of each parent's changes where they are alone.
    """

    inputs: TensorInputs
    epsilon: float
    factors: tuple[float, ...]

    def __call__(self, span: slice) -> Tensor:
        """Return the merged entries of one span."""
        base = self.inputs.base[span]
        if not self.inputs.parents:
            return base
        vectors, active = changes(self.inputs, span, self.epsilon)
        count = active.sum(dim=0)
        several = added(self.inputs, vectors * active) / count.clamp(min=1)
        if all(factor == 1 for factor in self.factors):
            return base + several
        factors = torch.tensor(self.factors, dtype=torch.float32, device=base.device).unsqueeze(-1)
        alone = active * (count == 1)
        return base + (added(self.inputs, vectors * alone * factors) + several * (count > 1))

    def one_pass(self, out: Tensor, dtype: torch.dtype) -> fused.OnePass | None:
        """Return what writes the merged tensor."""
        if not self.inputs.fusable or not 0 < len(self.inputs.parents) <= fused.MAX_TENSORS:
            return None
        return fused_overlap.ram(out, dtype, raws(self.inputs), self.epsilon, self.factors)


def changes(inputs: TensorInputs, span: slice, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return the task vectors in a span, and 1 where they are more than `epsilon`; shape (parents, entries) each."""
    base = inputs.base[span]
    vectors = torch.stack([parent[span] - base for parent in inputs.parents])
    return vectors, (vectors.abs() > epsilon).to(vectors.dtype)


def added(inputs: TensorInputs, terms: Tensor) -> Tensor:
    """Return the sum over the first dimension: in its order, or as the reference takes it."""
    if inputs.stepwise:
        return terms.sum(dim=0)
    total = torch.zeros_like(terms[0])
    for term in terms:
        total += term
    return total


def counted(inputs: TensorInputs, epsilon: float) -> npt.NDArray[np.int64]:
    """Return how many entries each parent changed with others, and how many alone: shape (2, parents); remembered."""
    key = ("overlaps", tuple(operand.key for operand in inputs.operands), epsilon)
    return inputs.cache.get(key, lambda: _counted(inputs, epsilon))


def raws(inputs: TensorInputs) -> list[Tensor]:
    """Return the base and the parents as they are stored."""
    return [inputs.base.raw, *(parent.raw for parent in inputs.parents)]


def _counted(inputs: TensorInputs, epsilon: float) -> npt.NDArray[np.int64]:
    if inputs.fusable and len(inputs.parents) <= fused.MAX_TENSORS:
        return fused_overlap.overlaps(raws(inputs), epsilon)
    counts = np.zeros((2, len(inputs.parents)), dtype=np.int64)
    for span in inputs.spans():
        _, active = changes(inputs, span, epsilon)
        count = active.sum(dim=0)
        for row, wanted in enumerate((count > 1, count == 1)):
            counts[row] += torch.count_nonzero(active * wanted, dim=1).cpu().numpy()
    return counts
