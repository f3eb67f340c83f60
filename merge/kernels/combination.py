"""Adding task vectors to a base, with or without a vote on each entry's sign.

    merged = base + lambda * sum_m w_m d_m m_m / sum_m w_m m_m

where the mask m_m is 1 everywhere, or, with a vote, 1 where the sign of w_m d_m is that of the sum over all models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor

from merge.kernels.inputs import Operand, TensorInputs
from merge.kernels.kernel import AbstractFused, Kernel
from merge.kernels.native_records import combinable, combination
from merge.kernels.sparsify import Sparsify, make_task_vector
from merge.kernels.task_vector import TaskVector
from merge.native import tensors as fused


class Combination(NamedTuple):
    """How weighted task vectors become one.

    Args:
        vote: Whether entries that disagree with the sign of the sum are left out.
        normalize: Whether the sum is divided by the weights that took part.
        factor: What the result is multiplied with before it is added to the base.
    """

    vote: bool
    normalize: bool
    factor: float

    def kernel(self, inputs: TensorInputs, weights: Sequence[float], vectors: Sequence[TaskVector]) -> Kernel:
        """Return the function that merges span by span."""
        if inputs.stepwise:
            return self._stepwise(inputs, weights, vectors)
        live = [(vector, weight) for vector, weight in zip(vectors, weights, strict=True) if not vector.is_zero]
        if not live:
            return WeightedSum(inputs, (inputs.base,), (1.0,))
        total = sum(weights)
        divisor = total if abs(total) >= 1e-8 else 1.0
        scale = self.factor / divisor if self.normalize and not self.vote else self.factor
        kept, shares = zip(*live, strict=True)
        return CombinedVectors(inputs, kept, shares, self.vote, self.normalize, scale)

    def _stepwise(self, inputs: TensorInputs, weights: Sequence[float], vectors: Sequence[TaskVector]) -> Kernel:
        def merged(span: slice) -> Tensor:
            base = inputs.base[span]
            if not vectors:
                return base
            factors = inputs.arithmetic.rounded(weights, base).unsqueeze(-1)
            terms = torch.stack([vector[span] for vector in vectors]) * factors
            if self.vote:
                agrees = self._agreeing(terms)
                mix = (terms * agrees).sum(dim=0)
                divisor = (factors * agrees).sum(dim=0)
                divisor[divisor == 0] = 1
            else:
                mix, divisor = terms.sum(dim=0), factors.sum(dim=0)
                divisor[divisor.abs() < 1e-8] = 1
            if self.normalize:
                mix /= divisor
            if self.factor != 1:
                mix *= self.factor
            return (base + mix).to(base.dtype)

        return merged

    @staticmethod
    def _agreeing(terms: Tensor) -> Tensor:
        majority = (terms.sum(dim=0) >= 0).to(terms.dtype) * 2 - 1
        return terms.sign() == majority


@dataclass(frozen=True, eq=False)
class CombinedVectors(AbstractFused):
    """Adds task vectors, or what agrees on a sign, to the base.

    Args:
        inputs: The tensor they belong to.
        vectors: The task vectors that are not zero.
        weights: Factor of each.
        vote: Whether entries that disagree with the sign of the sum are left out.
        normalize: With a vote, whether the sum is divided by the weights that agree.
        scale: Factor of the result before it is added to the base.
    """

    inputs: TensorInputs
    vectors: tuple[TaskVector, ...]
    weights: tuple[float, ...]
    vote: bool
    normalize: bool
    scale: float

    def __call__(self, span: slice) -> Tensor:
        """Return the merged entries of one span."""
        terms = [vector[span].mul_(weight) for vector, weight in zip(self.vectors, self.weights, strict=True)]
        mix = self._elected(terms) if self.vote else self.inputs.arithmetic.total(terms)
        return mix.mul_(self.scale).add_(self.inputs.base[span])

    def one_pass(self, out: Tensor, dtype: torch.dtype) -> fused.OnePass | None:
        """Return what writes the merged tensor."""
        if not self.inputs.fusable or not combinable([vector.mask for vector in self.vectors]):
            return None
        return combination(
            out, dtype, self.vectors, self.weights, vote=self.vote, normalize=self.normalize, scale=self.scale
        )

    def _elected(self, terms: list[Tensor]) -> Tensor:
        """Return the sum of the terms that agree with its sign, over their weights if normalised.

        A term times the elected sign is positive where it agrees, so that cutting off below zero leaves just what
        agrees. Comparisons write floats in place: bool tensors cost several passes each.
        """
        sign = terms[0].clone()
        for term in terms[1:]:
            sign.add_(term)
        sign.ge_(0).mul_(2).sub_(1)
        mix, share = torch.zeros_like(sign), torch.zeros_like(sign)
        for term, weight in zip(terms, self.weights, strict=True):
            mix.add_(term.mul_(sign).clamp_min_(0))
            if self.normalize:
                share.add_(term.sign_(), alpha=weight)
        mix.mul_(sign)
        return mix.div_(share.add_(torch.eq(share, 0, out=torch.empty_like(share)))) if self.normalize else mix


@dataclass(frozen=True, eq=False)
class WeightedSum(AbstractFused):
    """Adds tensors, each with its weight.

    Args:
        inputs: The tensor they belong to.
        operands: The parents, the base among them where it takes part.
        weights: Factor of each.
    """

    inputs: TensorInputs
    operands: tuple[Operand, ...]
    weights: tuple[float, ...]

    def __call__(self, span: slice) -> Tensor:
        """Return the merged entries of one span."""
        return self.inputs.arithmetic.weighted([operand[span] for operand in self.operands], self.weights)

    def one_pass(self, out: Tensor, dtype: torch.dtype) -> fused.OnePass | None:
        """Return what writes the merged tensor."""
        if not self.inputs.fusable or len(self.operands) > fused.MAX_TENSORS:
            return None
        return fused.weighted_sum(out, dtype, [operand.address for operand in self.operands], self.weights)


def task_vectors(
    inputs: TensorInputs, sparsify: Sequence[Sparsify | None], *, rescale: bool, settings: Sequence[object]
) -> list[TaskVector]:
    """Return each parent's task vector with its own mask; the last ones are remembered where the inputs stays."""
    made = []
    for index, (drop, setting) in enumerate(zip(sparsify, settings, strict=True)):
        last = None if inputs.vectors is None else inputs.vectors.get(index)
        if last is not None and last[0] == (drop, rescale):
            made.append(cast("TaskVector", last[1]))
            continue
        tells = (inputs.draws.version(), setting)
        vector = make_task_vector(inputs, inputs.parents[index], drop, rescale=rescale, setting=tells)
        if inputs.vectors is not None and vector.may_be_kept:
            inputs.vectors[index] = ((drop, rescale), vector)
        made.append(vector)
    return made
