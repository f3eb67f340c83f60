"""The k-th largest magnitude of a task vector, exactly, for one k after another.

A histogram over the upper 16 bits of the magnitudes (for floats of one sign the order of their bits is theirs) is
made once. It tells which bin holds the k-th largest entry and how many stand above; a second histogram, of the lower
16 bits in that bin, gives the entry. Where equal entries are left over, a last look finds the place of the last one.
When a search asks for more densities, all entries are ordered once where memory allows, and each cut is a look-up.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from merge import fused
from merge.keeping import Cut

if TYPE_CHECKING:
    from merge.sparsify import TaskVector

Ties = Literal["first", "last"]
_BINS = 1 << 15

CUTS_BEFORE_ORDER = 2
"""Cuts of one task vector that are found by two histograms each, before all of its entries are ordered."""

LARGEST_ORDER = 1 << 26
"""Entries of the largest tensor that is ordered; ordering takes 16 bytes of memory for each while it lasts."""


@dataclass(frozen=True)
class _Histogram:
    """Entries of one task vector by the upper 16 bits of their magnitudes; empty bins at the ends left out.

    Args:
        top: The highest bin that has entries.
        above: For this bin and each lower one, how many entries lie in it or above.
    """

    top: int
    above: npt.NDArray[np.int64]

    @classmethod
    def of(cls, counts: npt.NDArray[np.int64]) -> _Histogram:
        filled = np.flatnonzero(counts)
        return cls(int(filled[-1]), np.cumsum(counts[filled[0] : filled[-1] + 1][::-1]))


@dataclass
class _Cuts:
    """How many cuts of one task vector were made so far."""

    made: int = 0


def magnitude_cut(vector: TaskVector, count: int, *, ties: Ties = "first") -> Cut:
    """Return the cut that keeps the `count` largest entries of a task vector; remembered.

    Args:
        vector: The task vector, before anything is dropped.
        count: Entries to keep, at least 1 and at most all.
        ties: Which of equal entries are kept, the first or the last in memory.
    """
    return vector.group.facts.get(("cut", vector.key, count, ties), lambda: _new_cut(vector, count, ties))


def _new_cut(vector: TaskVector, count: int, ties: Ties) -> Cut:
    """Return a cut from the order of all entries, once it has been asked for often enough to be worth making."""
    facts, group = vector.group.facts, vector.group
    cuts = facts.get(("cuts", vector.key), _Cuts)
    cuts.made += 1
    place = ("order", vector.key)
    worth = cuts.made > CUTS_BEFORE_ORDER and group.size <= LARGEST_ORDER and facts.room(20 * group.size)
    if group.fusable and (facts.holds(place) or worth):
        order = facts.tensor(place, lambda: fused.order(group.base.raw, vector.parent.raw))
        return _cut_of_order(vector, order, count, ties)
    histogram = facts.get(("histogram", vector.key), lambda: _Histogram.of(_counts(vector)))
    return _cut(vector, histogram, count, ties)


def _cut_of_order(vector: TaskVector, order: Tensor, count: int, ties: Ties) -> Cut:
    size, base, parent = vector.group.size, vector.group.base.flat, vector.parent.flat

    def magnitude(rank: int) -> float:
        place = int(order[rank])
        return float((parent[place].float() - base[place].float()).abs())

    threshold = magnitude(count - 1)
    if count == size or magnitude(count) != threshold:
        return Cut(threshold, 0, size)
    if ties == "first":
        return Cut(threshold, 0, int(order[count - 1]) + 1)
    above = bisect_left(range(count), -threshold, key=lambda rank: -magnitude(rank))
    below = bisect_right(range(size), -threshold, lo=count, key=lambda rank: -magnitude(rank))
    return Cut(threshold, int(order[below - (count - above)]), size)


def _cut(vector: TaskVector, histogram: _Histogram, count: int, ties: Ties) -> Cut:
    position = int(np.searchsorted(histogram.above, count))
    upper = histogram.top - position
    wanted = count - (int(histogram.above[position - 1]) if position else 0)
    lower = _refined(vector, upper)
    above = np.cumsum(lower[::-1])
    place = int(np.searchsorted(above, wanted))
    edge = (upper << 16) | (len(lower) - 1 - place)
    equal = int(lower[len(lower) - 1 - place])
    taken = wanted - (int(above[place]) - equal)
    threshold = float(np.array(edge, dtype=np.uint32).view(np.float32))
    if taken == equal:
        return Cut(threshold, 0, vector.group.size)
    if ties == "first":
        return Cut(threshold, 0, _place_of(vector, edge, taken) + 1)
    return Cut(threshold, _place_of(vector, edge, equal - taken + 1), vector.group.size)


def _counts(vector: TaskVector) -> npt.NDArray[np.int64]:
    if vector.group.fusable:
        return fused.histogram(vector.group.base.raw, vector.parent.raw)
    counts = np.zeros(_BINS, dtype=np.int64)
    for span in vector.group.spans():
        counts += np.bincount(_bits(vector.full(span)) >> 16, minlength=_BINS)
    return counts


def _refined(vector: TaskVector, number: int) -> npt.NDArray[np.int64]:
    """Return how many entries of one bin have each value of the lower 16 bits of their magnitude."""
    if vector.group.fusable:
        return fused.refine(vector.group.base.raw, vector.parent.raw, number)
    counts = np.zeros(1 << 16, dtype=np.int64)
    for span in vector.group.spans():
        bits = _bits(vector.full(span))
        counts += np.bincount(bits[bits >> 16 == number] & 0xFFFF, minlength=1 << 16)
    return counts


def _place_of(vector: TaskVector, magnitude: int, number: int) -> int:
    """Return the place of the number-th entry, from 1, whose magnitude has the given bits."""
    if vector.group.fusable:
        return fused.place_of(vector.group.base.raw, vector.parent.raw, magnitude, number)
    before = 0
    for span in vector.group.spans():
        places = np.flatnonzero(_bits(vector.full(span)) == magnitude)
        if before + len(places) >= number:
            return int(span.start + places[number - before - 1])
        before += len(places)
    raise AssertionError(f"{vector.group.name}: fewer than {number} entries of one magnitude")


def _bits(entries: Tensor) -> npt.NDArray[np.uint32]:
    bits: npt.NDArray[np.uint32] = entries.float().cpu().numpy().view(np.uint32) & np.uint32(0x7FFFFFFF)
    return bits
