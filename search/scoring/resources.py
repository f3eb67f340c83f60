"""The resources of a study: opens what it needs, no sooner than it is needed, and pins it in the store.

What was asked of whom is fixed at the first start (tasks, question sets, hashes of the parents). A later start
takes it from the store, so that a finished study is reported without opening a model, and refuses to go on when
a parent or the data changed since.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from evals.cache.disk_cache import DiskCache
from evals.evaluation import Evaluation
from evals.suites import load_suite
from evals.tasks.cached import remembered_tasks
from evals.tasks.loading import LoadedTask, TaskSpec
from evals.tasks.sampling import Question, QuestionSets, draw_questions, refuse_search_on_test
from merge.live_model import load_tokenizer
from merge.merger import Merger
from merge.recipe.schema import Recipe
from search.hardware import free_memory
from search.objective.objective import Objective, Term, terms_of
from search.objective.rung import climbs, on_the_rung, rung_objective
from search.results.outcome import Part
from search.scoring.candidate_scorer import CandidateScorer, Stage
from search.scoring.live_models import LiveModels
from search.scoring.parent_check import PARENT_PINS, Parents
from search.storage.pins import FixedPins, Pins
from search.study.study import LoadedStudy

SHARED_PARENTS = "parents"
"""Folder below a study's in which the scorers of a host share folded adapters while it runs."""


