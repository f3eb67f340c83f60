"""The k-th largest magnitude of a task vector or of scores, exactly, for one k after another.

For floats of one sign the order of their bits is theirs. The compiled loops look for the k-th largest between two
magnitudes that a sample names. Without them a histogram over the upper 16 bits of the magnitudes, made once, tells
which bin holds it and how many stand above, and a second one, of the lower 16 bits in that bin, gives it. Where equal
entries are left over, a last look finds the place of the last one. When a search asks for more densities, all entries
are ordered once where memory allows, and each mask is a look-up.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from merge.kernels.inputs import TensorInputs
from merge.kernels.masks import ThresholdMask
from merge.kernels.task_vector import TaskVector
from merge.native import ranking as fused_ranking
from merge.native import tensors as fused

Ties = Literal["first", "last"]
_BINS = 1 << 15

MASKS_BEFORE_ORDER = 2
"""Masks of one set of scores that are found by a pass or two each, before all of its entries are ordered."""

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
    def of(cls, counts: npt.NDArray[np.int64]) -> "_Histogram":
        filled = np.flatnonzero(counts)
        return cls(int(filled[-1]), np.cumsum(counts[filled[0] : filled[-1] + 1][::-1]))


@dataclass(frozen=True)
class _Edge:
    """The last of the entries that are kept.

    Args:
        magnitude: Its magnitude, as bits.
        taken: How many entries of this magnitude are kept...
        equal: ...of so many.
    """

    magnitude: int
    taken: int
    equal: int


@dataclass
class _Asked:
    """How many masks of one set of scores were made so far."""

    made: int = 0


@dataclass(frozen=True, eq=False)
class Scores:
    """Numbers for the entries of one tensor, of which those of the largest magnitude are wanted.

    Args:
        inputs: The tensor they belong to.
        key: What tells them from others, for what is remembered.
        tensor: The numbers, or what they are the difference of...
        base: ...from this; None for none.
        block: Gives the numbers of a span in float32.
    """

    inputs: TensorInputs
    key: Hashable
    tensor: Tensor
    base: Tensor | None
    block: Callable[[slice], Tensor]

    @property
    def fusable(self) -> bool:
        """Whether the compiled loops can read them."""
        read = [self.tensor] if self.base is None else [self.tensor, self.base]
        return not self.inputs.stepwise and fused.readable(read)

    def largest(self, count: int, *, ties: Ties = "first") -> ThresholdMask:
        """Return the mask that keeps the `count` largest; remembered.

        Args:
            count: Entries to keep, at least 1 and at most all.
            ties: Which of equal entries are kept, the first or the last in memory.
        """
        return self.inputs.cache.get(("cut", self.key, count, ties), lambda: _new_mask(self, count, ties))


def magnitude_threshold(vector: TaskVector, count: int, *, ties: Ties = "first") -> ThresholdMask:
    """Return the mask that keeps the `count` largest entries of a task vector; remembered."""
    scores = Scores(vector.inputs, vector.key, vector.parent.raw, vector.inputs.base.raw, vector.full)
    return scores.largest(count, ties=ties)


def _new_mask(scores: Scores, count: int, ties: Ties) -> ThresholdMask:
    """Return a mask from the order of all entries, once it has been asked for often enough to be worth making."""
    inputs, cache = scores.inputs, scores.inputs.cache
    asked = cache.get(("cuts", scores.key), _Asked)
    asked.made += 1
    place = ("order", scores.key)
    worth = asked.made > MASKS_BEFORE_ORDER and inputs.size <= LARGEST_ORDER and cache.room(20 * inputs.size)
    if scores.fusable and (cache.holds(place) or worth):
        order = cache.tensor(place, lambda: fused_ranking.order(scores.tensor, scores.base))
        return ThresholdMask(*fused_ranking.threshold_of(scores.tensor, scores.base, order, count, last=ties == "last"))
    return _mask(scores, _edge(scores, count), ties)


def _mask(scores: Scores, edge: _Edge, ties: Ties) -> ThresholdMask:
    threshold = float(np.array(edge.magnitude, dtype=np.uint32).view(np.float32))
    if edge.taken == edge.equal:
        return ThresholdMask(threshold, 0, scores.inputs.size)
    if ties == "first":
        return ThresholdMask(threshold, 0, _index_of(scores, edge.magnitude, edge.taken) + 1)
    return ThresholdMask(threshold, _index_of(scores, edge.magnitude, edge.equal - edge.taken + 1), scores.inputs.size)


def _edge(scores: Scores, count: int) -> _Edge:
    """Return the last of the `count` largest entries."""
    if scores.fusable:
        return _Edge(*fused_ranking.nth_largest(scores.tensor, scores.base, count))
    histogram = scores.inputs.cache.get(("histogram", scores.key), lambda: _Histogram.of(_counts(scores)))
    position = int(np.searchsorted(histogram.above, count))
    upper = histogram.top - position
    wanted = count - (int(histogram.above[position - 1]) if position else 0)
    lower = _refined(scores, upper)
    above = np.cumsum(lower[::-1])
    place = int(np.searchsorted(above, wanted))
    value = len(lower) - 1 - place
    return _Edge((upper << 16) | value, wanted - (int(above[place - 1]) if place else 0), int(lower[value]))


def _counts(scores: Scores) -> npt.NDArray[np.int64]:
    counts = np.zeros(_BINS, dtype=np.int64)
    for span in scores.inputs.spans():
        counts += np.bincount(_bits(scores.block(span)) >> 16, minlength=_BINS)
    return counts


def _refined(scores: Scores, number: int) -> npt.NDArray[np.int64]:
    """Return how many entries of one bin have each value of the lower 16 bits of their magnitude."""
    counts = np.zeros(1 << 16, dtype=np.int64)
    for span in scores.inputs.spans():
        bits = _bits(scores.block(span))
        counts += np.bincount(bits[bits >> 16 == number] & 0xFFFF, minlength=1 << 16)
    return counts


def _index_of(scores: Scores, magnitude: int, number: int) -> int:
    """Return the place of the number-th entry, from 1, whose magnitude has the given bits."""
    if scores.fusable:
        return fused_ranking.index_of(scores.tensor, scores.base, magnitude, number)
    before = 0
    for span in scores.inputs.spans():
        places = np.flatnonzero(_bits(scores.block(span)) == magnitude)
        if before + len(places) >= number:
            return int(span.start + places[number - before - 1])
        before += len(places)
    raise AssertionError(f"{scores.inputs.name}: fewer than {number} entries of one magnitude")


def _bits(entries: Tensor) -> npt.NDArray[np.uint32]:
    bits: npt.NDArray[np.uint32] = entries.float().cpu().numpy().view(np.uint32) & np.uint32(0x7FFFFFFF)
    return bits
