"""Scores models or recipes on tasks: a table with one column each, best in bold, and lm-eval's results documents."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape

from evals.cache.disk_cache import DiskCache
from evals.engines.registry import make_engine, weights_changed
from evals.errors import ScoringError
from evals.evaluation import Evaluation
from evals.lm_eval_files.results_file import BOOTSTRAP_ITERS
from evals.scores.aggregation import Aggregator
from evals.scores.results import Results, merge_results
from evals.suites import Suite
from evals.tasks.availability import load_available
from evals.tasks.cached import remembered_questions
from evals.tasks.loading import LoadedTask
from evals.tasks.sampling import Question
from experiments.errors import ExperimentError, InputError
from experiments.evaluate.leaderboard import metric_table, suite_table
from experiments.evaluate.lm_eval_output import ModelFacts, Places, write_documents
from experiments.evaluate.options import DTYPES, EvaluateOptions
from experiments.evaluate.prompt_cache import kept_prompts
from experiments.models_roots import models_roots as all_roots
from merge.live_model import load_tokenizer, new_live_model
from merge.merger import Merger
from merge.recipe.schema import Recipe, load_recipes
from search.space.template import short_name


def evaluate_models(models: Sequence[str], *, options: EvaluateOptions, models_roots: Sequence[Path] | None) -> None:
    """Score models one after the other, print the table; each model's document is written as soon as it is scored.

    Raises:
        InputError: An option is wrong.
        evals.errors.EvalError: A task or its data are wrong.
        merge.errors.MergeError: A model or recipe is wrong.
        ExperimentError: A model could not be scored; the others were.
    """
    options.check()
    recipes = {_column(model, models): _recipe(model) for model in models}
    merger = Merger(all_roots(models_roots), device=options.device)
    for recipe in recipes.values():
        merger.check(recipe)
    console = Console(soft_wrap=True)
    kept = kept_prompts()
    tasks, suite = _load(options, kept, console)
    places = Places(options.output, tuple(recipes))
    desk = _Desk(merger, tasks, suite, options, kept)
    scored: dict[str, Results] = {}
    faults: list[str] = []
    for name, recipe in recipes.items():
        try:
            scored[name] = desk.score(name, recipe, console)
        except ScoringError as error:
            faults.append(f"{name}: could not be scored: {error}")
            continue
        facts = desk.facts(name, models[list(recipes).index(name)], recipe)
        for line in write_documents(places, facts, desk.evaluation, tasks, suite, scored[name], options.log_samples):
            console.print(escape(line), highlight=False)
    if scored:
        _show(console, tasks, suite, scored)
    if faults:
        raise ExperimentError("\n".join(faults))


def _load(options: EvaluateOptions, kept: DiskCache, console: Console) -> tuple[tuple[LoadedTask, ...], Suite | None]:
    specs, suite = options.chosen()
    found = load_available(
        specs,
        data=None if options.data in (None, "hub") else Path(str(options.data)),
        include_path=options.include_path,
        place=options.place,
        skip_missing=options.skip_missing,
        kept=kept,
    )
    if found.missing:
        console.print(escape(f"left out, no data: {', '.join(found.missing)}"), highlight=False)
        if suite is not None:
            suite = suite.only([spec.task for spec in suite.tasks if spec.task not in found.missing])
    return found.tasks, suite


class _Desk:
    """Where models are scored one after the other: prompts, live model and engine are made again only when they must.

    Args:
        merger: Reads the models.
        tasks: What to ask.
        suite: The suite that they are of.
        options: How.
        kept: Prompts and tokens of earlier evaluations.
    """

    def __init__(
        self,
        merger: Merger,
        tasks: Sequence[LoadedTask],
        suite: Suite | None,
        options: EvaluateOptions,
        kept: DiskCache,
    ) -> None:
        self._merger, self._tasks, self._suite, self._options, self._kept = merger, tasks, suite, options, kept
        self._questions = remembered_questions(tasks, kept, options.limit)
        self._shape: object = None
        self._model: torch.nn.Module = torch.nn.Module()
        self._tokenizer: object = None
        self._vocabulary: object = None
        self._engine: object = None
        self._asked: Evaluation | None = None

    @property
    def evaluation(self) -> Evaluation:
        """What was asked last."""
        if self._asked is None:
            raise RuntimeError("score must be called first")
        return self._asked

    def score(self, name: str, recipe: Recipe, console: Console) -> Results:
        """Score one model, telling of every task."""
        self._seat(recipe)
        parts = []
        for label in dict.fromkeys(task.label for task in self._tasks):
            block = self._block(label)
            parts.append(self.evaluation.run(self._engine, block))
            shots = shots_of(self._tasks)[label]
            line = f"{name}: {label}, {shots}-shot, {len(block)} questions, {parts[-1].cost.seconds:.1f} s"
            console.print(escape(line), highlight=False)
        results = merge_results(parts)
        aggregate = Aggregator(self._tasks, self.evaluation.questions, bootstrap_iters=BOOTSTRAP_ITERS)
        return replace(results, scores=aggregate(results.items))

    def facts(self, name: str, reference: str, recipe: Recipe) -> ModelFacts:
        """Return what a document tells of the model that was scored last."""
        return ModelFacts(name, reference, recipe.to_mapping(), self._model, self._tokenizer, self._options)

    def _block(self, label: str) -> list[Question]:
        names = {task.name for task in self._tasks if task.label == label}
        return [question for question in self._questions if question.task in names]

    def _seat(self, recipe: Recipe) -> None:
        options = self._options
        tokenizer = load_tokenizer(self._merger, recipe)
        vocabulary = _identity(tokenizer)
        if vocabulary != self._vocabulary:
            self._tokenizer, self._vocabulary = tokenizer, vocabulary
            self._asked = self._built()
        shape = (self._merger.plan(recipe).config, vocabulary)
        if shape != self._shape:
            self._engine = None  # an engine may hold memory that the next one needs
            self._model = new_live_model(self._merger, recipe, dtype=DTYPES[options.dtype], device=options.device)
            self._merger.merge_live(recipe, self._model)
            self._engine = make_engine(options.engine, self._model, self._tokenizer)
            self._shape = shape
            return
        self._merger.merge_live(recipe, self._model)
        weights_changed(self._engine)

    def _built(self) -> Evaluation:
        """Return the prompts for the tokenizer; without a chat template only their tokens depend on it."""
        options = self._options
        if self._asked is not None and not options.apply_chat_template:
            return self._asked.tokenised_by(self._tokenizer)
        return Evaluation.build(
            self._tasks,
            self._questions,
            tokenizer=self._tokenizer,
            metrics="all" if self._suite is None else "asked",
            apply_chat_template=options.apply_chat_template,
            system_instruction=options.system_instruction,
            fewshot_as_multiturn=options.fewshot_as_multiturn,
            kept=self._kept,
        )


def shots_of(tasks: Sequence[LoadedTask]) -> dict[str, int]:
    """Return each label's number of few-shot examples, the largest of its leaves'."""
    shots: dict[str, int] = {}
    for task in tasks:
        shots[task.label] = max(shots.get(task.label, 0), int(task.task.get_config("num_fewshot") or 0))
    return shots


def _identity(tokenizer: object) -> tuple[str, str]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else str(getattr(tokenizer, "name_or_path", id(tokenizer)))
    return text, str(getattr(tokenizer, "chat_template", None))


def _recipe(model: str) -> Recipe:
    if Path(model).suffix in {".yaml", ".yml"}:
        recipes = load_recipes(Path(model))
        if len(recipes) > 1:
            raise InputError(f"{model}: has several stages; build it first with 'mergesearch merge {model} DIR'")
        return recipes[0]
    return Recipe.from_mapping({"merge_method": "passthrough", "models": [{"model": model}]}, place=model)


def _column(model: str, models: Sequence[str]) -> str:
    """Return a short name for a column, the whole reference where two short names are the same."""
    names = [_short(other) for other in models]
    return _short(model) if names.count(_short(model)) == 1 else model


def _short(model: str) -> str:
    return Path(model).stem if Path(model).suffix in {".yaml", ".yml"} else short_name(model)


def _show(console: Console, tasks: Sequence[LoadedTask], suite: Suite | None, results: Mapping[str, Results]) -> None:
    table = metric_table(tasks, results) if suite is None else suite_table(suite, results, shots_of(tasks))
    console.print()
    if console.is_terminal:
        console.print(Markdown(table))
    else:
        console.print(escape(table), highlight=False)
