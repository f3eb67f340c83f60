"""Scores models on the same tasks, one after the other; prompts and engine are made again only when they must.

`choose_tasks` turns names into specs, `load_chosen` opens them, `ModelScorer` asks each model all of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evals.cache.disk_cache import DiskCache
from evals.engines.registry import engine_names, make_engine, weights_changed
from evals.errors import EngineError, nearest
from evals.evaluation import Evaluation
from evals.scores.aggregation import BOOTSTRAP_ITERS, Aggregator
from evals.scores.results import Results, merge_results
from evals.suites import Suite, load_suite
from evals.tasks.availability import load_available
from evals.tasks.cached import remembered_questions
from evals.tasks.loading import LoadedTask, TaskSpec
from evals.tasks.sampling import Question

DTYPES = ("float32", "bfloat16", "float16")
"""Precisions that models can be scored in."""


@dataclass(frozen=True)
class ScoringSettings:
    """How models are scored, in lm-eval's words.

    Attributes:
        engine: One of ``evals.engines.registry.engine_names``.
        device: Where models are, such as ``cpu`` or ``cuda:0``.
        dtype: Of their weights, such as ``float32``.
        limit: First so many questions of each task; None for all.
        apply_chat_template: Wrap prompts in the tokenizer's chat template.
        system_instruction: System prompt.
        fewshot_as_multiturn: Few-shot examples as turns of the conversation.
    """

    engine: str = "live"
    device: str = "cpu"
    dtype: str = "float32"
    limit: int | None = None
    apply_chat_template: bool = False
    system_instruction: str | None = None
    fewshot_as_multiturn: bool = False

    def check(self) -> None:
        """Refuse an engine or a dtype that is not known.

        Raises:
            EngineError: With the nearest names.
        """
        for field, value, names in (("engine", self.engine, engine_names()), ("dtype", self.dtype, DTYPES)):
            if value not in names:
                raise EngineError(f"{field}: must be one of {', '.join(names)}, got {value!r}{nearest(value, names)}")


@dataclass(frozen=True)
class ChosenTasks:
    """Tasks that were asked for.

    Attributes:
        tasks: Those that could be loaded, leaf by leaf.
        suite: The suite that they are of, without those left out; None for tasks asked for by name.
        missing: Names of tasks that were left out for want of data.
    """

    tasks: tuple[LoadedTask, ...]
    suite: Suite | None = None
    missing: tuple[str, ...] = ()

    @property
    def shots(self) -> dict[str, int]:
        """Each label's number of few-shot examples, the largest of its leaves'."""
        shots: dict[str, int] = {}
        for task in self.tasks:
            shots[task.label] = max(shots.get(task.label, 0), int(task.task.get_config("num_fewshot") or 0))
        return shots


def choose_tasks(
    names: Sequence[str] | None, suite: str | None, num_fewshot: int | None
) -> tuple[tuple[TaskSpec, ...], Suite | None]:
    """Return the tasks that are asked for, and the suite that they are of.

    Args:
        names: Tasks; with a suite, those of its tasks that are wanted, None for all.
        suite: Name of a suite, which has its own shots.
        num_fewshot: Examples in the prompts of tasks asked for by name; None for each task's own number.

    Raises:
        TaskError: The suite is not known, or a task is none of its.
    """
    if suite is None:
        return tuple(TaskSpec(task=name, num_fewshot=num_fewshot) for name in names or ()), None
    chosen = load_suite(suite)
    if names is not None:
        chosen = chosen.only(names)
    return chosen.tasks, chosen


def load_chosen(
    chosen: tuple[Sequence[TaskSpec], Suite | None],
    *,
    data: Path | None,
    include_path: Path | None,
    place: str,
    skip_missing: bool = False,
    kept: DiskCache | None = None,
) -> ChosenTasks:
    """Load what `choose_tasks` returned; the arguments are those of ``evals.tasks.availability.load_available``.

    Raises:
        TaskError: A task or metric is not known.
        DataError: Data are missing or wrong.
    """
    specs, suite = chosen
    available = load_available(
        specs, data=data, include_path=include_path, place=place, skip_missing=skip_missing, kept=kept
    )
    if suite is not None and available.missing:
        suite = suite.only([spec.task for spec in suite.tasks if spec.task not in available.missing])
    return ChosenTasks(available.tasks, suite, available.missing)


TaskScored = Callable[[str, int, Results], None]
"""Called after each task with its label, its number of questions and its answers."""


class ModelScorer:
    """Asks models the same tasks.

    Args:
        chosen: What to ask.
        settings: How.
        kept: Prompts and tokens of earlier evaluations; None to make them anew.
    """

    def __init__(self, chosen: ChosenTasks, settings: ScoringSettings, kept: DiskCache | None = None) -> None:
        self._chosen, self._settings, self._kept = chosen, settings, kept
        self._questions = remembered_questions(chosen.tasks, kept, settings.limit)
        self._model: Any = None
        self._engine: Any = None
        self._tokenizer: Any = None
        self._evaluation: Evaluation | None = None

    @property
    def evaluation(self) -> Evaluation:
        """What was asked last."""
        if self._evaluation is None:
            raise RuntimeError("score must be called first")
        return self._evaluation

    def release(self) -> None:
        """Let model and engine go: an engine may hold memory that the next model needs."""
        self._model = self._engine = None

    def score(self, model: Any, tokenizer: Any, task_scored: TaskScored | None = None) -> Results:
        """Score the weights that a model holds now.

        Args:
            model: A causal language model of transformers; the one before, with other weights, keeps its engine.
            tokenizer: Its tokenizer.
            task_scored: Called after each task.

        Raises:
            EngineError: The engine is not installed.
            ScoringError: NaN logits, or out of memory.
        """
        if self._evaluation is None or not same_tokenizer(tokenizer, self._tokenizer):
            self._evaluation, self._tokenizer = self._built(tokenizer), tokenizer
            self._engine = None
        if self._engine is None or model is not self._model:
            self._engine = None
            self._engine, self._model = make_engine(self._settings.engine, model, self._tokenizer), model
        else:
            weights_changed(self._engine)
        parts = []
        for label in dict.fromkeys(task.label for task in self._chosen.tasks):
            questions = self._questions_of(label)
            parts.append(self._evaluation.run(self._engine, questions))
            if task_scored is not None:
                task_scored(label, len(questions), parts[-1])
        results = merge_results(parts)
        aggregate = Aggregator(self._chosen.tasks, self._evaluation.questions, bootstrap_iters=BOOTSTRAP_ITERS)
        return replace(results, scores=aggregate(results.items))

    def _questions_of(self, label: str) -> list[Question]:
        names = {task.name for task in self._chosen.tasks if task.label == label}
        return [question for question in self._questions if question.task in names]

    def _built(self, tokenizer: Any) -> Evaluation:
        """Return the prompts for a tokenizer; without a chat template only their tokens depend on it."""
        settings = self._settings
        if self._evaluation is not None and not settings.apply_chat_template:
            return self._evaluation.tokenised_by(tokenizer)
        return Evaluation.build(
            self._chosen.tasks,
            self._questions,
            tokenizer=tokenizer,
            metrics="all" if self._chosen.suite is None else "asked",
            apply_chat_template=settings.apply_chat_template,
            system_instruction=settings.system_instruction,
            fewshot_as_multiturn=settings.fewshot_as_multiturn,
            kept=self._kept,
        )


def same_tokenizer(one: object, other: object) -> bool:
    """Tell whether two tokenizers make the same tokens and render the same chats."""
    return one is other or _vocabulary(one) == _vocabulary(other)


def _vocabulary(tokenizer: object) -> tuple[str, str]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else str(getattr(tokenizer, "name_or_path", id(tokenizer)))
    return text, str(getattr(tokenizer, "chat_template", None))
