"""Keys and values of stems that a candidate's later questions begin with too, kept until its weights change.

A race asks in blocks. Without this every block would compute the few-shot header of its tasks again.
"""

import torch

from evals.engines.live.pass_budget import free_bytes, power_below
from evals.engines.live.prefix_tree import common_prefix
from evals.engines.live.scoring_plan import MIN_PREFIX, Ints
from evals.engines.live.shared_attention import Layers

_SHARE = 1 / 16
_NEW = 0.25
"""A stem of which less than this is new is not kept beside the one that it continues."""


def room_for_stems(device: torch.device) -> int:
    """Return the bytes that stems may take where the model is."""
    return power_below(_SHARE * free_bytes(device))


class Stems:
    """Keys and values of stems; the first ones, as every block begins with the same in the same order.

    Args:
        room: Bytes that they may take.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._kept: list[tuple[Ints, Layers]] = []

    def longest(self, tokens: Ints) -> tuple[int, Layers]:
        """Return how many first tokens are known, and their keys and values per layer; 0 where it is not worth it."""
        found = [common_prefix(known, tokens) for known, _ in self._kept]
        count = max(found, default=0)
        return (count, self._kept[found.index(count)][1]) if count >= MIN_PREFIX else (0, [])

    def keep(self, tokens: Ints, layers: Layers, known: int) -> None:
        """Keep a stem of which so many first tokens were known, if it is much more than those and there is room."""
        size = sum(key.nbytes + value.nbytes for key, value in layers)
        if len(tokens) - known >= _NEW * len(tokens) and size <= self._room:
            self._kept.append((tokens, layers))
            self._room -= size


def continued(known: Layers, count: int, new: Layers) -> Layers:
    """Return the keys and values of the first tokens of a stem and of those that follow, contiguous."""
    if not new:
        return [(key[:, :, :count].contiguous(), value[:, :, :count].contiguous()) for key, value in known]
    if not count:
        return [(key.contiguous(), value.contiguous()) for key, value in new]
    pairs = zip(known, new, strict=True)
    return [(torch.cat((k[:, :, :count], k2), 2), torch.cat((v[:, :, :count], v2), 2)) for (k, v), (k2, v2) in pairs]
