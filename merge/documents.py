"""Reads YAML and JSON that strangers wrote: bounded in size and depth, without tags, as plain values only."""

import json
import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

LARGEST = 1_000_000
"""Bytes of a YAML file, and of JSON where nobody says otherwise."""
NODES = 100_000
"""Values of one YAML file, aliases written out."""
DEPTH = 50
"""Collections within one another."""
KEY = 200
"""Characters of a key in YAML."""
DIGITS = 100
"""Of a whole number in JSON; tokenizers write 1e30 as one."""

_HALF = re.compile(r"[\ud800-\udfff]")
_HIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class DocumentError(ValueError):
    """A text is no plain document; the message says where."""


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key written twice, and leaves dates the text that they are."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        seen: set[object] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True) if key.tag != "tag:yaml.org,2002:merge" else None
            problem = ""
            if isinstance(name, str) and not (name.isprintable() and len(name) <= KEY):
                problem = f"a key must be one line of at most {KEY} characters, got {one_line(repr(name), 80)}"
            elif isinstance(name, Hashable) and name in seen:
                problem = f"{one_line(repr(name), 80)} stands twice"
            if problem:
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            if isinstance(name, Hashable) and name is not None:
                seen.add(name)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_text(path: Path, limit: int = LARGEST) -> str:
    """Return the text of a UTF-8 file of at most so many bytes.

    Raises:
        DocumentError: It is larger, or no UTF-8.
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        raw = stream.read(limit + 1)
    if len(raw) > limit:
        raise DocumentError(f"{path}: must be at most {limit} bytes, got more")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path}: must be UTF-8, got byte {raw[error.start]} at {error.start}") from None


def read_yaml(text: str, place: str) -> list[Any]:
    """Return the documents of a YAML text as dicts, lists, text and numbers; empty ones are left out.

    Args:
        text: The YAML.
        place: Its file, for messages, which go on ``:LINE:COLUMN``.

    Raises:
        DocumentError: It is no YAML, has a tag, a key twice, an alias within what it names, a number beyond 64 bits,
            a character that cannot be printed, or becomes too large or too deep when it is read.
    """
    try:
        _check_events(text, place)
        return [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).splitlines()[0]
        _refuse(place, mark, f"is not YAML: {one_line(said, 200)}")
    except ValueError as error:
        if isinstance(error, DocumentError):
            raise
        raise DocumentError(f"{place}: is not YAML: {one_line(str(error), 200)}") from None


def _check_events(text: str, place: str) -> None:
    """Go through the text once without making anything of it, which takes no more memory than its longest line."""
    count, open_ = _Count(place), list[tuple[str | None, int]]()
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.DocumentStartEvent):
            count.sizes.clear()
        elif isinstance(event, yaml.AliasEvent):
            count.alias(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, start = open_.pop()
            if anchor is not None:
                count.sizes[anchor] = count.nodes - start + 1
        elif isinstance(event, yaml.NodeEvent):
            count.node(event)
            if not isinstance(event, yaml.ScalarEvent):
                open_.append((event.anchor, count.nodes))
        if count.nodes > NODES:
            _refuse(place, event.start_mark, f"must have at most {NODES} values, aliases written out, got more")
        if len(open_) > DEPTH:
            _refuse(place, event.start_mark, f"must be at most {DEPTH} levels deep, got more")


@dataclass
class _Count:
    """Counts the values of a text; `sizes` are those of its anchors, None where one is still open."""

    place: str
    nodes: int = 0
    sizes: dict[str, int | None] = field(default_factory=dict)

    def alias(self, event: yaml.AliasEvent) -> None:
        size = self.sizes.get(str(event.anchor))
        if size is None:
            what = "stands in what it names" if event.anchor in self.sizes else "has no anchor"
            _refuse(self.place, event.start_mark, f"alias *{one_line(str(event.anchor), 80)} {what}")
        self.nodes += size

    def node(self, event: yaml.NodeEvent) -> None:
        self.nodes += 1
        tag = getattr(event, "tag", None)
        if tag is not None:
            _refuse(self.place, event.start_mark, f"tags are refused, got {one_line(tag, 80)}")
        if event.anchor is not None:
            self.sizes[event.anchor] = 1 if isinstance(event, yaml.ScalarEvent) else None
        if isinstance(event, yaml.ScalarEvent):
            _check_scalar(event, self.place)


_WHOLE = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F_]+|0b[01_]+|[0-9][0-9_]*(?::[0-9_]+)*)")


def _check_scalar(event: yaml.ScalarEvent, place: str) -> None:
    if _HIDDEN.search(event.value):
        _refuse(place, event.start_mark, "must hold text that can be printed, got a control character")
    if event.style is None and len(event.value) > 18 and _WHOLE.fullmatch(event.value) and _is_huge(event.value):
        _refuse(place, event.start_mark, f"must be a whole number of 64 bits, got {one_line(repr(event.value), 80)}")


def _is_huge(text: str) -> bool:
    if len(text) > 70:
        return True
    value = yaml.safe_load(text)
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def read_json(text: str | bytes, place: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        DocumentError: It is no JSON, is too deep, or has a name twice, an endless number or half a character.
    """
    try:
        plain = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(plain, parse_int=_whole, object_pairs_hook=_object)
        _check_values(value)
    except RecursionError:
        raise DocumentError(f"{place}: is not JSON: too deep") from None
    except ValueError as error:
        raise DocumentError(f"{place}: is not JSON: {one_line(str(error), 200)}") from None
    return value


def _whole(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"must be a whole number of at most {DIGITS} digits, got {one_line(repr(text), 80)}")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                break
            seen.add(name)
        raise ValueError(f"{one_line(repr(name), 80)} stands twice")
    return made


def _check_values(document: object) -> None:
    """Refuse what is too deep or has text that is none (half of a surrogate pair)."""
    waiting = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, str) and _HALF.search(value):
            raise ValueError(f"must hold text, got half a character in {one_line(repr(value), 80)}")
        if isinstance(value, dict | list):
            if depth == DEPTH:
                raise ValueError(f"must be at most {DEPTH} levels deep, got more")
            inside = [*value, *value.values()] if isinstance(value, dict) else value
            waiting += [(item, depth + 1) for item in inside if isinstance(item, str | dict | list)]


def _refuse(place: str, mark: Any, text: str) -> NoReturn:
    where = place if mark is None else f"{place}:{mark.line + 1}:{mark.column + 1}"
    raise DocumentError(f"{where}: {text}") from None


def one_line(text: str, limit: int = 1000) -> str:
    """Return a text as one line that can be printed, its middle left out where it is longer than the limit."""
    line = text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    half = limit // 2 - 2
    return line if len(line) <= limit else f"{line[:half]}...{line[-half:]}"
