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
        tensors = [parent.whole.reshape(-1) for parent in group.parents]
        if len(tensors) == 1:
            return whole_tensor(tensors[0])
        norms = [x.float().norm() for x in tensors]
        units = [x / norm for x, norm in zip(tensors, norms, strict=True) if norm > self.tol]
        if not units:
            return whole_tensor(torch.zeros_like(tensors[0]))
        length = float(torch.stack(norms).mean())
        return whole_tensor(self._mean(torch.stack(units)) * length)

    def _mean(self, units: Tensor) -> Tensor:
        shares = torch.full((len(units), 1), 1 / len(units), dtype=units.dtype, device=units.device)
        mean = (units * shares).sum(dim=0)
        length = mean.float().norm()
        mean = mean / length if length > self.tol else units[0].clone()
        for _ in range(self.max_iter):
            tangent = self._tangent(units, mean, shares)
            step = tangent.float().norm()
            if step < self.tol:
                break
            mean = step.cos() * mean + step.sin() * (tangent / step)
            length = mean.float().norm()
            mean = mean / length if length > self.tol else mean
        return mean

    def _tangent(self, units: Tensor, mean: Tensor, shares: Tensor) -> Tensor:
        dots = (units @ mean).clamp(-1, 1)
        angles = dots.acos()
        stretch = torch.where(angles < self.tol, 0.0, angles / angles.sin()).unsqueeze(-1)
        return (shares * (stretch * (units - dots.unsqueeze(-1) * mean))).sum(dim=0)
