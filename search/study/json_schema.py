"""The JSON schema of a study file, by which editors complete and check it.

Sections come from the pydantic classes, merge methods and their parameters from the registry. A family is a recipe in
which a hole may stand wherever a value does. What needs two keys to be told (a range whose ends are swapped, a method
that lacks a parameter) is left to ``load_study``.
"""

import json
from collections.abc import Mapping
from typing import Any, cast

from evals.suites import suite_names
from merge.method import Parameter
from merge.methods import get_method, method_names
from merge.recipe.schema import DTYPES, Recipe
from search.samplers import sampler_names
from search.space.holes import CHOICE_KEYS, RANGE_KEYS
from search.space.layer_stacking import MOST
from search.study.schema import StudyFile

Node = dict[str, Any]
"""A JSON schema, or a part of one."""

SEARCHED = "Searched"
"""Begins the names of definitions in which holes may stand."""
_SCALARS = {"string", "number", "integer", "boolean"}
_HOLE = {"$ref": "#/$defs/Hole"}
_MODEL: Node = {
    "anyOf": [
        {"type": "string", "minLength": 1, "maxLength": 1000},
        {
            "type": "object",
            "properties": {"model": {"type": ["string", "object"]}, "lora": {}, "override_architecture": {}},
            "additionalProperties": False,
            "required": ["model"],
        },
    ]
}


def study_schema() -> Node:
    """Return the schema of a study file (JSON Schema draft 7, which editors know best)."""
    schema = StudyFile.model_json_schema()
    recipe = _recipe_definitions()
    holed = {SEARCHED + name: _with_holes(part) for name, part in recipe.items()}
    schema["$defs"] |= {**recipe, **holed, "Hole": _hole()}
    _extend_slices(schema["$defs"])
    keys = schema["properties"]
    keys["families"]["additionalProperties"] = {"$ref": f"#/$defs/{SEARCHED}Recipe"}
    keys["baselines"]["additionalProperties"] = {"$ref": "#/$defs/Recipe"}
    keys["constraints"]["propertyNames"] = {"pattern": "^[^/]*/.+$"}
    schema["$defs"]["Bound"]["anyOf"] = [{"required": ["at_least"]}, {"required": ["at_most"]}]
    evaluate = schema["$defs"]["EvaluateSection"]
    evaluate["oneOf"] = [{"required": ["tasks"]}, {"required": ["suite"]}]
    evaluate["properties"]["suite"]["anyOf"][0]["enum"] = list(suite_names())
    schema["$defs"]["SearchSection"]["properties"]["sampler"]["enum"] = list(sampler_names())
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "mergesearch study"} | cast(
        "Node", _tidy(schema)
    )


def schema_text() -> str:
    """Return the schema as JSON text."""
    return json.dumps(study_schema(), indent=1) + "\n"


def _recipe_definitions() -> dict[str, Node]:
    """Return a plain recipe and its parts, by the names of their classes."""
    recipe = Recipe.model_json_schema()
    found: dict[str, Node] = {**recipe.pop("$defs"), "Recipe": recipe}
    for part in found.values():
        for key, schema in part["properties"].items():
            part["properties"][key] = {"description": schema["description"]} | _recipe_key(key, schema)
    recipe["oneOf"] = [{"required": [key]} for key in ("models", "slices", "modules")]
    return {**found, **_parameters(), "Model": _MODEL}


def _recipe_key(key: str, schema: Node) -> Node:
    """Return the schema of a key of a recipe: pydantic's, or a closer one."""
    if key == "parameters":
        return {"anyOf": [{"$ref": "#/$defs/Parameters"}, {"type": "null"}], "default": None}
    if key in ("model", "base_model"):
        named: Node = {"$ref": "#/$defs/Model"}
        return named if key == "model" else {"anyOf": [named, {"type": "null"}], "default": None}
    if key == "merge_method":
        return {"enum": list(method_names())}
    if key in ("dtype", "out_dtype"):
        return {"enum": [*DTYPES, *(f"torch.{name}" for name in DTYPES), None], "default": None}
    if key == "layer_range":
        return {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "maxItems": 2}
    return schema


def _parameters() -> dict[str, Node]:
    """Return the parameters of all merge methods together, and the kinds of values that they take.

    Which method takes which parameter is said, not checked; a range is the widest that a method gives it.
    """
    used: dict[str, dict[str, Parameter]] = {}
    for method in method_names():
        for parameter in get_method(method).parameters().values():
            used.setdefault(parameter.name, {})[method] = parameter
    kinds: dict[str, Node] = {}
    keys: Node = {}
    for name, methods in sorted(used.items()):
        kind, one = _scalar(list(methods.values()))
        kinds[kind] = _value(one)
        keys[name] = {**_about(methods), "$ref": f"#/$defs/{kind}"}
    return {"Parameters": {"type": "object", "properties": keys, "additionalProperties": False}, **kinds}


