"""In which steps sums are taken: float32 rounded once, or the reference's own dtype step by step.

Both ways run the same methods. They differ in the dtype of the operands, in whether numbers are rounded to
it before they are used, and in whether a sum is one reduction over a stack (as the reference rounds it).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Arithmetic:
    """How the numbers of one tensor are computed.

    Args:
        dtype: That of the operands; None leaves each in the dtype of its checkpoint.
        stepwise: Follow the reference's steps, rounding after each.
    """

    dtype: torch.dtype | None = torch.float32
    stepwise: bool = False

    def operand(self, tensor: Tensor) -> Tensor:
        """Return a parent's tensor in the dtype of the arithmetic."""
        return tensor if self.dtype is None else tensor.to(self.dtype)

    def rounded(self, numbers: Sequence[float], like: Tensor) -> Tensor:
        """Return numbers as a vector of the operands' dtype."""
        return torch.tensor(numbers, dtype=like.dtype, device=like.device)

    def total(self, terms: Sequence[Tensor]) -> Tensor:
        """Return the sum of equally shaped tensors; without `stepwise` the first is overwritten."""
        if self.stepwise:
            return torch.stack(list(terms)).sum(dim=0)
        result = terms[0]
        for term in terms[1:]:
            result = result.add_(term)
        return result

    def weighted(self, terms: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Return the sum of weight times term."""
        if self.stepwise:
            factors = self.rounded(weights, terms[0]).unsqueeze(-1)
            return (torch.stack(list(terms)) * factors).sum(dim=0)
        result = terms[0] * weights[0]
        for term, weight in zip(terms[1:], weights[1:], strict=True):
            # Not add_(alpha=): that rounds once where the processor can, and results would depend on the machine.
            result.add_(term * weight)
        return result
