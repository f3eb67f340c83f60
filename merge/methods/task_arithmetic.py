"""Task arithmetic: weighted task vectors added to the base.

    merged = base + lambda * sum_m w_m (x_m - base)

Source: G. Ilharco et al., "Editing Models with Task Arithmetic", ICLR 2023.
"""

from dataclasses import dataclass

from merge.kernels.combination import Combination, task_vectors
from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import Kernel
from merge.method import AbstractMethod, flag, number, per_model, sum_fault


@dataclass(frozen=True)
class TaskArithmetic(AbstractMethod, name="task_arithmetic", base_model="required", parents=(0, None), cut="base"):
    """Adds what each parent learned, each with its weight.

    Args:
        weight: Factor of each task vector; negative ones make a model forget.
        density: Accepted and unused, as in the reference.
        normalize: Divide by the sum of the weights.
        rescale: Accepted and unused, as nothing is dropped.
        lambda_: Factor of the sum.
        int8_mask: Accepted and unused: it never changes a value.
    """

    weight: tuple[float, ...] = per_model("factor of the task vector", required=True, search_low=0.0, search_high=1.0)
    density: tuple[float, ...] = per_model("unused", default=1.0, above=0.0, high=1.0, search_low=0.1)
    normalize: bool = flag("divide by the sum of the weights", default=False)
    rescale: bool = flag("unused", default=False)
    lambda_: float = number("factor of the sum", default=1.0, search_low=0.5, search_high=1.5)
    int8_mask: bool = flag("unused", default=False)

    def kernel(self, inputs: TensorInputs) -> Kernel:
        """Return the function that merges span by span."""
        vectors = task_vectors(inputs, [None] * len(self.weight), rescale=False, settings=self.weight)
        return Combination(vote=False, normalize=self.normalize, factor=self.lambda_).kernel(
            inputs, self.weight, vectors
        )

    def fault(self, size: int, *, compat: bool) -> str | None:  # noqa: ARG002
        """Return what is wrong when the weights have no sum to divide by; the reference divides by a negative one."""
        return sum_fault(self.weight) if self.normalize and not compat else None
