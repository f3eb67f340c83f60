"""Drops the parameters that mergekit would ignore from a card's recipe, with a note for each."""

from collections.abc import Iterator, Mapping
from typing import Any

from merge.errors import RecipeError
from merge.method import Parameter
from merge.methods import get_method


def without_unknown_parameters(document: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a recipe without the parameters that its method does not take, and a note for each.

    mergekit reads every ``parameters`` block and uses what the method asks for; cards carry leftovers of others.
    """
    method = document.get("merge_method")
    try:
        known = get_method(method).parameters() if isinstance(method, str) else {}
    except RecipeError:
        return dict(document), ()
    notes: dict[str, None] = {}
    changed = _part(document, known, notes)
    name = changed.get("name")
    if name is not None and not isinstance(name, str):
        changed["name"] = str(name)
    return changed, tuple(f"{method} takes no '{name}': left out" for name in notes)


def _part(part: Mapping[str, Any], known: Mapping[str, Parameter], notes: dict[str, None]) -> dict[str, Any]:
    changed = dict(part)
    own = {name for name in known if known[name].per_model}
    if isinstance(part.get("parameters"), Mapping):
        changed["parameters"] = _kept(part["parameters"], set(known), notes)
    for key in ("models", "slices"):
        if isinstance(part.get(key), list):
            changed[key] = list(_entries(part[key], known, own, notes))
    if isinstance(part.get("modules"), Mapping):
        changed["modules"] = {
            name: _part(module, known, notes) if isinstance(module, Mapping) else module
            for name, module in part["modules"].items()
        }
    return changed


def _entries(
    entries: list[Any], known: Mapping[str, Parameter], own: set[str], notes: dict[str, None]
) -> Iterator[object]:
    for entry in entries:
        if not isinstance(entry, Mapping):
            yield entry
            continue
        changed = dict(entry)
        if isinstance(entry.get("sources"), list):
            changed["sources"] = list(_entries(entry["sources"], known, own, notes))
        if isinstance(entry.get("parameters"), Mapping):
            allowed = set(known) if "sources" in entry else own
            changed["parameters"] = _kept(entry["parameters"], allowed, notes)
        elif "parameters" in entry:
            changed.pop("parameters")
        yield changed


def _kept(settings: Mapping[str, Any], allowed: set[str], notes: dict[str, None]) -> dict[str, Any]:
    notes.update(dict.fromkeys(name for name in settings if name not in allowed))
    return {name: value for name, value in settings.items() if name in allowed}
