"""The recipes that a duel compares: the best of each family after the same number of trials, or fixed recipes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.errors import ExperimentError, InputError
from experiments.report.study_facts import Scoring, gather_facts
from merge.recipe.schema import Recipe
from search.study.study import LoadedStudy

RunStudy = Callable[[LoadedStudy, Path], object]
"""Runs or resumes a study in a folder."""


@dataclass(frozen=True)
class Competitor:
    """A recipe that takes part, before it is scored.

    Attributes:
        name: Name of its family or recipe.
        recipe: The recipe.
        trials: Trials of its family's search; 0 for a fixed recipe.
        origin: Where the recipe comes from, as text.
    """

    name: str
    recipe: Recipe
    trials: int
    origin: str


def plain_recipes(study: LoadedStudy) -> tuple[Competitor, ...]:
    """Return the plain recipes of a study: families without holes, then the recipes that it lists as baselines.

    Raises:
        InputError: There are fewer than two.
    """
    plain = {name: f.recipe({}) for name, f in study.space.families.items() if not f.dimensions}
    recipes = {**plain, **study.known}
    if len(recipes) < 2:
        raise InputError(
            f"{study.place}: a duel of recipes as they are must have at least two families without holes or recipes "
            f"under baselines, got {len(recipes)}; leave out --fixed to search the families"
        )
    return tuple(Competitor(name, recipe, 0, "as given") for name, recipe in recipes.items())


def family_study(study: LoadedStudy, family: str) -> LoadedStudy:
    """Return the study of one family alone: the same questions, seed and budget, racing among its own candidates."""
    document = study.file.model_dump(mode="json", exclude_unset=True)
    document["study"] = f"{study.file.study}.{family}"
    document["families"] = {family: study.file.model_dump(mode="json")["families"][family]}
    document["baselines"] = {}
    document["search"] = {**document.get("search", {}), "race_against": "candidates"}
    return LoadedStudy(document, place=f"{study.place}: {family}")


def check_searched(study: LoadedStudy) -> None:
    """Find out whether a duel of searched families makes sense.

    Raises:
        InputError: It has a single family, some have no holes and others do, or it asks for what a duel cannot have.
    """
    families = study.space.families
    if len(families) < 2:
        raise InputError(f"{study.place}: families: a duel must have at least two, got {len(families)}")
    plain = [name for name, family in families.items() if not family.dimensions]
    if plain and len(plain) < len(families):
        raise InputError(
            f"{study.place}: families.{plain[0]}: must have holes as the other families do, so that budgets are "
            "equal; list it under baselines, or use --fixed"
        )
    if study.file.search.objective == "pareto":
        raise InputError(f"{study.place}: search.objective: must be 'mean' for a duel, got 'pareto'")


def search_families(study: LoadedStudy, root: Path, run: RunStudy) -> tuple[Competitor, ...]:
    """Search each family with the study's budget; return the best of each on the selection questions.

    A family that an earlier run finished is not searched again. Merges among the baselines may win a search, but they
    are no competitor.

    Raises:
        ExperimentError: No candidate of a family was scored on all questions.
        search.errors.SearchError: A search failed; what was finished is kept.
    """
    competitors = []
    for family in study.space.families:
        folder = root / "families" / family
        alone = family_study(study, family)
        run(alone, folder)
        scorings = gather_facts(folder).scorings
        finalists = [one for one in scorings if one.record.part == "selection" and one.record.family == family]
        if not finalists:
            raise ExperimentError(f"{folder}: must have a finalist of family '{family}', got none; give it more trials")
        best = max(finalists, key=lambda scoring: scoring.record.metrics["objective"])
        competitors.append(_competitor(family, best, _trials(scorings)))
    return tuple(competitors)


def _trials(scorings: tuple[Scoring, ...]) -> int:
    return sum(scoring.record.kind == "trial" for scoring in scorings)


def _competitor(family: str, scoring: Scoring, trials: int) -> Competitor:
    import yaml

    document: Mapping[str, object] = yaml.safe_load(scoring.record.recipe_yaml)
    recipe = Recipe.from_mapping(document, place=f"best of {family}")
    return Competitor(family, recipe, trials, f"{scoring.record.name} of {trials} trials")
