"""Lays the passes of a plan side by side in rows, each of which is one forward and one backward pass.

In a row every weight is used once, so a backward pass meets the gradient of one weight after the other and none has to
wait for the rest of the plan. A prefix stands in the row before all that hangs on it. A group too large for one row
has its prefix repeated in the next; what is read from the prefix is read in the first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from evals.engines.live.packed_attention import Part, Parts
from evals.engines.live.scoring_plan import Ints, Plan, PlannedPass, Targets


@dataclass(frozen=True)
class PackedRow:
    """Passes of a plan, side by side.

    Attributes:
        ids: Tokens, ``[L]``.
        positions: Their positions, ``[L]``.
        segments: Start, stop and visibility of neighbours that see one another: node j is seen by i iff
            j <= i < end[j], counted from the start; None means causal.
        stems: Start and stop of tokens, and of the prefix that they attend to besides.
        needed: Tokens whose logits are needed.
        targets: What is read from them.
    """

    ids: Ints
    positions: Ints
    segments: tuple[tuple[int, int, Ints | None], ...]
    stems: tuple[tuple[slice, slice], ...]
    needed: Ints
    targets: Targets

    def parts(self, dtype: torch.dtype, device: torch.device, least: int) -> Parts:
        """Return who attends to whom; segments are cut where nothing is seen from beyond, none shorter than `least`."""
        cut = [
            (start + a, start + b, own)
            for start, stop, end in self.segments
            for a, b, own in _cut(end, stop - start, least)
        ]
        own = [Part(slice(a, b), slice(a, b), end is None, _mask(end, dtype, device)) for a, b, end in cut]
        return Parts(tuple(own), tuple(Part(queries, keys) for queries, keys in self.stems))


def pack(plan: Plan, tokens: int) -> list[PackedRow]:
    """Return the rows of a plan, of at most so many tokens unless a prefix and one pass are longer.

    Args:
        plan: Its passes have one row each (`PassBudget.segments`).
        tokens: Largest row.
    """
    rows, row = [], _Row()
    for group in plan.groups:
        prefix, unread = group.prefix, True
        start: int | None = None
        for forward in group.passes or (None,):
            length = 0 if forward is None else forward.ids.size
            head = prefix if prefix is not None and start is None else None
            if row.length and row.length + length + (0 if head is None else head.ids.size) > tokens:
                rows.append(row.packed())
                row, start, head = _Row(), None, prefix
            if head is not None:
                start = row.add(head, None, read=unread)
                unread = False
            if forward is not None:
                row.add(forward, None if prefix is None or start is None else slice(start, start + prefix.ids.size))
    return [*rows, row.packed()]


class _Row:
    """A row that is being filled."""

    def __init__(self) -> None:
        self.length = 0
        self._forwards: list[tuple[int, PlannedPass, bool]] = []
        self._segments: list[tuple[int, int, Ints | None]] = []
        self._stems: list[tuple[slice, slice]] = []

    def add(self, forward: PlannedPass, prefix: slice | None, *, read: bool = True) -> int:
        """Add a pass and return where it starts."""
        start, stop = self.length, self.length + forward.ids.size
        below = start + forward.stem
        end = None if forward.end is None else forward.end[0]
        if forward.stem:
            self._segments += [(start, below, None), (below, stop, end)]
            self._stems.append((slice(below, stop), slice(start, below)))
        else:
            self._segments.append((start, stop, end))
        if prefix is not None:
            queries, keys = self._stems[-1] if self._stems else (None, None)
            if keys == prefix and queries is not None and queries.stop == start:
                self._stems.pop()
                start_of_all = queries.start
            else:
                start_of_all = start
            self._stems.append((slice(start_of_all, stop), prefix))
        self._forwards.append((start, forward, read))
        self.length = stop
        return start

    def packed(self) -> PackedRow:
        """Return the row."""
        needed: list[Ints] = [np.empty(0, np.int64)]
        targets: list[Ints] = [np.empty((3, 0), np.int64)]
        for start, forward, read in self._forwards:
            if read:
                rows = forward.targets.row + sum(map(len, needed))
                targets.append(np.stack([rows, forward.targets.token, forward.targets.request]))
                needed.append(forward.needed + start)
        return PackedRow(
            np.concatenate([forward.ids[0] for _, forward, _ in self._forwards]),
            np.concatenate([forward.positions[0] for _, forward, _ in self._forwards]),
            tuple(self._segments),
            tuple(self._stems),
            np.concatenate(needed),
            Targets(*np.concatenate(targets, 1)),
        )


def _cut(end: Ints | None, length: int, least: int) -> Iterator[tuple[int, int, Ints | None]]:
    if end is None:
        yield 0, length, None
        return
    seen, places = np.maximum.accumulate(end), np.arange(1, length)
    cuts = [0]
    for place in places[seen[:-1] <= places].tolist():
        if place - cuts[-1] >= least:
            cuts.append(place)
    for a, b in pairwise([*cuts, length]):
        own = end[a:b] - a
        yield a, b, None if (own == b - a).all() else own


def _mask(end: Ints | None, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    if end is None:
        return None
    until = torch.from_numpy(end).to(device)
    place = torch.arange(len(end), device=device)
    seen = (place[None, :] <= place[:, None]) & (place[:, None] < until[None, :])
    return torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, float("-inf"))[None, None]
