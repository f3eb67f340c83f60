"""Karcher mean: the point on the sphere with the least squared distance to all parents, times their mean length.

    T = mean_i (w_i / sin w_i) (u_i - <u_i, u> u),   cos w_i = <u_i, u>
    u <- cos |T| u + sin |T| T / |T|,   until |T| < tol

Source: H. Karcher, "Riemannian center of mass and mollifier smoothing", 1977.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from merge.kernels.combination import WeightedSum
from merge.kernels.inputs import Matrix, TensorInputs
from merge.kernels.kernel import Kernel, whole_tensor
from merge.method import AbstractMethod, number, whole

Vector: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.float64]]"


@dataclass(frozen=True)
class Karcher(AbstractMethod, name="karcher", parents=(1, None), widest=True):
    """Averages directions on the sphere and lengths on the line, all parents alike.

    Args:
        max_iter: Iterations at most.
        tol: Lengths and angles below it count as zero.
    """

    max_iter: int = whole("iterations at most", default=10, low=1, search_high=20)
    tol: float = number("lengths below it are zero", default=1e-5, low=0.0, search_high=1e-3)

    def kernel(self, inputs: TensorInputs) -> Kernel:
        """Return the function that merges span by span.

        Every mean lies in the span of the parents, so that the iteration needs their scalar products only.
        """
        if inputs.stepwise:
            return self._stepwise(inputs)
        if len(inputs.parents) == 1:
            return WeightedSum(inputs, inputs.parents, (1.0,))
        products = inputs.gram()
        norms = np.sqrt(products.diagonal())
        used = norms > self.tol
        if not used.any():
            return WeightedSum(inputs, inputs.parents, (0.0,) * len(norms))
        cosines = products[np.ix_(used, used)] / np.outer(norms[used], norms[used])
        shares = np.zeros(len(norms))
        shares[used] = self._shares(cosines) * norms.mean() / norms[used]
        return WeightedSum(inputs, inputs.parents, tuple(shares.tolist()))

    def _shares(self, cosines: Matrix) -> Vector:
        """Return the mean direction as shares of the unit vectors whose cosines are given."""
        count = len(cosines)

        def length(shares: Vector) -> float:
            return math.sqrt(max(float(shares @ cosines @ shares), 0.0))

        mean = np.full(count, 1 / count)
        mean = mean / length(mean) if length(mean) > self.tol else np.eye(count)[0]
        for _ in range(self.max_iter):
            dots = np.clip(cosines @ mean, -1, 1)
            angles = np.arccos(dots)
            stretch = np.divide(angles, np.sin(angles), out=np.zeros(count), where=angles >= self.tol)
            tangent = (stretch - (stretch @ dots) * mean) / count
            step = length(tangent)
            if step < self.tol or step == 0:
                break
            mean = np.cos(step) * mean + np.sin(step) * tangent / step
            mean = mean / length(mean) if length(mean) > self.tol else mean
        return mean

    def _stepwise(self, inputs: TensorInputs) -> Kernel:
        tensors = [parent.whole.reshape(-1) for parent in inputs.parents]
        wide = reduce(torch.promote_types, [x.dtype for x in tensors])
        tensors = [x.to(wide) for x in tensors]
        if len(tensors) == 1:
            return whole_tensor(tensors[0])
        norms = [x.float().norm() for x in tensors]
        units = [x / norm for x, norm in zip(tensors, norms, strict=True) if norm > self.tol]
        if not units:
            return whole_tensor(torch.zeros_like(tensors[0]))
        length = sum(float(norm) for norm in norms) / len(norms)
        return whole_tensor(self._mean(units) * length)

    def _mean(self, units: Sequence[Tensor]) -> Tensor:
        mean = torch.zeros_like(units[0])
        for unit in units:
            mean = mean + unit * (1 / len(units))
        length = mean.float().norm()
        mean = mean / length if length > self.tol else units[0].clone()
        for _ in range(self.max_iter):
            tangent = self._tangent(units, mean)
            step = tangent.float().norm()
            if step < self.tol:
                break
            mean = step.cos() * mean + step.sin() * (tangent / step)
            length = mean.float().norm()
            mean = mean / length if length > self.tol else mean
        return mean

    def _tangent(self, units: Sequence[Tensor], mean: Tensor) -> Tensor:
        tangent, share = torch.zeros_like(mean), 1 / len(units)
        for unit in units:
            dot = torch.dot(mean, unit).clamp(-1, 1)
            angle = dot.acos()
            if angle >= self.tol:
                tangent = tangent + share * (angle / angle.sin()) * (unit - dot * mean)
        return tangent
