"""Scores models or recipes on tasks: a table with one column each, best in bold, and lm-eval's results documents."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape

from evals.cache.disk_cache import DiskCache
from evals.errors import ScoringError
from evals.lm_eval_files.run_document import ScoredModel, run_document
from evals.lm_eval_files.samples_file import samples_of
from evals.model_scorer import ChosenTasks, ModelScorer, same_tokenizer
from evals.scores.results import Results
from experiments.errors import ExperimentError, InputError
from experiments.evaluate.leaderboard import metric_table, suite_table
from experiments.evaluate.lm_eval_output import Places, write_documents
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
    chosen = options.load(kept)
    if chosen.missing:
        console.print(escape(f"left out, no data: {', '.join(chosen.missing)}"), highlight=False)
    places = Places(options.output, tuple(recipes))
    desk = _Desk(merger, chosen, options, kept)
    results: dict[str, Results] = {}
    faults: list[str] = []
    for reference, (name, recipe) in zip(models, recipes.items(), strict=False):
        try:
            results[name] = desk.score(name, recipe, console)
        except ScoringError as error:
            faults.append(f"{name}: could not be scored: {error}")
            continue
        for line in desk.written(places, name, reference, results[name]):
            console.print(escape(line), highlight=False)
    if results:
        _show(console, chosen, results)
    if faults:
        raise ExperimentError("\n".join(faults))


class _Desk:
    """Merges recipes into one live model after the other and has it scored; a model of the same shape is kept.

    Args:
        merger: Reads the models.
        chosen: What to ask.
        options: How.
        kept: Prompts and tokens of earlier evaluations.
    """

    def __init__(self, merger: Merger, chosen: ChosenTasks, options: EvaluateOptions, kept: DiskCache) -> None:
        self._merger, self._chosen, self._options = merger, chosen, options
        self._scorer = ModelScorer(chosen, options.settings, kept)
        self._config: object = None
        self._scored: ScoredModel | None = None

    def score(self, name: str, recipe: Recipe, console: Console) -> Results:
        """Score one recipe, telling of every task."""
        self._scored = self._merged(recipe)
        shots = self._chosen.shots

        def task_scored(label: str, count: int, found: Results) -> None:
            line = f"{name}: {label}, {shots[label]}-shot, {count} questions, {found.cost.seconds:.1f} s"
            console.print(escape(line), highlight=False)

        return self._scorer.score(self._scored.model, self._scored.tokenizer, task_scored)

    def written(self, places: Places, name: str, reference: str, results: Results) -> Iterator[str]:
        """Write the documents of the recipe that was scored last; go through lines that say where they are."""
        file = places.document(name)
        if file is None or self._scored is None:
            return
        scored = replace(self._scored, reference=reference)
        document = run_document(self._chosen, results, scored, self._options.settings)
        samples = samples_of(self._scorer.evaluation, results) if self._options.log_samples else None
        yield from write_documents(file, document, column=name, samples=samples)

    def _merged(self, recipe: Recipe) -> ScoredModel:
        """Return the recipe's weights in a live model, the one before where its configuration is the same."""
        tokenizer = load_tokenizer(self._merger, recipe)
        config, before, options = self._merger.plan(recipe).config, self._scored, self._options
        if before is not None and config == self._config and same_tokenizer(tokenizer, before.tokenizer):
            scored = replace(before, recipe=recipe.to_mapping())
        else:
            self._scored = before = None
            self._scorer.release()
            model = new_live_model(self._merger, recipe, dtype=DTYPES[options.dtype], device=options.device)
            self._config, scored = config, ScoredModel("", model, tokenizer, recipe.to_mapping())
        self._merger.merge_live(recipe, scored.model)
        return scored


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


def _show(console: Console, chosen: ChosenTasks, results: Mapping[str, Results]) -> None:
    suite = chosen.suite
    table = metric_table(chosen.tasks, results) if suite is None else suite_table(suite, results, chosen.shots)
    console.print()
    if console.is_terminal:
        console.print(Markdown(table))
    else:
        console.print(escape(table), highlight=False)
