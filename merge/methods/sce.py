"""SCE: select the positions where task vectors vary most, calculate weights from their energy, erase minorities.

    w_m = mean(T_m^2) / sum_m mean(T_m^2),   merged = base + sum_m w_m T_m keep_m / sum_m w_m keep_m

Source: F. Wan et al., "FuseChat: Knowledge Fusion of Chat Models", 2024.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import AbstractFused, Kernel, whole_tensor
from merge.kernels.masks import ThresholdMask
from merge.kernels.overlap import added, raws
from merge.kernels.top_k import Scores
from merge.method import AbstractMethod, flag, number
from merge.native import overlap as fused_overlap
from merge.native import tensors as fused


@dataclass(frozen=True)
class Sce(AbstractMethod, name="sce", base_model="required", parents=(0, None), widest=True):
    """Weighs each parent by the energy of its task vector, tensor by tensor.

    Of positions whose variance is the same, the first in memory are kept.

    Args:
        select_topk: Share of the positions kept, those of the largest variance over the parents.
        int8_mask: Accepted and unused: it never changes a value.
    """

    select_topk: float = number("share of positions kept", default=1.0, low=0.0, high=1.0, search_low=0.05)
    int8_mask: bool = flag("unused", default=False)

    def kernel(self, inputs: TensorInputs) -> Kernel:
        """Return the function that merges span by span; variances are of the parents and kept."""
        if not inputs.parents:
            return whole_tensor(inputs.base.whole)
        if inputs.stepwise:
            return whole_tensor(self._stepwise(inputs))
        if self.select_topk >= 1:
            squares = inputs.gram(offsets=True).diagonal().tolist()
            return _Weighed(inputs, _shares(squares, inputs.size), None)
        key = ("variance", tuple(operand.key for operand in inputs.operands))
        variances = inputs.cache.tensor(key, lambda: _variances(inputs))
        filled = inputs.cache.get((*key, "filled"), lambda: int(torch.count_nonzero(variances)))
        count = int(filled * self.select_topk)
        if count == 0:
            return whole_tensor(inputs.base.whole)
        mask = Scores(inputs, key, variances, None, lambda span: variances[span]).largest(count)
        squares = inputs.cache.get((*key, count), lambda: _energies(inputs, variances, mask))
        return _Weighed(inputs, _shares(squares, inputs.size), (variances, mask))

    def _stepwise(self, inputs: TensorInputs) -> Tensor:
        base = inputs.base.whole.reshape(-1)
        vectors = torch.stack([parent.whole.reshape(-1) - base for parent in inputs.parents])
        if self.select_topk < 1:
            vectors = vectors * _most_varying(vectors, self.select_topk)
        majority = (vectors.sum(dim=0) >= 0).to(vectors.dtype) * 2 - 1
        agrees = (vectors.sign() == majority).to(vectors.dtype)
        energy = (vectors**2).mean(dim=1)
        total = energy.sum()
        shares = energy / total if total >= 1e-6 else torch.ones_like(energy) / len(vectors)
        kept = shares.unsqueeze(-1) * agrees
        return base + (vectors * kept).sum(dim=0) / kept.sum(dim=0).clamp(min=1e-6)


@dataclass(frozen=True, eq=False)
class _Weighed(AbstractFused):
    """Adds what agrees with the sign of the sum, each parent with its share.

    Args:
        inputs: The tensor it belongs to.
        shares: Of each parent.
        kept: Scores, and the cut that tells which entries take part; None for all.
    """

    inputs: TensorInputs
    shares: tuple[float, ...]
    kept: tuple[Tensor, ThresholdMask] | None

    def __call__(self, span: slice) -> Tensor:
        """Return the merged entries of one span."""
        vectors = _changes(self.inputs, span)
        if self.kept is not None:
            scores, cut = self.kept
            vectors = vectors * cut(span, scores[span])
        majority = (added(self.inputs, vectors) >= 0).to(vectors.dtype) * 2 - 1
        agrees = (vectors.sign() == majority).to(vectors.dtype)
        kept = torch.tensor(self.shares, dtype=torch.float32, device=vectors.device).unsqueeze(-1) * agrees
        mix = added(self.inputs, vectors * kept) / added(self.inputs, kept).clamp(min=1e-6)
        return self.inputs.base[span] + mix

    def one_pass(self, out: Tensor, dtype: torch.dtype) -> fused.OnePass | None:
        """Return what writes the merged tensor."""
        if not self.inputs.fusable or len(self.inputs.parents) > fused.MAX_TENSORS:
            return None
        kept = None if self.kept is None else (self.kept[0], self.kept[1].numbers)
        return fused_overlap.sce(out, dtype, raws(self.inputs), self.shares, kept)


def _changes(inputs: TensorInputs, span: slice) -> Tensor:
    base = inputs.base[span]
    return torch.stack([parent[span] - base for parent in inputs.parents])


def _shares(squares: list[float], size: int) -> tuple[float, ...]:
    """Return the parents' shares of the energy, given the sums of squares of their task vectors."""
    energies = [square / size for square in squares]
    total = sum(energies)
    return tuple(energy / total if total >= 1e-6 else 1 / len(energies) for energy in energies)


def _variances(inputs: TensorInputs) -> Tensor:
    """Return the population variance of each entry over the parents."""
    if inputs.fusable and len(inputs.parents) <= fused.MAX_TENSORS:
        return fused_overlap.variances(raws(inputs))
    return torch.cat([_changes(inputs, span).var(dim=0, unbiased=False) for span in inputs.spans()])


def _energies(inputs: TensorInputs, variances: Tensor, mask: ThresholdMask) -> list[float]:
    """Return the sum of squares of each task vector where its variance is kept."""
    if inputs.fusable and len(inputs.parents) <= fused.MAX_TENSORS:
        return fused_overlap.energies(raws(inputs), variances, mask.numbers)

    def squares(number: int, span: slice) -> Tensor:
        change = inputs.parents[number][span] - inputs.base[span]
        return change.mul_(mask(span, variances[span])).double().square_()

    return [
        inputs.sum_of(lambda span, number=number: squares(number, span))  # type: ignore[misc]
        for number in range(len(inputs.parents))
    ]


def _most_varying(vectors: Tensor, share: float) -> Tensor:
    variance = vectors.var(dim=0, unbiased=False)
    count = int(int(torch.count_nonzero(variance)) * share)
    mask = torch.zeros_like(variance)
    mask[torch.topk(variance, count).indices] = 1
    return mask