class Resources:
    """Everything that scoring a study's candidates needs.

    Args:
        study: The study.
        models_roots: Folders in which model names are looked up.
        device: Where the live model runs.
        folder: The study's folder; what was made at an earlier start is in ``prompts`` there.
        share: Number of processes that share this host's memory.
    """

    def __init__(
        self, study: LoadedStudy, models_roots: Sequence[Path], device: str, folder: Path, share: int = 1
    ) -> None:
        self._study = study
        self._kept: Pins | None = None
        self._merger: Merger | None = None
        self._parents: Parents | None = None
        self._scorer: CandidateScorer | None = None
        self._roots = models_roots
        self._device = device
        self._share = share
        self._shared = folder / SHARED_PARENTS
        self._prompts = DiskCache(folder / "prompts", waiting=True)
        self._spaces = study.space.families
        self.recipes: tuple[Recipe, ...] = tuple(f.recipe(f.middle()) for f in self._spaces.values())

    def check(self) -> None:
        """Find out whether the parents fit each other and the questions are there, before anything is written.

        Raises:
            merge.errors.MergeError: A parent is missing or does not fit.
            evals.errors.EvalError: A task, a metric or the data are wrong.
        """
        _ = self.merger, self._drawn

    def let_go(self) -> None:
        """Let go of parents and models, which are opened again when they are needed."""
        self._merger = self._parents = self._scorer = None

    def use(self, pins: Pins) -> None:
        """Record there what is fixed at the first start, and take it from there later."""
        self._kept = pins
        self._prompts.settle()

    def pin(self, place: str) -> FixedPins:
        """Pin all that scorers are held to, and return it; parents and models are let go of again."""
        _ = self.objective, self.sets, self.parents
        self.let_go()
        return FixedPins(place, {key: self._pins.pinned(key) for key in ("objective", "questions", *PARENT_PINS)})

    @property
    def _pins(self) -> Pins:
        if self._kept is None:
            raise RuntimeError("Resources.use must be called before anything is scored")
        return self._kept

    @cached_property
    def tasks(self) -> tuple[LoadedTask, ...]:
        """Return the loaded tasks."""
        section = self._study.file.evaluate
        return remembered_tasks(
            self._specs,
            self._prompts,
            data=None if section.data == "hub" else Path(section.data),
            include_path=None if section.include_path is None else Path(section.include_path),
            place=f"{self._study.place}: evaluate.tasks",
        )

    @cached_property
    def objective(self) -> Objective:
        """Return the objective, from the store where the study has begun."""
        pinned = self._pins.pinned("objective")
        if isinstance(pinned, list):
            return Objective(tuple(Term(**term) for term in pinned))
        terms = terms_of(self.tasks)
        self._pins.pin("objective", [asdict(term) for term in terms], "use the version that began it")
        return Objective(terms)

    @cached_property
    def sets(self) -> QuestionSets:
        """Return the disjoint question sets, from the store where the study has begun."""
        pinned = self._pins.pinned("questions")
        if isinstance(pinned, str):
            return self._allowed(QuestionSets.from_json(pinned))
        self._pins.pin("questions", self._drawn.to_json(), "restore the data")
        return self._drawn

    @property
    def merger(self) -> Merger:
        """Return the merger, its parents checked against each other."""
        self._merger = self._merger or self._opened_merger()
        return self._merger

    def _opened_merger(self) -> Merger:
        seed, several = self._study.file.search.seed, self._share > 1
        keep = free_memory() // (2 * self._share) if several else None
        shelf = self._shared if several else None
        merger = Merger(self._roots, seed=seed, device=self._device, keep_bytes=keep, shelf=shelf)
        for recipe in (*self.recipes, *self._study.known.values()):
            merger.check(recipe)
        return merger

    @property
    def parents(self) -> Parents:
        """Return what holds the parents to what they were."""
        self._parents = self._parents or Parents(self.merger, self._pins)
        return self._parents

    @property
    def scorer(self) -> CandidateScorer:
        """Return the scorer, which makes live models as candidates need them."""
        self._scorer = self._scorer or self._opened_scorer()
        return self._scorer

    def _opened_scorer(self) -> CandidateScorer:
        merger, parents, seed = self.merger, self.parents, self._study.file.search.seed
        tokenizer = load_tokenizer(merger, self.recipes[0])
        models = LiveModels(merger, tokenizer, self._device, engine=self._study.file.evaluate.engine)
        stages = partial(self._stages, tokenizer)
        return CandidateScorer(merger, models, stages, self.objective, seed, parents.check)

    @property
    def rung(self) -> Objective | None:
        """Return what the first rung is worth; None for a study without one."""
        if self._study.file.search.rung == "none":
            return None
        found = rung_objective(self.objective, self.tasks)
        return None if found == self.objective else found

    def _stages(self, tokenizer: Any, part: Part) -> list[Stage]:
        """Return the stages of a part: a rung first, on search questions, where the study asks for one."""
        labels = {task.name: task.label for task in self.tasks}
        rung = self.rung if part == "search" else None
        if rung is None:
            return [Stage(self._evaluation(tokenizer, part, self.tasks), self.objective, labels)]
        later = tuple(task for task in self.tasks if climbs(task))
        return [
            Stage(self._evaluation(tokenizer, part, on_the_rung(self.tasks)), rung, labels),
            Stage(self._evaluation(tokenizer, part, later), self.objective, labels),
        ]

    def _evaluation(self, tokenizer: Any, part: Part, tasks: Sequence[LoadedTask]) -> Evaluation:
        section = self._study.file.evaluate
        parts: tuple[Part, ...] = ("search", "selection", "test")
        names = {task.name for task in tasks}
        return Evaluation.build(
            tasks,
            [question for question in self._verified(part) if question.task in names],
            tokenizer=tokenizer,
            metrics=section.verdict if part == "test" else "asked",
            apply_chat_template=section.apply_chat_template,
            system_instruction=section.system_instruction,
            fewshot_as_multiturn=section.fewshot_as_multiturn,
            keep_apart=[q for other in parts for q in self.questions(other) if q.task in names],
            kept=self._prompts,
        )

    def questions(self, part: Part) -> tuple[Question, ...]:
        """Return the questions of a part."""
        sets = self.sets
        return {"search": sets.search, "selection": sets.selection, "test": sets.test}[part]

    @property
    def _specs(self) -> tuple[TaskSpec, ...]:
        section = self._study.file.evaluate
        return section.tasks if section.suite is None else load_suite(section.suite).tasks

    @cached_property
    def _drawn(self) -> QuestionSets:
        section, seed = self._study.file.evaluate, self._study.file.search.seed

        def draw() -> QuestionSets:
            counts = section.questions
            return draw_questions(
                self.tasks,
                for_search=counts.search,
                for_selection=counts.selection,
                for_test=counts.test,
                seed=seed,
                search_on_test=section.search_on_test,
            )

        fingerprints = [task.fingerprint for task in self.tasks]
        if None in fingerprints:
            return self._allowed(draw())
        key = [fingerprints, section.questions.model_dump(mode="json"), seed, section.search_on_test]
        drawn = self._prompts.remember("questions", key, draw, QuestionSets.to_json, QuestionSets.from_json)
        return self._allowed(drawn)

    def _allowed(self, sets: QuestionSets) -> QuestionSets:
        if not self._study.file.evaluate.search_on_test:
            refuse_search_on_test(sets, place=f"{self._study.place}: evaluate.questions")
        return sets

    def _verified(self, part: Part) -> tuple[Question, ...]:
        """Return the questions of a part, after making sure that the data still hold the same ones."""
        again = self._drawn.to_json()
        self._pins.pin("questions", again, "the data changed: restore it, or start a new study")
        return self.questions(part)
