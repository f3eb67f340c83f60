"""Scores candidates: writes a recipe into a live model and has it answer a set of questions, racing if asked to."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pandas as pd

from evals.engines.registry import weights_changed
from evals.errors import ScoringError, ran_out_of_memory
from evals.evaluation import Evaluation
from evals.scores.results import Results, merge_results
from evals.tasks.sampling import Question
from merge.errors import MergeError, RecipeError
from merge.merger import Merger
from merge.recipe.schema import Recipe
from search.objective.objective import Objective
from search.objective.racing import Race
from search.results.job import Job, Rivals
from search.results.outcome import Failed, Part, Scored, Seconds
from search.scoring.live_models import LiveModels


@dataclass(frozen=True)
class Stage:
    """One evaluation of a part, and what may be raced on while it runs.

    Attributes:
        evaluation: Questions with their prompts.
        objective: What its answers, and those before, are worth; it decides the race.
        labels: Task of each leaf.
    """

    evaluation: Evaluation
    objective: Objective
    labels: Mapping[str, str]


class CandidateScorer:
    """Scores recipes on live models.

    Args:
        merger: Holds the parents.
        models: The live models that candidates are written into.
        build: Makes the stages of a part, called once per part and only when they are needed.
        objective: What the tasks are worth together.
        seed: Seed of random masks, the same for every candidate, so that neighbours differ only where they should.
        unchanged: Called before and after a candidate; it raises when a parent's file was changed.
    """

    def __init__(
        self,
        merger: Merger,
        models: LiveModels,
        build: Callable[[Part], Sequence[Stage]],
        objective: Objective,
        seed: int,
        unchanged: Callable[[], None] = lambda: None,
    ) -> None:
        self._merger = merger
        self._models = models
        self.stages = cache(build)
        self.objective = objective
        self._seed = seed
        self._unchanged = unchanged

    def score(self, job: Job, between: Callable[[], None] | None = None) -> Scored | Failed:
        """Score a recipe on a part.

        Args:
            job: The recipe, the part, whom it races against, and the seed of its masks.
            between: Called after every block of questions but the last; it may raise to end the scoring.

        Returns:
            The scores, or why there are none: a NaN, an overflow or a lack of memory is a value, not an error.
        """
        try:
            recipe = job.plain()
        except RecipeError as error:
            return Failed(str(error).splitlines()[0], type(error).__name__)
        self._unchanged()
        try:
            outcome = self._score(recipe, job, between)
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            outcome = Failed(
                f"out of memory: {(str(error).strip() or 'nothing more is known').splitlines()[0]}", "memory"
            )
        self._unchanged()
        return outcome

    def _score(self, recipe: Recipe, job: Job, between: Callable[[], None] | None) -> Scored | Failed:
        seed = self._seed if job.seed is None else job.seed
        try:
            start = time.perf_counter()
            live = self._models.of(recipe)
            self._merger.merge_live(recipe, live.model, seed=seed)
            weights_changed(live.scorer)
            merged = time.perf_counter()
            asked = _ask(live.scorer, self.stages(job.part), job.rivals, between)
        except (MergeError, ScoringError) as error:
            return Failed(str(error).strip() or type(error).__name__, type(error).__name__)
        seconds = Seconds(merge=merged - start, score=time.perf_counter() - merged)
        results = replace(asked.results, answers=_as_stored(asked.results.answers), items=(), aggregate=None)
        value, values = asked.objective.value(results), asked.objective.values(results)
        return Scored(results, value, asked.stopped_after, seconds, values, asked.behind)

    def fingerprints(self) -> Mapping[str, str]:
        """Return the hash of every model that was opened."""
        return self._merger.fingerprints()


@dataclass(frozen=True)
class _Asked:
    """What a candidate answered.

    Attributes:
        results: Answers and scores.
        objective: The objective that they allow.
        stopped_after: Number of questions after which the race was lost.
        behind: By how much it was.
    """

    results: Results
    objective: Objective
    stopped_after: int | None = None
    behind: float | None = None


def _ask(scorer: Any, stages: Sequence[Stage], rivals: Rivals | None, between: Callable[[], None] | None) -> _Asked:
    """Ask block after block, until all is answered or the race is lost."""
    parts: list[Results] = []
    asked: set[Question] = set()
    for number, stage in enumerate(stages):
        last = number + 1 == len(stages)
        racing = rivals is not None and (last or rivals.rung)
        blocks: Sequence[Sequence[Question] | None] = [None]
        if rivals is not None:
            blocks = rivals.race.plan(stage.evaluation.questions, stage.labels)
        for index, block in enumerate(blocks):
            parts.append(stage.evaluation.run(scorer, block))
            asked.update(stage.evaluation.questions if block is None else block)
            ended = last and index + 1 == len(blocks)
            behind = None
            if rivals is not None and racing and not ended:
                race = replace(rivals.race, objective=stage.objective, decides=last)
                behind = _behind(parts, race, rivals.answers)
            if behind is not None:
                return _Asked(_together(parts), stage.objective, len(asked), behind)
            if between is not None and not ended:
                between()
    return _Asked(_together(parts), stages[-1].objective)


def _behind(parts: Sequence[Results], race: Race, rivals: Sequence[pd.DataFrame]) -> float | None:
    """Return by how much the race is lost to the first rival that wins it; None when it goes on."""
    so_far = pd.concat([result.answers for result in parts], ignore_index=True)
    return next((-race.gain(so_far, answers) for answers in rivals if race.lost(so_far, answers)), None)


def _together(parts: Sequence[Results]) -> Results:
    return parts[0] if len(parts) == 1 else merge_results(parts)


def _as_stored(answers: pd.DataFrame) -> pd.DataFrame:
    """Return answers in the precision of the store, so that a resumed study decides as an uninterrupted one."""
    rounded = {name: answers[name].astype("float32").astype("float64") for name in ("value", "weight")}
    return answers.assign(**rounded)
