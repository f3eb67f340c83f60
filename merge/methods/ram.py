"""RAM: average task vectors where several change an entry, take the change whole where only one does.

    merged = base + sum_m T_m a_m / max(1, sum_m a_m),   a_m = [|T_m| > epsilon]

Source: mergekit's method of this name.
"""

from dataclasses import dataclass

from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import Kernel
from merge.kernels.overlap import Overlap
from merge.method import AbstractMethod, number


@dataclass(frozen=True)
class Ram(AbstractMethod, name="ram", base_model="required", parents=(0, None), widest=True):
    """Keeps what only one parent learned, and averages what several did.

    Args:
        epsilon: Changes up to it count as none.
    """

    epsilon: float = number("changes up to it are none", default=1e-5, low=0.0, search_high=1e-3)

    def kernel(self, inputs: TensorInputs) -> Kernel:
        """Return the function that merges span by span."""
        return Overlap(inputs, self.epsilon, (1.0,) * len(inputs.parents))
