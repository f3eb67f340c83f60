"""Spherical interpolation of any number of models, in the tangent space at their mean direction.

    u_i = x_i / |x_i|,  m = normalised sum w_i u_i,  T = sum w_i (u_i - <u_i, m> m)
    merged = (m cos |T| + sin |T| T / |T|) sum w_i |x_i|

Source: mergekit's multislerp; the exponential map of the sphere, P.-A. Absil et al., "Optimization Algorithms on
Matrix Manifolds", 2008, section 5.4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from merge.errors import NumericalError
from merge.group import Group
from merge.method import AbstractMethod, Kernel, flag, number, per_model, whole_tensor


@dataclass(frozen=True)
class MultiSlerp(AbstractMethod, name="multislerp", base_model="optional", parents=(1, None)):
    """Interpolates several parents, or their task vectors, on the sphere; one step from the mean direction.

    Args:
        weight: Share of each parent.
        normalize_weights: Divide the shares by their sum.
        eps: Lengths below it count as zero.
    """

    weight: tuple[float, ...] = per_model("share of the parent", required=True, search_low=0.0, search_high=1.0)
    normalize_weights: bool = flag("divide by the sum of the weights", default=True)
    eps: float = number("lengths below it are zero", default=1e-8, low=0.0, search_high=1e-6)

    def kernel(self, group: Group) -> Kernel:
        """Return the function that merges span by span."""
        tensors = [parent.whole for parent in group.parents]
        base = None if group.optional_base is None else group.base.whole
        stack = torch.stack([(x if base is None else x - base).reshape(-1) for x in tensors])
        weights = group.arithmetic.rounded(self.weight, stack)
        if self.normalize_weights:
            weights = weights / weights.sum()
        mixed = self._mixed(group, stack, weights).view(group.shape)
        return whole_tensor(mixed if base is None else base + mixed)

    def fault(self, size: int, *, compat: bool) -> str | None:  # noqa: ARG002
        """Return what is wrong when the weights sum to zero."""
        if self.normalize_weights and abs(sum(self.weight)) < 1e-8:
            return f"weight: must not sum to zero with normalize_weights, got {list(self.weight)}"
        return None

    def _mixed(self, group: Group, stack: Tensor, weights: Tensor) -> Tensor:
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
            raise NumericalError(f"{group.name}: the parents' directions must not cancel out; change a weight")
        mean = mean / length
        tangent = ((units - (units * mean).sum(dim=-1, keepdim=True) * mean) * column).sum(dim=0)
        step = tangent.norm() + self.eps
        direction = mean * step.cos() + tangent * (step.sin() / step)
        mixed: Tensor = direction * (norms.squeeze(-1) * weights).sum()
        return mixed
