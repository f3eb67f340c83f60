"""Greedy generation for many prompts at once: a shared prefix held once, finished texts leave at once.

Every text has a slot with room for its own prompt and tokens. A step feeds each text's last token, and behind it
guesses of what follows (`prompt_lookup`), all of which the same pass checks. A finished text gives its slot to the last
one, so that the slots in use are always the first ones, and waiting prompts fill the free slots.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evals.engines.live.kv_slots import KvSlots
from evals.engines.live.prefix_tree import common_prefix
from evals.engines.live.prompt_lookup import MAX_GUESSES, PromptLookup, guesses_worth
from evals.engines.live.scoring_plan import Ints
from evals.engines.live.shared_attention import AttentionState, KeyValues
from evals.errors import ScoringError

STALL_SECONDS = 3600.0
"""Without a finished text for so long, generation is given up."""
CHECK_EVERY = 4
"""Tokens between two searches for a stop string; the text is cut where the string begins, however late it is found."""


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


@dataclass
class _Text:
    prompt: int
    lookup: PromptLookup
    text: list[int] = field(default_factory=list)
    done: bool = False

    def extend(self, tokens: Sequence[int], ending: Ending) -> None:
        """Add tokens to the text, until it is finished."""
        for token in tokens:
            self.text.append(token)
            self.lookup.add(token)
            self.done = ending.reached(self.text)
            if self.done:
                return

    def guess(self, count: int, ending: Ending) -> list[int]:
        """Return up to `count` guesses, none beyond the longest text."""
        return self.lookup.guess(min(count, ending.longest - len(self.text) - 1))


RunPass = Callable[[AttentionState, Tensor, Tensor, Tensor], Tensor]
"""Runs tokens ``[B, L]`` at positions ``[B, L]`` and returns the logits at flat places ``[N]``, ``[N, vocabulary]``."""


def _likeliest(logits: Tensor) -> list[int]:
    highest, tokens = logits.max(-1)
    if not bool(torch.isfinite(highest).all()):
        raise ScoringError("generation: logits must be finite, got nan or infinity; drop this candidate")
    return [int(token) for token in tokens.tolist()]


class Generator:
    """Continues prompts greedily.

    Args:
        run_pass: Runs the model.
        device: Where the model is.
        rows: Most rows at a time.
        tokens: Most tokens of one pass; one prompt may be longer.
        min_prefix: Shortest common beginning of all prompts that is held once.
        stall_seconds: Without a finished text for so long, generation is given up.
    """

    def __init__(
        self,
        run_pass: RunPass,
        device: Any,
        *,
        rows: int,
        tokens: int,
        min_prefix: int,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._run_pass = run_pass
        self._device = device
        self._limit = rows
        self._tokens = tokens
        self._min_prefix = min_prefix
        self._stall_seconds = stall_seconds
        self.tokens_run = 0

    def run(self, prompts: Sequence[Sequence[int]], ending: Ending) -> list[list[int]]:
        """Return the new tokens of every prompt, up to and with the token that ended it.

        Raises:
            ScoringError: Logits are not finite, or no text was finished for too long.
        """
        last_finished = time.monotonic()
        tokens = [np.array(prompt, dtype=np.int64) for prompt in prompts]
        shared = self._shared(tokens)
        own = [prompt[shared:] for prompt in tokens]
        prefix = self._prefill(tokens[0][:shared]) if shared else None
        rows_at_once = min(self._limit, len(own))
        slots = KvSlots(rows_at_once, max(map(len, own)) + ending.longest + MAX_GUESSES)
        waiting = sorted(range(len(own)), key=lambda i: len(own[i]))
        rows: list[_Text] = []
        done: dict[int, list[int]] = {}
        while waiting or rows:
            free = rows_at_once - len(rows)
            if waiting and (free >= max(1, rows_at_once // 4) or not rows):
                entering = self._next(waiting, free, [len(prompt) for prompt in own])
                rows += [_Text(prompt, PromptLookup(tokens[prompt].tolist())) for prompt in entering]
                new_tokens = self._enter(slots, prefix, shared, [own[i] for i in entering])
                fresh = rows[-len(entering) :]
            else:
                new_tokens = self._step(slots, prefix, shared, rows, ending)
                fresh = rows
            for row, new in zip(fresh, new_tokens, strict=True):
                row.extend(new, ending)
            for place in range(len(rows) - 1, -1, -1):
                if rows[place].done:
                    done[rows[place].prompt] = rows[place].text
                    last_finished = time.monotonic()
                    slots.leave(place)
                    rows[place] = rows[-1]
                    rows.pop()
            if time.monotonic() - last_finished > self._stall_seconds:
                raise ScoringError(
                    f"generation: must finish a text within {self._stall_seconds:g} s, got none of {len(rows)}; "
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

    def _prefill(self, prefix: Ints) -> KeyValues:
        state = AttentionState(reach=len(prefix), captured=[])
        ids = torch.from_numpy(prefix)[None].to(self._device)
        positions = torch.arange(len(prefix), device=self._device)[None]
        self._run_pass(state, ids, positions, torch.zeros(1, dtype=torch.long, device=self._device))
        self.tokens_run += len(prefix)
        return [(key.contiguous(), value.contiguous()) for key, value in state.captured or []]

    def _enter(self, slots: KvSlots, prefix: KeyValues | None, start: int, prompts: Sequence[Ints]) -> list[list[int]]:
        """Run the prompts of new rows, padded on the right, and return each one's first token, alone in a list."""
        longest = max(map(len, prompts))
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.from_numpy(prompt)
        last = torch.tensor([row * longest + len(prompt) - 1 for row, prompt in enumerate(prompts)])
        positions = torch.arange(start, start + longest).expand(len(prompts), -1)
        state = AttentionState(reach=start + longest, prefix=prefix, captured=[])
        logits = self._run_pass(state, ids.to(self._device), positions.to(self._device), last.to(self._device))
        slots.fill(state.captured or [], [len(prompt) for prompt in prompts])
        self.tokens_run += ids.numel()
        return [[token] for token in _likeliest(logits)]

    def _step(
        self, slots: KvSlots, prefix: KeyValues | None, start: int, rows: Sequence[_Text], ending: Ending
    ) -> list[list[int]]:
        """Feed each row's last token and guesses behind it; return the tokens that follow, one at least."""
        most = max(0, min(MAX_GUESSES, self._tokens // len(rows) - 1))
        count = guesses_worth([row.lookup.acceptance for row in rows], most)
        fed = [[row.text[-1], *row.guess(count, ending)] for row in rows]
        length = max(map(len, fed))
        places = slots.begin(length, self._device)
        real = torch.arange(length) < torch.tensor([len(tokens) for tokens in fed])[:, None]
        ids = torch.zeros(len(rows), length, dtype=torch.long)
        ids[real] = torch.tensor([token for tokens in fed for token in tokens])
        positions = (places + start) * real
        hidden = torch.arange(slots.view) > places[:, :, None]
        mask = torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))[:, None]
        state = AttentionState(int(positions.max()) + 1, prefix, mask.to(self._device), slots=slots)
        needed = real.flatten().nonzero()[:, 0]
        logits = self._run_pass(state, *(part.to(self._device) for part in (ids, positions, needed)))
        best = iter(_likeliest(logits))
        new_tokens = [_agreed(tokens[1:], [next(best) for _ in tokens]) for tokens in fed]
        slots.advance([len(tokens) for tokens in new_tokens])
        self.tokens_run += ids.numel()
        return new_tokens


def _agreed(guessed: Sequence[int], best: Sequence[int]) -> list[int]:
    """Return the model's tokens up to and with the first that was not guessed."""
    count = 0
    while count < len(guessed) and guessed[count] == best[count]:
        count += 1
    return list(best[: count + 1])
