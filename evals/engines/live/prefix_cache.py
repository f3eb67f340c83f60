"""Keys and values of prefixes that a candidate's later questions begin with too, kept until its weights change.

A race asks in blocks. Without this every block would compute the few-shot header of its tasks again.
"""

import torch

from evals.engines.live.pass_budget import free_bytes, power_below
from evals.engines.live.prefix_tree import common_prefix
from evals.engines.live.scoring_plan import MIN_PREFIX, Ints
from evals.engines.live.shared_attention import KeyValues

_SHARE = 1 / 16
_MIN_NEW = 0.25
"""Share of new tokens below which a prefix is not kept beside the one that it continues."""


def prefix_cache_bytes(device: torch.device) -> int:
    """Return the bytes that the cache may take where the model is."""
    return power_below(_SHARE * free_bytes(device))


class PrefixCache:
    """Keys and values of prefixes; the first ones stay, as every block begins with the same in the same order.

    Args:
        room: Bytes that it may take.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._entries: list[tuple[Ints, KeyValues]] = []

    def longest(self, tokens: Ints) -> tuple[int, KeyValues]:
        """Return how many first tokens are known, and their keys and values per layer; 0 where it is not worth it."""
        lengths = [common_prefix(known, tokens) for known, _ in self._entries]
        count = max(lengths, default=0)
        return (count, self._entries[lengths.index(count)][1]) if count >= MIN_PREFIX else (0, [])

    def keep(self, tokens: Ints, layers: KeyValues, known: int) -> None:
        """Keep a prefix of which `known` first tokens were cached, if it has many more and there is room.

        Args:
            tokens: The prefix, ``[L]``.
            layers: Its keys and values.
            known: First tokens that came from the cache.
        """
        size = sum(key.nbytes + value.nbytes for key, value in layers)
        if len(tokens) - known >= _MIN_NEW * len(tokens) and size <= self._room:
            self._entries.append((tokens, layers))
            self._room -= size


def continued(known: KeyValues, count: int, new: KeyValues) -> KeyValues:
    """Return the keys and values of the first `count` tokens of `known` and of those that follow, contiguous."""
    if not new:
        return [(key[:, :, :count].contiguous(), value[:, :, :count].contiguous()) for key, value in known]
    if not count:
        return [(key.contiguous(), value.contiguous()) for key, value in new]
    pairs = zip(known, new, strict=True)
    return [(torch.cat((k[:, :, :count], k2), 2), torch.cat((v[:, :, :count], v2), 2)) for (k, v), (k2, v2) in pairs]
