"""The k-th largest magnitude of a tensor, exactly, for one k after another.

A histogram over the upper 16 bits of the magnitudes (for floats of one sign the order of their bits is theirs) is
made once. It tells which bin holds the k-th largest entry and how many stand above; only the entries of that bin,
about one in a hundred, are then collected and sorted.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from merge.group import Group

Entries = Callable[[slice], Tensor]
_BINS = 1 << 15


@dataclass(frozen=True)
class Cut:
    """Which entries are the k largest in magnitude; of equal ones the first in memory.

    Args:
        threshold: Entries above it are in.
        last: Entries equal to it are in up to this index.
    """

    threshold: float
    last: int

    def mask(self, span: slice, entries: Tensor) -> Tensor:
        """Return 1 for each entry that is in, else 0."""
        start, magnitudes = span.start or 0, entries.abs()
        if start + entries.numel() - 1 <= self.last:
            return magnitudes.ge_(self.threshold)
        if start > self.last:
            return magnitudes.gt_(self.threshold)
        head = self.last + 1 - start
        magnitudes[:head].ge_(self.threshold)
        magnitudes[head:].gt_(self.threshold)
        return magnitudes


def magnitude_cut(group: Group, key: object, entries: Entries, count: int) -> Cut:
    """Return the cut that keeps the `count` largest of a group's entries, remembered under `key`."""
    above = group.facts.get(("histogram", key), lambda: _at_or_above(group, entries))
    return group.facts.get(("cut", key, count), lambda: _cut(group, entries, above, count))


def _at_or_above(group: Group, entries: Entries) -> npt.NDArray[np.int64]:
    """Return, for each bin from the highest down, how many entries lie in it or above."""
    counts = np.zeros(_BINS, dtype=np.int64)
    for span in group.spans():
        counts += np.bincount(_bits(entries(span)) >> 16, minlength=_BINS)
    return np.cumsum(counts[::-1])


def _cut(group: Group, entries: Entries, above: npt.NDArray[np.int64], count: int) -> Cut:
    position = int(np.searchsorted(above, count))
    wanted = count - (int(above[position - 1]) if position else 0)
    values, places = _members(group, entries, _BINS - 1 - position)
    order = np.lexsort((places, -values))
    edge = values[order[wanted - 1]]
    tied = int(np.count_nonzero(values >= edge)) > wanted
    threshold = float(edge.view(np.float32))
    return Cut(threshold, int(places[order[wanted - 1]]) if tied else group.size)


def _members(group: Group, entries: Entries, number: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return bits and places of the entries of one bin."""
    values, places = [], []
    for span in group.spans():
        bits = _bits(entries(span))
        inside = np.flatnonzero(bits >> 16 == number)
        values.append(bits[inside])
        places.append(inside + span.start)
    return np.concatenate(values), np.concatenate(places)


def _bits(entries: Tensor) -> npt.NDArray[np.int32]:
    bits: npt.NDArray[np.int32] = entries.float().cpu().numpy().view(np.int32) & np.int32(0x7FFFFFFF)
    return bits
