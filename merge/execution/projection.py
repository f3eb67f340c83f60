"""The scalar product of a gradient with what a kernel would write, without writing it where a few products tell.

A sum of weighted tensors needs the gradient's product with each of them, once, for any weights. Task vectors added up
need it with each vector; elected ones with what was elected, for any factor. Any other kernel is run. What several
kernels need is taken together, so that gradient and parents are read from memory once (`prepare`).
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from merge.kernels.combination import CombinedVectors, WeightedSum
from merge.kernels.inputs import BLOCK, Operand, TensorInputs
from merge.kernels.kernel import AbstractFused, Kernel
from merge.kernels.native_records import combinable, mixture
from merge.kernels.task_vector import TaskVector
from merge.memory.large_pages import ReusedBuffer
from merge.native import tensors as fused

_LIFT = 1024.0
"""Factor of what is added to a base while its product is taken: float32 then rounds the sum, not the base.

A power of two, so that it rounds nothing itself.
"""
_ON_ACCELERATOR = 1 << 24
"""Entries per block there."""


class NeedsGradientError(Exception):
    """A kernel whose product does not follow from the products at hand."""


def form(kernel: Kernel) -> Hashable:
    """Return what two kernels share whose products differ in numbers only; None for one that must be run."""
    if isinstance(kernel, WeightedSum):
        return tuple(operand.key for operand in kernel.operands)
    if isinstance(kernel, CombinedVectors):
        vectors = tuple(_identity(vector) for vector in kernel.vectors)
        return (vectors, kernel.weights, kernel.normalize) if kernel.vote else vectors
    return None


def _identity(vector: TaskVector) -> Hashable:
    mask = None if vector.mask is None else vector.mask.identity
    return vector.parent.key, mask, None if vector.factor is None else float(vector.factor)


def _alone(vector: TaskVector) -> CombinedVectors:
    return CombinedVectors(vector.inputs, (vector,), (1.0,), vote=False, normalize=False, scale=1.0)


def _operands(kernel: Kernel) -> tuple[Operand, ...]:
    """Return the tensors whose products tell that of a kernel, as far as whole ones do."""
    if isinstance(kernel, WeightedSum):
        return kernel.operands
    if not isinstance(kernel, CombinedVectors):
        return ()
    whole = () if kernel.vote else tuple(v.parent for v in kernel.vectors if v.mask is None and v.factor is None)
    return (*whole, kernel.inputs.base)


def _mixtures(kernel: Kernel) -> Iterator[tuple[Hashable, CombinedVectors]]:
    """Go through what else tells it: elections, and vectors of which something is dropped."""
    if isinstance(kernel, CombinedVectors) and kernel.vote:
        yield ("elected", form(kernel)), kernel
    elif isinstance(kernel, CombinedVectors):
        masked = (v for v in kernel.vectors if v.mask is not None or v.factor is not None)
        yield from ((("vector", _identity(vector)), _alone(vector)) for vector in masked)


class AbstractProjection(ABC):
    """Products of the gradient of one tensor, in float64."""

    def of(self, kernel: Kernel) -> float:
        """Return the product with what a kernel writes, before rounding.

        Raises:
            NeedsGradientError: It does not follow from what is known.
        """
        if isinstance(kernel, WeightedSum):
            pairs = zip(kernel.operands, kernel.weights, strict=True)
            return sum(weight * self.operand(operand) for operand, weight in pairs)
        if isinstance(kernel, CombinedVectors):
            change = self.elected(kernel) if kernel.vote else self._added(kernel)
            return self.operand(kernel.inputs.base) + kernel.scale * change
        return self.written(kernel)

    def prepare(self, kernels: Sequence[Kernel]) -> None:  # noqa: B027 - nothing to do is a fine answer
        """Take what products of kernels will need, where that is cheaper at once."""

    def _added(self, kernel: CombinedVectors) -> float:
        return sum(weight * self.vector(vector) for vector, weight in zip(kernel.vectors, kernel.weights, strict=True))

    @abstractmethod
    def operand(self, operand: Operand) -> float:
        """Return the product with a parent or the base."""

    @abstractmethod
    def vector(self, vector: TaskVector) -> float:
        """Return the product with a task vector, masked and rescaled."""

    @abstractmethod
    def elected(self, kernel: CombinedVectors) -> float:
        """Return the product with what a vote leaves, before `scale`."""

    @abstractmethod
    def written(self, kernel: Kernel) -> float:
        """Return the product with what a kernel writes when it is run."""


class KnownProducts(AbstractProjection):
    """Products that somebody else took, such as a backward pass over adapters.

    Args:
        inputs: The tensor.
        offsets: Product with each parent's offset from the origin.
        origin: Product with the origin: the base, or any tensor that the parents are given as offsets from.
    """

    def __init__(self, inputs: TensorInputs, offsets: Sequence[float], origin: float) -> None:
        keys = [parent.key for parent in inputs.parents]
        self._offsets = dict(zip(keys, offsets, strict=True))
        self._origin = origin

    def operand(self, operand: Operand) -> float:
        """Return the product with a parent or the base."""
        return self._origin + self._offsets.get(operand.key, 0.0)

    def vector(self, vector: TaskVector) -> float:
        """Return the product with a task vector of which nothing is dropped."""
        if vector.mask is not None:
            raise NeedsGradientError
        return self._offsets[vector.parent.key]

    def elected(self, kernel: CombinedVectors) -> float:  # noqa: ARG002
        """Refuse: an election looks at entries."""
        raise NeedsGradientError

    def written(self, kernel: Kernel) -> float:  # noqa: ARG002
        """Refuse: a kernel writes entries."""
        raise NeedsGradientError


class Projection(AbstractProjection):
    """Products of a whole gradient; what was asked for once is remembered.

    Args:
        inputs: The tensor.
        gradient: Its gradient, of the same shape; any float dtype, any device.
        buffer: Memory for one float32 tensor, where kernels run as one pass.
    """

    def __init__(self, inputs: TensorInputs, gradient: Tensor, buffer: ReusedBuffer) -> None:
        device = inputs.operands[0].raw.device
        self._inputs, self._buffer = inputs, buffer
        self._gradient = gradient.detach().to(device).contiguous()
        self._compiled = fused.readable([self._gradient])
        self._products: dict[Hashable, float] = {}

    def prepare(self, kernels: Sequence[Kernel]) -> None:
        """Take the products with all parents, vectors and elections of some kernels in one pass."""
        if not self._compiled or not self._inputs.fusable:
            return
        plain: dict[Hashable, Operand] = {}
        mixed: dict[Hashable, CombinedVectors] = {}
        for kernel in kernels:
            plain |= {operand.key: operand for operand in _operands(kernel)}
            mixed |= {key: part for key, part in _mixtures(kernel) if combinable([v.mask for v in part.vectors])}
        plain = {key: operand for key, operand in plain.items() if key not in self._products}
        mixed = {key: part for key, part in mixed.items() if key not in self._products}
        if not plain and not mixed:
            return
        base, made = self._inputs.operands[-1], list(mixed.values())
        records = [mixture(k.vectors, k.weights, vote=k.vote, normalize=k.normalize, scale=_LIFT) for k in made]
        tensors = [operand.raw for operand in plain.values()]
        found = fused.projections(self._gradient, tensors, base.raw, records)
        self._products |= dict(zip(plain, found, strict=False))
        for key, lifted in zip(mixed, found[len(plain) :], strict=True):
            self._products[key] = (lifted - self.operand(base)) / _LIFT

    def operand(self, operand: Operand) -> float:
        """Return the product with a parent or the base."""
        key = operand.key
        if key not in self._products:
            raw = operand.raw
            compiled = self._compiled and fused.readable([raw])
            self._products[key] = (
                fused.product(self._gradient, raw) if compiled else self._by_blocks(operand.__getitem__)
            )
        return self._products[key]

    def vector(self, vector: TaskVector) -> float:
        """Return the product with a task vector, masked and rescaled."""
        if vector.mask is None and vector.factor is None:
            return self.operand(vector.parent) - self.operand(self._inputs.base)
        key = ("vector", _identity(vector))
        if key not in self._products:
            self._products[key] = self._change(_alone(vector))
        return self._products[key]

    def elected(self, kernel: CombinedVectors) -> float:
        """Return the product with what a vote leaves, before `scale`."""
        key = ("elected", form(kernel))
        if key not in self._products:
            self._products[key] = self._change(kernel)
        return self._products[key]

    def written(self, kernel: Kernel) -> float:
        """Return the product with what a kernel writes when it is run."""
        if isinstance(kernel, AbstractFused) and self._compiled:
            out = self._buffer.take(self._inputs.shape, torch.float32)
            one_pass = kernel.one_pass(out, torch.float32)
            if one_pass is not None:
                one_pass()
                return fused.product(self._gradient, out)
        return self._by_blocks(kernel)

    def _change(self, kernel: CombinedVectors) -> float:
        """Return the product with what a kernel adds to its base, for a scale of 1."""
        lifted = self.written(replace(kernel, scale=_LIFT))
        return (lifted - self.operand(self._inputs.base)) / _LIFT

    def _by_blocks(self, entries: Kernel) -> float:
        flat = self._gradient.view(-1)
        return sum(float((entries(span).double() * flat[span].double()).sum()) for span in self._spans())

    def _spans(self) -> Iterator[slice]:
        size, block = self._inputs.size, BLOCK if self._gradient.is_cpu else _ON_ACCELERATOR
        return (slice(start, min(start + block, size)) for start in range(0, size, block))
