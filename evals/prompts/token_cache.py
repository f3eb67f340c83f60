"""Token ids of prompts and continuations, made once for every model that shares the tokenizer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class TokenPair:
    """A text to score: `context` tokens, then `continuation` tokens, at least one of each."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


class Tokens:
    """What a tokenizer makes of texts, as lm-eval's HFLM asks it, each text once.

    Args:
        tokenizer: A tokenizer of transformers.
        pairs: Texts with their continuations, tokenised before.
        texts: Texts that were tokenised before.

    Attributes:
        pairs: Texts with their continuations, tokenised so far.
        texts: Texts tokenised so far.
        made: Texts that were tokenised so far; those learned or read from disk do not count.
    """

    def __init__(
        self,
        tokenizer: Any,
        pairs: Mapping[tuple[str, str], TokenPair] = MappingProxyType({}),
        texts: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
    ) -> None:
        self.tokenizer = tokenizer
        self.made = 0
        self.pairs = dict(pairs)
        self.texts = dict(texts)
        self._stops: dict[str, tuple[int, ...]] = {}

    @property
    def prefix_token_id(self) -> int:
        """What stands for an empty context: beginning of text, else end of text."""
        beginning = self.tokenizer.bos_token_id
        return int(self.tokenizer.eos_token_id if beginning is None else beginning)

    def encode(self, text: str, add_special_tokens: bool | None = None) -> list[int]:  # noqa: FBT001 - lm-eval's signature
        """Return the tokens of a text; special ones are the tokenizer's choice unless the text begins with them."""
        self.made += 1
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        if add_special_tokens is None and text.startswith(self.tokenizer.decode(self.prefix_token_id)):
            options["add_special_tokens"] = False
        return list(self.tokenizer.encode(text, **options))

    def text(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a prompt or of a whole text."""
        if text not in self.texts:
            self.texts[text] = tuple(self.encode(text))
        return self.texts[text]

    def stop(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a stop string, without special ones."""
        if text not in self._stops:
            self._stops[text] = tuple(self.encode(text, add_special_tokens=False))
        return self._stops[text]

    def pair(self, context: str, continuation: str) -> TokenPair:
        """Return the tokens of a continuation after its context; spaces between them go to the continuation."""
        key = (context, continuation)
        if key not in self.pairs:
            self.pairs[key] = self._split(context, continuation)
        return self.pairs[key]

    def _split(self, context: str, continuation: str) -> TokenPair:
        if not context:
            rest = self.encode(continuation, add_special_tokens=False)
            before = [] if self.prefix_token_id == rest[0] else [self.prefix_token_id]
            return TokenPair(tuple([*before, *rest][:1]), tuple([*before, *rest][1:]))
        trimmed = context.rstrip()
        whole = self.encode(context + continuation)
        first = self.text(trimmed)
        return TokenPair(first or (self.prefix_token_id,), tuple(whole[len(first) :]))

    def update(self, other: "Tokens") -> None:
        """Take over what `other`, of the same tokenizer, has made."""
        self.pairs |= other.pairs
        self.texts |= other.texts

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value that `from_json` reads; texts and tokens that occur several times stand there once."""
        numbers: dict[str, int] = {}
        rows: dict[tuple[int, ...], int] = {}
        texts = [[numbers.setdefault(t, len(numbers)), rows.setdefault(r, len(rows))] for t, r in self.texts.items()]
        pairs = [
            [
                *(numbers.setdefault(text, len(numbers)) for text in key),
                *(rows.setdefault(row, len(rows)) for row in (request.context, request.continuation)),
            ]
            for key, request in self.pairs.items()
        ]
        return {"strings": list(numbers), "rows": [list(row) for row in rows], "texts": texts, "pairs": pairs}

    @classmethod
    def from_json(cls, tokenizer: Any, value: dict[str, Any]) -> "Tokens":
        """Return what `to_json` wrote."""
        strings, rows = value["strings"], [tuple(row) for row in value["rows"]]
        texts = {strings[text]: rows[row] for text, row in value["texts"]}
        pairs = {(strings[a], strings[b]): TokenPair(rows[c], rows[d]) for a, b, c, d in value["pairs"]}
        return cls(tokenizer, pairs, texts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokens) and (self.pairs, self.texts) == (other.pairs, other.texts)

    __hash__ = None  # type: ignore[assignment]  # it changes


def windows(tokens: Sequence[int], before: int, longest: int) -> tuple[TokenPair, ...]:
    """Return a text cut into windows of `longest` tokens, each with the token before it, first `before`, as context."""
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    rolling = get_rolling_token_windows(
        token_list=list(tokens), prefix_token=before, max_seq_len=longest, context_len=1
    )
    return tuple(TokenPair(tuple(context), tuple(rest)) for context, rest in map(make_disjoint_window, rolling))
