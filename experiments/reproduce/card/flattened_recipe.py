"""Reads a recipe whose lines or indentation were lost: mergekit's keys alone say what belongs where.

Grammar, where every dash may be missing as well:

    document = (key value | models entries | slices (sources entries)+ | parameters settings)+
    entry    = model value, layer_range value, parameters settings      in any order, each once
    settings = (name value | name ((filter value)? value value)+)+

A ``parameters`` after an entry's is the entry's own if it has none yet and its first name is one that the method
takes per model; otherwise it is the document's.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from experiments.reproduce.card.safe_yaml import value as yaml_value
from merge.errors import RecipeError
from merge.methods import get_method, method_names

SCALARS = frozenset(
    {"merge_method", "base_model", "dtype", "out_dtype", "tokenizer_source", "chat_template", "name"}
)  # fmt: skip
DOCUMENT = SCALARS | {"models", "slices", "modules", "parameters", "tokenizer"}
ENTRY = frozenset({"model", "layer_range", "parameters", "residual_weight"})

_START = re.compile(rf"(?<![\w.\"'-])(?:{'|'.join(sorted(DOCUMENT))})[\"']?\s?:(?=\s)")
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    | (?P<dash>-(?=\s))
    | (?P<key>["']?[A-Za-z_]\w*["']?[ ]?:(?=\s|$|\[|\{|"))
    | (?P<heading>\#\#+\s)
    | (?P<comment>\#)
    | (?P<open>[\[{])
    | (?P<quoted>"[^"\n]*"|'[^'\n]*')
    | (?P<word>\S+)""",
    re.VERBOSE,
)
_NEXT_KEY = re.compile(r"(?:-\s+)?[A-Za-z_]\w*:(?=\s)")
_LONGEST_FLOW = 2000


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    end: int


@dataclass(frozen=True)
class Flattened:
    """A recipe found in running text.

    Attributes:
        document: The recipe as a mapping.
        start: Where it begins in the text.
        end: Where it ends.
    """

    document: dict[str, Any]
    start: int
    end: int


def find_flattened(text: str) -> Iterator[Flattened]:
    """Go through the recipes of a text in which lines or indentation may be lost."""
    place = 0
    while (match := _START.search(text, place)) is not None:
        reader = _Reader(text, match.start())
        document = reader.document()
        if isinstance(document.get("merge_method"), str) and (document.get("models") or document.get("slices")):
            yield Flattened(document, match.start(), reader.end)
            place = max(reader.end, match.end())
        else:
            place = match.end()


def _tokens(text: str, place: int) -> Iterator[_Token]:
    """Go through the tokens from a place; a comment ends with its line, or before the next key where lines are lost."""
    lines = "\n" in text[place : place + 2000].strip()
    while (match := _TOKEN.match(text, place)) is not None:
        kind, place = str(match.lastgroup), match.end()
        if kind == "comment":
            stop = text.find("\n", place)
            if not lines or not text[place:stop].strip():
                following = _NEXT_KEY.search(text, place)
                stop = following.start() if following else -1
            place = len(text) if stop < 0 else stop
        elif kind == "open":
            place = _closing(text, match.start())
            yield _Token("value", text[match.start() : place], place)
        elif kind != "space":
            yield _Token("value" if kind in ("quoted", "word") else kind, match.group(), place)


def _closing(text: str, start: int) -> int:
    depth = 0
    for place in range(start, min(len(text), start + _LONGEST_FLOW)):
        depth += (text[place] in "[{") - (text[place] in "]}")
        if depth == 0:
            return place + 1
    return start + 1


