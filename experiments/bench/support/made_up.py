"""A study on made-up answers, for measuring everything but merging and scoring: no model is ever opened.

Candidates are asked from a real space, told to a real store and mirrored; only their answers come from a formula that
prefers some weights, so that samplers have something to learn and the race has somebody to stop.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evals.scores.results import Cost, Item, Results, Score, results_of
from evals.tasks.sampling import Question, QuestionSets
from merge.recipe.schema import Recipe
from search.objective.objective import Objective, Term
from search.results.outcome import Part
from search.scoring.candidate_scorer import CandidateScorer, Stage
from search.storage.store import Store
from search.study.study import LoadedStudy

MODELS = ("math", "science", "code")
TASKS = ("arc", "gsm")
METRICS = ("acc", "gold_prob")
OBJECTIVE = Objective(tuple(Term(task, "acc", 0.5, True) for task in TASKS))


def made_up_study(questions: int, **settings: object) -> LoadedStudy:
    """Return a study of dare_ties over three fine-tunes: six numbers.

    Args:
        questions: Search questions per task.
        settings: Its search section.
    """
    holes = {"weight": {"low": 0.0, "high": 1.0}, "density": {"low": 0.1, "high": 1.0}}
    family = {
        "merge_method": "dare_ties",
        "base_model": "base",
        "models": [{"model": name, "parameters": holes} for name in MODELS],
        "parameters": {"normalize": False, "int8_mask": True},
        "dtype": "bfloat16",
    }
    document = {
        "study": "made-up",
        "families": {"dare_ties": family},
        "evaluate": {
            "tasks": [{"task": task, "metric": "acc"} for task in TASKS],
            "questions": {"search": questions, "selection": questions, "test": questions},
        },
        "search": settings,
    }
    return LoadedStudy(document, place="made-up.yaml")


class MadeUpResources:
    """Stands in for ``search.scoring.resources.Resources``: a formula answers.

    Args:
        study: The study.
        questions: Questions per task in each of the three sets.
    """

    rung = None
    objective = OBJECTIVE

    def __init__(self, study: LoadedStudy, questions: int) -> None:
        self.recipes = tuple(family.recipe(family.middle()) for family in study.space.families.values())
        drawn = [_drawn(part, questions) for part in ("search", "selection", "test")]
        self.sets = QuestionSets(*drawn)
        self._luck = {question.id: _luck(question.id) for part in drawn for question in part}
        self._recipe: Recipe | None = None
        models: Any = SimpleNamespace(of=lambda _: SimpleNamespace(model=None, scorer=self))
        merger: Any = SimpleNamespace(merge_live=self._merge)
        self.scorer = CandidateScorer(merger, models, self._stages, OBJECTIVE, study.file.search.seed)

    def use(self, store: Store) -> None:
        """Pin what the real bench pins."""
        store.pin("objective", [asdict(term) for term in OBJECTIVE.terms], "")
        store.pin("questions", self.sets.to_json(), "")

    def let_go(self) -> None:
        """Hold nothing."""

    def questions(self, part: Part) -> tuple[Question, ...]:
        """Return the questions of a part."""
        return {"search": self.sets.search, "selection": self.sets.selection, "test": self.sets.test}[part]

    def answer(self, asked: Sequence[Question]) -> Results:
        """Return what the recipe of now answers."""
        assert self._recipe is not None
        skill = _skill(self._recipe)
        items = []
        for question in asked:
            margin = skill[question.task] - self._luck[question.id]
            for metric, value in (("acc", float(margin > 0)), ("gold_prob", 1 / (1 + np.exp(-8 * margin)))):
                items.append(Item(question.task, question.task, question.id, metric, float(value), 1.0))
        return results_of(items, _means, Cost())

    def _merge(self, recipe: Recipe, model: object, *, seed: int) -> None:
        del model, seed
        self._recipe = recipe

    def _stages(self, part: Part) -> list[Stage]:
        asked = self.questions(part)
        run = lambda scorer, only=None: scorer.answer(asked if only is None else only)  # noqa: E731 - two lines of one
        evaluation: Any = SimpleNamespace(questions=asked, run=run)
        return [Stage(evaluation, OBJECTIVE, {})]


def _drawn(part: str, count: int) -> tuple[Question, ...]:
    return tuple(Question(task, part, i, _hash(f"{task}-{part}-{i}")) for task in TASKS for i in range(count))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _luck(name: str) -> float:
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32


def _skill(recipe: Recipe) -> Mapping[str, float]:
    weights: dict[str, NDArray[np.float64]] = {}
    for model in recipe.models or ():
        parameters = model.parameters or {}
        weights[model.model] = np.array([float(parameters.get(n, 1.0)) for n in ("weight", "density")])
    best = {"arc": {"science": 0.7, "code": 0.2}, "gsm": {"math": 0.6, "code": 0.4}}
    miss = {
        task: sum(float((weights.get(model, np.zeros(2))[0] - wanted.get(model, 0.3)) ** 2) for model in MODELS)
        for task, wanted in best.items()
    }
    return {task: 0.75 - 0.3 * off for task, off in miss.items()}


def _means(items: Sequence[Item]) -> dict[str, Score]:
    found: dict[str, list[float]] = {}
    for item in items:
        found.setdefault(f"{item.label}/{item.metric}", []).append(item.value)
    return {key: Score(sum(v) / len(v), None, len(v), higher_is_better=True) for key, v in found.items()}
