"""Scores models or recipes on tasks and prints one column each, best in bold."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape

from evals.engines import engine_names, make_engine
from evals.harness import Evaluation
from evals.questions import Leaf
from evals.results import Results
from evals.suites import load_suite
from evals.tasks import LoadedTask, TaskSpec, load_tasks
from experiments.atomic import write_text_atomically
from experiments.errors import InputError
from experiments.roots import models_roots as all_roots
from experiments.tables import parents_against_winner, to_markdown
from merge.engine import Merger
from merge.live import load_tokenizer, new_live_model
from merge.recipe import Recipe, load_recipes
from search.template import short_name


@dataclass(frozen=True)
class EvaluateOptions:
    """How models are scored; the names are those of the command line."""

    tasks: str | None = None
    suite: str | None = None
    num_fewshot: int | None = None
    limit: int | None = None
    data: str | None = None
    include_path: Path | None = None
    apply_chat_template: bool = False
    engine: str = "live"
    output: Path | None = None
    device: str = "cpu"

    def specs(self) -> tuple[TaskSpec, ...]:
        """Return the tasks that are asked for.

        Raises:
            InputError: Neither or both of tasks and suite are given.
        """
        if (self.tasks is None) == (self.suite is None):
            raise InputError("evaluate: must be given exactly one of --tasks a,b and --suite NAME")
        if self.suite is not None:
            return load_suite(self.suite).tasks
        names = [name.strip() for name in (self.tasks or "").split(",") if name.strip()]
        return tuple(TaskSpec(task=name, num_fewshot=self.num_fewshot) for name in names)


def evaluate_models(models: Sequence[str], *, options: EvaluateOptions, models_roots: Sequence[Path] | None) -> None:
    """Score models one after the other, print the table, write the scores if asked to.

    Raises:
        InputError: An option is wrong.
        evals.errors.EvalError: A task or its data are wrong.
        merge.errors.MergeError: A model or recipe is wrong.
    """
    if options.engine not in engine_names():
        raise InputError(f"--engine: must be one of {', '.join(engine_names())}, got '{options.engine}'")
    specs = options.specs()
    recipes = {_column(model, models): _recipe(model) for model in models}
    merger = Merger(all_roots(models_roots), device=options.device)
    for recipe in recipes.values():
        merger.check(recipe)
    tasks = load_tasks(
        specs,
        data=None if options.data in (None, "hub") else Path(str(options.data)),
        include_path=options.include_path,
        place="--tasks" if options.suite is None else f"suite {options.suite}",
    )
    console = Console(soft_wrap=True)
    results = {}
    for name, recipe in recipes.items():
        results[name] = _score(merger, recipe, tasks, options)
        cost = results[name].cost
        console.print(
            f"{escape(name)}: {results[name].answers['question'].nunique()} questions, "
            f"{cost.tokens_run} tokens run for {cost.tokens_full} asked, {cost.seconds:.1f} s",
            highlight=False,
        )
    _show(console, results)
    if options.output is not None:
        write_text_atomically(options.output, json.dumps(_as_json(results, recipes, tasks), indent=2) + "\n")
        console.print(f"scores: {escape(str(options.output))}")


def _score(merger: Merger, recipe: Recipe, tasks: Sequence[LoadedTask], options: EvaluateOptions) -> Results:
    model = new_live_model(merger, recipe, dtype=torch.float32, device=options.device)
    tokenizer = load_tokenizer(merger, recipe)
    merger.merge_live(recipe, model)
    questions = [q for task in tasks for q in Leaf(task).test.questions(task.name)[: options.limit]]
    evaluation = Evaluation.build(
        tasks, questions, tokenizer=tokenizer, metrics="all", apply_chat_template=options.apply_chat_template
    )
    return evaluation.run(make_engine(options.engine, model, tokenizer))


def _recipe(model: str) -> Recipe:
    if Path(model).suffix in {".yaml", ".yml"}:
        recipes = load_recipes(Path(model))
        if len(recipes) > 1:
            raise InputError(f"{model}: has several stages; build it first with 'mergesearch merge {model} DIR'")
        return recipes[0]
    return Recipe.from_mapping({"merge_method": "passthrough", "models": [{"model": model}]}, place=model)


def _column(model: str, models: Sequence[str]) -> str:
    """Return a short name for a column, the whole reference where two short names are the same."""
    names = [short_name(other) for other in models]
    return short_name(model) if names.count(short_name(model)) == 1 else model


def _show(console: Console, results: Mapping[str, Results]) -> None:
    columns = {name: {key: score.value for key, score in found.scores.items()} for name, found in results.items()}
    directions = {key: score.higher_is_better for found in results.values() for key, score in found.scores.items()}
    table = to_markdown(parents_against_winner(columns, directions))
    console.print()
    if console.is_terminal:
        console.print(Markdown(table))
    else:
        console.print(escape(table), highlight=False)


def _as_json(
    results: Mapping[str, Results], recipes: Mapping[str, Recipe], tasks: Sequence[LoadedTask]
) -> dict[str, object]:
    shots = {task.name: task.spec.num_fewshot for task in tasks}
    return {
        "models": {
            name: {
                "recipe": recipes[name].to_mapping(),
                "results": {
                    key: {"value": score.value, "stderr": score.stderr, "n": score.n}
                    for key, score in found.scores.items()
                },
            }
            for name, found in results.items()
        },
        "num_fewshot": shots,
    }
