"""Greedy generation for many prompts at once: a shared prefix held once, finished rows leave at once.

Every row has a slot with room for its own prompt and text. A step feeds one token per row; a row that is done gives
its slot to the last row, so that the rows in use are always the first ones, and waiting prompts fill the free slots.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evals.attention import Layers, Pass
from evals.errors import ScoringError
from evals.plan import Ints
from evals.prefix_tree import common_prefix

PATIENCE = 3600.0
"""Seconds without a finished text after which generation is given up."""
CHECK_EVERY = 4
"""A stop string is looked for when so many tokens have come; the text is cut where it begins, however late."""


@dataclass(frozen=True)
class Ending:
    """When a text is finished.

    Attributes:
        tokens: Tokens that end it.
        texts: Strings that end it.
        longest: Most tokens it may have.
        decode: Turns tokens into text, special tokens kept.
        window: Tokens at the end in which a stop string is looked for.
    """

    tokens: frozenset[int]
    texts: tuple[str, ...]
    longest: int
    decode: Callable[[Sequence[int]], str]
    window: int

    def reached(self, text: Sequence[int]) -> bool:
        """Tell whether the tokens of `text` end it."""
        if text[-1] in self.tokens or len(text) >= self.longest:
            return True
        if not self.texts or len(text) % CHECK_EVERY:
            return False
        tail = self.decode(text[-self.window - CHECK_EVERY :])
        if not any(stop in tail for stop in self.texts):
            return False
        whole = self.decode(text)
        return any(stop in whole for stop in self.texts)


class Slots:
    """Keys and values of the rows being generated, ``[rows, Hk, room, D]`` per layer.

    Args:
        rows: Number of slots.
        room: Tokens that a slot holds.
    """

    def __init__(self, rows: int, room: int) -> None:
        self._rows, self._room = rows, room
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self.lengths = torch.zeros(rows, dtype=torch.long)
        self.active = 0
        self._step_rows = self._step_places = torch.zeros(0, dtype=torch.long)
        self._step_view = 0

    @property
    def view(self) -> int:
        """Tokens of the longest row in use, the one being added included."""
        return int(self.lengths[: self.active].max()) + 1

    def fill(self, captured: Layers, lengths: Sequence[int]) -> None:
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

    def begin(self, device: Any) -> None:
        """Prepare a step: where each row's token goes is the same in all layers."""
        self._step_rows = torch.arange(self.active, device=device)
        self._step_places = self.lengths[: self.active].to(device)
        self._step_view = self.view

    def write(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add one token per row after `begin`; `advance` moves on when all layers have written."""
        keys, values = self._keys[layer], self._values[layer]
        rows, places, view = self._step_rows, self._step_places, self._step_view
        keys[rows, :, places] = key[:, :, 0]
        values[rows, :, places] = value[:, :, 0]
        return keys[: self.active, :, :view], values[: self.active, :, :view]

    def advance(self) -> None:
        """Count the token that was written."""
        self.lengths[: self.active] += 1

    def leave(self, row: int) -> None:
        """Give the slot of `row` to the last row in use."""
        last = self.active - 1
        if row != last:
            for held in (*self._keys, *self._values):
                held[row] = held[last]
            self.lengths[row] = self.lengths[last]
        self.active = last


@dataclass
class _Row:
    prompt: int
    text: list[int] = field(default_factory=list)


Forward = Callable[[Pass, Tensor, Tensor, Tensor], Tensor]
"""Runs tokens ``[B, L]`` at positions ``[B, L]`` and returns the logits at flat places ``[N]``, ``[N, vocabulary]``."""


def _likeliest(logits: Tensor) -> list[int]:
    highest, tokens = logits.max(-1)
    if not bool(torch.isfinite(highest).all()):
        raise ScoringError("generation: logits must be finite, got nan or infinity; drop this candidate")
    return [int(token) for token in tokens.tolist()]


class Generator:
    """Continues prompts greedily.

    Args:
        forward: Runs the model.
        device: Where the model is.
        rows: Most rows at a time.
        tokens: Most tokens of one pass; one prompt may be longer.
        min_prefix: Shortest common beginning of all prompts that is held once.
        patience: Seconds after which it is given up when no text was finished.
    """

    def __init__(
        self,
        forward: Forward,
        device: Any,
        *,
        rows: int,
        tokens: int,
        min_prefix: int,
        patience: float = PATIENCE,
    ) -> None:
        self._forward = forward
        self._device = device
        self._limit = rows
        self._tokens = tokens
        self._min_prefix = min_prefix
        self._patience = patience
        self.tokens_run = 0

    def run(self, prompts: Sequence[Sequence[int]], ending: Ending) -> list[list[int]]:
        """Return the new tokens of every prompt, up to and with the token that ended it.

        Raises:
            ScoringError: Logits are not finite, or no text was finished for too long.
        """
        finished = time.monotonic()
        tokens = [np.array(prompt, dtype=np.int64) for prompt in prompts]
        shared = self._shared(tokens)
        own = [prompt[shared:] for prompt in tokens]
        prefix = self._prefill(tokens[0][:shared]) if shared else None
        rows_at_once = min(self._limit, len(own))
        slots = Slots(rows_at_once, max(map(len, own)) + ending.longest)
        waiting = sorted(range(len(own)), key=lambda i: len(own[i]))
        rows: list[_Row] = []
        done: dict[int, list[int]] = {}
        while waiting or rows:
            free = rows_at_once - len(rows)
            if waiting and (free >= max(1, rows_at_once // 4) or not rows):
                entering = self._next(waiting, free, [len(prompt) for prompt in own])
                rows += [_Row(prompt) for prompt in entering]
                best = self._enter(slots, prefix, shared, [own[i] for i in entering])
                fresh = rows[-len(entering) :]
            else:
                best = self._step(slots, prefix, shared, [row.text[-1] for row in rows])
                fresh = rows
            for row, token in zip(fresh, best, strict=True):
                row.text.append(token)
            for place in range(len(rows) - 1, -1, -1):
                if ending.reached(rows[place].text):
                    done[rows[place].prompt] = rows[place].text
                    finished = time.monotonic()
                    slots.leave(place)
                    rows[place] = rows[-1]
                    rows.pop()
            if time.monotonic() - finished > self._patience:
                raise ScoringError(
                    f"generation: must finish a text within {self._patience:g} s, got none of {len(rows)}; "
                    "drop this candidate, or ask for fewer tokens"
                )
        return [done[i] for i in range(len(own))]

    def _shared(self, tokens: Sequence[Ints]) -> int:
        if len(tokens) < 2:
            return 0
        first = tokens[0]
        shared = min(min(common_prefix(first, other), len(other) - 1) for other in tokens)
        return shared if shared >= self._min_prefix else 0

    def _next(self, waiting: list[int], free: int, lengths: Sequence[int]) -> list[int]:
        """Take the longest waiting prompts that fit into one pass without much padding."""
        entering = [waiting.pop()]
        longest = lengths[entering[0]]
        while waiting and len(entering) < free:
            fits = (len(entering) + 1) * longest <= self._tokens and lengths[waiting[-1]] >= 0.75 * longest
            if not fits:
                break
            entering.append(waiting.pop())
        return entering

    def _prefill(self, prefix: Ints) -> Layers:
        state = Pass(reach=len(prefix), captured=[])
        ids = torch.from_numpy(prefix)[None].to(self._device)
        positions = torch.arange(len(prefix), device=self._device)[None]
        self._forward(state, ids, positions, torch.zeros(1, dtype=torch.long, device=self._device))
        self.tokens_run += len(prefix)
        return [(key.contiguous(), value.contiguous()) for key, value in state.captured or []]

    def _enter(self, slots: Slots, prefix: Layers | None, start: int, prompts: Sequence[Ints]) -> list[int]:
        """Run the prompts of new rows, padded on the right, and return each one's first token."""
        longest = max(map(len, prompts))
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.from_numpy(prompt)
        last = torch.tensor([row * longest + len(prompt) - 1 for row, prompt in enumerate(prompts)])
        positions = torch.arange(start, start + longest).expand(len(prompts), -1)
        state = Pass(reach=start + longest, prefix=prefix, captured=[])
        logits = self._forward(state, ids.to(self._device), positions.to(self._device), last.to(self._device))
        slots.fill(state.captured or [], [len(prompt) for prompt in prompts])
        self.tokens_run += ids.numel()
        return _likeliest(logits)

    def _step(self, slots: Slots, prefix: Layers | None, start: int, tokens: Sequence[int]) -> list[int]:
        """Feed each row's last token and return its next."""
        slots.begin(self._device)
        lengths = slots.lengths[: slots.active]
        view = slots.view
        hidden = torch.arange(view)[None] > lengths[:, None]
        mask = torch.zeros(len(tokens), 1, 1, view).masked_fill_(hidden[:, None, None], float("-inf"))
        state = Pass(reach=start + view, prefix=prefix, mask=mask.to(self._device), slots=slots)
        ids = torch.tensor(tokens, device=self._device)[:, None]
        positions = (lengths + start)[:, None].to(self._device)
        logits = self._forward(state, ids, positions, torch.arange(len(tokens), device=self._device))
        slots.advance()
        self.tokens_run += len(tokens)
        return _likeliest(logits)
