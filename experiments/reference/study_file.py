"""Writes docs/study-file.md, and the JSON schema that the ready studies name in their first line.

    python -m experiments.reference.study_file

Keys, types, ranges, defaults and descriptions come from the schema; the order of the sections, a sentence or two
before each table and the examples from ``study_sections``.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from experiments.reference.study_sections import HEAD, SECTIONS, Section
from search.study.json_schema import Node, schema_text, study_schema

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "study-file.md"
SCHEMA = ROOT / "experiments" / "studies" / "study.schema.json"

UNLIMITED = 1e10
"""A limit as large as this is none to a reader."""
WORDS = {
    "string": ("text", "texts"),
    "integer": ("whole number", "whole numbers"),
    "number": ("number", "numbers"),
    "boolean": ("true or false", "true or false"),
    "object": ("mapping", "mappings"),
    "any": ("anything", "anything"),
}
"""What a type of JSON is called, one and several."""


def page() -> str:
    """Return docs/study-file.md."""
    schema = study_schema()
    return HEAD + "".join(line for section in SECTIONS for line in _section(section, schema))


def definition_of(section: Section, schema: Node) -> Node:
    """Return the part of the schema whose keys a section lists."""
    ranged, chosen = schema["$defs"]["Hole"]["anyOf"]
    definitions = {**schema["$defs"], "Range": ranged, "Choice": chosen, "": schema}
    return dict(definitions[section.definition])


def _section(section: Section, schema: Node) -> Iterator[str]:
    node = definition_of(section, schema)
    yield f"\n## {section.title}\n"
    if section.intro:
        yield f"\n{section.intro}\n"
    yield "\n| Key | Type | Range | Default | What it is |\n|---|---|---|---|---|\n"
    for key, child in node["properties"].items():
        cells = _cells(key, child, schema, required=key in node.get("required", ()))
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"
    if section.example:
        yield f"\n```yaml\n{section.example}```\n"


def _cells(key: str, node: Node, schema: Node, *, required: bool) -> tuple[str, ...]:
    """Return a row of a table."""
    meant = node
    if "$ref" in node:
        meant = schema["$defs"][_name(node)]
    about = node.get("description") or meant.get("description", "")
    if _name(node).startswith(("Number", "Integer", "Flag")):  # a parameter: one value, a gradient, or by filter
        one = meant["anyOf"][0]
        return f"`{key}`", _kind(one), _range(one), _default(node, "by method"), about
    return f"`{key}`", _kind(node), _range(node), "required" if required else _default(node, "unset"), about


def _default(node: Node, otherwise: str) -> str:
    value = node.get("default")
    if value is None:
        return otherwise
    if isinstance(value, dict | list):
        return "empty" if not value else "as below"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _name(node: Node) -> str:
    return str(node.get("$ref", "")).rpartition("/")[2]


def _branches(node: Node) -> list[Node]:
    """Return what a value may be, but null and holes."""
    nodes = [branch for part in node["anyOf"] for branch in _branches(part)] if "anyOf" in node else [node]
    return [branch for branch in nodes if branch.get("type") != "null" and _name(branch) != "Hole"]


def _kind(node: Node, *, several: bool = False) -> str:
    kinds = list(dict.fromkeys(_one_kind(branch, several=several) for branch in _branches(node)))
    return "values" if several and len(kinds) > 1 else " or ".join(kinds)


def _one_kind(node: Node, *, several: bool) -> str:
    if "$ref" in node:
        return _link(_name(node), several=several)
    if "enum" in node:
        return "true or false" if True in node["enum"] else "one of"
    if "const" in node:
        return f"`{node['const']}`"
    named = node.get("type", "any")
    kinds = [kind for kind in ([named] if isinstance(named, str) else named) if kind != "null"]
    if len(kinds) > 1:
        return "values" if several else "value"
    if kinds == ["array"]:
        return f"list of {_kind(node['items'], several=True)}"
    if kinds == ["object"] and isinstance(node.get("additionalProperties"), dict):
        return f"mapping of {_kind(node['additionalProperties'], several=True)}"
    one, more = WORDS[kinds[0]]
    return more if several else one


def _link(name: str, *, several: bool) -> str:
    """Return a link to the section that lists the keys of a definition; a model reference is text."""
    if name.endswith("Model") and not name.endswith("ListedModel"):
        return WORDS["string"][several]
    plain = name.removeprefix("Searched")
    title = next(section.title for section in SECTIONS if section.definition.removeprefix("Searched") == plain)
    anchor = title.lower().replace(":", "").replace(" ", "-")
    return f"[mapping{'s' if several else ''}](#{anchor})"


def _range(node: Node) -> str:
    return "; ".join(dict.fromkeys(text for branch in _branches(node) if (text := _one_range(branch))))


def _one_range(node: Node) -> str:
    if "enum" in node:
        values = [value for value in node["enum"] if value is not None and not str(value).startswith("torch.")]
        return "" if True in values else ", ".join(f"`{value}`" for value in values)
    names = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    limits = {name: float(node[key]) for key, name in names.items() if key in node and abs(node[key]) < UNLIMITED}
    words = [f"{name} {limit:,.15g}" for name, limit in limits.items()]
    if "minItems" in node:
        words.append(f"{node['minItems']}{'' if 'maxItems' in node else ' or more'}")
    return ", ".join(words)


def main() -> None:
    """Write both files."""
    PAGE.write_text(page(), encoding="utf-8")
    SCHEMA.write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
