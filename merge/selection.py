"""The k-th largest magnitude of a task vector or of scores, exactly, for one k after another.

A histogram over the upper 16 bits of the magnitudes (for floats of one sign the order of their bits is theirs) is
made once. It tells which bin holds the k-th largest entry and how many stand above; a second histogram, of the lower
16 bits in that bin, gives the entry. Where equal entries are left over, a last look finds the place of the last one.
When a search asks for more densities, all entries are ordered once where memory allows, and each cut is a look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from merge import fused, fused_ranking
from merge.group import Group
from merge.keeping import Cut

if TYPE_CHECKING:
    from merge.sparsify import TaskVector

Ties = Literal["first", "last"]
_BINS = 1 << 15
_PARTS = 1 << 8

CUTS_BEFORE_ORDER = 2
"""Cuts of one set of scores that are found by two histograms each, before all of its entries are ordered."""

LARGEST_ORDER = 1 << 26
"""Entries of the largest tensor that is ordered; ordering takes 16 bytes of memory for each while it lasts."""


@dataclass(frozen=True)
class _Histogram:
    """Entries by the upper 16 bits of their magnitudes; empty bins at the ends left out.

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
    """How many cuts of one set of scores were made so far."""

    made: int = 0


@dataclass(frozen=True, eq=False)
class Scores:
    """Numbers for the entries of one tensor, of which those of the largest magnitude are wanted.

    Args:
        group: The tensor they belong to.
        key: What tells them from others, for what is remembered.
        tensor: The numbers, or what they are the difference of...
        base: ...from this; None for none.
        block: Gives the numbers of a span in float32.
    """

    group: Group
    key: Hashable
    tensor: Tensor
    base: Tensor | None
    block: Callable[[slice], Tensor]

    @property
    def fusable(self) -> bool:
        """Whether the compiled loops can read them."""
        read = [self.tensor] if self.base is None else [self.tensor, self.base]
        return not self.group.stepwise and fused.readable(read)

    def cut(self, count: int, *, ties: Ties = "first") -> Cut:
        """Return the cut that keeps the `count` largest; remembered.

        Args:
            count: Entries to keep, at least 1 and at most all.
            ties: Which of equal entries are kept, the first or the last in memory.
        """
        return self.group.facts.get(("cut", self.key, count, ties), lambda: _new_cut(self, count, ties))


def magnitude_cut(vector: TaskVector, count: int, *, ties: Ties = "first") -> Cut:
    """Return the cut that keeps the `count` largest entries of a task vector before any is dropped; remembered."""
    scores = Scores(vector.group, vector.key, vector.parent.raw, vector.group.base.raw, vector.full)
    return scores.cut(count, ties=ties)


def _new_cut(scores: Scores, count: int, ties: Ties) -> Cut:
    """Return a cut from the order of all entries, once it has been asked for often enough to be worth making."""
    group, facts = scores.group, scores.group.facts
    cuts = facts.get(("cuts", scores.key), _Cuts)
    cuts.made += 1
    place = ("order", scores.key)
    worth = cuts.made > CUTS_BEFORE_ORDER and group.size <= LARGEST_ORDER and facts.room(20 * group.size)
    if scores.fusable and (facts.holds(place) or worth):
        order = facts.tensor(place, lambda: fused_ranking.order(scores.tensor, scores.base))
        return fused_ranking.cut(scores.tensor, scores.base, order, count, last=ties == "last")
    histogram = facts.get(("histogram", scores.key), lambda: _Histogram.of(_counts(scores)))
    return _cut(scores, histogram, count, ties)


def _cut(scores: Scores, histogram: _Histogram, count: int, ties: Ties) -> Cut:
    position = int(np.searchsorted(histogram.above, count))
    upper = histogram.top - position
    wanted = count - (int(histogram.above[position - 1]) if position else 0)
    lower = _refined(scores, upper)
    # Two short sums instead of one over all 65,536 values, which takes a seventh of the time.
    part, over = _reached(lower.reshape(_PARTS, -1).sum(axis=1), wanted)
    value, beyond = _reached(lower.reshape(_PARTS, -1)[part], wanted - over)
    place = part * (len(lower) // _PARTS) + value
    edge, equal = (upper << 16) | place, int(lower[place])
    taken = wanted - over - beyond
    threshold = float(np.array(edge, dtype=np.uint32).view(np.float32))
    if taken == equal:
        return Cut(threshold, 0, scores.group.size)
    if ties == "first":
        return Cut(threshold, 0, _place_of(scores, edge, taken) + 1)
    return Cut(threshold, _place_of(scores, edge, equal - taken + 1), scores.group.size)


def _reached(counts: npt.NDArray[np.int64], wanted: int) -> tuple[int, int]:
    """Return the highest place that has the wanted number of entries in it and above, and how many lie above it."""
    above = np.cumsum(counts[::-1])
    position = int(np.searchsorted(above, wanted))
    return len(counts) - 1 - position, int(above[position - 1]) if position else 0


def _counts(scores: Scores) -> npt.NDArray[np.int64]:
    if scores.fusable:
        return fused_ranking.histogram(scores.tensor, scores.base)
    counts = np.zeros(_BINS, dtype=np.int64)
    for span in scores.group.spans():
        counts += np.bincount(_bits(scores.block(span)) >> 16, minlength=_BINS)
    return counts


def _refined(scores: Scores, number: int) -> npt.NDArray[np.int64]:
    """Return how many entries of one bin have each value of the lower 16 bits of their magnitude."""
    if scores.fusable:
        return fused_ranking.refine(scores.tensor, scores.base, number)
    counts = np.zeros(1 << 16, dtype=np.int64)
    for span in scores.group.spans():
        bits = _bits(scores.block(span))
        counts += np.bincount(bits[bits >> 16 == number] & 0xFFFF, minlength=1 << 16)
    return counts


def _place_of(scores: Scores, magnitude: int, number: int) -> int:
    """Return the place of the number-th entry, from 1, whose magnitude has the given bits."""
    if scores.fusable:
        return fused_ranking.place_of(scores.tensor, scores.base, magnitude, number)
    before = 0
    for span in scores.group.spans():
        places = np.flatnonzero(_bits(scores.block(span)) == magnitude)
        if before + len(places) >= number:
            return int(span.start + places[number - before - 1])
        before += len(places)
    raise AssertionError(f"{scores.group.name}: fewer than {number} entries of one magnitude")


def _bits(entries: Tensor) -> npt.NDArray[np.uint32]:
    bits: npt.NDArray[np.uint32] = entries.float().cpu().numpy().view(np.uint32) & np.uint32(0x7FFFFFFF)
    return bits
