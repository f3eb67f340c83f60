"""Prompt lookup: guesses a text's next tokens from its past; a pass checks several for little more than one token.

Where the text's last tokens occurred before, what followed them there is guessed again. A guess stays only when the
model generates the same token, so texts are those of generation token by token. Sources: A. Saxena, "Prompt Lookup
Decoding", 2023; Y. Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", ICML 2023.
"""

from collections.abc import Sequence

from evals.engines.live.prefix_tree import PASS_COST

MAX_GUESSES = 16
"""Guesses per text and pass."""
_MATCH = 3
"""Last tokens that must have occurred before."""
_DECAY = 0.9
"""Weight of an earlier guess in the acceptance rate, against the one after it."""


class PromptLookup:
    """Guesses the next tokens of one text, and keeps the rate at which guesses are accepted.

    Args:
        prompt: The tokens before the text.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        self._right, self._tried = 0.5, 1.0
        for token in prompt:
            self._append(int(token))

    @property
    def acceptance(self) -> float:
        """Probability that the next guess is right; 0 when there is none."""
        return self._right / self._tried if self._continuation() is not None else 0.0

    def add(self, token: int) -> None:
        """Append a token that the model generated, and count whether it would have been guessed."""
        follows = self._continuation()
        if follows is not None:
            self._right = _DECAY * self._right + (self._tokens[follows] == token)
            self._tried = _DECAY * self._tried + 1
        self._append(token)

    def guess(self, count: int) -> list[int]:
        """Return `count` guesses, none where the last tokens are new; a loop is guessed to go on."""
        follows = self._continuation()
        if follows is None:
            return []
        period = len(self._tokens) - follows
        return [self._tokens[follows + i % period] for i in range(count)]

    def _continuation(self) -> int | None:
        """Return the place after the last earlier occurrence of the last tokens."""
        return self._after.get(tuple(self._tokens[-_MATCH:]))

    def _append(self, token: int) -> None:
        if len(self._tokens) >= _MATCH:
            self._after[tuple(self._tokens[-_MATCH:])] = len(self._tokens)
        self._tokens.append(token)


def guesses_worth(acceptances: Sequence[float], most: int) -> int:
    """Return the number of guesses per text, up to `most`, with which a pass yields most tokens for its cost.

    A pass over B texts of 1 + n tokens each costs as much as PASS_COST + B (1 + n) tokens and yields
    1 + a + a^2 + ... + a^n tokens of a text with acceptance rate a.
    """
    tokens = [float(len(acceptances))]
    for count in range(1, most + 1):
        tokens.append(tokens[-1] + sum(rate**count for rate in acceptances))
    return max(range(most + 1), key=lambda count: tokens[count] / (PASS_COST + len(acceptances) * (1 + count)))
