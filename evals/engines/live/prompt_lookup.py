"""Guesses of what a text says next, from what it said before; a pass can check several for little more than one token.

Where the last tokens of a text stood before, what followed there is guessed again. A guess counts only when the model
says the same, so texts are those of generation token by token. Sources: A. Saxena, "Prompt Lookup Decoding", 2023;
Y. Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", ICML 2023.
"""

from collections.abc import Sequence

from evals.engines.live.prefix_tree import PASS_COST

MOST = 16
"""Guesses per text and pass."""
_ALIKE = 3
"""So many last tokens must have stood before."""
_MEMORY = 0.9
"""Weight of an earlier guess against the one after it."""


class Drafter:
    """Guesses the next tokens of one text, and how often it is right.

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
    def hope(self) -> float:
        """Probability that the next guess is right; 0 when there is none."""
        return self._right / self._tried if self._place() is not None else 0.0

    def add(self, token: int) -> None:
        """Note the token that the model said, and whether it would have been guessed."""
        place = self._place()
        if place is not None:
            self._right = _MEMORY * self._right + (self._tokens[place] == token)
            self._tried = _MEMORY * self._tried + 1
        self._append(token)

    def guess(self, count: int) -> list[int]:
        """Return `count` guesses, none where the last tokens are new; a loop is guessed to go on."""
        place = self._place()
        if place is None:
            return []
        period = len(self._tokens) - place
        return [self._tokens[place + i % period] for i in range(count)]

    def _place(self) -> int | None:
        return self._after.get(tuple(self._tokens[-_ALIKE:]))

    def _append(self, token: int) -> None:
        if len(self._tokens) >= _ALIKE:
            self._after[tuple(self._tokens[-_ALIKE:])] = len(self._tokens)
        self._tokens.append(token)


def best_count(hopes: Sequence[float], most: int) -> int:
    """Return how many guesses per text make a pass say most tokens for its cost.

    A pass over B texts of 1 + n tokens each costs as much as PASS_COST + B (1 + n) tokens and says
    1 + h + h^2 + ... + h^n of a text with hope h.
    """
    says = [float(len(hopes))]
    for count in range(1, most + 1):
        says.append(says[-1] + sum(hope**count for hope in hopes))
    return max(range(most + 1), key=lambda count: says[count] / (PASS_COST + len(hopes) * (1 + count)))
