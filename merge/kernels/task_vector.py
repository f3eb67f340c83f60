"""A parent minus the base, some of its entries dropped, the rest rescaled."""

from functools import cached_property

import torch
from torch import Tensor

from merge.kernels.inputs import Operand, TensorInputs
from merge.kernels.masks import KEEPS_ALL, AbstractMask


class TaskVector:
    """A parent minus the base; made whole, then given its mask, then the factor that the mask calls for.

    Attributes:
        inputs: The tensor it belongs to.
        parent: The fine-tuned model's tensor.
        key: What tells it from other task vectors, for what is remembered of it.
        mask: Which entries are kept; None for all.
        factor: What the entries that are kept are multiplied with; None for nothing, a tensor of one entry where the
            reference is followed.
        in_float32: Whether float16 entries are handled in float32: the reference does so where masks are random.
        records: How the compiled loops are told of it, by the kind of mask (`native_records`).
    """

    def __init__(self, inputs: TensorInputs, parent: Operand) -> None:
        self.inputs = inputs
        self.parent = parent
        self.key = (parent.key, inputs.base.key)
        self.mask: AbstractMask | None = None
        self.factor: Tensor | float | None = None
        self.in_float32 = False
        self.records: dict[int, bytes] = {}

    @cached_property
    def native_kind(self) -> int | None:
        """Number of its mask in the compiled loops; None where they do not know it."""
        return KEEPS_ALL if self.mask is None else self.mask.native_kind

    @property
    def may_be_kept(self) -> bool:
        """Whether it holds no tensor of its own, so that it may be kept beyond one merge."""
        return self.mask is None or not self.mask.holds_tensor

    @cached_property
    def is_zero(self) -> bool:
        """Whether the parent shares this tensor with the base."""
        return self.parent.identity == self.inputs.base.identity

    def full(self, span: slice = slice(None)) -> Tensor:
        """Return the entries of a span before any is dropped."""
        base = self.inputs.base[span]
        return self.parent[span].to(base.dtype) - base

    def masked(self, span: slice) -> Tensor:
        """Return the entries of a span, those that are dropped as 0, before rescaling."""
        entries = self.full(span)
        return entries if self.mask is None else entries.mul_(self.mask(span, entries))

    def __getitem__(self, span: slice) -> Tensor:
        entries = self.masked(span)
        if self.factor is None:
            return entries
        return self.computed(entries).mul_(self.factor).to(entries.dtype)

    def computed(self, entries: Tensor) -> Tensor:
        """Return entries in the dtype that they are multiplied and added in."""
        return entries.float() if self.in_float32 and entries.dtype == torch.float16 else entries
