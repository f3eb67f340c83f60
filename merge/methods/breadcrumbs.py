"""Model Breadcrumbs: drop the largest and the smallest entries of each task vector, add up the rest.

    kept are the entries ranked between gamma and gamma + density of the way down, by magnitude

Source: M. Davari, E. Belilovsky, "Model Breadcrumbs", ECCV 2024.
"""

from dataclasses import dataclass
from typing import ClassVar

from merge.kernels.combination import Combination, task_vectors
from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import Kernel
from merge.kernels.sparsify import between
from merge.method import AbstractMethod, flag, number, per_model, sum_fault


@dataclass(frozen=True)
class Breadcrumbs(AbstractMethod, name="breadcrumbs", base_model="required", parents=(0, None), cut="base"):
    """Drops outliers and noise of each task vector.

    Where int(gamma * n) is 0 no outlier is dropped, as in the paper; the reference drops the whole vector there.

    Args:
        weight: Factor of each task vector.
        density: Share of entries that is kept.
        gamma: Share of entries, the largest, that is dropped.
        normalize: Divide by the weights that take part.
        rescale: Bring the L1 norm of each vector back to what it was.
        lambda_: Factor of the result.
        int8_mask: Accepted and unused: it never changes a value.
    """

    weight: tuple[float, ...] = per_model("factor of the task vector", required=True, search_low=0.0, search_high=1.0)
    density: tuple[float, ...] = per_model("share of entries kept", default=1.0, above=0.0, high=1.0, search_low=0.1)
    gamma: tuple[float, ...] = per_model("share dropped at the top", default=0.01, low=0.0, high=1.0, search_high=0.1)
    normalize: bool = flag("divide by the weights that take part", default=False)
    rescale: bool = flag("keep the L1 norm of each vector", default=False)
    lambda_: float = number("factor of the result", default=1.0, search_low=0.5, search_high=1.5)
    int8_mask: bool = flag("unused", default=False)
    vote: ClassVar[bool] = False
    """Whether entries that disagree with the sign of the sum are left out."""

    def kernel(self, inputs: TensorInputs) -> Kernel:
        """Return the function that merges span by span."""
        settings = list(zip(self.density, self.gamma, strict=True))
        vectors = task_vectors(inputs, [between(*pair) for pair in settings], rescale=self.rescale, settings=settings)
        return Combination(vote=self.vote, normalize=self.normalize, factor=self.lambda_).kernel(
            inputs, self.weight, vectors
        )

    def fault(self, size: int, *, compat: bool) -> str | None:  # noqa: ARG002
        """Return what is wrong when the weights have no sum to divide by; the reference divides by a negative one."""
        return sum_fault(self.weight) if self.normalize and not self.vote and not compat else None
