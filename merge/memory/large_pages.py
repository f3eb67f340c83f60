"""Memory for tensors that every candidate streams over, on large pages where the system gives them.

With pages of 4 KiB a merge pass spends a quarter of its time on finding them; with 2 MiB it runs at the speed of a
copy.
"""

import mmap
from collections.abc import Sequence
from contextlib import suppress
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

CHUNK = 64 << 20
PAGE = 2 << 20
_ALIGNMENT = 64


class LargePages:
    """Hands out memory in pieces; nothing is given back before the last tensor on it is gone."""

    def __init__(self) -> None:
        self._chunk: mmap.mmap | None = None
        self._used = 0

    def keep(self, tensor: Tensor) -> Tensor:
        """Return a copy of a tensor on the CPU."""
        copy = self.empty_like(tensor)
        return copy.copy_(tensor)

    def empty_like(self, tensor: Tensor) -> Tensor:
        """Return an unset tensor of the same shape and dtype."""
        size = tensor.nbytes
        if size == 0:
            return torch.empty_like(tensor)
        if self._chunk is None or self._used + size > len(self._chunk):
            self._chunk, self._used = _large_pages(max(size, CHUNK)), 0
        # A storage of its own, not a view: views count their changes together.
        piece = torch.frombuffer(self._chunk, dtype=torch.uint8, count=size, offset=self._used)
        self._used += -(-size // _ALIGNMENT) * _ALIGNMENT
        return piece.view(tensor.dtype).view(tensor.shape)


class ReusedBuffer:
    """Memory for one tensor at a time, used again for the next, so that the system hands out its pages once."""

    def __init__(self) -> None:
        self._bytes = torch.empty(0, dtype=torch.uint8)

    def take(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return an unset tensor; the one before must no longer be used."""
        size = prod(shape) * dtype.itemsize
        if size > len(self._bytes):
            self._bytes = LargePages().empty_like(torch.empty(size, dtype=torch.uint8, device="meta"))
        return self._bytes[:size].view(dtype).view(tuple(shape))


def move_to_large_pages(model: nn.Module) -> None:
    """Move a model's parameters on the CPU to large pages; tied ones stay tied."""
    pages, moved = LargePages(), dict[int, Tensor]()
    for parameter in model.parameters():
        if parameter.device.type == "cpu" and parameter.is_contiguous() and parameter.numel():
            place = parameter.data_ptr()
            if place not in moved:
                moved[place] = pages.keep(parameter.data)
            parameter.data = moved[place]


def _large_pages(size: int) -> mmap.mmap:
    """Return memory for so many bytes, rounded up to whole large pages."""
    length = -(-size // PAGE) * PAGE
    private: dict[str, Any] = {}
    if hasattr(mmap, "MAP_PRIVATE") and hasattr(mmap, "MAP_ANONYMOUS"):
        private["flags"] = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, length, **private)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # A system without them gives small pages: slower, and otherwise the same.
        with suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
