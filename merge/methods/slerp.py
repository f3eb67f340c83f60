"""Spherical linear interpolation (SLERP) of two parents.

    slerp(a, b; t) = sin((1 - t) w) / sin(w) * a + sin(t w) / sin(w) * b,   cos(w) = <a, b> / (|a| |b|)

Source: K. Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from merge.kernels.combination import WeightedSum
from merge.kernels.inputs import TensorInputs
from merge.kernels.kernel import Kernel, whole_tensor
from merge.method import AbstractMethod, number

PARALLEL = 0.9995
"""Above this cosine tensors are interpolated linearly, where the formula nears 0 / 0."""


@dataclass(frozen=True)
class Slerp(AbstractMethod, name="slerp", base_model="required", parents=(0, 1), cut="common"):
    """Interpolates two tensors along the great circle between them, each tensor as one long vector.

    Args:
        t: Position between the parents; 0 gives the base model, 1 the other. Outside [0, 1] it extrapolates.
    """

    t: float = number("position between base (0) and the other (1)", required=True, search_low=0.0, search_high=1.0)

    def kernel(self, inputs: TensorInputs) -> Kernel:
        """Return the function that merges span by span."""
        if not inputs.parents:
            return lambda span: inputs.base[span]
        if inputs.stepwise:
            return whole_tensor(self._stepwise(inputs.base.whole, inputs.parents[0].whole))
        first, second = inputs.base, inputs.parents[0]
        return WeightedSum(inputs, (first, second), self._shares(_cosine(inputs)))

    def _shares(self, cosine: float) -> tuple[float, float]:
        if abs(cosine) > PARALLEL:
            return 1 - self.t, self.t
        angle = math.acos(cosine)
        return math.sin((1 - self.t) * angle) / math.sin(angle), math.sin(self.t * angle) / math.sin(angle)

    def _stepwise(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the reference's result: NumPy in float32, whatever the dtype."""
        a, b = (tensor.to(torch.float32).cpu().numpy() for tensor in (first, second))
        dot = np.sum(_unit(a) * _unit(b))
        if np.abs(dot) > PARALLEL:
            mixed = (1 - self.t) * a + self.t * b
        else:
            angle = np.arccos(dot)
            part = angle * self.t
            mixed = np.sin(angle - part) / np.sin(angle) * a + np.sin(part) / np.sin(angle) * b
        return torch.from_numpy(np.asarray(mixed)).to(first)


def _unit(
    vector: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]",
) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    norm = np.linalg.norm(vector)
    return vector / norm if norm > 1e-8 else vector


def _cosine(inputs: TensorInputs) -> float:
    first, second = inputs.base, inputs.parents[0]
    lengths = [inputs.product(operand, operand) ** 0.5 for operand in (first, second)]
    scale = math.prod(length if length > 1e-8 else 1.0 for length in lengths)
    return max(-1.0, min(1.0, inputs.product(first, second) / scale))
