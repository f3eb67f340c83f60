"""Token ids of prompts and continuations, made once for every model that shares the tokenizer."""

from collections.abc import Sequence
from typing import Any

from evals.engines.live.scoring_plan import Request


class Tokens:
    """What a tokenizer makes of texts, as lm-eval's HFLM asks it, each text once.

    Args:
        tokenizer: A tokenizer of transformers.

    Attributes:
        made: Texts that were tokenised so far; those learned or read from disk do not count.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.made = 0
        self._pairs: dict[tuple[str, str], Request] = {}
        self._texts: dict[str, tuple[int, ...]] = {}
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
        if text not in self._texts:
            self._texts[text] = tuple(self.encode(text))
        return self._texts[text]

    def stop(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a stop string, without special ones."""
        if text not in self._stops:
            self._stops[text] = tuple(self.encode(text, add_special_tokens=False))
        return self._stops[text]

    def pair(self, context: str, continuation: str) -> Request:
        """Return the tokens of a continuation after its context; spaces between them go to the continuation."""
        key = (context, continuation)
        if key not in self._pairs:
            self._pairs[key] = self._split(context, continuation)
        return self._pairs[key]

    def _split(self, context: str, continuation: str) -> Request:
        if not context:
            rest = self.encode(continuation, add_special_tokens=False)
            apart = self.prefix_token_id != rest[0]
            return Request((self.prefix_token_id,), tuple(rest)) if apart else Request(tuple(rest[:1]), tuple(rest[1:]))
        trimmed = context.rstrip()
        whole = self.encode(context + continuation)
        first = self.text(trimmed)
        return Request(first or (self.prefix_token_id,), tuple(whole[len(first) :]))

    def learn(self, other: "Tokens") -> None:
        """Take over what `other`, of the same tokenizer, has made."""
        self._pairs |= other._pairs
        self._texts |= other._texts

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value that `from_json` reads; texts and tokens that occur several times stand there once."""
        numbers: dict[str, int] = {}
        rows: dict[tuple[int, ...], int] = {}
        texts = [[numbers.setdefault(t, len(numbers)), rows.setdefault(r, len(rows))] for t, r in self._texts.items()]
        pairs = [
            [
                *(numbers.setdefault(text, len(numbers)) for text in key),
                *(rows.setdefault(row, len(rows)) for row in (request.context, request.continuation)),
            ]
            for key, request in self._pairs.items()
        ]
        return {"strings": list(numbers), "rows": [list(row) for row in rows], "texts": texts, "pairs": pairs}

    @classmethod
    def from_json(cls, tokenizer: Any, value: dict[str, Any]) -> "Tokens":
        """Return what `to_json` wrote."""
        made = cls(tokenizer)
        strings, rows = value["strings"], [tuple(row) for row in value["rows"]]
        made._texts = {strings[text]: rows[row] for text, row in value["texts"]}
        made._pairs = {(strings[a], strings[b]): Request(rows[c], rows[d]) for a, b, c, d in value["pairs"]}
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokens) and (self._pairs, self._texts) == (other._pairs, other._texts)

    __hash__ = None  # type: ignore[assignment]  # it changes


def windows(tokens: Sequence[int], before: int, longest: int) -> tuple[Request, ...]:
    """Return a text cut into windows of `longest` tokens, each with the token before it, first `before`, as context."""
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    rolling = get_rolling_token_windows(
        token_list=list(tokens), prefix_token=before, max_seq_len=longest, context_len=1
    )
    return tuple(Request(tuple(context), tuple(rest)) for context, rest in map(make_disjoint_window, rolling))
