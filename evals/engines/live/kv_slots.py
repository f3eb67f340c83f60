"""Keys and values of the rows that are being generated: one slot a row, those in use always the first ones."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from evals.engines.live.shared_attention import KeyValues


class KvSlots:
    """Keys and values of the rows being generated, ``[rows, Hk, room, D]`` per layer.

    Args:
        rows: Number of slots.
        room: Tokens that a slot holds.

    Attributes:
        lengths: Tokens in each slot, ``[rows]``.
        active: KvSlots in use.
        view: Tokens of the longest row in a step, those being added included.
    """

    def __init__(self, rows: int, room: int) -> None:
        self._rows, self._room = rows, room
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self.lengths = torch.zeros(rows, dtype=torch.long)
        self.active = 0
        self._rows_fed = self._places = torch.zeros(0, dtype=torch.long)
        self.view = 0

    def fill(self, captured: KeyValues, lengths: Sequence[int]) -> None:
        """Put new rows behind those in use, from keys and values of their right-padded prompts."""
        for layer, (key, value) in enumerate(captured):
            if len(self._keys) <= layer:
                self._keys.append(key.new_zeros(self._rows, key.shape[1], self._room, key.shape[3]))
                self._values.append(value.new_zeros(self._rows, value.shape[1], self._room, value.shape[3]))
            rows = slice(self.active, self.active + len(lengths))
            self._keys[layer][rows, :, : key.shape[2]] = key
            self._values[layer][rows, :, : value.shape[2]] = value
        self.lengths[self.active : self.active + len(lengths)] = torch.tensor(lengths)
        self.active += len(lengths)

    def begin(self, count: int, device: Any) -> Tensor:
        """Prepare a step that feeds `count` tokens per row: where they go is the same in all layers.

        Returns:
            These places, ``[active, count]``.
        """
        places = self.lengths[: self.active, None] + torch.arange(count)
        self._rows_fed, self._places = torch.arange(self.active, device=device)[:, None], places.to(device)
        self.view = int(places.max()) + 1
        return places

    def write(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add the step's tokens after `begin`; `advance` tells which of them stay."""
        keys, values = self._keys[layer], self._values[layer]
        keys[self._rows_fed, :, self._places] = key.transpose(1, 2)
        values[self._rows_fed, :, self._places] = value.transpose(1, 2)
        return keys[: self.active, :, : self.view], values[: self.active, :, : self.view]

    def advance(self, kept: Sequence[int]) -> None:
        """Keep the first so many tokens of each row; the others are written over."""
        self.lengths[: self.active] += torch.tensor(kept)

    def leave(self, row: int) -> None:
        """Give the slot of `row` to the last row in use."""
        last = self.active - 1
        if row != last:
            for held in (*self._keys, *self._values):
                held[row] = held[last]
            self.lengths[row] = self.lengths[last]
        self.active = last
