"""The judge: writes a recipe into the live model and has it answer a set of questions, racing if asked to."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import pandas as pd
import torch

from evals.errors import ScoringError
from evals.harness import Evaluation
from evals.questions import Question
from evals.results import Results, merge_results
from evals.scorer import LiveScorer
from merge.engine import Merger
from merge.errors import MergeError
from merge.recipe import Recipe
from search.objective import Objective
from search.race import Race
from search.records import Failed, Part, Scored, Seconds


class Judge:
    """Scores recipes on one live model.

    Args:
        merger: Holds the parents.
        model: The live model that candidates are written into.
        scorer: Answers questions with that model.
        build: Makes the evaluation of a part, called once per part and only when it is needed.
        objective: What the tasks are worth together.
        seed: Seed of random masks, the same for every candidate, so that neighbours differ only where they should.
    """

    def __init__(
        self,
        merger: Merger,
        model: torch.nn.Module,
        scorer: LiveScorer,
        build: Callable[[Part], Evaluation],
        objective: Objective,
        seed: int,
    ) -> None:
        self._merger = merger
        self._model = model
        self._scorer = scorer
        self.evaluation = cache(build)
        self.objective = objective
        self._seed = seed

    def questions(self, part: Part) -> tuple[Question, ...]:
        """Return the questions of a part, in the order in which they are asked."""
        return self.evaluation(part).questions

    def score(
        self, recipe: Recipe, part: Part, race: Race | None = None, incumbent: pd.DataFrame | None = None
    ) -> Scored | Failed:
        """Score a recipe on a part.

        Args:
            recipe: A plain recipe.
            part: Which questions.
            race: Stopping rule; None to ask all questions whatever the answers.
            incumbent: Answers of the best so far on the same part.

        Returns:
            The scores, or why there are none: a NaN, an overflow or a lack of memory is a value, not an error.
        """
        evaluation = self.evaluation(part)
        blocks: Sequence[Sequence[Question] | None] = [None]
        if race is not None and incumbent is not None:
            blocks = race.plan(evaluation.questions)
        try:
            start = time.perf_counter()
            self._merger.merge_live(recipe, self._model, seed=self._seed)
            merged = time.perf_counter()
            results, answered = self._ask(evaluation, blocks, race, incumbent)
        except (MergeError, ScoringError, torch.OutOfMemoryError, MemoryError) as error:
            return Failed(str(error).strip() or type(error).__name__, type(error).__name__)
        seconds = Seconds(merge=merged - start, score=time.perf_counter() - merged)
        results = replace(results, answers=_as_stored(results.answers))
        value = self.objective.value(results)
        stopped = answered if answered < len(evaluation.questions) else None
        return Scored(results, value, stopped, seconds)

    def _ask(
        self,
        evaluation: Evaluation,
        blocks: Sequence[Sequence[Question] | None],
        race: Race | None,
        incumbent: pd.DataFrame | None,
    ) -> tuple[Results, int]:
        parts: list[Results] = []
        answered = 0
        for index, block in enumerate(blocks):
            parts.append(evaluation.run(self._scorer, block))
            answered += len(evaluation.questions if block is None else block)
            if race is not None and incumbent is not None and index + 1 < len(blocks):
                so_far = pd.concat([result.answers for result in parts], ignore_index=True)
                if race.lost(so_far, incumbent):
                    break
        return (parts[0] if len(parts) == 1 else merge_results(parts)), answered

    def fingerprints(self) -> Mapping[str, str]:
        """Return the hash of every model that was opened."""
        return self._merger.fingerprints()


def _as_stored(answers: pd.DataFrame) -> pd.DataFrame:
    """Return answers in the precision of the store, so that a resumed study decides as an uninterrupted one."""
    rounded = {name: answers[name].astype("float32").astype("float64") for name in ("value", "weight")}
    return answers.assign(**rounded)
