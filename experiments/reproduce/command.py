"""The command: read a card, rebuild its model, measure what it claims, print both side by side."""

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
from experiments.reproduce.build import Built, build_chain
from experiments.reproduce.card.benchmarks import Asked
from experiments.reproduce.card.card_text import Page, read_page
from experiments.reproduce.card.claimed_scores import Claims, find_claims
from experiments.reproduce.card.front_matter import Front, read_front
from experiments.reproduce.card.model_map import mapped_recipe, parse_map
from experiments.reproduce.card.recipes import find_recipes
from experiments.reproduce.card.time_limit import read_in_time
from experiments.reproduce.chain import Chain, arrange
from experiments.reproduce.measure import Measured, Settings, Task, judge, load_claimed, score_task
from experiments.reproduce.text import Reproduction, as_json, parent_table, score_table, summary


@dataclass(frozen=True)
class ReproduceOptions:
    """What the command line says.

    Attributes:
        settings: How tasks are asked.
        mapped: ``--map`` entries, ``NAME=PLACE``.
        tasks: Only these tasks, comma-separated.
        recipe: Which recipe of the card, from 1.
        column: Which column or row of the card's tables.
        parents: Measure the parents too.
        model: Folder to write the rebuilt model to.
        output: File to write the scores to.
        dry_run: Stop after saying what would be done.
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


def reproduce_card(card: str, *, options: ReproduceOptions, models_roots: Sequence[Path] | None) -> list[Measured]:
    """Rebuild the model of a card and measure what the card claims.

    Raises:
        InputError: The card, its recipe or an option cannot be used.
        merge.errors.MergeError: A parent is missing or does not fit.
    """
    _check(options)
    roots, mapped = all_roots(models_roots), parse_map(options.mapped)
    console = Console(soft_wrap=True)
    with read_in_time(card):
        page = read_page(card)
        front = read_front(page)
        chain = _chain(page, front, options, mapped)
        claims = _claims(page, front, options)
    _announce(console, page, front, chain, claims)
    if options.dry_run:
        _preview(console, chain, claims)
        return []
    kept = kept_prompts()
    tasks, left = load_claimed(claims.scores, options.settings, kept)
    for one in left:
        _say(console, f"not measured: {one.published.name}: {one.reason}")
    if not tasks:
        raise InputError(
            f"{page.name}: none of its {len(claims.scores)} published scores can be measured here, see above"
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
    _conclude(console, Reproduction(page, front, chain, claims, measured, parents), options)
    return measured


def _check(options: ReproduceOptions) -> None:
    if options.compat not in (None, "mergekit"):
        raise InputError(f"--compat: must be 'mergekit', got '{options.compat}'")
    if options.settings.engine not in engine_names():
        raise InputError(f"--engine: must be one of {', '.join(engine_names())}, got '{options.settings.engine}'")


def _chain(page: Page, front: Front, options: ReproduceOptions, mapped: Mapping[str, str]) -> Chain:
    found = find_recipes(page, front.end, front.parents)
    chain = arrange(found, place=page.name, number=options.recipe, mapped=mapped)
    made = list(chain.made)
    stages = tuple(mapped_recipe(stage, mapped, made, f"{page.name}: recipe") for stage in chain.stages)
    return Chain(stages, chain.made, chain.chosen)


def _claims(page: Page, front: Front, options: ReproduceOptions) -> Claims:
    claims = find_claims(page, front, options.column)
    if not claims.scores:
        raise InputError(f"{page.name}: must publish scores (a model-index, a table, or lines of text), got none")
    if options.tasks is None:
        return claims
    wanted = {name.strip() for name in options.tasks.split(",")}
    kept = tuple(score for score in claims.scores if score.asked is not None and score.asked.task in wanted)
    known = sorted({score.asked.task for score in claims.scores if score.asked is not None})
    if not kept:
        raise InputError(f"--tasks: must be among the card's tasks {', '.join(known)}, got '{options.tasks}'")
    return Claims(kept, None, claims.notes)


def _announce(console: Console, page: Page, front: Front, chain: Chain, claims: Claims) -> None:
    title = front.title or page.name
    _say(console, f"card: {title} ({page.name}), {len(claims.scores)} published scores")
    _say(console, f"recipe: {chain.chosen.about()}; read from {chain.chosen.how}, line {chain.chosen.line}")
    for stage in chain.stages[:-1]:
        _say(console, f"  first {chain.made[str(stage.name)]}: {stage.merge_method} of {', '.join(stage.references())}")
    for note in (*chain.chosen.notes, *claims.notes):
        _say(console, f"note: {note}")


def _preview(console: Console, chain: Chain, claims: Claims) -> None:
    for stage in chain.stages:
        _say(console, f"---\n{stage.to_yaml().rstrip()}")
    for score in claims.scores:
        _say(console, f"{score.name}: {100 * score.value:.2f} ({_asked(score.asked)}, from the {score.source})")


def _asked(asked: Asked | None) -> str:
    """Return what a score is taken for, in words."""
    if asked is None:
        return "unknown task"
    shots = "the task's own shots" if asked.shots is None else f"{asked.shots}-shot"
    return ", ".join(filter(None, (asked.task, asked.metric, shots)))


def _measure(
    console: Console, built: Built, tasks: Sequence[Task], settings: Settings, kept: DiskCache, name: str
) -> list[Measured]:
    measured: list[Measured] = []
    for task in tasks:
        results, available = score_task(task, built.model, built.tokenizer, settings, kept)
        measured += judge(task, results, available)
        last = measured[-1]
        _say(console, f"{name}: {task.asked.task}, {last.questions} questions, {results.cost.seconds:.1f} s")
    return measured


def _parents(
    console: Console, built: Built, tasks: Sequence[Task], options: ReproduceOptions, kept: DiskCache
) -> dict[str, list[Measured]]:
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
