"""The bench: opens what a study needs, no sooner than it is needed, and pins it in the store.

What was asked of whom is fixed at the first start (tasks, question sets, hashes of the parents). A later start
takes it from the store, so that a finished study is reported without opening a model, and refuses to go on when
a parent or the data changed since.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from evals.harness import Evaluation
from evals.questions import Question, QuestionSets, draw_questions
from evals.scorer import LiveScorer
from evals.suites import load_suite
from evals.tasks import LoadedTask, TaskSpec, load_tasks
from merge.engine import Merger
from merge.live import load_tokenizer, new_live_model
from merge.recipe import Recipe
from search.judge import Judge
from search.objective import Objective, Term, terms_of
from search.records import Part
from search.store import Store
from search.study import LoadedStudy


class Bench:
    """Everything that scoring a study's candidates needs.

    Args:
        study: The study.
        models_roots: Folders in which model names are looked up.
        device: Where the live model runs.
    """

    def __init__(self, study: LoadedStudy, models_roots: Sequence[Path], device: str) -> None:
        self._study = study
        self._kept: Store | None = None
        self._roots = models_roots
        self._device = device
        self._spaces = study.space.families
        self.recipes: tuple[Recipe, ...] = tuple(f.recipe(f.middle()) for f in self._spaces.values())

    def check(self) -> None:
        """Find out whether the parents fit each other and the questions are there, before anything is written.

        Raises:
            merge.errors.MergeError: A parent is missing or does not fit.
            evals.errors.EvalError: A task, a metric or the data are wrong.
        """
        _ = self.merger, self._drawn

    def use(self, store: Store) -> None:
        """Keep what is fixed at the first start in this store, and take it from there later."""
        self._kept = store

    @property
    def _store(self) -> Store:
        if self._kept is None:
            raise RuntimeError("Bench.use must be called before anything is scored")
        return self._kept

    @cached_property
    def tasks(self) -> tuple[LoadedTask, ...]:
        """Return the loaded tasks."""
        section = self._study.file.evaluate
        return load_tasks(
            self._specs,
            data=None if section.data == "hub" else Path(section.data),
            include_path=None if section.include_path is None else Path(section.include_path),
            place=f"{self._study.place}: evaluate.tasks",
        )

    @cached_property
    def objective(self) -> Objective:
        """Return the objective, from the store where the study has begun."""
        pinned = self._store.pinned("objective")
        if isinstance(pinned, list):
            return Objective(tuple(Term(**term) for term in pinned))
        terms = terms_of(self.tasks)
        self._store.pin("objective", [asdict(term) for term in terms], "use the version that began it")
        return Objective(terms)

    @cached_property
    def sets(self) -> QuestionSets:
        """Return the disjoint question sets, from the store where the study has begun."""
        pinned = self._store.pinned("questions")
        if isinstance(pinned, str):
            return QuestionSets.from_json(pinned)
        self._store.pin("questions", self._drawn.to_json(), "restore the data")
        return self._drawn

    @cached_property
    def merger(self) -> Merger:
        """Return the merger, its parents checked against each other."""
        merger = Merger(self._roots, seed=self._study.file.search.seed, device=self._device)
        for recipe in (*self.recipes, *self._study.known.values()):
            merger.check(recipe)
        return merger

    @cached_property
    def judge(self) -> Judge:
        """Return the judge, with the live model in place."""
        merger = self.merger
        self._store.pin("parents", dict(merger.fingerprints()), "restore that model, or start a new study")
        model = new_live_model(merger, self.recipes[0], device=self._device)
        tokenizer = load_tokenizer(merger, self.recipes[0])
        scorer = LiveScorer(model, tokenizer)
        section = self._study.file.evaluate

        parts: tuple[Part, ...] = ("search", "selection", "test")

        def build(part: Part) -> Evaluation:
            return Evaluation.build(
                self.tasks,
                self._verified(part),
                tokenizer=tokenizer,
                metrics=section.verdict if part == "test" else "asked",
                apply_chat_template=section.apply_chat_template,
                system_instruction=section.system_instruction,
                fewshot_as_multiturn=section.fewshot_as_multiturn,
                keep_apart=[question for other in parts for question in self.questions(other)],
            )

        return Judge(merger, model, scorer, build, self.objective, self._study.file.search.seed)

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
        counts = self._study.file.evaluate.questions
        return draw_questions(
            self.tasks,
            for_search=counts.search,
            for_selection=counts.selection,
            for_test=counts.test,
            seed=self._study.file.search.seed,
        )

    def _verified(self, part: Part) -> tuple[Question, ...]:
        """Return the questions of a part, after making sure that the data still hold the same ones."""
        again = self._drawn.to_json()
        self._store.pin("questions", again, "the data changed: restore it, or start a new study")
        return self.questions(part)
