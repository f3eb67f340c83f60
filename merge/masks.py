"""Random masks, nested in density: the same uniform number decides an entry at every density.

The numbers come from a counter-based generator keyed by (seed, model, tensor name), so neither the order of
tensors and models nor the number of threads matters, and neighbouring candidates differ only where they should.

Source: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox).
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from merge.prepared import Facts

Keep: TypeAlias = Callable[[slice, Tensor], Tensor]
"""Gives 1 for each entry of a span that is kept, else 0, given the span and the task vector's entries in it."""

STEPS = 1 << 16


class AbstractDraws(ABC):
    """Where the random numbers of a merge come from."""

    @abstractmethod
    def mask(self, key: tuple[str, str], probability: float | Tensor, like: Tensor) -> Keep:
        """Return the mask that keeps each entry with its probability.

        Args:
            key: Model reference and tensor name.
            probability: One number, or one per entry.
            like: A tensor of the size, device and dtype at hand.
        """

    def version(self) -> object:
        """Return what tells two sources apart that give other numbers."""
        return None


class CounterDraws(AbstractDraws):
    """Draws that depend on seed, model and tensor name alone.

    A field of 16-bit integers is made once per tensor and kept; a density is met to 1 / 65536.

    Args:
        seed: The merge's seed.
        facts: Keeps the fields.
    """

    def __init__(self, seed: int, facts: Facts) -> None:
        self.seed = seed
        self._facts = facts

    def mask(self, key: tuple[str, str], probability: float | Tensor, like: Tensor) -> Keep:
        """Return the mask that keeps each entry with its probability."""
        field = self._facts.tensor(
            ("field", key), lambda: self._field(key, like.numel()).to(like.device), version=self.seed
        )
        if isinstance(probability, Tensor):
            threshold = _threshold(probability.reshape(-1).float())
            return lambda span, entries: _below(field[span], threshold[span], entries)
        limit = min(round(probability * STEPS), STEPS - 1) - STEPS // 2
        return lambda span, entries: _below(field[span], limit, entries)

    def version(self) -> object:
        """Return the seed."""
        return self.seed

    def _field(self, key: tuple[str, str], size: int) -> Tensor:
        digest = hashlib.sha256("\0".join((str(self.seed), *key)).encode()).digest()
        words = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw((size + 3) // 4)
        return torch.from_numpy(np.asarray(words).astype("<u8", copy=False).view("<i2")[:size])


class StreamDraws(AbstractDraws):
    """The reference's draws: one stream of numbers, in the order of tensors and models.

    Args:
        seed: What the reference's global generator was seeded with.
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def mask(self, key: tuple[str, str], probability: float | Tensor, like: Tensor) -> Keep:  # noqa: ARG002
        """Return the next mask of the stream; drawn now, whole."""
        dtype = torch.bfloat16 if like.dtype == torch.bfloat16 else torch.float32
        chance = probability if isinstance(probability, Tensor) else torch.full(like.shape, probability, dtype=dtype)
        kept = torch.bernoulli(chance.reshape(-1).cpu(), generator=self._generator).to(like)
        return lambda span, _: kept[span]


def _below(field: Tensor, limit: int | Tensor, entries: Tensor) -> Tensor:
    """Return 1 and 0 as floats: a comparison into a float tensor is several times faster than into a bool one."""
    return torch.lt(field, limit, out=torch.empty_like(entries))


def _threshold(probability: Tensor) -> Tensor:
    return ((probability * STEPS).round().clamp(0, STEPS - 1) - STEPS // 2).to(torch.int16)
