"""The compiled loops that find the largest entries of a tensor, or of its difference from a base."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from merge.native.tensors import loops, sources


def nth_largest(tensor: Tensor, base: Tensor | None, count: int) -> tuple[int, int, int]:
    """Return the count-th largest magnitude as bits, how many equal to it are among these, and how many there are."""
    found = np.zeros(3, dtype=np.int64)
    loops().nth_largest(tensor.numel(), _ranked(tensor, base), count, found.ctypes.data)
    return int(found[0]), int(found[1]), int(found[2])


def index_of(tensor: Tensor, base: Tensor | None, magnitude: int, number: int) -> int:
    """Return the index of the number-th entry, from 1, whose magnitude has the given bits."""
    return int(loops().place_of(tensor.numel(), _ranked(tensor, base), magnitude, number))


def order(tensor: Tensor, base: Tensor | None) -> Tensor:
    """Return the places of the entries as int32, largest magnitude first, of equal ones the first in memory first."""
    places = torch.empty(tensor.numel(), dtype=torch.int32)
    loops().order(tensor.numel(), _ranked(tensor, base), places.data_ptr())
    return places


def threshold_of(
    tensor: Tensor, base: Tensor | None, places: Tensor, count: int, *, last: bool
) -> tuple[float, int, int]:
    """Return threshold, first and last index of the mask that keeps the `count` largest entries.

    Args:
        tensor: The entries.
        base: What is subtracted from them; None for nothing.
        places: Their order, from `order`.
        count: Entries to keep.
        last: Whether of equal ones the last in memory are kept, else the first.
    """
    edges = np.zeros(2, dtype=np.int64)
    bits = loops().cut(tensor.numel(), _ranked(tensor, base), places.data_ptr(), count, last, edges.ctypes.data)
    return float(np.array(bits, dtype=np.uint32).view(np.float32)), int(edges[0]), int(edges[1])


def ranks(tensor: Tensor, base: Tensor, row: int) -> Tensor:
    """Return the place of each entry in its row, smallest magnitude first, from -32768; of equal ones the first."""
    places = torch.empty(tensor.numel(), dtype=torch.int16)
    loops().ranks(tensor.numel(), row, _ranked(tensor, base), places.data_ptr())
    return places


def _ranked(tensor: Tensor, base: Tensor | None) -> bytes:
    return sources([tensor]) + (bytes(16) if base is None else sources([base]))
