"""NearSwap: where the other model is close to the base, take its value; where it is far, stay.

    w = clamp(t / |base - x|, 0, 1),   merged = w x + (1 - w) base

Source: mergekit's nearswap, after Alchemonaut's QuartetAnemoi-70B.
"""

from dataclasses import dataclass

from torch import Tensor

from merge.group import Group
from merge.method import AbstractMethod, Kernel, number


@dataclass(frozen=True)
class NearSwap(AbstractMethod, name="nearswap", base_model="required", parents=(1, 1), widest=True):
    """Swaps in what is near.

    Args:
        t: Entries closer than this are taken whole.
    """

    t: float = number("distance that is taken whole", required=True, search_low=0.0, search_high=0.01)

    def kernel(self, group: Group) -> Kernel:
        """Return the function that merges span by span."""

        def merged(span: slice) -> Tensor:
            base, other = group.base[span], group.parents[0][span]
            weight = (self.t / (base - other).abs().clamp(min=1e-6)).clamp(0, 1)
            return weight * other + (1 - weight) * base

        return merged
