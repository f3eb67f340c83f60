"""Spherical interpolation of any number of models, in the tangent space at their mean direction.

    u_i = x_i / |x_i|,  m = normalised sum w_i u_i,  T = sum w_i (u_i - <u_i, m> m)
    merged = (m cos |T| + sin |T| T / |T|) sum w_i |x_i|

Source: mergekit's multislerp; the exponential map of the sphere, P.-A. Absil et al., "Optimization Algorithms on
Matrix Manifolds", 2008, section 5.4.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from merge.errors import NumericalError
from merge.kernels.combination import Combination, WeightedSum, task_vectors
from merge.kernels.inputs import Matrix, TensorInputs
from merge.kernels.kernel import Kernel, whole_tensor
from merge.method import AbstractMethod, flag, number, per_model

Vector: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.float64]]"


@dataclass(frozen=True)
class MultiSlerp(AbstractMethod, name="multislerp", base_model="optional", parents=(1, None), widest=True):
    """Interpolates several parents, or their task vectors, on the sphere; one step from the mean direction.

    Args:
        weight: Share of each parent.
        normalize_weights: Divide the shares by their sum.
        eps: Lengths below it count as zero.
    """

    weight: tuple[float, ...] = per_model("share of the parent", required=True, search_low=0.0, search_high=1.0)
    normalize_weights: bool = flag("divide by the sum of the weights", default=True)
    eps: float = number("lengths below it are zero", default=1e-8, low=0.0, search_high=1e-6)

    def kernel(self, inputs: TensorInputs) -> Kernel:
        """Return the function that merges span by span.

        The result lies in the span of the parents, so that its shares of them follow from their scalar products.
        """
        if inputs.stepwise:
            return self._stepwise(inputs)
        weights = np.array(self.weight, dtype=np.float64)
        if self.normalize_weights:
            weights = weights / weights.sum()
        offsets = inputs.optional_base is not None
        shares = tuple(self._shares(inputs, inputs.gram(offsets=offsets), weights).tolist())
        if not offsets:
            return WeightedSum(inputs, inputs.parents, shares)
        vectors = task_vectors(inputs, [None] * len(shares), rescale=False, settings=shares)
        return Combination(vote=False, normalize=False, factor=1.0).kernel(inputs, shares, vectors)

    def _shares(self, inputs: TensorInputs, products: Matrix, weights: Vector) -> Vector:
        """Return how much of each parent the result holds."""

        def length(shares: Vector) -> float:
            return math.sqrt(max(float(shares @ products @ shares), 0.0))

        if len(weights) == 1:
            return np.ones(1)
        norms = np.sqrt(products.diagonal())
        units = 1 / (norms + self.eps)
        mean = weights * units
        if length(mean) < self.eps:
            if not (norms > self.eps).any() or len(weights) == 2:
                return weights
            raise NumericalError(f"{inputs.name}: the parents' directions must not cancel out; change a weight")
        mean = mean / length(mean)
        dots = (products @ mean) * units
        tangent = weights * units - (weights @ dots) * mean
        step = length(tangent) + self.eps
        size = float(norms @ weights)
        return mean * (math.cos(step) * size) + tangent * (math.sin(step) / step * size)

    def _stepwise(self, inputs: TensorInputs) -> Kernel:
        tensors = [parent.whole for parent in inputs.parents]
        base = None if inputs.optional_base is None else inputs.base.whole
        stack = torch.stack([(x if base is None else x - base).reshape(-1) for x in tensors])
        weights = inputs.arithmetic.rounded(self.weight, stack)
        if self.normalize_weights:
            weights = weights / weights.sum()
        mixed = self._mixed(inputs, stack, weights).view(inputs.shape)
        return whole_tensor(mixed if base is None else base + mixed)

    def fault(self, size: int, *, compat: bool) -> str | None:  # noqa: ARG002
        """Return what is wrong when the weights sum to zero."""
        if self.normalize_weights and abs(sum(self.weight)) < 1e-8:
            return f"weight: must not sum to zero with normalize_weights, got {list(self.weight)}"
        return None

    def _mixed(self, inputs: TensorInputs, stack: Tensor, weights: Tensor) -> Tensor:
        if len(stack) == 1:
            return stack[0]
        column = weights.unsqueeze(-1)
        norms = stack.norm(dim=-1, keepdim=True)
        units = stack / (norms + self.eps)
        mean = (units * column).sum(dim=0)
        length = mean.norm()
        if length < self.eps:
            if not (norms > self.eps).any() or len(stack) == 2:
                return (stack * column).sum(dim=0)
            raise NumericalError(f"{inputs.name}: the parents' directions must not cancel out; change a weight")
        mean = mean / length
        tangent = ((units - (units * mean).sum(dim=-1, keepdim=True) * mean) * column).sum(dim=0)
        step = tangent.norm() + self.eps
        direction = mean * step.cos() + tangent * (step.sin() / step)
        mixed: Tensor = direction * (norms.squeeze(-1) * weights).sum()
        return mixed
