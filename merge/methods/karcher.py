"""Karcher mean: the point on the sphere with the least squared distance to all parents, times their mean length.

    T = mean_i (w_i / sin w_i) (u_i - <u_i, u> u),   cos w_i = <u_i, u>
    u <- cos |T| u + sin |T| T / |T|,   until |T| < tol

Source: H. Karcher, "Riemannian center of mass and mollifier smoothing", 1977.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from merge.group import Group
from merge.method import AbstractMethod, Kernel, number, whole, whole_tensor


@dataclass(frozen=True)
class Karcher(AbstractMethod, name="karcher", parents=(1, None)):
    """Averages directions on the sphere and lengths on the line, all parents alike.

    Args:
        max_iter: Iterations at most.
        tol: Lengths and angles below it count as zero.
    """

    max_iter: int = whole("iterations at most", default=10, low=1, search_high=20)
    tol: float = number("lengths below it are zero", default=1e-5, low=0.0, search_high=1e-3)

    def kernel(self, group: Group) -> Kernel:
        """Return the function that merges span by span."""
        tensors = [parent.whole for parent in group.parents]
        if len(tensors) == 1:
            return whole_tensor(tensors[0])
        norms = [float(x.float().norm()) for x in tensors]
        units = [x / norm for x, norm in zip(tensors, norms, strict=True) if norm > self.tol]
        if not units:
            return whole_tensor(torch.zeros_like(tensors[0]))
        return whole_tensor(self._mean(units) * (sum(norms) / len(norms)))

    def _mean(self, units: list[Tensor]) -> Tensor:
        share = 1 / len(units)
        mean = torch.zeros_like(units[0])
        for unit in units:
            mean = mean + share * unit
        length = mean.float().norm()
        mean = mean / length if length > self.tol else units[0].clone()
        for _ in range(self.max_iter):
            tangent = self._tangent(units, mean, share)
            step = tangent.float().norm()
            if step < self.tol:
                break
            mean = step.cos() * mean + step.sin() * (tangent / step)
            length = mean.float().norm()
            mean = mean / length if length > self.tol else mean
        return mean

    def _tangent(self, units: list[Tensor], mean: Tensor, share: float) -> Tensor:
        tangent = torch.zeros_like(mean)
        for unit in units:
            dot = (unit * mean).sum().clamp(-1, 1)
            angle = dot.acos()
            if angle >= self.tol:
                tangent = tangent + share * (angle / angle.sin()) * (unit - dot * mean)
        return tangent
