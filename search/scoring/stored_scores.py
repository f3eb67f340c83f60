"""Scores recipes outside the search (baselines, finalists, the verdict), or recalls what they scored."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from merge.recipe.schema import Recipe
from search.errors import SearchStoppedError
from search.results.outcome import Failed, Observer, Part, Scored
from search.results.trial_records import Reporter
from search.scoring.resources import Bench
from search.storage.store import Store


@dataclass(frozen=True)
class Outside:
    """What scoring outside the search needs.

    Attributes:
        store: Keeps what was scored.
        bench: Opens models and questions when they are needed.
        reporter: Makes the records.
        observer: Hears of them.
        between: Called before a recipe is scored and between its blocks of questions; it may raise to end the search.
    """

    store: Store
    bench: Bench
    reporter: Reporter
    observer: Observer
    between: Callable[[], None]

    def score(
        self, name: str, recipe: Recipe, part: Part, number: int, family: str = "", *, seed: int | None = None
    ) -> Scored:
        """Score a recipe on a part, or recall what it scored.

        Args:
            name: What tables call it.
            recipe: The recipe.
            part: Which questions.
            number: Number of the record, below zero.
            family: Its family, empty for a baseline.
            seed: Seed of random masks, where it is not the study's.

        Raises:
            SearchStoppedError: It cannot be scored.
        """
        questions = self.bench.questions(part)
        digest = recipe.digest() if seed is None else f"{recipe.digest()}@{seed}"
        found = self.store.recall(part, digest, questions)
        if found is None:
            self.between()
            started = time.time()
            outcome = self.bench.judge.score(recipe, part, seed=seed, between=self.between)
            if isinstance(outcome, Failed):
                raise SearchStoppedError(f"{name}: cannot be scored on {part} questions: {outcome.reason}")
            facts = {
                "name": name,
                "number": number,
                "family": family,
                "recipe": recipe.to_mapping(),
                "started": started,
                "ended": time.time(),
            }
            self.store.remember(part, digest, outcome, questions, facts)
            found = outcome, facts
        scored, times = found
        record = self.reporter.outside(name, recipe, scored, part=part, number=number, family=family, times=times)
        self.observer.scored(record)
        return scored
