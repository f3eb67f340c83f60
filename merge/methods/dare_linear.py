"""DARE: drop entries of each task vector at random, rescale the rest, add up.

    d_m' = d_m b_m |d_m|_1 / |d_m b_m|_1,   b_m ~ Bernoulli(density)

Source: L. Yu et al., "Language Models are Super Mario", ICML 2024. As in the reference, rescaling matches the L1
norm of each tensor, which is 1 / density only on average.
"""

from dataclasses import dataclass
from typing import ClassVar

from merge.kernels.combination import Combination, task_vectors
from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import Kernel
from merge.kernels.sparsify import at_random
from merge.method import AbstractMethod, flag, number, per_model, sum_fault


@dataclass(frozen=True)
class DareLinear(AbstractMethod, name="dare_linear", base_model="required", parents=(0, None), random=True, cut="base"):
    """Drops entries at random, rescales the rest, and adds them up.

    Args:
        weight: Factor of each task vector.
        density: Probability that an entry is kept.
        normalize: Divide by the weights that take part.
        rescale: Bring the L1 norm of each vector back to what it was.
        lambda_: Factor of the result.
        int8_mask: Accepted and unused: it never changes a value.
    """

    weight: tuple[float, ...] = per_model("factor of the task vector", required=True, search_low=0.0, search_high=1.0)
    density: tuple[float, ...] = per_model("share of entries kept", default=1.0, above=0.0, high=1.0, search_low=0.1)
    normalize: bool = flag("divide by the sum of the weights", default=False)
    rescale: bool = flag("keep the L1 norm of each vector", default=True)
    lambda_: float = number("factor of the result", default=1.0, search_low=0.5, search_high=1.5)
    int8_mask: bool = flag("unused", default=False)
    vote: ClassVar[bool] = False
    """Whether entries that disagree with the sign of the sum are left out."""

    def kernel(self, inputs: TensorInputs) -> Kernel:
        """Return the function that merges span by span."""
        drops = [at_random(density) for density in self.density]
        vectors = task_vectors(inputs, drops, rescale=self.rescale, settings=self.density)
        return Combination(vote=self.vote, normalize=self.normalize, factor=self.lambda_).kernel(
            inputs, self.weight, vectors
        )

    def fault(self, size: int, *, compat: bool) -> str | None:  # noqa: ARG002
        """Return what is wrong when the weights have no sum to divide by; the reference divides by a negative one."""
        return sum_fault(self.weight) if self.normalize and not self.vote and not compat else None
