"""What is planned for some requests before any weight is known: passes, what they share and what is read from them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

MIN_PREFIX = 48
"""Stems shorter than this are not worth a pass of their own."""
OWN_PASS = 256
"""A context of this many tokens gets a causal row of its own, its answers hang on it."""
ROW = 256
"""Tokens that packed questions may fill of one row."""


@dataclass(frozen=True)
class Targets:
    """Which tokens are scored in a pass; four arrays of one length.

    Attributes:
        row: Place among the pass's `needed` positions.
        token: The token whose log-probability is wanted there.
        request: The request that it belongs to.
    """

    row: Ints
    token: Ints
    request: Ints


@dataclass(frozen=True)
class Forward:
    """One forward pass.

    Attributes:
        ids: Tokens, ``[B, L]``.
        positions: Their positions, ``[B, L]``.
        end: Until where each node after the stem is seen, counted from there, ``[B, L - stem]``; None when every row
            is plainly causal.
        needed: Flat places in ``[B * L]`` whose logits are needed.
        targets: What is read from them.
        stem: First tokens of the only row that are plainly causal and seen by all that follows; 0 for none.
    """

    ids: Ints
    positions: Ints
    end: Ints | None
    needed: Ints
    targets: Targets
    stem: int = 0

    def after(self, known: int) -> "Forward":
        """Return the pass without the first `known` tokens of its only row, in which nothing is read."""
        return replace(
            self,
            ids=self.ids[:, known:],
            positions=self.positions[:, known:],
            needed=self.needed - known,
            stem=max(0, self.stem - known),
        )


@dataclass(frozen=True)
class Group:
    """Passes that share a prefix, ``[1, Lp]``; without one, independent passes."""

    prefix: Forward | None
    passes: tuple[Forward, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that scoring some requests needs but the weights.

    Attributes:
        groups: The passes.
        requests: Number of requests.
        tokens_run: Tokens in all passes, padding included.
        tokens_full: Tokens that all requests have, each on its own.
        tokens_unique: Tokens that must be computed at least: the nodes of the tree.
        pairs_unique: Pairs of a node and a node that it attends to, itself included: the sum of the nodes' depths.
    """

    groups: tuple[Group, ...]
    requests: int
    tokens_run: int
    tokens_full: int
    tokens_unique: int
    pairs_unique: int


@dataclass(frozen=True)
class Budget:
    """Limits of one pass.

    Attributes:
        tokens: Tokens, padding included; one row may be longer.
        heads: Positions whose logits are needed.
        row: Tokens that packed questions may fill of one row.
        min_prefix: Shortest stem that is computed apart.
        own_pass: Shortest context that is computed apart for a single question.
        pieces: A pass is one row, whatever its width: attention computes each of its questions apart.
    """

    tokens: int = 2048
    heads: int = 1024
    row: int = ROW
    min_prefix: int = MIN_PREFIX
    own_pass: int = OWN_PASS
    pieces: bool = False

    def of(self, tokens: int) -> "Budget":
        """Return the limits of passes of so many tokens."""
        return replace(self, tokens=tokens, heads=max(16, tokens // 2), row=min(ROW, tokens))

    def halved(self) -> "Budget | None":
        """Return half of it, or None when a pass is one row already."""
        if self.tokens <= 64:
            return None
        heads, row = max(self.heads // 2, 16), max(self.row // 2, 32)
        return replace(self, tokens=self.tokens // 2, heads=heads, row=row)
