"""Reads a recipe from sentences where a card has no YAML, if they give everything that the method needs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_ID = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*[A-Za-z0-9]"
_MODEL = re.compile(rf"(?<![\w./:-])(?:https?://huggingface\.co/)?({_ID})(?![\w/])")
_LINK = re.compile(r"\[([^\]]{0,300})\]\(\S{0,500}?\)")  # bounded, so that no text of brackets is read for ever
_NO_MODEL = re.compile(r"mergekit$|\.(?:md|py|ya?ml|json|txt|git)$|^(?:and|or|his|she|input|w|n)/", re.IGNORECASE)
_METHODS = (
    ("dare_ties", r"dare[\s_+-]*(?:and\s+)?ties"),
    ("della", r"\bdella\b"),
    ("model_stock", r"model[\s_-]stock"),
    ("task_arithmetic", r"task[\s_-]arithmetic"),
    ("slerp", r"slerp|spherical linear"),
    ("ties", r"\bties\b"),
    ("linear", r"\blinear\b|weighted average|model soup"),
)
_MERGE = re.compile(r"\bmerg(?:e|ed|ing)\b", re.IGNORECASE)
_BASES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"({_ID})\s+(?:is|was)?\s*(?:used\s+)?as\s+(?:a|the|its)?\s*base",
        rf"base(?:[_\s]model)?\s*(?:is|was|:|=)\s*({_ID})",
        rf"\bbase(?:d)?\s+(?:on|model)\s+({_ID})",
    )
)
_NUMBERS = r"((?:\d*\.\d+|\d+)(?:\s*(?:,|and|/|&)\s*(?:\d*\.\d+|\d+))*)"
NEAR = 1000
"""Characters before and after the word "merge" in which models are looked for."""


@dataclass(frozen=True)
class ProseRecipe:
    """What sentences say about a recipe.

    Attributes:
        document: The recipe; None where something is missing.
        method: The method, empty where none is named.
        missing: What they do not say.
    """

    document: Mapping[str, Any] | None
    method: str
    missing: str = ""


def read_prose(text: str, parents: Sequence[str]) -> ProseRecipe:
    """Return the recipe that sentences describe.

    Args:
        text: The card without its front matter.
        parents: Models that the front matter names as base models.
    """
    plain = _LINK.sub(r"\1", text)
    word = _MERGE.search(plain)
    near = "" if word is None else plain[max(0, word.start() - NEAR) : word.end() + NEAR]
    method = next((name for name, pattern in _METHODS if re.search(pattern, near, re.IGNORECASE)), "")
    if not method:
        return ProseRecipe(None, "")
    base = next((match.group(1) for pattern in _BASES if (match := pattern.search(near)) is not None), None)
    named = [name for name in _MODEL.findall(near) if not _NO_MODEL.search(name)]
    models = [name for name in dict.fromkeys(parents or named) if name != base]
    return _recipe(method, base, models, near)


def _recipe(method: str, base: str | None, models: Sequence[str], text: str) -> ProseRecipe:
    missing = []
    if len(models) < 2:
        missing.append("which models")
    weights, densities = _numbers("weights?", text, models), _numbers("densit(?:y|ies)", text, models)
    if method == "slerp":
        t = re.search(r"\bt\s*(?:=|:|of|is|was)\s*(\d*\.?\d+)", text)
        if t is None:
            missing.append("t")
        if len(models) > 2:
            missing.append("which two models")
        document: dict[str, Any] = {
            "base_model": base or (models[0] if models else None),
            "models": [{"model": model} for model in models],
            "parameters": {"t": float(t.group(1)) if t else 0.0},
        }
        return _result(method, document, missing)
    if method != "linear" and base is None:
        missing.append("the base model")
    if method != "model_stock" and not weights:
        missing.append("the weights")
    if method in ("ties", "dare_ties", "della") and not densities:
        missing.append("the densities")
    entries = []
    for index, model in enumerate(models):
        settings = {"weight": weights[index : index + 1], "density": densities[index : index + 1]}
        own = {name: value[0] for name, value in settings.items() if value and method != "model_stock"}
        entries.append({"model": model} | ({"parameters": own} if own else {}))
    return _result(method, {"models": entries} | ({"base_model": base} if base else {}), missing)


def _result(method: str, document: dict[str, Any], missing: Sequence[str]) -> ProseRecipe:
    return (
        ProseRecipe(None, method, ", ".join(missing))
        if missing
        else ProseRecipe({"merge_method": method, **document}, method)
    )


def _numbers(name: str, text: str, models: Sequence[str]) -> list[float]:
    """Return one number per model: as many as are given, or the single one for all; empty where they do not fit."""
    match = re.search(rf"\b{name}(?:\s+(?:of|is|was|are|were|both|each|at|to|all))*\s*[=:(]?\s*{_NUMBERS}", text, re.I)
    if match is None and name == "weights?" and re.search(r"equal(?:ly)?[\s-]weight", text, re.IGNORECASE):
        return [1.0] * len(models)
    if match is None:
        shared = re.search(
            rf"(?:weights?\s+and\s+densit|densit\w*\s+and\s+weight)\w*[^\d.]{{0,20}}{_NUMBERS}", text, re.I
        )
        match = shared
    numbers = [float(number) for number in re.findall(r"\d*\.\d+|\d+", match.group(1))] if match else []
    if len(numbers) == 1:
        return numbers * len(models)
    return numbers if len(numbers) == len(models) else []
