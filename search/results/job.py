"""A job: all that a scorer is told of a candidate, fixed when it is sent."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from merge.recipe.schema import Recipe
from search.objective.racing import Race
from search.results.outcome import Part
from search.space.search_space import RecipeText


@dataclass(frozen=True)
class Rivals:
    """Whom a candidate races against.

    Attributes:
        race: The stopping rule.
        answers: Answers of the best so far; of everyone on a Pareto front.
        rung: Whether the first of two stages may stop a candidate.
        numbers: Their numbers, under which the store has these answers.
    """

    race: Race
    answers: Sequence[pd.DataFrame]
    rung: bool = True
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Job:
    """One recipe to score on one set of questions.

    Attributes:
        name: What tables call it: ``trial 12``, or the name of a baseline.
        number: Number of the trial; below zero for what is scored outside the search.
        recipe: The plain recipe, or its text.
        part: Which questions.
        questions: How many these are.
        family: Family of the candidate; empty for a baseline.
        seed: Seed of random masks, where it is not the study's.
        rivals: Whom it races against; None to ask all questions whatever the answers.
    """

    name: str
    number: int
    recipe: Recipe | RecipeText
    part: Part
    questions: int = 0
    family: str = ""
    seed: int | None = None
    rivals: Rivals | None = None

    def plain(self) -> Recipe:
        """Return the recipe.

        Raises:
            merge.errors.RecipeError: Its values do not go together, such as layer ranges of different lengths.
        """
        return self.recipe if isinstance(self.recipe, Recipe) else self.recipe.recipe()

    def digest(self) -> str:
        """Return what the answers are kept under: the digest of the recipe, and of the masks' seed where it has one."""
        own = self.plain().digest()
        return own if self.seed is None else f"{own}@{self.seed}"
