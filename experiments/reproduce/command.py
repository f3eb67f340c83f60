"""``mergesearch reproduce``: reads a card, rebuilds its model, measures its scores, prints both side by side."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from evals.cache.disk_cache import DiskCache
from evals.engines.registry import engine_names
from experiments.atomic_files import write_text_atomically
from experiments.errors import InputError
from experiments.evaluate.prompt_cache import kept_prompts
from experiments.models_roots import models_roots as all_roots
from experiments.reproduce.build import RebuiltModel, build_chain
from experiments.reproduce.card.benchmarks import TaskRequest
from experiments.reproduce.card.card_text import CardText, read_card_text
from experiments.reproduce.card.claimed_scores import PublishedScores, find_published_scores
from experiments.reproduce.card.front_matter import FrontMatter, read_front_matter
from experiments.reproduce.card.model_map import mapped_recipe, parse_map
from experiments.reproduce.card.recipes import find_recipes
from experiments.reproduce.card.time_limit import time_limit
from experiments.reproduce.chain import Chain, order_recipes
from experiments.reproduce.measure import ClaimedTask, MeasuredScore, Settings, judge, load_claimed, score_task
from experiments.reproduce.text import Reproduction, as_json, parent_table, score_table, summary


@dataclass(frozen=True)
class ReproduceOptions:
    """The options of the command line.

    Attributes:
        settings: How tasks are asked.
        mapped: ``--map`` entries, ``NAME=PATH``.
        tasks: Only these tasks, comma-separated.
        recipe: Which recipe of the card, from 1.
        column: Which column or row of the card's tables.
        parents: Measure the parents too.
        model: Folder to write the rebuilt model to.
        output: File to write the scores to.
        dry_run: Print recipe and published scores, build nothing.
        seed: Of random masks.
        compat: Follow mergekit step by step.
        device: Where the live model runs.
    """

    settings: Settings = field(default_factory=Settings)
    mapped: Sequence[str] = ()
    tasks: str | None = None
    recipe: int | None = None
    column: str | None = None
    parents: bool = False
    model: Path | None = None
    output: Path | None = None
    dry_run: bool = False
    seed: int = 0
    compat: str | None = None
    device: str = "cpu"


def reproduce_card(card: str, *, options: ReproduceOptions, models_roots: Sequence[Path] | None) -> list[MeasuredScore]:
    """Rebuild the model of a card and measure what the card claims.

    Raises:
        InputError: The card, its recipe or an option cannot be used.
        merge.errors.MergeError: A parent is missing or does not fit.
    """
    _check(options)
    roots, mapped = all_roots(models_roots), parse_map(options.mapped)
    console = Console(soft_wrap=True)
    with time_limit(card):
        text = read_card_text(card)
        front = read_front_matter(text)
        chain = _chain(text, front, options, mapped)
        claims = _claims(text, front, options)
    _announce(console, text, front, chain, claims)
    if options.dry_run:
        _preview(console, chain, claims)
        return []
    kept = kept_prompts()
    tasks, left = load_claimed(claims.scores, options.settings, kept)
    for one in left:
        _say(console, f"not measured: {one.published.name}: {one.reason}")
    if not tasks:
        raise InputError(
            f"{text.name}: none of its {len(claims.scores)} published scores can be measured here, see above"
        )
    with tempfile.TemporaryDirectory(prefix="mergesearch-card-") as folder:
        built = build_chain(
            chain.stages,
            Path(folder),
            roots,
            seed=options.seed,
            compat=options.compat is not None,
            device=options.device,
        )
        for note in built.notes:
            _say(console, f"note: {note}")
        if options.model is not None:
            built.write(options.model)
            _say(console, f"weights: {options.model}")
        measured = [*_measure(console, built, tasks, options.settings, kept, "rebuilt"), *left]
        parents = _parents(console, built, tasks, options, kept)
    _conclude(console, Reproduction(text, front, chain, claims, measured, parents), options)
    return measured


def _check(options: ReproduceOptions) -> None:
    if options.compat not in (None, "mergekit"):
        raise InputError(f"--compat: must be 'mergekit', got '{options.compat}'")
    if options.settings.engine not in engine_names():
        raise InputError(f"--engine: must be one of {', '.join(engine_names())}, got '{options.settings.engine}'")


def _chain(text: CardText, front: FrontMatter, options: ReproduceOptions, mapped: Mapping[str, str]) -> Chain:
    found = find_recipes(text, front.end, front.parents)
    chain = order_recipes(found, place=text.name, number=options.recipe, mapped=mapped)
    made = list(chain.made)
    stages = tuple(mapped_recipe(stage, mapped, made, f"{text.name}: recipe") for stage in chain.stages)
    return Chain(stages, chain.made, chain.chosen)


def _claims(text: CardText, front: FrontMatter, options: ReproduceOptions) -> PublishedScores:
    claims = find_published_scores(text, front, options.column)
    if not claims.scores:
        raise InputError(f"{text.name}: must publish scores (a model-index, a table, or lines of text), got none")
    if options.tasks is None:
        return claims
    wanted = {name.strip() for name in options.tasks.split(",")}
    kept = tuple(score for score in claims.scores if score.asked is not None and score.asked.task in wanted)
    known = sorted({score.asked.task for score in claims.scores if score.asked is not None})
    if not kept:
        raise InputError(f"--tasks: must be among the card's tasks {', '.join(known)}, got '{options.tasks}'")
    return PublishedScores(kept, None, claims.notes)


def _announce(console: Console, text: CardText, front: FrontMatter, chain: Chain, claims: PublishedScores) -> None:
    title = front.title or text.name
    _say(console, f"card: {title} ({text.name}), {len(claims.scores)} published scores")
    _say(console, f"recipe: {chain.chosen.about()}; read from {chain.chosen.how}, line {chain.chosen.line}")
    for stage in chain.stages[:-1]:
        _say(console, f"  first {chain.made[str(stage.name)]}: {stage.merge_method} of {', '.join(stage.references())}")
    for note in (*chain.chosen.notes, *claims.notes):
        _say(console, f"note: {note}")


def _preview(console: Console, chain: Chain, claims: PublishedScores) -> None:
    for stage in chain.stages:
        _say(console, f"---\n{stage.to_yaml().rstrip()}")
    for score in claims.scores:
        _say(console, f"{score.name}: {100 * score.value:.2f} ({_asked(score.asked)}, from the {score.source})")


def _asked(asked: TaskRequest | None) -> str:
    """Return what a score is taken for, in words."""
    if asked is None:
        return "unknown task"
    shots = "the task's own shots" if asked.shots is None else f"{asked.shots}-shot"
    return ", ".join(filter(None, (asked.task, asked.metric, shots)))


def _measure(
    console: Console, built: RebuiltModel, tasks: Sequence[ClaimedTask], settings: Settings, kept: DiskCache, name: str
) -> list[MeasuredScore]:
    measured: list[MeasuredScore] = []
    for task in tasks:
        results, available = score_task(task, built.model, built.tokenizer, settings, kept)
        measured += judge(task, results, available)
        last = measured[-1]
        _say(console, f"{name}: {task.asked.task}, {last.questions} questions, {results.cost.seconds:.1f} s")
    return measured


def _parents(
    console: Console, built: RebuiltModel, tasks: Sequence[ClaimedTask], options: ReproduceOptions, kept: DiskCache
) -> dict[str, list[MeasuredScore]]:
    if not options.parents:
        return {}
    return {
        reference: _measure(console, built.parent(reference), tasks, options.settings, kept, reference)
        for reference in built.recipe.references()
    }


def _conclude(console: Console, found: Reproduction, options: ReproduceOptions) -> None:
    console.print()
    _say(console, score_table(found.measured, found.claims.average))
    if found.parents:
        originals = {place: name for name, place in parse_map(options.mapped).items()}
        _say(console, parent_table(found.measured, found.parents, originals))
    _say(console, summary(found.measured))
    if options.mapped:
        _say(console, "models were replaced by --map: what is published belongs to the originals")
    if options.output is not None:
        write_text_atomically(options.output, json.dumps(as_json(found), indent=2, ensure_ascii=False) + "\n")
        _say(console, f"scores: {options.output}")


def _say(console: Console, text: str) -> None:
    console.print(escape(text), highlight=False)
