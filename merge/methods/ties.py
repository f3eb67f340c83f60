"""TIES: trim each task vector to its largest entries, elect a sign per entry, average what agrees.

    s = sign(sum_m w_m d_m)
    merged = base + lambda * sum_m w_m d_m [sign(w_m d_m) = s] / sum_m w_m [sign(w_m d_m) = s]

Source: P. Yadav et al., "TIES-Merging: Resolving Interference When Merging Models", NeurIPS 2023.
"""

from dataclasses import dataclass

from merge.kernels.combination import Combination, task_vectors
from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import Kernel
from merge.kernels.sparsify import largest
from merge.method import AbstractMethod, flag, number, per_model


@dataclass(frozen=True)
class Ties(AbstractMethod, name="ties", base_model="required", parents=(0, None), cut="base"):
    """Keeps the largest entries of each task vector, and of those the ones that agree on a sign.

    A sum of exactly zero counts as positive. A density that would keep no entry of a small tensor keeps one.

    Args:
        weight: Factor of each task vector.
        density: Share of entries that is kept.
        normalize: Divide by the weights of the models that agree.
        rescale: Bring the L1 norm of each trimmed vector back to that of the untrimmed one.
        lambda_: Factor of the result.
        int8_mask: Accepted and unused: it never changes a value.
    """

    weight: tuple[float, ...] = per_model("factor of the task vector", required=True, search_low=0.0, search_high=1.0)
    density: tuple[float, ...] = per_model("share of entries kept", default=1.0, above=0.0, high=1.0, search_low=0.1)
    normalize: bool = flag("divide by the weights that agree", default=True)
    rescale: bool = flag("keep the L1 norm of each vector", default=False)
    lambda_: float = number("factor of the result", default=1.0, search_low=0.5, search_high=1.5)
    int8_mask: bool = flag("unused", default=False)

    def kernel(self, inputs: TensorInputs) -> Kernel:
        """Return the function that merges span by span."""
        drops = [largest(density) for density in self.density]
        vectors = task_vectors(inputs, drops, rescale=self.rescale, settings=self.density)
        return Combination(vote=True, normalize=self.normalize, factor=self.lambda_).kernel(
            inputs, self.weight, vectors
        )

    def fault(self, size: int, *, compat: bool) -> str | None:
        """Return what is wrong when the reference would stop at a tensor of which nothing is kept."""
        small = [density for density in self.density if int(density * size) == 0]
        if compat and size and small:
            return f"density: must keep an entry of every tensor, got {small[0]:g} of {size} entries; raise it"
        return None
