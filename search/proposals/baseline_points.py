"""Where in a family's space the baselines lie: what is known before the first trial, for free."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from search.errors import SpaceError
from search.proposals.baselines import Baseline
from search.space.family import Family
from search.space.holes import Scalar

_SUMS = {
    "task_arithmetic",
    "ties",
    "dare_ties",
    "dare_linear",
    "breadcrumbs",
    "breadcrumbs_ties",
    "della",
    "della_linear",
}
"""Methods that add weighted task vectors to a base; at density 1 a single vector of weight 1 gives its model."""


def place_of(family: Family, baseline: Baseline) -> dict[str, Scalar] | None:
    """Return the values at which a family gives a baseline's weights; None where it does not, or not in its ranges.

    A parent is slerp at one of its ends, or its own weight 1 beside zeros; the mean of the parents is ``linear`` with
    equal weights, or task arithmetic with 1 / n; task arithmetic is itself with ones.
    """
    try:
        return family.encode(baseline.recipe.to_mapping())
    except SpaceError:
        pass
    for document in family.examples():
        for rewritten in _rewritten(document, baseline):
            try:
                return family.encode(rewritten)
            except SpaceError:
                continue
    return None


def _rewritten(document: Mapping[str, Any], baseline: Baseline) -> Iterator[dict[str, Any]]:
    """Go through ways to write a baseline in the form of a family's document."""
    method = str(document.get("merge_method"))
    models = document.get("models")
    if not isinstance(models, list):
        return
    references = [str(entry.get("model")) for entry in models]
    wanted = list(baseline.recipe.references())
    if method == "slerp" and baseline.kind == "parent" and len(references) == 2 and wanted[0] in references:
        yield _with_t(document, 0.0 if wanted[0] == document.get("base_model") else 1.0)
        return
    parents = [reference for reference in references if reference != document.get("base_model")]
    for weights in _weights(method, baseline, parents, wanted):
        if len(parents) == len(references):
            yield _with_weights(document, weights)


def _weights(
    method: str, baseline: Baseline, parents: Sequence[str], wanted: Sequence[str]
) -> Iterator[dict[str, float]]:
    count = len(parents)
    if baseline.kind == "parent" and wanted[0] in parents and method in {"linear", *_SUMS}:
        yield {parent: float(parent == wanted[0]) for parent in parents}
    if baseline.kind == "base" and method == "task_arithmetic":
        yield dict.fromkeys(parents, 0.0)
    if baseline.kind == "merge" and set(parents) == set(wanted) - {baseline.recipe.base_model}:
        if baseline.recipe.merge_method == "linear" and method == "linear":
            yield from (dict.fromkeys(parents, weight) for weight in (1.0, 1 / count, 0.5))
        elif baseline.recipe.merge_method == "linear" and method == "task_arithmetic":
            yield dict.fromkeys(parents, 1 / count)
        elif baseline.recipe.merge_method == method == "task_arithmetic":
            yield dict.fromkeys(parents, 1.0)


def _with_t(document: Mapping[str, Any], t: float) -> dict[str, Any]:
    changed: dict[str, Any] = deepcopy(dict(document))
    parameters = changed.get("parameters") or {}
    if isinstance(parameters.get("t"), list) and all(isinstance(item, dict) for item in parameters["t"]):
        parameters["t"] = [{**item, "value": t} for item in parameters["t"]]
    elif "t" in parameters:
        parameters["t"] = t
    return changed


def _with_weights(document: Mapping[str, Any], weights: Mapping[str, float]) -> dict[str, Any]:
    """Return the document with these weights, every density 1 and no other scale."""
    changed: dict[str, Any] = deepcopy(dict(document))
    for entry in changed["models"]:
        entry.setdefault("parameters", {})["weight"] = weights[entry["model"]]
    for parameters in (changed.get("parameters"), *(entry["parameters"] for entry in changed["models"])):
        for key, plain in (("density", 1.0), ("lambda", 1.0), ("normalize", False)):
            if parameters and key in parameters and not (key == "normalize" and changed["merge_method"] == "linear"):
                parameters[key] = plain
    return changed
