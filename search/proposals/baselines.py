"""Baselines: what a search must beat, made from the parents that its families name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from merge.recipe.schema import Recipe
from search.space.template import short_name

_INTERPOLATE = {"slerp", "arcee_fusion"}
"""Methods whose ``base_model`` is one of the two models that are merged."""


@dataclass(frozen=True)
class Baseline:
    """A plain recipe that is scored before the first trial.

    Attributes:
        name: What tables call it.
        recipe: The recipe.
        kind: ``base`` and ``parent`` are models as they are, the others are merges.
    """

    name: str
    recipe: Recipe
    kind: str


def make_baselines(recipes: Sequence[Recipe], known: Mapping[str, Recipe]) -> tuple[Baseline, ...]:
    """Return base model, every parent, their equal-weight mean, their task arithmetic, and the known recipes.

    Args:
        recipes: One filled recipe of each family.
        known: Recipes that the study lists, by name.

    Task arithmetic adds all task vectors with weight 1 (Ilharco et al., ICLR 2023, before any tuning); it is left
    out where no family has a base model or there is a single parent.
    """
    references = list(dict.fromkeys(reference for recipe in recipes for reference in recipe.references()))
    base = _common_ancestor(recipes, references)
    parents = [reference for reference in references if reference != base]
    found: list[Baseline] = []
    if base is not None:
        found.append(Baseline(short_name(base), _alone(base), "base"))
    names = _names(parents)
    found += [Baseline(names[parent], _alone(parent), "parent") for parent in parents]
    if len(parents) > 1:
        found.append(Baseline("equal weights", _linear(parents), "merge"))
        if base is not None:
            found.append(Baseline("task arithmetic", _task_arithmetic(base, parents), "merge"))
    return (*found, *(Baseline(name, recipe, "known") for name, recipe in known.items()))


def _common_ancestor(recipes: Sequence[Recipe], references: Sequence[str]) -> str | None:
    """Return the model that task vectors are taken from; slerp calls one of its two parents base, which is none."""
    named = [r.base_model for r in recipes if r.base_model is not None and r.merge_method not in _INTERPOLATE]
    if named:
        return max(named, key=named.count)
    stems = {reference.split("+", 1)[0] for reference in references}
    only_adapters = all("+" in reference for reference in references)
    return stems.pop() if only_adapters and len(stems) == 1 else None


def _names(references: Sequence[str]) -> dict[str, str]:
    """Return a short name per model, the whole reference where two short names are the same."""
    short = [short_name(reference) for reference in references]
    return {
        reference: name if short.count(name) == 1 else reference
        for reference, name in zip(references, short, strict=True)
    }


def _alone(reference: str) -> Recipe:
    return Recipe.from_mapping(
        {"merge_method": "passthrough", "models": [{"model": reference}]}, place=f"baseline {reference}"
    )


def _linear(parents: Sequence[str]) -> Recipe:
    models = [{"model": parent, "parameters": {"weight": 1.0}} for parent in parents]
    return Recipe.from_mapping({"merge_method": "linear", "models": models}, place="baseline equal weights")


def _task_arithmetic(base: str, parents: Sequence[str]) -> Recipe:
    models = [{"model": parent, "parameters": {"weight": 1.0}} for parent in parents]
    return Recipe.from_mapping(
        {"merge_method": "task_arithmetic", "base_model": base, "models": models}, place="baseline task arithmetic"
    )
