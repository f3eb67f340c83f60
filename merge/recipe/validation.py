"""What is wrong with a recipe, found without opening a model: methods, parameters, models and layers.

The checks walk the raw document, so that they also run where its structure is wrong elsewhere. A fault is a path
and a sentence with a zero byte between them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from merge.errors import RecipeError, did_you_mean
from merge.method import AbstractMethod, Parameter
from merge.methods import get_method
from merge.recipe.model_reference import reference_text

Path = tuple[str | int, ...]


def yaml_path(path: Sequence[str | int]) -> str:
    """Return a path as people write it.

    >>> yaml_path(("models", 1, "parameters", "weight"))
    'models[1].parameters.weight'
    """
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def document_faults(document: Mapping[str, object]) -> list[str]:
    """Return every fault of a document, as path, zero byte and sentence."""
    return [f"{yaml_path(path)}\0{text}" for path, text in _faults(document)]


def _faults(document: Mapping[str, object]) -> Iterator[tuple[Path, str]]:
    given = [key for key in ("models", "slices", "modules") if document.get(key) is not None]
    if len(given) != 1:
        yield (), f"exactly one of models, slices and modules must be given, got {' and '.join(given) or 'none'}"
    if document.get("tokenizer") is not None and document.get("tokenizer_source") is not None:
        yield (), "only one of tokenizer and tokenizer_source may be given"
    called = document.get("name")
    if isinstance(called, str) and (
        not called or ".." in re.split(r"[/\\]", called) or re.match(r"[/\\~]|\w:", called)
    ):
        yield ("name",), f"must be a plain name, as a model of it is written beside the output, got {called!r}"
    name = document.get("merge_method")
    if not isinstance(name, str):
        return
    try:
        method = get_method(name)
    except RecipeError as error:
        yield ("merge_method",), str(error).partition(": ")[2]
        return
    yield from _shared(method, document, ())
    yield from _part(method, document, (), document.get("base_model"), [document.get("parameters")])
    modules = document.get("modules")
    if isinstance(modules, Mapping) and not modules:
        yield ("modules",), "must hold at least one module, got {}"
    for key, module in modules.items() if isinstance(modules, Mapping) else ():
        if isinstance(module, Mapping):
            path: Path = ("modules", str(key))
            chain = [module.get("parameters"), document.get("parameters")]
            if (module.get("models") is None) == (module.get("slices") is None):
                yield path, "exactly one of models and slices must be given"
            yield from _shared(method, module, path)
            yield from _part(method, module, path, document.get("base_model"), chain)


def _part(
    method: type[AbstractMethod], part: Mapping[str, Any], path: Path, base: object, chain: list[object]
) -> Iterator[tuple[Path, str]]:
    models, slices = part.get("models"), part.get("slices")
    if isinstance(slices, list) and not slices:
        yield (*path, "slices"), "must hold at least one slice, got []"
    if isinstance(models, Sequence):
        yield from _inputs(method, models, (*path, "models"), base, chain, appended=True)
    for index, piece in enumerate(slices if isinstance(slices, Sequence) else ()):
        if not isinstance(piece, Mapping):
            continue
        here: Path = (*path, "slices", index)
        yield from _shared(method, piece, here)
        sources = piece.get("sources")
        if isinstance(sources, Sequence) and sources:
            own = base if piece.get("base_model") is None else piece["base_model"]
            levels = [piece.get("parameters"), *chain]
            yield from _inputs(method, sources, (*here, "sources"), own, levels, appended=False)
            yield from _layers(sources, (*here, "sources"))


def _inputs(
    method: type[AbstractMethod],
    entries: Sequence[object],
    path: Path,
    base: object,
    chain: Sequence[object],
    *,
    appended: bool,
) -> Iterator[tuple[Path, str]]:
    """Return faults of the list of models that are merged together."""
    listed = [(index, entry) for index, entry in enumerate(entries) if isinstance(entry, Mapping)]
    names = list(dict.fromkeys(reference_text(entry.get("model")) for _, entry in listed))
    root = reference_text(base) if base is not None else None
    if method.base_model == "required" and root is None:
        if path[-1] == "models" or path[-2:] == (0, "sources"):
            yield (*path[: -1 if path[-1] == "models" else -3], "base_model"), f"{method.method} needs a base model"
    elif method.base_model != "ignored" and root is not None and not appended and root not in names:
        yield path, f"the base model {root} must be one of the sources; list it with the same number of layers"
    parents = [name for name in names if name != root or method.base_model == "ignored"]
    low, high = method.parents
    if (root or method.base_model != "required") and not low <= len(parents) <= (
        len(parents) if high is None else high
    ):
        yield path, f"{method.method} {_count(method)}, got {len(parents)}"
    yield from _lacking(method, listed, path, chain, parents)
    for index, entry in listed:
        yield from _own(method, entry.get("parameters"), (*path, index, "parameters"))


def _lacking(
    method: type[AbstractMethod],
    listed: Sequence[tuple[int, Mapping[str, Any]]],
    path: Path,
    chain: Sequence[object],
    parents: Sequence[str | None],
) -> Iterator[tuple[Path, str]]:
    """Return the required parameters that no level gives."""
    for parameter in (p for p in method.parameters().values() if p.required):
        if any(_has(level, parameter.name) for level in chain):
            continue
        if not parameter.per_model:
            yield (*path[:-1], "parameters", parameter.name), f"{method.method} needs it, got none"
            continue
        given = {reference_text(e.get("model")) for _, e in listed if _has(e.get("parameters"), parameter.name)}
        for index, entry in listed:
            name = reference_text(entry.get("model"))
            if name in parents and name not in given:
                here = (*path, index, "parameters", parameter.name)
                yield here, f"{method.method} needs it for every model, got none"


def _count(method: type[AbstractMethod]) -> str:
    low, high = method.parents
    if (low, high) == (0, 1):
        return "takes the base model and one other"
    beside = " besides the base model" if method.base_model == "required" else ""
    number = f"at least {low}" if high is None else str(low) if low == high else f"{low} to {high}"
    return f"takes {number} model{'' if low == high == 1 or high == 1 else 's'}{beside}"


def _layers(sources: Sequence[object], path: Path) -> Iterator[tuple[Path, str]]:
    lengths = []
    for index, source in enumerate(sources):
        limits = source.get("layer_range") if isinstance(source, Mapping) else None
        if not isinstance(limits, list | tuple) or len(limits) != 2 or not all(type(x) is int for x in limits):
            continue
        first, last = limits
        lengths.append(last - first)
        if not 0 <= first < last:
            yield (
                (*path, index, "layer_range"),
                f"must be [first, last + 1] with 0 <= first <= last, got {list(limits)}",
            )
    if len(set(lengths)) > 1:
        yield path, f"all sources of one slice must have the same number of layers, got {lengths}"


def _shared(method: type[AbstractMethod], part: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, str]]:
    settings = part.get("parameters")
    if settings is not None and not isinstance(settings, Mapping):
        yield (*path, "parameters"), f"must be a mapping, got {settings!r}"
        return
    for key, value in (settings or {}).items():
        yield from _setting(method.parameters(), str(key), value, (*path, "parameters"))


def _own(method: type[AbstractMethod], settings: object, path: Path) -> Iterator[tuple[Path, str]]:
    if not isinstance(settings, Mapping):
        return
    known = method.parameters()
    for key, value in settings.items():
        if key in known and not known[key].per_model:
            yield (*path, str(key)), f"all models of {method.method} share it; move it to parameters of the recipe"
        else:
            yield from _setting({n: p for n, p in known.items() if p.per_model or n == key}, str(key), value, path)


def _setting(known: Mapping[str, Parameter], key: str, value: object, path: Path) -> Iterator[tuple[Path, str]]:
    if key not in known:
        names = f"; known are {', '.join(known)}" if known else ""
        yield (*path, key), f"unknown key{did_you_mean(key, known) or names}"
    elif value is not None:
        yield from _value(known[key], value, (*path, key))


def _value(parameter: Parameter, value: object, path: Path) -> Iterator[tuple[Path, str]]:
    """Return faults of a number, a gradient, or values by filter."""
    if isinstance(value, Mapping):
        yield from _conditional(parameter, value, path)
    elif isinstance(value, list | tuple):
        kinds = {isinstance(item, Mapping) for item in value}
        if len(kinds) != 1:
            yield path, f"must be a list of numbers or of {{filter, value}}, got {value!r}"
            return
        for index, item in enumerate(value):
            if isinstance(item, Mapping):
                yield from _conditional(parameter, item, (*path, index))
            elif (fault := parameter.fault(item)) is not None:
                yield (*path, index), fault
    elif (fault := parameter.fault(value)) is not None:
        yield path, fault


def _conditional(parameter: Parameter, value: Mapping[Any, Any], path: Path) -> Iterator[tuple[Path, str]]:
    for key in value:
        if key not in ("filter", "value"):
            yield (*path, str(key)), f"unknown key{did_you_mean(str(key), ('filter', 'value'))}"
    if value.get("filter") is not None and not isinstance(value["filter"], str):
        yield (*path, "filter"), f"must be part of a tensor's name, got {value['filter']!r}"
    if "value" not in value:
        yield (*path, "value"), "must be given"
    else:
        yield from _value(parameter, value["value"], (*path, "value"))


def _has(settings: object, name: str) -> bool:
    return isinstance(settings, Mapping) and settings.get(name) is not None