def _about(methods: Mapping[str, Parameter]) -> Node:
    """Return what a parameter is to the methods that use it; some of mergekit's are taken and do nothing."""
    meanings: dict[str, list[str]] = {}
    for method, parameter in methods.items():
        meanings.setdefault(parameter.about, []).append(method)
    if set(meanings) != {"unused"}:
        meanings.pop("unused", None)
    text = "; ".join(f"{about} ({', '.join(names)})" for about, names in meanings.items())
    defaults = {None if parameter.required else parameter.default for parameter in methods.values()}
    shared = defaults.pop() if len(defaults) == 1 else None
    return {"description": f"{text[:1].upper()}{text[1:]}.", **({} if shared is None else {"default": shared})}


def _scalar(used: list[Parameter]) -> tuple[str, Node]:
    """Return what a single value is called, and its schema."""
    if used[0].kind == "bool":
        return "Flag", {"enum": [True, False, 0, 1]}
    whole = all(parameter.kind == "int" for parameter in used)
    name, number = "Integer" if whole else "Number", Node(type="integer" if whole else "number")
    if all(parameter.low is not None for parameter in used):
        low = min(float(parameter.low or 0) for parameter in used)
        above = all(parameter.above for parameter in used if parameter.low == low)
        name += f"Above{low:g}" if above else f"From{low:g}"
        number["exclusiveMinimum" if above else "minimum"] = low
    if all(parameter.high is not None for parameter in used):
        number["maximum"] = high = max(float(parameter.high or 0) for parameter in used)
        name += f"To{high:g}"
    return name, number


def _value(one: Node) -> Node:
    """Return what a parameter may be: one value, a gradient over the layers, or values by filter."""
    gradient = {"type": "array", "items": one, "minItems": 1}
    by_filter = {
        "type": "object",
        "properties": {"filter": {"type": ["string", "null"]}, "value": {"anyOf": [one, gradient]}},
        "required": ["value"],
        "additionalProperties": False,
    }
    return {"anyOf": [one, gradient, {"type": "array", "items": by_filter, "minItems": 1}, by_filter, {"type": "null"}]}


def _hole() -> Node:
    about = {"description": "A value that the search fills: a range or a choice."}
    ranged = {"type": "object", "properties": RANGE_KEYS, "required": ["low", "high"], "additionalProperties": False}
    chosen = {"type": "object", "properties": CHOICE_KEYS, "required": ["choices"], "additionalProperties": False}
    return {**about, "anyOf": [ranged, chosen]}


def _with_holes(node: Node) -> Node:
    """Return a part of a recipe's schema in which a hole may stand in place of every value."""
    if "$ref" in node:
        return {**node, "$ref": node["$ref"].replace("#/$defs/", f"#/$defs/{SEARCHED}")}
    if _is_scalar(node):
        about: Node = {key: node[key] for key in ("description", "default") if key in node}
        return {**about, "anyOf": [{key: node[key] for key in node if key not in about}, _HOLE]}
    if "anyOf" in node:
        branches = [branch if _is_scalar(branch) else _with_holes(branch) for branch in node["anyOf"]]
        plain = any(_is_scalar(branch) or _HOLE in branch.get("anyOf", ()) for branch in branches)
        return {**node, "anyOf": [*branches, *([_HOLE] if plain else [])]}
    opened = dict(node)
    if "properties" in node:
        opened["properties"] = {key: _with_holes(child) for key, child in node["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            opened[key] = _with_holes(node[key])
    return opened


def _is_scalar(node: Node) -> bool:
    kinds = node.get("type", ())
    return "enum" in node or bool(_SCALARS & ({kinds} if isinstance(kinds, str) else set(kinds)))


def _extend_slices(definitions: dict[str, Node]) -> None:
    """Add the keys of layer stacking to the slices of a family."""
    piece = definitions[f"{SEARCHED}Slice"]["properties"]
    piece["repeat"] = {
        "description": "How often the slice stands in a row; 0 leaves it out.",
        "anyOf": [{"type": "integer", "minimum": 0, "maximum": MOST}, _HOLE],
        "default": 1,
    }
    piece["order"] = {
        "description": "Slices stand in rising order of this number; without it where they are written.",
        "anyOf": [{"type": "number"}, _HOLE],
        "default": 0.0,
    }
    length = {
        "type": "object",
        "properties": {
            "start": {"description": "First layer.", "anyOf": [{"type": "integer", "minimum": 0}, _HOLE]},
            "length": {"description": "Number of layers.", "anyOf": [{"type": "integer", "minimum": 1}, _HOLE]},
        },
        "required": ["start", "length"],
        "additionalProperties": False,
    }
    source = definitions[f"{SEARCHED}Source"]["properties"]
    text = source["layer_range"].pop("description")
    source["layer_range"] = {"description": text, "anyOf": [source["layer_range"], length]}


def _tidy(node: Any) -> Any:
    """Return a schema without pydantic's titles, and with Markdown's code marks in its descriptions."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidied = {key: _tidy(value) for key, value in node.items() if key != "title" or isinstance(value, dict)}
    if isinstance(tidied.get("description"), str):
        tidied["description"] = " ".join(tidied["description"].replace("``", "`").split())
    return tidied
