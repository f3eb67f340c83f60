"""What a merge method prepares for one tensor: a function of spans, and where possible one pass over the whole."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from merge.native.tensors import OnePass

Kernel: TypeAlias = Callable[[slice], Tensor]
"""Gives the merged entries of one span of the flattened tensor, float32 unless the reference is followed."""


class AbstractFused(ABC):
    """A kernel that can also write a whole tensor in one pass, with the same bits."""

    @abstractmethod
    def __call__(self, span: slice) -> Tensor:
        """Return the merged entries of one span of the flattened tensor."""

    @abstractmethod
    def one_pass(self, out: Tensor, dtype: torch.dtype) -> OnePass | None:
        """Return what writes the merged tensor, rounded to a dtype; None if one pass cannot do it.

        It knows mere addresses: this kernel and `out` must live until it has run.
        """


def whole_tensor(result: Tensor) -> Kernel:
    """Return a kernel that reads out of a finished tensor."""
    flat = result.reshape(-1)
    return lambda span: flat[span]
