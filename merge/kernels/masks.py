"""Which entries of a task vector are kept: the largest, a band of them, at random, or at random by rank."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 1 << 16
"""How finely a probability is met by fields of 16-bit integers."""


KEEPS_ALL = -1
"""Native kind of a task vector of which nothing is dropped: it goes with any other kind."""
THRESHOLD, BAND, RANDOM, RANKED = range(4)
"""Native kinds of masks: the numbers by which the compiled loops know them."""


class AbstractMask(ABC):
    """Tells the entries that are kept from those that are dropped."""

    holds_tensor = True
    """Whether it refers to a tensor, so that a task vector with it is not kept between merges."""

    @property
    def native_kind(self) -> int | None:
        """Number by which the compiled loops know it; None where they do not."""
        return None

    @property
    def identity(self) -> Hashable:
        """What tells it from other masks of the same task vector and seed."""
        return self

    @abstractmethod
    def __call__(self, span: slice, entries: Tensor) -> Tensor:
        """Return 1 for each entry of a span that is kept, else 0, in the dtype of the entries."""


@dataclass(frozen=True)
class ThresholdMask(AbstractMask):
    """The entries of magnitude above a threshold.

    Args:
        threshold: Entries above it are in.
        first: Entries equal to it are in from this index...
        last: ...up to but without this one.
    """

    holds_tensor = False

    threshold: float
    first: int
    last: int

    @property
    def native_kind(self) -> int:
        """Number by which the compiled loops know it."""
        return THRESHOLD

    @property
    def numbers(self) -> tuple[float, int, int]:
        """Threshold, first and last index, as the compiled loops take them."""
        return self.threshold, self.first, self.last

    def __call__(self, span: slice, entries: Tensor) -> Tensor:
        """Return 1 for each entry that is in, else 0."""
        start, magnitudes = span.start or 0, entries.abs()
        low, high = (min(max(place - start, 0), entries.numel()) for place in (self.first, self.last))
        magnitudes[:low].gt_(self.threshold)
        magnitudes[low:high].ge_(self.threshold)
        magnitudes[max(low, high) :].gt_(self.threshold)
        return magnitudes


@dataclass(frozen=True)
class BandMask(AbstractMask):
    """What one threshold mask keeps and another does not.

    Args:
        wide: Keeps more entries.
        narrow: Keeps fewer, which the band leaves out.
    """

    holds_tensor = False

    wide: ThresholdMask
    narrow: ThresholdMask

    @property
    def native_kind(self) -> int:
        """Number by which the compiled loops know it."""
        return BAND

    def __call__(self, span: slice, entries: Tensor) -> Tensor:
        """Return 1 for each entry between the thresholds, else 0."""
        return self.wide(span, entries).sub_(self.narrow(span, entries))


@dataclass(frozen=True, eq=False)
class RandomMask(AbstractMask):
    """Entries whose random number lies below a limit.

    Args:
        field: A random int16 per entry.
        limit: Entries below it are in.
    """

    field: Tensor
    limit: int

    @property
    def native_kind(self) -> int:
        """Number by which the compiled loops know it."""
        return RANDOM

    @property
    def identity(self) -> Hashable:
        """What tells it from other masks of the same task vector and seed."""
        return RANDOM, self.limit

    def __call__(self, span: slice, entries: Tensor) -> Tensor:
        """Return 1 for each entry that is drawn, else 0."""
        return _below(self.field[span], self.limit, entries)


@dataclass(frozen=True, eq=False)
class RankedRandomMask(AbstractMask):
    """Entries whose random number lies below a limit that grows with their rank in their row.

    The probability is ``lowest + 2 * spread * rank / (row - 1)``, and in the middle for rows of one entry.

    Args:
        field: A random int16 per entry.
        rank: The place of each entry in its row by magnitude; from 0 as int32, or from -32768 as int16.
        row: Entries of a row.
        lowest: Probability of the smallest entry of a row.
        spread: Half of what the largest has more.
    """

    field: Tensor
    rank: Tensor
    row: int
    lowest: float
    spread: float

    @property
    def native_kind(self) -> int | None:
        """Number by which the compiled loops know it, where ranks are short integers."""
        return RANKED if self.rank.dtype == torch.int16 else None

    @property
    def identity(self) -> Hashable:
        """What tells it from other masks of the same task vector and seed."""
        return RANKED, self.lowest, self.spread

    def __call__(self, span: slice, entries: Tensor) -> Tensor:
        """Return 1 for each entry that is drawn, else 0."""
        rank = self.rank[span].float()
        if self.rank.dtype == torch.int16:
            rank += STEPS // 2
        share = rank / (self.row - 1) if self.row > 1 else torch.full_like(rank, 0.5)
        chance = share * 2 * self.spread + self.lowest
        limit = (chance * STEPS).round().clamp(0, STEPS - 1) - STEPS // 2
        return _below(self.field[span].float(), limit, entries)


@dataclass(frozen=True, eq=False)
class StoredMask(AbstractMask):
    """Entries that a mask names.

    Args:
        mask: 1 or 0 per entry.
    """

    mask: Tensor

    def __call__(self, span: slice, entries: Tensor) -> Tensor:
        """Return the mask's entries."""
        return self.mask[span].to(entries.dtype)

    @classmethod
    def of(cls, places: Tensor, size: int) -> "StoredMask":
        """Keep the entries at some places of a tensor."""
        mask = torch.zeros(size, dtype=torch.float32, device=places.device)
        mask[places] = 1
        return cls(mask)


def limit_of(probability: float) -> int:
    """Return the limit below which an int16 lies with a probability."""
    return min(round(probability * STEPS), STEPS - 1) - STEPS // 2


def _below(field: Tensor, limit: int | Tensor, entries: Tensor) -> Tensor:
    """Return 1 and 0 as floats: a comparison into a float tensor is several times faster than into a bool one."""
    return torch.lt(field, limit, out=torch.empty_like(entries))
