"""Resources without models: a function answers for recipes; scorer, race, store and loop are the real ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import yaml

from evals.scores.results import Cost, Item, Results, Score, results_of
from evals.tasks.sampling import Question, QuestionSets
from merge.recipe.schema import Recipe
from search.loop.leader import Leader
from search.objective.objective import Objective
from search.results.outcome import Part
from search.results.verdict import Verdict
from search.scoring.candidate_scorer import CandidateScorer, Stage
from search.storage.store import Store
from search.study.study import LoadedStudy, parse_study
from search.workers.in_process import InProcess
from tests.search.recorder import Recorder

Answer = Callable[[Recipe, int, Question], Mapping[str, float]]
"""Recipe, mask seed and question to the metrics' values."""


def fake_study(**sections: Any) -> LoadedStudy:
    """Return a study of two weights on made-up tasks."""
    models = [{"model": name, "parameters": {"weight": {"low": 0.0, "high": 1.0}}} for name in ("a", "b")]
    document: dict[str, Any] = {
        "study": "fake",
        "families": {"linear": {"merge_method": "task_arithmetic", "base_model": "base", "models": models}},
        "evaluate": {"tasks": [{"task": "t", "metric": "acc"}]},
        "search": {"trials": 12, "sampler": "random", **sections.pop("search", {})},
        **sections,
    }
    return parse_study(yaml.safe_dump(document), place="study.yaml")


def weights_of(recipe: Recipe) -> tuple[float, float]:
    """Return the weights of ``a`` and ``b`` in a recipe; a model as it is has weight 1, the base none."""
    found = dict.fromkeys("ab", 0.0)
    total = 0.0
    for model in recipe.models or ():
        if model.model in found:
            found[model.model] = float((model.parameters or {}).get("weight", 1.0))
            total += found[model.model]
    if recipe.merge_method == "linear":
        return found["a"] / total, found["b"] / total
    return found["a"], found["b"]


@dataclass
class _Evaluation:
    questions: tuple[Question, ...]
    answer: Answer
    metrics: Sequence[str] | None = None

    def run(self, current: Any, only: Sequence[Question] | None = None) -> Results:
        items = [
            Item(q.task, q.task, q.id, metric, value, 1.0)
            for q in (self.questions if only is None else only)
            for metric, value in self.answer(current.recipe, current.seed, q).items()
            if self.metrics is None or metric in self.metrics
        ]
        current.asked += len(items)
        return results_of(items, _means, Cost())


def _means(items: Sequence[Item]) -> dict[str, Score]:
    found: dict[str, list[float]] = {}
    for item in items:
        found.setdefault(f"{item.label}/{item.metric}", []).append(item.value)
    return {key: Score(sum(v) / len(v), None, len(v), not key.endswith("byte")) for key, v in found.items()}


@dataclass
class FakeResources:
    """Stands in for ``search.scoring.resources.Resources``.

    Attributes:
        study: The study.
        objective: What the tasks are worth.
        answer: Answers a question.
        counts: Questions per task: search, selection, test.
        rung: Objective of a first rung, whose metrics are asked before the others.
    """

    study: LoadedStudy
    objective: Objective
    answer: Answer
    counts: tuple[int, int, int] = (40, 40, 80)
    rung: Objective | None = None
    current: Any = field(default_factory=lambda: SimpleNamespace(recipe=None, seed=0, asked=0))

    def __post_init__(self) -> None:
        self.recipes = tuple(f.recipe(f.middle()) for f in self.study.space.families.values())
        self._sets = {part: self._drawn(i) for i, part in enumerate(("search", "selection", "test"))}
        self.sets = QuestionSets(self._sets["search"], self._sets["selection"], self._sets["test"])
        models: Any = SimpleNamespace(of=lambda _: SimpleNamespace(model=None, scorer=self.current))
        merger: Any = SimpleNamespace(merge_live=self._merge)
        self.scorer = CandidateScorer(merger, models, self._stages, self.objective, self.study.file.search.seed)

    def questions(self, part: Part) -> tuple[Question, ...]:
        return self._sets[part]

    def _merge(self, recipe: Recipe, model: object, *, seed: int) -> None:
        del model
        self.current.recipe, self.current.seed = recipe, seed

    def _drawn(self, number: int) -> tuple[Question, ...]:
        labels = [term.label for term in self.objective.terms]
        count = self.counts[number]
        return tuple(Question(t, "test", i, f"{t}-{number}-{i}") for t in labels for i in range(count))

    def _stages(self, part: Part) -> list[Stage]:
        evaluation: Any = _Evaluation(self._sets[part], self.answer)
        if self.rung is None or part != "search":
            return [Stage(evaluation, self.objective, {})]
        low = {term.metric for term in self.rung.terms}
        high = {term.metric for term in self.objective.terms} - low
        first: Any = _Evaluation(self._sets[part], self.answer, sorted(low))
        second: Any = _Evaluation(self._sets[part], self.answer, sorted(high))
        return [Stage(first, self.rung, {}), Stage(second, self.objective, {})]


def run_fake(resources: FakeResources, folder: Path, url: str | None = None) -> tuple[Verdict, Recorder]:
    """Run a fake study to its verdict, in this process."""
    recorder = Recorder()
    store = Store(url or f"journal:{folder / 'journal'}", resources.study)
    pool, anything = InProcess(lambda: resources.scorer), cast("Any", resources)
    with store.leading():
        verdict = Leader(resources.study, store, anything, pool, recorder).run()
    return verdict, recorder
