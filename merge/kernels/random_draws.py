"""Random masks, nested in density: the same uniform number decides an entry at every density.

The numbers come from a counter-based generator keyed by (seed, model, tensor name), so neither the order of
tensors and models nor the number of threads matters, and neighbouring candidates differ only where they should.

Source: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox).
"""

import hashlib
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from merge.kernels.masks import AbstractMask, RandomMask, StoredMask, limit_of
from merge.memory.cache import ParentCache


class AbstractDraws(ABC):
    """Where the random numbers of a merge come from."""

    @abstractmethod
    def mask(self, key: tuple[str, str], probability: float | Tensor, size: int, like: Tensor) -> AbstractMask:
        """Return the mask that keeps each entry with its probability.

        Args:
            key: Model reference and tensor name.
            probability: One number, or one per entry.
            size: Number of entries.
            like: A tensor of the device and dtype at hand.
        """

    @abstractmethod
    def field(self, key: tuple[str, str], size: int, like: Tensor) -> Tensor:
        """Return an int16 per entry, uniform over its range."""

    def version(self) -> object:
        """Return what tells two sources apart that give other numbers."""
        return None


class CounterDraws(AbstractDraws):
    """Draws that depend on seed, model and tensor name alone.

    A field of 16-bit integers is made once per tensor and kept; a density is met to 1 / 65536.

    Args:
        seed: The merge's seed.
        cache: Keeps the fields.
    """

    def __init__(self, seed: int, cache: ParentCache) -> None:
        self.seed = seed
        self._cache = cache

    def mask(self, key: tuple[str, str], probability: float | Tensor, size: int, like: Tensor) -> AbstractMask:
        """Return the mask that keeps each entry with its probability."""
        if isinstance(probability, Tensor):
            raise TypeError("probability: must be one number, got one per entry; compare the field with a limit")
        return RandomMask(self.field(key, size, like), limit_of(probability))

    def field(self, key: tuple[str, str], size: int, like: Tensor) -> Tensor:
        """Return an int16 per entry, uniform over its range."""
        return self._cache.tensor(("field", key), lambda: self._made(key, size).to(like.device), version=self.seed)

    def version(self) -> object:
        """Return the seed."""
        return self.seed

    def _made(self, key: tuple[str, str], size: int) -> Tensor:
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

    def skip(self, count: int) -> None:
        """Leave out so many numbers, which the reference uses up before its first mask."""
        torch.rand(count, generator=self._generator)

    def mask(self, key: tuple[str, str], probability: float | Tensor, size: int, like: Tensor) -> AbstractMask:  # noqa: ARG002
        """Return the next mask of the stream; drawn now, whole."""
        dtype = torch.bfloat16 if like.dtype == torch.bfloat16 else torch.float32
        chance = probability if isinstance(probability, Tensor) else torch.full((size,), probability, dtype=dtype)
        return StoredMask(torch.bernoulli(chance.reshape(-1).cpu(), generator=self._generator).to(like))

    def field(self, key: tuple[str, str], size: int, like: Tensor) -> Tensor:  # noqa: ARG002
        """Refuse: a stream has no numbers of its own for a tensor."""
        raise TypeError("a stream of draws has masks only; use CounterDraws")