class _Reader:
    """Reads one document, token by token; `end` is the place after the last token that belonged to it."""

    def __init__(self, text: str, start: int) -> None:
        self._stream = _tokens(text, start)
        self._ahead: list[_Token] = []
        self._names = parameter_names()
        self.end = start

    def _peek(self, offset: int = 0) -> _Token:
        while len(self._ahead) <= offset:
            self._ahead.append(next(self._stream, _Token("end", "", self.end)))
        return self._ahead[offset]

    def _take(self) -> _Token:
        token = self._peek()
        self._ahead.pop(0)
        self.end = max(self.end, token.end)
        return token

    def _key(self, offset: int = 0) -> str:
        token = self._peek(offset)
        return token.text.rstrip(":").strip(" \"'") if token.kind == "key" else ""

    def _dashed(self) -> str:
        """Return the key that comes next, whether or not there is a dash before it."""
        return self._key(1) if self._peek().kind == "dash" else self._key()

    def _skip_dash(self) -> None:
        if self._peek().kind == "dash":
            self._take()

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while True:
            key = self._dashed() if self._dashed() == "sources" else self._key()
            if key in SCALARS and self._peek(1).kind == "value" and key not in found:
                self._take()
                found[key] = yaml_value(self._take().text)
            elif key in ("models", "slices", "modules", "sources") and not (
                key in found or self._odd(key) or (key != "sources" and {"models", "slices"} & set(found))
            ):
                self._list(key, found)
            elif key == "parameters" and "parameters" not in found:
                self._take()
                found["parameters"] = self._settings()
            elif key == "tokenizer" and key not in found:
                self._take()
                found[key] = self._tokenizer()
            else:
                return _assigned(found)

    def _odd(self, key: str) -> bool:
        """Tell whether a list's key is a word of prose: no list follows it."""
        following = self._peek(1)
        return key != "sources" and following.kind not in ("key", "dash") and not following.text.startswith("[")

    def _list(self, key: str, found: dict[str, Any]) -> None:
        if key == "sources":
            found.setdefault("slices", []).extend(self._slices())
            return
        self._take()
        if key == "modules":
            if self._key() not in DOCUMENT:
                self._take()
        elif key == "models":
            found["models"] = self._entries()
        else:
            found["slices"] = self._slices()

    def _slices(self) -> list[dict[str, Any]]:
        slices: list[dict[str, Any]] = []
        while self._dashed() == "sources":
            self._skip_dash()
            self._take()
            slices.append({"sources": self._entries()})
        return slices

    def _entries(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        while (flow := self._flow("model")) or self._dashed() in ("model", "layer_range"):
            self._skip_dash()
            if flow:
                self._take()
                entries += flow
                continue
            entry: dict[str, Any] = {}
            while (key := self._key()) in ENTRY and key not in entry:
                self._take()
                entry[key] = self._settings() if key == "parameters" else self._scalar_or_list()
            entries.append(entry)
        return entries

    def _flow(self, key: str) -> list[dict[str, Any]]:
        """Return the mappings with a key that come next in braces or brackets; none where no such thing comes."""
        token = self._peek(1) if self._peek().kind == "dash" else self._peek()
        if token.kind != "value" or not token.text.startswith(("[", "{")):
            return []
        read = yaml_value(token.text)
        listed: list[Any] = read if isinstance(read, list) else [read]
        return listed if all(isinstance(entry, dict) and key in entry for entry in listed) else []

    def _settings(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._peek().kind == "value" and self._peek().text.startswith("{"):
            flow = yaml_value(self._take().text)
            found.update(flow if isinstance(flow, dict) else {})
        while (key := self._key()) not in found and self._is_setting(key):
            self._take()
            found[key] = self._setting()
        return found

    def _is_setting(self, key: str) -> bool:
        """Tell whether a key names a parameter: a known one, or any with a plain value; prose has neither."""
        if not key or key in DOCUMENT | ENTRY | {"sources", "filter", "value"}:
            return False
        following = self._peek(1)
        plain = following.kind == "value" and isinstance(yaml_value(following.text), bool | int | float | list)
        return key in self._names or (key.islower() and plain)

    def _setting(self) -> object:
        if self._peek().kind == "value":
            return yaml_value(self._take().text)
        rules: list[dict[str, object]] = []
        while (flow := self._flow("value")) or self._dashed() in ("filter", "value"):
            self._skip_dash()
            if flow:
                self._take()
                rules += flow
                continue
            rule: dict[str, object] = {}
            while (key := self._key()) in ("filter", "value") and key not in rule:
                self._take()
                rule[key] = self._scalar_or_list()
            rules.append(rule)
        return rules or self._scalar_or_list()

    def _scalar_or_list(self) -> object:
        """Return a value, or a list of dashed values."""
        if self._peek().kind == "value":
            return yaml_value(self._take().text)
        values: list[object] = []
        while self._peek().kind == "dash" and self._peek(1).kind == "value":
            self._take()
            values.append(yaml_value(self._take().text))
        return values or None

    def _tokenizer(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._key() in ("source", "pad_to_multiple_of") and self._peek(1).kind == "value":
            key = self._key()
            self._take()
            found[key] = yaml_value(self._take().text)
        return found


def _assigned(found: dict[str, Any]) -> dict[str, Any]:
    """Give settings of the last entry that only the whole document can have to the document."""
    method = found.get("merge_method")
    entries = [e for part in (found, *(found.get("slices") or ())) for e in part.get("models", part.get("sources", ()))]
    if not isinstance(method, str) or not entries or "parameters" in found:
        return found
    try:
        known = get_method(method).parameters()
    except RecipeError:
        return found
    last = entries[-1].get("parameters") or {}
    shared = {k for k in last if k == "int8_mask" or (k in known and not known[k].per_model)}
    if shared and (method != "passthrough") and not shared & {"weight", "density"}:
        found["parameters"] = {key: last.pop(key) for key in list(last) if key in shared}
        if not last:
            entries[-1].pop("parameters")
    return found


@cache
def parameter_names() -> frozenset[str]:
    """Return every parameter that some method takes."""
    return frozenset(name for method in method_names() for name in get_method(method).parameters())
