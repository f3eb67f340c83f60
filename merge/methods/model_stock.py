"""Model Stock: how far from the base towards the parents' mean, from the angles between their task vectors.

    t = N c / (1 + (N - 1) c),   merged = t mean_i x_i + (1 - t) base,   c the mean cosine over all pairs

Source: D.-H. Jang, S. Yun, D. Han, "Model Stock", ECCV 2024.
"""

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from merge.kernels.combination import Combination, task_vectors
from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import Kernel, whole_tensor
from merge.method import AbstractMethod, flag


@dataclass(frozen=True)
class ModelStock(
    AbstractMethod, name="model_stock", base_model="required", parents=(2, None), widest=True, cut="common"
):
    """Interpolates between the base and the mean of the parents, without a parameter to tune.

    Args:
        filter_wise: One position per row instead of one per tensor.
    """

    filter_wise: bool = flag("one position per row", default=False)

    def kernel(self, inputs: TensorInputs) -> Kernel:
        """Return the function that merges span by span."""
        if not self.filter_wise and not inputs.stepwise:
            return self._flat(inputs)
        rows = (-1, inputs.shape[-1]) if self.filter_wise and inputs.shape else (1, -1)
        base = inputs.base.whole.reshape(rows)
        tensors = [parent.whole.reshape(rows) for parent in inputs.parents]
        offsets = [x - base for x in tensors]
        cosines = [_cosine(a, b) for a, b in combinations(offsets, 2)]
        cosine = torch.stack(cosines).mean(dim=0)
        count = len(tensors)
        t = (count * cosine) / (1 + (count - 1) * cosine)
        mean = sum(tensors[1:], start=tensors[0]) / count
        return whole_tensor(t * mean + (1 - t) * base)

    def _flat(self, inputs: TensorInputs) -> Kernel:
        """Return the kernel for whole tensors: the position follows from the parents' scalar products."""
        products, count = inputs.gram(offsets=True), len(inputs.parents)
        norms = [math.sqrt(products[i, i]) for i in range(count)]
        cosines = [products[i, j] / max(norms[i] * norms[j], 1e-6) for i, j in combinations(range(count), 2)]
        cosine = sum(max(-1.0, min(1.0, value)) for value in cosines) / len(cosines)
        t = (count * cosine) / (1 + (count - 1) * cosine)
        shares = (t / count,) * count
        vectors = task_vectors(inputs, [None] * count, rescale=False, settings=shares)
        return Combination(vote=False, normalize=False, factor=1.0).kernel(inputs, shares, vectors)


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    lengths = (first.norm(dim=-1, keepdim=True) * second.norm(dim=-1, keepdim=True)).clamp(min=1e-6)
    cosine: Tensor = (first * second).sum(dim=-1, keepdim=True) / lengths
    return cosine.clamp(-1, 1)
