"""What is planned for some requests before any weight is known: passes, what they share and what is read from them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

MIN_PREFIX = 48
"""Tokens; a shorter prefix is not worth a pass of its own."""
OWN_PASS = 256
"""Tokens; a context this long gets a causal row of its own, with its continuations behind it."""
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
class PlannedPass:
    """One forward pass, planned from tokens alone.

    Attributes:
        ids: Tokens, ``[B, L]``.
        positions: Their positions, ``[B, L]``.
        end: Until where each node after the stem is seen, counted from there, ``[B, L - stem]``; None when every row
            is plainly causal.
        needed: Flat places in ``[B * L]`` whose logits are needed.
        targets: What is read from them.
        stem: Number of first tokens of the only row that are plainly causal and seen by all that follows; 0 for none.
    """

    ids: Ints
    positions: Ints
    end: Ints | None
    needed: Ints
    targets: Targets
    stem: int = 0

    def after(self, known: int) -> "PlannedPass":
        """Return the pass without the first `known` tokens of its only row, in which nothing is read."""
        return replace(
            self,
            ids=self.ids[:, known:],
            positions=self.positions[:, known:],
            needed=self.needed - known,
            stem=max(0, self.stem - known),
        )


@dataclass(frozen=True)
class PrefixGroup:
    """Passes that share a prefix, ``[1, Lp]``; without one, independent passes."""

    prefix: PlannedPass | None
    passes: tuple[PlannedPass, ...]


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

    groups: tuple[PrefixGroup, ...]
    requests: int
    tokens_run: int
    tokens_full: int
    tokens_unique: int
    pairs_unique: int


@dataclass(frozen=True)
class PassBudget:
    """Limits of one pass.

    Attributes:
        tokens: Tokens, padding included; one row may be longer.
        logits: Positions whose logits are needed.
        row: Tokens that packed questions may fill of one row.
        min_prefix: Shortest stem that is computed apart.
        own_pass: Shortest context that is computed apart for a single question.
        segments: A pass is one row, whatever its width: attention computes each of its questions apart.
    """

    tokens: int = 2048
    logits: int = 1024
    row: int = ROW
    min_prefix: int = MIN_PREFIX
    own_pass: int = OWN_PASS
    segments: bool = False

    def with_tokens(self, tokens: int) -> "PassBudget":
        """Return the limits of passes of so many tokens."""
        return replace(self, tokens=tokens, logits=max(16, tokens // 2), row=min(ROW, tokens))

    def halved(self) -> "PassBudget | None":
        """Return half of it, or None when a pass is one row already."""
        if self.tokens <= 64:
            return None
        logits, row = max(self.logits // 2, 16), max(self.row // 2, 32)
        return replace(self, tokens=self.tokens // 2, logits=logits, row=row)
