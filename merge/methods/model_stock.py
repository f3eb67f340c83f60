"""Model Stock: how far from the base towards the parents' mean, from the angles between their task vectors.

    t = N c / (1 + (N - 1) c),   merged = t mean_i x_i + (1 - t) base,   c the mean cosine over all pairs

Source: D.-H. Jang, S. Yun, D. Han, "Model Stock", ECCV 2024.
"""

from dataclasses import dataclass
from itertools import combinations

from torch import Tensor

from merge.group import Group
from merge.method import AbstractMethod, Kernel, flag, whole_tensor


@dataclass(frozen=True)
class ModelStock(AbstractMethod, name="model_stock", base_model="required", parents=(2, None)):
    """Interpolates between the base and the mean of the parents, without a parameter to tune.

    Args:
        filter_wise: One position per row instead of one per tensor.
    """

    filter_wise: bool = flag("one position per row", default=False)

    def kernel(self, group: Group) -> Kernel:
        """Return the function that merges span by span."""
        rows = (-1, group.shape[-1]) if self.filter_wise and group.shape else (1, -1)
        base = group.base.whole.reshape(rows)
        tensors = [parent.whole.reshape(rows) for parent in group.parents]
        offsets = [x - base for x in tensors]
        cosines = [_cosine(a, b) for a, b in combinations(offsets, 2)]
        cosine = sum(cosines[1:], start=cosines[0]) / len(cosines)
        count = len(tensors)
        t = (count * cosine) / (1 + (count - 1) * cosine)
        mean = sum(tensors[1:], start=tensors[0]) / count
        return whole_tensor(t * mean + (1 - t) * base)


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    lengths = (first.norm(dim=-1, keepdim=True) * second.norm(dim=-1, keepdim=True)).clamp(min=1e-6)
    cosine: Tensor = (first * second).sum(dim=-1, keepdim=True) / lengths
    return cosine.clamp(-1, 1)
