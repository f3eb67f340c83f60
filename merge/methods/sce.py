"""SCE: select the positions where task vectors vary most, calculate weights from their energy, erase minorities.

    w_m = mean(T_m^2) / sum_m mean(T_m^2),   merged = base + sum_m w_m T_m keep_m / sum_m w_m keep_m

Source: F. Wan et al., "FuseChat: Knowledge Fusion of Chat Models", 2024.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from merge.group import Group
from merge.method import AbstractMethod, Kernel, flag, number, whole_tensor


@dataclass(frozen=True)
class Sce(AbstractMethod, name="sce", base_model="required", parents=(0, None), widest=True):
    """Weighs each parent by the energy of its task vector, tensor by tensor.

    Args:
        select_topk: Share of the positions kept, those of the largest variance over the parents.
        int8_mask: Accepted and unused: it never changes a value.
    """

    select_topk: float = number("share of positions kept", default=1.0, low=0.0, high=1.0, search_low=0.05)
    int8_mask: bool = flag("unused", default=False)

    def kernel(self, group: Group) -> Kernel:
        """Return the function that merges span by span."""
        base = group.base.whole.reshape(-1)
        if not group.parents:
            return whole_tensor(base)
        vectors = torch.stack([parent.whole.reshape(-1) - base for parent in group.parents])
        if self.select_topk < 1:
            vectors = vectors * _most_varying(vectors, self.select_topk)
        majority = (vectors.sum(dim=0) >= 0).to(vectors.dtype) * 2 - 1
        agrees = (vectors.sign() == majority).to(vectors.dtype)
        energy = (vectors**2).mean(dim=1)
        total = energy.sum()
        shares = energy / total if total >= 1e-6 else torch.ones_like(energy) / len(vectors)
        kept = shares.unsqueeze(-1) * agrees
        return whole_tensor(base + (vectors * kept).sum(dim=0) / kept.sum(dim=0).clamp(min=1e-6))


def _most_varying(vectors: Tensor, share: float) -> Tensor:
    variance = vectors.var(dim=0, unbiased=False)
    count = int(int(torch.count_nonzero(variance)) * share)
    mask = torch.zeros_like(variance)
    mask[torch.topk(variance, count).indices] = 1
    return mask
