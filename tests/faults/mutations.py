"""Hostile documents: valid ones with values dropped, doubled, retyped, made extreme or nested, as text or bytes."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml
from hypothesis import strategies as st

Path = tuple[str | int, ...]

TEXTS = (
    "", " ", "\n", "a" * 5000, "\x00", "\x1b[31mred", "\ud800", "🤷", "\u202eevil", "é" * 200, "../../escape",
    "/etc/passwd", "~root", "~nobody-of-that-name/x", "C:\\x", "{{ 7 * 7 }}", "{% for x in y %}",
    "<script>alert(1)</script>", "$(touch x)", "`id`", "%s%n%d", "{0.__class__}", "[bold]x[/]", "[/]", "a+b+c", "@",
    "+", "a@b@c", "1e-9", "1e999", "yes", "null", "2024-99-99", "x\nerror: y\nTraceback (most recent call last):",
    "nan", "inf", "0x10", "org/name", "a/b/c", "..", ".", "base+lora", "(a+)+$", "a" * 300 + "/x", "x\u2028y",
    "auto", "all", "hub", "|", "---", "*", "&a", "!!python/object:x",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 3, 255, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.0, -0.0, 0.5, 1.5,
    1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 1e-9,
)  # fmt: skip
OTHERS: tuple[Any, ...] = (
    None, True, False, [], {}, [[]], [{}], [None], {"": ""}, {"a": {"b": {"c": {}}}}, {"low": 0, "high": 1},
    {"low": 1, "high": 0}, {"low": 0, "high": 10**12, "int": True}, {"low": 0, "high": 1, "step": 1e-300},
    {"low": 0, "high": 1e308, "step": 1e-3}, {"low": 0, "high": 1, "gradient": 10**9}, {"low": -1e308, "high": 1e308},
    {"choices": []}, {"choices": [1, 1.0, True, None, "x"]}, {"choices": [[1]]}, {"low": 0.0, "high": 1.0, "name": "x"},
    {"low": 1, "high": 9, "log": True, "int": True}, {"filter": "x", "value": 1}, [{"filter": None, "value": []}],
    {"model": "a"}, {"model": {"model": {"path": "a"}}}, {"kind": "zero"}, [0, 1], [1, 0], [0, 2], [2**62, 2**63],
    list(range(200)), ["x"] * 500,
)  # fmt: skip

values = st.one_of(
    st.sampled_from(OTHERS),
    st.sampled_from(NUMBERS),
    st.sampled_from(TEXTS),
    st.text(max_size=20),
    st.integers(),
    st.floats(),
)


def nested(depth: int) -> Any:
    """Return a list within lists."""
    made: Any = 0
    for _ in range(depth):
        made = [made]
    return made


def places(document: Any, path: Path = ()) -> list[Path]:
    """Return the path of every value of a document."""
    found: list[Path] = [path]
    if isinstance(document, Mapping):
        for key, value in document.items():
            found += places(value, (*path, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            found += places(value, (*path, index))
    return found


def at(document: Any, path: Path) -> Any:
    """Return the value at a path."""
    for step in path:
        document = document[step]  # a mapping by its key, a list by its place
    return document


@st.composite
def mutated(draw: st.DrawFn, documents: Sequence[Any]) -> Any:
    """Return one of the documents with one to four changes."""
    document = copy.deepcopy(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(1, 4))):
        known = [path for path in places(document) if path]
        if not known:
            return draw(values)
        path = draw(st.sampled_from(known))
        parent: Any = at(document, path[:-1])
        step: Any = path[-1]
        change = draw(st.sampled_from(("value", "value", "value", "drop", "double", "rename", "wrap", "swap", "add")))
        if change == "value":
            parent[step] = copy.deepcopy(draw(values))
        elif change == "drop":
            del parent[step]
        elif change == "double" and isinstance(parent, list):
            parent.insert(step, copy.deepcopy(parent[step]))
        elif change == "rename" and isinstance(parent, dict):
            parent[draw(st.sampled_from(TEXTS) | st.sampled_from([str(p[-1]) for p in known]))] = parent.pop(step)
        elif change == "wrap":
            parent[step] = draw(
                st.sampled_from(([parent[step]], {"value": parent[step]}, nested(draw(st.integers(1, 80)))))
            )
        elif change == "swap":
            parent[step] = copy.deepcopy(at(document, draw(st.sampled_from(known))))
        elif isinstance(parent, dict):
            parent[draw(st.sampled_from(TEXTS))] = copy.deepcopy(draw(values))
    return document


TOKENS = (
    "&a ", "*a", "!!python/object/apply:os.system ", "!!binary ", "!x ", "<<: *a\n", "? ", ": ", "- ", "[", "]", "{",
    "}", "|",
    ">", "#", "%YAML 1.1\n", "---\n", "...\n", "\t", "\x00", "\ufeff", "\x85", '"', "'", "```", "~~~", "|---|---|\n",
    "\n",
    "0x" + "f" * 4000, "9" * 5000, "1:2:3", "2024-13-45", "&a [*a]", "\\", '"\\ud800"', "<", "<script>", "\u2028",
    "e999",
    "NaN", "-Infinity", ",", "\\u0000",
)  # fmt: skip


@st.composite
def scarred(draw: st.DrawFn, text: str) -> bytes:
    """Return a text with a few cuts, copies and strange words in it, now and then with broken bytes."""
    for _ in range(draw(st.integers(1, 3))):
        where, length = draw(st.integers(0, len(text))), draw(st.integers(0, 40))
        change = draw(st.sampled_from(("cut", "copy", "word", "word", "end")))
        if change == "cut":
            text = text[:where] + text[where + length :]
        elif change == "copy":
            text = text[: where + length] + text[where:]
        elif change == "word":
            text = text[:where] + draw(st.sampled_from(TOKENS)) + text[where:]
        else:
            text = text[:where]
    raw = text.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        raw += draw(st.binary(max_size=30))
    return raw


def bomb(width: int = 9, depth: int = 9) -> str:
    """Return YAML whose aliases, written out, are `width` to the power of `depth` values."""
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, depth)]
    return "\n".join(lines)


def as_yaml(document: Any) -> str:
    """Return a document as YAML, whatever is in it."""
    try:
        return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100))
    except (yaml.YAMLError, UnicodeError, ValueError):
        return as_json(document)


def as_json(document: Any) -> str:
    """Return a document as JSON."""
    import sys

    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(document)
    finally:
        sys.set_int_max_str_digits(before)


def hostile_text(
    documents: Sequence[Any], write: Callable[[Any], str], own: Sequence[str] = ()
) -> st.SearchStrategy[bytes]:
    """Return files of a kind: changed documents, changed texts of documents, and bytes of any kind.

    Args:
        documents: Valid documents.
        write: Makes a file's text of a document.
        own: More texts, as they are.
    """
    whole = mutated(documents).map(lambda document: write(document).encode("utf-8", "surrogatepass"))
    texts = st.sampled_from([write(document) for document in documents]).flatmap(scarred)
    both = mutated(documents).map(write).flatmap(scarred)
    odd = st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.sampled_from([text.encode("utf-8", "surrogatepass") for text in own] or [b""]),
    )
    return st.one_of(whole, whole, whole, whole, texts, texts, both, odd)
