"""Reads YAML that strangers wrote: no tags, no repeated keys, no documents that grow when read."""

from collections.abc import Hashable, Iterator
from typing import Any

import yaml

LARGEST = 20_000
"""Nodes of one document, aliases written out."""


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key written twice: without its indentation, YAML repeats keys."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    loader.flatten_mapping(node)
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    plain = [key for key in keys if isinstance(key, Hashable)]
    if len(set(plain)) < len(keys):
        raise yaml.constructor.ConstructorError(None, None, "a key stands twice", node.start_mark)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def documents(text: str) -> list[object]:
    """Return the documents of a text; none where it is no plain YAML."""
    try:
        nodes = [node for node in yaml.compose_all(text, Loader=_Loader) if node is not None]
        for node in nodes:
            for size, _ in enumerate(_walk(node)):
                if size > LARGEST:
                    return []
        return list(yaml.load_all(text, Loader=_Loader))
    except (yaml.YAMLError, ValueError, RecursionError):
        return []


def value(text: str) -> object:
    """Return one YAML value, or the text itself where it is none."""
    found = documents(text)
    return found[0] if len(found) == 1 else text


def _walk(node: yaml.Node) -> Iterator[yaml.Node]:
    """Go through a node and everything below it, aliases as often as they are used."""
    waiting = [node]
    while waiting:
        here = waiting.pop()
        yield here
        if isinstance(here, yaml.MappingNode):
            waiting += [part for pair in here.value for part in pair]
        elif isinstance(here, yaml.SequenceNode):
            waiting += here.value
