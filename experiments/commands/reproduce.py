"""``mergesearch reproduce``."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.support.options import Data, Device, ModelsRoot
from experiments.exit_codes import explained


def reproduce_command(
    card: Annotated[str, typer.Argument(metavar="CARD.md", help="A model card: a file, or a hub id.")],
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="ORG/NAME=DIR", help="Take this model from there; can be given again."),
    ] = None,
    tasks: Annotated[str | None, typer.Option("--tasks", metavar="a,b", help="Only these of the card's tasks.")] = None,
    num_fewshot: Annotated[
        int | None, typer.Option("--num-fewshot", "--num_fewshot", min=0, help="Shots, instead of the card's.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="First so many questions of each task.")] = None,
    data: Data = None,
    include_path: Annotated[Path | None, typer.Option("--include-path", "--include_path", help="More tasks.")] = None,
    apply_chat_template: Annotated[
        bool, typer.Option("--apply-chat-template", "--apply_chat_template", help="Wrap prompts in the template.")
    ] = False,
    engine: Annotated[str, typer.Option("--engine", help="live: ours; hf: lm-eval's HFLM, to check it.")] = "live",
    output: Annotated[
        Path | None, typer.Option("--output", "--output-path", "--output_path", metavar="FILE.json", help="Scores.")
    ] = None,
    recipe: Annotated[
        int | None, typer.Option("--recipe", min=1, help="Which recipe, if the card has several.")
    ] = None,
    column: Annotated[str | None, typer.Option("--column", metavar="NAME", help="The model's name in tables.")] = None,
    parents: Annotated[bool, typer.Option("--parents", help="Measure the parents too.")] = False,
    model: Annotated[Path | None, typer.Option("--model", metavar="DIR", help="Keep the rebuilt weights.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell recipe and published scores.")] = False,
    random_seed: Annotated[int, typer.Option("--random-seed", help="Seed of random masks.")] = 0,
    compat: Annotated[str | None, typer.Option("--compat", metavar="mergekit", help="Give mergekit's bits.")] = None,
    models_root: ModelsRoot = None,
    device: Device = "cpu",
) -> None:
    """Rebuild the model of a Hugging Face model card and measure the scores that it publishes."""
    from experiments.reproduce.command import ReproduceOptions, reproduce_card
    from experiments.reproduce.measure import Settings

    settings = Settings(
        data=None if data in (None, "hub") else Path(str(data)),
        limit=limit,
        num_fewshot=num_fewshot,
        include_path=include_path,
        apply_chat_template=apply_chat_template,
        engine=engine,
    )
    options = ReproduceOptions(
        settings=settings,
        mapped=map_ or (),
        tasks=tasks,
        recipe=recipe,
        column=column,
        parents=parents,
        model=model,
        output=output,
        dry_run=dry_run,
        seed=random_seed,
        compat=compat,
        device=device,
    )
    with explained():
        reproduce_card(card, options=options, models_roots=models_root)
