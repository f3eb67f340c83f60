"""DELLA without the vote: drop entries at random, small ones more often, and add up the rest.

    P(kept) = density - epsilon + 2 epsilon r,   r = rank of the entry's magnitude in its row, from 0 to 1

Source: P. T. Deep, R. Bhardwaj, S. Poria, "DELLA-Merging", 2024.
"""

from dataclasses import dataclass
from typing import ClassVar

from merge.kernels.combination import Combination, task_vectors
from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import Kernel
from merge.kernels.sparsify import by_rank, rank_fault
from merge.method import AbstractMethod, flag, number, per_model, sum_fault


@dataclass(frozen=True)
class DellaLinear(
    AbstractMethod, name="della_linear", base_model="required", parents=(0, None), random=True, cut="base"
):
    """Drops entries at random by rank, rescales the rest, and adds them up.

    A density nearer to 0 or 1 than epsilon narrows epsilon, with a warning; the reference stops there.

    Args:
        weight: Factor of each task vector.
        density: Mean probability that an entry is kept.
        epsilon: How far the probability of the smallest and largest entry of a row lies from the mean.
        normalize: Divide by the weights that take part.
        rescale: Bring the L1 norm of each vector back to what it was.
        lambda_: Factor of the result.
        int8_mask: Accepted and unused: it never changes a value.
    """

    weight: tuple[float, ...] = per_model("factor of the task vector", required=True, search_low=0.0, search_high=1.0)
    density: tuple[float, ...] = per_model("share of entries kept", default=1.0, above=0.0, high=1.0, search_low=0.2)
    epsilon: tuple[float, ...] = per_model("spread of probability", default=0.15, low=0.0, high=0.5, search_high=0.2)
    normalize: bool = flag("divide by the weights that take part", default=False)
    rescale: bool = flag("keep the L1 norm of each vector", default=True)
    lambda_: float = number("factor of the result", default=1.0, search_low=0.5, search_high=1.5)
    int8_mask: bool = flag("unused", default=False)
    vote: ClassVar[bool] = False
    """Whether entries that disagree with the sign of the sum are left out."""

    def kernel(self, inputs: TensorInputs) -> Kernel:
        """Return the function that merges span by span."""
        settings = list(zip(self.density, self.epsilon, strict=True))
        vectors = task_vectors(inputs, [by_rank(*pair) for pair in settings], rescale=self.rescale, settings=settings)
        return Combination(vote=self.vote, normalize=self.normalize, factor=self.lambda_).kernel(
            inputs, self.weight, vectors
        )

    def fault(self, size: int, *, compat: bool) -> str | None:  # noqa: ARG002
        """Return what stops the reference, a probability outside (0, 1), or weights without a sum to divide by."""
        if compat:
            return rank_fault(self.density, self.epsilon)
        return sum_fault(self.weight) if self.normalize and not self.vote else None
